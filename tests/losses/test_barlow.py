"""Barlow Twins' loss against a slow NumPy reference, analytic values, invariances and finite differences."""

import numpy as np
import pytest
import torch

from nbcore.losses.barlow import barlow_twins_loss

SHAPES = [(5, 12), (12, 5), (7, 7)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(batch: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    first = 3 * draw(batch, width) + 1
    return first, first + draw(batch, width, seed=1)


def slow_loss(first: np.ndarray, second: np.ndarray, off_diagonal: float) -> float:
    """Entry by entry of the correlation matrix."""
    first, second = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (first, second))
    loss = 0.0
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            entry = sum(a * b for a, b in zip(first[:, i], second[:, j])) / len(first)
            loss += (1 - entry) ** 2 if i == j else off_diagonal * entry**2
    return loss


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("off_diagonal", [0.0051, 1.0, 0.0])
def test_loss_equals_the_slow_reference(shape, off_diagonal):
    first, second = views(*shape)
    expected = slow_loss(first.numpy(), second.numpy(), off_diagonal)
    assert barlow_twins_loss(first, second, off_diagonal).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_either_form_equals_the_direct_one_forward_and_gradient(shape):
    """B < D takes the (B, B) route; the same loss through (D, D) and a BatchNorm module must agree to rounding."""
    leaves = [z.requires_grad_() for z in views(*shape)]
    loss = barlow_twins_loss(*leaves, 0.7)
    norm = torch.nn.BatchNorm1d(shape[1], affine=False, dtype=torch.float64)
    c = norm(leaves[0]).T @ norm(leaves[1]) / shape[0]
    eye = torch.eye(shape[1], dtype=torch.bool)
    direct = (1 - c[eye]).square().sum() + 0.7 * c[~eye].square().sum()
    assert loss.item() == pytest.approx(direct.item(), rel=1e-12)
    for ours, expected in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(direct, leaves)):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 32), (32, 4)])
def test_no_matrix_of_the_longer_side_is_formed(shape, monkeypatch):
    shapes = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: (shapes.append((len(a), b.shape[1])), product(a, b))[1]
    )
    barlow_twins_loss(*views(*shape))
    assert set(shapes) == {(4, 4)}


@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape):
    first, second = views(*shape)
    expected = barlow_twins_loss(first, second)
    torch.testing.assert_close(barlow_twins_loss(first.flip(0), second.flip(0)), expected)
    torch.testing.assert_close(barlow_twins_loss(first.flip(1), second.flip(1)), expected)
    torch.testing.assert_close(barlow_twins_loss(second, first), expected)
    moved = barlow_twins_loss(2 * first + 5, 0.5 * second - 1)  # not exact: the variances gain 1e-5
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)


def test_analytic_values():
    white = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 100  # features uncorrelated, centred
    assert barlow_twins_loss(white, white).item() == pytest.approx(0, abs=1e-6)
    assert barlow_twins_loss(white, -white).item() == pytest.approx(4 * 3)
    same = white[:, :1].expand(4, 3)  # all entries of C are 1
    assert barlow_twins_loss(same, same, off_diagonal=0.5).item() == pytest.approx(0.5 * 6)


@pytest.mark.parametrize("shape", [(3, 6), (6, 3)])
def test_gradients(shape):
    assert torch.autograd.gradcheck(barlow_twins_loss, [z.requires_grad_() for z in views(*shape)])


def test_dead_features_give_finite_gradients():
    first, second = views(4, 6)
    first[:, 2] = 0
    second[:, 2] = 1
    leaves = first.requires_grad_(), second.requires_grad_()
    barlow_twins_loss(*leaves).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)

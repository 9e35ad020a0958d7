"""Med-UniC's losses against slow NumPy references, analytic values, invariances and finite differences."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nbcore.losses.barlow import barlow_twins_loss
from nbcore.losses.contrastive import info_nce
from nbcore.losses.med_unic import self_supervised_alignment, text_feature_alignment, text_text_alignment

SHAPES = [(5, 12), (12, 5), (7, 7)]
FORMS = {
    "TF": text_feature_alignment,
    "TT": text_text_alignment,
    "TT batch": lambda *views, **options: text_text_alignment(*views, standardize="batch", **options),
}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(batch: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    first = 3 * draw(batch, width) + 1
    return first, first + draw(batch, width, seed=1)


def slow_correlation(form: str, first: np.ndarray, second: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """C entry by entry: (P, P) for TF, (B, B) for TT."""
    batch, width = first.shape
    axis = 1 if form == "TT" else 0
    mean, var = ([f(z, axis=axis, keepdims=True) for z in (first, second)] for f in (np.mean, np.var))
    first, second = ((z - m) / np.sqrt(v + eps) for z, m, v in zip((first, second), mean, var))
    if form == "TF":
        return np.array([[(first[:, i] * second[:, j]).sum() / batch for j in range(width)] for i in range(width)])
    divisor = width if form == "TT" else batch
    return np.array([[(first[i] * second[j]).sum() / divisor for j in range(batch)] for i in range(batch)])


def slow_loss(c: np.ndarray, off_diagonal: float, squared: bool) -> float:
    loss = 0.0
    for i in range(len(c)):
        for j in range(len(c)):
            loss += (1 - c[i, j]) ** 2 if i == j else off_diagonal * c[i, j] ** (2 if squared else 1)
    return loss / len(c)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_alignments_equal_the_slow_reference(form, shape, squared, eps):
    pair = views(*shape)
    c = slow_correlation(form, *(z.numpy() for z in pair), eps)
    for options in ({}, {"off_diagonal": 0.7}):
        expected = slow_loss(c, options.get("off_diagonal", 0.0051), squared)
        ours = FORMS[form](*pair, squared=squared, eps=eps, **options)
        assert ours.item() == pytest.approx(expected, rel=1e-11)


def test_squared_forms_are_barlow_twins_over_features_and_over_reports():
    first, second = views(6, 9)
    torch.testing.assert_close(text_feature_alignment(first, second, 0.3), barlow_twins_loss(first, second, 0.3) / 9)
    torch.testing.assert_close(text_text_alignment(first, second, 0.3), barlow_twins_loss(first.T, second.T, 0.3) / 6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
@pytest.mark.parametrize("squared", [True, False])
def test_gradients_equal_those_through_the_whole_matrix(form, shape, squared):
    leaves = [z.requires_grad_() for z in views(*shape)]
    axis = 1 if form == "TT" else 0
    z1, z2 = (
        (z - z.mean(axis, keepdim=True)) / (z.var(axis, keepdim=True, correction=0) + 1e-5).sqrt() for z in leaves
    )
    c = z1.T @ z2 / shape[0] if form == "TF" else z1 @ z2.T / shape[form == "TT"]
    off = c[~torch.eye(len(c), dtype=torch.bool)]
    direct = (1 - c.diagonal()).square().sum() + 0.7 * (off.square() if squared else off).sum()
    ours = FORMS[form](*leaves, 0.7, squared=squared)
    assert ours.item() == pytest.approx(direct.item() / len(c), rel=1e-10)
    for got, expected in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(direct / len(c), leaves)):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that an operation returns, those of the backward pass included."""

    def __init__(self):
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen |= {tuple(x.shape) for x in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(x)}
        return out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(4, 32), (32, 4)])
@pytest.mark.parametrize("squared", [True, False])
def test_no_matrix_of_the_longer_side_is_formed(form, shape, squared):
    leaves = [z.requires_grad_() for z in views(*shape)]
    with Shapes() as shapes:
        FORMS[form](*leaves, squared=squared).backward()
    assert shape in shapes.seen
    assert (32, 32) not in shapes.seen
    assert ((4, 4) in shapes.seen) == squared


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("squared", [True, False])
def test_invariances(form, shape, squared):
    first, second = views(*shape)
    expected = FORMS[form](first, second, squared=squared)
    reports, features = torch.randperm(shape[0]), torch.randperm(shape[1])
    torch.testing.assert_close(FORMS[form](first[reports], second[reports], squared=squared), expected)
    torch.testing.assert_close(FORMS[form](first[:, features], second[:, features], squared=squared), expected)
    torch.testing.assert_close(FORMS[form](second, first, squared=squared), expected)
    size = (shape[0], 1) if form == "TT" else (1, shape[1])
    scale, shift = draw(*size, seed=2).exp(), draw(*size, seed=3)
    moved = FORMS[form](scale * first + shift, second / scale - shift, squared=squared, eps=1e-12)
    torch.testing.assert_close(moved, FORMS[form](first, second, squared=squared, eps=1e-12))
    assert not torch.allclose(FORMS[form](first, second.roll(1, 0), squared=squared), expected)  # pairs matter


def hadamard() -> torch.Tensor:
    """Four mutually orthogonal rows and columns of +-1; all but the first sum to 0."""
    two = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
    return torch.kron(two, two)


def test_analytic_values():
    white = 100 * hadamard()[:, 1:]  # (4, 3), features centred and uncorrelated
    assert text_feature_alignment(white, white).item() == pytest.approx(0, abs=1e-8)
    assert text_feature_alignment(white, -white).item() == pytest.approx(4)
    assert text_feature_alignment(white, white.roll(1, 1), 0.3).item() == pytest.approx(1.3)  # C permutes
    assert text_feature_alignment(white, white.roll(1, 1), 0.3, squared=False).item() == pytest.approx(1.3)
    assert text_feature_alignment(white, -white.roll(1, 1), 0.3, squared=False).item() == pytest.approx(0.7)
    one = white[:, :1].expand(4, 3)  # all features alike
    assert text_feature_alignment(one, one, 0.5).item() == pytest.approx(0.5 * 2)

    assert text_text_alignment(white.T, white.T).item() == pytest.approx(0, abs=1e-8)
    assert text_text_alignment(white.T, -white.T).item() == pytest.approx(4)
    same = white[:, :1].T.expand(3, 4)  # all reports alike
    assert text_text_alignment(same, same, 0.5).item() == pytest.approx(0.5 * 2)

    # Batch-standardised, (4, 3): z z^T = 4 I - 1 for rows of +-1 without the first column, so C has 3/4 and -1/4.
    ours = text_text_alignment(white, white, 0.5, standardize="batch").item()
    assert ours == pytest.approx(1 / 16 + 0.5 * 3 / 16)
    ours = text_text_alignment(white, white, 0.5, standardize="batch", squared=False).item()
    assert ours == pytest.approx(1 / 16 - 0.5 * 3 / 4)
    wide = white.repeat(1, 8)  # C_ii is P / B = 6: beyond 1
    assert text_text_alignment(wide, wide, 0, standardize="batch").item() == pytest.approx(25)


def test_printed_form_is_unbounded_below_where_the_squared_one_is_not():
    alike = hadamard()[:, 1:2].expand(4, 4000)
    assert text_feature_alignment(alike, -alike, squared=False) < -16
    assert text_feature_alignment(alike, -alike) > 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(3, 6), (6, 3)])
@pytest.mark.parametrize("squared", [True, False])
def test_gradients(form, shape, squared):
    leaves = [z.requires_grad_() for z in views(*shape)]
    assert torch.autograd.gradcheck(lambda a, b: FORMS[form](a, b, 0.3, squared=squared), leaves)


@pytest.mark.parametrize("form", FORMS)
def test_dead_features_and_flat_reports_give_finite_gradients(form):
    first, second = views(4, 6)
    first[:, 2], second[:, 2] = 0, 1
    first[1], second[1] = 0, 2
    leaves = first.float().requires_grad_(), second.float().requires_grad_()
    FORMS[form](*leaves).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_unknown_standardisation_is_an_error():
    with pytest.raises(ValueError, match="features or batch, not 'rows'"):
        text_text_alignment(draw(3, 4), draw(3, 4), standardize="rows")


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_self_supervised_alignment_equals_the_slow_reference(temperature):
    first, second = views(6, 4)
    a, b = (z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True) for z in (first, second))
    expected = 0.0
    for i in range(6):
        scores = [np.exp(a[i] @ b[j] / temperature) for j in range(6)]
        expected -= np.log(scores[i] / sum(scores)) / 6
    printed = self_supervised_alignment(first, second, temperature, symmetric=False)
    assert printed.item() == pytest.approx(expected, rel=1e-12)
    other = self_supervised_alignment(second, first, temperature, symmetric=False)
    both = self_supervised_alignment(first, second, temperature)
    torch.testing.assert_close(both, (printed + other) / 2)
    torch.testing.assert_close(both, info_nce(first, second, temperature))
    assert not torch.allclose(printed, other)


def test_self_supervised_alignment_values_invariances_and_gradient():
    first, second = views(5, 4)
    for symmetric in (True, False):
        same = torch.ones(5, 4)
        assert self_supervised_alignment(same, same, symmetric=symmetric).item() == pytest.approx(np.log(5))
        expected = self_supervised_alignment(first, second, symmetric=symmetric)
        moved = self_supervised_alignment(4 * first.flip(0), 0.1 * second.flip(0), symmetric=symmetric)
        torch.testing.assert_close(moved, expected)
        leaves = [z.clone().requires_grad_() for z in (first, second)]
        check = torch.autograd.gradcheck
        assert check(lambda a, b, s=symmetric: self_supervised_alignment(a, b, 0.5, symmetric=s), leaves)

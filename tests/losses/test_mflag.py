"""M-FLAG's losses against slow NumPy references, analytic values, invariances and finite differences."""

import numpy as np
import pytest
import torch

from nbcore.losses.mflag import alignment_loss, orthogonality_loss

READINGS = ["none", "row", "column", "pearson"]
SHAPES = [(5, 12), (12, 5), (7, 7)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_orthogonality(z: np.ndarray, normalize: str, off_diagonal: float, half: bool) -> float:
    """Eq. 3 entry by entry."""
    batch, width = z.shape
    z = z.copy()
    if normalize == "row":
        for b in range(batch):
            z[b] /= np.sqrt((z[b] ** 2).sum())
    if normalize in ("column", "pearson"):
        for i in range(width):
            z[:, i] -= z[:, i].mean() if normalize == "pearson" else 0
            z[:, i] /= np.sqrt((z[:, i] ** 2).sum())
    loss = 0.0
    for i in range(width):
        for j in range(width):
            entry = sum(z[b, i] * z[b, j] for b in range(batch)) / (batch if normalize == "none" else 1)
            loss += (1 - entry) ** 2 if i == j else off_diagonal * entry**2
    return loss / 2 if half else loss


@pytest.mark.parametrize("normalize", READINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("half", [True, False])
def test_orthogonality_equals_the_slow_reference(normalize, shape, half):
    z = draw(*shape)
    expected = slow_orthogonality(z.numpy(), normalize, 0.3, half)
    assert orthogonality_loss(z, normalize, 0.3, half).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("normalize", READINGS)
def test_gram_form_equals_the_direct_form_forward_and_gradient(normalize):
    """B < N takes the (B, B) route; the same loss through the (N, N) matrix must agree to rounding."""
    z = draw(6, 40).requires_grad_()
    orthogonality_loss(z, normalize, 0.7).backward()
    direct = z.detach().clone().requires_grad_()
    scaled = {
        "none": lambda: direct / len(direct) ** 0.5,
        "row": lambda: direct / direct.norm(dim=1, keepdim=True),
        "column": lambda: direct / direct.norm(dim=0),
        "pearson": lambda: (direct - direct.mean(0)) / (direct - direct.mean(0)).norm(dim=0),
    }[normalize]()
    c = scaled.T @ scaled
    eye = torch.eye(40, dtype=torch.bool)
    loss = ((1 - c[eye]).square().sum() + 0.7 * c[~eye].square().sum()) / 2
    loss.backward()
    assert orthogonality_loss(z, normalize, 0.7).item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(z.grad, direct.grad, rtol=1e-9, atol=1e-12)


def test_no_matrix_of_the_feature_width_is_formed(monkeypatch):
    """No matrix product inside the loss may return (N, N) when B < N."""
    shapes = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: (shapes.append((a.shape[0], b.shape[1])), product(a, b))[1]
    )
    orthogonality_loss(draw(4, 32))
    assert shapes == [(4, 4)]


@pytest.mark.parametrize("normalize", READINGS)
def test_orthogonality_ignores_the_order_of_the_batch(normalize):
    z = draw(6, 9)
    torch.testing.assert_close(orthogonality_loss(z, normalize), orthogonality_loss(z.flip(0), normalize))


@pytest.mark.parametrize("normalize", READINGS[1:])
def test_normalised_readings_ignore_the_scale(normalize):
    z = draw(6, 9)
    torch.testing.assert_close(orthogonality_loss(z, normalize), orthogonality_loss(3 * z, normalize))


def test_analytic_values():
    white = torch.eye(4) * 2  # Z^T Z / B is the identity
    assert orthogonality_loss(white, "none") == pytest.approx(0)
    same = torch.ones(4, 3)  # all entries of the correlation matrix are 1
    assert orthogonality_loss(same, "column", off_diagonal=1, half=False) == pytest.approx(6)
    wide = torch.nn.functional.normalize(draw(4, 16), dim=0)
    assert orthogonality_loss(wide, "column", 1, half=False) >= 16**2 / 4 - 16  # Welch bound


def test_alignment_values_and_invariances():
    a, t = draw(6, 5), draw(6, 5, seed=1)
    cosine = np.array([(x @ y) / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a.numpy(), t.numpy())])
    assert alignment_loss(a, t).item() == pytest.approx(np.mean(2 - 2 * cosine), rel=1e-12)
    assert alignment_loss(a, t, weight=2).item() == pytest.approx(2 * alignment_loss(a, t).item())
    torch.testing.assert_close(alignment_loss(a, t), alignment_loss(5 * a.flip(0), 0.1 * t.flip(0)))
    assert alignment_loss(a, a).item() == pytest.approx(0, abs=1e-12)
    assert alignment_loss(a, -a).item() == pytest.approx(4)


@pytest.mark.parametrize("normalize", READINGS)
@pytest.mark.parametrize("shape", [(3, 6), (6, 3)])
def test_gradients(normalize, shape):
    z = draw(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: orthogonality_loss(z, normalize), z)


def test_alignment_gradient():
    assert torch.autograd.gradcheck(alignment_loss, (draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()))


def test_dead_features_give_finite_gradients():
    z = draw(4, 6)
    z[:, 2] = 0
    for normalize in READINGS:
        leaf = z.clone().requires_grad_()
        orthogonality_loss(leaf, normalize).backward()
        assert leaf.grad.isfinite().all()


def test_unknown_reading_is_an_error():
    with pytest.raises(ValueError, match="none, row, column or pearson"):
        orthogonality_loss(draw(3, 3), "rows")

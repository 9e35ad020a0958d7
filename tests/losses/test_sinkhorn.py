"""Sinkhorn codes against explicit loops, in extremes of precision and size."""

import numpy as np
import pytest
import torch

from nbcore.losses.sinkhorn import sinkhorn_codes


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_codes(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    codes = np.exp(scores / epsilon)
    batch, prototypes = codes.shape
    for _ in range(iterations):
        for k in range(prototypes):
            codes[:, k] /= codes[:, k].sum() * prototypes
        for b in range(batch):
            codes[b] /= codes[b].sum() * batch
    return codes / codes.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("shape", "epsilon", "iterations"), [((6, 9), 0.05, 3), ((9, 4), 1.0, 10), ((3, 5), 0.3, 1)])
def test_codes_equal_the_slow_reference(shape, epsilon, iterations):
    scores = draw(*shape).clamp(-1, 1)
    expected = slow_codes(scores.numpy(), epsilon, iterations)
    np.testing.assert_allclose(sinkhorn_codes(scores, epsilon, iterations), expected, rtol=1e-12)


def test_codes_are_balanced_and_know_no_order():
    scores = draw(12, 4)
    codes = sinkhorn_codes(scores, 0.5, 200)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(sinkhorn_codes(scores.flip(0), 0.5), sinkhorn_codes(scores, 0.5).flip(0))
    torch.testing.assert_close(sinkhorn_codes(scores + 7, 0.5), sinkhorn_codes(scores, 0.5))
    torch.testing.assert_close(sinkhorn_codes(torch.zeros(3, 5)), torch.full((3, 5), 0.2))


def test_large_scores_in_half_precision_do_not_overflow():
    scores = (20 * draw(16, 50).clamp(-1, 1)).half()
    codes = sinkhorn_codes(scores, 0.05)
    assert codes.dtype == torch.float32
    assert codes.isfinite().all()
    torch.testing.assert_close(codes, sinkhorn_codes(scores.double(), 0.05).float(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(16))


def test_codes_have_no_gradient():
    assert not sinkhorn_codes(draw(3, 4).requires_grad_()).requires_grad

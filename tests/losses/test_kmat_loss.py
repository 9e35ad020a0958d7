"""K-MaT's losses against explicit loops and POT, in extremes, and what they let through of a gradient."""

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F

from nbcore.losses.kmat import (
    alignment_costs,
    anchoring,
    feature_costs,
    fused_gromov_wasserstein,
    pairwise_distances,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_plan(rows: int, columns: int) -> torch.Tensor:
    """Of unequal marginals and sum 1."""
    return draw(rows, columns, seed=9).flatten().softmax(dim=0).view(rows, columns)


def slow_alignment(high: np.ndarray, low: np.ndarray, plan: np.ndarray) -> tuple[float, float]:
    n, m = plan.shape
    features = sum(((high[i] - low[j]) ** 2).sum() * plan[i, j] for i in range(n) for j in range(m))
    structure = 0.0
    for i in range(n):
        for j in range(m):
            for k in range(n):
                for l in range(m):  # noqa: E741, the paper's letter
                    difference = np.linalg.norm(high[i] - high[k]) - np.linalg.norm(low[j] - low[l])
                    structure += difference**2 * plan[i, j] * plan[k, l]
    return features, structure


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_anchoring_equals_the_slow_reference(modalities):
    texts, prototypes = draw(modalities, 4, 7), draw(modalities, 4, 7, seed=1)
    total = 0.0
    for m in range(modalities):
        for i in range(4):
            total += float(((texts[m, i] - prototypes[m, i]) ** 2).sum())
    torch.testing.assert_close(float(anchoring(texts, prototypes)), total / (modalities * 4))


def test_anchoring_of_unit_vectors():
    texts = F.normalize(draw(2, 5, 8), dim=-1)
    assert anchoring(texts, texts) == 0
    torch.testing.assert_close(float(anchoring(texts, -texts)), 4.0)
    assert torch.autograd.gradcheck(anchoring, (texts.requires_grad_(), draw(2, 5, 8)))


@pytest.mark.parametrize(("n", "m", "alpha"), [(2, 2, 0.1), (3, 3, 0.0), (4, 3, 0.5), (5, 5, 1.0), (6, 6, 0.1)])
def test_alignment_equals_the_slow_reference(n, m, alpha):
    high, low, plan = draw(n, 8), draw(m, 8, seed=1), draw_plan(n, m)
    features, structure = slow_alignment(high.numpy(), low.numpy(), plan.numpy())
    torch.testing.assert_close([float(part) for part in alignment_costs(high, low, plan)], [features, structure])
    expected = (1 - alpha) * features + alpha * structure
    torch.testing.assert_close(float(fused_gromov_wasserstein(high, low, plan, alpha)), expected)


def test_alignment_equals_pot_at_its_coupling():
    high, low = draw(5, 8), draw(5, 8, seed=1)
    costs = (cost.numpy() for cost in (feature_costs(high, low), pairwise_distances(high), pairwise_distances(low)))
    plan, log = ot.gromov.fused_gromov_wasserstein(*costs, alpha=0.3, log=True)
    ours = fused_gromov_wasserstein(high, low, torch.from_numpy(plan), 0.3)
    torch.testing.assert_close(float(ours), float(log["fgw_dist"]))


def test_equal_sets_cost_nothing_at_the_identity():
    points = draw(4, 8)
    order = torch.tensor([2, 0, 3, 1])
    assert abs(fused_gromov_wasserstein(points, points, torch.eye(4) / 4, 0.5)) < 1e-14
    assert abs(fused_gromov_wasserstein(points, points[order], torch.eye(4)[:, order] / 4, 0.5)) < 1e-14
    assert fused_gromov_wasserstein(points, points[order], torch.eye(4) / 4, 0.5) > 0.1


def test_two_segments_by_hand():
    """Of lengths 2 and 1, on one line, with the uniform coupling."""
    high, low = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    features, structure = alignment_costs(high, low, torch.full((2, 2), 0.25))
    assert float(features) == (0 + 1 + 4 + 1) / 4
    # of 16 quadruples 4 have both ends in one point, 4 only the high one's, 4 only the low one's, 4 neither
    assert float(structure) == pytest.approx((4 * 0 + 4 * 1 + 4 * 4 + 4 * 1) / 16)


def test_alignment_knows_neither_order_nor_motion_nor_direction():
    high, low, plan = draw(4, 8), draw(5, 8, seed=1), draw_plan(4, 5)
    loss = fused_gromov_wasserstein(high, low, plan)
    rows, columns = torch.tensor([3, 1, 0, 2]), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(fused_gromov_wasserstein(high[rows], low[columns], plan[rows][:, columns]), loss)
    torch.testing.assert_close(fused_gromov_wasserstein(low, high, plan.T), loss)
    rotation = torch.linalg.qr(draw(8, 8)).Q
    torch.testing.assert_close(fused_gromov_wasserstein(high @ rotation + 1, low @ rotation + 1, plan), loss)
    torch.testing.assert_close(
        alignment_costs(high, low @ rotation + 1, plan)[1], alignment_costs(high, low, plan)[1]
    )  # the structure sees each set alone


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_the_gradient_reaches_the_low_end_alone(alpha):
    high, low, plan = (tensor.requires_grad_() for tensor in (draw(3, 6), draw(4, 6, seed=1), draw_plan(3, 4)))
    assert torch.autograd.gradcheck(
        lambda low: fused_gromov_wasserstein(high.detach(), low, plan.detach(), alpha), (low,)
    )
    fused_gromov_wasserstein(high, low, plan, alpha).backward()
    assert high.grad is None
    assert plan.grad is None
    assert low.grad.abs().max() > 1e-3


def test_sets_that_are_one_tensor_move_as_the_low_end():
    """Where a prompt serves both modalities."""
    points, plan = draw(4, 6).requires_grad_(), draw_plan(4, 4)
    fused_gromov_wasserstein(points, points, plan).backward()
    low = points.detach().clone().requires_grad_()
    fused_gromov_wasserstein(points.detach(), low, plan).backward()
    torch.testing.assert_close(points.grad, low.grad)


def test_coinciding_points_have_a_finite_gradient():
    low = torch.ones(4, 8, dtype=torch.float64).requires_grad_()
    pairwise_distances(low).sum().backward()
    assert (low.grad == 0).all()
    low.grad = None
    fused_gromov_wasserstein(draw(4, 8), low, torch.full((4, 4), 1 / 16)).backward()
    assert low.grad.isfinite().all()
    both = torch.ones(3, 8).requires_grad_()
    assert fused_gromov_wasserstein(both, both, torch.eye(3) / 3) == 0


def test_distances_of_nearby_points_survive_single_precision():
    points = F.normalize(draw(1, 512), dim=-1) + 1e-4 * draw(6, 512, seed=1) / 512**0.5
    exact, single = pairwise_distances(points), pairwise_distances(points.float())
    assert (exact.diagonal() == 0).all()
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=0)
    torch.testing.assert_close(feature_costs(points, points), exact.square())


def test_half_precision_is_computed_in_single():
    high, low = (F.normalize(draw(5, 512, seed=seed), dim=-1).half() for seed in (0, 1))
    plan = (torch.eye(5) / 5).half()
    loss = fused_gromov_wasserstein(high, low, plan)
    assert loss.dtype == anchoring(high[None], low[None]).dtype == torch.float32
    torch.testing.assert_close(loss, fused_gromov_wasserstein(high.float(), low.float(), plan.float()))

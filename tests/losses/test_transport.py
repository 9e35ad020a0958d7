"""Couplings against slow loops and POT, on logarithms and not, and what they depend on."""

import warnings

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from nbcore.losses import transport
from nbcore.losses.kmat import alignment_costs, feature_costs, fused_gromov_wasserstein, pairwise_distances
from nbcore.losses.transport import (
    coupling,
    diagonal_mass,
    entropic_fgw,
    exact_fgw,
    identity_coupling,
    proximal_fgw,
    sinkhorn_plan,
)

SOLVERS = ("entropic", "proximal", "exact", "identity", "features")


def draw(classes: int, seed: int = 0, apart: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of classes, and the same classes seen in another way; (N, 64) each."""
    generator = torch.Generator().manual_seed(seed)
    high, noise = torch.randn(2, classes, 64, generator=generator, dtype=torch.float64)
    return F.normalize(high, dim=1), F.normalize(high + apart * noise, dim=1)


def costs_of(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return feature_costs(high, low), pairwise_distances(high), pairwise_distances(low)


def pot(costs, solver="PGD", **settings) -> torch.Tensor:
    arrays = [cost.numpy() for cost in costs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations that end early on purpose
        return torch.from_numpy(ot.gromov.entropic_fused_gromov_wasserstein(*arrays, solver=solver, **settings))


def slow_coupling(costs, alpha: float, epsilon: float, iterations: int, inner_iterations: int) -> np.ndarray:
    """The steps by the four-index sum, each round of scaling on logarithms, without any test to stop."""
    features, first, second = (cost.numpy() for cost in costs)
    n, m = features.shape
    plan = np.full((n, m), 1 / (n * m))
    for _ in range(iterations):
        gradient = (1 - alpha) * features
        for i in range(n):
            for j in range(m):
                pairs = (first[i][:, None] - second[j]) ** 2  # (n, m)
                gradient[i, j] += 2 * alpha * (pairs * plan).sum()
        log_u = np.full(n, -np.log(n))
        for _ in range(inner_iterations):
            log_v = -np.log(m) - logsumexp(log_u[:, None] - gradient / epsilon, axis=0)
            log_u = -np.log(n) - logsumexp(log_v - gradient / epsilon, axis=1)
        plan = np.exp(log_u[:, None] - gradient / epsilon + log_v)
    return plan


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("iterations", [1, 4])
def test_entropic_equals_the_slow_reference(alpha, iterations):
    costs = costs_of(*draw(4))
    expected = slow_coupling(costs, alpha, 0.3, iterations, 21)
    # no plan here is balanced after 21 rounds
    np.testing.assert_allclose(entropic_fgw(*costs, alpha, 0.3, iterations, 21), expected, atol=1e-14)


@pytest.mark.parametrize("classes", range(2, 8))
@pytest.mark.parametrize(("epsilon", "inner"), [(0.2, 1000), (0.1, 37), (0.02, 100)])
def test_entropic_equals_pot(classes, epsilon, inner):
    costs = costs_of(*draw(classes, seed=classes, apart=1.0))
    ours = entropic_fgw(*costs, 0.1, epsilon, 21, inner)
    expected = pot(costs, alpha=0.1, epsilon=epsilon, max_iter=21, numItermax=inner)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("classes", [2, 5, 7])
def test_proximal_equals_pot(classes):
    costs = costs_of(*draw(classes, seed=classes, apart=1.0))
    expected = pot(costs, "PPA", alpha=0.1, epsilon=0.1, max_iter=60, numItermax=100)
    torch.testing.assert_close(proximal_fgw(*costs, iterations=60, inner_iterations=100), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("solver", ["PGD", "PPA"])
def test_marginals_that_are_given(solver):
    high, low = draw(6)[0], draw(4, seed=1)[1]
    costs, p, q = costs_of(high, low), torch.rand(6).double() + 0.1, torch.rand(4).double() + 0.1
    p, q = p / p.sum(), q / q.sum()
    ours = {"PGD": entropic_fgw, "PPA": proximal_fgw}[solver](*costs, 0.3, 0.2, 11, 500, p, q)
    expected = pot(costs, solver, p=p.numpy(), q=q.numpy(), alpha=0.3, epsilon=0.2, max_iter=11, numItermax=500)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours.sum(dim=1), p)
    plain = sinkhorn_plan(costs[0], 0.2, 300, p, q)
    torch.testing.assert_close(
        plain, torch.from_numpy(ot.sinkhorn(p.numpy(), q.numpy(), costs[0].numpy(), 0.2)), rtol=0, atol=1e-8
    )
    torch.testing.assert_close(plain.sum(dim=1), p)
    torch.testing.assert_close(plain.sum(dim=0), q)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("classes", range(2, 8))
def test_exact_equals_pot(classes, alpha):
    for seed, apart in enumerate((0.3, 1.0, 3.0)):
        costs = costs_of(*draw(classes, seed=seed, apart=apart))
        uniform = np.full(classes, 1 / classes)
        arrays = [cost.numpy() for cost in costs]
        expected = ot.gromov.fused_gromov_wasserstein(*arrays, uniform, uniform, alpha=alpha, symmetric=True)
        torch.testing.assert_close(exact_fgw(*costs, alpha), torch.from_numpy(expected), rtol=0, atol=1e-8)


@pytest.mark.parametrize("classes", range(2, 8))
def test_exact_is_a_local_optimum(classes):
    """No assignment of classes is downhill of it."""
    costs, alpha = costs_of(*draw(classes, seed=classes, apart=2.0)), 0.5
    plan = exact_fgw(*costs, alpha).numpy()
    features, first, second = (cost.numpy() for cost in costs)
    pairs = (first[:, :, None, None] - second) ** 2  # i, k, j, l
    gradient = (1 - alpha) * features + 2 * alpha * np.einsum("ikjl,kl->ij", pairs, plan)
    best = gradient[linear_sum_assignment(gradient)].sum() / classes
    np.testing.assert_allclose(plan.sum(axis=0), 1 / classes)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / classes)
    assert (gradient * plan).sum() <= best + 1e-6


@pytest.mark.parametrize("solver", ["entropic", "proximal", "exact", "features"])
def test_classes_are_found_again_in_another_order(solver):
    high, low = draw(6)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    plan = coupling(high, low[order], solver, epsilon=0.05)
    assert (plan.argmax(dim=1)[order] == torch.arange(6)).all()
    torch.testing.assert_close(plan, coupling(high, low, solver, epsilon=0.05)[:, order], rtol=0, atol=1e-6)


def test_both_directions_are_one():
    high, low = draw(5, apart=1.0)
    forth, back = coupling(high, low, epsilon=0.3), coupling(low, high, epsilon=0.3)
    torch.testing.assert_close(forth, back.T, rtol=0, atol=1e-7)


def test_the_entropic_problem_is_solved():
    """Its value is below those nearby: at the product, the identity, and small steps towards them."""

    def value(plan: torch.Tensor) -> float:
        return float(fused_gromov_wasserstein(high, low, plan) + 0.3 * torch.xlogy(plan, plan).sum())

    high, low = draw(5, apart=1.0)
    plan = coupling(high, low, epsilon=0.3)
    for other in (torch.full((5, 5), 1 / 25).double(), identity_coupling(5), coupling(high, low, "exact")):
        for step in (1.0, 0.1, 1e-3):
            assert value(plan) < value(plan + step * (other - plan))


def test_solvers_from_smooth_to_sharp():
    high, low = draw(5, apart=2.0)
    value = {solver: float(fused_gromov_wasserstein(high, low, coupling(high, low, solver))) for solver in SOLVERS}
    assert value["exact"] <= value["proximal"] + 1e-6
    assert value["proximal"] < value["entropic"]
    assert abs(value["proximal"] - value["exact"]) < 1e-3


@pytest.mark.parametrize("solver", [entropic_fgw, proximal_fgw])
def test_logarithms_give_the_same_coupling(solver, monkeypatch):
    costs = costs_of(*draw(5, apart=1.0))
    scaled = solver(*costs, iterations=12)
    monkeypatch.setattr(transport, "_LOG_RANGE", 0.0)
    monkeypatch.delattr(transport, "_scale")
    torch.testing.assert_close(solver(*costs, iterations=12), scaled, rtol=0, atol=1e-12)


def test_unnormalised_features_do_not_underflow():
    high, low = (20 * points for points in draw(4, apart=1.0))
    costs = costs_of(high, low)
    assert (-costs[0] / 0.1).exp().max() == 0  # where scaling of the plain kernel ends
    plan = coupling(high, low, iterations=3, inner_iterations=30)
    np.testing.assert_allclose(plan, slow_coupling(costs, 0.1, 0.1, 3, 30), atol=1e-12)
    for solver in SOLVERS:
        plan = coupling(high, low, solver)
        assert plan.isfinite().all(), solver
        torch.testing.assert_close(plan.sum(dim=1), torch.full((4,), 0.25).double())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("relative", [False, True])
def test_coinciding_points_have_a_coupling(solver, relative):
    points = torch.ones(4, 8)
    plan = coupling(points, points, solver, relative=relative)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((4,), 0.25))
    if solver in ("entropic", "proximal", "features"):
        torch.testing.assert_close(plan, torch.full((4, 4), 1 / 16))


def test_relative_epsilon_sees_the_shape_alone():
    high, low = draw(5)
    near = coupling(high, low, relative=True)
    torch.testing.assert_close(coupling(high / 50, low / 50, relative=True), near, rtol=0, atol=1e-8)
    mean = float(feature_costs(high, low).mean())
    torch.testing.assert_close(coupling(high, low, epsilon=0.1 * mean), near)
    uniform = torch.full((5, 5), 1 / 25).double()
    torch.testing.assert_close(coupling(high / 50, low / 50), uniform, rtol=0.02, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_of_the_embeddings_without_gradient(solver, dtype):
    high, low = (points.to(dtype).requires_grad_() for points in draw(4))
    plan = coupling(high, low, solver)
    assert plan.dtype == dtype
    assert not plan.requires_grad
    exact = coupling(high.detach().double(), low.detach().double(), solver)
    torch.testing.assert_close(plan, exact.to(dtype))


def test_share_of_mass_on_the_diagonal():
    assert diagonal_mass(identity_coupling(5)) == pytest.approx(1)
    assert diagonal_mass(torch.full((5, 5), 1 / 25)) == pytest.approx(1 / 5)
    high, low = draw(5)
    assert 1 / 5 < diagonal_mass(coupling(high, low, epsilon=1.0)) < diagonal_mass(coupling(high, low)) < 1
    assert float(alignment_costs(high, high, identity_coupling(5))[0]) == 0


def test_unknown_solver():
    with pytest.raises(ValueError, match="solver must be entropic, proximal, exact, identity or features, not 'ppa'"):
        coupling(*draw(3), solver="ppa")

"""Couplings of two sets of points for the fused Gromov-Wasserstein problem (Vayer et al., ICML 2019), square loss:

min_G (1 - alpha) sum_ij M_ij G_ij + alpha sum_ijkl |A_ik - B_jl|^2 G_ij G_kl  over G >= 0 with marginals p and q.

A coupling has no gradient. It is computed in float64 and returned in the dtype and on the device of what it is made of.
K-MaT's sets are its classes, a handful: the time is that of many tiny operations, so they are NumPy's, and few.

Shapes: N points in the first set, M in the second, D their width.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nbcore.losses.kmat import feature_costs, pairwise_distances

# POT's: the outer loop stops when a step moves the coupling by no more than this, the inner one when the column sums
# are off by less, in Euclidean norm. POT looks at every tenth step of both. So does the inner loop here; the outer one
# looks at every step, and so ends up to nine steps earlier, which is at most nine tolerances away.
_TOLERANCE, _CHECK_EVERY = 1e-9, 10
_EXACT_STEPS = 10_000
# Kernels of a smaller entry than exp(-_LOG_RANGE), after scaling of the columns, are scaled on logarithms. The scalings
# themselves span as much as the kernel, and products of the two have to stay within exp(+-708).
_LOG_RANGE = 300.0


def coupling(
    high: Tensor,
    low: Tensor,
    solver: str = "entropic",
    alpha: float = 0.1,
    epsilon: float = 0.1,
    iterations: int = 100,
    inner_iterations: int = 1000,
    relative: bool = False,
) -> Tensor:
    """The coupling of K-MaT's classes under the two modalities, all marginals 1 / N.

    Its costs are M, squared Euclidean distances between the sets, and A, B, Euclidean distances within them. At the
    paper's epsilon of 0.1 it is near the identity for classes that lie far apart on the unit sphere, and near uniform
    for classes as close as the real prompts of one task: `relative` makes it depend on the shape alone.

    Args:
        high, low: embeddings, (N, D) each; a gradient they require ends here.
        solver: entropic | proximal | exact, see `entropic_fgw`, `proximal_fgw` and `exact_fgw`; identity, which takes
            class i to class i; or features, the entropic plan of M alone in `iterations` rounds of Sinkhorn's scaling.
        alpha: weight of the structure, in [0, 1].
        epsilon: > 0, strength of the entropy, or size of a proximal step; exact and identity have none.
        iterations, inner_iterations: see `entropic_fgw`.
        relative: `epsilon` is a share of the mean of M.

    Returns:
        (N, N) >= 0 of sum 1, without gradient.

    Raises:
        ValueError: `solver` is none of these.
    """
    first, second = (points.detach().cpu().double() for points in (high, low))
    features = feature_costs(first, second)  # (N, N)
    if relative:
        epsilon = max(epsilon * float(features.mean()), np.finfo(np.float64).tiny)  # all points may coincide
    costs = features, pairwise_distances(first), pairwise_distances(second)
    match solver:
        case "entropic":
            plan = entropic_fgw(*costs, alpha, epsilon, iterations, inner_iterations)
        case "proximal":
            plan = proximal_fgw(*costs, alpha, epsilon, iterations, inner_iterations)
        case "exact":
            plan = exact_fgw(*costs, alpha)
        case "identity":
            plan = identity_coupling(len(first))
        case "features":
            plan = sinkhorn_plan(features, epsilon, iterations)
        case _:
            raise ValueError(f"solver must be entropic, proximal, exact, identity or features, not {solver!r}")
    return plan.to(high)


def entropic_fgw(
    features: Tensor,
    first: Tensor,
    second: Tensor,
    alpha: float = 0.1,
    epsilon: float = 0.1,
    iterations: int = 100,
    inner_iterations: int = 1000,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> Tensor:
    """Mirror descent on the problem with -epsilon * entropy(G) added (Peyre et al., ICML 2016).

    Every step solves the problem linearised at the last coupling by Sinkhorn's scaling. The steps are those of POT's
    `entropic_fused_gromov_wasserstein(solver="PGD")`, so that both agree where neither has converged.

    Args:
        features: M of (N, M).
        first, second: A of (N, N) and B of (M, M), symmetric.
        alpha: weight of the structure, in [0, 1].
        epsilon: > 0.
        iterations: steps at most.
        inner_iterations: rounds of scaling in a step at most, >= 1.
        p, q: marginals, (N,) and (M,), > 0 and of sum 1; uniform by default.

    Returns:
        (N, M) >= 0. The row sums are p; the column sums are q as nearly as `inner_iterations` allow.
    """
    return _descend(features, first, second, alpha, epsilon, iterations, inner_iterations, p, q, proximal=False)


def proximal_fgw(
    features: Tensor,
    first: Tensor,
    second: Tensor,
    alpha: float = 0.1,
    epsilon: float = 0.1,
    iterations: int = 100,
    inner_iterations: int = 1000,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> Tensor:
    """The problem without entropy by proximal steps of size 1 / epsilon: each stays near the last coupling, not the
    uniform one (Xu et al., ICML 2019; POT's solver="PPA"). Arguments and result as for `entropic_fgw`."""
    return _descend(features, first, second, alpha, epsilon, iterations, inner_iterations, p, q, proximal=True)


def exact_fgw(features: Tensor, first: Tensor, second: Tensor, alpha: float = 0.1) -> Tensor:
    """A local optimum of the problem itself between as many points, all marginals 1 / N, by conditional gradient.

    From the uniform coupling, each step goes towards the assignment that is best for the problem linearised there, as
    far as the objective, a parabola on the way, falls (Vayer et al., 2019, Algorithm 2).

    Arguments and result as for `entropic_fgw`, N = M.
    """
    costs, a, b = _in_double(features, first, second)  # (N, N) each
    costs = (1 - alpha) * costs
    points = len(costs)
    plan = np.full((points, points), 1 / points**2)
    for _ in range(_EXACT_STEPS):
        # the marginals' part of the structure's gradient favours no assignment
        crossed = a @ plan @ b
        _, columns = linear_sum_assignment(costs - 4 * alpha * crossed)
        way = np.eye(points)[columns] / points - plan
        # along the way the objective changes by slope t + curvature t^2
        slope = (costs * way).sum() - 4 * alpha * (crossed * way).sum()
        curvature = -2 * alpha * ((a @ way @ b) * way).sum()
        step = min(1.0, -slope / (2 * curvature)) if curvature > 0 else float(slope + curvature < 0)
        if -(slope * step + curvature * step**2) <= _TOLERANCE:
            break
        plan = plan + step * way
    return torch.from_numpy(plan).to(features)


def identity_coupling(classes: int) -> Tensor:
    """Class i to class i, (N, N) of float64."""
    return torch.eye(classes, dtype=torch.float64) / classes


def sinkhorn_plan(
    features: Tensor,
    epsilon: float = 0.1,
    iterations: int = 100,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> Tensor:
    """Entropic plan of the feature costs alone (Cuturi, 2013), in at most `iterations` >= 1 rounds of scaling.

    Arguments and result as for `entropic_fgw`.
    """
    (costs,), rows, columns = _in_double(features), *features.shape
    plan = _sinkhorn(-costs / epsilon, _marginal(p, rows), _marginal(q, columns), iterations)
    return torch.from_numpy(plan).to(features)


def diagonal_mass(plan: Tensor) -> float:
    """Share of the mass that stays with its class, in [0, 1]: 1 for the identity, 1 / N for the uniform coupling."""
    return float(plan.trace())


def _descend(
    features: Tensor,
    first: Tensor,
    second: Tensor,
    alpha: float,
    epsilon: float,
    iterations: int,
    inner_iterations: int,
    p: Tensor | None,
    q: Tensor | None,
    *,
    proximal: bool,
) -> Tensor:
    costs, a, b = _in_double(features, first, second)  # (N, M), (N, N), (M, M)
    p, q = _marginal(p, len(a)), _marginal(q, len(b))
    # the gradient is (1 - alpha) M + 2 alpha (A^2 p + B^2 q - 2 A G B), with squares by entry
    constant = (1 - alpha) * costs + 2 * alpha * ((a**2 @ p)[:, None] + b**2 @ q)  # (N, M)
    constant, a = constant / -epsilon, a * (4 * alpha / epsilon)
    plan = np.outer(p, q)
    for _ in range(iterations):
        log_kernel, last = constant + a @ plan @ b, plan
        if proximal:
            with np.errstate(divide="ignore"):  # what has vanished stays so: log 0 = -inf
                log_kernel += np.log(plan)
        plan = _sinkhorn(log_kernel, p, q, inner_iterations)
        if np.linalg.norm(plan - last) <= _TOLERANCE:
            break
    return torch.from_numpy(plan).to(features)


def _sinkhorn(log_kernel: np.ndarray, p: np.ndarray, q: np.ndarray, iterations: int) -> np.ndarray:
    """exp(log_kernel) scaled to column sums q and row sums p in turn, the rows last; (N, M)."""
    log_kernel = log_kernel - log_kernel.max(axis=0)  # the first scaling of the columns undoes it
    scale = _scale if log_kernel.min() > -_LOG_RANGE else _scale_logs
    return scale(log_kernel, p, q, iterations)


def _scale(log_kernel: np.ndarray, p: np.ndarray, q: np.ndarray, iterations: int) -> np.ndarray:
    """The plan diag(u) K diag(v). K over its marginals once, and a round is two products and two inverses."""
    kernel = np.exp(log_kernel)
    over_rows, over_columns = np.ascontiguousarray((kernel / q).T).dot, (kernel / p[:, None]).dot  # (M, N), (N, M)
    u, v, error = np.full(len(p), 1 / len(p)), np.empty(len(q)), np.empty(len(q))
    inverse = np.reciprocal
    for step in range(iterations):
        inverse(over_rows(u, v), v)
        inverse(over_columns(v, u), u)
        if step % _CHECK_EVERY == 0:
            over_rows(u, error)
            error *= v
            error -= 1
            error *= q
            if error.dot(error) < _TOLERANCE**2:
                break
    return u[:, None] * kernel * v


def _scale_logs(log_kernel: np.ndarray, p: np.ndarray, q: np.ndarray, iterations: int) -> np.ndarray:
    """The rounds of `_scale` on logarithms."""
    log_p, log_q, log_u = np.log(p), np.log(q), np.full(len(p), -np.log(len(p)))
    for step in range(iterations):
        log_v = log_q - _log_sum(log_kernel + log_u[:, None], axis=0)  # (M,)
        log_u = log_p - _log_sum(log_kernel + log_v, axis=1)  # (N,)
        if step % _CHECK_EVERY == 0:
            columns = np.exp(log_v + _log_sum(log_kernel + log_u[:, None], axis=0))
            if np.linalg.norm(columns - q) < _TOLERANCE:
                break
    return np.exp(log_kernel + log_u[:, None] + log_v)


def _log_sum(logs: np.ndarray, axis: int) -> np.ndarray:
    """Log of the sum of exp(logs) along an axis on which not all is -inf."""
    largest = logs.max(axis=axis, keepdims=True)
    return np.log(np.exp(logs - largest).sum(axis=axis)) + largest.squeeze(axis)


def _in_double(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().cpu().double().numpy() for tensor in tensors)


def _marginal(mass: Tensor | None, points: int) -> np.ndarray:
    return np.full(points, 1 / points) if mass is None else _in_double(mass)[0]

"""K-MaT's coupling at its size: from embeddings of a few classes, ours and POT's NumPy solver of the same steps."""

import ot
import torch
import torch.nn.functional as F

from nbcore.losses.kmat import feature_costs, fused_gromov_wasserstein, pairwise_distances
from nbcore.losses.transport import coupling, entropic_fgw
from tests.benchmarks.timing import median_seconds

WIDTH, ALPHA, EPSILON, ITERATIONS = 512, 0.1, 0.1, 100


def run() -> None:
    for classes in (3, 5, 6):
        generator = torch.Generator().manual_seed(0)
        high, low = F.normalize(torch.randn(2, classes, WIDTH, generator=generator), dim=-1)
        costs = tuple(
            cost.double() for cost in (feature_costs(high, low), pairwise_distances(high), pairwise_distances(low))
        )
        arrays, settings = [cost.numpy() for cost in costs], {"alpha": ALPHA, "epsilon": EPSILON}

        def plain(arrays=arrays, settings=settings):
            return ot.gromov.entropic_fused_gromov_wasserstein(*arrays, max_iter=ITERATIONS, **settings)

        def solve(costs=costs, settings=settings):
            return entropic_fgw(*costs, iterations=ITERATIONS, **settings)

        ours, theirs = median_seconds(solve), median_seconds(plain, 7)
        difference = float((solve() - torch.from_numpy(plain())).abs().max())
        leaf, plan = low.clone().requires_grad_(), coupling(high, low, alpha=ALPHA, epsilon=EPSILON)
        loss = median_seconds(
            lambda high=high, leaf=leaf, plan=plan: fused_gromov_wasserstein(high, leaf, plan, ALPHA).backward()
        )
        print(
            f"entropic fused Gromov-Wasserstein coupling, {classes} classes: {ours * 1e3:.2f} ms, by POT "
            f"{theirs * 1e3:.1f} ms, ratio {theirs / ours:.1f}, couplings differ by {difference:.0e}; the loss at a "
            f"coupling, forward and backward: {loss * 1e3:.2f} ms"
        )

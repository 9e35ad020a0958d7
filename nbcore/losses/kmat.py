"""K-MaT's anchoring and manifold alignment (K-MaT, arXiv 2603.06340, Sect. 2).

What they see, normalised or not, is the caller's choice: nothing is normalised here. All is computed in single
precision or better, since it lives on differences of nearby embeddings.

Shapes: m modalities, N classes, D width of the embeddings; in general N high-end and M low-end points.
"""

import torch
from torch import Tensor


def anchoring(texts: Tensor, prototypes: Tensor) -> Tensor:
    """L_anc = 1 / (m N) sum_{i, m} ||w_im - pbar_im||^2: keeps prompts near what descriptions say of a class.

    The paper writes 1 / (2 N): it has two modalities.

    Args:
        texts: embeddings w of the learnt prompts, (m, N, D).
        prototypes: pbar, means of the embedded descriptions, (m, N, D).

    Returns:
        A scalar >= 0; <= 4 for vectors of length 1.
    """
    texts, prototypes = _single_or_better(texts, prototypes)
    return (texts - prototypes).square().sum(dim=-1).mean()


def pairwise_distances(points: Tensor) -> Tensor:
    """Euclidean distances within a set, (N, D) -> (N, N); where two points coincide, the gradient is 0, not NaN."""
    squares = feature_costs(points, points)  # (N, N)
    same = squares == 0
    return torch.where(same, 0, torch.where(same, 1, squares).sqrt())


def feature_costs(high: Tensor, low: Tensor) -> Tensor:
    """Squared Euclidean distances between two sets, (N, D), (M, D) -> (N, M).

    From differences: by products of the points, the distance of nearby ones would be lost to rounding.
    """
    high, low = _single_or_better(high, low)
    return (high[:, None] - low).square().sum(dim=-1)  # (N, M, D) -> (N, M)


def fused_gromov_wasserstein(high: Tensor, low: Tensor, coupling: Tensor, alpha: float = 0.1) -> Tensor:
    """L_fgw = (1 - alpha) sum_ij M_ij G_ij + alpha sum_ijkl |DH_ik - DL_jl|^2 G_ij G_kl.

    The gradient reaches `low` alone: the high end is a fixed reference, and so is the coupling G.

    Args:
        high, low: embeddings of the classes, (N, D), (M, D).
        coupling: G >= 0 of (N, M), with any marginals; see `transport.coupling`.
        alpha: weight of the structure, in [0, 1].

    Returns:
        A scalar, >= 0 but for rounding.
    """
    features, structure = alignment_costs(high, low, coupling)
    return (1 - alpha) * features + alpha * structure


def alignment_costs(high: Tensor, low: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    """The two sums of `fused_gromov_wasserstein` without their weights: features (M) and structure (DH, DL).

    The second is p^T DH^2 p + q^T DL^2 q - 2 sum((DH G) * (G DL)), squares by entry and p, q the marginals of G itself.
    """
    high, low = _single_or_better(high.detach(), low)
    plan = coupling.detach().to(low)
    p, q = plan.sum(dim=1), plan.sum(dim=0)  # (N,), (M,)
    first, second = pairwise_distances(high), pairwise_distances(low)  # (N, N), (M, M)
    own = p @ first.square() @ p + q @ second.square() @ q
    return (feature_costs(high, low) * plan).sum(), own - 2 * ((first @ plan) * (plan @ second)).sum()


def _single_or_better(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)

"""Barlow Twins' loss (Zbontar et al., ICML 2021).

Shapes: B batch, D width of the embeddings.
"""

import torch.nn.functional as F
from torch import Tensor


def barlow_twins_loss(first: Tensor, second: Tensor, off_diagonal: float = 0.0051) -> Tensor:
    """Distance of the cross-correlation matrix of two views from the identity, Eq. 1 and 2:

    sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2,  C = Z1^T Z2 / B of (D, D).

    Z are the embeddings standardised over the batch (biased variance, plus 1e-5 as the official BatchNorm has). The
    loss does this itself: a batch norm in front of it would divide by that 1e-5 twice. The official module's BatchNorm
    also keeps running statistics, which nothing reads.

    C is never formed when B < D, see `distance_from_identity`.

    Args:
        first, second: embeddings of the two views, (B, D), B > 1; row i of both shows the same image. Shift and scale
            of a feature do not matter.
        off_diagonal: weight of the squared off-diagonal entries, the paper's lambda.

    Returns:
        A scalar >= 0.
    """
    z1, z2 = (F.batch_norm(z, None, None, training=True, eps=1e-5) for z in (first, second))  # (B, D)
    return distance_from_identity(z1, z2, len(z1), off_diagonal)


def distance_from_identity(z1: Tensor, z2: Tensor, divisor: int, off_diagonal: float, squared: bool = True) -> Tensor:
    """sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2 (C_ij if not `squared`) of C = z1^T z2 / divisor.

    z1, z2 are (M, N). C of (N, N) is never formed when M < N: sum_ij C_ij^2 is then the inner product of the two (M, M)
    Gram matrices over divisor^2. C_ii needs column sums only, and sum_ij C_ij row sums.
    """
    rows, columns = z1.shape
    diagonal = (z1 * z2).sum(dim=0) / divisor  # (N,)
    if squared:
        products = (z1 @ z1.mT) * (z2 @ z2.mT) if rows < columns else (z1.mT @ z2).square()  # (M, M) or (N, N)
        off = products.sum() / divisor**2 - diagonal.square().sum()
    else:
        off = z1.sum(dim=1) @ z2.sum(dim=1) / divisor - diagonal.sum()
    return (1 - diagonal).square().sum() + off_diagonal * off

"""Med-UniC's losses (Wan et al., NeurIPS 2023, Sect. 3.3-3.4); its Eq. 2-3, CVL, are `contrastive.info_nce`.

Shapes: B batch (the paper's K), D width of the aligned embeddings, P width of the embeddings whose correlations are
taken (the paper's D').
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.losses.barlow import distance_from_identity
from nbcore.losses.contrastive import info_nce

Standardization = Literal["features", "batch"]


def self_supervised_alignment(
    first: Tensor, second: Tensor, temperature: float = 0.07, *, symmetric: bool = True
) -> Tensor:
    """InfoNCE between two augmentations of the same images, L_SSV of Eq. 4.

    Args:
        first, second: embeddings of the two views, (B, D); row i of both shows the same image. Normalised here.
        temperature: > 0, sigma_2; divides the cosines.
        symmetric: mean of both directions, as in the official code; Eq. 4 has only the first views look for the second.

    Returns:
        A scalar >= 0; log B for embeddings that say nothing.
    """
    if symmetric:
        return info_nce(first, second, temperature)
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature  # (B, B)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def text_feature_alignment(
    first: Tensor, second: Tensor, off_diagonal: float = 0.0051, *, squared: bool = True, eps: float = 1e-5
) -> Tensor:
    """Distance of the features' cross-correlation from the identity, L_TF of Eq. 5: Barlow Twins' loss over P.

    1/P * [ sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2 ],  C = Z1^T Z2 / B of (P, P),

    with Z standardised over the batch. The official training code has this times 1/4, its zero-shot code times 1/2.

    Args:
        first, second: projected embeddings of two views of the same reports, (B, P), B > 1, float32 or float64. Shift
            and scale of a feature do not matter.
        off_diagonal: lambda, 5.1e-3 in paper and official code.
        squared: False takes Eq. 5 as printed, with C_ij instead of its square: unbounded below.
        eps: > 0, added to the variances; the official BatchNorm's, the equation has none.

    Returns:
        A scalar, >= 0 if squared.
    """
    z1, z2 = (F.batch_norm(z, None, None, training=True, eps=eps) for z in (first, second))  # (B, P)
    batch, width = z1.shape
    return distance_from_identity(z1, z2, batch, off_diagonal, squared) / width


def text_text_alignment(
    first: Tensor,
    second: Tensor,
    off_diagonal: float = 0.0051,
    *,
    squared: bool = True,
    standardize: Standardization = "features",
    eps: float = 1e-5,
) -> Tensor:
    """Distance of the reports' cross-correlation from the identity, L_TT of Eq. 6.

    1/B * [ sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2 ],  C of (B, B):

    =========== ==================================== ==================== ========================================
    standardize Z has mean 0 and variance 1          C                    reading
    =========== ==================================== ==================== ========================================
    features    in each report, over its P features  Z1 Z2^T / P          Eq. 6: C_ij in [-1, 1]
    batch       in each feature, over the batch      Z1 Z2^T / B          official code: C_ii is about P / B for
                                                                          views that agree
    =========== ==================================== ==================== ========================================

    The official training code has the second form times 1/200, its zero-shot code times 1/100.

    Args:
        first, second: projected embeddings of two views of the same reports, (B, P), B > 1, float32 or float64. Shift
            and scale of a report ("features") or of a feature ("batch") do not matter.
        off_diagonal: lambda, 5.1e-3 in paper and official code.
        squared: False takes Eq. 6 as printed, with C_ij instead of its square: unbounded below.
        standardize: the axis over which Z is standardised (see the table).
        eps: > 0, added to the variances; the official BatchNorm's, the equation has none.

    Returns:
        A scalar, >= 0 if squared.

    Raises:
        ValueError: `standardize` is neither of the two.
    """
    batch, width = first.shape
    match standardize:
        case "features":
            z1, z2 = (F.layer_norm(z, (width,), eps=eps) for z in (first, second))  # (B, P)
            divisor = width
        case "batch":
            z1, z2 = (F.batch_norm(z, None, None, training=True, eps=eps) for z in (first, second))  # (B, P)
            divisor = batch
        case _:
            raise ValueError(f"standardize must be features or batch, not {standardize!r}")
    return distance_from_identity(z1.mT, z2.mT, divisor, off_diagonal, squared) / batch

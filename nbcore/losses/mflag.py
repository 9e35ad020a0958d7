"""M-FLAG's two losses (Liu et al., MICCAI 2023, Sect. 2.2).

Shapes: B batch, N width of the image feature z_v, P width of the space in which image and report are aligned.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Normalization = Literal["none", "row", "column", "pearson"]


def alignment_loss(image: Tensor, text: Tensor, weight: float = 1.0) -> Tensor:
    """Squared distance of matched, normalised embeddings, Eq. 2: mean_b || z_a / |z_a| - z_t / |z_t| ||^2 = 2 - 2 cos.

    Args:
        image: projected image embeddings z_a, (B, P).
        text: report embeddings z_t, (B, P).
        weight: the paper has 1; the official code adds the term twice, which is 2.

    Returns:
        A scalar in [0, 4 * weight].
    """
    cosine = F.cosine_similarity(image, text, dim=1)  # (B,)
    return weight * (2 - 2 * cosine).mean()


def orthogonality_loss(
    features: Tensor,
    normalize: Normalization = "none",
    off_diagonal: float = 0.0051,
    half: bool = True,
) -> Tensor:
    """Distance of the features' correlation matrix from the identity, Eq. 3.

    h * [ sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2 ],  with h = 1/2 if `half` else 1 and C of (N, N).

    The paper normalises z_v without saying along which axis; the official code does not normalise at all:

    ========== ============================================ =======================================
    normalize  C                                            reading
    ========== ============================================ =======================================
    none       Z^T Z / B, the second moment                 official code; the default
    row        Z^T Z, each image of unit length             Eq. 3, norm per sample: trace C is B
    column     Z^T Z, each feature of unit length           Eq. 3, norm per feature: C_ii is 1
    pearson    as column, each feature centred before       Eq. 3, "empirical correlation matrix"
    ========== ============================================ =======================================

    With `off_diagonal=1` and N > B the loss cannot fall below N^2 / B - N (Welch) once C_ii = 1, so it would drown
    the alignment at the paper's N = 2048, B = 128; hence the official weight 0.0051.

    C is never formed when B < N: sum_ij C_ij^2 is the squared norm of the (B, B) Gram matrix as well, and C_ii needs
    column sums only.

    Args:
        features: z_v, pooled image features, (B, N).
        normalize: the reading of Eq. 3 (see the table).
        off_diagonal: weight of the squared off-diagonal entries; the paper has 1, the official code 0.0051.
        half: multiply by 1/2, as the official code does and the paper does not.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: `normalize` is none of the four readings.
    """
    diagonal, total = _diagonal_and_square_sum(_normalized(features, normalize))
    loss = (1 - diagonal).square().sum() + off_diagonal * (total - diagonal.square().sum())
    return loss / 2 if half else loss


def _normalized(features: Tensor, normalize: Normalization) -> Tensor:
    """Scale Z so that Z^T Z is the matrix C that `normalize` names; (B, N) -> (B, N)."""
    match normalize:
        case "none":
            return features / features.shape[0] ** 0.5
        case "row":
            return F.normalize(features, dim=1)
        case "column":
            return F.normalize(features, dim=0)
        case "pearson":
            return F.normalize(features - features.mean(dim=0), dim=0)
        case _:
            raise ValueError(f"normalize must be none, row, column or pearson, not {normalize!r}")


def _diagonal_and_square_sum(z: Tensor) -> tuple[Tensor, Tensor]:
    """Of C = Z^T Z: its diagonal (N,) and sum_ij C_ij^2, through the smaller of Z^T Z and Z Z^T."""
    batch, width = z.shape
    gram = z @ z.T if batch < width else z.T @ z
    return z.square().sum(dim=0), torch.linalg.vector_norm(gram).square()

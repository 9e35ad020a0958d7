"""Contrastive losses on in-batch pairs.

Shapes: B batch, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE with in-batch negatives (van den Oord et al., 2018; CLIP's form): mean of both directions.

    Args:
        first, second: matched embeddings, (B, D); row i of one belongs to row i of the other. Normalised here.
        temperature: > 0, divides the cosines.

    Returns:
        A scalar >= 0; log B for embeddings that say nothing.
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature  # (B, B)
    return sum(both_directions(logits)) / 2


def matched_nce(first: Tensor, second: Tensor, labels: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric InfoNCE in which all pairs of one label belong together: mean of both directions.

    MedCLIP's semantic matching (Wang et al., EMNLP 2022), for labels that are equal or not: a picture is not driven
    from a caption that would describe it as well.

    Args:
        first, second: embeddings, (B, D); row i of one belongs to all rows of the other that have its label.
        labels: of the rows, (B,).
        temperature: > 0, divides the cosines.

    Returns:
        A scalar >= 0; log B for embeddings that say nothing. `info_nce` where no two rows have the same label.
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature  # (B, B)
    same = (labels[:, None] == labels).to(logits.dtype)
    targets = same / same.sum(dim=1, keepdim=True)  # (B, B), symmetric but for rounding
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def both_directions(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the diagonal of (B, B) along its rows, and along its columns: two scalars >= 0."""
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)

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


def both_directions(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the diagonal of (B, B) along its rows, and along its columns: two scalars >= 0."""
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)

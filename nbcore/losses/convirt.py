"""ConVIRT's contrastive loss (Zhang et al., 2020).

Shapes: B batch, D width.
"""

import torch.nn.functional as F
from torch import Tensor

from nbcore.losses.contrastive import both_directions


def convirt_loss(image: Tensor, report: Tensor, weight: float = 0.75, temperature: float = 0.1) -> Tensor:
    """InfoNCE in either direction, weighed: weight * l(image -> report) + (1 - weight) * l(report -> image).

    The ConVIRT baseline of MGCA's repository is the plain sum of the directions at temperature 0.07: twice this loss
    with `weight=0.5, temperature=0.07` (which is `contrastive.info_nce`).

    Args:
        image, report: matched embeddings, (B, D); row i of one belongs to row i of the other. Normalised here.
        weight: of the direction image to report, in [0, 1].
        temperature: > 0, divides the cosines.

    Returns:
        A scalar >= 0; log B for embeddings that say nothing.
    """
    logits = F.normalize(image, dim=1) @ F.normalize(report, dim=1).T / temperature  # (B, B)
    to_report, to_image = both_directions(logits)
    return weight * to_report + (1 - weight) * to_image

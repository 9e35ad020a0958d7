"""Fully supervised training of an image encoder on findings: the upper reference of the pre-training studies.

Shapes: B batch, C findings.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nbcore.models.vision import VisionEncoder


class Supervised(nn.Module):
    """An image encoder with one linear layer, trained on binary cross-entropy over all findings."""

    def __init__(self, vision: VisionEncoder, classes: int):
        super().__init__()
        self.vision = vision
        self.head = nn.Linear(vision.width, classes)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean binary cross-entropy, "total", of "image" (B, 1, H, W) against "labels" (B, C) in {0, 1}."""
        return {"total": F.binary_cross_entropy_with_logits(self.logits(batch["image"]), batch["labels"])}

    def logits(self, images: Tensor) -> Tensor:
        """Scores of the findings, (B, 1, H, W) -> (B, C)."""
        return self.head(self.vision.global_features(images))

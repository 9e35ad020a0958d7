"""Contrastive pre-training of vision-language models, for the stand-ins.

Shapes: B batch, H x W image, L word pieces, D width shared by image and text.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nbcore.losses.contrastive import matched_nce
from nbcore.models.clip import VisionLanguage


class ImageText(nn.Module):
    """Both towers of `model`, trained so that pictures and captions of one class meet."""

    def __init__(self, model: VisionLanguage):
        super().__init__()
        self.model = model.requires_grad_(True)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """`matched_nce` at the model's own temperature, of `image` (B, 3, H, W), normalised, `ids` (B, L) and `label`
        (B,)."""
        images = self.model.image_features(batch["image"])  # (B, D)
        texts = _texts(self.model, batch["ids"])  # (B, D)
        return {"total": matched_nce(images, texts, batch["label"], 1 / self.model.logit_scale)}


class LockedImageText(nn.Module):
    """The text tower of `model` alone, tuned to images that stay what they are (LiT; Zhai et al., CVPR 2022)."""

    def __init__(self, model: VisionLanguage):
        super().__init__()
        self.model = model.requires_grad_(True)  # what sees images gets no gradient, as features are given

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """As of `ImageText`, of the images' `features` (B, D), `ids` (B, L) and `label` (B,)."""
        texts = _texts(self.model, batch["ids"])  # (B, D)
        return {"total": matched_nce(batch["features"], texts, batch["label"], 1 / self.model.logit_scale)}


class ImageClassifier(nn.Module):
    """The image tower of `model` under a linear classifier of its features, as encoders are before they meet texts."""

    def __init__(self, model: VisionLanguage, classes: int):
        super().__init__()
        self.model = model.requires_grad_(True)
        self.head = nn.Linear(model.width, classes)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of `image` (B, 3, H, W), normalised, and `label` (B,)."""
        return {"total": F.cross_entropy(self.head(self.model.image_features(batch["image"])), batch["label"])}


def _texts(model: VisionLanguage, ids: Tensor) -> Tensor:
    """Features of texts (B, L), without a pass over what pads every row: (B, D)."""
    longest = int(model.token_mask(ids).sum(dim=1).max())
    return model.encode_tokens(ids[:, :longest])

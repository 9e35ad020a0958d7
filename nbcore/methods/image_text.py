"""Contrastive pre-training of a whole vision-language model, for the stand-ins.

Shapes: B batch, H x W image, L word pieces.
"""

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
        longest = int(self.model.token_mask(batch["ids"]).sum(dim=1).max())  # no pass over what pads every row
        images = self.model.image_features(batch["image"])  # (B, D)
        texts = self.model.encode_tokens(batch["ids"][:, :longest])  # (B, D)
        return {"total": matched_nce(images, texts, batch["label"], 1 / self.model.logit_scale)}

"""What the methods that pre-train from image-report pairs have in common.

Shapes: B batch, H x W image, L word pieces, P width of the aligned space.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbcore.config import TrainConfig, Variants
from nbcore.data.batches import Augmentation, prepare
from nbcore.models.text import TextEncoder
from nbcore.models.vision import VisionEncoder


class PairConfig(Variants, TrainConfig):
    """What every such method is told; each gives the fields its paper's values, with their source."""

    vision: str
    vision_weights: str | None
    text_model: str
    image_size: int  # side of the crop, pixels
    resize: int  # side of the stored image, pixels
    max_length: int  # word pieces of a report
    augmentation: Augmentation

    @property
    def encoder_options(self) -> dict[str, Any]:
        """Arguments of `vision_encoder` that the method sets."""
        return {}

    @property
    def text_options(self) -> dict[str, Any]:
        """Arguments of `text_encoder` that the method sets."""
        return {"trainable_layers": "all"}

    @property
    def reads(self) -> Sequence[str]:
        """Languages of the reports to learn from; empty for a method that has no say in it."""
        return ()

    @property
    def language_stage(self) -> TrainConfig | None:
        """How the language model is extended to a second language before the pairs are seen; None: it is not."""
        return None

    @property
    def caches_text(self) -> bool:
        """Whether every report has one embedding for the whole of training, computed once."""
        return False


class PairMethod(nn.Module):
    """A method with an image encoder `vision` and a language model `text`.

    Args:
        config: the method's own.
        vision: the image encoder.
        text_width: of the language model.
        text: the language model, or None where `config.caches_text`.
    """

    def __init__(self, config: PairConfig, vision: VisionEncoder, text_width: int, text: TextEncoder | None):
        super().__init__()
        self.config, self.vision, self.text, self.text_width = config, vision, text, text_width

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named scalars; "total" is minimised."""
        raise NotImplementedError

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors of images in the aligned space, (B, 1, H, H) in [-1, 1] -> (B, P)."""
        raise NotImplementedError

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors of texts in the aligned space, (B, L), (B, L) -> (B, P)."""
        raise NotImplementedError

    def embed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Unit vectors of images and reports in the aligned space, (B, P) each."""
        return self.embed_images(batch["image"]), self.embed_texts(batch["ids"], batch["mask"])

    def text_columns(self, reports: Sequence[str]) -> dict[str, Tensor]:
        """The reports as aligned tensors, once for the whole of training: "ids" and "mask", (n, L)."""
        ids, mask = self.text.tokenize(reports, self.config.max_length)
        return {"ids": ids.int(), "mask": mask.bool()}

    def augment(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Training batch -> what `losses` takes: pictures cropped, augmented, in [-1, 1]."""
        config = self.config
        return {**batch, "image": prepare(batch["image"], config.image_size, config.augmentation, generator)}


def trimmed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Word pieces and mask as int64, cut to the longest report of the batch: (B, L) each."""
    longest = int(mask.sum(dim=1).max())
    return ids[:, :longest].long(), mask[:, :longest].long()

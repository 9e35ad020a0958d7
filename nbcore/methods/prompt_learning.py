"""What CoOp, CoCoOp, KgCoOp and BiomedCoOp share: context words learnt through a frozen vision-language model.

Shapes: B images, H x W pixels, C classes, M context words, d word width, D width shared by image and text.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import TrainConfig
from nbcore.errors import UsageError
from nbcore.losses.prompts import cosine_logits
from nbcore.methods.prompted import FrozenBackbone
from nbcore.models.clip import VisionLanguage
from nbcore.models.prompts import Position


class PromptConfig(TrainConfig):
    """How context words are learnt from few images: K-MaT's protocol (Sect. 3.1), for the methods beside it as well."""

    context_length: int = Field(4, ge=1, description="K-MaT, Sect. 3.1; read where `context_init` is None")
    context_init: str | None = Field(None, description="words to start from; None: N(0, 0.02^2), K-MaT, Sect. 3.1")
    position: Position = Field("end", description="of the class name; K-MaT, Sect. 2.1")
    class_specific: bool = Field(False, description="code of CoOp: one context for all classes")
    augmentation: Literal["none", "crop"] = Field(
        "none", description="ours: features are computed once; code of BiomedCoOp: random resized crops"
    )

    epochs: int = Field(50, ge=1, description="K-MaT, Sect. 3.1")
    batch_size: int = Field(4, ge=1, description="K-MaT, Sect. 3.1")
    optimizer: Literal["adamw", "sgd"] = Field("sgd", description="K-MaT, Sect. 3.1")
    momentum: float = Field(0.9, ge=0, lt=1, description="code of CoOp and its kin")
    weight_decay: float = Field(5e-4, ge=0, description="code of CoOp and its kin")
    learning_rate: float = Field(0.0025, gt=0, description="K-MaT, Sect. 3.1")
    schedule: Literal["constant", "epoch_cosine"] = Field("epoch_cosine", description="K-MaT, Sect. 3.1")
    warmup_epochs: int = Field(1, ge=0, description="K-MaT, Sect. 3.1")
    warmup_lr: float = Field(1e-5, ge=0, description="code of CoOp and its kin")


class PromptLearner(FrozenBackbone):
    """Class prompts `[first] v_1 ... v_M name . [last]` whose context words v are learnt from labelled images.

    Only what is learnt is a parameter and in the `state_dict`: the backbone is neither.

    Args:
        backbone: the frozen vision-language model.
        names: of the C classes, in words.
        config: see `PromptConfig`.
        generator: of the random start, on the CPU.

    Attributes:
        context: v, (M, d), or (C, M, d) where every class has its own.

    Raises:
        UsageError: no class, or a start without words.
    """

    def __init__(
        self, backbone: VisionLanguage, names: Sequence[str], config: PromptConfig, generator: torch.Generator
    ):
        super().__init__(backbone)
        self.config = config
        self.context = nn.Parameter(context_start(backbone, len(names), config, generator))
        self.prompts = backbone.prompts(names, self.context.shape[-2], config.position)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The objective on one batch.

        Args:
            batch: "label" (B,), and "features" (B, D), image features computed before, or "image" (B, 3, H, W),
                normalised.

        Returns:
            See `objective`.

        Raises:
            UsageError: the batch has neither features nor images.
        """
        features = self.image_features(batch)
        return self.objective(features, self.class_features(features), batch["label"])

    def image_features(self, batch: dict[str, Tensor]) -> Tensor:
        """Features of the images of a batch, not L2-normalised, without gradient, (B, D); errors as of `losses`."""
        if "features" in batch:
            return batch["features"]
        if "image" not in batch:
            raise UsageError("a batch of prompt learning needs one of features and image.")
        with torch.no_grad():
            return self.backbone.image_features(batch["image"])

    def text_features(self) -> Tensor:
        """Features of the classes' prompts, not L2-normalised, (C, D)."""
        return self.prompts.features(self.context)

    def class_features(self, features: Tensor) -> Tensor:
        """What images with these features (B, D) are compared with: (C, D), or (B, C, D) if it depends on the image."""
        return self.text_features()

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes for image features, (B, D) -> (B, C)."""
        return self._logits(features, self.class_features(features))

    def objective(self, images: Tensor, texts: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses as functions of the features.

        Args:
            images: image features, (B, D).
            texts: text features of the classes, (C, D), or of each image, (B, C, D).
            labels: position of each image's class, (B,).

        Returns:
            Scalars: "cross_entropy", the weighted `regularisers`, and their sum "total", which is minimised.
        """
        with torch.autocast(images.device.type, enabled=False):  # the losses are taken in full precision
            images, texts = images.to(self.context.dtype), texts.to(self.context.dtype)
            logits = self._logits(images, texts)  # (B, C)
            losses = {"cross_entropy": F.cross_entropy(logits, labels), **self.regularisers(images, texts, logits)}
            losses["total"] = sum(losses.values())
        return losses

    def regularisers(self, images: Tensor, texts: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Weighted losses beside the cross-entropy, by name; one of weight 0 is left out.

        Args:
            images: image features, (B, D).
            texts: text features, (C, D).
            logits: (B, C).
        """
        return {}

    def _logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """Scores of the classes in the context's own precision, (B, D), (C, D) or (B, C, D) -> (B, C)."""
        dtype = self.context.dtype
        with torch.autocast(images.device.type, enabled=False):
            return cosine_logits(images.to(dtype), texts.to(dtype), self.backbone.logit_scale)


def context_start(backbone: VisionLanguage, classes: int, config: PromptConfig, generator: torch.Generator) -> Tensor:
    """The context before training, (M, d), or (C, M, d); given words are the same for every class."""
    own = (classes,) if config.class_specific else ()
    if config.context_init is not None:
        return backbone.context(config.context_init).repeat(*own, 1, 1)  # (M, d) or (C, M, d)
    like = backbone.logit_scale
    context = torch.empty(*own, config.context_length, backbone.context_width, dtype=like.dtype)
    return context.normal_(0, 0.02, generator=generator).to(like.device)

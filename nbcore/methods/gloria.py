"""GLoRIA: global and word-by-region contrastive learning (Huang et al., ICCV 2021).

Shapes: B batch, S regions, L word pieces, W words, D width of the language model.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import Variant
from nbcore.data.batches import Augmentation
from nbcore.losses.gloria import Aggregate, global_loss, local_loss
from nbcore.methods.pairs import PairConfig, PairMethod, trimmed
from nbcore.models.text import TextEncoder
from nbcore.models.vision import VisionEncoder
from nbcore.models.words import aggregate_words, continuing_pieces, word_segments


class Config(PairConfig):
    """What GLoRIA is trained with: the official code's values (its paper is not among the five)."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    variant: Variant = Field("recommended", description="code; there is one reading")
    vision: str = Field("resnet50", description="code")
    vision_weights: str | None = Field("timm/resnet50.tv_in1k", description="code: torchvision's ImageNet weights V1")
    upsample: int | None = Field(299, description="code")
    region_stage: int = Field(3, ge=1, le=4, description="code: regions are the positions of a ResNet's layer 3")
    text_model: str = Field("emilyalsentzer/Bio_ClinicalBERT", description="code")
    summed_layers: int = Field(4, ge=1, description="code: states of the last layers are added up")
    global_temperature: float = Field(10.0, gt=0, description="code: temp3; multiplies")
    attention_temperature: float = Field(4.0, gt=0, description="code: temp1; multiplies")
    word_temperature: float = Field(5.0, gt=0, description="code: temp2; multiplies")
    aggregate: Aggregate = Field("sum", description="code")
    image_size: int = Field(224, gt=0, description="code")
    resize: int = Field(256, gt=0, description="code")
    max_length: int = Field(97, gt=0, description="code: word pieces of a report")
    augmentation: Augmentation = Field("crop", description="code: a random crop")
    epochs: int = Field(50, gt=0, description="code")
    batch_size: int = Field(48, gt=1, description="code")
    learning_rate: float = Field(5e-5, gt=0, description="code; constant here, halved on plateaus there")
    weight_decay: float = Field(1e-6, ge=0, description="code")
    clip_norm: float | None = Field(0.25, gt=0, description="code")
    precision: Literal["no", "bf16", "fp16"] = Field("fp16", description="code")

    @property
    def encoder_options(self) -> dict[str, Any]:
        return {"upsample": self.upsample, "region_stage": self.region_stage}


class Gloria(PairMethod):
    """Image encoder with one linear layer for pictures and one for regions, into the space of the language model."""

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder):
        super().__init__(config, vision, text_width, text)
        self.image_projector = nn.Linear(vision.width, text_width)
        self.region_projector = nn.Linear(vision.region_width, text_width, bias=False)  # a 1 x 1 convolution
        self.register_buffer("continues", continuing_pieces(text.tokenizer), persistent=False)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Global and local InfoNCE, both directions each.

        Args:
            batch: "image" (B, 1, H, H) in [-1, 1], "ids" and "mask" (B, L).

        Returns:
            "global", "local" and their sum "total".
        """
        config = self.config
        ids, piece_mask = trimmed(batch["ids"], batch["mask"])
        image = self.vision.regions(batch["image"])
        report = self.text.pieces(ids, piece_mask, config.summed_layers)
        segments = word_segments(ids, piece_mask, self.continues)
        words, _, mask = aggregate_words(report.states, report.attention, segments)  # (B, W, D)
        regions = self.region_projector(image.local)  # (B, S, D)
        with torch.autocast(regions.device.type, enabled=False):
            image_global = self.image_projector(image.pooled.float())
            losses = {
                "global": sum(global_loss(image_global, report.report.float(), config.global_temperature)),
                "local": sum(
                    local_loss(
                        regions.float(),
                        words.float(),
                        mask,
                        config.attention_temperature,
                        config.word_temperature,
                        config.global_temperature,
                        config.aggregate,
                    )
                ),
            }
        losses["total"] = sum(losses.values())
        return losses

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.image_projector(self.vision.global_features(images)), dim=1)

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        report = self.text.pieces(*trimmed(ids, mask), self.config.summed_layers).report
        return F.normalize(report, dim=1)

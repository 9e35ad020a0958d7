"""ConVIRT: contrastive learning of images and sentences of their reports (Zhang et al., MLHC 2022).

Shapes: B batch, n reports, M sentences of a report, L word pieces of a sentence, D width of the language model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import Variant
from nbcore.data.batches import Augmentation
from nbcore.losses.convirt import convirt_loss
from nbcore.methods.pairs import PairConfig, PairMethod, trimmed
from nbcore.models.heads import mlp_projector
from nbcore.models.text import TextEncoder, Trainable
from nbcore.models.vision import VisionEncoder

_IN_MGCA: dict[str, Any] = {  # the baseline of MGCA's repository: its own encoders, heads and loader
    "sentences": False,
    "pooling": "cls",
    "head": "mgca",
    "projector_width": 128,
    "weight": 0.5,  # the code adds the directions, which is twice this
    "temperature": 0.07,
    "trained_layers": "all",
    "text_layers": 6,
    "upsample": 299,
    "augmentation": "crop",
    "learning_rate": 2e-5,
    "weight_decay": 0.05,
    "schedule": "warmup_cosine",
    "warmup_fraction": 0.4,
    "min_lr": 1e-8,
    "batch_size": 72,
    "processes": 2,
    "epochs": 50,
}


class Config(PairConfig):
    """What ConVIRT is trained with. Defaults are its paper's values; "official" is the form in MGCA's repository."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"official": _IN_MGCA}

    variant: Variant = Field("recommended", description="its paper; official: as MGCA's repository runs it")
    vision: str = Field("resnet50", description="its paper")
    vision_weights: str | None = Field("timm/resnet50.tv_in1k", description="its paper: ImageNet weights")
    upsample: int | None = Field(None, description="MGCA's code: 299")
    text_model: str = Field("emilyalsentzer/Bio_ClinicalBERT", description="its paper")
    text_layers: int | None = Field(None, gt=0, description="MGCA's code: the first 6 of 12 layers")
    trained_layers: Trainable = Field(6, description="its paper: the last 6 of 12 layers; MGCA's code: all")
    sentences: bool = Field(True, description="its paper: one random sentence of the report a step")
    pooling: Literal["max", "cls"] = Field("max", description="its paper: maximum over the word pieces")
    head: Literal["convirt", "mgca"] = Field("convirt", description="its paper: Linear-ReLU-Linear")
    projector_hidden: int = Field(2048, gt=0, description="of MGCA's head; its own has the width of its output")
    projector_width: int = Field(512, gt=0, description="its paper")
    weight: float = Field(0.75, ge=0, le=1, description="its paper: lambda, of the direction image to text")
    temperature: float = Field(0.1, gt=0, description="its paper: tau")
    image_size: int = Field(224, gt=0, description="its paper")
    resize: int = Field(256, gt=0, description="ours")
    max_length: int = Field(112, gt=0, description="MGCA's code: word pieces")
    augmentation: Augmentation = Field("convirt", description="its paper")
    epochs: int = Field(50, gt=0, description="MGCA's code; its paper stops on validation loss")
    batch_size: int = Field(32, gt=1, description="its paper")
    learning_rate: float = Field(1e-4, gt=0, description="its paper; constant here, halved on plateaus there")
    weight_decay: float = Field(1e-6, ge=0, description="its paper")

    @property
    def encoder_options(self) -> dict[str, Any]:
        return {"upsample": self.upsample}

    @property
    def text_options(self) -> dict[str, Any]:
        return {"trainable_layers": self.trained_layers, "layers": self.text_layers}


class Convirt(PairMethod):
    """Two encoders with a projector each; see `PairMethod` for the arguments."""

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder):
        super().__init__(config, vision, text_width, text)
        self.image_projector, self.text_projector = self._projector(vision.width), self._projector(text_width)

    def _projector(self, width: int) -> nn.Module:
        out = self.config.projector_width
        if self.config.head == "mgca":
            return mlp_projector(width, self.config.projector_hidden, out)
        return nn.Sequential(nn.Linear(width, out), nn.ReLU(inplace=True), nn.Linear(out, out))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted InfoNCE of images and texts, "total".

        Args:
            batch: "image" (B, 1, H, H) in [-1, 1], "ids" and "mask" (B, L).
        """
        image = self._project_images(batch["image"])
        text = self._project_texts(batch["ids"], batch["mask"])
        return {"total": convirt_loss(image.float(), text.float(), self.config.weight, self.config.temperature)}

    def _pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.config.pooling == "cls":
            return self.text(ids, mask)
        states = self.text.pieces(ids, mask).states  # (B, L, D)
        return states.masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1)

    def _project_images(self, images: Tensor) -> Tensor:
        return self.image_projector(self.vision.global_features(images))

    def _project_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.text_projector(self._pooled(*trimmed(ids, mask)))

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self._project_images(images), dim=1)

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self._project_texts(ids, mask), dim=1)

    def text_columns(self, reports: Sequence[str]) -> dict[str, Tensor]:
        """Word pieces (n, L); with `sentences`, those of each sentence, (n, M, L), and how many there are, (n,)."""
        if not self.config.sentences:
            return super().text_columns(reports)
        split = [report.split("\n") for report in reports]
        whole = super().text_columns([sentence for sentences in split for sentence in sentences])
        counts = torch.tensor([len(sentences) for sentences in split])
        most, starts = int(counts.max()), counts.cumsum(0) - counts
        rows = starts[:, None] + torch.arange(most).minimum(counts[:, None] - 1)  # (n, M); the last one fills up
        return {**{name: values[rows] for name, values in whole.items()}, "sentences": counts}

    def augment(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        batch = super().augment(batch, generator)
        if not self.config.sentences:
            return batch
        counts = batch.pop("sentences")
        drawn = torch.rand(len(counts), generator=generator, device=generator.device).to(counts.device)
        chosen = (drawn * counts).long()
        rows = torch.arange(len(counts), device=counts.device)
        return {**batch, **{name: batch[name][rows, chosen] for name in ("ids", "mask")}}

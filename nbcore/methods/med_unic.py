"""Med-UniC: cross-lingual pre-training from English and Spanish image-report pairs (Wan et al., NeurIPS 2023).

Shapes: B batch, H side of a picture, L word pieces, D width of the language model, P width of the aligned space,
Q width of the space in which reports are decorrelated (the paper's D').
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from nbcore.config import Variant
from nbcore.data.batches import Augmentation, prepare
from nbcore.data.vocabulary import Ranking
from nbcore.losses.contrastive import info_nce
from nbcore.losses.med_unic import (
    Standardization,
    self_supervised_alignment,
    text_feature_alignment,
    text_text_alignment,
)
from nbcore.methods.cross_lingual import CrossLingualConfig
from nbcore.methods.pairs import PairConfig, PairMethod, trimmed
from nbcore.models.heads import mlp_projector
from nbcore.models.text import TextEncoder, Trainable
from nbcore.models.vision import VisionEncoder

Language = Literal["en", "es"]

# What each variant sets where the user does not; the fields' own defaults are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "symmetric_ssv": False,  # Eq. 4
        "squared": False,  # Eq. 5 and 6 as printed, unbounded below
        "second_augmentation": "med_unic_paper",  # App. C.2
    },
    "official": {
        "tf_weight": 1 / 4,  # the training code's constants; 1/2 and 1/100 in its zero-shot code
        "tt_weight": 1 / 200,  # with the loss `unified_loss_total`; `unified_loss` leaves TT out
        "standardize": "batch",
        "ctr_width": 512,
        "frozen_dropout": True,
        "mlm_ranking": "document_frequency",
        "epochs": 101,  # range(0, max_epochs + 1) with max_epochs 100
        "batch_size": 32,  # 128 divided by the accumulation
        "accumulate": 4,
        "processes": 1,  # 8 GPUs, but each of them is given the same batches
        "clip_norm": 1 / 4,  # of the mean of 4 gradients; the code clips their sum to 1
        "schedule": "cosine_restarts",
        "restart_fraction": 5 / 101,  # T_0 is 5 epochs: meant as 0.4 of all steps, computed for the data of 8 GPUs
    },
}


class Config(PairConfig):
    """What Med-UniC is trained with. Defaults are the paper's values; where it is silent, or its equations are
    misprinted, the official code's (each field says which). `variant` sets the switches of `VARIANTS` not given.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: which reading of paper and code; see VARIANTS")

    vision: str = Field("resnet50", description="Sect. 4.1; the other backbones are ViT-B/16 and ViT-L/32")
    vision_weights: str | None = Field(
        "timm/resnet50.tv_in1k", description="code: ImageNet weights; neither says which"
    )
    text_model: str = Field("microsoft/BiomedVLP-CXR-BERT-general", description="Sect. 3.2")
    trained_layers: Trainable = Field(3, description="Table 6: 9 of 12 layers frozen, with the word embeddings (code)")
    dropout: float = Field(0.1, ge=0, lt=1, description="Sect. 3.4: makes the two views; the rate is BERT's (code)")
    frozen_dropout: bool = Field(False, description="ours: no, frozen layers run once for both views; code: yes")
    projector_hidden: int = Field(2048, gt=0, description="code")
    projector_width: int = Field(512, gt=0, description="Table 9")
    ctr_width: int = Field(1024, gt=0, description="Table 9 and 14: D'; 512 in the training code")
    languages: list[Language] = Field(["en", "es"], min_length=1, description='Sect. 4.1; Table 13: ["en"]')

    temperature: float = Field(0.07, gt=0, description="Sect. 3.2: sigma_1")
    visual_temperature: float = Field(0.07, gt=0, description="Sect. 3.3: sigma_2")
    ssv_weight: float = Field(1.0, ge=0, description="Eq. 1; 0 leaves SSV out (Table 4)")
    tf_weight: float = Field(1.0, ge=0, description="Eq. 7; 0 leaves TF out (Table 12); code: 1/4")
    tt_weight: float = Field(1.0, ge=0, description="Eq. 7; 0 leaves TT out (Table 12; both: Table 4); code: 1/200")
    symmetric_ssv: bool = Field(True, description="code; Eq. 4 has one direction")
    off_diagonal: float = Field(5.1e-3, ge=0, description="Sect. 4.1: lambda")
    squared: bool = Field(True, description="code; Eq. 5 and 6 are printed without the square")
    standardize: Standardization = Field("features", description="Eq. 6; the code standardises over the batch")

    mlm: bool = Field(True, description="Sect. 3.2; false starts from the language model as published (Table 4)")
    new_words: int = Field(5153, ge=0, description="code: M, words added to the vocabulary")
    mlm_ranking: Ranking = Field("tfidf", description="Sect. 3.2; code: document frequency")
    mlm_epochs: int = Field(15, gt=0, description="Table 8")
    mlm_batch_size: int = Field(8, gt=0, description="Table 8: 1024 in all, on 8 GPUs, in 16 passes")
    mlm_accumulate: int = Field(16, gt=0, description="Table 8")
    mlm_processes: int = Field(8, gt=0, description="Table 8: 8 GPUs")
    mlm_learning_rate: float = Field(5e-4, gt=0, description="Table 8")
    mlm_warmup: float = Field(0.1, ge=0, lt=1, description="Table 8: share of the steps")
    mlm_weight_decay: float = Field(0.01, ge=0, description="code")
    mlm_rate: float = Field(0.15, gt=0, lt=1, description="Table 8: share of the word pieces that are masked")

    image_size: int = Field(224, gt=0, description="App. C.2: side of the crop, pixels")
    resize: int = Field(256, gt=0, description="App. C.2: side of the stored image, pixels")
    max_length: int = Field(256, gt=0, description="Table 9: word pieces of a report")
    augmentation: Augmentation = Field("crop", description="code: of the view that is aligned with the report")
    second_augmentation: Augmentation = Field(
        "med_unic", description="code; the paper's flip would make the sides alike, of which reports speak"
    )

    epochs: int = Field(50, gt=0, description="Table 9; its early stopping has no stated rule, here there is none")
    batch_size: int = Field(128, gt=1, description="Table 9: per GPU")
    accumulate: int = Field(2, ge=1, description="Table 9")
    processes: int = Field(16, gt=0, description="Table 9: 16 V100")
    precision: Literal["no", "bf16", "fp16"] = Field("fp16", description="Table 9")
    learning_rate: float = Field(4e-5, gt=0, description="Table 9")
    weight_decay: float = Field(0.05, ge=0, description="Table 9")
    schedule: Literal["constant", "warmup_cosine", "cosine_restarts"] = Field(
        "warmup_cosine", description="Sect. 4.1; the code has restarts and no warm-up"
    )
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="ours; the paper does not give the warm-up's length")
    min_lr: float = Field(1e-8, ge=0, description="code: eta_min")
    clip_norm: float | None = Field(1.0, gt=0, description="code")

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        still = self.dropout == 0 or (self.trained_layers == 0 and not self.frozen_dropout)
        if self.has_ctr and still:
            raise ValueError(
                "without dropout in any layer both views of a report are the same: set frozen_dropout and dropout, or "
                "tf_weight and tt_weight to 0"
            )
        return self

    @property
    def text_options(self) -> dict[str, Any]:
        return {"trainable_layers": self.trained_layers, "dropout": self.dropout}

    @property
    def reads(self) -> Sequence[str]:
        return self.languages

    @property
    def language_stage(self) -> CrossLingualConfig | None:
        if not self.mlm:
            return None
        return CrossLingualConfig(
            new_words=self.new_words,
            max_length=self.max_length,
            mask_rate=self.mlm_rate,
            epochs=self.mlm_epochs,
            batch_size=self.mlm_batch_size,
            accumulate=self.mlm_accumulate,
            processes=self.mlm_processes,
            precision=self.precision,
            learning_rate=self.mlm_learning_rate,
            weight_decay=self.mlm_weight_decay,
            warmup_fraction=self.mlm_warmup,
            checkpoint_seconds=self.checkpoint_seconds,
            threads=self.threads,
            workers=self.workers,
        )

    @property
    def has_ctr(self) -> bool:
        """Whether reports are decorrelated, which takes a second view of each."""
        return self.tf_weight > 0 or self.tt_weight > 0


def ctr_losses(config: Config, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Eq. 7 of two views of the same reports behind P_d, (B, Q) each: "tf" (Eq. 5) and "tt" (Eq. 6), weighted, in
    float32; a loss of weight 0 is left out."""
    losses = {}
    with torch.autocast(first.device.type, enabled=False):  # sums over Q^2 products overflow in half precision
        views = first.float(), second.float()
        if config.tf_weight:
            alignment = text_feature_alignment(*views, config.off_diagonal, squared=config.squared)
            losses["tf"] = config.tf_weight * alignment
        if config.tt_weight:
            losses["tt"] = config.tt_weight * text_text_alignment(
                *views, config.off_diagonal, squared=config.squared, standardize=config.standardize
            )
    return losses


class MedUnic(PairMethod):
    """Two encoders and the projectors P_v, P_l and, where there is CTR, P_d; see `PairMethod` for the arguments."""

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder):
        super().__init__(config, vision, text_width, text)
        hidden, width = config.projector_hidden, config.projector_width
        self.image_projector = mlp_projector(vision.width, hidden, width)
        self.report_projector = mlp_projector(text_width, hidden, width)
        if config.has_ctr:
            self.ctr_projector = mlp_projector(text_width, hidden, config.ctr_width)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 1 on one batch.

        Args:
            batch: "image" (B, 1, H, H) in [-1, 1], with SSV "second" (B, 1, H, H), another view of the same pictures,
                "ids" and "mask" (B, L).

        Returns:
            "cvl" (Eq. 3), "ssv" (Eq. 4), "tf" (Eq. 5) and "tt" (Eq. 6), weighted, and their sum "total"; a loss of
            weight 0 is left out.
        """
        config = self.config
        views = [batch["image"], batch["second"]] if config.ssv_weight else [batch["image"]]
        # view by view: each has its own batch statistics, as in the official code
        images = [self._project_images(view).float() for view in views]  # (B, P) each
        states = self._report_views(batch)  # (B, D) each
        report = self.report_projector(states[0]).float()  # (B, P)
        with torch.autocast(report.device.type, enabled=False):  # small temperatures want float32
            losses = {"cvl": info_nce(images[0], report, config.temperature)}
            if config.ssv_weight:
                losses["ssv"] = config.ssv_weight * self_supervised_alignment(
                    *images, config.visual_temperature, symmetric=config.symmetric_ssv
                )
        if config.has_ctr:
            losses |= ctr_losses(config, *(self.ctr_projector(state) for state in states))
        losses["total"] = sum(losses.values())
        return losses

    def _report_views(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The [CLS] states of two dropout views of the reports, or of the one that is needed, (B, D) each."""
        config, (ids, mask) = self.config, trimmed(batch["ids"], batch["mask"])
        if config.has_ctr:
            return self.text.two_views(ids, mask, frozen_dropout=config.frozen_dropout)
        if config.frozen_dropout and self.training:
            self.text.bert.train()
        return (self.text(ids, mask),)

    def _project_images(self, images: Tensor) -> Tensor:
        return self.image_projector(self.vision.global_features(images))

    def augment(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Training batch -> what `losses` takes: each stored picture becomes one view or, with SSV, two."""
        config, views = self.config, super().augment(batch, generator)
        if config.ssv_weight:
            views["second"] = prepare(batch["image"], config.image_size, config.second_augmentation, generator)
        return views

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self._project_images(images), dim=1)

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self.report_projector(self.report_states(ids, mask)), dim=1)

    def report_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The language model's [CLS] states, before any projector, (B, L), (B, L) -> (B, D)."""
        return self.text(*trimmed(ids, mask))

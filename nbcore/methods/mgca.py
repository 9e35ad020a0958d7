"""MGCA: alignment of images and reports at instance, token and prototype level (Wang et al., NeurIPS 2022).

Shapes: B batch, S regions, L word pieces, W words, P width of the aligned space, K prototypes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import Variant
from nbcore.data.batches import Augmentation
from nbcore.losses.mgca import (
    Reduction,
    attended_alignment,
    attention_weights,
    clipped_weights,
    instance_alignment,
    prototype_alignment,
    token_alignment,
)
from nbcore.methods.pairs import PairConfig, PairMethod, trimmed
from nbcore.models.heads import TokenAttention, local_projector, mlp_projector
from nbcore.models.text import TextEncoder
from nbcore.models.vision import VisionEncoder
from nbcore.models.words import aggregate_words, continuing_pieces, word_segments

Attention = Literal["plain", "learned"]

# What each variant sets where the user does not; the fields' own defaults are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "instance_temperature": 0.1,  # Sect. 4.1; the code swaps it with the next
        "token_temperature": 0.07,  # Sect. 4.1
        "attention": "learned",  # Eq. 4
        "prototype_weight": 1.0,  # Eq. 10
        "clip_weights": False,  # Eq. 5 names no clipping
    },
    "official": {
        "reduction": "sum",  # both directions of ITA and CTA are added; CPA is a mean
        "prototype_weight": 1.0,
        "mask_pads": False,
        "normalize_patch_output": False,  # in the ViT branch; the ResNet branch does
        "official_shift": True,
        "rescale_prototypes": True,
    },
}


class Config(PairConfig):
    """What MGCA is trained with. Defaults are the paper's values; where it is silent, or its values are not those that
    the released command trains with, the official code's. `variant` sets the switches of `VARIANTS` not given.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: which reading of paper and code; see VARIANTS")

    vision: str = Field("resnet50", description="Sect. 4.1; the other backbone is `transformer`")
    vision_weights: str | None = Field("timm/resnet50.tv2_in1k", description="code: torchvision's ImageNet weights V2")
    upsample: int | None = Field(299, description="code: a ResNet sees 299 pixels; a ViT the crop itself")
    region_stage: int = Field(3, ge=1, le=4, description="code: regions are the positions of a ResNet's layer 3")
    text_model: str = Field("emilyalsentzer/Bio_ClinicalBERT", description="Sect. 4.1")
    text_layers: int | None = Field(6, gt=0, description="code: the first 6 of 12 layers")
    projector_hidden: int = Field(2048, gt=0, description="code")
    projector_width: int = Field(128, gt=0, description="Sect. 4.1: d")

    instance_weight: float = Field(1.0, ge=0, description="Eq. 10: lambda_1")
    token_weight: float = Field(1.0, ge=0, description="Eq. 10: lambda_2; 0 leaves CTA out")
    prototype_weight: float = Field(
        0.5, ge=0, description="code: half as strong as the others, which are sums there; Eq. 10: 1; 0 leaves CPA out"
    )
    reduction: Reduction = Field("mean", description="Eq. 3 and 6; the code adds the directions")
    instance_temperature: float = Field(0.07, gt=0, description="code; the paper has 0.1")
    token_temperature: float = Field(0.1, gt=0, description="code; the paper has 0.07")
    attention: Attention = Field("plain", description="code; the paper's Eq. 4 has learned matrices")
    attention_temperature: float = Field(0.1, gt=0, description="code: of the plain attention")
    clip_weights: bool = Field(True, description="code: token weights clipped to their 10 and 90 % quantiles")
    official_shift: bool = Field(False, description="ours: no; the code gives each word the next one's weight")
    mask_pads: bool = Field(True, description="ours: padding is no negative; in the code it is")
    normalize_patch_output: bool = Field(True, description="Eq. 5: cosines; the code forgets it for a ViT")
    prototypes: int = Field(500, gt=1, description="Sect. 4.1: K")
    prototype_temperature: float = Field(0.2, gt=0, description="Sect. 4.1: tau_3")
    sinkhorn_epsilon: float = Field(0.05, gt=0, description="code")
    sinkhorn_iterations: int = Field(3, ge=1, description="code")
    rescale_prototypes: bool = Field(
        False, description="ours: normalised in Eq. 7; the code overwrites them with unit rows before every step"
    )
    freeze_prototypes: int = Field(1, ge=0, description="code: epochs before the prototypes learn")

    image_size: int = Field(224, gt=0, description="code: side of the crop, pixels")
    resize: int = Field(256, gt=0, description="code: side of the stored image, pixels")
    max_length: int = Field(112, gt=0, description="code: word pieces of a report")
    augmentation: Augmentation = Field("crop", description="code: a random crop")

    epochs: int = Field(50, gt=0, description="Sect. 4.1")
    batch_size: int = Field(72, gt=1, description="Sect. 4.1: 144 on two GPUs")
    processes: int = Field(2, gt=0, description="Sect. 4.1: two RTX 3090")
    learning_rate: float = Field(2e-5, gt=0, description="Sect. 4.1")
    weight_decay: float = Field(0.05, ge=0, description="Sect. 4.1")
    schedule: Literal["constant", "warmup_cosine", "cosine_restarts"] = Field("warmup_cosine", description="Sect. 4.1")
    warmup_fraction: float = Field(0.4, ge=0, lt=1, description="Sect. 4.1: 20 of 50 epochs")
    min_lr: float = Field(1e-8, ge=0, description="Sect. 4.1")

    @property
    def encoder_options(self) -> dict[str, Any]:
        return {"upsample": self.upsample, "region_stage": self.region_stage}

    @property
    def text_options(self) -> dict[str, Any]:
        return {"trainable_layers": "all", "layers": self.text_layers}


class Aligned(NamedTuple):
    """A batch in the aligned space; nothing is of unit length yet."""

    image: Tensor  # (B, P)
    report: Tensor  # (B, P)
    regions: Tensor  # (B, S, P)
    words: Tensor  # (B, W, P)
    region_weights: Tensor  # (B, S), sum 1
    word_weights: Tensor  # (B, W), sum 1
    mask: Tensor  # (B, W), True for words


class Mgca(PairMethod):
    """Two encoders, a global and a local projector each, and the prototypes; see `PairMethod` for the arguments."""

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder):
        super().__init__(config, vision, text_width, text)
        hidden, width = config.projector_hidden, config.projector_width
        self.image_projector = mlp_projector(vision.width, hidden, width)
        self.report_projector = mlp_projector(text_width, hidden, width)
        self.region_projector = local_projector(vision.region_width, hidden, width)
        self.word_projector = local_projector(text_width, hidden, width)
        if config.attention == "learned" and config.token_weight:
            self.region_attention, self.word_attention = TokenAttention(width), TokenAttention(width)
        if config.prototype_weight:
            self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, width), dim=1))  # (K, P)
        self.prototypes_are_frozen = False
        self.register_buffer("continues", continuing_pieces(text.tokenizer), persistent=False)

    def begin_epoch(self, epoch: int) -> None:
        """Prototypes stay where they are for the first `freeze_prototypes` epochs."""
        self.prototypes_are_frozen = epoch < self.config.freeze_prototypes

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 10 on one batch.

        Args:
            batch: "image" (B, 1, H, H) in [-1, 1], "ids" and "mask" (B, L).

        Returns:
            "ita" (Eq. 3), "cta" (Eq. 6) and "cpa" (Eq. 9), weighted, and their sum "total"; a loss of weight 0 is left
            out.
        """
        config, losses = self.config, {}
        aligned = self.align(batch)
        with torch.autocast(aligned.image.device.type, enabled=False):  # small temperatures and Sinkhorn want float32
            image, report = aligned.image.float(), aligned.report.float()
            if config.instance_weight:
                alignment = instance_alignment(image, report, config.instance_temperature, config.reduction)
                losses["ita"] = config.instance_weight * alignment
            if config.token_weight:
                losses["cta"] = config.token_weight * self._token_alignment(aligned)
            if config.prototype_weight:
                if config.rescale_prototypes:
                    with torch.no_grad():
                        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
                prototypes = self.prototypes.detach() if self.prototypes_are_frozen else self.prototypes
                losses["cpa"] = config.prototype_weight * prototype_alignment(
                    image,
                    report,
                    prototypes,
                    config.prototype_temperature,
                    config.sinkhorn_epsilon,
                    config.sinkhorn_iterations,
                    normalize_prototypes=not config.rescale_prototypes,
                )
        losses["total"] = sum(losses.values())
        return losses

    def _token_alignment(self, aligned: Aligned) -> Tensor:
        config = self.config
        regions, words = aligned.regions.float(), aligned.words.float()
        weights_and_mask = aligned.region_weights, aligned.word_weights, aligned.mask
        options = {
            "temperature": config.token_temperature,
            "mask_pads": config.mask_pads,
            "normalize_patch_output": config.normalize_patch_output or not self.vision.is_transformer,
            "reduction": config.reduction,
        }
        if config.attention == "plain":
            options["attention_temperature"] = config.attention_temperature
            return token_alignment(regions, words, *weights_and_mask, **options).loss
        attended_regions = self.region_attention(regions, words, aligned.mask)  # (B, S, P)
        attended_words = self.word_attention(words, regions)  # (B, W, P)
        return attended_alignment(regions, words, attended_regions, attended_words, *weights_and_mask, **options).loss

    def align(self, batch: dict[str, Tensor]) -> Aligned:
        """The batch of `losses` in the aligned space, with the weights of its tokens."""
        config = self.config
        ids, piece_mask = trimmed(batch["ids"], batch["mask"])
        image, report = self.vision.regions(batch["image"]), self.text.pieces(ids, piece_mask)
        segments = word_segments(ids, piece_mask, self.continues)
        words, attention, mask = aggregate_words(
            report.states, report.attention, segments, official_shift=config.official_shift
        )
        weigh = clipped_weights if config.clip_weights else _of_sum_one
        uniform = image.local.new_full(image.local.shape[:2], 1 / image.local.shape[1])  # (B, S)
        return Aligned(
            image=self.image_projector(image.pooled),
            report=self.report_projector(report.report),
            regions=self.region_projector(image.local),
            words=self.word_projector(words, mask if config.mask_pads else None),
            region_weights=uniform if image.attention is None else weigh(image.attention.float()),
            word_weights=weigh(attention.float()),
            mask=mask,
        )

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.image_projector(self.vision.global_features(images)), dim=1)

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self.report_projector(self.text(*trimmed(ids, mask))), dim=1)

    def word_maps(self, batch: dict[str, Tensor]) -> Tensor:
        """Where each word looks: what the token alignment lets it attend to, (B, W, S), rows of sum 1."""
        aligned = self.align(batch)
        if self.config.attention == "plain":
            return attention_weights(aligned.words, aligned.regions, temperature=self.config.attention_temperature)
        return self.word_attention.weights(aligned.words, aligned.regions)

    def assignments(self, features: Tensor) -> Tensor:
        """The prototype nearest to each aligned feature, (B, P) -> (B,)."""
        return (F.normalize(features, dim=1) @ F.normalize(self.prototypes, dim=1).T).argmax(dim=1)

    def words_of(self, text: str) -> Sequence[str]:
        """The words of a report as `word_maps` counts them, [SEP] last."""
        ids, _ = self.text.tokenize([text], self.config.max_length)
        words: list[str] = []
        for piece in self.text.tokenizer.convert_ids_to_tokens(ids[0].tolist())[1:]:
            if piece.startswith("##"):
                words[-1] += piece.removeprefix("##")
            else:
                words.append(piece)
        return words


def _of_sum_one(attention: Tensor) -> Tensor:
    return attention / attention.sum(dim=1, keepdim=True)

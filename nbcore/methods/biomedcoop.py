"""BiomedCoOp: CoOp, held to many descriptions of each class (Koleilat et al., CVPR 2025).

Shapes: B images, C classes, P descriptions of a class, D width shared by image and text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from nbcore.config import Variant, Variants
from nbcore.errors import UsageError
from nbcore.losses.prompts import prototypes, selective_distillation, semantic_consistency
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner
from nbcore.models.clip import VisionLanguage

_NATIVE = {"context_init": "a photo of a", "augmentation": "crop", "epochs": 100}

# What each variant sets where the user does not; the fields' own defaults, K-MaT's protocol, are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {"recommended": {}, "paper": _NATIVE, "official": _NATIVE}


class Config(Variants, PromptConfig):
    """What BiomedCoOp is trained with. `variant` sets the switches of `VARIANTS` that are not given."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: K-MaT's protocol, or BiomedCoOp's own")

    sccm_weight: float = Field(0.75, ge=0, description="code: on BUSI; 0.25 to 5 elsewhere")
    kdsp_weight: float = Field(0.75, ge=0, description="code: on BUSI; 0.25 to 20 elsewhere")
    selection_threshold: float = Field(1.5, gt=0, description="code: in standard deviations; 1.25 to 1.75")


class BiomedCoOp(PromptLearner):
    """Context words learnt by cross-entropy, SCCM and KDSP (see `losses.prompts`), from descriptions beside the images.

    The text tower stays without dropout; the official code leaves it on while training.

    Args:
        backbone, names, config, generator: as of `PromptLearner`.
        descriptions: text features of the descriptions of each class, C of (P, D), or (C, P, D). The selection goes by
            their numbers, so that all classes need as many: of each class the first P count, P being the smallest
            number that a class has.

    Raises:
        UsageError: a class has no description, or the descriptions are of another number of classes or another width.
    """

    def __init__(
        self,
        backbone: VisionLanguage,
        names: Sequence[str],
        config: Config,
        generator: torch.Generator,
        descriptions: Sequence[Tensor] | Tensor,
    ):
        super().__init__(backbone, names, config, generator)
        count = min((len(own) for own in descriptions), default=0)
        widths = {own.shape[-1] for own in descriptions}
        if len(descriptions) != len(names) or not count or widths != {backbone.width}:
            raise UsageError(
                f"descriptions of {len(descriptions)} classes, {count} or more of each, of width {sorted(widths)} do "
                f"not fit {len(names)} classes of width {backbone.width}; give every class at least one."
            )
        units = F.normalize(torch.stack([own[:count] for own in descriptions]).detach().to(self.context), dim=-1)
        self.register_buffer("descriptions", units, persistent=False)  # (C, P, D)
        self.register_buffer("means", prototypes(units), persistent=False)  # (C, D)

    def regularisers(self, images: Tensor, texts: Tensor, logits: Tensor) -> dict[str, Tensor]:
        config, losses = self.config, {}
        if config.sccm_weight:
            losses["sccm"] = config.sccm_weight * semantic_consistency(texts, self.means)
        if config.kdsp_weight:
            scale = self.backbone.logit_scale
            distilled = selective_distillation(logits, images, self.descriptions, scale, config.selection_threshold)
            losses["kdsp"] = config.kdsp_weight * distilled
        return losses

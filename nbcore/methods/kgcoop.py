"""KgCoOp: CoOp, kept close to hand-written prompts (Yao et al., CVPR 2023).

Shapes: B images, C classes, D width shared by image and text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from nbcore.config import Variant, Variants
from nbcore.errors import UsageError
from nbcore.losses.prompts import Distance, knowledge_distance
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner
from nbcore.models.clip import VisionLanguage

_NATIVE = {
    "context_init": "a photo of a",
    "augmentation": "crop",
    "epochs": 100,
    "batch_size": 128,
    "learning_rate": 0.002,
}

# What each variant sets where the user does not; the fields' own defaults are `recommended`: K-MaT's protocol with the
# distance of the code, since the published weights were found with it.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {**_NATIVE, "distance": "euclidean"},
    "official": {**_NATIVE, "knowledge_weight": 10.0},  # BiomedCoOp's repository, on BUSI; 1 to 10 elsewhere
}


class Config(Variants, PromptConfig):
    """What KgCoOp is trained with. `variant` sets the switches of `VARIANTS` that are not given."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: K-MaT's protocol, KgCoOp's paper, BiomedCoOp's port")

    knowledge_weight: float = Field(8.0, ge=0, description="KgCoOp's paper and scripts; BiomedCoOp's port: 10 on BUSI")
    distance: Distance = Field("cosine", description="code; paper: euclidean, twice as much")


class KgCoOp(PromptLearner):
    """Context words learnt by cross-entropy and by the distance of the classes' prompts from hand-written ones.

    Args:
        backbone, names, config, generator: as of `PromptLearner`.
        zero_shot: text features of hand-written prompts of the classes, (C, D).

    Raises:
        UsageError: the hand-written prompts are of another number or width.
    """

    def __init__(
        self,
        backbone: VisionLanguage,
        names: Sequence[str],
        config: Config,
        generator: torch.Generator,
        zero_shot: Tensor,
    ):
        super().__init__(backbone, names, config, generator)
        if zero_shot.shape != (len(names), backbone.width):
            raise UsageError(
                f"zero-shot features of shape {tuple(zero_shot.shape)} do not fit {len(names)} classes of width "
                f"{backbone.width}; give one row a class."
            )
        self.register_buffer("zero_shot", F.normalize(zero_shot.detach().to(self.context), dim=-1), persistent=False)

    def regularisers(self, images: Tensor, texts: Tensor, logits: Tensor) -> dict[str, Tensor]:
        weight = self.config.knowledge_weight
        if not weight:
            return {}
        return {"knowledge": weight * knowledge_distance(texts, self.zero_shot, self.config.distance)}

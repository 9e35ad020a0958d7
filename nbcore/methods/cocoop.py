"""CoCoOp: context words that every image shifts by its own vector (Zhou et al., CVPR 2022).

Shapes: B images, C classes, M context words, d word width, D width shared by image and text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import Variant, Variants
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner
from nbcore.models.clip import VisionLanguage

_REDUCTION = 16  # width of the meta-network against D
_TEXTS_AT_ONCE = 512  # bounds the memory of `scores`

# What each variant sets where the user does not; the fields' own defaults, K-MaT's protocol, are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "context_init": "a photo of a",
        "augmentation": "crop",  # and flips, which are not ours
        "epochs": 10,
        "batch_size": 1,
        "learning_rate": 0.002,
    },
    "official": {  # BiomedCoOp's repository, which has CoCoOp on BiomedCLIP
        "context_init": "a photo of a",
        "augmentation": "crop",
        "epochs": 10,
        "batch_size": 1,
        "learning_rate": 0.001,
    },
}


class Config(Variants, PromptConfig):
    """What CoCoOp is trained with. `variant` sets the switches of `VARIANTS` that are not given."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: K-MaT's protocol, CoCoOp's paper, BiomedCoOp's port")


class CoCoOp(PromptLearner):
    """Context words, and a meta-network whose answer to an image's unit feature is added to each of them.

    A prompt belongs to an image and a class; the text tower takes all B * C of a batch in one pass, where the official
    code takes those of one image at a time. `text_features` are those of the context that no image has shifted.

    Args:
        backbone, names, config: as of `PromptLearner`; D is at least 16.
        generator: of the random start of context and meta-network, on the CPU.
    """

    def __init__(self, backbone: VisionLanguage, names: Sequence[str], config: Config, generator: torch.Generator):
        super().__init__(backbone, names, config, generator)
        hidden = backbone.width // _REDUCTION
        self.meta = nn.Sequential(
            _linear(backbone.width, hidden, generator), nn.ReLU(), _linear(hidden, backbone.context_width, generator)
        ).to(self.context)
        self._images_at_once = max(1, _TEXTS_AT_ONCE // len(names))

    def class_features(self, features: Tensor) -> Tensor:
        """Text features of the classes for each image, not L2-normalised, (B, D) -> (B, C, D)."""
        shift = self.meta(F.normalize(features.to(self.context.dtype), dim=-1))  # (B, d)
        return self.prompts.features(self.context + shift[:, None, None])  # of contexts (B, 1 or C, M, d)

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes for image features, (B, D) -> (B, C), some images at a time."""
        return torch.cat([super(CoCoOp, self).scores(part) for part in features.split(self._images_at_once)])


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with the usual start, U(-1 / sqrt(inputs), 1 / sqrt(inputs)), drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer

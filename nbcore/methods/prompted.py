"""What MedUnA and LaFTer share: a frozen image encoder, a visual prompt that is learnt, and a linear adapter.

Shapes: B images, H x W pixels, N visual prompt tokens, D width shared by image and text, C classes.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import TrainConfig
from nbcore.methods.text_classifier import TextClassifierConfig
from nbcore.models.clip import VisionLanguage
from nbcore.models.medclip import PromptLayout


class AdaptationConfig(TrainConfig):
    """What both are told. Stage 1 trains the adapter on texts, Stage 2 adapter and prompt on images without labels."""

    text_templates: bool = Field(True, description="code: Stage 1 learns from photograph templates, too; paper: no")
    text_wrap: bool = Field(False, description="ours: texts as they are; code: 'a photo of a {text} chest x_ray'")
    text_iterations: int = Field(4000, ge=1, description="code: Stage 1, of every medical data set")
    text_learning_rate: float = Field(5e-4, gt=0, description="code: of AdamW; scripts/meduna.sh, and LaFTer")
    text_weight_decay: float = Field(0.01, ge=0, description="code")
    text_noise: float = Field(0.1, ge=0, description="code: added to the unit vectors; paper: none")
    text_smoothing: float = Field(0.1, ge=0, lt=1, description="code: label smoothing; paper: none")

    weak_view: Literal["clean", "rotated"] = Field("clean", description="code; paper: 'small rotations'")
    strong_view: Literal["official", "paper"] = Field(
        "official", description="code; paper: 'larger rotations, cropping and intensity scaling', without numbers"
    )
    test_view: Literal["clean", "strong"] = Field("clean", description="code; Eq. 4 of MedUnA has the strong view")
    prompt_tokens: int | None = Field(None, gt=0, description="None: the backbone's own number, 50 or 113 (Sect. 3.1)")
    prompt_layout: PromptLayout = Field("border", description="ours, of MedCLIP: keeps the grid; code: shears it")
    clip_pixels: bool = Field(False, description="ours: MedCLIP's own mean and std; code: CLIP's")
    epochs: int = Field(50, gt=0, description="code: LaFTer.py; the papers do not say")
    batch_size: int = Field(50, gt=0, description="code")

    @property
    def text_stage(self) -> TextClassifierConfig:
        """How Stage 1 is trained."""
        return TextClassifierConfig(
            iterations=self.text_iterations,
            learning_rate=self.text_learning_rate,
            weight_decay=self.text_weight_decay,
            noise=self.text_noise,
            smoothing=self.text_smoothing,
        )


class FrozenBackbone(nn.Module):
    """A module beside a frozen backbone that it moves along with itself, but neither saves nor trains.

    The backbone is no submodule: `parameters()`, `state_dict()` and checkpoints hold what is learnt alone.
    """

    def __init__(self, backbone: VisionLanguage):
        super().__init__()
        object.__setattr__(self, "backbone", backbone)  # past nn.Module's own, which would register it
        self.backbone: VisionLanguage

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenBackbone":
        self.backbone._apply(fn)  # what .to() and .cuda() call
        return super()._apply(fn, recurse)


class PromptedClassifier(FrozenBackbone):
    """g o f_V(x || p): the image encoder with a visual prompt p, and the adapter g on its features.

    Args:
        backbone: the frozen vision-language model.
        weight: of the classifier that Stage 1 trained, (C, D): where the adapter starts.
        tokens: N; None for as many as the backbone has by itself.
        generator: of the prompt's start, on the CPU.
    """

    def __init__(self, backbone: VisionLanguage, weight: Tensor, tokens: int | None, generator: torch.Generator):
        super().__init__(backbone)
        default, hidden = backbone.prompt_shape
        bound = backbone.prompt_bound
        start = torch.empty(tokens or default, hidden, dtype=weight.dtype).uniform_(-bound, bound, generator=generator)
        self.prompts = nn.Parameter(start.to(weight.device))  # (N, hidden)
        self.adapter = nn.Parameter(weight.detach().clone())  # (C, D)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named scalars; "total" is minimised."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Features of normalised images with the prompt, not L2-normalised, (B, 3, H, W) -> (B, D)."""
        return self.backbone.image_features(images, self.prompts)

    def logits(self, images: Tensor) -> Tensor:
        """Scores of the classes, (B, 3, H, W) normalised -> (B, C)."""
        return scores(self.features(images), self.adapter)

    @torch.no_grad()
    def plain_features(self, images: Tensor) -> Tensor:
        """Unit features of normalised images without the prompt, for the weak branch, (B, 3, H, W) -> (B, D)."""
        return F.normalize(self.backbone.image_features(images), dim=1)


def scores(features: Tensor, weight: Tensor) -> Tensor:
    """Scores of the classes in the weight's own precision, (B, D), (C, D) -> (B, C)."""
    with torch.autocast(features.device.type, enabled=False):  # the losses are taken in full precision
        return F.linear(features.to(weight.dtype), weight)

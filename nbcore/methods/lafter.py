"""LaFTer: label-free tuning of an image encoder by its own hard pseudo-labels (Mirza et al., NeurIPS 2023).

As MedUnA's authors run it beside their method. Shapes: B images, H x W pixels, D width shared by image and text,
C classes.
"""

from copy import deepcopy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nbcore.losses.meduna import consistency
from nbcore.methods.prompted import AdaptationConfig, PromptedClassifier, scores
from nbcore.models.clip import VisionLanguage


class Config(AdaptationConfig):
    """What LaFTer is trained with: the official code's values, with Stage 1 as MedUnA's code has it."""

    smoothing: float = Field(0.1, ge=0, lt=1, description="code: label smoothing")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="code")
    learning_rate: float = Field(5e-4, gt=0, description="code")
    weight_decay: float = Field(0.01, ge=0, description="code")
    no_decay: list[str] = Field(["bias"], description="code; so weights of layer normalisations are decayed")


class LaFTer(PromptedClassifier):
    """A student (prompt, adapter and the image encoder's layer normalisations) and its teacher, Stage 1's classifier.

    The teacher is fixed but for the layer normalisations, which it shares with the student: its labels drift with them,
    so that they cannot be computed beforehand.

    Args:
        backbone: the vision-language model, which stays as it is: the layer normalisations are copied, all other
            weights shared.
        weight: of the classifier that Stage 1 trained, (C, D).
        config: see `Config`.
        generator: of the prompt's start, on the CPU.
    """

    def __init__(self, backbone: VisionLanguage, weight: Tensor, config: Config, generator: torch.Generator):
        super().__init__(_with_own_layer_norms(backbone), weight, config.prompt_tokens, generator)
        self.config = config
        self.layer_norms = nn.ModuleList(self.backbone.layer_norms()).requires_grad_()
        self.register_buffer("teacher", weight.detach().clone())  # (C, D)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Smoothed cross-entropy, "total", against the teacher's class.

        Args:
            batch: "image" and "weak_image" (B, 3, H, W), the strong and the weak view of the same images, normalised.
        """
        goal = scores(self.plain_features(batch["weak_image"]), self.teacher)  # (B, C)
        return {"total": consistency(goal, self.logits(batch["image"]), "hard", self.config.smoothing)}

    def pseudo_labels(self, images: Tensor) -> Tensor:
        """The teacher's present class of normalised images, (B, 3, H, W) -> (B,)."""
        return scores(self.plain_features(images), self.teacher).argmax(dim=1)


def _with_own_layer_norms(backbone: VisionLanguage) -> VisionLanguage:
    """A copy of the backbone that shares everything, its tokenizer too, but the layer normalisations' tensors."""
    own = {id(tensor) for norm in backbone.layer_norms() for tensor in norm.parameters()}
    shared = [tensor for tensor in (*backbone.parameters(), *backbone.buffers()) if id(tensor) not in own]
    shared += [value for value in vars(backbone).values() if not isinstance(value, (dict, set))]
    return deepcopy(backbone, {id(value): value for value in shared})

"""MedUnA, Stage 2: adaptation of a frozen image encoder with unlabelled images (Rahman et al., ISBI 2025).

Shapes: B images, H x W pixels, D width shared by image and text, C classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from nbcore.config import Variant, Variants
from nbcore.errors import UsageError
from nbcore.losses.meduna import Distance, Target, confident_entropy, consistency, self_entropy, supervised_alignment
from nbcore.methods.prompted import AdaptationConfig, PromptedClassifier, scores
from nbcore.models.clip import VisionLanguage

# What each variant sets where the user does not; the fields' own defaults are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "text_templates": False,  # Sect. 3.1: descriptions alone
        "text_noise": 0.0,  # Eq. 1
        "text_smoothing": 0.0,  # Eq. 1
        "weak_view": "rotated",  # Sect. 2.2
        "strong_view": "paper",  # Sect. 2.2
        "test_view": "strong",  # Eq. 4
    },
    "official": {
        "text_wrap": True,
        "target": "hard",
        "smoothing": 0.1,
        "train_weak": False,
        "consistency_weight": 0.7,
        "entropy": "confident",
        "entropy_weight": 1.5,
        "prompt_layout": "official",
        "clip_pixels": True,
        "epochs": 5,  # meduna.py
        "learning_rate": 5e-4,  # scripts/meduna.sh; scripts/LaFTer.sh has 1e-2
    },
}


class Config(Variants, AdaptationConfig):
    """What MedUnA is trained with. Defaults are the paper's equations and values; where it is silent, or where only
    they are known to train, the official code's (each field says which). `variant` sets the switches of `VARIANTS` that
    are not given.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: which reading of paper and code; see VARIANTS")

    target: Target = Field("soft", description="Eq. 2 and 3; code: hard")
    smoothing: float = Field(0.0, ge=0, lt=1, description="Eq. 2 and 3; code: 0.1")
    train_weak: bool = Field(True, description="Eq. 2; in the code the weak adapter stays as Stage 1 left it")
    consistency_weight: float = Field(1.0, ge=0, description="Eq. 3; code: 0.7")
    entropy: Literal["self", "confident"] = Field("self", description="Eq. 3; code: confident, see its loss")
    entropy_weight: float = Field(1.0, ge=0, description="ours: lambda of Eq. 3, for the paper any > 0; code: 1.5")
    distance: Distance = Field("cosine", description="ours: of Eq. 5, which leaves it open; read by Aligned alone")

    optimizer: Literal["adamw", "sgd"] = Field("sgd", description="Sect. 3.1; without momentum (code)")
    learning_rate: float = Field(1e-2, gt=0, description="Sect. 3.1; code: 5e-4 or 1e-2, by the script that is run")
    weight_decay: float = Field(0.01, ge=0, description="code")

    @model_validator(mode="after")
    def _every_trained_part_has_a_gradient(self) -> Self:
        if self.train_weak and self.target == "hard":
            raise ValueError("a hard target has no gradient for the weak adapter: set target soft or train_weak false")
        if not self.consistency_weight and not self.entropy_weight:
            raise ValueError("consistency_weight and entropy_weight are both 0, so that nothing trains the prompt")
        return self


class MedUnA(PromptedClassifier):
    """Two adapters that start alike: g_w on plain features of a weak view, g_s on prompted features of a strong one.

    Args:
        backbone: the frozen vision-language model.
        weight: of the classifier that Stage 1 trained, (C, D).
        config: see `Config`.
        generator: of the prompt's start, on the CPU.
    """

    def __init__(self, backbone: VisionLanguage, weight: Tensor, config: Config, generator: torch.Generator):
        super().__init__(backbone, weight, config.prompt_tokens, generator)
        self.config = config
        self.weak_adapter = nn.Parameter(weight.detach().clone(), requires_grad=config.train_weak)  # (C, D)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 2 and 3 on one batch.

        Args:
            batch: "image" (B, 3, H, W), the strong view, normalised; and of the weak view one of "weak_image" (the
                same), "weak" (B, D), its `plain_features`, or, unless the weak adapter is trained, "weak_logits"
                (B, C), its `weak_logits`: both are the same in every epoch for a view that is.

        Returns:
            "consistency" and "entropy", the weighted terms of Eq. 3, whose gradient reaches the adapter and the prompt;
            "weak" (Eq. 2), whose gradient reaches the weak adapter, where that is trained; and their sum "total". A
            loss of weight 0 is left out.

        Raises:
            UsageError: the batch says nothing of the weak view, or gives fixed logits of an adapter that is trained.
        """
        config = self.config
        strong, weak = self.logits(batch["image"]), self._weak_branch(batch)  # (B, C) each
        losses = {}
        if config.consistency_weight:
            agreement = consistency(weak.detach(), strong, config.target, config.smoothing)
            losses["consistency"] = config.consistency_weight * agreement
        if config.entropy_weight:
            entropy = {"self": self_entropy, "confident": confident_entropy}[config.entropy]
            losses["entropy"] = config.entropy_weight * entropy(strong)
        if config.train_weak:
            losses["weak"] = consistency(weak, strong.detach(), config.target, config.smoothing)
        losses["total"] = sum(losses.values())
        return losses

    def weak_logits(self, features: Tensor) -> Tensor:
        """Scores of the weak branch for `plain_features`, (B, D) -> (B, C)."""
        return scores(features, self.weak_adapter)

    def pseudo_labels(self, features: Tensor) -> Tensor:
        """The weak branch's class for `plain_features`, (B, D) -> (B,)."""
        return self.weak_logits(features).argmax(dim=1)

    def _weak_branch(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores of the weak view, (B, C)."""
        if "weak_logits" in batch:
            if self.config.train_weak:
                raise UsageError("weak_logits are fixed, but train_weak is on: give the batch weak features instead.")
            return batch["weak_logits"]
        if "weak" in batch:
            return self.weak_logits(batch["weak"])
        if "weak_image" in batch:
            return self.weak_logits(self.plain_features(batch["weak_image"]))
        raise UsageError("a batch of MedUnA needs one of weak_image, weak and weak_logits.")


class Aligned(PromptedClassifier):
    """Supervised training with Eq. 5: images are drawn to the descriptions of their true class, behind one adapter.

    The paper remarks on it, the official code does not have it. The adapter stands on both sides, so that a constant
    one would do as well; it starts from Stage 1's.

    Args:
        backbone, weight, config, generator: as of `MedUnA`.
        descriptions: text feature of each class, (C, D), for instance the mean over its descriptions.
    """

    def __init__(
        self,
        backbone: VisionLanguage,
        weight: Tensor,
        config: Config,
        generator: torch.Generator,
        descriptions: Tensor,
    ):
        super().__init__(backbone, weight, config.prompt_tokens, generator)
        self.config = config
        self.register_buffer("descriptions", descriptions, persistent=False)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 5, "total", of "image" (B, 3, H, W), normalised, and its true class "label" (B,)."""
        textual = scores(self.descriptions, self.adapter)[batch["label"]]  # (B, C)
        return {"total": supervised_alignment(self.logits(batch["image"]), textual, self.config.distance)}

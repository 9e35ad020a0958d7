"""K-MaT: prompts learnt on a high-end modality and transported to a low-end one without its images (Zeng &
Albarqouni, 2026).

Shapes: B images, D width shared by image and text, N classes, M context words, d word width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nbcore.config import Variant, Variants
from nbcore.errors import UsageError
from nbcore.losses import transport
from nbcore.losses.kmat import anchoring, fused_gromov_wasserstein
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner, context_start
from nbcore.models.clip import VisionLanguage

Solver = Literal["entropic", "proximal", "exact", "identity"]

# What each variant sets where the user does not; the fields' own defaults are `recommended`. No code is published.
VARIANTS: dict[str, dict[str, Any]] = {"recommended": {}, "paper": {"normalize": False}, "official": {}}


class Config(Variants, PromptConfig):
    """What K-MaT is trained with. Defaults are the paper's equations and values; where it is silent, ours (each field
    says which). `variant` sets the switches of `VARIANTS` that are not given; as there is no official code, `official`
    is `recommended`.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: which reading of the paper; see VARIANTS")

    class_specific: bool = Field(True, description="Sect. 3.1: CSC, a context for each class")
    modality_specific: bool = Field(True, description="Sect. 3.1: MSC, a context for each modality")
    factorized: bool = Field(
        False,
        description="ours: with MSC, a context is the sum of a shared one and the modality's, as Sect. 2 hints at",
    )
    modality_words: bool = Field(False, description="ours: a prompt names its modality, which Sect. 2 hints at, too")

    anchor_weight: float = Field(1.0, ge=0, description="ours: lambda_anc, of which the paper tells no value")
    fgw_weight: float = Field(1.0, ge=0, description="ours: lambda_fgw, of which the paper tells no value")
    normalize: bool = Field(True, description="ours: L_anc and L_fgw on unit vectors; the equations do not say")
    alpha: float = Field(0.1, ge=0, le=1, description="Sect. 3.1: share of the structure in L_fgw")
    solver: Solver = Field("entropic", description="Sect. 3.1: Sinkhorn-Knopp; the others are ours")
    epsilon: float = Field(0.1, gt=0, description="Sect. 3.1: temperature 0.1")
    relative_epsilon: bool = Field(False, description="ours: epsilon in units of the mean feature cost")
    iterations: int = Field(100, ge=1, description="Sect. 3.1: max 100; taken for the outer ones")
    inner_iterations: int = Field(1000, ge=1, description="ours: Sinkhorn iterations of each outer one (POT's default)")

    @model_validator(mode="after")
    def _what_is_shared_is_shared_by_modalities(self) -> Self:
        if self.factorized and not self.modality_specific:
            raise ValueError("factorized contexts are those of modalities: set modality_specific, too")
        return self


class KMat(PromptLearner):
    """Class prompts of two modalities whose contexts are learnt: only the high-end ones see images.

    Args:
        backbone: the frozen vision-language model.
        names: of the N classes, in words.
        config: see `Config`.
        generator: of the contexts' start, on the CPU.
        prototypes: features of the descriptions of each class in each modality, the high-end one first, (2, N, D); of
            unit length where `config.normalize`.
        modalities: what an image of each modality is called; read where `config.modality_words`.

    Attributes:
        context: v, (1 or 2, 1 or N, M, d): of each modality with MSC, of each class with CSC.

    Raises:
        UsageError: prototypes of another number or width.
    """

    def __init__(
        self,
        backbone: VisionLanguage,
        names: Sequence[str],
        config: Config,
        generator: torch.Generator,
        prototypes: Tensor,
        modalities: tuple[str, str] = ("", ""),
    ):
        super().__init__(backbone, names, config, generator)
        self.config: Config = config
        if prototypes.shape != (2, len(names), backbone.width):
            raise UsageError(
                f"prototypes of shape {tuple(prototypes.shape)} do not fit two modalities of {len(names)} classes of "
                f"width {backbone.width}; give one row a class and modality."
            )
        starts = [self.context.data]
        starts += [context_start(backbone, len(names), config, generator) for _ in range(config.modality_specific)]
        context = torch.stack([own if own.dim() == 3 else own[None] for own in starts])
        self.shared = None
        if config.factorized:  # what is shared starts as a context does, and the modalities' own parts at 0
            self.shared, context = nn.Parameter(context[0]), torch.zeros_like(context)  # (1 or N, M, d)
        self.context = nn.Parameter(context)
        if config.modality_words:
            names = [f"{name} in a {modality}" for modality in modalities for name in names]
            self.prompts = backbone.prompts(names, self.context.shape[-2], config.position)
        self.register_buffer("prototypes", prototypes.detach().to(self.context), persistent=False)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The overall objective on one batch of high-end images.

        Args:
            batch: as of `PromptLearner.losses`.

        Returns:
            Scalars: "cross_entropy", whose gradient reaches the high-end context; "anchor" and "fgw", weighted; of them
            "fgw" reaches the low-end one alone, and what is shared; their sum "total"; and "diagonal", the mass on the
            coupling's diagonal (1: each class goes to itself; 1 / N: uniform). A loss of weight 0 is left out.
        """
        config = self.config
        images, texts = self.image_features(batch), self.text_features()  # (B, D), (2, N, D)
        with torch.autocast(images.device.type, enabled=False):  # the losses are taken in full precision
            texts = texts.to(self.context.dtype)
            losses = {"cross_entropy": F.cross_entropy(self._logits(images, texts[0]), batch["label"])}
            points = F.normalize(texts, dim=-1) if config.normalize else texts
            if config.anchor_weight:
                losses["anchor"] = config.anchor_weight * anchoring(points, self.prototypes)
            if config.fgw_weight:
                plan = self.coupling(points)
                losses["fgw"] = config.fgw_weight * fused_gromov_wasserstein(*points, plan, config.alpha)
            losses["total"] = sum(losses.values())
            if config.fgw_weight:
                losses["diagonal"] = plan.diagonal().sum()
        return losses

    def coupling(self, points: Tensor) -> Tensor:
        """Gamma between the two modalities' embeddings, without gradient, (2, N, D) -> (N, N), mass 1."""
        config = self.config
        return transport.coupling(
            *points,
            solver=config.solver,
            alpha=config.alpha,
            epsilon=config.epsilon,
            iterations=config.iterations,
            inner_iterations=config.inner_iterations,
            relative=config.relative_epsilon,
        )

    def text_features(self) -> Tensor:
        """Features of the classes' prompts in both modalities, not L2-normalised, (2, N, D); all in one pass."""
        context = self.context if self.shared is None else self.context + self.shared  # (1 or 2, 1 or N, M, d)
        if self.config.modality_words:
            classes = self.prototypes.shape[1]
            each = context.expand(2, classes, -1, -1).flatten(0, 1)  # (2N, M, d)
            return self.prompts.features(each).unflatten(0, (2, classes))
        return self.prompts.features(context).expand(2, -1, -1)

    def class_features(self, features: Tensor) -> Tensor:
        """What high-end images are compared with, (B, D) -> (N, D)."""
        return self.text_features()[0]

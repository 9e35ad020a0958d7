"""CoOp: context words learnt by cross-entropy alone (Zhou et al., IJCV 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from nbcore.config import Variant, Variants
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner

# What each variant sets where the user does not; the fields' own defaults, K-MaT's protocol, are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "context_length": 16,
        "augmentation": "crop",  # and flips, which are not ours
        "epochs": 200,  # of 16 images a class
        "batch_size": 32,
        "learning_rate": 0.002,
    },
    "official": {  # BiomedCoOp's repository, which has CoOp on BiomedCLIP
        "context_init": "a photo of a",
        "augmentation": "crop",
        "epochs": 100,
        "batch_size": 32,
        "learning_rate": 0.002,
    },
}


class Config(Variants, PromptConfig):
    """What CoOp is trained with. `variant` sets the switches of `VARIANTS` that are not given."""

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: K-MaT's protocol, CoOp's paper, BiomedCoOp's port")


class CoOp(PromptLearner):
    """Context words learnt by cross-entropy alone, see `PromptLearner`."""

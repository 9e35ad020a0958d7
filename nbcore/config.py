"""How to train: the settings that every method shares."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Variant = Literal["recommended", "paper", "official"]


class TrainConfig(BaseModel):
    """How to train, whatever the method; methods inherit these fields and give them their paper's values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)  # rows per process and per forward pass
    accumulate: int = Field(1, ge=1)  # forward passes per optimiser step; their gradients are averaged
    processes: int = Field(1, ge=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    optimizer: Literal["adamw", "lars", "sgd"] = "adamw"
    momentum: float = Field(0.0, ge=0, lt=1)  # of SGD; LARS has 0.9
    learning_rate: float = Field(gt=0)
    rate_factors: dict[str, float] = {}  # of the learning rate, by the first part of a parameter's name ("text")
    weight_decay: float = Field(0.0, ge=0)
    no_decay: list[str] = []  # parameters with one of these in their name are not decayed ("bias")
    clip_norm: float | None = Field(None, gt=0)  # largest L2 norm of the whole gradient
    schedule: Literal["constant", "warmup_linear", "warmup_cosine", "cosine_restarts", "epoch_cosine"] = "constant"
    warmup_fraction: float = Field(0.0, ge=0, lt=1)  # of all optimiser steps (warmup_linear, warmup_cosine)
    restart_fraction: float = Field(1.0, gt=0, le=1)  # of all optimiser steps (cosine_restarts)
    warmup_epochs: int = Field(0, ge=0)  # at the fixed rate `warmup_lr` (epoch_cosine)
    warmup_lr: float = Field(0.0, ge=0)
    min_lr: float = Field(0.0, ge=0)
    checkpoint_seconds: float = Field(30.0, ge=0)  # between checkpoints; 0 writes one after every step
    threads: int = Field(2, ge=1)  # of the CPU, per process; results repeat bit for bit only for the same number
    workers: int = Field(0, ge=0)  # processes that fetch batches; 0 fetches in the training process


class Variants(BaseModel):
    """A configuration whose `variant` sets the switches of `VARIANTS` that are not given.

    The fields' own defaults are `recommended`.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]]

    variant: Variant

    @model_validator(mode="before")
    @classmethod
    def _fill_from_variant(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**cls.VARIANTS.get(values.get("variant", "recommended"), {}), **values}

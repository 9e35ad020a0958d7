"""Strict models: what a file of the project's own format may hold."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from nbcore.validation import nearest


class Strict(BaseModel):
    """A model in which an unknown key is an error that names its nearest neighbour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}{nearest(str(key), list(cls.model_fields))}")
        return values

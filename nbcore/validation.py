"""Strict models: an unknown key is an error that names its nearest neighbour, and an error is one sentence."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nbcore.errors import UsageError

_Model = TypeVar("_Model", bound=BaseModel)


def checked(kind: type[_Model], values: Mapping[str, Any], name: str) -> _Model:
    """A model of these values; UsageError, in one sentence that opens with `name`, for a key or value that does not
    belong."""
    for key in values:
        if key not in kind.model_fields:
            raise UsageError(f"{name}: unknown key {key!r}{nearest(key, list(kind.model_fields))}")
    try:
        return kind(**values)
    except ValidationError as error:
        raise UsageError(f"{name}: {first_error(error)}") from None


def nearest(name: str, names: list[str]) -> str:
    """ " (did you mean 'x'?)" for the closest of `names`, or the choices where none is close."""
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else f" (there are: {', '.join(map(str, names))})"


def first_error(error: ValidationError) -> str:
    """The first thing pydantic found wrong: "epochs: input should be greater than 0, not -1"."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
    return f"{place}: {message}{given}" if place else message

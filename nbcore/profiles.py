"""Which notebooks and profiles there are, and what a profile changes against the paper."""

from typing import Any

import yaml

from nbcore.errors import UsageError
from nbcore.paths import NOTEBOOKS, PROFILES
from nbcore.validation import nearest

PROFILE_NAMES = ("smoke", "demo", "open", "paper")


def notebooks() -> list[str]:
    """Names of the papers' notebooks: those with a profile file."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml") if (NOTEBOOKS / f"{path.stem}.ipynb").is_file())


def check_notebook(name: str) -> None:
    """Raise UsageError unless there is a notebook of this name."""
    if name not in notebooks():
        raise UsageError(f"there is no notebook {name!r}{nearest(name, notebooks())}")


def profile_values(notebook: str, profile: str) -> dict[str, Any]:
    """What a profile of a notebook changes against the paper.

    Raises:
        UsageError: unknown notebook or profile, or a profile file that is not what it should be.
    """
    check_notebook(notebook)
    if profile not in PROFILE_NAMES:
        raise UsageError(f"unknown profile {profile!r}{nearest(profile, list(PROFILE_NAMES))}")
    return read_profile(notebook, profile)


def read_profile(name: str, profile: str) -> dict[str, Any]:
    """The same for a method without a notebook of its own: a baseline of other papers."""
    path = PROFILES / f"{name}.yaml"
    try:
        profiles = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {**profiles.get(profile, {})}
    except (OSError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a profile file ({' '.join(str(error).split())}).") from error

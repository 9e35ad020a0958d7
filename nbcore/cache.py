"""Finished stages (pre-trained weights, frozen features, twins) are kept under a hash of all they depend on.

    root/cache/NAME/DIGEST/            a finished stage; its stage.json tells the key behind the hash
    root/cache/NAME/DIGEST.partial/    a stage under way, or killed: the next run continues inside it
    root/cache/NAME/DIGEST.lock        held by the process that works on it

The key is content, never a name: the configuration, the fingerprint of the data, the seed, the number of threads, to
which the versions of torch and of this package's sources are added here.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbcore.files import atomic_write, digest
from nbcore.locks import locked

# Sources that only arrange finished numbers: editing them leaves every stage valid.
_NO_NUMBERS = {
    *("__main__.py", "leaks.py", "profiles.py", "protection.py", "recorder.py", "report.py", "results.py", "run.py"),
    *("analysis/figures.py", "analysis/language_figures.py", "analysis/adaptation_figures.py", "data/check.py"),
    *("analysis/prompt_figures.py", "analysis/published_means.py", "analysis/tour_figures.py", "validation.py"),
    *("leaks_pictures.py", "leaks_words.py"),
    *("compare.py", "readme.py", "report_tables.py", "study_tour.py", "widgets.py", "live.py"),
    *("data/checking_files.py", "data/checking_report.py", "data/checking_tables.py", "data/describe.py"),
    *("data/download.py", "data/fetch.py", "data/prepare.py", "data/unpack.py"),
}


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, and whether it was there already (`hit`) or has just been built."""

    path: Path
    hit: bool


def stage(name: str, key: Mapping[str, Any], build: Callable[[Path], object], root: Path) -> Stage:
    """The stage `name` of this `key` (JSON-like values), built by `build(directory)` unless it is there already.

    `build` writes into the directory and must continue what a killed call left in it. When it returns, the directory
    becomes the finished stage in one rename; when it raises, the stage stays unfinished. A second process that wants
    the same stage waits for the first, or takes over if that is killed.
    """
    full_key = {"key": key, "package": version("nbcore"), "code": code_version(), "torch": version("torch")}
    path = root / "cache" / name / digest(full_key)
    if path.is_dir():
        return Stage(path, hit=True)
    with locked(path.with_suffix(".lock")):
        if path.is_dir():  # by the process we waited for
            return Stage(path, hit=True)
        partial = path.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        build(partial)
        atomic_write(partial / "stage.json", json.dumps(full_key, indent=2, sort_keys=True, default=str))
        _sync(partial)
        partial.rename(path)
    return Stage(path, hit=False)


def _sync(directory: Path) -> None:
    """Bring every file under `directory` to disk: a finished stage must be whole even after a power cut."""
    for file in directory.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


@cache
def code_version() -> str:
    """A hash of all sources of this package that can change a number."""
    package = Path(__file__).parent
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).as_posix()
        if relative not in _NO_NUMBERS and not relative.startswith("claims/"):
            sources.update(f"{relative}\n".encode() + path.read_bytes())
    return sources.hexdigest()

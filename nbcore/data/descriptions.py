"""Descriptions of classes in a language model's words, from which a text classifier learns (MedUnA, Sect. 2.1).

A set of descriptions is a folder of data_manifests/descriptions/ with a file {class: [sentence, ...]} a data set, or a
view of one; the README there tells how to add one's own.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from nbcore.data.manifest import Manifest
from nbcore.errors import UsageError, UserError
from nbcore.paths import MANIFESTS
from nbcore.validation import nearest

DESCRIPTIONS = MANIFESTS / "descriptions"

# The official code adds seven photographs of each class to its descriptions: of the same kinds, in its own words.
TEMPLATES = (
    "a poor {modality}: {phrase}.",
    "a blurred {modality}: {phrase}.",
    "a dark {modality}: {phrase}.",
    "a small {modality}: {phrase}.",
    "a vague {modality}: {phrase}.",
    "a large {modality}: {phrase}.",
    "a centred {modality}: {phrase}.",
)


def list_description_sets() -> list[str]:
    """The names of the sets that the project has."""
    return sorted(path.name for path in DESCRIPTIONS.glob("*") if path.is_dir())


def load_descriptions(source: str, manifest: Manifest, view: str = "") -> dict[str, list[str]]:
    """The sentences of each class, classes in the manifest's order and sentences in the file's.

    White space is made single blanks; a sentence that a class has twice is taken once, as it would only weigh double.
    A sentence of two classes is kept in both.

    Args:
        source: the name of a set, a JSON file, or a folder with a file <data set>.json.
        view: of a data set of several modalities, each of which has a file <data set>.<view>.json.
        manifest: the data set; the file must have its classes, spelt alike, and no others.

    Raises:
        UsageError: no such set or file, or the set has nothing on this data set.
        UserError: the file cannot be read or is no such JSON, a class is missing, unknown, there twice or without
            sentences, or an entry is no sentence.
    """
    path = _file(source, f"{manifest.name}.{view}" if view else manifest.name)
    raw = _read(path)
    for label in raw:
        if label not in manifest.classes:
            hint = nearest(label, list(manifest.classes))
            raise UserError(f"{path}: {manifest.name} has no class {label!r}{hint}; rename or delete it")
    for label in manifest.classes:
        if label not in raw:
            raise UserError(f"{path} has no class {label!r}: add it with a list of sentences")
    return {label: _sentences(path, label, raw[label]) for label in manifest.classes}


def template_texts(phrase: str, modality: str) -> list[str]:
    """Seven short texts on a class: `phrase` is "tuberculosis" or "normal", `modality` what an image is called."""
    return [template.format(phrase=phrase, modality=modality) for template in TEMPLATES]


def wrap(text: str, modality: str) -> str:
    """A text as the official code of MedUnA reads it, even a whole sentence; its modality is always "chest x_ray"."""
    return f"a photo of a {text} {modality}"


def _file(source: str, name: str) -> Path:
    """The file of a set, of a folder, or the file itself."""
    own = "give a JSON file or folder of your own"
    sets = list_description_sets()
    if source in sets:
        path = DESCRIPTIONS / source / f"{name}.json"
        if not path.is_file():
            raise UsageError(f"the description set {source!r} has nothing on {name}: add {path}, or {own}")
        return path
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / f"{name}.json"
    elif path.name == source and path.suffix != ".json":
        raise UsageError(f"unknown description set {source!r}{nearest(source, sets)}; name one, or {own}")
    if not path.is_file():
        raise UsageError(f"descriptions: there is no file {path.absolute()}; write it, or mend the path")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=partial(_distinct, path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): save it in that encoding") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path} is not valid JSON: {error.msg} in {place}; mend it there") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds a {type(raw).__name__}: write an object {{class: [sentence, ...]}}")
    return raw


def _distinct(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; UserError for a key that is there twice, of which Python would keep the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UserError(f"{path} has the class {key!r} twice: join its two lists")
        found[key] = value
    return found


def _sentences(path: Path, label: str, entries: Any) -> list[str]:
    """The distinct sentences of one class."""
    if not isinstance(entries, list):
        raise UserError(f"{path}: {label!r} holds a {type(entries).__name__}: write a list of sentences")
    if not entries:
        raise UserError(f"{path}: {label!r} has no sentence: add some")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, str):
            kind = type(entry).__name__
            raise UserError(f"{path}: entry {number} of {label!r} is of type {kind}: write a sentence in quotes")
        if not entry.strip():
            raise UserError(f"{path}: entry {number} of {label!r} is empty: write a sentence, or delete it")
    return list(dict.fromkeys(" ".join(entry.split()) for entry in entries))

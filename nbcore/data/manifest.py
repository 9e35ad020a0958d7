"""Manifests: what is known of a data set, and where its things are. One YAML file each, strictly validated."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from nbcore.data.layouts import Layout
from nbcore.data.strict import Strict
from nbcore.errors import UsageError
from nbcore.paths import MANIFESTS
from nbcore.validation import nearest

Split = Literal["train", "valid", "test"]
Unknown = Literal["unknown"]
Count = int | Unknown
_PARTS_OWN = {"name", "title", "short_title", "part_of", "counts", "used_by", "notes", "questions"}


class Counts(Strict):
    """What a complete copy holds, as the reader counts it (frontal images only where the reader filters)."""

    images: Count
    patients: Count
    studies: Count = "unknown"
    splits: dict[Literal["default", "test_list"], dict[Split, Count]]
    classes: dict[str, Count] = Field(default_factory=dict)  # class -> images that are positive of it


class Draw(Strict):
    """How many images to draw, whole patients at a time: a number, a share of the pool, or the smaller of the two."""

    images: int | None = Field(None, gt=0)
    fraction: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.images is None and self.fraction is None:
            raise ValueError("give 'images', 'fraction', or both")
        return self

    def count(self, pool: int) -> int:
        """Images to draw from a pool of that many."""
        wanted = pool if self.images is None else self.images
        return wanted if self.fraction is None else min(wanted, max(1, round(self.fraction * pool)))


class TestList(Strict):
    """A published CSV of the test patients, which wins over every other rule where it lies in the root."""

    __test__ = False  # not a test class, whatever pytest thinks

    file: str
    column: str | None = None  # its heading; None: the first column, with or without a heading


class TestAmong(Strict):
    """Which patients may be drawn for the test: those all of whose images have this value, and labels to test by."""

    __test__ = False

    column: str  # of the data set's table
    value: str


class SplitRule(Strict):
    """Where the splits come from; whatever `official` and `test_list` leave open is drawn by patient."""

    official: bool  # the layout itself says which images are for what
    valid: Draw | None  # None: nothing is drawn
    test: Draw | None  # a share is one of the images that may be drawn
    test_list: TestList | None = None
    test_among: TestAmong | None = None  # None: everybody
    seed: int = 0


class Use(Strict):
    paper: Literal["mgca", "mflag", "med_unic", "meduna", "kmat", "open profile"]
    where: str


class TwinRecipe(Strict):
    """How the phantom twin of this data set is made; see `nbcore.data.phantom.world` for the meaning.

    Only chests have laterals, reports, an age and uncertain labels.
    """

    world: Literal["chest", "fundus", "skin", "breast", "ct"] = "chest"  # what its pictures show
    hospital: Literal["north", "south"]
    images: int = Field(gt=0)
    size: int = Field(ge=16)
    label_noise: float = Field(ge=0, lt=0.5)  # share of the positives recorded as negative, and as many the other way
    uncertain: float = Field(0.0, ge=0, le=1)  # share of the recorded labels written as uncertain
    lateral: float = Field(0.0, ge=0, le=1)  # lateral images for each frontal one
    no_report: float = Field(0.0, ge=0, le=1)  # share of the studies without a usable report
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    age_range: tuple[int, int] = (18, 95)
    prevalence: dict[str, float] = Field(default_factory=dict)  # finding, or class of another world -> probability
    other_findings: bool = True  # False: what `prevalence` does not name never occurs
    one_study: bool = False  # True: a patient has one picture only


class Download(Strict):
    """A file of the owner's that a plain link leads to; an archive is unpacked into a folder of the root."""

    file: str = Field(pattern=r"^[A-Za-z0-9][\w. -]*$")
    url: str = Field(pattern=r"^(https?|file)://")
    size: int | None = Field(None, gt=0)  # bytes, where the server does not say
    checksum: str = Field("", pattern=r"^(|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")  # where the owner publishes one
    into: str = Field(".", pattern=r"^(\.|\w[\w -]*(/\w[\w -]*)*)$")  # folder under the root
    prefix: str = ""  # folder of the archive that alone is unpacked, and directly
    unpacked: int | None = Field(None, gt=0)  # bytes it unpacks to, where known


class PartOf(Strict):
    """The data set of which this one is a split: same root, same files."""

    data_set: str
    split: Split


class Manifest(Strict):
    """What is known of a data set.

    A file with `part_of` tells only what is the part's own: `title`, `short_title`, `counts` and `used_by`, and may
    tell `notes` and `questions`. All else is what the manifest of the whole says, and cannot be told again.
    """

    name: str
    title: str
    short_title: str  # what the papers' tables call it
    version: str
    licence: str
    access: Literal["open", "registration", "credentialed"]
    homepage: str
    citation: str
    how_to_get: str
    downloads: tuple[Download, ...] = ()  # where the owner gives plain links; they need not be the whole data set
    language: Literal["en", "es", ""]  # of the reports
    classes: tuple[str, ...] = Field(min_length=1)
    exclusive: bool = False  # every image has exactly one of the classes, and the papers report accuracy
    phrases: dict[str, str] = Field(default_factory=dict)  # class -> how a sentence names it, where it is not as spelt
    modality: str = "chest radiograph"  # what a sentence calls one of the images
    views: dict[str, str] = Field(default_factory=dict)  # the same for each view, where they are of several modalities
    layout: Layout
    counts: Counts
    split: SplitRule
    uncertain: dict[str, Literal["zero", "one", "ignore"] | dict[str, Literal[0, 1]]]  # policies for Samples.labels
    used_by: tuple[Use, ...]
    twin: TwinRecipe
    part_of: PartOf | None = None  # None: it is a data set of its own
    notes: str = ""
    questions: dict[str, str] = Field(default_factory=dict)  # what users ask about the data -> answer, [who decides it]

    @field_validator("questions")
    @classmethod
    def _questions_are_answered(cls, questions: dict[str, str]) -> dict[str, str]:
        for question, answer in questions.items():
            if not question.strip().endswith("?") or question.strip() == "?":
                raise ValueError(f"{question!r} is no question: write one that ends with '?'")
            if not answer.strip():
                raise ValueError(f"{question!r} has no answer")
        return questions

    @model_validator(mode="after")
    def _mappings_name_classes(self) -> Self:
        named = {f"uncertain.{name}": policy for name, policy in self.uncertain.items() if isinstance(policy, Mapping)}
        for place, classes in {**named, "phrases": self.phrases, "counts.classes": self.counts.classes}.items():
            for key in classes:
                if key not in self.classes:
                    raise ValueError(f"{place}: unknown class {key!r}{nearest(key, list(self.classes))}")
        return self

    @property
    def is_private(self) -> bool:
        """Whether nothing that shows a patient may reach results/."""
        return self.access == "credentialed"

    def seems_present(self, root: str | Path) -> bool:
        """Whether `root` holds a table or folder of this data set (nothing is read)."""
        places = (Path(root) / mark for mark in self.layout.marks)
        return any(os.path.exists(place) for place in places)  # noqa: PTH110  Path's raises where one may not look


def list_manifests() -> list[str]:
    """The names of the data sets the project knows."""
    return sorted(path.stem for path in MANIFESTS.glob("*.yaml"))


def load_manifest(name_or_path: str | Path) -> Manifest:
    """Read and validate a manifest, by its name or from a file of the user's own.

    Raises UsageError, in one sentence, for an unknown name, unreadable YAML, or a key or value that does not belong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = MANIFESTS / f"{name_or_path}.yaml"
        if not path.is_file():
            raise UsageError(f"unknown data set {str(name_or_path)!r}{nearest(str(name_or_path), list_manifests())}")
    try:
        return _parse(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UsageError(f"cannot read the manifest {path}: {error}") from error


@cache
def _parse(path: Path, modified: int) -> Manifest:
    """The manifest in a file that was last `modified` then; parsing takes longer than a step of training."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the manifest {path}: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} is not a manifest: expected keys such as 'title' and 'layout'")
    try:
        whole = _of_whole(path, raw) if "part_of" in raw else {}
        manifest = Manifest.model_validate({"name": path.stem} | whole | raw)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_error(error, raw)}") from None
    if manifest.name != path.stem:
        raise UsageError(f"{path}: name is {manifest.name!r}, which must be the file's own, {path.stem!r}")
    return manifest


def _of_whole(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a part takes over from that of the whole; UsageError for what it may not tell itself."""
    try:
        part = PartOf.model_validate(raw["part_of"])
    except ValidationError as error:
        raise UsageError(f"{path}: part_of: {_first_error(error, raw['part_of'])}") from None
    for key in raw:
        if key in Manifest.model_fields and key not in _PARTS_OWN:
            raise UsageError(f"{path}: {key} is that of {part.data_set}, of which this is a part: remove it")
    whole = load_manifest(part.data_set)
    if whole.part_of:
        raise UsageError(f"{path}: part_of: {part.data_set} is itself a part, of {whole.part_of.data_set}: name that")
    return whole.model_dump(exclude=_PARTS_OWN)


def _first_error(error: ValidationError, raw: Any) -> str:
    """Where it is, in the file's own keys, and what is wrong: "layout.columns: missing key 'view'"."""
    first = error.errors()[0]
    place: list[str] = []
    for key in first["loc"]:  # pydantic adds the names of union members, which are no keys of the file
        inside = key in raw if isinstance(raw, dict) else isinstance(key, int) and isinstance(raw, list | tuple)
        if inside:
            place.append(str(key))
            raw = raw[key]
    if first["type"] == "missing":
        message = f"missing key {first['loc'][-1]!r}"
    else:
        message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message}" if place else message

"""What a notebook run can be told: the method's Config, plus the data, the seeds and the sizes of the study.

A profile (notebooks/profiles/NOTEBOOK.yaml) changes some of these against the paper; `-p key=value` changes more.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Literal, Self

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nbcore.data.manifest import list_manifests
from nbcore.errors import UsageError
from nbcore.profiles import check_notebook, profile_values
from nbcore.validation import first_error, nearest

Source = Literal["twin", "real"]


class RunSettings(BaseModel):
    """The fields that all notebooks share."""

    source: Source = Field("real", description="twins, or the real data below data_root")
    jobs: int = Field(1, ge=1, description="ours: steps computed at the same time, each in a process of its own")
    seeds: int = Field(3, ge=1, description="ours; the paper reports single runs")
    twin_images: dict[str, int] = Field({}, description="ours: images of each twin; its manifest's number where absent")
    twin_size: int = Field(64, ge=32, description="ours: side of the twins' images, pixels")
    download: bool = Field(False, description="ours: fetch hub weights that are not in the local cache")
    allow_patient_data: bool = Field(False, description="ours: show images and reports of credentialed data")

    @field_validator("twin_images")
    @classmethod
    def _twins_are_of_data_sets(cls, images: dict[str, int]) -> dict[str, int]:
        for name, count in images.items():
            if name not in list_manifests():
                raise ValueError(f"unknown data set {name!r}{nearest(name, list_manifests())}")
            if count < 1:
                raise ValueError(f"{name}: a twin has at least one image, not {count}")
        return images

    @property
    def data_sets(self) -> list[str]:
        """All data sets of the study, each once."""
        raise NotImplementedError


class StudySettings(RunSettings):
    """The fields that the pre-training notebooks share."""

    pretrain_on: str = Field("mimic-cxr", description="Sect. 3.1")
    pretrain_split: Literal["train", "all"] = Field("train", description="images whose reports are learnt from")
    pairs_each: int | None = Field(None, gt=0, description="ours: at most so many pairs a set, for bilingual methods")
    corpus: dict[Literal["en", "es"], str] = Field(
        {}, description="ours: collections of texts that language models learn from; absent: the pairs' own reports"
    )
    probe_on: list[str] = Field(min_length=1)
    segment_on: list[str]
    detect_on: list[str]
    fractions: list[float] = Field([0.01, 0.1, 1.0], min_length=1, description="shares of the labels")
    localize_fractions: list[float] = Field([0.01, 0.1, 1.0], description="the same, for segmentation and detection")
    localize_size: int = Field(224, ge=32, multiple_of=32, description="side of the pictures to segment, pixels")
    segmentation: dict[str, Any] = Field({}, description="changes of SegmentationConfig; its defaults are the code's")
    detection: dict[str, Any] = Field({}, description="changes of DetectionConfig; its defaults are the code's")
    compare: list[str] = Field(["convirt", "gloria"], description="methods that are pre-trained to compare with")
    baselines: dict[str, dict[str, Any]] = Field({}, description="ours: changes of their configurations, by method")
    bootstrap: int = Field(0, ge=0, description="ours: resamples of patients for the interval of an AUC; 0 for none")
    supervised_epochs: int = Field(0, ge=0, description="ours: of the supervised upper reference; 0 leaves it out")
    text_fallback: bool = Field(False, description="ours: train a stand-in where the language model is not at hand")
    standin_width: int = Field(128, ge=32, multiple_of=32, description="ours: width of the stand-in language model")
    standin_layers: int = Field(2, ge=1, description="ours")
    standin_epochs: int = Field(3, ge=1, description="ours")
    standin_vocabulary: int = Field(2000, ge=200, description="ours: word pieces")

    @property
    def pair_sets(self) -> list[str]:
        """The data sets that give image-report pairs."""
        return [self.pretrain_on]

    @property
    def test_sets(self) -> list[str]:
        """The data sets whose test images are scored, each once."""
        return list(dict.fromkeys([*self.probe_on, *self.segment_on, *self.detect_on]))

    @property
    def data_sets(self) -> list[str]:
        return list(dict.fromkeys([*self.pair_sets, *self.test_sets]))

    @model_validator(mode="after")
    def _corpora_are_real_and_of_their_language(self) -> Self:
        from nbcore.data.corpora import CORPORA

        for language, name in self.corpus.items():
            if self.source == "twin":
                raise ValueError(f"corpus: twins bring their own reports; {name} needs source real")
            if name not in CORPORA:
                raise ValueError(f"corpus: unknown collection {name!r}{nearest(name, list(CORPORA))}")
            if CORPORA[name] != language:
                raise ValueError(f"corpus: {name} is in {CORPORA[name]!r}, not in {language!r}")
        return self

    @model_validator(mode="after")
    def _test_images_stay_unseen(self) -> Self:
        for name in set(self.pair_sets) & set(self.test_sets):
            if self.pretrain_split == "all":
                raise ValueError(f"pretrain_split must be 'train' where {name} is a test set, too")
        return self


class BackboneSettings(BaseModel):
    """A frozen vision-language model to adapt: which network, and where its weights come from."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str
    weights: str | None = None  # hub repository, folder or file; None for a stand-in, which is trained here
    tokenizer: str | None = None  # of MedCLIP: where Bio_ClinicalBERT's vocab.txt lies, if not beside the weights


class ModalityPair(BaseModel):
    """Two modalities that show the same classes: one to learn from, one to be told without having seen it.

    A side is a data set ("busi"), or one view of a data set of several modalities ("derm7pt/dermoscopy").
    """

    model_config = ConfigDict(extra="forbid")

    high: str
    low: str

    @property
    def sides(self) -> tuple[str, str]:
        return self.high, self.low

    def side(self, end: Literal["high", "low"]) -> str:
        return self.high if end == "high" else self.low

    @model_validator(mode="after")
    def _sides_show_the_same_classes(self) -> Self:
        from nbcore.data.manifest import load_manifest  # settings are read before any data is

        manifests = []
        for side in self.sides:
            name, _, view = side.partition("/")
            manifests.append(manifest := load_manifest(name))
            if bool(view) != bool(manifest.views) or (view and view not in manifest.views):
                known = [f"{name}/{view}" for view in manifest.views] or [name]
                raise ValueError(f"there is no modality {side!r}{nearest(side, known)}")
        high, low = manifests
        if high.classes != low.classes:
            own = [", ".join(manifest.classes) for manifest in manifests]
            raise ValueError(
                f"the classes of {self.high} ({own[0]}) are not those of {self.low} ({own[1]}) in the same order; "
                "name two modalities with the same classes"
            )
        return self


class AdaptationSettings(RunSettings):
    """The fields that the notebooks share that adapt a frozen vision-language model to a data set's classes."""

    backbones: dict[str, BackboneSettings] = Field(min_length=1)
    resize: int = Field(320, ge=32, description="ours: side of the stored pictures that views are cropped from, pixels")
    template: str = Field(
        "a photo of a {phrase} {modality}", description="ours; the code's word for all is chest x_ray"
    )
    standin_fallback: bool = Field(False, description="ours: train a stand-in where a backbone is not at hand")
    standin_pairs: dict[str, int] = Field(
        {"chest": 1100, "fundus": 1100, "skin": 1100},
        description="ours: pictures of the atlas that stand-ins learn from",
    )
    standin_stem_epochs: int = Field(24, ge=1, description="ours: of the convolutions, which learn first")
    standin_epochs: int = Field(8, ge=1, description="ours: of both encoders")
    standin_image_epochs: int = Field(
        0, ge=0, description="ours: of the image encoder alone, to which texts are then tuned; 0: both learn together"
    )
    standin_size: int = Field(56, ge=56, multiple_of=8, description="ours: side of what stand-ins see, pixels")

    @field_validator("template")
    @classmethod
    def _template_has_its_slots(cls, template: str) -> str:
        try:
            template.format(phrase="", modality="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("write it with {phrase} and, if wanted, {modality}, and no other braces") from None
        if "{phrase}" not in template:
            raise ValueError("it must hold {phrase}, the class's own words")
        return template


def settings_class(notebook: str) -> type[RunSettings]:
    """The settings of a notebook: its method's Config and the study's fields, all at one level.

    Raises:
        UsageError: no such notebook.
    """
    check_notebook(notebook)
    from nbcore.notebook_settings import SETTINGS  # imports torch: not before a notebook is asked for

    return SETTINGS[notebook]


def load_settings(notebook: str, profile: str, overrides: dict[str, Any]) -> RunSettings:
    """Settings of a run: the paper's, changed by the profile, changed by the user.

    Raises:
        UsageError: an unknown profile, key or value, in one sentence that names the nearest key.
    """
    cls = settings_class(notebook)
    known = list(cls.model_fields)
    for origin, values in ((f"profile {profile} of {notebook}", profile_values(notebook, profile)), ("-p", overrides)):
        for key in values:
            if key not in known:
                raise UsageError(f"{origin}: unknown parameter {key!r}{nearest(str(key), known)}")
    try:
        return cls.model_validate({**profile_values(notebook, profile), **overrides})
    except ValidationError as error:
        raise UsageError(f"parameter {first_error(error)}") from None


def settings_table(settings: RunSettings) -> pd.DataFrame:
    """Every setting of this run beside the paper's and where that comes from; changed ones first."""
    fields = type(settings).model_fields
    rows = [
        (name, getattr(settings, name), field.get_default(call_default_factory=True), field.description)
        for name, field in fields.items()
    ]
    table = pd.DataFrame(rows, columns=["setting", "this run", "default", "source of the default"])
    changed = [row[1] != row[2] for row in rows]
    return pd.concat([table[changed], table[[not c for c in changed]]]).set_index("setting")


def tell_assignments(values: Mapping[str, Any]) -> list[str]:
    """The arguments that `parse_assignments` reads back as these values, quoted for a shell."""
    told = []
    for key, value in values.items():
        plain = isinstance(value, str) and yaml.safe_load(value or "null") == value
        told.append("-p " + shlex.quote(f"{key}={value if plain else json.dumps(value, ensure_ascii=False)}"))
    return told


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`key=value` arguments, the value read as YAML (`epochs=3`, `seeds=5`, `fractions=[0.01, 1.0]`).

    Raises:
        UsageError: an argument without "=", or a value that is not YAML.
    """
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {assignment}: write it as key=value.")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"-p {assignment}: the value cannot be read; quote it if it holds ':' or '#'.") from None
    return values

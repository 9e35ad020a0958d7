"""DEVIATIONS.md names switches, values, tests and golden numbers that exist, and all that the variants set."""

import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pydantic import BaseModel

from nbcore.methods import biomedcoop, cocoop, convirt, coop, gloria, kgcoop, lafter
from nbcore.notebook_settings import (
    SETTINGS,
    KMatSettings,
    MedUnaSettings,
    MedUnicSettings,
    MFlagSettings,
    MgcaSettings,
)
from nbcore.paths import NOTEBOOKS, ROOT
from nbcore.settings import StudySettings
from nbcore.tasks.detection import DetectionConfig
from nbcore.tasks.segmentation import SegmentationConfig
from nbcore.tasks.tpt import TptConfig

TESTS = Path(__file__).parent
DEVIATIONS = ROOT / "nbcore/methods/DEVIATIONS.md"
COLUMNS = 6
SECTIONS: dict[str, type[BaseModel]] = {  # how a heading begins: the settings whose fields its switches are
    "M-FLAG": MFlagSettings,
    "MGCA": MgcaSettings,
    "Med-UniC": MedUnicSettings,
    "ConVIRT": StudySettings,
    "MedUnA": MedUnaSettings,
    "K-MaT": KMatSettings,
    "Downstream": StudySettings,
}
PARTS: dict[str, type[BaseModel]] = {  # what stands before the point of a switch: the configuration it is a field of
    "convirt": convirt.Config,
    "gloria": gloria.Config,
    "lafter": lafter.Config,
    "tpt": TptConfig,
    "coop": coop.Config,
    "cocoop": cocoop.Config,
    "kgcoop": kgcoop.Config,
    "biomedcoop": biomedcoop.Config,
    "segmentation": SegmentationConfig,
    "detection": DetectionConfig,
}


class Difference(NamedTuple):
    """A row of a table."""

    section: str  # key of SECTIONS
    what: str
    paper: str
    code: str
    ours: str
    switch: str
    shown: str


class Value(NamedTuple):
    """What a variant sets a switch to, as the table says."""

    switch: str
    variant: str
    value: Any


def differences(text: str) -> list[Difference]:
    """The rows of all tables, headings of columns left out."""
    rows, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = next(key for key in SECTIONS if line.removeprefix("## ").startswith(key))
        elif line.startswith("| ") and not line.startswith("| what |"):
            cells = [cell.strip() for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")]
            assert len(cells) == COLUMNS, f"{section}: a row of {len(cells)} cells: {line}"
            rows.append(Difference(section, *cells))
    return rows


ROWS = differences(DEVIATIONS.read_text(encoding="utf-8"))


def read(value: str) -> Any:
    """A value as written: a number, a fraction such as 1/4, true, false, or a word."""
    if match := re.fullmatch(r"(\d+)/(\d+)", value):
        return int(match[1]) / int(match[2])
    try:
        return float(value)
    except ValueError:
        return yaml.safe_load(value)


def switches(cell: str) -> list[str]:
    """The names in a cell without those of manifests."""
    return [] if cell.startswith("manifest ") else re.findall(r"`([^`]+)`", cell)


def values(cell: str) -> list[Value]:
    """The values in brackets, one for each name since the last bracket: `a`, `b` (paper: 1, 2; official: 3, 4)."""
    found: list[Value] = []
    names: list[str] = []
    for name, bracket in re.findall(r"`([^`]+)`|\(([^()]*)\)", cell):
        if name:
            names.append(name)
            continue
        for part in bracket.split("; "):
            variant, _, listed = part.partition(": ")
            given = [read(value) for value in listed.split(", ")]
            assert variant in ("paper", "official"), f"{cell}: {part}"
            assert len(given) == len(names), f"{cell}: {len(given)} values for {names}"
            found += [Value(name, variant, value) for name, value in zip(names, given)]
        names = []
    return found


def owner(section: str, switch: str) -> tuple[type[BaseModel], str]:
    """The class that a switch is a field of, and the field's name."""
    part, point, field = switch.rpartition(".")
    return (PARTS[part], field) if point else (SECTIONS[section], switch)


@cache
def variant_of(cls: type[BaseModel], variant: str) -> BaseModel:
    return cls(variant=variant)


@cache
def known_tests() -> frozenset[str]:
    files = TESTS.rglob("test_*.py")
    return frozenset(name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M))


@cache
def families() -> list[str]:
    """The file patterns of golden numbers, without their suffix."""
    texts = (path.read_text("utf-8") for path in (TESTS / "families").glob("*.py"))
    return [pattern for text in texts for pattern in re.findall(r'^@family\("(.+)\.\w+"\)', text, re.M)]


def shows(name: str) -> bool:
    """Whether there is such a file of tests, test, or family of golden numbers."""
    if name.startswith("tests/"):
        return (ROOT / name).is_file()
    return name in known_tests() or any(fnmatch(name, pattern) for pattern in families())


def test_every_section_has_its_table():
    assert {row.section for row in ROWS} == {*SECTIONS}
    assert len({(row.section, row.what) for row in ROWS}) == len(ROWS)


def test_every_cell_says_something():
    empty = [row.what for row in ROWS if not all(row) or "-" in (row.switch, row.shown)]
    assert empty == []


def test_every_switch_is_a_setting():
    wrong = []
    for row in ROWS:
        if row.switch.startswith("manifest "):
            names = re.findall(r"`([^`]+)`", row.switch)
            wrong += [(row.what, name) for name in names if not (ROOT / "data_manifests" / name).is_file()]
        for switch in switches(row.switch):
            cls, field = owner(row.section, switch)
            if field not in cls.model_fields:
                wrong.append((row.what, switch))
        if row.switch != "none" and "`" not in row.switch:
            wrong.append((row.what, row.switch))
    assert wrong == []


def test_variants_set_what_the_table_says():
    wrong, seen = [], 0
    for row in ROWS:
        for switch, variant, value in values(row.switch):
            cls, field = owner(row.section, switch)
            own = getattr(variant_of(cls, variant), field)
            seen += 1
            if own != (pytest.approx(value) if isinstance(value, float) else value):
                wrong.append(f"{row.what}, {variant}: {switch} is {own}, not {value}")
    assert wrong == []
    assert seen > 80


def test_the_table_says_all_that_the_variants_set():
    said = {(*owner(row.section, switch), variant) for row in ROWS for switch, variant, _ in values(row.switch)}
    classes = [cls for cls in (*SECTIONS.values(), *PARTS.values()) if hasattr(cls, "VARIANTS")]
    assert len(classes) == 5 + 6  # notebooks, and the methods to compare with
    untold = [
        f"{cls.__module__}.{cls.__name__} {variant}: {field}"
        for cls in classes
        for variant in ("paper", "official")
        for field in cls.VARIANTS.get(variant, {})
        if (cls, field, variant) not in said
    ]
    assert untold == []


def test_networks_start_from_the_weights_of_the_official_code():
    """ImageNet's first weights of torchvision for M-FLAG, the second ones for MGCA; Med-UniC's are not named there."""
    first, second = "timm/resnet50.tv_in1k", "timm/resnet50.tv2_in1k"
    for variant in ("recommended", "paper", "official"):
        found = {key: variant_of(SECTIONS[key], variant) for key in ("M-FLAG", "MGCA", "Med-UniC")}
        assert {key: own.vision_weights for key, own in found.items()} == {
            "M-FLAG": first, "MGCA": second, "Med-UniC": first
        }  # fmt: skip
        assert found["MGCA"].transformer_weights == "timm/deit_base_patch16_224.fb_in1k"
        assert [own["vision_weights"] for own in found["Med-UniC"].transformers.values()] == [
            "timm/vit_base_patch16_224.mae", "timm/vit_large_patch32_224.orig_in21k"
        ]  # fmt: skip


def test_tests_and_golden_families_that_are_named_exist():
    wrong = []
    for row in ROWS:
        named = re.findall(r"`([^`]+)`", row.shown)
        wrong += [(row.what, name) for name in named if not shows(name)]
        if not named and row.shown != "none":
            wrong.append((row.what, row.shown))
    assert wrong == []


def test_what_a_switch_does_is_shown():
    assert [row.what for row in ROWS if row.switch != "none" and row.shown == "none"] == []


def test_readme_and_notebooks_link_the_document():
    methods = [name for name, cls in SETTINGS.items() if "variant" in cls.model_fields]
    assert len(methods) == 5
    pages = [ROOT / "README.md", *(NOTEBOOKS / f"{name}.ipynb" for name in methods)]
    assert [path.name for path in pages if "methods/DEVIATIONS.md)" not in path.read_text("utf-8")] == []

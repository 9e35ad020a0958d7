"""Fixed splits: the tracked lists are what the rule gives, and any part of a data set has those of the whole."""

from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcore.data import load
from nbcore.data.fixed_splits import LISTS, fixed_for, fixed_split, known_hashes, list_hash, make_lists
from nbcore.data.manifest import load_manifest

NAMES = ["busi", "idrid", "shenzhen-tb"]


def test_the_tracked_lists_are_those_of_the_rule() -> None:
    assert make_lists() == {
        path.name: path.read_text("utf-8") for path in LISTS.iterdir() if path.suffix in {".csv", ".yaml"}
    }
    assert {path.stem for path in LISTS.glob("*.csv")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_list_has_the_images_and_counts_of_the_manifest(name: str) -> None:
    listed = pd.read_csv(LISTS / f"{name}.csv", dtype=str)
    counts = load_manifest(name).counts
    assert len(listed) == listed["study"].nunique() == counts.images
    assert Counter(listed["split"]) == counts.splits["default"]
    assert known_hashes()[name] == list_hash((LISTS / f"{name}.csv").read_text("utf-8"))


def test_only_names_that_a_rule_gives_are_known() -> None:
    assert fixed_split(load_manifest("montgomery-tb")) is None
    assert fixed_for(load_manifest("busi"), pd.Series(["scan 1.png"])) is None


def test_a_rule_of_the_users_own_is_followed() -> None:
    manifest = load_manifest("shenzhen-tb")
    other = manifest.model_copy(update={"split": manifest.split.model_copy(update={"seed": 1})})
    assert fixed_split(other).keys() == fixed_split(manifest).keys()
    assert fixed_split(other) != fixed_split(manifest)


def _write_shenzhen(root: Path, numbers: list[int], readings: dict[int, str] | None = None) -> Path:
    names = {number: f"CHNCXR_{number:04d}_{int(number > 326)}" for number in numbers}
    (root / "CXR_png").mkdir(parents=True)
    (root / "ClinicalReadings").mkdir()
    for number, name in names.items():
        Image.fromarray(np.full((8, 8), number % 256, np.uint8)).save(root / "CXR_png" / f"{name}.png")
        (root / "ClinicalReadings" / f"{name}.txt").write_text((readings or {}).get(number, "normal"))
    return root


def test_a_partial_copy_has_the_splits_of_the_complete_one(tmp_path: Path) -> None:
    listed = pd.read_csv(LISTS / "shenzhen-tb.csv", dtype=str).set_index("study")["split"]
    table = load("shenzhen-tb", _write_shenzhen(tmp_path / "part", list(range(300, 360)))).table
    assert len(table) == 60 and set(table["split"]) == {"train", "valid", "test"}
    assert (table["split"] == table["study"].map(listed)).all()
    few = load("shenzhen-tb", _write_shenzhen(tmp_path / "few", list(range(300, 310)))).table
    assert few["split"].tolist() == table["split"][:10].tolist()


def test_an_image_of_another_name_is_for_training_unless_its_patient_is_known(tmp_path: Path) -> None:
    tested = next(s for s, split in fixed_split(load_manifest("shenzhen-tb")).items() if split == "test")
    readings = {700: f"PTB (same pt as {tested})"}
    root = _write_shenzhen(tmp_path, [int(tested[7:11]), 500, 501, 502, 700, 701], readings)
    split = load("shenzhen-tb", root).table.set_index("study")["split"]
    assert (split["CHNCXR_0701_1"], split["CHNCXR_0700_1"]) == ("train", "test")


def test_the_published_list_of_busi_wins(tmp_path: Path) -> None:
    known = fixed_split(load_manifest("busi"))
    parts = {
        name: [image for image, split in known.items() if split == name][:3] for name in ("train", "valid", "test")
    }
    for image in chain(*parts.values()):
        place = tmp_path / "BUSI" / image.split()[0] / image
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(place)
    for name in ("benign", "malignant", "normal"):  # each class must be there
        (tmp_path / "BUSI" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "BUSI" / name / f"{name} (1).png")
    table = load("busi", tmp_path).table
    assert (table["split"] == table["study"].map(known)).all()
    swapped = {"train": parts["test"], "val": parts["train"], "test": parts["valid"]}
    lines = {name: [[f"x/{image}", 0, "x"] for image in images] for name, images in swapped.items()}
    (tmp_path / "split_BUSI.json").write_text(pd.Series(lines).to_json())
    table = load("busi", tmp_path).table.set_index("study")["split"]
    assert set(table[parts["test"]]) == {"train"} and set(table[parts["valid"]]) == {"test"}


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_split_by_their_own_rule(name: str, damaged: Callable[[str], Path]) -> None:
    """A twin has names of the list, but other pictures and counts."""
    root = damaged(name)
    twin = load(name, root).table
    assert Counter(twin["split"])["valid"] == load_manifest(name).split.valid.count(
        int((twin["split"] != "test").sum()) if name == "idrid" else len(twin)
    )
    (root / "PHANTOM.json").unlink()
    known = fixed_for(load_manifest(name), twin["study"])
    assert known.notna().any()
    assert (load(name, root).table["split"] != twin["split"]).any()

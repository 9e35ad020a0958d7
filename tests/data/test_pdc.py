"""PDC, a data set that is a split of another one: the same rows, under a name of its own."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.manifest import load_manifest
from nbcore.data.phantom.twins import write_twin
from nbcore.errors import UsageError, UserError
from nbcore.paths import MANIFESTS

Twin = Callable[[str], Path]
OWN = {"name", "part_of", "title", "counts", "used_by", "notes", "questions"}  # the short title is one


def test_pdc_is_the_test_split_of_padchest(twin: Twin) -> None:
    whole, part = load("padchest", twin("padchest")), load("pdc", twin("padchest"))
    assert (part.name, part.classes, part.root) == ("pdc", whole.classes, whole.root)
    assert 0 < len(part) < len(whole)
    pd.testing.assert_frame_equal(part.table, whole.split("test").table)


def test_a_part_takes_over_all_that_is_not_its_own() -> None:
    whole, part = load_manifest("padchest").model_dump(), load_manifest("pdc").model_dump()
    assert {key for key in whole if whole[key] != part[key]} == OWN


def test_its_twin_is_written_present_and_checked(tmp_path: Path) -> None:
    root = write_twin("pdc", tmp_path / "twin", images=100, size=16)
    assert load_manifest("pdc").seems_present(root) and len(load("pdc", root)) > 5
    report = check("pdc", root)
    assert (report.verdict, report.exit_status, report.images) == ("complete", 0, len(load("pdc", root)))


def test_what_is_wrong_with_the_whole_is_wrong_with_the_part(damaged: Twin) -> None:
    root = damaged("padchest")
    with pytest.raises(UserError, match="no padchest data under"):
        load("pdc", root / "0")
    load("pdc", root).image_paths()[0].unlink()
    assert load("pdc", root).missing == 1


def _written(tmp_path: Path, **change: object) -> Path:
    raw = yaml.safe_load((MANIFESTS / "pdc.yaml").read_text()) | change
    path = tmp_path / "pdc.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in raw.items() if value is not None}))
    return path


def test_another_split_of_another_data_set(tmp_path: Path, twin: Twin) -> None:
    path = _written(tmp_path, part_of={"data_set": "nih-chestxray14", "split": "valid"})
    part, whole = load(path, twin("nih-chestxray14")), load("nih-chestxray14", twin("nih-chestxray14"))
    pd.testing.assert_frame_equal(part.table, whole.split("valid").table)
    empty = _written(tmp_path, part_of={"data_set": "chexlocalize", "split": "valid"})
    with pytest.raises(UserError, match=r"no image of chexlocalize under .* is for valid"):
        load(empty, twin("chexlocalize"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": None}, "missing key 'title'"),
        ({"classes": ["a"]}, "classes is that of padchest, of which this is a part: remove it"),
        ({"clases": ["a"]}, "unknown key 'clases'"),
        ({"part_of": {"data_set": "padchset", "split": "test"}}, "unknown data set 'padchset'"),
        ({"part_of": {"data_set": "pdc", "split": "test"}}, "is itself a part, of padchest"),
        ({"part_of": {"data_set": "padchest", "split": "tset"}}, "part_of: split: Input should be"),
        ({"part_of": {"data_set": "padchest"}}, "part_of: missing key 'split'"),
        ({"part_of": "padchest"}, "part_of: Input should be"),
    ],
)
def test_a_wrong_part_is_refused(change: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_manifest(_written(tmp_path, **change))
    assert reason in str(caught.value) and "\n" not in str(caught.value)

"""Several data sets as one table, and the proof that nothing tested on was learnt from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nbcore.data import assert_unseen, join, load
from nbcore.data.images import image_cache
from nbcore.data.masks import masks
from nbcore.data.samples import COLUMNS, Samples
from nbcore.data.splits import assert_disjoint
from nbcore.data.tables import tidy
from nbcore.errors import UsageError, UserError

Twin = Callable[[str], Path]


@pytest.fixture
def parts(twin: Twin) -> list[Samples]:
    return [load(name, twin(name)) for name in ("mimic-cxr", "padchest")]


def test_a_join_holds_everything_but_the_labels(parts: list[Samples], tmp_path: Path) -> None:
    joined = join(parts)
    assert (joined.name, joined.classes, joined.source, len(joined)) == ("mimic-cxr+padchest", (), "phantom", 200)
    assert joined.image_paths() == [path for part in parts for path in part.image_paths()]
    assert list(joined.table.columns) == list(COLUMNS)
    assert joined.table["report"].tolist() == [text for part in parts for text in part.table["report"]]
    assert joined.table["language"].tolist() == ["en"] * 100 + ["es"] * 100
    assert joined.table["patient"].nunique() == sum(part.table["patient"].nunique() for part in parts)
    assert joined.table["study"].str.startswith(("mimic-cxr/", "padchest/")).all()
    assert_disjoint(joined.table)
    assert joined.subset([0, 150]).split("train").name == joined.name
    pixels = [image_cache(samples, 16, tmp_path) for samples in (joined, *parts)]
    assert (pixels[0] == np.concatenate(pixels[1:])).all()


def test_a_single_data_set_is_left_as_it_is(parts: list[Samples]) -> None:
    assert join(parts[:1]) is parts[0]


def test_patients_with_one_number_do_not_collide_and_missing_images_add_up() -> None:
    both = join([_samples("a", ["7"], missing=2), _samples("b", ["7"], missing=3)])
    assert both.table["patient"].tolist() == ["a/7", "b/7"] and both.missing == 5
    three = join([both, _samples("c", ["7"])])
    assert (three.name, three.table["patient"].tolist()) == ("a+b+c", ["a/7", "b/7", "c/7"])


def test_masks_are_found_again(twin: Twin, tmp_path: Path) -> None:
    drawn = Samples("drawn", tmp_path, (), "phantom", 0, tidy(1, image="a.png", patient="p", study="s", mask="m/a.png"))
    told = load("siim-acr", twin("siim-acr"))
    joined = join([told, drawn])
    assert joined.root / joined.table["mask"].iloc[-1] == tmp_path / "m" / "a.png"
    assert (masks(joined.subset(range(100)), 16) == masks(told, 16)).all()


def test_the_fingerprint_does_not_depend_on_the_common_place(twin: Twin, tmp_path: Path) -> None:
    prints = []
    for place in ("here", "or/there"):
        roots = {name: shutil.copytree(twin(name), tmp_path / place / name) for name in ("mimic-cxr", "padchest")}
        prints.append(join([load(name, root) for name, root in roots.items()]).fingerprint())
    assert prints[0] == prints[1]


def test_what_cannot_be_joined() -> None:
    with pytest.raises(UsageError, match="no data set to join"):
        join([])
    with pytest.raises(UsageError, match="cannot join a and a: each data set may be there once"):
        join([_samples("a", ["1"]), _samples("a", ["2"])])
    with pytest.raises(UsageError, match="some are phantom data and some are real"):
        join([_samples("a", ["1"]), _samples("b", ["2"], source="phantom")])


def _samples(name: str, patients: list[str], source: str = "real", missing: int = 0) -> Samples:
    table = tidy(len(patients), image=[f"{p}.png" for p in patients], patient=patients, study="s")
    return Samples(name, Path("/data") / name, (), source, missing, table)


# --- nothing tested on was learnt from


def test_the_splits_of_a_data_set_are_unseen_also_in_a_join(parts: list[Samples]) -> None:
    for part in parts:
        assert_unseen(part.split("train"), part.split("test"))
        assert_unseen(join([each.split("train") for each in parts]), part.split("test"))
    assert_unseen(parts[0], parts[1])


def test_a_patient_learnt_from_is_named(parts: list[Samples]) -> None:
    table = parts[1].table
    patient = table.loc[table["patient"].duplicated(), "patient"].iloc[0]
    first, *others = np.flatnonzero(table["patient"] == patient)
    learnt, tests = parts[1].subset([first]), parts[1].subset(others)
    for known in (learnt, join([parts[0], learnt])):
        with pytest.raises(UserError) as caught:
            assert_unseen(known, tests)
        assert f"the test image {tests.image_paths()[0]} is of patient {patient!r}" in str(caught.value)


def test_the_same_number_in_another_data_set_is_another_patient(parts: list[Samples]) -> None:
    first, second = parts[0].subset([0]), parts[1].subset([0])
    second.table["patient"] = first.table["patient"]
    assert_unseen(first, second)


def test_a_picture_learnt_from_is_named_whatever_its_data_set(damaged: Twin, twin: Twin) -> None:
    root = damaged("chexpert")
    learnt, tests = load("padchest", twin("padchest")), load("chexpert", root)
    assert_unseen(learnt, tests)
    shutil.copy(learnt.image_paths()[5], tests.image_paths()[8])
    tests = load("chexpert", root)  # a table knows its pictures once
    with pytest.raises(UserError) as caught:
        assert_unseen(learnt, tests)
    assert f"{tests.image_paths()[8]} is the same picture as {learnt.image_paths()[5]}" in str(caught.value)

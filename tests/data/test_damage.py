"""Every reader on hundreds of randomly damaged copies: a correct table or one clear sentence, never anything else."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import damage
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbcore.data import load
from nbcore.data.images import read_image
from nbcore.data.manifest import list_manifests, load_manifest
from nbcore.data.masks import boxes_in_square, masks
from nbcore.data.phantom.twins import write_twin
from nbcore.data.samples import COLUMNS, RLE, SPLITS, Samples
from nbcore.errors import UserError

EXAMPLES = int(os.environ.get("NBCORE_EXAMPLES", "60"))  # damages of each data set
IMAGES, SIZE = 30, 32
VIEWS = {"PA", "AP", "", "dermoscopy", "clinical"}
Twin = Callable[[str], tuple[Path, Samples]]


@pytest.fixture(scope="session")
def small_twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """Name -> the root of a small twin, not to be changed, and what is read of it undamaged."""
    written: dict[str, tuple[Path, Samples]] = {}

    def found(name: str) -> tuple[Path, Samples]:
        if name not in written:
            root = write_twin(name, tmp_path_factory.mktemp("small") / name, IMAGES, SIZE, seed=5)
            written[name] = root, load(name, root)
        return written[name]

    return found


def assert_one_sentence(error: UserError, root: Path) -> None:
    """It is one line, of bearable length, that says where to look."""
    told = str(error)
    assert told and "\n" not in told and len(told) < 700, told
    assert "Traceback" not in told and "Error(" not in told and not re.search(r"\bdtype\b|\bndarray\b", told), told


def assert_tidy(samples: Samples) -> None:
    """What holds of every table."""
    table = samples.table
    assert list(table.columns) == [*COLUMNS, *(f"label:{name}" for name in samples.classes)]
    assert len(table) and isinstance(table.index, pd.RangeIndex)
    for column in ("image", "patient", "study"):
        assert table[column].map(lambda value: isinstance(value, str) and bool(value.strip())).all(), column
    for image in table["image"]:
        assert not image.startswith("/") and ".." not in image.split("/") and (samples.root / image).is_file(), image
    assert table["image"].is_unique
    assert (
        table["split"].isin(SPLITS).all()
        and table["view"].isin(VIEWS).all()
        and table["language"].isin(["en", "es", ""]).all()
    )
    assert table["report"].map(lambda report: isinstance(report, str)).all()
    assert table.groupby("patient")["split"].nunique().max() == 1
    labels = table.filter(like="label:").to_numpy()
    assert labels.dtype == np.float32 and (np.isnan(labels) | np.isin(labels, [1, 0, -1])).all()
    for boxes in table["boxes"]:
        assert all(len(box) == 4 and np.isfinite(box).all() and min(box[2:]) >= 0 for box in boxes), boxes
    for mask in table["mask"]:
        if mask.startswith(RLE):
            assert re.fullmatch(r"\d+ \d+([ ;]\d+ \d+)*", mask.removeprefix(RLE)), mask
        else:
            assert not mask or (samples.root / mask).is_file(), mask


def assert_pictures_are_told(samples: Samples) -> None:
    """Each picture, mask and box is read, or told in a sentence; a picture that is read is one."""
    try:
        for path in samples.image_paths():
            assert read_image(path).ndim == 2
        assert masks(samples, 16).max() <= 1
        for boxes in boxes_in_square(samples, 16):
            assert np.isfinite(boxes).all()
    except UserError as error:
        assert_one_sentence(error, samples.root)


def assert_change_is_allowed(before: Samples, after: Samples, meaning: damage.Meaning) -> None:
    """Rows that the damage did not concern are as they were."""
    old, new = (samples.table.set_index("image").drop(columns="split") for samples in (before, after))
    shared = old.index.intersection(new.index)
    same = (old.loc[shared].map(str) == new.loc[shared].map(str)).all(axis=1)
    changed, lost, gained = (~same).sum(), len(old.index.difference(new.index)), len(new.index.difference(old.index))
    if meaning == "local" and load_manifest(before.name).part_of:
        lost = gained = 0  # the split that the data set is of is drawn anew
    record = before.table["patient"].value_counts().max()
    if meaning == "nothing":
        assert (changed, lost, gained) == (0, 0, 0), (shared[~same].tolist(), lost, gained)
        pd.testing.assert_series_equal(*(s.table.set_index("image")["split"].sort_index() for s in (before, after)))
    elif meaning == "local":
        assert max(changed, lost, gained) <= record, (changed, lost, gained, record)


@pytest.mark.parametrize("name", list_manifests())
def test_a_damaged_copy_gives_a_correct_table_or_one_sentence(name: str, small_twin: Twin) -> None:
    whole, before = small_twin(name)

    @settings(
        max_examples=EXAMPLES,
        derandomize="NBCORE_EXAMPLES" not in os.environ,
        deadline=30_000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root = damage.link_tree(whole, Path(scratch) / name)
            done, meaning = damage.damage(root, data.draw)
            try:
                after = load(name, root)
            except UserError as error:
                assert_one_sentence(error, root)
                return
            try:
                assert_tidy(after)
                assert_change_is_allowed(before, after, meaning)
                assert_pictures_are_told(after)
            except AssertionError as error:
                error.add_note(f"after {done}")
                raise

    run()

"""Translated reports: of the same studies, of both hospitals, in the form in which the two data sets are read."""

import re
from pathlib import Path

import numpy as np
import pytest

from nbcore.data import load, load_manifest
from nbcore.data.images import read_image
from nbcore.data.phantom.parallel import parallel_reports
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast

COUNT = 150
NAMED = {  # a finding that is asserted or denied in both languages or in neither
    r"\beffusion": r"\bderram",
    r"\bpneumothorax": r"\bneumotorax",
    r"\bmediastin|cardiomediastinal": r"mediastin",
    r"emphysem": r"enfisem",
    r"\bhiatal hernia|retrocardiac": r"\bherni",
}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    english, spanish = parallel_reports(COUNT, 3)
    return list(zip(english, spanish, strict=True))


def test_as_many_distinct_pairs_as_asked_for_and_none_empty(pairs: list[tuple[str, str]]) -> None:
    assert len(set(pairs)) == COUNT
    assert all(len(text.split()) >= 3 for pair in pairs for text in pair)


def test_the_form_is_that_of_the_two_data_sets_as_read(pairs: list[tuple[str, str]]) -> None:
    for english, spanish in pairs:
        assert re.fullmatch(r"[a-z0-9 \n]+", english) and re.fullmatch(r"[a-z0-9 \n]+", spanish)
        assert not re.search(r"^\d+$", spanish, re.MULTILINE)
    assert any("\n" in spanish for _, spanish in pairs)


@pytest.mark.parametrize(("english", "spanish"), NAMED.items())
def test_both_speak_of_the_same_findings(english: str, spanish: str, pairs: list[tuple[str, str]]) -> None:
    named = np.array([[re.search(english, first) is not None, re.search(spanish, second) is not None]
                      for first, second in pairs], float)  # fmt: skip
    others = np.stack([named[:, 0], np.roll(named[:, 1], 1)], axis=1)
    assert np.corrcoef(named.T)[0, 1] > 0.7 > 0.4 > abs(np.corrcoef(others.T)[0, 1])


def test_the_seed_decides_and_a_larger_number_goes_on(pairs: list[tuple[str, str]]) -> None:
    assert list(zip(*parallel_reports(20, 3))) == pairs[:20]
    assert not set(zip(*parallel_reports(20, 4))) & set(pairs)


def test_twins_of_the_two_hospitals_share_no_patient_and_no_picture(tmp_path: Path) -> None:
    """Nor a text with the parallel reports beyond those that say nothing of their own."""
    casts = [draw_cast(load_manifest(name), 60, 16, 0).studies for name in ("mimic-cxr", "padchest")]
    north, south = ({study.anatomy for study in cast} for cast in casts)
    assert min(len(north), len(south)) >= 20 and not north & south
    first, second = (
        load(name, write_twin(name, tmp_path / name, images=60, size=16)) for name in ("mimic-cxr", "padchest")
    )
    pictures = [{read_image(path).tobytes() for path in samples.image_paths()} for samples in (first, second)]
    assert [len(found) for found in pictures] == [60, 60] and not pictures[0] & pictures[1]
    assert set(first.table["patient"]).isdisjoint(second.table["patient"])

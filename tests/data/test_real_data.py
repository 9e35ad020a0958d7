"""The readers on real, openly licensed data, where it is at hand."""

from pathlib import Path

import pytest

from nbcore.data import image_cache, load
from nbcore.data.check import check
from nbcore.data.splits import assert_disjoint
from nbcore.paths import ROOT

DATA = ROOT.parent / "shared" / "data"


def at_hand(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"no real {name} at hand")


@at_hand("kermany")
def test_kermany(tmp_path: Path) -> None:
    samples = load("kermany", DATA / "kermany")
    assert samples.source == "real" and samples.missing == 0
    assert {name: len(samples.split(name)) for name in ("train", "valid", "test")} == {
        "train": 4694,
        "valid": 522,
        "test": 624,
    }
    assert samples.split("test").labels().sum(axis=0).tolist() == [234, 390]
    assert samples.labels().sum(axis=0).tolist() == [1341 + 234, 3875 + 390]
    assert_disjoint(samples.table)
    assert samples.table["patient"].str.fullmatch(r"(train|test)/(person\d+|(NORMAL2-)?IM-\d+)").all()
    few = samples.subset(range(0, 5000, 500))
    assert image_cache(few, 32, tmp_path).std(axis=(1, 2)).min() > 10
    assert check("kermany", DATA / "kermany", quick=True).verdict == "subset: 5840 of 5856"


@at_hand("covid-chestxray")
def test_covid_chestxray() -> None:
    samples = load("covid-chestxray", DATA / "covid-chestxray")
    assert len(samples) == len(samples.pairs()) == 249
    assert samples.table["patient"].nunique() == 148
    assert samples.labels().sum(axis=0).tolist() == [115, 179, 4]
    assert samples.table["label:COVID-19"].isna().sum() == 62  # "todo"
    assert_disjoint(samples.table)
    assert check("covid-chestxray", DATA / "covid-chestxray").verdict == "complete"

"""Which published accuracies are the share of a single class."""

import pandas as pd
import pytest

from nbcore.analysis.single_class import _PARTS, single_class_table
from nbcore.data import load_manifest
from nbcore.results import published


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return single_class_table(published("meduna"))


@pytest.mark.parametrize(
    ("dataset", "accuracy", "part", "k", "n", "verdict"),
    [
        ("S-TB", 42.86, "test", 57, 133, "only the smaller class"),
        ("S-TB", 57.14, "test", 76, 133, "only the larger class"),
        ("S-TB", 67.67, "test", 90, 133, "90 of 133"),
        ("S-TB", 50.76, "all", 336, 662, "only TB"),
        ("S-TB", 54.08, "all", 358, 662, "358 of 662"),
        ("M-TB", 48.28, "test", 14, 29, "only the smaller class"),
        ("M-TB", 72.41, "test", 21, 29, "21 of 29"),
        ("M-TB", 42.03, "all", 58, 138, "only TB"),
        ("M-TB", 57.97, "all", 80, 138, "only NORMAL"),
        ("Kermany", 62.50, "test", 390, 624, "only PNEUMONIA"),
        ("Kermany", 80.93, "test", 505, 624, "505 of 624"),
        ("Kermany", 72.97, "all", 4273, 5856, "only PNEUMONIA"),
        ("Kermany", 72.98, "all", 4274, 5856, "4274 of 5856"),
        ("IDRID", 32.04, "test", 33, 103, "33 of 103"),
        ("IDRID", 18.45, "test", 19, 103, "only Stage_3_Retinopathy"),
        ("IDRID", 31.07, "test", 32, 103, "only Stage_2_Retinopathy"),
        ("IDRID", 32.01, "test", None, 103, "no k of 103"),
        ("ISIC", 29.70, "test", 449, 1512, "449 of 1512"),
        ("ISIC", 24.10, "test", None, 1512, "no k of 1512"),
    ],
)
def test_readings(table, dataset, accuracy, part, k, n, verdict):
    rows = table[(table["dataset"] == dataset) & (table["accuracy"] == accuracy)]
    assert len(rows) >= 1
    for row in rows.itertuples():
        assert (row.part, row.n, row.verdict) == (part, n, verdict)
        assert pd.isna(row.k) if k is None else row.k == k


def test_every_accuracy_of_a_data_set_is_there_and_none_else(table):
    rows = published("meduna")
    expected = rows[(rows["metric"] == "ACC (%)") & (rows["dataset"] != "Average")]
    keys = ["table", "dataset", "method", "setting"]
    assert [*table[keys].itertuples(index=False)] == [*expected[keys].itertuples(index=False)]


def test_k_of_n_gives_back_the_printed_accuracy(table):
    known = table.dropna(subset="k")
    assert (100 * known["k"] / known["n"] - known["accuracy"]).abs().max() <= 0.005 + 1e-9
    assert {*table.loc[table["k"].isna(), "accuracy"]} == {32.01, 14.98, 23.48, 8.69, 24.10}


def test_rounding_is_to_the_last_digit_and_other_data_sets_are_left_out():
    row = {"table": "T", "method": "m", "setting": "s", "metric": "ACC (%)"}
    values = [("ISIC", 60.12), ("IDRID", 33.00), ("IDRID", 33.01), ("IDRID", 33.02), ("elsewhere", 50.0)]  # 34 / 103
    found = single_class_table(pd.DataFrame([{**row, "dataset": name, "value": value} for name, value in values]))
    assert found["verdict"].tolist() == ["only NV", "no k of 103", "only Normal", "no k of 103"]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("S-TB", "shenzhen-tb"),
        ("M-TB", "montgomery-tb"),
        ("Kermany", "kermany"),
        ("IDRID", "idrid"),
        ("ISIC", "isic2018"),
    ],
)
def test_classes_and_sizes_are_the_manifests(dataset, name):
    manifest = load_manifest(name)
    official = {"all": manifest.counts.images}
    if manifest.split.official or name == "kermany":
        official["test"] = manifest.counts.splits["default"]["test"]
    parts = [part for part in _PARTS[dataset] if part.name in official]
    assert parts
    for part in parts:
        assert part.images == official[part.name]
        assert tuple(part.classes) == manifest.classes

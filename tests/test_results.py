"""Records, claims and tables beside the published numbers."""

import json

import numpy as np
import pandas as pd
import pytest

from nbcore.errors import UserError
from nbcore.paths import PUBLISHED
from nbcore.results import (
    Record,
    Row,
    aggregate,
    by_chance,
    comparability,
    compared,
    judge,
    load_record,
    pivot,
    published,
    published_decimals,
    table_order,
    write_tables,
)

WHERE = {"table": "Table 2", "method": "M-FLAG", "dataset": "NIH", "setting": "1%", "metric": "AUC (%)"}


def record(rows: list[Row], source: str = "phantom", profile: str = "demo") -> Record:
    return Record(
        notebook="mflag",
        title="M-FLAG",
        profile=profile,
        command="python -m nbcore run mflag",
        config={},
        seeds=[0, 1, 2],
        source=source,
        data=[],
        rows=rows,
        claims=[],
        figures=[],
        notes=[],
        environment={},
        seconds=1.0,
        peak_memory_mib=1.0,
        complete=True,
    )


def test_aggregate_is_mean_and_sample_deviation():
    row = aggregate([1.0, 2.0, 6.0], **WHERE)
    assert (row.value, row.n) == (3.0, 3)
    assert row.std == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert aggregate([1.0], **WHERE).std is None


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([1.0, 2.0, 3.0], "supported"),
        ([-1.0, -2.0, -3.0], "not supported"),
        ([-1.0, 2.0, 3.0], "inconclusive"),
        ([5.0, 6.0], "inconclusive"),  # two seeds decide nothing
    ],
)
def test_verdicts_follow_the_interval(effects, verdict):
    claim = judge("k", "s", "p", effects, unit="points")
    assert claim.verdict == verdict
    assert claim.low <= claim.mean <= claim.high
    assert claim.mean == pytest.approx(np.mean(effects))


def test_threshold_and_exact_claims():
    assert judge("k", "s", "p", [71.0], unit="%", threshold=70, exact=True).verdict == "supported"
    assert judge("k", "s", "p", [69.0], unit="%", threshold=70, exact=True).verdict == "not supported"
    assert judge("k", "s", "p", [1, 2, 3], unit="%", threshold=2.0).verdict == "inconclusive"


def test_interval_is_the_bootstrap_of_the_mean():
    effects = np.random.default_rng(1).normal(1, 1, 40)
    claim = judge("k", "s", "p", effects, unit="x")
    half = 1.96 * effects.std(ddof=1) / np.sqrt(40)
    assert claim.low == pytest.approx(effects.mean() - half, abs=0.08)
    assert claim.high == pytest.approx(effects.mean() + half, abs=0.08)


def test_what_chance_supports_on_three_seeds():
    """Claims without any effect: as many are supported, and as many are not, as `by_chance` expects."""
    drawn = np.random.default_rng(3).normal(size=(400, 3))
    claims = [judge("k", "s", "p", effects, unit="points") for effects in drawn]
    assert all((c.low, c.high) == pytest.approx((min(c.effects), max(c.effects))) for c in claims)
    verdicts = [claim.verdict for claim in claims]
    assert by_chance(claims) == 50
    for verdict in ("supported", "not supported"):
        assert verdicts.count(verdict) == pytest.approx(50, abs=20)  # three standard deviations
    assert by_chance([judge("k", "s", "p", [1.0], unit="%", exact=True)]) == 0


def test_tables_come_in_the_papers_order():
    names = ["text", "Table 10", "Geometry", "Table 2", "Table 1"]
    assert sorted(names, key=table_order) == ["Table 1", "Table 2", "Table 10", "Geometry", "text"]
    tables = list(dict.fromkeys(compared(record([]).model_copy(update={"notebook": "med_unic"}))["table"]))
    assert tables.index("Table 2") < tables.index("Table 10")


def test_decimals_are_those_of_the_print():
    errors = published("mgca").dropna(subset="std")
    key = tuple(errors.iloc[0][column] for column in WHERE)
    assert published_decimals("mgca")[key] == (1, 2)  # such as 88.7 ± 0.18


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.csv")), ids=lambda path: path.stem)
def test_published_numbers_are_tidy(path):
    table = published(path.stem)
    keys = ["table", "method", "dataset", "setting", "metric"]
    assert not table.duplicated(keys).any()
    assert table["value"].notna().all()


def test_our_rows_stand_beside_the_published_ones():
    table = compared(record([aggregate([60.0, 62.0], **WHERE)])).set_index(list(WHERE))
    row = table.loc[tuple(WHERE.values())]
    assert (row["reproduced"], row["published"], row["n"]) == (61.0, 62.2, 2)
    assert not row["comparable"]
    assert pd.isna(row["difference"])
    other = table.loc[("Table 2", "GLoRIA", "NIH", "1%", "AUC (%)")]
    assert pd.isna(other["reproduced"])
    assert other["published"] == 60.1


def test_a_difference_needs_the_papers_data_and_configuration():
    row = [aggregate([60.0], **WHERE)]
    for source, profile, expected in (("real", "paper", -2.2), ("real", "open", None), ("phantom", "paper", None)):
        table = compared(record(row, source, profile)).set_index(list(WHERE))
        difference = table.loc[tuple(WHERE.values()), "difference"]
        assert (pd.isna(difference) and expected is None) or difference == pytest.approx(expected)
    assert "not comparable" in comparability(record(row))
    assert "not comparable" not in comparability(record(row, "real", "paper"))


def test_rows_of_ours_alone_are_kept():
    ours = aggregate([0.5], table="Table 2", method="Supervised", dataset="NIH", setting="100%", metric="AUC (%)")
    table = compared(record([ours]))
    assert (table["method"] == "Supervised").sum() == 1
    wide = pivot(table[table["table"] == "Table 2"])
    assert wide.loc["Supervised", "NIH 100% AUC (%)"] == "0.5 [–]"
    assert wide.loc["GLoRIA", "NIH 1% AUC (%)"] == "– [60.1]"


def test_tables_are_written_in_three_forms(tmp_path):
    write_tables(record([aggregate([60.0, 62.0, 64.0], **WHERE)]), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"table_2.csv", "table_2.md", "table_2.tex", "table_5.csv"} <= names
    assert "62.0 ± 2.0 [62.2]" in (tmp_path / "table_2.md").read_text()
    tex = (tmp_path / "table_2.tex").read_text()
    assert "62.0 ± 2.0 [62.2]" in tex
    assert r"1\%" in tex
    tidy = pd.read_csv(tmp_path / "table_2.csv")
    assert tidy["reproduced"].notna().sum() == 1


def test_counts_are_printed_whole():
    images = {"table": "Table 1", "method": "Classification", "dataset": "NIH", "setting": "valid", "metric": "images"}
    table = compared(record([aggregate([280], **images)]))
    assert pivot(table[table["table"] == "Table 1"]).loc["Classification", "NIH valid images"] == "280 [5,000]"


def test_damaged_records_are_refused(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(record([]).model_dump_json())
    assert load_record(path).notebook == "mflag"
    whole = json.loads(path.read_text())
    for damage in (
        "{",
        json.dumps({**whole, "surprise": 1}),
        json.dumps({k: v for k, v in whole.items() if k != "rows"}),
    ):
        path.write_text(damage)
        with pytest.raises(UserError, match=r"record.json: not a readable record"):
            load_record(path)
    with pytest.raises(UserError, match=r"absent.json: there is no record"):
        load_record(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "row",
    [
        {"value": float("nan")},
        {"value": float("-inf")},
        {"std": float("inf")},
        {"std": -1.0},
        {"std": 1e308},
        {"n": 0},
        {"n": 1},
        {"low": float("nan")},
    ],
    ids=str,
)
def test_numbers_that_are_none_are_refused(tmp_path, row):
    """A report or a comparison made of them would fail in its middle."""
    path = tmp_path / "record.json"
    whole = json.loads(record([aggregate([60.0, 62.0], **WHERE)]).model_dump_json())
    whole["rows"][0] |= row
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match=r"record.json: not a readable record"):
        load_record(path)


@pytest.mark.parametrize("change", [{"config": {"a": float("nan")}}, {"figures": [{"name": "../x", "caption": ""}]}])
def test_what_is_no_json_or_lies_elsewhere_is_refused(tmp_path, change):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**json.loads(record([]).model_dump_json()), **change}))
    with pytest.raises(UserError, match="not a readable record"):
        load_record(path)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="not a readable record"):
        load_record(path)

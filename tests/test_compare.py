"""What changed between two runs: each change is told, and no more numbers lie beyond noise than chance puts."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import ttest_ind

from nbcore.__main__ import cli
from nbcore.compare import Number, compare, compare_records, noise
from nbcore.errors import UsageError, UserError
from nbcore.results import DataUse, Record, Row, aggregate, judge

WHERE = {"table": "Table 2", "method": "M-FLAG", "setting": "1%", "metric": "AUC (%)"}


def row(values, dataset: str = "NIH", **interval: float) -> Row:
    return aggregate(values, dataset=dataset, **WHERE).model_copy(update=interval)


def record(rows=None, effects=(1.0, 2.0, 3.0), **changed) -> Record:
    values = {
        "notebook": "mflag",
        "title": "M-FLAG",
        "profile": "demo",
        "command": "python -m nbcore run mflag",
        "config": {"epochs": 8, "twins": {"nih": 200}, "scale": None},
        "seeds": [0, 1, 2],
        "source": "phantom",
        "data": [DataUse(name="nih", source="phantom", fingerprint="aa", counts={"train": 120})],
        "rows": [row([70.0, 71.0, 72.0])] if rows is None else rows,
        "claims": [judge("rank", "The rank is higher.", "Table 2", effects, unit="of 1")],
        "figures": [],
        "notes": [],
        "environment": {"commit": "1234567", "torch": "2.15.0", "device": "x86_64", "threads": 2},
        "seconds": 1.0,
        "peak_memory_mib": 1.0,
        "complete": True,
    }
    return Record(**{**values, **changed})


def test_a_run_and_itself_are_the_same_bit_for_bit():
    comparison = compare_records(record(), record(seconds=9.0))
    assert comparison.same_numbers
    assert not any(comparison.changes.values())
    assert "the same numbers, bit for bit: 1 and 1 claims" in comparison.to_text()


@pytest.mark.parametrize(
    "other",
    [
        record([row([70.0, 71.0, math.nextafter(72.0, 73.0)])]),
        record([row([71.0, 71.0, 71.0])]),  # the mean stays, the spread does not
        record(effects=(1.0, 2.0, 3.0000001)),
        record([row([70.0, 71.0, 72.0]), row([1.0], "SIIM")]),
    ],
)
def test_one_bit_more_is_not_the_same(other):
    assert not compare_records(record(), other).same_numbers
    assert "bit for bit: " not in compare_records(other, record()).to_text()


def test_every_kind_of_change_is_told_by_its_key():
    changed = record(
        config={"epochs": 9, "twins": {"nih": 100}, "solver": "exact"},
        data=[DataUse(name="nih", source="phantom", fingerprint="bb", counts={"train": 60})],
        environment={"commit": "7654321+", "torch": "2.16.0", "device": "H100", "threads": 2},
        notes=["A small stand-in was trained."],
        profile="smoke",
    )
    changes = compare_records(record(), changed).changes
    assert changes["configuration"] == [
        {"key": "epochs", "old": 8, "new": 9},
        {"key": "twins.nih", "old": 200, "new": 100},
        {"key": "scale", "old": None},
        {"key": "solver", "new": "exact"},
    ]
    keys = {section: [change["key"] for change in found] for section, found in changes.items()}
    assert keys["run"] == ["profile"]
    assert keys["code"] == ["commit", "torch"]
    assert keys["environment"] == ["device"]
    assert keys["data"] == ["nih.fingerprint", "nih.counts.train"]
    assert keys["notes"] == ["A small stand-in was trained."]
    text = compare_records(record(), changed).to_text()
    for line in ("epochs: 8 -> 9", "scale: null -> (absent)", "commit: 1234567 -> 7654321+", "device: x86_64 -> H100"):
        assert f"  {line}\n" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("sizes", [(3, 3), (3, 5), (10, 4)])
def test_beyond_noise_is_welchs_test_at_the_five_percent_level(sizes):
    random = np.random.default_rng(0)
    for shift in np.linspace(0, 6, 40):
        old, new = random.normal(70, 1, sizes[0]), random.normal(70 + shift, 2, sizes[1])
        (number,) = compare_records(record([row(old)]), record([row(new)])).numbers
        verdict = "beyond noise" if ttest_ind(old, new, equal_var=False).pvalue < 0.05 else "within noise"
        assert number.kind == verdict


def test_a_data_set_of_one_run_alone_is_one_change():
    (change,) = compare_records(record(), record(data=[])).changes["data"]
    assert change == {"key": "nih", "old": {"source": "phantom", "fingerprint": "aa", "counts": {"train": 120}}}


def test_one_run_against_several_borrows_their_spread():
    several = row([69.0, 70.0, 71.0])  # s = 1; t(2) = 4.3027; sqrt(1 + 1/3) = 1.1547
    assert noise(several, row([75.0])) == noise(row([75.0]), several) == pytest.approx(4.3027 * 1.1547, rel=1e-4)


def test_intervals_of_single_runs_add_in_squares():
    old, new = row([70.0], low=67.0, high=73.0), row([75.5], low=71.5, high=79.5)
    assert noise(old, new) == pytest.approx(5.0)
    assert noise(old, row([75.5])) is None


def test_without_a_spread_no_noise_is_known():
    assert noise(row([70.0]), row([71.0])) is None
    assert noise(row([70.0, 70.0, 70.0]), row([71.0, 71.0, 71.0])) is None
    third = 100 / 3
    assert noise(row([third, third, math.nextafter(third, 34)]), row([71.0, 71.0, 71.0])) is None
    assert Number("", 70.0, 71.0, None, False).kind == "no noise known"


def test_chance_alone_stays_at_the_number_told():
    random = np.random.default_rng(1)
    rows = [[row(random.normal(70, 1, 20), f"set {index}") for index in range(2000)] for _ in range(2)]
    comparison = compare_records(record(rows[0]), record(rows[1]))
    assert comparison.by_chance == 100
    assert len(comparison.of_kind("beyond noise")) == pytest.approx(comparison.by_chance, abs=30)
    assert "chance alone would put about 100.0 there (5% of 2000)" in " ".join(comparison.to_text().split())


def test_the_largest_difference_against_its_noise_comes_first():
    old = [row([70.0, 71.0, 72.0], "wide"), row([70.0, 70.1, 70.2], "narrow"), row([1.0], "single")]
    new = [row([80.0, 81.0, 82.0], "wide"), row([75.0, 75.1, 75.2], "narrow"), row([2.0], "single")]
    text = compare_records(record(old), record(new)).to_text()
    assert text.index("narrow") < text.index("wide") < text.index("single")
    (line,) = [line for line in text.splitlines() if "wide" in line]
    assert line.split()[-4:] == ["71.00", "81.00", "+10.00", f"{noise(old[0], new[0]):.2f}"]


def test_long_lists_end_with_how_many_more():
    rows = [[row([float(index + side)], f"set {index}") for index in range(30)] for side in (0, 1)]
    comparison = compare_records(record(rows[0]), record(rows[1]))
    assert "and 10 more (--all)" in comparison.to_text()
    listed = comparison.to_text(everything=True)
    assert all(f"set {index} " in listed for index in range(30))


def test_numbers_of_one_run_alone_and_repeated_rows_keep_their_names():
    comparison = compare_records(record([row([1.0]), row([2.0])]), record([row([1.0]), row([3.0], "SIIM")]))
    assert comparison.only_old == ["Table 2 · M-FLAG · NIH · 1% · AUC (%) (no. 2)"]
    assert comparison.only_new == ["Table 2 · M-FLAG · SIIM · 1% · AUC (%)"]
    assert "only in the new run: 1" in comparison.to_text()


def test_claims_with_another_verdict_or_wording():
    (claim,) = compare_records(record(), record(effects=(-1.0, -2.0, -3.0))).claims
    assert (claim["old"]["verdict"], claim["new"]["verdict"]) == ("supported", "not supported")
    assert not claim["reworded"]
    stricter = record(claims=[judge("rank", "The rank is higher.", "Table 2", [1, 2, 3], unit="of 1", threshold=0.5)])
    assert "the sentence or its threshold was changed" in " ".join(
        compare_records(record(), stricter).to_text().split()
    )
    assert compare_records(record(), record(effects=(1.0, 2.0, 4.0))).claims == []


@pytest.fixture
def runs(tmp_path):
    """Two profile folders: mflag in both, mgca in the first alone, and a run that has not ended."""
    for folder, name in (("a", "mflag"), ("a", "mgca"), ("b", "mflag"), ("b", ".mgca.partial")):
        path = tmp_path / folder / name / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(record(notebook=name.strip(".").split(".")[0]).model_dump_json())
    return tmp_path


def test_records_notebooks_and_profiles_are_found(runs):
    for part in ("mflag/record.json", "mflag", ""):
        outcome = compare(runs / "a" / part, runs / "b" / part)
        assert [each.notebook for each in outcome.comparisons] == ["mflag"]
    assert (outcome.only_old, outcome.only_new) == (["mgca"], [])
    with pytest.raises(UsageError, match=r"is of mgca and .* of mflag: give two runs of the same notebook"):
        compare(runs / "a" / "mgca", runs / "b" / "mflag")
    with pytest.raises(UserError, match="no record here"):
        compare(runs, runs)


def test_the_command_reports_and_exits_with_zero_whatever_changed(runs):
    (runs / "b" / "mflag" / "record.json").write_text(record([row([90.0, 91.0, 92.0])]).model_dump_json())
    paths = [str(runs / side / "mflag") for side in "ab"]
    process = CliRunner().invoke(cli, ["compare", *paths])
    assert process.exit_code == 0
    assert "beyond noise" in process.output
    told = json.loads(CliRunner().invoke(cli, ["compare", *paths, "--json"]).output)
    (number,) = told["comparisons"][0]["numbers"]
    assert (number["old"], number["new"], number["kind"]) == (71.0, 91.0, "beyond noise")
    (runs / "a" / "mflag" / "record.json").write_text("{")
    with pytest.raises(UserError, match="not a readable record"):
        cli(["compare", *paths], standalone_mode=False)

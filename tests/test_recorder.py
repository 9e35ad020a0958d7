"""A run's results replace the earlier ones at once, or not at all."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbcore import report
from nbcore.analysis.figures import set_style
from nbcore.recorder import HEADLESS, Recorder, publish, recover
from nbcore.results import judge, load_record


def finished(root, value: float = 61.0) -> None:
    recorder = Recorder(
        "mflag",
        "M-FLAG <test>",
        profile="demo",
        config={"threads": 2},
        seeds=[0],
        source="phantom",
        output_root=root,
        command="python -m nbcore run mflag",
    )
    keys = {"table": "Table 2", "method": "M-FLAG", "dataset": "NIH", "setting": "1%", "metric": "AUC (%)"}
    recorder.row([value, value + 2], **keys)
    recorder.claim(judge("k", "features & ranks", "Sect. 1", [1, 2, 3], unit="points"))
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    recorder.figure(figure, "line", "a line")
    plt.close(figure)
    recorder.note("a note")
    recorder.finish()


@pytest.fixture(autouse=True)
def interactive(monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)


def test_an_interactive_run_leaves_everything(tmp_path):
    finished(tmp_path)
    folder = tmp_path / "demo" / "mflag"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"record.json", "figures/line.png", "figures/line.svg", "tables/table_2.csv"} <= names
    record = load_record(folder / "record.json")
    assert record.complete
    assert record.seconds >= 0
    assert record.peak_memory_mib > 10
    assert record.environment["torch"]
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mflag"]


def test_figures_are_the_same_bytes_every_time(tmp_path):
    set_style()
    finished(tmp_path / "a")
    finished(tmp_path / "b")
    for name in ("line.png", "line.svg"):
        one, other = (tmp_path / part / "demo" / "mflag" / "figures" / name for part in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_a_headless_run_waits_to_be_published(tmp_path, monkeypatch):
    finished(tmp_path, 50.0)
    monkeypatch.setenv(HEADLESS, "1")
    finished(tmp_path, 60.0)
    record = tmp_path / "demo" / "mflag" / "record.json"
    assert load_record(record).rows[0].value == 51.0
    publish(tmp_path / "demo", "mflag")
    assert load_record(record).rows[0].value == 61.0


def test_a_crash_between_the_renames_loses_nothing(tmp_path):
    finished(tmp_path)
    output = tmp_path / "demo"
    (output / "mflag").rename(output / ".mflag.old")
    recover(output, "mflag")
    assert load_record(output / "mflag" / "record.json").complete
    (output / ".mflag.old").mkdir()
    recover(output, "mflag")
    assert not (output / ".mflag.old").exists()


def test_what_a_run_leaves_is_enough_for_its_report(tmp_path):
    finished(tmp_path)
    page = report.write(tmp_path / "demo").read_text()
    for part in (
        ">62.0<",
        ">1.4<",
        ">62.2<",
        "a line. Phantom data, seed 0",
        "a note",
        "supported",
        "not comparable",
        "data:image/png",
    ):
        assert part in page


def test_what_was_not_measured_does_not_count(tmp_path):
    """Nor does an average leave out a data set and keep its name."""
    recorder = Recorder(
        "meduna", "t", profile="demo", config={}, seeds=[0, 1], source="phantom", output_root=tmp_path, command="c"
    )
    values = {("a", 0): 0.2, ("a", 1): 0.4, ("b", 0): np.nan, ("b", 1): 0.4, ("c", 0): np.nan, ("c", 1): np.nan}
    runs = pd.DataFrame(
        {"method": "M", "setting": "S", "dataset": d, "seed": s, "accuracy": v} for (d, s), v in values.items()
    )
    labels = {"a": "A", "b": "B", "c": "C"}
    recorder.averages(runs[runs["dataset"] != "c"], "accuracy", table="T", labels=labels, metric="ACC (%)")
    recorder.averages(runs[runs["dataset"] == "c"], "accuracy", table="T", labels=labels, metric="ACC (%)")
    rows = [(row.dataset, row.value, row.n) for row in recorder.finish().rows]
    assert rows == [("A", pytest.approx(30), 2), ("B", pytest.approx(40), 1), ("Average", pytest.approx(40), 1)]


def test_averages_over_data_sets_are_taken_within_each_seed(tmp_path):
    recorder = Recorder(
        "meduna", "t", profile="demo", config={}, seeds=[0, 1], source="phantom", output_root=tmp_path, command="c"
    )
    values = {("a", 0): 0.2, ("a", 1): 0.4, ("b", 0): 0.4, ("b", 1): 0.4}
    runs = pd.DataFrame(
        {"method": "M", "setting": "S", "dataset": d, "seed": s, "accuracy": v} for (d, s), v in values.items()
    )
    recorder.averages(runs, "accuracy", table="T", labels={"a": "A", "b": "B"}, metric="ACC (%)")
    rows = {row.dataset: row for row in recorder.finish().rows}
    assert list(rows) == ["A", "B", "Average"]
    assert (rows["A"].value, rows["A"].n) == (pytest.approx(30), 2)
    assert rows["Average"].value == pytest.approx(35)
    assert rows["Average"].std == pytest.approx(np.std([30, 40], ddof=1))

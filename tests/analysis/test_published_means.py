"""Which of K-MaT's published means follow from the numbers beside them."""

import pandas as pd
import pytest

from nbcore.analysis.published_means import average_table, harmonic_mean_table, relative_gain_table
from nbcore.results import published

ACC, F1 = "ACC (%)", "F1 (%)"


def _tidy(cells: dict[tuple[str, str], tuple[float, ...]], table: str = "T") -> pd.DataFrame:
    """(method, dataset) -> Hi, Lo, H and, if there are four, the relative gain."""
    metrics = [ACC, ACC, ACC, "relative gain in ACC"]
    rows = [
        (table, method, dataset, setting, metric.replace("in ACC", "in ACC (%)"), value)
        for (method, dataset), values in cells.items()
        for setting, metric, value in zip(["Hi", "Lo", "H", "H"], metrics, values)
    ]
    return pd.DataFrame(rows, columns=["table", "method", "dataset", "setting", "metric", "value"])


def test_harmonic_mean_interval_and_verdict():
    cells = {
        ("exact", "A"): (60.0, 30.0, 40.0),  # 2 * 60 * 30 / 90
        ("rounded", "A"): (60.1, 30.1, 40.1),  # 40.11, between 40.06 and 40.16
        ("too small", "A"): (60.0, 30.0, 39.8),
        ("too large", "A"): (60.0, 30.0, 40.2),
    }
    table = harmonic_mean_table(_tidy(cells)).set_index("method")
    assert table["mean"].tolist() == pytest.approx([40, 2 * 60.1 * 30.1 / 90.2, 40, 40])
    assert table.loc["exact", ["low", "high"]].tolist() == pytest.approx(
        [2 * 59.95 * 29.95 / 89.9, 2 * 60.05 * 30.05 / 90.1]
    )
    assert table["difference"].tolist() == pytest.approx([0, 40.1 - 2 * 60.1 * 30.1 / 90.2, -0.2, 0.2])
    assert table["verdict"].tolist() == [
        "is the harmonic mean",
        "is the harmonic mean",
        "is not the harmonic mean: 0.20 below it, as a mean of harmonic means over seeds or tasks can be",
        "is not the harmonic mean: 0.20 above it, which averaging cannot give",
    ]


def test_rounding_is_to_the_decimals_that_the_table_prints():
    coarse, fine = _tidy({("m", "A"): (60.0, 30.0, 40.1)}), _tidy({("m", "A"): (60.0, 30.0, 40.01)}, "U")
    table = harmonic_mean_table(pd.concat([coarse, fine])).set_index("table")
    assert table["verdict"].tolist() == ["is the harmonic mean"] * 2  # 40.06 to 40.14 would not do in U
    assert (table["high"] - table["low"]).tolist() == pytest.approx([0.1 * 10 / 9, 0.01 * 10 / 9], rel=1e-3)
    mixed = _tidy({("m", "A"): (60.0, 30.0, 40.1), ("n", "A"): (60.25, 30.0, 40.06)}, "V")
    assert harmonic_mean_table(mixed)["verdict"].str.startswith("is not").tolist() == [True, False]


def test_means_of_harmonic_means_are_never_above():
    high, low = pd.Series([60.0, 20.0]), pd.Series([20.0, 60.0])
    averaged = (2 * high * low / (high + low)).mean()  # 30
    (verdict,) = harmonic_mean_table(_tidy({("m", "A"): (high.mean(), low.mean(), averaged)}))["verdict"]
    assert "10.00 below it, as a mean of harmonic means" in verdict


def test_averages_over_the_tasks():
    cells = {
        ("m", "A"): (60.1, 30.1, 40.1),
        ("m", "B"): (20.4, 20.0, 20.2),
        ("m", "Average"): (40.2, 25.3, 30.1),  # 40.25, 25.05, 30.15
        ("n", "Average"): (40.0, 40.0, 40.0),  # whose tasks are not printed
    }
    table = average_table(_tidy(cells)).set_index("setting")
    assert table["method"].tolist() == ["m"] * 3 and table["tasks"].tolist() == [2] * 3
    assert table["mean"].tolist() == pytest.approx([40.25, 25.05, 30.15])
    assert (table["high"] - table["low"]).tolist() == pytest.approx([0.1] * 3)
    assert table["difference"].tolist() == pytest.approx([-0.05, 0.25, -0.05])
    assert table["verdict"].tolist() == [
        "is the mean of the tasks",
        "is not the mean of the tasks: 0.25 above it",
        "is the mean of the tasks",
    ]


def test_gains_over_the_first_row():
    cells = {
        ("first", "Average"): (50.5, 50.5, 40.0, 0.0),
        ("better", "Average"): (50.5, 50.5, 50.0, 25.2),  # 24.7 to 25.3 with H of one decimal
        ("worse", "Average"): (50.5, 50.5, 30.0, -24.0),
    }
    table = relative_gain_table(_tidy(cells)).set_index("method")
    assert table["gain"].tolist() == pytest.approx([0, 25, -25]) and (table["baseline"] == 40).all()
    assert table.loc["better", ["low", "high"]].tolist() == pytest.approx(
        [100 * (49.95 / 40.05 - 1), 100 * (50.05 / 39.95 - 1)]
    )
    assert table["verdict"].tolist() == [
        "is the gain over the first row",
        "is the gain over the first row",
        "is not the gain over the first row: 1.00 above it",
    ]


def test_table_2_mixes_two_conventions_and_has_a_wrong_cell():
    table = harmonic_mean_table(published("kmat"))
    assert table.groupby("table").size().to_dict() == {"Table 2": 6 * 5 * 2, "Table 3": 8 * 2}
    tasks = table[table["dataset"] != "Average"].set_index(["method", "dataset", "metric"])
    different = tasks[tasks["verdict"] != "is the harmonic mean"]
    expected = {  # harmonic mean, above it or below
        ("BiomedCLIP", "Skin I", ACC): (33.09, "above"),
        ("BiomedCLIP", "Skin I", F1): (22.49, "above"),
        ("K-MaT", "Skin I", ACC): (51.08, "below"),
        ("K-MaT", "Skin I", F1): (33.50, "below"),
        ("K-MaT", "Chest", ACC): (46.53, "below"),
        ("K-MaT", "Chest", F1): (38.58, "below"),
    }
    assert {*different.index} == {*expected}
    for key, (mean, side) in expected.items():
        assert different.loc[key, "mean"] == pytest.approx(mean, abs=0.005)
        assert f" {side} it, " in different.loc[key, "verdict"]


def test_averages_of_h_are_means_over_the_tasks_and_not_harmonic_means():
    table = harmonic_mean_table(published("kmat"))
    averages = table[table["dataset"] == "Average"]
    assert averages["verdict"].str.contains("below it, as a mean of harmonic means").all() and len(averages) == 28
    means = average_table(published("kmat"))
    wrong = means[means["verdict"] != "is the mean of the tasks"]
    assert wrong[["method", "setting", "metric"]].values.tolist() == [["BiomedCLIP", "Hi", m] for m in (ACC, F1)]
    assert wrong["mean"].tolist() == pytest.approx([31.4, 23.9])
    assert len(means) == 36 and (means["tasks"] == 4).all()


def test_all_gains_of_table_3_follow_from_its_rows():
    table = relative_gain_table(published("kmat"))
    assert len(table) == 16 and {*table["verdict"]} == {"is the gain over the first row"}

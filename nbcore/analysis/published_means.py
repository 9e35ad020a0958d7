"""Whether the means that K-MaT publishes follow from the numbers they are means of, as far as rounding lets one tell.

Accuracies and F1 scores are in %. The harmonic mean is concave: by Jensen's inequality a mean of harmonic means (over
seeds, or over tasks) is at most the harmonic mean of the means. A printed H that is too small may thus be of the other
convention; one that is too large comes from no averaging at all.
"""

import numpy as np
import pandas as pd

_KEYS = ["table", "method", "dataset", "metric"]
_SETTINGS = ["Hi", "Lo", "H"]
_AVERAGE = "Average"  # the data set that stands for the mean of a table's tasks
_SCORES = ["ACC (%)", "F1 (%)"]
_GAIN = "relative gain in "


def harmonic_mean_table(published: pd.DataFrame) -> pd.DataFrame:
    """Each printed H against the harmonic mean of the Hi and Lo printed beside it.

    Args:
        published: `results.published("kmat")`.

    Returns:
        A row for each table, method, dataset and metric of which all three are printed: Hi; Lo; H; mean, the harmonic
        mean of Hi and Lo; low and high, its smallest and largest value for any Hi and Lo that round to the printed
        ones; difference, H - mean; verdict, whether some H that rounds to the printed one lies between.
    """
    cells = _cells(published).dropna(subset=_SETTINGS).reset_index(drop=True)
    half = _half_digit(cells, _SETTINGS)
    high_end, low_end = cells["Hi"], cells["Lo"]
    cells["mean"] = _harmonic(high_end, low_end)
    cells["low"], cells["high"] = _harmonic(high_end - half, low_end - half), _harmonic(high_end + half, low_end + half)
    reasons = ("as a mean of harmonic means over seeds or tasks can be", "which averaging cannot give")
    return _judged(cells, cells["H"], half, "the harmonic mean", reasons)


def average_table(published: pd.DataFrame) -> pd.DataFrame:
    """Each printed average over the tasks against the mean of the printed numbers of these tasks.

    Args:
        published: as for `harmonic_mean_table`.

    Returns:
        A row for each table, method, metric and setting (Hi, Lo, H) with an average and its tasks: tasks, how many they
        are; printed; mean, low and high as above; difference, printed - mean; verdict.
    """
    rows = _rows(published).rename(columns={"value": "printed"})
    rows["half"] = _half_digit(rows, ["printed"])
    keys = ["table", "method", "metric", "setting"]
    averaged = rows["dataset"] == _AVERAGE
    tasks = rows[~averaged].groupby(keys)["printed"].agg(tasks="size", mean="mean").reset_index()
    found = rows[averaged].merge(tasks, on=keys)
    half = found["half"]
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    table = found[[*keys, "tasks", "printed", "mean", "low", "high"]]
    return _judged(table, table["printed"], half, "the mean of the tasks")


def relative_gain_table(published: pd.DataFrame) -> pd.DataFrame:
    """Each printed relative gain (%) against the one that the printed H of the method and of the first row give.

    Args:
        published: as for `harmonic_mean_table`.

    Returns:
        A row for each table, method, dataset and metric whose gain is printed: H; baseline, the first method's H;
        printed; gain, 100 (H / baseline - 1); low and high, its smallest and largest value for any two H that round to
        the printed ones; difference, printed - gain; verdict.
    """
    gains = published[published["metric"].str.startswith(_GAIN)].rename(columns={"value": "printed"})
    gains = gains.assign(metric=gains["metric"].str.removeprefix(_GAIN), rounding=_half_digit(gains, ["printed"]))
    cells = _cells(published)
    cells["half"] = _half_digit(cells, _SETTINGS)
    rows = gains[[*_KEYS, "printed", "rounding"]].merge(cells[[*_KEYS, "H", "half"]], on=_KEYS)
    rounding, half = rows.pop("rounding"), rows.pop("half")
    rows["baseline"] = rows.groupby(["table", "dataset", "metric"])["H"].transform("first")
    rows["gain"] = 100 * (rows["H"] / rows["baseline"] - 1)
    rows["low"] = 100 * ((rows["H"] - half) / (rows["baseline"] + half) - 1)
    rows["high"] = 100 * ((rows["H"] + half) / (rows["baseline"] - half) - 1)
    return _judged(rows, rows["printed"], rounding, "the gain over the first row", expected="gain")


def _rows(published: pd.DataFrame) -> pd.DataFrame:
    """The accuracies and F1 scores: no sizes of data sets, no gains."""
    score = published["metric"].isin(_SCORES) & published["setting"].isin(_SETTINGS)
    return published[score].reset_index(drop=True)


def _cells(published: pd.DataFrame) -> pd.DataFrame:
    """A row for each table, method, dataset and metric, in the order printed, with columns Hi, Lo and H."""
    rows = _rows(published)
    wide = rows.set_index([*_KEYS, "setting"])["value"].unstack("setting").reindex(columns=_SETTINGS)
    order = pd.MultiIndex.from_frame(rows[_KEYS].drop_duplicates())
    return wide.reindex(order).rename_axis(columns=None).reset_index()


def _half_digit(rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Half a unit of the last decimal that a row's table prints: the largest error of rounding."""
    halves = {table: _half(own[columns].to_numpy()) for table, own in rows.groupby("table")}
    return rows["table"].map(halves).astype(float)


def _half(values: np.ndarray) -> float:
    numbers = values[~np.isnan(values)]
    decimals = next(d for d in range(16) if np.allclose(numbers, numbers.round(d), rtol=0, atol=1e-9))
    return 0.5 * 10.0**-decimals


def _harmonic(first: pd.Series, second: pd.Series) -> pd.Series:
    return 2 * first * second / (first + second)


def _judged(
    rows: pd.DataFrame,
    printed: pd.Series,
    half: pd.Series,
    name: str,
    reasons: tuple[str, str] = ("", ""),
    expected: str = "mean",
) -> pd.DataFrame:
    """`rows` with difference and verdict, in which `reasons` say what too small and what too large a number means."""
    difference = printed - rows[expected]
    possible = (printed + half >= rows["low"] - 1e-9) & (printed - half <= rows["high"] + 1e-9)
    verdicts = []
    for gap, fits in zip(difference, possible):
        side, reason = ("below", reasons[0]) if gap < 0 else ("above", reasons[1])
        told = f"is not {name}: {abs(gap):.2f} {side} it" + (f", {reason}" if reason else "")
        verdicts.append(f"is {name}" if fits else told)
    return rows.assign(difference=difference, verdict=verdicts)

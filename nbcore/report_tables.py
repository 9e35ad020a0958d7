"""One table of a record as the report shows it: a row a method, columns by data set, setting and metric.

Every number is told with the field it is (reproduced, std, n, low, high, published, published_std, difference), so that
the page can be traced back, number by number, to a record or a published table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from nbcore.results import KEYS

LEVELS = ("dataset", "setting", "metric")
LONG = 24  # rows above which a table is folded


class Number(NamedTuple):
    """A printed number: the field of the compared row that it tells, and its text."""

    field: str
    text: str


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table. `ours` and `theirs` are empty where there is nothing.

    `order` is the number of runs where it is not the table's own; `notes` are the letters of footnotes.
    """

    dataset: str
    setting: str
    metric: str
    ours: list[Number]
    theirs: list[Number]
    runs: Number | None
    notes: list[str]


@dataclass(frozen=True)
class Status:
    """How many cells of a table have both numbers, the published one alone, and ours alone."""

    reproduced: int
    published_only: int
    ours_only: int

    @property
    def state(self) -> str:
        if not self.reproduced + self.published_only:
            return "beyond the paper"
        if not self.reproduced:
            return "published only"
        return "partly run" if self.published_only else "run"


@dataclass(frozen=True)
class Table:
    """A table ready to be shown.

    Attributes:
        name: as the paper calls it, or as the notebook does.
        common: what all columns share (a metric, a setting), for the caption.
        header: rows of (text, columns it spans).
        rows: (method, its data sets where each method has its own, one Cell or None a column).
        runs: the number of runs behind most of our numbers; 0 if there are none.
        notes: (letter, sentence) of the published numbers.
    """

    name: str
    status: Status
    common: list[str]
    header: list[list[tuple[str, int]]]
    rows: list[tuple[str, str, list[Cell | None]]]
    runs: int
    notes: list[tuple[str, str]]

    def numbers(self) -> list[Number]:
        return [number for *_, cells in self.rows for cell in cells if cell for number in (*cell.ours, *cell.theirs)]

    @property
    def folded(self) -> bool:
        return len(self.rows) > LONG or not self.status.reproduced


def status(table: pd.DataFrame) -> Status:
    """Count the cells of one table of `results.compared`."""
    ours, theirs = table["reproduced"].notna(), table["published"].notna()
    return Status(int((ours & theirs).sum()), int((~ours & theirs).sum()), int((ours & ~theirs).sum()))


def lay_out(name: str, table: pd.DataFrame, decimals_of: Mapping[tuple[str, ...], tuple[int, int]]) -> Table:
    """Arrange one table of `results.compared` as the paper prints it.

    Args:
        name: of the table.
        table: its rows.
        decimals_of: those of each published number and its deviation as printed, by `results.KEYS`.
    """
    table = table.fillna({"note": ""})
    own = table.groupby("dataset")["method"].nunique().max() == 1 < table["dataset"].nunique()
    owners = own and len(set(table["method"])) > 1 and not table.duplicated(["method", "setting", "metric"]).any()
    columns = table[list(LEVELS)].assign(dataset="") if owners else table[list(LEVELS)]
    keys = list(columns.drop_duplicates().itertuples(index=False, name=None))
    varying = [i for i in range(len(LEVELS)) if len({key[i] for key in keys}) > 1] or [len(LEVELS) - 1]
    ranks = [{value: rank for rank, value in enumerate(dict.fromkeys(column))} for column in zip(*keys)]
    keys.sort(key=lambda key: [rank[value] for rank, value in zip(ranks, key)])
    notes = {note: _letter(i) for i, note in enumerate(dict.fromkeys(filter(None, table["note"])))}
    counts = table.loc[table["reproduced"].notna(), "n"]
    runs = int(counts.mode().iloc[0]) if len(counts) else 0
    printed = [decimals_of.get(key, (None, None)) for key in table[KEYS].itertuples(index=False, name=None)]
    table = table.assign(printed=[value for value, _ in printed], printed_std=[std for _, std in printed])
    digits = {metric: _digits(own) for metric, own in table.groupby("metric")}
    cells = {
        (row.method, *key): _cell(row, digits[row.metric], runs, notes)
        for row, key in zip(table.itertuples(), columns.itertuples(index=False, name=None))
    }
    datasets = {name: ", ".join(rows.unique()) for name, rows in table.groupby("method")["dataset"]} if owners else {}
    return Table(
        name=name,
        status=status(table),
        common=[keys[0][i] for i in range(len(LEVELS)) if i not in varying and keys[0][i]],
        header=[_spans(keys, varying[: depth + 1]) for depth in range(len(varying))],
        rows=[
            (method, datasets.get(method, ""), [cells.get((method, *key)) for key in keys])
            for method in dict.fromkeys(table["method"])
        ],
        runs=runs,
        notes=[(letter, note) for note, letter in notes.items()],
    )


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number with thousands separated and a true minus sign."""
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def decimals(values: Iterable[float]) -> int:
    """Decimals that tell numbers of this size apart: none for whole ones, one from 10 on, two from 1, else three."""
    values = [abs(value) for value in values if pd.notna(value)]
    if all(float(value).is_integer() for value in values):
        return 0
    return 1 if max(values) >= 10 else 2 if max(values) >= 1 else 3


def _digits(own: pd.DataFrame) -> int:
    """Decimals of our numbers of a metric in one table: the paper's usual ones, else what their size asks for."""
    usual = own["printed"].dropna().mode()
    if len(usual) and usual.iloc[0]:
        return int(usual.iloc[0])
    return decimals([*own["reproduced"], *own["std"], *own["low"], *own["high"]])


def _cell(row: Any, digits: int, runs: int, notes: dict[str, str]) -> Cell:
    ours = []
    if pd.notna(row.reproduced):
        ours = [("reproduced", row.reproduced)]
        interval = [("low", row.low), ("high", row.high)] if pd.notna(row.low) else []
        ours += [("std", row.std)] if pd.notna(row.std) else interval
    theirs = [("published", row.published, row.printed), ("published_std", row.published_std, row.printed_std)]
    numbers = [Number(field, number(value, int(printed))) for field, value, printed in theirs if pd.notna(value)]
    if row.comparable:
        numbers.append(Number("difference", number(row.difference, digits, sign=True)))
    return Cell(
        dataset=row.dataset,
        setting=row.setting,
        metric=row.metric,
        ours=[Number(field, number(value, digits)) for field, value in ours],
        theirs=numbers,
        runs=Number("n", f"{row.n:.0f}") if ours and row.n != runs else None,
        notes=[notes[row.note]] if row.note else [],
    )


def _spans(keys: list[tuple[str, ...]], levels: list[int]) -> list[tuple[str, int]]:
    """One row of the header: neighbours that agree in this level and in those above share a cell."""
    groups = groupby([tuple(key[i] for i in levels) for key in keys])
    return [(name[-1], len(list(members))) for name, members in groups]


def _letter(index: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)

"""Records of runs: every number as a tidy row, the claims with their verdicts, and tables beside the published ones.

Tables and the report are built from records alone, so a number that is printed anywhere can be traced to a run.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.paths import PUBLISHED

KEYS = ["table", "method", "dataset", "setting", "metric"]
Verdict = Literal["supported", "not supported", "inconclusive"]
MIN_SEEDS = 3


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Row(_Part):
    """One number: the mean over `n` runs, their standard deviation (None for one run) and, where one was computed, the
    95 % confidence interval of the mean run."""

    table: str
    method: str
    dataset: str
    setting: str
    metric: str
    value: float
    std: float | None = Field(None, ge=0, le=1e100)  # its square is a number, too
    n: int = Field(1, ge=1)
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _deviates(self) -> Self:
        if self.std is not None and self.n < 2:
            raise ValueError("a standard deviation of fewer than two runs")
        return self


class Claim(_Part):
    """A sentence of the paper as a test on our numbers.

    `effects` are paired differences, one a seed; the interval is a 95 % percentile bootstrap of their mean. The claim
    is supported when the whole interval lies above `threshold`, not supported when it lies below, else inconclusive.
    """

    key: str
    sentence: str
    source: str
    effects: list[float]
    unit: str
    mean: float
    low: float
    high: float
    threshold: float
    verdict: Verdict


class DataUse(_Part):
    """What one data set contributed."""

    name: str
    source: Literal["real", "phantom"]
    fingerprint: str
    counts: dict[str, int]


class Figure(_Part):
    name: str = Field(pattern=r"^[\w.-]+$")  # of a file beside the record
    caption: str


class Record(_Part):
    """Everything a run leaves behind.

    `seconds`, `peak_memory_mib`, `environment` describe the run; the rest follows from configuration, data and seeds.
    """

    notebook: str
    title: str
    profile: str
    command: str
    config: dict[str, Any]
    seeds: list[int]
    source: Literal["real", "phantom"]
    data: list[DataUse]
    rows: list[Row]
    claims: list[Claim]
    figures: list[Figure]
    notes: list[str]
    environment: dict[str, Any]
    seconds: float
    peak_memory_mib: float
    complete: bool


def aggregate(values: Sequence[float], **keys: Any) -> Row:
    """A row from the values of several runs (seeds): mean, sample standard deviation, count."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Row(value=float(np.mean(values)), std=std, n=len(values), **keys)


def judge(
    key: str,
    sentence: str,
    source: str,
    effects: Iterable[float],
    *,
    unit: str,
    threshold: float = 0.0,
    exact: bool = False,
) -> Claim:
    """Turn paired differences into a verdict.

    Args:
        key: short name of the claim.
        sentence: what the paper says, as tested here.
        source: where the paper says it.
        effects: one paired difference a seed.
        unit: of the effects, for the reader.
        threshold: the mean effect must lie above it.
        exact: the effect is computed, not sampled (a parameter count): one value decides.

    A sampled claim with fewer than three seeds is inconclusive whatever its interval says. With three, the interval is
    the range of the effects: `by_chance` tells what that means.
    """
    effects = np.array([float(e) for e in effects])
    drawn = np.random.default_rng(0).integers(len(effects), size=(10_000, len(effects)))
    low, high = np.percentile(effects[drawn].mean(axis=1), [2.5, 97.5])
    verdict: Verdict = "inconclusive"
    if exact or len(effects) >= MIN_SEEDS:
        verdict = "supported" if low > threshold else "not supported" if high < threshold else "inconclusive"
    return Claim(
        key=key,
        sentence=sentence,
        source=source,
        effects=effects.tolist(),
        unit=unit,
        mean=float(effects.mean()),
        low=float(low),
        high=float(high),
        threshold=threshold,
        verdict=verdict,
    )


def by_chance(claims: Iterable[Claim]) -> float:
    """The number of claims on three seeds that would be supported (and that would not be) if nothing had any effect.

    The bootstrap interval of three effects is their range, because all three draws are the smallest one time in 27. It
    lies above the threshold where all three effects do, which without an effect happens one time in eight.
    """
    return sum(len(claim.effects) == MIN_SEEDS for claim in claims) / 2**MIN_SEEDS


def load_record(path: Path) -> Record:
    """Read a record.

    Raises:
        UserError: the file is absent, damaged, or not a record of this version.
    """
    try:
        content = path.read_bytes()
        json.loads(content, parse_constant=_refuse)
        return Record.model_validate_json(content)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no record; run its notebook (again).") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable record of this version; run its notebook again.") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def published(notebook: str) -> pd.DataFrame:
    """The paper's numbers: table, method, dataset, setting, metric, value, std, note; empty if none are on file."""
    path = PUBLISHED / f"{notebook}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=[*KEYS, "value", "std", "note"])
    return pd.read_csv(path, dtype=dict.fromkeys(KEYS, str), keep_default_na=False, na_values={"value": "", "std": ""})


def table_order(name: str) -> tuple[int, str]:
    """Orders Table 2 before Table 10, and what has no number behind them, by name."""
    found = re.search(r"\d+", name)
    return int(found[0]) if found else 10**6, name


def published_decimals(notebook: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """Decimals with which the paper prints each number and its deviation (62.50 ± 0.4: 2, 1), by the keys of its row.

    Empty if the paper has no numbers on file.
    """
    path = PUBLISHED / f"{notebook}.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    keys = table[KEYS].itertuples(index=False, name=None)
    digits = zip(*([len(text.partition(".")[2]) for text in table[column]] for column in ("value", "std")))
    return dict(zip(keys, digits))


def compared(record: Record) -> pd.DataFrame:
    """Our rows beside the published ones: reproduced, std, n, interval, published, difference, comparable, note.

    Published rows that were not run have no reproduced value. On phantom data nothing is comparable: the published
    number is context, and there is no difference.
    """
    ours = pd.DataFrame([row.model_dump() for row in record.rows], columns=list(Row.model_fields))
    ours = ours.rename(columns={"value": "reproduced"})
    theirs = published(record.notebook).rename(columns={"value": "published", "std": "published_std"})
    ours["order"], theirs["order"] = range(len(ours)), range(len(theirs))
    both = theirs.merge(ours, on=KEYS, how="outer", suffixes=("", "_ours"))
    both = both.assign(rank=both["table"].map(table_order)).sort_values(["rank", "order", "order_ours"])
    real = record.source == "real" and record.profile == "paper"
    both["comparable"] = both["reproduced"].notna() & both["published"].notna() & real
    both["difference"] = (both["reproduced"] - both["published"]).where(both["comparable"])
    columns = ["reproduced", "std", "n", "low", "high", "published", "published_std"]
    return both[[*KEYS, *columns, "difference", "comparable", "note"]].reset_index(drop=True)


def pivot(table: pd.DataFrame) -> pd.DataFrame:
    """One table as the paper prints it: a row a method, a column a data set, setting and metric.

    A cell is "ours ± std [published]"; a dash stands for what was not run or not published.
    """
    cells = table.assign(
        cell=[_cell(row) for row in table.itertuples()],
        column=[" ".join(filter(None, (r.dataset, r.setting, r.metric))) for r in table.itertuples()],
    )
    wide = cells.pivot_table(index="method", columns="column", values="cell", aggfunc="first", sort=False)
    return wide.fillna("").rename_axis(index=None, columns=None)


def _cell(row: Any) -> str:
    """A cell such as "71.3 ± 0.4 [62.2]"; counts are printed whole."""
    whole = all(pd.isna(value) or float(value).is_integer() for value in (row.reproduced, row.published, row.std))
    digits = 0 if whole else 1
    ours = "–" if pd.isna(row.reproduced) else f"{row.reproduced:,.{digits}f}"
    if pd.notna(row.std):
        ours += f" ± {row.std:.{digits}f}"
    elif pd.notna(row.low):
        ours += f" ({row.low:.{digits}f} to {row.high:.{digits}f})"
    theirs = "–" if pd.isna(row.published) else f"{row.published:,.{digits}f}"
    return f"{ours} [{theirs}]"


def write_tables(record: Record, directory: Path) -> None:
    """Write each table as tidy CSV, and as Markdown and LaTeX in the paper's layout."""
    for name, table in compared(record).groupby("table", sort=False):
        stem = directory / name.lower().replace(" ", "_")
        wide = pivot(table)
        caption = f"{record.title}, {name}: reproduced [published]. {comparability(record)}"
        atomic_write(stem.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        atomic_write(stem.with_suffix(".md"), f"{caption}\n\n{_markdown(wide)}\n")
        latex = wide.to_latex(escape=True, caption=caption, column_format="l" + "r" * wide.shape[1])
        atomic_write(stem.with_suffix(".tex"), latex)


def comparability(record: Record) -> str:
    """One sentence on what the published numbers mean beside ours."""
    if record.source == "phantom":
        return "Run on phantom data: the published numbers are context and not comparable."
    if record.profile != "paper":
        return "Run on real data at a reduced scale: the published numbers are context and not comparable."
    return "Run on the paper's data with the published configuration."


def _markdown(wide: pd.DataFrame) -> str:
    header = ["", *wide.columns]
    rows = [[index, *row] for index, row in zip(wide.index, wide.values)]
    lines = [header, ["---"] + ["---:"] * wide.shape[1], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

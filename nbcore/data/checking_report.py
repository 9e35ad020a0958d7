"""What a check found: as JSON-like values with the same keys always, and as a table of at most 100 columns."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nbcore.data.manifest import Count

WIDTH = 100


@dataclass(frozen=True)
class Copies:
    """Images whose files are the same, byte for byte."""

    extra: int = 0  # images that are a copy of an earlier one
    across_splits: int = 0  # pictures that are in more than one split
    across_patients: int = 0  # pictures that belong to more than one patient
    different_labels: int = 0  # pictures whose images have different labels
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pictures:
    """What the images that were decoded are like."""

    decoded: int = 0
    width: tuple[int, int, int] = (0, 0, 0)  # least, median, greatest, in pixels
    height: tuple[int, int, int] = (0, 0, 0)
    kinds: dict[str, int] = field(default_factory=dict)  # format, mode and depth -> images
    blank: int = 0  # of one value only


@dataclass(frozen=True)
class Unnamed:
    """Image files in the folders of the data set that the reader did not take."""

    left_out: int = 0  # named by a table, and left out by rule (another view, not every slice ...)
    extra: int = 0  # named by no table
    examples: tuple[str, ...] = ()  # of the latter


@dataclass(frozen=True)
class CheckReport:
    """What was found; `verdict` is "complete", "subset: n of m" or "broken"."""

    name: str
    root: Path
    verdict: str
    quick: bool = False
    source: str = ""
    images: int = 0
    missing: int = 0  # images a table names that are not there
    missing_examples: tuple[str, ...] = ()
    patients: int = 0
    studies: int = 0
    reports: int = 0
    outlined: int = 0  # images with a mask or boxes
    unreadable: int = 0
    expected: dict[str, Count] = field(default_factory=dict)  # images, patients, studies of a complete copy
    splits: dict[str, tuple[int, Count]] = field(default_factory=dict)  # split -> (found, expected)
    split_rule: dict[str, str] = field(default_factory=dict)  # split -> where it comes from
    balance: pd.DataFrame = field(default_factory=pd.DataFrame)  # class -> counts of each label value
    positives: pd.DataFrame = field(default_factory=pd.DataFrame)  # class -> expected positives, those of each split
    pictures: Pictures = Pictures()
    copies: Copies | None = None  # None: not looked for
    unnamed: Unnamed = Unnamed()
    problems: tuple[str, ...] = ()  # why it is broken
    remarks: tuple[str, ...] = ()  # worth knowing

    @property
    def exit_status(self) -> int:
        """0 for complete data or a subset, 1 for broken data."""
        return int(self.verdict == "broken")

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-like values."""
        plain = {name: value for name, value in vars(self).items() if name not in {"pictures", "copies", "unnamed"}}
        sides = {
            side: dict(zip(("min", "median", "max"), getattr(self.pictures, side))) for side in ("width", "height")
        }
        return plain | {
            "root": str(self.root),
            "exit_status": self.exit_status,
            "splits": {name: {"found": found, "expected": wanted} for name, (found, wanted) in self.splits.items()},
            "balance": self.balance.to_dict("index"),
            "positives": self.positives.to_dict("index"),
            "pictures": vars(self.pictures) | sides,
            "copies": self.copies and vars(self.copies),
            "unnamed": vars(self.unnamed),
        }

    def to_text(self) -> str:
        """A few aligned blocks for a terminal."""
        lines = [f"{self.name} in {self.root}: {self.verdict}"]
        if self.images:
            lines += ["", f"{self.source} data: {self._contents()}", "", *self._counts()]
            lines += ["", *self._classes(), "", *self._files()]
        lines += [""] * bool(self.problems or self.remarks)
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join(lines).encode("utf-8", "backslashreplace").decode()

    def _contents(self) -> str:
        return (
            f"{self.images} images of {self.patients} patients, {self.reports} with a report, "
            f"{self.outlined} with a mask or boxes"
        )

    def _counts(self) -> list[str]:
        found = {"images": self.images, "patients": self.patients, "studies": self.studies}
        rows = [(name, n, self.expected.get(name, "unknown"), "") for name, n in found.items()]
        rows += [(name, n, wanted, self.split_rule.get(name, "")) for name, (n, wanted) in self.splits.items()]
        return _aligned([("counts", "found", "expected", ""), *rows], texts={0, 3})

    def _classes(self) -> list[str]:
        table = self.balance.join(self.positives)
        table.insert(1, "expected", table.pop("expected"))
        if (table["expected"] == "unknown").all():
            table = table.drop(columns="expected")
        return _aligned([("classes", *table.columns), *table.itertuples(name=None)], texts={0})

    def _files(self) -> list[str]:
        pictures, copies = self.pictures, self.copies
        rows = [
            ("files", ""),
            ("named but absent", _with_examples(self.missing, self.missing_examples)),
            ("decoded", f"{pictures.decoded} of {self.images}, {self.unreadable} unreadable, {pictures.blank} blank"),
            ("width and height", " and ".join("{} / {} / {}".format(*s) for s in (pictures.width, pictures.height))
             + " pixels (least / median / greatest)"),
            ("kinds", ", ".join(f"{kind}: {n}" for kind, n in pictures.kinds.items())),
            ("identical copies", "not looked for" if copies is None else
             f"{copies.extra}; pictures across splits: {copies.across_splits}, across patients: "
             f"{copies.across_patients}, with different labels: {copies.different_labels}"),
            ("left out by rule", str(self.unnamed.left_out)),
            ("named by no table", _with_examples(self.unnamed.extra, self.unnamed.examples)),
        ]  # fmt: skip
        lines = [line for name, text in rows for line in _wrapped(f"{name:<18}", text)]
        return lines + [f"identical: {one}\n           {other}" for one, other in (copies.examples if copies else ())]


def _with_examples(count: int, examples: Sequence[str]) -> str:
    return f"{count} ({', '.join(examples)}{', ...' if count > len(examples) else ''})" if examples else str(count)


def _wrapped(head: str, text: str) -> list[str]:
    body = textwrap.wrap(text, WIDTH - len(head), break_long_words=False, break_on_hyphens=False) or [""]
    return [(head + body[0]).rstrip(), *(" " * len(head) + line for line in body[1:])]


def _aligned(rows: Sequence[Sequence[Any]], texts: set[int]) -> list[str]:
    """Columns as wide as they must be, two blanks apart; those in `texts` to the left, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        told = [cell.ljust(w) if i in texts else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(told).rstrip())
    return lines

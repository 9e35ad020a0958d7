"""What changed between two runs of a notebook: settings, code, machine, data, numbers beyond noise, verdicts.

A difference of two numbers lies beyond noise when a two-sided test at the 5 % level says so; `noise` is the half-width
of the 95 % interval of the difference, in the number's own unit:

- several seeds in both runs: Welch's t (B. L. Welch, Biometrika 34, 1947) on the two means, s²/n apart, with the
  Welch-Satterthwaite degrees of freedom, so that three seeds need a larger difference than thirty;
- several seeds in one run and a single one in the other: Student's t with the one spread known standing for both;
- single runs with 95 % intervals: the standard errors are read from the widths and added in squares (D. G. Altman and
  J. M. Bland, BMJ 326, 2003);
- single runs without, and numbers that no seed changes in either run: no noise is known.

The tests take the runs as independent. Runs with common seeds, twins or test images vary less against each other, so
fewer differences than 5 % lie beyond noise by chance, and a small true one is missed more easily.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import numpy as np
from scipy.stats import t as student

from nbcore.errors import UsageError, UserError
from nbcore.results import KEYS, Claim, Record, Row, load_record

LEVEL = 0.05
_ROUNDING = 1e-9  # relative: smaller differences are the arithmetic's, not the run's
_MACHINE = ("platform", "device", "cores", "threads")
_SHOWN = 20  # numbers of a list, unless all are asked for
_WIDTH = 100
_LONGEST = 160  # characters of a value


@dataclass(frozen=True)
class Number:
    """A number of both runs; `noise` > 0 as above, None where none is known; `same`: bit for bit, spread included."""

    label: str
    old: float
    new: float
    noise: float | None
    same: bool

    @property
    def kind(self) -> str:
        """Same, "beyond noise", "within noise" or "no noise known"."""
        if self.same:
            return "same"
        if self.noise is None:
            return "no noise known"
        rounding = math.isclose(self.old, self.new, rel_tol=_ROUNDING)
        return "beyond noise" if abs(self.new - self.old) > self.noise and not rounding else "within noise"

    @property
    def size(self) -> float:
        """The difference as a multiple of its noise; where none is known, as a share of the larger number."""
        unit = self.noise or max(abs(self.old), abs(self.new))
        return abs(self.new - self.old) / unit if unit else 0.0


@dataclass(frozen=True)
class Comparison:
    """Two runs of one notebook.

    Attributes:
        changes: of each section (run, configuration, code, environment, data, notes) key, old, new; an absent side
            is left out.
        numbers: that both have, largest difference first.
        claims: that both have and that are judged otherwise or worded anew, with verdict and effect of both sides.
        only_old, only_new: labels of numbers and claims that one run alone has.
        identical_claims: every claim is the same, bit for bit.
    """

    notebook: str
    runs: tuple[str, str]
    changes: dict[str, list[dict[str, Any]]]
    numbers: list[Number]
    claims: list[dict[str, Any]]
    only_old: list[str]
    only_new: list[str]
    claims_compared: int
    identical_claims: bool

    def of_kind(self, kind: str) -> list[Number]:
        return [number for number in self.numbers if number.kind == kind]

    @property
    def same_numbers(self) -> bool:
        only = self.only_old or self.only_new
        return not only and self.identical_claims and all(number.same for number in self.numbers)

    @property
    def by_chance(self) -> float:
        """How many differences would lie beyond noise if the two runs differed in nothing but chance."""
        return LEVEL * (len(self.of_kind("beyond noise")) + len(self.of_kind("within noise")))

    def to_dict(self) -> dict[str, Any]:
        numbers = [{**asdict(number), "kind": number.kind} for number in self.numbers]
        return {**asdict(self), "numbers": numbers, "same_numbers": self.same_numbers, "by_chance": self.by_chance}

    def to_text(self, everything: bool = False) -> str:
        """A report for a terminal of 100 columns; `everything`: every number, also those that stayed."""
        lines = [self.notebook, *(_wrap(f"{side}: {run}") for side, run in zip(("old", "new"), self.runs))]
        for section, changes in self.changes.items():
            if changes:
                lines += ["", section, *(_change(change) for change in changes)]
        return "\n".join([*lines, "", *self._numbers(everything), *self._claims()])

    def _numbers(self, everything: bool) -> Iterator[str]:
        yield "numbers"
        if self.same_numbers:
            yield f"  the same numbers, bit for bit: {len(self.numbers)} and {self.claims_compared} claims"
        else:
            yield _wrap(self._summary())
        for kind in ("beyond noise", "no noise known", "within noise", "same"):
            listed = self.of_kind(kind)
            if not listed or not (everything or kind in ("beyond noise", "no noise known")):
                continue
            yield f"\n  {kind:<52}{'old':>11}{'new':>11}{'change':>11}{'noise':>11}"
            shown = listed if everything else listed[:_SHOWN]
            yield from map(_line, shown)
            if len(shown) < len(listed):
                yield f"    and {len(listed) - len(shown)} more (--all)"
        for which, labels in (("old", self.only_old), ("new", self.only_new)):
            if labels:
                yield f"\n  only in the {which} run: {len(labels)}"
                shown = labels if everything else labels[:_SHOWN]
                yield from (_wrap(label, "    ") for label in shown)
                if len(shown) < len(labels):
                    yield f"    and {len(labels) - len(shown)} more (--all)"

    def _summary(self) -> str:
        beyond, within, unknown = map(self.of_kind, ("beyond noise", "within noise", "no noise known"))
        same = len(self.of_kind("same"))
        parts = [f"{len(self.numbers)} in both runs, {same} the same bit for bit, {len(self.numbers) - same} differ."]
        if beyond or within:
            tested = len(beyond) + len(within)
            parts.append(
                f"Of {tested} that differ and whose noise is known {len(beyond)} lie beyond it; "
                f"chance alone would put about {self.by_chance:.1f} there ({LEVEL:.0%} of {tested})."
            )
        if unknown:
            parts.append(f"{len(unknown)} are different, no noise known (one run each, or no spread over the seeds).")
        return " ".join(parts)

    def _claims(self) -> Iterator[str]:
        if self.claims_compared and not self.same_numbers:
            moved = sum(claim["old"]["verdict"] != claim["new"]["verdict"] for claim in self.claims)
            yield f"\nclaims\n  {self.claims_compared} in both runs, {moved} with another verdict"
        for claim in self.claims:
            sides = [
                f"{side['verdict']} ({side['mean']:+.3g} {side['unit']}, {side['low']:+.3g} to {side['high']:+.3g})"
                for side in (claim["old"], claim["new"])
            ]
            note = "; the sentence or its threshold was changed" if claim["reworded"] else ""
            yield _wrap(f"{claim['key']}: {sides[0]} -> {sides[1]}{note}")


@dataclass(frozen=True)
class Outcome:
    """The notebooks of two records or folders: those of both compared, and the names of the rest."""

    comparisons: list[Comparison]
    only_old: list[str]
    only_new: list[str]

    def to_json(self) -> str:
        told = {**asdict(self), "comparisons": [each.to_dict() for each in self.comparisons]}
        return json.dumps(told, indent=1, ensure_ascii=False)

    def to_text(self, everything: bool = False) -> str:
        parts = [each.to_text(everything) for each in self.comparisons]
        for which, names in (("old", self.only_old), ("new", self.only_new)):
            if names:
                parts.append(f"only in the {which} folder: {', '.join(names)}")
        return "\n\n".join(parts)


def compare(old: Path, new: Path) -> Outcome:
    """Compare two records, or notebook by notebook two folders of a profile.

    Args:
        old, new: a record.json, the folder of a notebook (which holds one) or of a profile (which holds such folders).

    Raises:
        UserError: no record there, or it cannot be read.
        UsageError: the two have no notebook in common.
    """
    first, second = _records(old), _records(new)
    common = [name for name in first if name in second]
    if not common:
        raise UsageError(
            f"{old} is of {', '.join(first)} and {new} of {', '.join(second)}: give two runs of the same notebook."
        )
    return Outcome(
        [compare_records(first[name], second[name]) for name in common],
        [name for name in first if name not in second],
        [name for name in second if name not in first],
    )


def _records(path: Path) -> dict[str, Record]:
    """The records at a path by notebook."""
    files = [path if path.suffix == ".json" else path / "record.json"]
    if path.is_dir() and not files[0].is_file():
        files = [file for file in sorted(path.glob("*/record.json")) if not file.parent.name.startswith(".")]
        if not files:
            raise UserError(f"{path}: no record here; give a record.json, a notebook's folder or a profile's folder.")
    records: dict[str, Record] = {}
    for file in files:
        record = load_record(file)
        if record.notebook in records:
            raise UserError(f"{path}: two records of {record.notebook}; give one of the two folders.")
        records[record.notebook] = record
    return records


def compare_records(old: Record, new: Record) -> Comparison:
    """What changed from the old run to the new one; both are of one notebook."""
    numbers = _paired(_numbered(old.rows), _numbered(new.rows))
    claims = _paired({claim.key: claim for claim in old.claims}, {claim.key: claim for claim in new.claims})
    before, after = _sections(old), _sections(new)
    both = [Number(label, a.value, b.value, noise(a, b), a == b) for label, (a, b) in numbers.both.items()]
    return Comparison(
        notebook=old.notebook,
        runs=(_run(old), _run(new)),
        changes={name: _differences(before[name], after[name]) for name in before},
        numbers=sorted(both, key=lambda number: (-number.size, -abs(number.new - number.old))),
        claims=[_judged(a, b) for a, b in claims.both.values() if a.verdict != b.verdict or _reworded(a, b)],
        only_old=[*numbers.only_old, *(f"claim {key}" for key in claims.only_old)],
        only_new=[*numbers.only_new, *(f"claim {key}" for key in claims.only_new)],
        claims_compared=len(claims.both),
        identical_claims=all(a == b for a, b in claims.both.values()),
    )


def noise(old: Row, new: Row) -> float | None:
    """Half-width of the 95 % interval of the difference of two numbers, in their unit; None if nothing tells it."""
    if old.std is not None and new.std is not None:
        squares = np.array([old.std**2 / old.n, new.std**2 / new.n])
        error = math.sqrt(squares.sum())
        freedom = squares.sum() ** 2 / (squares**2 / [old.n - 1, new.n - 1]).sum() if error else math.inf
    elif old.std is not None or new.std is not None:
        known = old if old.std is not None else new
        error, freedom = known.std * math.sqrt(1 / old.n + 1 / new.n), known.n - 1
    elif None not in (old.low, old.high, new.low, new.high):
        wide = 2 * student.ppf(1 - LEVEL / 2, math.inf)
        error, freedom = math.hypot((old.high - old.low) / wide, (new.high - new.low) / wide), math.inf
    else:
        return None
    spread = error > _ROUNDING * max(abs(old.value), abs(new.value))
    return float(student.ppf(1 - LEVEL / 2, freedom) * error) if spread else None


@dataclass(frozen=True)
class _Paired:
    both: dict[str, tuple[Any, Any]]
    only_old: list[str]
    only_new: list[str]


def _paired(old: dict[str, Any], new: dict[str, Any]) -> _Paired:
    both = {key: (value, new[key]) for key, value in old.items() if key in new}
    return _Paired(both, [key for key in old if key not in new], [key for key in new if key not in old])


def _numbered(rows: list[Row]) -> dict[str, Row]:
    """Rows by table, method, data set, setting and metric; a repeated one gets its place among its like."""
    seen: Counter[str] = Counter()
    named = {}
    for row in rows:
        label = " · ".join(filter(None, (getattr(row, key) for key in KEYS)))
        seen[label] += 1
        named[label if seen[label] == 1 else f"{label} (no. {seen[label]})"] = row
    return named


def _sections(record: Record) -> dict[str, dict[str, Any]]:
    """The parts of a record that are compared key by key."""
    environment = record.environment
    return {
        "run": {key: getattr(record, key) for key in ("profile", "source", "seeds", "command")},
        "configuration": record.config,
        "code": {key: value for key, value in environment.items() if key not in _MACHINE},
        "environment": {key: environment[key] for key in _MACHINE if key in environment},
        "data": {use.name: use.model_dump(exclude={"name"}) for use in record.data},
        "notes": dict.fromkeys(record.notes, "told"),
    }


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """Key, old and new of all that differs, nested keys as a.b; a side that has no such key is left out."""
    changed = []
    for key in dict.fromkeys([*old, *new]):
        sides = {name: side[key] for name, side in (("old", old), ("new", new)) if key in side}
        if len(sides) == 2 and all(isinstance(value, dict) for value in sides.values()):
            changed += _differences(sides["old"], sides["new"], f"{prefix}{key}.")
        elif len(sides) == 1 or sides["old"] != sides["new"]:
            changed.append({"key": f"{prefix}{key}", **sides})
    return changed


def _reworded(old: Claim, new: Claim) -> bool:
    return (old.sentence, old.threshold, old.unit) != (new.sentence, new.threshold, new.unit)


def _judged(old: Claim, new: Claim) -> dict[str, Any]:
    sides = [claim.model_dump(include={"verdict", "mean", "low", "high", "unit"}) for claim in (old, new)]
    return {"key": old.key, "old": sides[0], "new": sides[1], "reworded": _reworded(old, new)}


def _run(record: Record) -> str:
    """A run in a few words; a commit with "+" had changes that were not committed."""
    commit = record.environment.get("commit", "unknown")
    seeds = " ".join(map(str, record.seeds))
    return f"{record.profile}, {record.source}, commit {commit}, seeds {seeds}, {record.seconds:,.0f} s"


def _change(change: dict[str, Any]) -> str:
    old, new = (_value(change[side]) if side in change else "(absent)" for side in ("old", "new"))
    return _wrap(f"{change['key']}: {old} -> {new}")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _line(number: Number) -> str:
    """A row of the list of numbers; a long label goes on below."""
    change = number.new - number.old
    whole = number.noise is None and number.old.is_integer() and number.new.is_integer()
    digits = 0 if whole else min(6, max(2, 1 - math.floor(math.log10(abs(change))))) if change else 2
    noise = "" if number.noise is None else f"{number.noise:,.{digits}f}"
    numbers = f"{number.old:>11,.{digits}f}{number.new:>11,.{digits}f}{change:>+11,.{digits}f}{noise:>11}".rstrip()
    first, *rest = wrap(number.label, 49)
    return "\n".join([f"    {first:<50}{numbers}", *(f"      {line}" for line in rest)])


def _wrap(text: str, indent: str = "  ") -> str:
    return fill(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ", break_on_hyphens=False)

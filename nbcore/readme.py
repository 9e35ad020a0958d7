"""Numbers of README.md and docs/*.md, written from the records in docs/records.

What stands between `<!-- numbers:begin NAME -->` and `<!-- numbers:end -->` is docs/readme/NAME.md.j2 filled in: each
record is a variable of its notebook's name (`records` holds all), and the public functions below are at hand, as in
`{{ claims_of(kmat) }}`. No number is typed into a template.

    python -m nbcore.readme                  write the documents anew
    python -m nbcore.readme results/demo     first take over the records and figures of that run
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.paths import PUBLISHED, ROOT
from nbcore.results import Claim, Record, by_chance, compared, load_record, table_order

DOCS = ROOT / "docs"
RECORDS, TEMPLATES = DOCS / "records", DOCS / "readme"
BLOCK = re.compile(r"(<!-- numbers:begin (\S+) -->\n).*?(<!-- numbers:end -->)", re.DOTALL)
_VERDICTS = ("supported", "not supported", "inconclusive")


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def load_records(folder: Path = RECORDS) -> dict[str, Record]:
    """The records of a folder by notebook, each in a file NOTEBOOK.json."""
    return {path.stem: load_record(path) for path in sorted(folder.glob("*.json"))}


def count_of(*records: Record, verdict: str | None = None) -> int:
    """Number of claims, or of those with a verdict."""
    told = [claim.verdict for record in records for claim in record.claims]
    return len(told) if verdict is None else told.count(verdict)


def claims_of(*records: Record) -> str:
    """As in "6 of 23 supported, 5 not, 12 inconclusive"."""
    supported, refuted, undecided = (count_of(*records, verdict=verdict) for verdict in _VERDICTS)
    return f"{supported} of {count_of(*records)} supported, {refuted} not, {undecided} inconclusive"


def chance_of(*records: Record) -> str:
    """How many of the claims would be supported without any effect, as in "9 of 73"; see `results.by_chance`."""
    claims = [claim for record in records for claim in record.claims]
    return f"{by_chance(claims):.0f} of {len(claims)}"


def verdict_of(record: Record, key: str, expected: str | None = None) -> str:
    """A claim's verdict. UserError where the text around it was written for another."""
    verdict = _claim(record, key).verdict
    if expected not in (None, verdict):
        raise UserError(f"{record.notebook}, claim {key!r}: the text expects {expected!r}, it is {verdict!r}; mend it.")
    return verdict


def effect_of(record: Record, key: str, digits: int = 1) -> str:
    """A claim's mean effect with its sign, in its own unit."""
    return f"{_claim(record, key).mean:+.{digits}f}"


def value_of(record: Record, digits: int = 1, **keys: str) -> str:
    """The number of the one row with these keys (table, method, dataset, setting, metric)."""
    rows = [row for row in record.rows if all(getattr(row, key, None) == value for key, value in keys.items())]
    return f"{_one(record, rows, f'rows with {keys}').value:,.{digits}f}"


def note_of(record: Record, words: str) -> str:
    """The one note of the record that has these words."""
    return _one(record, [note for note in record.notes if words in note], f"notes with {words!r}")


def _claim(record: Record, key: str) -> Claim:
    return _one(record, [claim for claim in record.claims if claim.key == key], f"claims {key!r}")


def _one(record: Record, found: list, what: str) -> Any:
    if len(found) != 1:
        raise UserError(f"{record.notebook}: its record has {len(found)} {what}; mend the template that asks for one.")
    return found[0]


def status_table(records: Mapping[str, Record]) -> str:
    """Papers by status: cells run of each published table, tables of our own, claims."""
    lines = [
        "| notebook | paper | cells of the published tables that were run, on phantom data | further tables | claims |",
        "|---" * 5 + "|",
    ]
    for name in sorted(path.stem for path in PUBLISHED.glob("*.csv")):
        link = f"[`{name}`](notebooks/{name}.ipynb)"
        if name not in records:
            lines.append(f"| {link} | | not run | | |")
            continue
        record, published, own = records[name], {}, 0
        for table, cells in compared(record).groupby("table", sort=False):
            theirs = cells[cells["published"].notna()]
            own += theirs.empty
            if not theirs.empty:
                published[table] = f"{table} {theirs['reproduced'].notna().sum()}/{len(theirs)}"
        told = ", ".join(published[table] for table in sorted(published, key=table_order))
        lines.append(f"| {link} | {record.title} | {told} | {own} | {claims_of(record)} |")
    return "\n".join(lines)


def fill(text: str, records: Mapping[str, Record], templates: Path = TEMPLATES) -> str:
    """A document with all its blocks written anew.

    Raises:
        UserError: a marker without its other half; no template; a template that asks for what no record has.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

    environment = Environment(loader=FileSystemLoader(templates), undefined=StrictUndefined, trim_blocks=True)
    functions = (count_of, claims_of, chance_of, verdict_of, effect_of, value_of, note_of, status_table)
    names = {**records, "records": records, **{function.__name__: function for function in functions}}
    if not text.count("<!-- numbers:begin ") == text.count("<!-- numbers:end -->") == len(BLOCK.findall(text)):
        raise UserError("the markers numbers:begin NAME and numbers:end must come in pairs, each on its own line.")

    def block(match: re.Match) -> str:
        try:
            told = environment.get_template(f"{match[2]}.md.j2").render(names)
        except TemplateError as error:
            raise UserError(f"{templates}/{match[2]}.md.j2 cannot be filled from the records: {error}.") from error
        return f"{match[1]}{told.strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def adopt(run: Path) -> None:
    """Take over the records of a profile's folder, and from it the figures docs/NOTEBOOK_FIGURE.png shows."""
    files = [path for path in sorted(run.glob("*/record.json")) if not path.parent.name.startswith(".")]
    if not files:
        raise UserError(f"{run}: no records here; run `make reproduce` first.")
    for path in files:
        record = load_record(path)
        atomic_write(RECORDS / f"{record.notebook}.json", path.read_bytes())
        for figure in record.figures:
            if (shown := DOCS / f"{record.notebook}_{figure.name}.png").is_file():
                atomic_write(shown, (path.parent / "figures" / f"{figure.name}.png").read_bytes())


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
def main(run: Path | None) -> None:
    """Write the numbers of README.md and docs/*.md from docs/records, after taking over those of RUN if given."""
    try:
        if run:
            adopt(run)
        records = load_records()
        told = {path: fill(path.read_text(encoding="utf-8"), records) for path in documents()}
        for path, text in told.items():
            atomic_write(path, text)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

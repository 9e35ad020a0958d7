"""Records to one self-contained HTML page a profile.

The page is made of records, their figures, the published tables and the list of deviations alone: the same records
give the same bytes. It loads nothing from anywhere.
"""

import base64
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.report_tables import Status, Table, decimals, lay_out, number
from nbcore.results import (
    Claim,
    Record,
    by_chance,
    comparability,
    compared,
    load_record,
    published,
    published_decimals,
    table_order,
)

VERDICTS = ("supported", "not supported", "inconclusive")
_PACKAGE = Path(__file__).parent
_DEVIATIONS = _PACKAGE / "methods" / "DEVIATIONS.md"
_RUN = "run a notebook first (python -m nbcore run mflag)"


@dataclass(frozen=True)
class Section:
    """What the page tells of one notebook: a paper with or without a record, or a notebook that only shows data.

    `facts` are those of templates/papers.yaml; `statuses` maps the name of a table to its status, also for published
    tables of a paper without a record; `page` is the executed notebook where it lies beside the record.
    """

    notebook: str
    facts: dict[str, str]
    record: Record | None
    comparability: str
    tables: list[Table]
    statuses: dict[str, Status]
    figures: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    deviations: str
    page: str | None

    @property
    def verdicts(self) -> dict[str, int]:
        counts = Counter(entry["claim"].verdict for entry in self.claims)
        return {verdict: counts[verdict] for verdict in VERDICTS}

    @property
    def comparable(self) -> bool:
        return any(number.field == "difference" for table in self.tables for number in table.numbers())

    def anchor(self, table: str) -> str:
        """The id of a table's place on the page."""
        return f"{self.notebook}-table-{list(self.statuses).index(table) + 1}"


def write(directory: Path) -> Path:
    """Write `index.html` from all records under results/<profile>; returns its path.

    Raises:
        UserError: there is no record, or one that is damaged, unfinished, of another version, or in the wrong folder.
    """
    folders = [path.parent for path in sorted(directory.glob("*/record.json")) if not path.parent.name.startswith(".")]
    if not folders:
        raise UserError(f"{directory}: no record here; {_RUN}.")
    atomic_write(directory / "index.html", _render({folder.name: _read(folder) for folder in folders}, directory))
    return directory / "index.html"


def write_all(output_root: Path) -> list[Path]:
    """The pages of all profiles that have a record. UserError if there are none."""
    paths = [path.parent for path in output_root.glob("*/*/record.json")]
    folders = sorted({path.parent for path in paths if not path.name.startswith(".")})
    if not folders:
        raise UserError(f"{output_root}: no records here; {_RUN}.")
    return [write(folder) for folder in folders]


def _read(folder: Path) -> Record:
    """The record of results/<profile>/<notebook>."""
    path = folder / "record.json"
    record = load_record(path)
    if not record.complete:
        raise UserError(f"{path}: the record of a run that did not finish; run its notebook again.")
    if (record.profile, record.notebook) != (folder.parent.name, folder.name):
        place = f"{record.profile}/{record.notebook}"
        raise UserError(f"{path}: a record of {place}; move its folder to a folder {place}, or remove it.")
    return record


def _render(records: dict[str, Record], directory: Path) -> str:
    facts = yaml.safe_load((_PACKAGE / "templates" / "papers.yaml").read_text(encoding="utf-8"))
    deviations = _deviations()
    sections = [_section(name, facts.get(name), records.get(name), directory / name, deviations) for name in facts]
    sections += [
        _section(name, None, record, directory / name, deviations)
        for name, record in records.items()
        if name not in facts
    ]
    papers = [each for each in sections if each.notebook in facts or each.tables or each.claims]
    owned = tuple(entry["deviations"] for entry in facts.values())
    return _template().render(
        profile=directory.name,
        records=records,
        papers=papers,
        tours=[each for each in sections if each not in papers],
        verdicts=VERDICTS,
        totals={verdict: sum(each.verdicts[verdict] for each in papers) for verdict in VERDICTS},
        chance=by_chance(entry["claim"] for each in papers for entry in each.claims),
        columns=_table_names(papers),
        comparabilities=sorted({comparability(record) for record in records.values()}),
        environment=_shared({name: record.environment for name, record in records.items()}),
        data=_data(records),
        shared_deviations={name: html for name, html in deviations.items() if not name.startswith(owned)},
    )


def _section(name: str, facts: dict | None, record: Record | None, folder: Path, deviations: dict) -> Section:
    facts = facts or {"name": record.title}
    own = [html for heading, html in deviations.items() if heading.startswith(facts.get("deviations", "\n"))]
    if record is None:
        names = published(name).groupby("table", sort=False).size()
        tables, statuses = [], {table: Status(0, int(cells), 0) for table, cells in names.items()}
    else:
        printed = published_decimals(name)
        tables = [lay_out(table, cells, printed) for table, cells in compared(record).groupby("table", sort=False)]
        tables.sort(key=lambda table: not table.status.reproduced + table.status.published_only)
        statuses = {table.name: table.status for table in tables}
    return Section(
        notebook=name,
        facts=facts,
        record=record,
        comparability=comparability(record) if record else "",
        tables=tables,
        statuses=statuses,
        figures=[_figure(folder / "figures" / f"{f.name}.png", f.caption) for f in record.figures] if record else [],
        claims=[_claim(claim) for claim in record.claims] if record else [],
        deviations=own[0] if own else "",
        page=f"{name}/{name}.html" if (folder / f"{name}.html").is_file() else None,
    )


def _table_names(papers: list[Section]) -> list[str]:
    """Names of the papers' own tables, in their numerical order; "text" last."""
    names = {name for each in papers for name, state in each.statuses.items() if state.state != "beyond the paper"}
    return sorted(names, key=table_order)


def _figure(path: Path, caption: str) -> dict[str, Any]:
    """A figure as it lies beside the record, with the width and height in CSS pixels at which it was drawn.

    One that is not there, or is no PNG, has no `data`: the page is made of the record and says so.
    """
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(path) as picture:
            (width, height), dpi = picture.size, picture.info.get("dpi", (96, 96))[0] or 96
    except OSError:
        return {"caption": caption, "data": "", "width": 0, "height": 0}
    scale = 96 / dpi
    size = {"width": round(width * scale), "height": round(height * scale)}
    return {"caption": caption, "data": base64.b64encode(content).decode(), **size}


def _claim(claim: Claim) -> dict[str, Any]:
    """A claim with its printed numbers, and places of a drawing from 0 to 100 with the threshold at 50."""
    digits = max(1, decimals([claim.mean, claim.low, claim.high]))
    shown = {name: number(getattr(claim, name), digits, sign=True) for name in ("mean", "low", "high")}
    threshold = f"{claim.threshold:+g}".replace("-", "−") if claim.threshold else "0"
    reach = max(abs(value - claim.threshold) for value in (*claim.effects, claim.low, claim.high)) or 1.0
    places = {name: round(50 + 46 * (getattr(claim, name) - claim.threshold) / reach, 1) for name in shown}
    dots = [round(50 + 46 * (effect - claim.threshold) / reach, 1) for effect in claim.effects]
    return {"claim": claim, "shown": {**shown, "threshold": threshold}, "places": places, "dots": dots}


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("nbcore"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html")


@cache
def _deviations() -> dict[str, str]:
    """Heading -> HTML of each section of DEVIATIONS.md."""
    import mistune

    render = mistune.create_markdown(escape=True, plugins=["table"])
    parts = _DEVIATIONS.read_text(encoding="utf-8").split("\n## ")[1:]
    headings = [part.partition("\n")[::2] for part in parts]
    return {heading.strip(): _boxed(render(body)) for heading, body in headings}


def _boxed(page: str) -> str:
    """HTML whose tables scroll inside a box, or stack on a phone; long names in code may be broken at their joints."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, "html.parser")
    for table in soup("table"):
        columns = [heading.get_text() for heading in table("th")]
        for row in table("tr"):
            for column, cell in zip(columns, row("td")):
                cell["data-column"] = column
        table["class"] = "words"
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    return re.sub(r"<code>.*?</code>", lambda code: re.sub(r"(?<=\w)([_./])(?=\w)", r"\1<wbr>", code[0]), str(soup))


def _shared(environments: dict[str, dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """Key -> (value, notebooks that have it); the names are empty where all agree."""
    table = {}
    for key in dict.fromkeys(key for each in environments.values() for key in each):
        holders: dict[str, list[str]] = {}
        for name, each in environments.items():
            holders.setdefault(str(each.get(key, "–")), []).append(name)
        table[key] = [(value, "" if len(holders) == 1 else ", ".join(names)) for value, names in holders.items()]
    return table


def _data(records: dict[str, Record]) -> list[dict[str, Any]]:
    """Each use of a data set once, with the notebooks that read it so."""
    uses: dict[str, dict[str, Any]] = {}
    for name, record in records.items():
        for use in record.data:
            uses.setdefault(use.model_dump_json(), {"use": use, "notebooks": []})["notebooks"].append(name)
    return sorted(uses.values(), key=lambda entry: (entry["use"].name, entry["use"].fingerprint))

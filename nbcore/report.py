"""Records to one self-contained HTML page a profile."""

import base64
from pathlib import Path

from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.results import Record, comparability, compared, load_record, pivot


def write(directory: Path) -> Path:
    """Write `index.html` from all records under results/<profile>; returns its path.

    Raises:
        UserError: there is no record.
    """
    from jinja2 import Environment, PackageLoader

    records = [load_record(path) for path in sorted(directory.glob("*/record.json"))]
    if not records:
        raise UserError(f"{directory}: no record here; run a notebook first (python -m nbcore run mflag).")
    environment = Environment(loader=PackageLoader("nbcore"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value: f"{value:+.2f}"
    page = environment.get_template("report.html").render(
        profile=directory.name, sections=[_section(record, directory / record.notebook) for record in records]
    )
    atomic_write(directory / "index.html", page)
    return directory / "index.html"


def write_all(output_root: Path) -> list[Path]:
    """The pages of all profiles that have a record. UserError if there are none."""
    folders = sorted({path.parent.parent for path in output_root.glob("*/*/record.json")})
    if not folders:
        raise UserError(f"{output_root}: no records here; run a notebook first (python -m nbcore run mflag).")
    return [write(folder) for folder in folders]


def _section(record: Record, directory: Path) -> dict:
    """What the template shows of one record."""
    tables = []
    for name, table in compared(record).groupby("table", sort=False):
        ran = int(table["reproduced"].notna().sum())
        status = f"{ran} of {len(table)} cells reproduced" if ran else "published numbers only"
        html = pivot(table).to_html(border=0, classes="numbers")
        tables.append({"name": name, "status": status, "html": html})
    figures = [
        {"caption": figure.caption, "data": _base64(directory / "figures" / f"{figure.name}.png")}
        for figure in record.figures
    ]
    return {"record": record, "comparability": comparability(record), "tables": tables, "figures": figures}


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise UserError(f"{path}: a figure of the record is missing; run its notebook again.") from error

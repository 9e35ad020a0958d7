"""Every number of a result in README.md and docs/*.md is written from a record, and none is typed in by hand."""

import re
from pathlib import Path

import pytest

from nbcore import readme
from nbcore.errors import UserError
from nbcore.readme import BLOCK, DOCS, RECORDS, TEMPLATES, documents, fill, load_records
from nbcore.results import Record, Row, judge

_COUNT = r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|nineteen|none)"
_TYPED = [
    re.compile(r"(?<![\w.])\d+\.\d+(?!\w|\.\d)"),  # 0.68
    re.compile(r"(?<![\w.,])\d+(?:\.\d+)?(?: ?%| points?\b)"),  # 71 %, 8 points
    re.compile(rf"\b{_COUNT}(?: to {_COUNT})?(?: of (?:\S+ )?{_COUNT})? claims\b", re.I),  # 27 to 29 claims
    re.compile(rf"\b{_COUNT}(?: claims)?(?: is| are| stay| stays)? (?:supported|refuted|inconclusive)\b", re.I),
]
_HARMLESS = re.compile(r"Apache-2\.0|\b\d{4}\.\d{5}\b|Python \d+\.\d+\+?|\b95 ?%")  # not results
_CODE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)


def typed_numbers(text: str) -> list[str]:
    """What looks like the number of a result in prose: outside code, links and template expressions."""
    prose = _HARMLESS.sub("", _CODE.sub("", re.sub(r"\{[{%].*?[%}]\}", "", text, flags=re.DOTALL)))
    return [match[0] for pattern in _TYPED for match in pattern.finditer(" ".join(prose.split()))]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_documents_are_what_the_records_say(path):
    text = path.read_text(encoding="utf-8")
    assert fill(text, load_records()) == text, "run `python -m nbcore.readme` and commit what it writes"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_no_result_is_typed_into_a_document(path):
    outside = BLOCK.sub("", path.read_text(encoding="utf-8"))
    assert typed_numbers(outside) == [], "move it into a template of docs/readme"


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.j2")), ids=lambda path: path.name)
def test_no_result_is_typed_into_a_template(path):
    assert typed_numbers(path.read_text(encoding="utf-8")) == []


def test_records_are_finished_runs_under_their_own_name():
    for name, record in load_records().items():
        assert (record.notebook, record.profile, record.complete) == (name, "demo", True)


def test_figures_of_the_documents_are_figures_of_the_records():
    text = "".join(path.read_text(encoding="utf-8") for path in documents())
    shown = {Path(link).stem for link in re.findall(r"\]\(([^)\s]+\.png)\)", text)}
    known = {f"{name}_{figure.name}" for name, record in load_records().items() for figure in record.figures}
    assert sorted(shown - known) == []


@pytest.mark.parametrize(
    "typed",
    [
        "silhouette 0.68; without it",
        "with an AUC of 0.89, and",
        "it reaches 0.89.",
        "8.6 points worse",
        "71 % of them",
        "six of 23 claims are",
        "27 to 29 claims",
        "Of its claims three are supported",
        "12 stay inconclusive",
    ],
)
def test_a_typed_result_is_found(typed):
    assert typed_numbers(f"On these twins, {typed}")


@pytest.mark.parametrize(
    "harmless",
    [
        "Python 3.11+, at Apache-2.0, a 95 % interval over three seeds, version 0.1.0",
        "`-p rate=0.1` and\n```\npython 2.5\n```",
        "{{ value_of(mflag, 2, setting='0.1') }} and [Table](docs/1.5.md)",
        "a claim is supported, not supported or inconclusive; five papers with their claims",
    ],
)
def test_what_is_no_result_is_left_alone(harmless):
    assert typed_numbers(harmless) == []


WHERE = {"table": "Table 2", "method": "M-FLAG", "dataset": "NIH", "setting": "1%", "metric": "AUC (%)"}


def row(value: float, **keys: str) -> Row:
    return Row(value=value, **{**WHERE, **keys})


@pytest.fixture
def record() -> Record:
    effects = {"rank": [1, 2, 3], "low": [-1.0, -2.0, -4.5], "open": [-1, 0, 1]}
    return Record(
        notebook="mflag",
        title="M-FLAG (MICCAI 2023)",
        profile="demo",
        command="python -m nbcore run mflag",
        config={},
        seeds=[0, 1, 2],
        source="phantom",
        data=[],
        rows=[row(71.26), row(64.0, dataset="CheXpert"), row(0.684, table="Geometry", setting="")],
        claims=[judge(key, "", "", values, unit="points") for key, values in effects.items()],
        figures=[],
        notes=["3 of 5 were equal."],
        environment={},
        seconds=150.0,
        peak_memory_mib=1.0,
        complete=True,
    )


def filled(folder: Path, template: str, *records: Record) -> str:
    (folder / "told.md.j2").write_text(template)
    text = "before 1\n<!-- numbers:begin told -->\nold\n<!-- numbers:end -->\nafter\n"
    told = fill(text, {each.notebook: each for each in records}, folder)
    assert fill(told, {each.notebook: each for each in records}, folder) == told
    return told.removeprefix("before 1\n<!-- numbers:begin told -->\n").removesuffix("\n<!-- numbers:end -->\nafter\n")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ claims_of(mflag) }}", "1 of 3 supported, 1 not, 1 inconclusive"),
        ("{{ chance_of(mflag, mflag) }}", "1 of 6"),
        ("{{ claims_of(mflag, mflag) }}", "2 of 6 supported, 2 not, 2 inconclusive"),
        ("{{ count_of(mflag) }}, {{ count_of(mflag, verdict='inconclusive') }}", "3, 1"),
        (
            "{{ verdict_of(mflag, 'rank') }}, {{ verdict_of(mflag, 'low', 'not supported') }}",
            "supported, not supported",
        ),
        ("{{ effect_of(mflag, 'low') }} {{ effect_of(mflag, 'rank', 0) }}", "-2.5 +2"),
        ("{{ value_of(mflag, dataset='NIH', table='Table 2') }}", "71.3"),
        ("{{ value_of(mflag, 2, table='Geometry') }}", "0.68"),
        ("{{ note_of(mflag, 'equal') }}", "3 of 5 were equal."),
    ],
)
def test_what_a_template_can_say(tmp_path, record, template, told):
    assert filled(tmp_path, template, record) == told


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ claims_of(kmat) }}", "'kmat' is undefined"),
        ("{{ value_of(mflag, table='Table 2') }}", "2 rows with"),
        ("{{ value_of(mflag, tabel='Table 2') }}", "0 rows with"),
        ("{{ verdict_of(mflag, 'rang') }}", "0 claims 'rang'"),
        ("{{ verdict_of(mflag, 'rank', 'inconclusive') }}", "the text expects 'inconclusive', it is 'supported'"),
        ("{{ note_of(mflag, 'nothing') }}", "0 notes"),
        ("{% if %}", "cannot be filled"),
    ],
)
def test_a_template_that_asks_for_what_is_not_there(tmp_path, record, template, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        filled(tmp_path, template, record)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- numbers:begin told -->\n",
        "<!-- numbers:end -->\n",
        "<!-- numbers:begin a -->\n<!-- numbers:begin b -->\n<!-- numbers:end -->\n",
    ],
)
def test_markers_come_in_pairs(text):
    with pytest.raises(UserError, match="come in pairs"):
        fill(text, {})


def test_the_status_table_counts_the_published_cells_that_were_run(tmp_path, record, monkeypatch):
    published = tmp_path / "published"
    published.mkdir()
    head = "table,method,dataset,setting,metric,value,std,note\n"
    cells = "Table 2,M-FLAG,NIH,1%,AUC (%),62.2,,\nTable 2,M-FLAG,NIH,10%,AUC (%),71.6,,\n"
    (published / "mflag.csv").write_text(head + cells)
    (published / "kmat.csv").write_text(head)
    for module in ("nbcore.readme", "nbcore.results"):
        monkeypatch.setattr(f"{module}.PUBLISHED", published)
    kmat, mflag = filled(tmp_path, "{{ status_table(records) }}", record).splitlines()[2:]
    assert kmat == "| [`kmat`](notebooks/kmat.ipynb) | | not run | | |"
    told = ["M-FLAG (MICCAI 2023)", "Table 2 1/2", "1", "1 of 3 supported, 1 not, 1 inconclusive"]
    assert mflag == f"| [`mflag`](notebooks/mflag.ipynb) | {' | '.join(told)} |"


def test_a_run_is_taken_over_with_the_figures_that_are_shown(tmp_path, record, monkeypatch):
    docs, run = tmp_path / "docs", tmp_path / "demo" / "mflag"
    (run / "figures").mkdir(parents=True)
    docs.mkdir()
    record = record.model_copy(update={"figures": [{"name": "one", "caption": ""}, {"name": "two", "caption": ""}]})
    (run / "record.json").write_text(record.model_dump_json(indent=1, warnings=False))
    for name in ("one", "two"):
        (run / "figures" / f"{name}.png").write_text(f"new {name}")
    (docs / "mflag_one.png").write_text("old")
    monkeypatch.setattr(readme, "DOCS", docs)
    monkeypatch.setattr(readme, "RECORDS", docs / "records")
    readme.adopt(run.parent)
    assert (docs / "records" / "mflag.json").read_bytes() == (run / "record.json").read_bytes()
    assert (docs / "mflag_one.png").read_text() == "new one"
    assert not (docs / "mflag_two.png").exists()
    with pytest.raises(UserError, match="no records here"):
        readme.adopt(docs)


def test_the_folders_are_where_the_documents_say():
    assert RECORDS.parent == TEMPLATES.parent == DOCS
    assert (RECORDS / "README.md").is_file()

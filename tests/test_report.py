"""The report page: every number on it traces to a record or a published table; it is sound HTML and loads nothing."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from bs4 import BeautifulSoup, Tag
from click.testing import CliRunner
from report_records import record, save, site

import nbcore.results
from nbcore import report
from nbcore.__main__ import cli
from nbcore.errors import UserError
from nbcore.paths import PUBLISHED
from nbcore.readme import RECORDS
from nbcore.results import KEYS, compared, load_record, published

PAPERS = ["mflag", "mgca", "med_unic", "meduna", "kmat"]


def page_of(directory) -> BeautifulSoup:
    return BeautifulSoup(report.write(directory).read_text(encoding="utf-8"), "html.parser")


def same(text: str, value: float) -> None:
    """The printed number is the value at its own precision."""
    plain = text.replace(",", "").replace("−", "-")
    half = 0.5 * 10.0 ** -len(plain.partition(".")[2])
    assert abs(float(plain) - value) <= half * 1.000001, (text, value)


def unmarked(cell: Tag) -> str:
    """The text of a cell without its marked numbers and the letters of footnotes."""
    copy = BeautifulSoup(str(cell), "html.parser")
    for part in copy.select("[data-field], sup"):
        part.extract()
    return copy.get_text()


def walk_tables(page: BeautifulSoup, records: dict) -> int:
    """Trace all numbers of the result tables; the number of them."""
    walked = 0
    frames = {name: compared(kept).set_index(KEYS) for name, kept in records.items()}
    for table in page.select("table.numbers"):
        frame = frames[table["data-record"]]
        own = frame[frame.index.get_level_values("table") == table["data-table"]]
        for row in table.select("tbody tr"):
            for cell in row.select("td"):
                assert not re.search(r"\d", unmarked(cell)), cell
                for mark in cell.select("[data-field]"):
                    place = (table["data-table"], row["data-method"])
                    place += tuple(cell[f"data-{key}"] for key in ("dataset", "setting", "metric"))
                    same(mark.get_text(), own.loc[[place], mark["data-field"]].item())
                    walked += 1
                if cell.select_one("[data-field=reproduced]") and not cell.select_one("[data-field=n]"):
                    assert own.loc[[place], "n"].item() == int(table.select_one("[data-field=runs]").get_text())
    return walked


def walk_claims(page: BeautifulSoup, records: dict) -> int:
    """Trace all numbers of the claims."""
    walked = 0
    for row in page.select(".evidence tbody tr"):
        (claim,) = [each for each in records[row["data-record"]].claims if each.key == row["data-claim"]]
        assert row.select_one(".verdict").get_text() == claim.verdict
        assert claim.sentence in row.get_text()
        assert claim.source in row.get_text()
        assert not re.search(r"\d", unmarked(row.select_one(".effect")).replace(claim.unit, ""))
        for mark in row.select("[data-field]"):
            expected = len(claim.effects) if mark["data-field"] == "seeds" else getattr(claim, mark["data-field"])
            same(mark.get_text(), expected)
            walked += 1
    return walked


def walk_status(page: BeautifulSoup, records: dict) -> int:
    """Trace the matrix of papers and tables."""
    walked = 0
    for row in page.select(".matrix tbody tr"):
        name = row["data-record"]
        frame = compared(records[name]) if name in records else published(name).assign(reproduced=float("nan"))
        theirs = frame["published" if name in records else "value"].notna()
        for cell in row.select("td"):
            assert not re.search(r"\d", unmarked(cell))
            own = theirs & (frame["table"] == cell.get("data-table"))
            expected = {
                "reproduced": (own & frame["reproduced"].notna()).sum(),
                "published": own.sum(),
                "ours": (~theirs).sum(),
            }
            for mark in cell.select("[data-field]"):
                assert int(mark.get_text()) == expected[mark["data-field"]]
                walked += 1
    return walked


def walk_rest(page: BeautifulSoup, records: dict) -> int:
    """Trace what is told of data, time and memory."""
    walked = 0
    for row in page.select("#data tbody tr"):
        uses = [use for use in records[row["data-record"]].data if use.fingerprint == row["data-fingerprint"]]
        for mark in row.select("[data-field]"):
            same(mark.get_text(), uses[0].counts[mark["data-field"]])
            walked += 1
    for row in page.select("#runs tr:has([data-field])"):
        own = [records[row["data-record"]]] if row.get("data-record") else list(records.values())
        values = {"minutes": sum(kept.seconds for kept in own) / 60, "memory": own[0].peak_memory_mib}
        for mark in row.select("[data-field]"):
            same(mark.get_text(), values[mark["data-field"]])
            walked += 1
    return walked


def trace(directory) -> BeautifulSoup:
    """Walk every marked number of a page; all are accounted for."""
    page = page_of(directory)
    records = {path.parent.name: load_record(path) for path in directory.glob("*/record.json")}
    walked = sum(walk(page, records) for walk in (walk_tables, walk_claims, walk_status, walk_rest))
    assert walked + len(page.select("[data-field=runs]")) == len(page.select("[data-field]"))
    return page


def test_every_number_traces_to_a_record_or_a_published_table(tmp_path):
    page = trace(site(tmp_path))
    for name in ("mflag", "kmat"):
        tables = page.select(f"table.numbers[data-record={name}]")
        count = {
            field: sum(len(table.select(f"td [data-field={field}]")) for table in tables)
            for field in ("reproduced", "published", "std", "low", "difference")
        }
        assert count == {"reproduced": 6, "published": len(published(name)), "std": 3, "low": 1, "difference": 0}


def test_differences_stand_where_numbers_are_comparable(tmp_path):
    page = trace(save(tmp_path, record(profile="paper", source="real")))
    found = {mark.find_parent("td")["data-setting"]: mark.get_text() for mark in page.select("[data-field=difference]")}
    assert found["train"] == "−214,972"
    assert found["1%"] in ("−0.0", "−60.5")
    assert "not comparable" not in page.get_text()


def test_published_numbers_are_printed_as_the_paper_prints_them(tmp_path):
    page = page_of(save(tmp_path, record("meduna", rows=[], claims=[])))
    lines = (PUBLISHED / "meduna.csv").read_text(encoding="utf-8")
    shown = [mark.get_text().replace(",", "") for mark in page.select(".numbers [data-field=published]")]
    assert "62.50" in shown
    assert all(f",{text}," in lines for text in shown)


def test_data_sets_of_one_method_alone_stand_beside_it(tmp_path):
    page = page_of(save(tmp_path, record("kmat", rows=[], claims=[])))
    table = page.select_one("table.numbers[data-table='Table 1']")
    assert "MRA-MIDAS" in table.select_one("[data-method='Skin I'] th").get_text()
    assert len(table.select("thead tr")[-1].select("th")) == 8
    assert all(cell.select("[data-field=published]") for cell in table.select("tbody td"))


def test_the_walk_sees_a_wrong_number(tmp_path, monkeypatch):
    right = nbcore.results.compared
    monkeypatch.setattr(report, "compared", lambda kept: right(kept).replace({"reproduced": {215.0: 216.0}}))
    with pytest.raises(AssertionError):
        trace(site(tmp_path))


def test_papers_are_told_with_and_without_records(tmp_path):
    page = page_of(site(tmp_path))
    assert [entry["data-paper"] for entry in page.select(".papers li")] == PAPERS
    missing = page.select_one("[data-paper=med_unic]").get_text()
    assert "not run" in missing
    assert "python -m nbcore run med_unic --profile demo" in missing
    assert "1 supported, 1 not, 1 inconclusive" in page.select_one("[data-paper=mflag]").get_text()
    tour = page.select_one("#paper-tour")
    assert "The data sets: a tour" in tour.get_text()
    assert len(tour.select("img")) == 1
    assert not page.select(".matrix [data-record=tour]")


def test_tables_tell_how_to_repeat_them_and_what_the_paper_misprints(tmp_path):
    directory = site(tmp_path)
    (directory / "kmat" / "kmat.html").write_text("the executed notebook")
    page = page_of(directory)
    for name in ("mflag", "kmat"):
        section = page.select_one(f"#paper-{name}")
        tables = section.select("table.numbers")
        repeats = [box.get_text() for box in section.select("p.again")]
        assert len(repeats) == len(tables) > 3
        assert all(f"python -m nbcore run {name} --profile demo --seed 0" in text for text in repeats)
        assert {link["href"] for link in section.select(".again a")} == (
            {"kmat/kmat.html"} if name == "kmat" else set()
        )
        notes = [note for note in published(name)["note"].unique() if note]
        assert all(note in section.get_text() for note in notes)
        for box in section.select(".notes"):
            letters = {sup.get_text() for sup in box.select("sup")}
            table = box.find_previous("table")
            assert letters == {sup.get_text() for sup in table.select("td sup")}


def test_deviations_are_told_once_each(tmp_path):
    page = page_of(site(tmp_path))
    text = (report._DEVIATIONS).read_text(encoding="utf-8")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    own = [name for name in headings if name.startswith(("M-FLAG", "K-MaT"))]
    shared = [name for name in headings if not name.startswith(("M-FLAG", "MGCA", "Med-UniC", "MedUnA", "K-MaT"))]
    assert [heading.get_text() for heading in page.select("#deviations h3")] == shared
    assert len(page.select(".words")) == len(own) + len(shared)
    row = page.find("td", string="alignment, Eq. 2").parent
    assert row.find_parent("section")["id"] == "paper-mflag"
    columns = [heading.get_text() for heading in row.find_parent("table")("th")]
    assert [cell["data-column"] for cell in row("td")] == columns  # told before each cell where a phone stacks them


class Outline(HTMLParser):
    """Opening and closing tags that fit together, ids, and levels of headings."""

    VOID = frozenset({"meta", "link", "br", "input", "img", "wbr", "hr", "line", "circle"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.levels, self.loaded = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.loaded += [attrs[key] for key in ("src", "srcset", "data") if key in attrs]
        self.loaded += [attrs["href"]] if tag == "link" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_sound_and_loads_nothing(tmp_path):
    text = report.write(site(tmp_path)).read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(text)
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids)) > 20
    assert outline.levels[0] == 1
    assert all(below <= above + 1 for above, below in zip(outline.levels, outline.levels[1:]))
    assert all(source.startswith("data:") for source in outline.loaded)
    assert not re.search(r"https?:|@import|url\(|<script", text)
    targets = re.findall(r'href="#([^"]+)"', text)
    assert len(targets) > 10
    assert set(targets) <= set(outline.ids)
    assert text.count("data:image/png") == 3
    assert 'width="960" height="192"' in text
    assert "mflag &lt;test&gt;" not in text  # the paper's own name stands there
    assert "a &lt;line&gt;" in text


def test_same_records_give_the_same_bytes_wherever_they_lie(tmp_path):
    first = report.write(site(tmp_path / "a")).read_bytes()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "demo" / "index.html").unlink()
    assert report.write_all(tmp_path / "b") == [tmp_path / "b" / "demo" / "index.html"]
    assert (tmp_path / "b" / "demo" / "index.html").read_bytes() == first


def test_a_notebook_that_is_no_paper_of_ours_is_shown_by_its_title(tmp_path):
    page = page_of(save(tmp_path, record("mine", title="My method")))
    assert [entry["data-paper"] for entry in page.select(".papers li")] == [*PAPERS, "mine"]
    assert page.select_one("#paper-mine h2").get_text() == "My method"


def test_records_alone_make_the_whole_page(tmp_path):
    """No figures, no notebooks: all numbers, and where each picture would come from."""
    records = {path.stem: load_record(path) for path in RECORDS.glob("*.json")}
    for name in records:
        (tmp_path / "demo" / name).mkdir(parents=True)
        shutil.copy(RECORDS / f"{name}.json", tmp_path / "demo" / name / "record.json")
    page = page_of(tmp_path / "demo")
    walked = [walk(page, records) for walk in (walk_tables, walk_claims, walk_status, walk_rest)]
    assert min(walked) > 50, walked
    assert not page.select("img")
    absent = page.select("figure.absent")
    assert len(absent) == sum(len(kept.figures) for kept in records.values()) > 50
    for name, kept in records.items():
        told = page.select_one(f"#paper-{name}").get_text()
        assert all(figure.caption in told for figure in kept.figures) and f"{kept.command} draws it" in told


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_picture_that_is_not_there_is_told(tmp_path, content):
    directory = save(tmp_path, record())
    change(directory / "mflag" / "record.json", figures=[{"name": "gone", "caption": "What it shows."}])
    if content:
        (directory / "mflag" / "figures" / "gone.png").write_bytes(content)
    (figure,) = page_of(directory).select("#paper-mflag figure")
    assert figure.get_text().startswith("What it shows. The picture does not lie beside the record:")


def test_what_chance_would_support_is_told(tmp_path):
    page = page_of(save(tmp_path, record()))
    claims = record().claims
    told = re.search(r"about (\d+) of these (\d+) would", page.select_one("#claims").get_text().replace("\n", " "))
    assert int(told[2]) == len(claims) and abs(int(told[1]) - sum(len(c.effects) == 3 for c in claims) / 8) <= 0.5


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 3}, r"mflag/record.json: not a readable record of this version"),
        ({"complete": False}, r"mflag/record.json: the record of a run that did not finish"),
        ({"profile": "smoke"}, r"mflag/record.json: a record of smoke/mflag; move its folder"),
        ({"notebook": "mgca"}, r"mflag/record.json: a record of demo/mgca; move its folder"),
    ],
)
def test_a_record_that_cannot_be_shown_is_one_sentence(tmp_path, values, message):
    directory = save(tmp_path, record())
    change(directory / "mflag" / "record.json", **values)
    with pytest.raises(UserError, match=message):
        report.write(directory)
    assert not (directory / "index.html").exists()


def test_runs_under_way_are_left_out(tmp_path):
    directory = save(tmp_path, record())
    shutil.copytree(directory / "mflag", directory / ".kmat.partial")
    assert len(page_of(directory).select("section[id^=paper-]")) == 1
    shutil.rmtree(directory / "mflag")
    with pytest.raises(UserError, match="no record"):
        report.write(directory)
    with pytest.raises(UserError, match="no records"):
        report.write_all(tmp_path)


def test_the_command_writes_a_page_a_profile(tmp_path):
    for profile in ("smoke", "demo"):
        save(tmp_path, record(profile=profile))
    outcome = CliRunner().invoke(cli, ["report", "--output-root", str(tmp_path)])
    assert outcome.exit_code == 0
    assert outcome.output.split() == [str(tmp_path / profile / "index.html") for profile in ("demo", "smoke")]


def luminance(colour: str) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_readable_in_light_and_dark(tmp_path):
    text = report.write(site(tmp_path)).read_text(encoding="utf-8")
    schemes = re.findall(r":root \{([^}]*--panel[^}]*)\}", text)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme.replace("#fff;", "#ffffff;")))
        page = luminance(colours["page"])
        for name in ("ink", "soft", "link", "good", "bad", "open"):
            light, dark = sorted([page, luminance(colours[name])], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, colours)

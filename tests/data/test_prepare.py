"""Intermediate files: the same as `load`, in the layouts others read, in no wrong place and over nobody's files."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from nbcore.__main__ import cli
from nbcore.data import load
from nbcore.data.fixed_splits import LISTS, canonical_list, fixed_split
from nbcore.data.manifest import list_manifests, load_manifest
from nbcore.data.prepare import SECTIONS, compare_list, prepare, read_master
from nbcore.errors import UserError

Root = Callable[[str], Path]


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", list_manifests())
def test_what_is_written_is_what_is_loaded(name: str, twin: Root, tmp_path: Path) -> None:
    samples = load(name, twin(name))
    done = prepare(name, twin(name), tmp_path / "out")
    table = read_master(tmp_path / "out" / "master.csv")
    assert set(done.files.values()) == {"new"} and table.columns[0] == "image"
    pd.testing.assert_frame_equal(
        table[[column for column in samples.table if column != "report"]],
        samples.table.drop(columns="report").assign(
            boxes=[[tuple(box) for box in boxes] for boxes in samples.table["boxes"]]
        ),
        check_dtype=False,
    )
    key = ["patient", "study"]
    listed = pd.read_csv(tmp_path / "out" / "splits.csv", dtype=str)
    assert not listed.duplicated(key).any() and len(listed) == len(samples.table[key].drop_duplicates())
    assert samples.table[key].merge(listed, "left", on=key)["split"].tolist() == samples.table["split"].tolist()
    written = tmp_path / "out" / "reports.csv"
    assert written.exists() == (samples.table["report"] != "").any()
    if written.exists():
        reports = pd.read_csv(written, dtype=str, keep_default_na=False)
        assert reports["text"].tolist() == samples.table["report"].tolist()
        assert reports["words"].astype(int).sum() == samples.table["report"].str.split().map(len).sum()
    before = _content(tmp_path / "out")
    assert set(prepare(name, twin(name), tmp_path / "out").files.values()) == {"unchanged"}
    assert _content(tmp_path / "out") == before


def test_the_default_folder_does_not_disturb_the_data(damaged: Root) -> None:
    for name in ("padchest", "busi"):
        root = damaged(name)
        before = load(name, root)
        assert prepare(name, root).folder == root / "prepared"
        pd.testing.assert_frame_equal(load(name, root).table, before.table)


def _awkward(root: Path) -> None:
    """Reports with what a table could lose: words for nothing, quotes, commas, blank lines, no header, no end."""
    texts = sorted(root.rglob("s*.txt"))[:6]
    header = f"{' ' * 33}FINAL REPORT\n "
    bodies = [
        "FINDINGS:  The lungs are clear.\n \n IMPRESSION:  None",
        "FINDINGS:  NA\n \n IMPRESSION:  No acute process, the lungs are clear.",
        'FINDINGS:  A "linear" opacity, left; stable.\n \n IMPRESSION:\n \n 1. Small effusion.\n 2. No edema.',
        "COMPARISON:  nan\n \n There is no pneumothorax or effusion.",
        "IMPRESSION:  First reading of lungs.\n \n IMPRESSION:  Second reading of the lungs.",
        "FINDINGS:  Ends with a backslash and comma \\,\n",
    ]
    for path, body in zip(texts, bodies, strict=True):
        path.write_text(header + body, encoding="utf-8")


def test_mimic_reads_our_sectioned_table_as_the_text_files(damaged: Root, tmp_path: Path) -> None:
    root = damaged("mimic-cxr")
    _awkward(root)
    from_texts = load("mimic-cxr", root)
    assert any(report.startswith("none the lungs") for report in from_texts.table["report"])
    prepare("mimic-cxr", root, tmp_path / "out")
    for path in root.rglob("s*.txt"):
        path.unlink()
    assert not load("mimic-cxr", root).table["report"].any()
    shutil.copy(tmp_path / "out" / "mimic_cxr_sectioned.csv", root)
    pd.testing.assert_frame_equal(load("mimic-cxr", root).table, from_texts.table)
    again = prepare("mimic-cxr", root, tmp_path / "again")
    assert "mimic_cxr_sectioned.csv" not in again.files
    assert (tmp_path / "again" / "reports.csv").read_bytes() == (tmp_path / "out" / "reports.csv").read_bytes()


def test_the_sectioned_table_has_the_layout_of_mit_lcp(damaged: Root, tmp_path: Path) -> None:
    """A heading, lines that end as the csv module ends them, every text file in order, even without images."""
    root = damaged("mimic-cxr")
    _awkward(root)
    extra = root / "files" / "p19" / "p19999999" / "s59999999.txt"
    extra.parent.mkdir(parents=True, exist_ok=True)
    extra.write_text(" IMPRESSION:  x\n", encoding="utf-8")
    prepare("mimic-cxr", root, tmp_path / "out")
    raw = (tmp_path / "out" / "mimic_cxr_sectioned.csv").read_bytes()
    assert raw.startswith(b"study,impression,findings,last_paragraph,comparison\r\n")
    rows = list(csv.DictReader(raw.decode().splitlines(keepends=True)))
    assert [row["study"] for row in rows] == [path.stem for path in sorted(root.rglob("s*.txt"))]
    assert "s59999999" in {row["study"] for row in rows}
    first = next(row for row in rows if row["comparison"] == "nan")
    assert first["last_paragraph"] == "There is no pneumothorax or effusion." and first["impression"] == ""
    reports = pd.read_csv(tmp_path / "out" / "reports.csv", dtype=str, keep_default_na=False)
    assert list(reports) == ["image", "study", "language", *SECTIONS, "text", "words"]
    assert "None" in set(reports["impression"]) and "NA" in set(reports["findings"])


def test_the_record_says_what_was_made_of_what(twin: Root, tmp_path: Path) -> None:
    samples, done = load("kermany", twin("kermany")), prepare("kermany", twin("kermany"), tmp_path)
    record = json.loads((tmp_path / "prepared.json").read_text())
    assert record == done.record
    assert record["data"] == samples.fingerprint() and record["counts"]["images"] == len(samples)
    assert record["split"]["rule"]["valid"] == {"images": None, "fraction": 0.1} and record["split"]["seed"] == 0
    assert record["files"].keys() == {"master.csv", "splits.csv"}
    assert str(twin("kermany")) not in (tmp_path / "prepared.json").read_text()


def test_real_credentialed_data_stay_out_of_the_project(
    damaged: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "link").symlink_to(project)
    monkeypatch.setattr("nbcore.data.prepare.ROOT", project)
    root = damaged("mimic-cxr")
    prepare("mimic-cxr", root, project / "twin")
    (root / "PHANTOM.json").unlink()
    for place in (project / "results" / "x", tmp_path / "link" / "data"):
        with pytest.raises(UserError, match=r"mimic-cxr is credentialed: .*name a private one elsewhere with --to"):
            prepare("mimic-cxr", root, place)
        assert not place.exists()
    done = prepare("mimic-cxr", root, tmp_path / "private")
    assert "as private as the data" in done.to_text()


def test_files_of_others_are_never_replaced(twin: Root, tmp_path: Path) -> None:
    (tmp_path / "master.csv").write_text("mine")
    with pytest.raises(UserError, match=r"master.csv is there already and was not prepared here: name another folder"):
        prepare("kermany", twin("kermany"), tmp_path)
    assert _content(tmp_path) == {"master.csv": b"mine"}


def test_what_changed_is_written_anew_and_what_is_stale_goes(twin: Root, tmp_path: Path) -> None:
    prepare("covid-chestxray", twin("covid-chestxray"), tmp_path)
    good = _content(tmp_path)
    (tmp_path / "master.csv").write_text("edited")
    (tmp_path / "splits.csv").unlink()
    done = prepare("covid-chestxray", twin("covid-chestxray"), tmp_path)
    states = {"master.csv": "mended", "splits.csv": "new", "reports.csv": "unchanged", "prepared.json": "unchanged"}
    assert done.files == states and _content(tmp_path) == good
    done = prepare("kermany", twin("kermany"), tmp_path)
    assert done.files == dict.fromkeys(["master.csv", "splits.csv", "prepared.json"], "rewritten")
    assert _content(tmp_path).keys() == done.files.keys()


def test_a_failure_leaves_what_was_there(twin: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("kermany", twin("kermany"), tmp_path)
    before = _content(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nbcore.data.prepare._record", fail)
    with pytest.raises(UserError, match=r"cannot write to .*No space left on device; name another folder"):
        prepare("nih-chestxray14", twin("nih-chestxray14"), tmp_path)
    assert _content(tmp_path) == before


@pytest.mark.parametrize("damage", ["[]", "{", '{"files": {"a": 1}}'])
def test_a_damaged_record_is_named(damage: str, twin: Root, tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text(damage)
    with pytest.raises(UserError, match=r"prepared.json is damaged: remove it"):
        prepare("kermany", twin("kermany"), tmp_path)


def test_a_file_is_no_folder(twin: Root, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file; .*|cannot write to .*name another folder"):
        prepare("kermany", twin("kermany"), tmp_path / "file")


def test_nothing_is_called_verified_that_was_not_compared(twin: Root, tmp_path: Path) -> None:
    phantom = prepare("kermany", twin("kermany"), tmp_path / "twin").record["split"]["compared"]
    assert phantom == "phantom data, nothing to compare with"

    known = fixed_split(load_manifest("shenzhen-tb"))
    (tmp_path / "root" / "CXR_png").mkdir(parents=True)
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    for study in known:
        picture.save(tmp_path / "root" / "CXR_png" / f"{study}.png")

    def compared() -> str:
        return prepare("shenzhen-tb", tmp_path / "root", tmp_path / "out").record["split"]["compared"]

    assert compared() == "verified, the list of a complete copy"
    assert (tmp_path / "out" / "splits.csv").read_bytes() == (LISTS / "shenzhen-tb.csv").read_bytes()
    (tmp_path / "root" / "CXR_png" / "CHNCXR_0001_0.png").unlink()
    assert compared() == "verified, 661 of the 662 images of a complete copy, as in its list"
    picture.save(tmp_path / "root" / "CXR_png" / "CHNCXR_9001_0.png")
    assert compared().startswith("other than the list of a complete copy")


def test_a_rule_of_the_users_own_is_not_called_verified(tmp_path: Path) -> None:
    manifest = load_manifest("shenzhen-tb")
    other = manifest.model_copy(update={"split": manifest.split.model_copy(update={"seed": 1})})
    (tmp_path / "CXR_png").mkdir()
    for study in list(fixed_split(manifest))[300:360]:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "CXR_png" / f"{study}.png")
    for used, verdict in ((manifest, "verified, 60 of"), (other, "other than")):
        samples = load(used, tmp_path)
        assert compare_list(used, samples, canonical_list(samples.table)).startswith(verdict)


def test_a_set_whose_list_is_not_known_is_recorded(damaged: Root) -> None:
    root = damaged("montgomery-tb")
    (root / "PHANTOM.json").unlink()
    assert prepare("montgomery-tb", root).record["split"]["compared"].startswith("recorded, nothing to compare with")


def test_the_command(twin: Root, tmp_path: Path) -> None:
    arguments = ["data", "prepare", "mimic-cxr", "--root", str(twin("mimic-cxr")), "--to", str(tmp_path)]
    told = CliRunner().invoke(cli, arguments)
    assert told.exit_code == 0 and "mimic-cxr (credentialed, phantom): 100 images" in told.output
    assert told.output.count(" new\n") == 5
    assert CliRunner().invoke(cli, arguments).output.count(" unchanged\n") == 5

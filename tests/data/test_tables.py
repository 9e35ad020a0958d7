"""What every reader needs: which files count, where names are looked for, and tables with stray quotes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from nbcore.__main__ import cli
from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.tables import find_table, first_folder, is_file, list_files, locate, read_table, require_folder
from nbcore.errors import UserError

Twin = Callable[[str], Path]


def _write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_what_other_systems_leave_is_no_data(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/._1.png", "a/.thumbs/1.png", "a/__MACOSX/1.png", "a/lost+found/1.png", "a/b/.DS_Store"):
        _write(tmp_path / name)
    assert list_files(tmp_path, "a") == list_files(tmp_path, ".") == {"a/1.png"}


@pytest.mark.parametrize("name", ["busi", "kermany", "openi", "padchest"])
def test_apple_doubles_beside_all_files_change_nothing(name: str, damaged: Twin) -> None:
    root = damaged(name)
    before = load(name, root)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    after = load(name, root)
    assert after.table.equals(before.table) and after.missing == before.missing
    report = check(name, root)
    assert (report.verdict, report.unnamed.extra) == ("complete", 0)


def test_links_to_folders_are_followed_and_end(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    _write(root / "a/1.png")
    _write(other / "deep/2.png")
    (root / "a/far").symlink_to(other)
    (root / "a/up").symlink_to(root)
    (root / "a/self").symlink_to(root / "a")
    (other / "deep/back").symlink_to(other)
    (other / "top").symlink_to(root / "a")
    (root / "alias").symlink_to(root / "a/far/deep")
    (root / "a/nowhere").symlink_to(tmp_path / "nothing")
    found = {"a/1.png", "a/far/deep/2.png"}
    assert {file for file in list_files(root, "a") if file.endswith("png")} == found
    assert {file for file in list_files(root, "alias") if file.endswith("png")} == {"alias/2.png"}
    assert found <= list_files(root, ".")
    (tmp_path / "home").symlink_to(".")  # the folder that is asked for may be one
    assert "home/root/a/1.png" in list_files(tmp_path, "home")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("kermany", "chest_xray/train/NORMAL"), ("nih-chestxray14", "images_001/images"), ("mimic-cxr", "files/p10")],
)
def test_a_linked_folder_loses_no_image(name: str, folder: str, damaged: Twin, tmp_path: Path) -> None:
    root = damaged(name)
    before = load(name, root)
    (root / folder).rename(tmp_path / "elsewhere")
    (root / folder).symlink_to(tmp_path / "elsewhere")
    after = load(name, root)
    assert after.table.equals(before.table) and after.missing == before.missing


def test_a_name_in_two_places_is_one_file_or_an_error(tmp_path: Path) -> None:
    _write(tmp_path / "a/1.png", "one")
    _write(tmp_path / "b/1.png", "one")
    names = pd.Series(["1.png", "2.png"])
    assert locate(tmp_path, ["a", "b"], names).tolist() == ["a/1.png", "a/2.png"]
    _write(tmp_path / "b/3.png", "unnamed")
    _write(tmp_path / "a/3.png", "twice")
    assert locate(tmp_path, ["a", "b"], names).tolist() == ["a/1.png", "a/2.png"]
    for other in ("two", "longer"):
        _write(tmp_path / "b/1.png", other)
        with pytest.raises(UserError, match=r"two different files .* 1.png: a/1.png and b/1.png"):
            locate(tmp_path, ["a", "b"], names)


def test_only_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert is_file(_write(tmp_path / "file")) and not is_file(tmp_path / "none") and not is_file(tmp_path / "file/none")
    for name, told in (("folder", "is a folder"), ("pipe", "is a device"), ("link", "is a link to nothing")):
        with pytest.raises(UserError, match=told):
            is_file(tmp_path / name)
        with pytest.raises(UserError, match=told):
            find_table(tmp_path, [name], "it")
        assert find_table(tmp_path, [name, "file"], "it") == tmp_path / "file"
    with pytest.raises(UserError, match=r"cannot look at .*xxx\.\.\.: File name too long"):
        is_file(tmp_path / ("x" * 5000))
    with pytest.raises(UserError, match="File name too long"):
        list_files(tmp_path, "x" * 300)


def test_a_folder_that_cannot_be_entered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path | str, *args: object, **options: object) -> os.stat_result:
        if "closed" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *args, **options)

    stat = os.stat
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "stat", closed)
    for look in (
        lambda: require_folder(tmp_path / "closed", "it"),
        lambda: is_file(tmp_path / "closed/table.csv"),
        lambda: find_table(tmp_path, ["closed/table.csv"], "it"),
        lambda: first_folder(tmp_path, ["closed"], ["table.csv"], "it"),
        lambda: list_files(tmp_path, "closed/images"),
    ):
        with pytest.raises(UserError, match="Permission denied"):
            look()


def _table(rows: int, columns: int) -> list[list[str]]:
    return [[f"h{i}" for i in range(columns)], *([f"r{row}c{i}" for i in range(columns)] for row in range(rows))]


def _quoted(rows: list[list[str]], places: list[tuple[int, int]]) -> str:
    for row, column in places:
        rows[row][column] = '"' + rows[row][column]
    return "\n".join(map(",".join, rows)) + "\n"


@pytest.mark.parametrize("places", [[(2, 3), (6, 3)], [(2, 3), (3, 3)], [(2, 0)], [(6, 8)]])
@pytest.mark.parametrize("broken_lines", [False, True])
def test_a_stray_quote_hides_no_row(places: list[tuple[int, int]], broken_lines: bool, tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", _quoted(_table(8, 9), places))
    line = places[0][0] + 1
    with pytest.raises(UserError, match=rf"t.csv, line {line}: a cell in quotes ends in line \d+ only"):
        read_table(path, ["h0"], broken_lines=broken_lines)


def test_lines_may_break_within_quotes_where_the_table_s_do(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.csv", 'study,text\r\ns1,"a, b\r\nc, d"\r\ns2,"e, ""f"""\r\n\r\n')
    assert read_table(path, ["text"], broken_lines=True)["text"].tolist() == ["a, b\r\nc, d", 'e, "f"']
    with pytest.raises(UserError, match="line 2: a cell in quotes ends in line 3 only"):
        read_table(path, ["text"])
    assert read_table(_write(path, 'study,text\ns2,"e, ""f"""\n'), ["text"])["text"].tolist() == ['e, "f"']


def test_deep_json_is_told(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    next(root.glob("CheXlocalize/*.json")).write_text("[" * 100_000)
    with pytest.raises(UserError, match="it is nested too deep"):
        load("chexlocalize", root)


MARKERS = ['{"a": 1}', "[1]", '"x"', '{"images": null}', '{"images": "many"}', "[" * 100_000, ""]


@pytest.mark.parametrize("text", MARKERS, ids=range(len(MARKERS)))
def test_a_damaged_marker_is_told(text: str, damaged: Twin) -> None:
    root = damaged("busi")
    (root / "PHANTOM.json").write_text(text)
    report = check("busi", root, quick=True)
    assert report.problems == (f"{root / 'PHANTOM.json'} is damaged: write the twin again",)
    with pytest.raises(UserError, match="is damaged"):
        load("busi", root)


def test_a_name_that_is_no_unicode_has_a_fingerprint(damaged: Twin) -> None:
    root = damaged("busi")
    folder = os.fsencode(root / "Dataset_BUSI_with_GT" / "benign")
    os.rename(folder + b"/benign (1).png", folder + b"/benign (\xff).png")  # noqa: PTH104 - a path of bytes
    samples = load("busi", root)
    assert len(samples.fingerprint()) == 32


def test_a_tilde_in_quotes_is_the_home_folder(damaged: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = damaged("busi")
    monkeypatch.setenv("HOME", str(root.parent))
    outcome = CliRunner().invoke(cli, ["data", "check", "busi", "--root", f"~/{root.name}", "--quick"])
    assert outcome.exit_code == 0, outcome.output

"""Damages a copy of a data set at random, as downloads, spreadsheets and people do, and tells what may follow.

A damage is drawn by Hypothesis. What it `means` for the table that the reader returns, if it returns one:

 - "nothing": the same data written otherwise (row order, extra columns, line endings ...): the table must not change;
 - "local": a cell, a line or a picture is another one: at most the rows of one record may change;
 - "anything": the damage may be a legal change of much; only what holds of every table is asked for.

In all cases a UserError of one sentence is an answer too.
"""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage_bytes
from damage_bytes import Meaning, rewrite
from hypothesis import strategies as st
from PIL import Image

from nbcore.data.readers import MARKER

TEXTS = {".csv", ".txt", ".json", ".xml", ".xlsx"}
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".dcm"}
CELLS = [
    *(
        "",
        " ",
        "nan",
        "NaN",
        "None",
        "NULL",
        "True",
        "abc",
        "ñ",
        "\u200b",
        "\t",
        '"',
        "'",
        "\u0000",
        "\ud7ff",
        "x" * 5000,
    ),
    *("-1", "0", "1", "2", "-5", "0.5", "1e308", "inf", "-inf", "9" * 30, "1,000", "2017-01-01", "=1+1", "<b>", "{}"),
    *("..", "../../etc/passwd", "/etc/passwd", "a/b", "[1, 2", "['pneumonia'", "test", "train"),
    *("0 1 2", "5 99999999999", "-3 4", "1 2 3"),
]


def link_tree(source: Path, target: Path) -> Path:
    """A copy whose files are hard links: `rewrite` them, never write into them."""
    return Path(shutil.copytree(source, target, copy_function=lambda old, new: Path(new).hardlink_to(old)))


def files(root: Path, suffixes: set[str]) -> list[Path]:
    """The files of these kinds, in a fixed order, without the twin's marker."""
    found = (path for path in sorted(root.rglob("*")) if _suffix(path) in suffixes and path.is_file())
    return [path for path in found if path.name != MARKER]


def _suffix(path: Path) -> str:
    """What a file is of, also where it is compressed."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def damage(root: Path, draw: Callable[..., Any]) -> tuple[str, Meaning]:
    """Do one harm to the data set in `root`; returns what was done and what it may mean."""
    kinds = [_PICTURE]
    if texts := files(root, TEXTS):
        kinds += [_BYTES, _LINES]
        kinds += [_GRID] * 4 * any(_suffix(path) == ".csv" for path in texts)
        kinds += [_TREE] * 2 * any(_suffix(path) == ".json" for path in texts)
    kind = draw(st.sampled_from(kinds), label="kind")
    pool = files(root, _SUFFIXES[kind])
    path = draw(st.sampled_from(pool), label="file") if pool else root
    if kind == _PICTURE:
        pool = [*pool[:3], *pool[-3:], *pool[:: max(1, len(pool) // 8)]]
        path = draw(st.sampled_from(pool), label="file")
    name, act = draw(st.sampled_from(_ACTS[kind]), label="act")
    done = f"{name} of {path.relative_to(root)}"
    if path.suffix != ".gz":
        return done, act(path, draw)
    if kind == _BYTES and act not in _OF_TEXT and draw(st.booleans(), label="of the archive itself"):
        act(path, draw)
        return f"{done} as it is", "anything"
    return done, _unpacked(path, act, draw)


def _unpacked(path: Path, act: Callable[[Path, Callable], Meaning], draw: Callable) -> Meaning:
    """Do harm to what is compressed in a file."""
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    meaning = act(plain, draw)
    if plain.is_file():
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return meaning


_PICTURE, _BYTES, _LINES, _GRID, _TREE = "picture", "bytes", "lines", "grid", "tree"
_SUFFIXES = {_PICTURE: PICTURES, _BYTES: TEXTS, _LINES: {".csv", ".txt", ".xml"}, _GRID: {".csv"}, _TREE: {".json"}}

# --- text, by line


def _blank_lines_added(path: Path, draw: Callable) -> Meaning:
    rewrite(path, path.read_text("utf-8").rstrip("\n") + "\n\n\n")
    return "nothing"


def _line_removed(path: Path, draw: Callable) -> Meaning:
    return _change_lines(path, draw, lambda lines, i: lines.pop(i), "anything")


def _line_doubled(path: Path, draw: Callable) -> Meaning:
    return _change_lines(path, draw, lambda lines, i: lines.insert(i, lines[i]), "anything")


def _line_cut(path: Path, draw: Callable) -> Meaning:
    def cut(lines: list[str], i: int) -> None:
        lines[i] = lines[i][: len(lines[i]) // 2]

    return _change_lines(path, draw, cut, "anything")


def _line_replaced(path: Path, draw: Callable) -> Meaning:
    value = draw(st.sampled_from(CELLS), label="value")
    return _change_lines(path, draw, lambda lines, i: lines.__setitem__(i, value), "anything")


def _change_lines(path: Path, draw: Callable, change: Callable[[list[str], int], Any], meaning: Meaning) -> Meaning:
    lines = path.read_text("utf-8").splitlines()
    if lines:
        change(lines, draw(st.integers(0, len(lines) - 1), label="line"))
    rewrite(path, "\n".join(lines) + "\n")
    return meaning


# --- tables


def _read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))


def _write(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    rewrite(path, text.getvalue())


def _column_removed(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    place = draw(st.integers(0, len(rows[0]) - 1), label="column")
    _write(path, [row[:place] + row[place + 1 :] for row in rows])
    return "anything" if len(rows[0]) == 1 else "nothing"  # a column that may lack says nothing, or its want is told


def _column_added(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    value = draw(st.sampled_from(CELLS), label="value")
    headings = ["Unnamed: 0", "notes"]
    heading = draw(st.sampled_from(headings), label="heading")
    first = draw(st.booleans(), label="in front")
    added = [heading] + [value] * (len(rows) - 1)
    _write(path, [[cell, *row] if first else [*row, cell] for cell, row in zip(added, rows)])
    return "anything" if len(rows[0]) == 1 and first else "nothing"


def _columns_moved(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    order = draw(st.permutations(range(len(rows[0]))), label="order")
    _write(path, [[row[i] if i < len(row) else "" for i in order] for row in rows])
    return "nothing"


def _heading_changed(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    place = draw(st.integers(0, len(rows[0]) - 1), label="column")
    heading = rows[0][place]
    rows[0][place] = draw(
        st.sampled_from([heading + "s", heading.upper(), f" {heading} ", "", "x", heading[1:]]), label="heading"
    )
    _write(path, rows)
    return "anything" if len(rows[0]) == 1 else "nothing"


def _cell_changed(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    if len(rows) < 2 or not rows[0]:
        return "nothing"
    row = draw(st.integers(1, len(rows) - 1), label="row")
    place = draw(st.integers(0, len(rows[row]) - 1), label="column")
    rows[row][place] = draw(st.sampled_from(CELLS), label="value")
    _write(path, rows)
    return "local"


def _column_changed(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    place = draw(st.integers(0, len(rows[0]) - 1), label="column")
    value = draw(st.sampled_from(CELLS), label="value")
    _write(path, [rows[0]] + [[*row[:place], value, *row[place + 1 :]] for row in rows[1:]])
    return "anything"


def _row_removed(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    if len(rows) > 1:
        rows.pop(draw(st.integers(1, len(rows) - 1), label="row"))
    _write(path, rows)
    return "local"


def _row_doubled(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    if len(rows) > 1:
        rows.append(rows[draw(st.integers(1, len(rows) - 1), label="row")])
    _write(path, rows)
    return "local"


def _row_contradicted(path: Path, draw: Callable) -> Meaning:
    """A row twice, with another value in one of its cells."""
    rows = _read(path)
    if len(rows) > 1:
        row = rows[draw(st.integers(1, len(rows) - 1), label="row")]
        place = draw(st.integers(0, len(row) - 1), label="column")
        rows.append([*row[:place], draw(st.sampled_from(CELLS), label="value"), *row[place + 1 :]])
    _write(path, rows)
    return "local"


def _row_of_other_length(path: Path, draw: Callable) -> Meaning:
    rows = _read(path)
    if len(rows) > 1:
        row = draw(st.integers(1, len(rows) - 1), label="row")
        rows[row] = draw(st.sampled_from([rows[row][:-1], [*rows[row], "1"], rows[row][1:], [*rows[row], "", ""]]))
    _write(path, rows)
    return "local"


def _semicolons(path: Path, draw: Callable) -> Meaning:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=draw(st.sampled_from(";\t|")), lineterminator="\n").writerows(_read(path))
    rewrite(path, text.getvalue())
    return "anything" if len(_read(path)[0]) == 1 else "nothing"


# --- JSON


def _node_changed(path: Path, draw: Callable) -> Meaning:
    tree = json.loads(path.read_text("utf-8"))
    node, parent, key = tree, None, None
    for _ in range(draw(st.integers(1, 4), label="depth")):
        if isinstance(node, dict) and node:
            parent, key = node, draw(st.sampled_from(sorted(node)), label="key")
        elif isinstance(node, list) and node:
            parent, key = node, draw(st.integers(0, len(node) - 1), label="item")
        else:
            break
        node = parent[key]
    values = [None, -1, 1e9, "", "x", [], {}, True, [[1, 2], 3], {"a": 1}]
    if parent is not None:
        parent[key] = draw(st.sampled_from(values), label="value")
    rewrite(path, json.dumps(tree))
    return "anything"


# --- pictures


def _picture_truncated(path: Path, draw: Callable) -> Meaning:
    content = path.read_bytes()
    rewrite(path, content[: draw(st.integers(0, len(content) - 1), label="length")])
    return "nothing"


def _picture_renamed(path: Path, draw: Callable) -> Meaning:
    suffixes = [
        "copy" + path.suffix,
        path.stem + path.suffix.upper(),
        path.stem,
        path.stem + ".bak",
        path.stem + "_1" + path.suffix,
    ]
    name = draw(st.sampled_from(suffixes), label="name")
    if not (path.parent / name).exists():
        path.rename(path.parent / name)
    return "anything"


def _picture_of_other_size(path: Path, draw: Callable) -> Meaning:
    if path.suffix == ".dcm":
        return _picture_truncated(path, draw)
    size = draw(st.sampled_from([(1, 1), (7, 50), (50, 7)]), label="size")
    buffer = io.BytesIO()
    Image.new("L", size, 77).save(
        buffer, "PNG" if path.suffix == ".png" else "TIFF" if path.suffix == ".tif" else "JPEG"
    )
    rewrite(path, buffer.getvalue())
    return "anything"


def _picture_elsewhere(path: Path, draw: Callable) -> Meaning:
    """A second copy, in the folder of another picture."""
    others = sorted({other.parent for other in path.parent.parent.rglob("*" + path.suffix)})
    folder = draw(st.sampled_from(others), label="folder")
    if not (folder / path.name).exists():
        shutil.copy(path, folder)
    return "anything"


def _picture_is_text(path: Path, draw: Callable) -> Meaning:
    rewrite(path, draw(st.sampled_from([b"", b"404: Not Found", b"\x00" * 300]), label="content"))
    return "nothing"


_OF_TEXT = {damage_bytes.recoded, damage_bytes.compressed}
_ACTS: dict[str, list[tuple[str, Callable[[Path, Callable], Meaning]]]] = {
    _BYTES: [
        ("emptying", damage_bytes.emptied),
        ("truncation", damage_bytes.truncated),
        ("loss", damage_bytes.removed),
        ("a folder in the place", damage_bytes.a_folder),
        ("compression", damage_bytes.compressed),
        ("another encoding", damage_bytes.recoded),
        ("Windows line ends", damage_bytes.windows),
        ("odd bytes", damage_bytes.odd_bytes),
        ("another content", damage_bytes.other_content),
    ],
    _LINES: [
        ("blank lines at the end", _blank_lines_added),
        ("a lost line", _line_removed),
        ("a double line", _line_doubled),
        ("half a line", _line_cut),
        ("another line", _line_replaced),
    ],
    _GRID: [
        *[("another cell", _cell_changed)] * 4,
        ("a missing column", _column_removed),
        ("an extra column", _column_added),
        ("another column order", _columns_moved),
        ("another heading", _heading_changed),
        ("another column", _column_changed),
        ("a lost row", _row_removed),
        ("a double row", _row_doubled),
        ("a contradicted row", _row_contradicted),
        ("a row of another length", _row_of_other_length),
        ("another delimiter", _semicolons),
    ],
    _TREE: [("another node", _node_changed)],
    _PICTURE: [
        ("truncation", _picture_truncated),
        ("another name", _picture_renamed),
        ("another size", _picture_of_other_size),
        ("a copy elsewhere", _picture_elsewhere),
        ("another content", _picture_is_text),
        ("loss", damage_bytes.removed),
    ],
}

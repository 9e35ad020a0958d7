"""What every reader needs: folders, listings and CSV tables, with errors a user can act on."""

import csv
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from nbcore.errors import UserError
from nbcore.validation import nearest


def require_folder(root: Path, name: str) -> None:
    """Raise UserError unless `root` is a folder that can be listed."""
    try:
        next(os.scandir(root), None)
    except OSError as error:
        raise UserError(f"cannot read the root of {name}, {root}: {error.strerror or error}") from error


def first_folder(root: Path, names: Sequence[str], inside: Iterable[str], data_set: str) -> str:
    """The first of the folders `names` (under `root`) that holds one of `inside`, as a path prefix ("" or "name/")."""
    inside = list(inside)
    for name in names:
        if any((root / name / mark).exists() for mark in inside):
            return "" if name == "." else f"{name}/"
    places = " or ".join(dict.fromkeys((Path(name) / inside[0]).as_posix() for name in names))
    raise UserError(f"no {data_set} data under {root}: expected {places} in it; is this the right root?")


def find_table(root: Path, names: Sequence[str], data_set: str) -> Path:
    """The first of these files, plain or .gz, that exists."""
    for name in names:
        for path in (root / name, root / f"{name}.gz"):
            if path.is_file():
                return path
    raise UserError(f"no {data_set} data under {root}: {' or '.join(names)} is missing; is this the right root?")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever can go wrong in reading a text file or CSV into a UserError that names it."""
    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty: fetch it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (row {_undecodable(path)}): save it as UTF-8") from error
    except (pd.errors.ParserError, ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def read_text(path: Path) -> str:
    """The text of a file, plain or .gz; UserError, naming it, if it cannot be read."""
    with readable(path), gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return file.read().decode("utf-8-sig")


def _undecodable(path: Path) -> int:
    """The first line of a file, plain or .gz, that is not UTF-8, as an editor counts them."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{path} is UTF-8")


def read_table(
    path: Path, columns: Sequence[str], text: Sequence[str] = (), *, verbatim: bool = False, may_be_empty: bool = False
) -> pd.DataFrame:
    """These columns of a CSV; those in `text` as strings with "" for nothing.

    Nothing is an empty cell or a word such as NA or None; `verbatim`, where every column is text, only the former.

    Raises UserError, naming the file, for an unreadable one or one without rows (unless it `may_be_empty`), the
    nearest column for a missing one, and the line that is too short to have all of these columns, or longer than the
    heading.
    """
    with readable(path):
        found = _check_widths(path, columns)
        for column in columns:
            if column not in found:
                raise UserError(f"{path} has no column {column!r}{nearest(column, found)}")
        strings = dict.fromkeys(text, str)
        table = pd.read_csv(
            path,
            usecols=list(columns),
            dtype=strings,
            encoding="utf-8-sig",
            index_col=False,  # or commas behind the first row would shift every column
            low_memory=False,
            keep_default_na=not verbatim,
        )
    if table.empty and not may_be_empty:
        raise UserError(f"{path} has a heading but no rows: fetch it again")
    return table.fillna(dict.fromkeys(text, ""))


def _check_widths(path: Path, columns: Sequence[str]) -> list[str]:
    """The heading of a CSV; each line below has the cells of `columns`, and none beyond the heading."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        if not (heading := next(lines, [])):
            raise pd.errors.EmptyDataError
        if twice := [column for column in columns if heading.count(column) > 1]:
            raise UserError(f"{path} has two columns {twice[0]!r}: fetch it again")
        fewest = 1 + max((heading.index(column) for column in columns if column in heading), default=-1)
        try:
            for cells in lines:
                if (len(cells) < fewest and any(cells)) or any(cells[len(heading) :]):
                    raise UserError(
                        f"{path}, line {lines.line_num} has {len(cells)} cells under a heading of {len(heading)}: "
                        f"fetch it again"
                    )
        except csv.Error as error:
            raise UserError(f"{path}, line {lines.line_num} cannot be read ({error}): fetch it again") from error
    return heading


def unique_rows(table: pd.DataFrame, key: Sequence[str], place: Path | str) -> pd.DataFrame:
    """The table with what is told twice once; UserError where two rows of one key tell different things."""
    twice = table.duplicated(list(key), keep=False)
    if not twice.any():
        return table
    told = table[twice].astype(str)
    if (odd := told.drop_duplicates().duplicated(list(key))).any():
        row = told.drop_duplicates()[odd].iloc[0]
        raise UserError(
            f"{place} has two different rows of {' '.join(row[name] for name in key)}: remove the wrong one, or fetch "
            f"the table again"
        )
    return table[~table.duplicated(list(key))].reset_index(drop=True)


def label_columns(table: pd.DataFrame, classes: Sequence[str], path: Path) -> dict[str, pd.Series]:
    """{"label:<class>": (n,)} of the columns named as the classes; UserError for a value that is no number."""
    return {f"label:{name}": number_column(table, name, path) for name in classes}


def number_column(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """A column as numbers, NaN for nothing; UserError for a value that is no number."""
    values = pd.to_numeric(table[name], errors="coerce")
    if (bad := values.isna() & table[name].notna()).any():
        raise UserError(f"{path}: column {name!r} holds {table.loc[bad, name].iloc[0]!r}, which is no number")
    return values


def locate(root: Path, folders: Sequence[str], images: pd.Series) -> pd.Series:
    """The path under `root` of each file name, wherever below these folders it lies.

    Where it lies in none: the path it would have directly in the first of them.
    """
    files = [file for folder in folders for file in sorted(list_files(root, folder))]
    places = pd.Series(files, index=[file.rpartition("/")[2] for file in files], dtype=str)
    found = images.map(places[~places.index.duplicated()])
    return found.where(found.notna(), folders[0] + "/" + images)


def list_files(root: Path, folder: str) -> set[str]:
    """Every file below root/folder, as POSIX paths under `root`; UserError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    if (root / folder).is_file():
        return {folder}
    files: set[str] = set()
    for place, _, names in os.walk(root / folder, onerror=refuse):
        prefix = Path(place).relative_to(root).as_posix()
        files.update(names if prefix == "." else (f"{prefix}/{name}" for name in names))
    return files


def tidy(rows: int, **columns: object) -> pd.DataFrame:
    """A frame of the columns of Samples: those given, and "nothing known" for the others."""
    defaults = {"split": "train", "view": "", "report": "", "language": "", "mask": ""}
    frame = pd.DataFrame({**defaults, **columns}, index=pd.RangeIndex(rows))
    if "boxes" not in columns:
        frame["boxes"] = [[] for _ in range(rows)]
    return frame

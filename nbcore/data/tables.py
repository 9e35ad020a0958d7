"""What every reader needs: folders, listings and CSV tables, with errors a user can act on."""

import csv
import gzip
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from nbcore.errors import UserError
from nbcore.files import file_fingerprint
from nbcore.validation import nearest

_MANY = 8  # columns; a line with as many cells is none of a text
# what systems put beside the data, unreadable some of it
_NO_DATA = {"__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"}


def require_folder(root: Path, name: str) -> None:
    """Raise UserError unless `root` is a folder that can be listed and entered."""
    try:
        next(os.scandir(root), None)
        os.stat(f"{root}/.")  # noqa: PTH116 - a Path forgets the dot
    except OSError as error:
        raise UserError(f"cannot read the root of {name}, {root}: {error.strerror or error}") from error


def first_folder(root: Path, names: Sequence[str], inside: Iterable[str], data_set: str) -> str:
    """The first of the folders `names` (under `root`) that holds one of `inside`, as a path prefix ("" or "name/")."""
    inside = list(inside)
    for name in names:
        if any(_mode(root / name / mark) is not None for mark in inside):
            return "" if name == "." else f"{name}/"
    places = " or ".join(dict.fromkeys((Path(name) / inside[0]).as_posix() for name in names))
    raise UserError(f"no {data_set} data under {root}: expected {places} in it; is this the right root?")


def is_file(path: Path) -> bool:
    """Whether a file that may lack is there; UserError for anything else in its place, or what cannot be looked at."""
    mode = _mode(path)
    if mode is None and os.path.lexists(path):
        raise UserError(f"{path} is a link to nothing: mend or remove it")
    if mode is not None and not stat.S_ISREG(mode):
        raise UserError(f"{path} is a {'folder' if stat.S_ISDIR(mode) else 'device'}, not a file: move it away")
    return mode is not None


def _mode(path: Path) -> int | None:
    """What is there, as os.stat tells; None for nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a name with a null byte is no name
        return None
    except OSError as error:
        shown = str(path) if len(str(path)) < 300 else f"{str(path)[:200]}..."
        raise UserError(f"cannot look at {shown}: {error.strerror or error}") from error


def find_table(root: Path, names: Sequence[str], data_set: str) -> Path:
    """The first of these files, plain or .gz, that exists."""
    paths = [root / f"{name}{end}" for name in names for end in ("", ".gz")]
    for path in paths:
        if stat.S_ISREG(_mode(path) or 0):
            return path
    for path in paths:
        is_file(path)  # tells what else is in its place
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
    except RecursionError as error:
        raise UserError(f"cannot read {path}: it is nested too deep: fetch it again") from error
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
    path: Path,
    columns: Sequence[str],
    text: Sequence[str] = (),
    *,
    verbatim: bool = False,
    may_be_empty: bool = False,
    broken_lines: bool = False,
) -> pd.DataFrame:
    """These columns of a CSV; those in `text` as strings with "" for nothing.

    Nothing is an empty cell or a word such as NA or None; `verbatim`, where every column is text, only the former.
    `broken_lines`: a cell of this table may be of several lines, so a stray quote cannot always be told.

    Raises UserError, naming the file, for an unreadable one or one without rows (unless it `may_be_empty`), the
    nearest column for a missing one, and the line that is too short to have all of these columns, longer than the
    heading, or swallowed by a quote in a line before.
    """
    with readable(path):
        found = _check_widths(path, columns, broken_lines)
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


def _check_widths(path: Path, columns: Sequence[str], broken_lines: bool) -> list[str]:
    """The heading of a CSV; each line below has the cells of `columns`, none beyond the heading, and no other line."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        if not (heading := next(lines, [])):
            raise pd.errors.EmptyDataError
        if twice := [column for column in columns if heading.count(column) > 1]:
            raise UserError(f"{path} has two columns {twice[0]!r}: fetch it again")
        fewest = 1 + max((heading.index(column) for column in columns if column in heading), default=-1)
        line = lines.line_num  # the last of the row before
        try:
            for cells in lines:
                line, first = lines.line_num, line + 1
                if line > first and (not broken_lines or _swallows(cells, len(heading))):
                    raise UserError(
                        f"{path}, line {first}: a cell in quotes ends in line {line} only, and hides the rows between: "
                        f"remove the stray quote, or fetch it again"
                    )
                if (len(cells) < fewest and any(cells)) or any(cells[len(heading) :]):
                    raise UserError(
                        f"{path}, line {lines.line_num} has {len(cells)} cells under a heading of {len(heading)}: "
                        f"fetch it again"
                    )
        except csv.Error as error:
            raise UserError(f"{path}, line {lines.line_num} cannot be read ({error}): fetch it again") from error
    return heading


def _swallows(cells: list[str], width: int) -> bool:
    """Whether a cell holds rows of the table itself, or the end of one and the beginning of the next."""
    commas = ([line.count(",") for line in cell.splitlines()] for cell in cells)
    fullest = (max([found[0] + found[-1], *found[1:-1]]) for found in commas if len(found) > 1)
    return width >= _MANY and max(fullest, default=0) >= width - 1


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

    Where it lies in none: the path it would have directly in the first of them. UserError where it lies in several and
    the contents differ.
    """
    files = list(dict.fromkeys(file for folder in folders for file in sorted(list_files(root, folder))))
    places = pd.Series(files, index=[file.rpartition("/")[2] for file in files], dtype=str)
    others = places[places.index.duplicated()]
    places = places[~places.index.duplicated()]
    for name, other in others[others.index.isin(images)].items():
        if not _same_content(root / places[name], root / other):
            raise UserError(
                f"two different files under {root} are called {name}: {places[name]} and {other}; move the wrong one "
                f"out of there"
            )
    found = images.map(places)
    return found.where(found.notna(), folders[0] + "/" + images)


def _same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same; what cannot be read is told where it is looked at."""
    try:
        sizes = one.stat(), other.stat()
        if sizes[0].st_size != sizes[1].st_size or os.path.samestat(*sizes):
            return os.path.samestat(*sizes)
        return not stat.S_ISREG(sizes[0].st_mode) or file_fingerprint(one) == file_fingerprint(other)
    except OSError:
        return True


def list_files(root: Path, folder: str) -> set[str]:
    """Every file below root/folder, as POSIX paths under `root`; UserError for a folder that cannot be read.

    Links to folders are followed, each once and none upwards. Left out are names that begin with a dot, as those that
    other systems put beside each file, and folders that never hold data.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    top = root / folder
    mode = _mode(top)
    if mode is None or not stat.S_ISDIR(mode):
        return {folder} if stat.S_ISREG(mode or 0) else set()
    files: set[str] = set()
    starts, followed = deque([top]), set()
    while starts:
        for place, folders, names in os.walk(starts.popleft(), onerror=refuse):
            folders[:] = [name for name in folders if name[0] != "." and name not in _NO_DATA]
            starts.extend(_links(place, folders, followed))
            prefix = Path(place).relative_to(root).as_posix()
            kept = [name for name in names if name[0] != "."]
            files.update(kept if prefix == "." else (f"{prefix}/{name}" for name in kept))
    return files


def _links(place: str, folders: Iterable[str], followed: set[tuple[int, int]]) -> list[Path]:
    """Those of the folders that are links, not yet followed, and do not lead up."""
    found = [path for name in sorted(folders) if (path := Path(place, name)).is_symlink()]
    if not found:
        return []
    heres = Path(place).absolute(), Path(place).resolve()
    above = {_identity(path.stat()) for here in heres for path in (here, *here.parents)}
    taken = []
    for path in found:
        own = _identity(path.lstat())
        if own not in followed and _identity(path.stat()) not in above:
            followed.add(own)
            taken.append(path)
    return taken


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def tidy(rows: int, **columns: object) -> pd.DataFrame:
    """A frame of the columns of Samples: those given, and "nothing known" for the others."""
    defaults = {"split": "train", "view": "", "report": "", "language": "", "mask": ""}
    frame = pd.DataFrame({**defaults, **columns}, index=pd.RangeIndex(rows))
    if "boxes" not in columns:
        frame["boxes"] = [[] for _ in range(rows)]
    return frame

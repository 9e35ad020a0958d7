"""What private data sets say, as hashes of words, and the ways in which a text may say it (see nbcore.leaks).

Known are all that a root tells of its patients, whether or not `load` keeps the row: the cleaned reports, the raw text
files with every section, the table of sectioned reports, the ids and image names of the tables and of the folders. They
are read a patient at a time, and only hashes are kept: on disk, too, beside the data, until a file there has changed.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from nbcore.data import Samples, load_manifest
from nbcore.data.layouts import MimicCxrLayout
from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_path, digest

SENTENCE, PATIENT, STUDY, IMAGE_NAME = (
    "a sentence of a report",
    "the id of a patient",
    "the id of a study",
    "the name of an image",
)
_WORDS, _SHORT = 5, 4  # words in a row that are looked for, and words of a shorter sentence that is
_COMMON = 100  # patients
_NUMBER, _NAME = 7, 6  # characters of an id
_OWNERS = ("patient", "subject", "study")  # words before a shorter id
_RECIPE = 1  # of the hashes that are kept: raise it when the same data would give others
_BUFFER = 1 << 22  # hashes that are gathered before they are counted
_MASK = (1 << 64) - 1

_FACTOR = 0x9E3779B97F4A7C15  # odd: no two words of a sequence can change places
_NO_WORD = re.compile(r"[\W_]+")
_OWN_NUMBER = re.compile(r"\s*[spSP]?([0-9]+)(?:\.0*|\.txt)?\s*")
_NUMERAL = re.compile(r"\d+(?:e\d*)?")
_PART_END = re.compile(r"[.!?](?=\s|$)|\n\s*\n|^ ?[A-Z ()/,-]+:", re.MULTILINE)  # of a sentence of a raw report
_WHOLE = re.compile(r"(\d)\.0+(?!\w|\.\d)")  # an id that pandas has made a float
_DECIMAL = re.compile(  # also after one letter, as in the paths of an SVG
    r"(?:(?<![\w.])\d*|(?<![\d._])(?<![^\W\d_]{2})\d+)\.\d+(?:e[+-]?\d+)?(?!\w|\.\d)"
)
_LETTER = re.compile(r"(?<![^\W_])[a-z](?=\d{5})")  # p10000032, s50414267
_OWNER = re.compile(rf"(?<![^\W_])({'|'.join(_OWNERS)})s?(?=\d)")
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?:([,'’_.\u00a0\u2009\u202f])\d{3})(?:\1\d{3})+(?!\w|[.,'’]\d)")
_POWER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?e\+?\d{1,2}(?![\w.])")
# digits in a word of letters, digits and letters; none of the names that Matplotlib gives to the parts of an SVG
_INSIDE = re.compile(rf"(?<![^\W_])(?![mp][0-9a-f]{{10}}(?![^\W_]))[a-z]*0*(\d{{{_NUMBER},}})[a-z]*(?![^\W_])")


class _Key(NamedTuple):
    """What hashes are of: the kind, how a text is read for them, and how many words they span."""

    kind: str
    reading: str  # "sentences", "names" or "numbers"
    length: int


class Words:
    """The hashes of private data sets."""

    def __init__(self, sets: Sequence[Samples], cache_directory: Path):
        self._known = [own for samples in sets for own in _hashes(samples, cache_directory).items()]

    def find(self, texts: Iterable[tuple[str, str]]) -> str | None:
        """The kind of belonging that is in one of the readings: (as it stands, with its lines' ends joined)."""
        for told, joined in texts:
            words = _words(told)
            without = _without_numerals(words if told == joined else _words(joined))
            named, numbers = _words(_for_names(told)), _numbers(told)
            readings = {"sentences": (words, without), "names": (named,), "numbers": (numbers,)}
            codes = {name: [_codes(own) for own in ways] for name, ways in readings.items()}
            for key, hashes in self._known:
                if any(_any_in(_sequences(own, key.length), hashes) for own in codes[key.reading]):
                    return key.kind
        return None


# --- the private data as hashes


def _hashes(samples: Samples, directory: Path) -> dict[_Key, np.ndarray]:
    """All hashes of a data set, sorted; read from `directory` where they are kept."""
    layout = _layout(samples)
    tops = dict.fromkeys([layout.images, *layout.reports]) if layout else ()
    listings = {top: list(_listing(samples.root / top)) for top in tops}
    if not layout:
        return _collected(samples, None, listings)
    path = directory.parent / "words" / f"{digest([_RECIPE, _state(samples, layout, listings)])}.npz"
    if not path.is_file():
        found = _collected(samples, layout, listings)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{"|".join(map(str, key)): hashes for key, hashes in found.items()})
    with np.load(path) as kept:
        return {_Key(kind, how, int(n)): kept[name] for name in kept for kind, how, n in [name.split("|")]}


def _layout(samples: Samples) -> MimicCxrLayout | None:
    """How the root of a data set is laid out, if it has raw reports and tables that are looked through."""
    if samples.root is None:
        return None
    try:
        layout = load_manifest(samples.name.partition("/")[0]).layout
    except (UsageError, UserError):
        return None
    return layout if isinstance(layout, MimicCxrLayout) else None


class _Found(NamedTuple):
    """A file or folder below the top of the images or reports."""

    path: str  # below the top, POSIX
    is_folder: bool
    state: tuple[int, int]  # size and time of a text; nothing of anything else


def _listing(top: Path, inside: str = "") -> Iterator[_Found]:
    """All below a folder, sorted, so that what is of one patient follows each other."""
    try:
        with os.scandir(top / inside) as entries:
            own = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in own:
        path, folder = f"{inside}{entry.name}", entry.is_dir()
        text = not folder and entry.name.endswith(".txt")
        yield _Found(path, folder, (entry.stat().st_size, entry.stat().st_mtime_ns) if text else (0, 0))
        if folder:
            yield from _listing(top, f"{path}/")


def _tables(root: Path, layout: MimicCxrLayout) -> list[Path]:
    names = (layout.metadata, layout.split, layout.labels, layout.sectioned)
    return [path for name in names for end in ("", ".gz") if (path := root / f"{name}{end}").is_file()]


def _state(samples: Samples, layout: MimicCxrLayout, listings: dict[str, list[_Found]]) -> str:
    """A hash of all that the hashes are made of, without reading the reports."""
    told = hashlib.blake2b(
        pd.util.hash_pandas_object(samples.table[["patient", "study", "image", "report"]]).to_numpy()
    )
    for path in _tables(samples.root, layout):
        told.update(repr((path.name, path.stat().st_size, path.stat().st_mtime_ns)).encode())
    for top, listing in listings.items():
        told.update(top.encode())
        for found in listing:
            told.update(repr(found).encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def _collected(
    samples: Samples, layout: MimicCxrLayout | None, listings: dict[str, list[_Found]]
) -> dict[_Key, np.ndarray]:
    cleaned = samples.table[["patient", "report"]].drop_duplicates()
    cleaned = cleaned[cleaned["report"] != ""].astype(str)
    sources = [((patient, own["report"], "\n") for patient, own in cleaned.groupby("patient", sort=False))]
    if layout:
        sources += [_raw_reports(samples.root / top, listings[top]) for top in listings]
        sources += [_sectioned(path, samples, layout) for path in _tables(samples.root, layout)]
    return {**_sentences(sources), **_names(samples, layout, listings)}


def _sentences(sources: Iterable[Iterable[tuple[str, Iterable[str], str]]]) -> dict[_Key, np.ndarray]:
    """What few patients' reports say; each source tells (patient, reports, end of a sentence), a patient at once."""
    counted: dict[int, list[_Counts]] = {_WORDS: [], _SHORT: []}
    for source in sources:
        long, short = _Counts(), _Counts()
        for _, texts, end in source:
            every, few = [], []
            for text in texts:
                words = _words(text)
                every += [_sequences(_codes(own), _WORDS) for own in (words, _without_numerals(words))]
                parts = text.split("\n") if end == "\n" else _PART_END.split(text)
                few += [_sequence(own) for part in parts if len(own := _words(part)) == _SHORT]
            long.add(np.concatenate([*every, np.empty(0, np.uint64)]))
            short.add(np.array(few, np.uint64))
        counted[_WORDS].append(long)
        counted[_SHORT].append(short)
    return {_Key(SENTENCE, "sentences", length): _of_few(own) for length, own in counted.items()}


class _Counts:
    """How many patients have each hash; memory is bounded by the number of different hashes."""

    def __init__(self) -> None:
        self._hashes, self._counts = np.empty(0, np.uint64), np.empty(0, np.int32)
        self._new: list[np.ndarray] = []
        self._waiting = 0

    def add(self, of_one: np.ndarray) -> None:
        """The hashes of one patient, who may not come again."""
        self._new.append(np.unique(of_one))
        self._waiting += len(self._new[-1])
        if self._waiting > max(_BUFFER, len(self._hashes) // 2):
            self._merge()

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """(hashes, counts)"""
        self._merge()
        return self._hashes, self._counts

    def _merge(self) -> None:
        hashes = np.concatenate([self._hashes, *self._new])
        counts = np.concatenate([self._counts, np.ones(self._waiting, np.int32)])
        self._hashes, self._counts = _reduced(np.add, hashes, counts)
        self._new, self._waiting = [], 0


def _reduced(how: np.ufunc, hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each hash once, sorted, and its counts taken together."""
    if not len(hashes):
        return hashes, counts
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    first = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    return hashes[first], how.reduceat(counts[order], first)


def _of_few(counted: Sequence[_Counts]) -> np.ndarray:
    """The hashes that no source has of `_COMMON` patients, sorted."""
    every = [own.all() for own in counted]
    hashes, counts = _reduced(np.maximum, *(np.concatenate(part) for part in zip(*every)))
    return hashes[counts < _COMMON]


def _raw_reports(top: Path, listing: Sequence[_Found]) -> Iterator[tuple[str, list[str], str]]:
    """(patient's folder, the texts below it, "") of every text file below the top."""
    home, texts = "", []
    for found in listing:
        if found.is_folder or not found.path.endswith(".txt"):
            continue
        own = "/".join(found.path.split("/")[:-1][:2])
        if own != home and texts:
            yield home, texts, ""
            texts = []
        home = own
        texts.append((top / found.path).read_text("utf-8-sig", errors="replace"))
    if texts:
        yield home, texts, ""


def _sectioned(path: Path, samples: Samples, layout: MimicCxrLayout) -> Iterator[tuple[str, list[str], str]]:
    """(patient, the sections of all studies, "") of a table of sectioned reports; nothing of another table."""
    if not path.name.startswith(layout.sectioned):
        return
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    if "study" not in table:
        return
    of_study: dict[str, str] = {}
    for other in _tables(samples.root, layout):
        for _, study, patient in _rows(other, layout):
            if study and patient:
                of_study.setdefault(study, patient)
    studies = table["study"].map(_number)
    sections = table.columns.drop("study")
    for patient, own in table.groupby(studies.map(of_study).fillna(studies), sort=False):
        yield patient, own[sections].to_numpy().ravel().tolist(), ""


def _rows(path: Path, layout: MimicCxrLayout) -> Iterator[tuple[str, str, str]]:
    """(image, study, patient) of the rows of a table; "" where it has no such column."""
    names = {layout.columns.image: "image", layout.columns.study: "study", layout.columns.patient: "patient"}
    wanted = {*names, "study"}  # as the sectioned table has it
    parts = pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        index_col=False,
        usecols=lambda name: name in wanted,
        chunksize=1 << 16,
    )
    for part in parts:
        table = part.rename(columns=names)
        image, study, patient = (table.get(name, [""] * len(table)) for name in ("image", "study", "patient"))
        yield from zip((name.strip() for name in image), map(_number, study), map(_number, patient))


def _number(told: str) -> str:
    """50414267 of s50414267, 50414267.0 and s50414267.txt, as the reader takes them; anything else as it is."""
    return found[1] if (found := _OWN_NUMBER.fullmatch(told)) else told


def _names(
    samples: Samples, layout: MimicCxrLayout | None, listings: dict[str, list[_Found]]
) -> dict[_Key, np.ndarray]:
    """Ids and image names; a name that images of two patients bear is none."""
    owners: dict[_Key, dict[int, str | None]] = {}

    def add(kind: str, name: str, patient: str, briefly: bool = True) -> None:
        for reading, words in _ways_to_say(name):
            if briefly or words[0] not in _OWNERS:
                own, told = owners.setdefault(_Key(kind, reading, len(words)), {}), _sequence(words)
                own[told] = patient if own.get(told, patient) == patient else None

    for image, study, patient in _named(samples, layout):
        add(PATIENT, patient, patient)
        add(STUDY, study, patient)
        add(IMAGE_NAME, PurePosixPath(image).stem, patient)
    for listing in listings.values():
        for found in listing:
            *above, name = found.path.split("/")
            if not above:  # the groups of patients
                continue
            patient = [*above, name][1].removeprefix("p")
            if not found.is_folder and not name.endswith(".txt"):
                add(IMAGE_NAME, PurePosixPath(name).stem, patient, briefly=False)
            elif name[:1] in "ps" and name[1:2].isdigit():
                add(PATIENT if name[0] == "p" else STUDY, PurePosixPath(name).stem[1:], patient, briefly=False)
    return {
        key: np.array(sorted(told for told, patient in own.items() if patient is not None), np.uint64)
        for key, own in owners.items()
    }


def _named(samples: Samples, layout: MimicCxrLayout | None) -> Iterator[tuple[str, str, str]]:
    """(image, study, patient) of the rows that were loaded, and of all rows of the tables."""
    table = samples.table[["image", "study", "patient"]].astype(str)
    yield from table.itertuples(index=False, name=None)
    if layout:
        studies: dict[str, str] = {}
        for path in _tables(samples.root, layout):
            for image, study, patient in _rows(path, layout):
                if patient:
                    studies[study] = patient
                yield image, study, patient or studies.get(study, study)


def _ways_to_say(name: str) -> list[tuple[str, list[str]]]:
    """(reading, words) that an id or a name is looked for as; none for one without a digit."""
    words = _words(_LETTER.sub("", name.lower()))
    letters = "".join(words)
    if not any(letter.isdigit() for letter in letters):
        return []
    if len(words) == 1 and letters.isdigit():
        if len(short := letters.lstrip("0")) >= _NUMBER:
            return [("numbers", [short])]
    elif len(letters) >= _NAME:
        return [("names", words)]
    if len(letters) >= _NUMBER:  # of zeros, most of it
        return [("names", words)]
    return [("names", [owner, *words]) for owner in _OWNERS]


# --- hashes of words


def _codes(words: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(_code, words), np.uint64, len(words))


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


_code = cache(_hash)


def _sequence(words: Sequence[str]) -> int:
    """The hash of all these words, of which most are names that no text repeats."""
    told = 0
    for word in words:
        told = (told * _FACTOR + _hash(word)) & _MASK
    return told


def _sequences(codes: np.ndarray, length: int) -> np.ndarray:
    """A hash of every `length` words in a row."""
    count = max(0, len(codes) - length + 1)
    hashes = np.zeros(count, np.uint64)
    for i in range(length):
        hashes = hashes * np.uint64(_FACTOR) + codes[i : i + count]
    return hashes


def _any_in(hashes: np.ndarray, known: np.ndarray) -> bool:
    if not len(known):
        return False
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return bool((known[places] == hashes).any())


# --- texts


def _words(text: str) -> list[str]:
    """Its words as cleaned reports have them: small, without accented letters."""
    return _NO_WORD.sub(" ", text.lower()).encode("ascii", "ignore").decode().split()


def _without_numerals(words: Sequence[str]) -> list[str]:
    """The words between which a table may have put numbers."""
    return [word for word in words if not _NUMERAL.fullmatch(word)]


def _for_names(text: str) -> str:
    """A text in which no digits after a point can be taken for an id, and ids have no letter in front."""
    small = _OWNER.sub(r"\1 ", _WHOLE.sub(r"\1", text.lower()))
    return _LETTER.sub("", _DECIMAL.sub(" ", small))


def _numbers(text: str) -> list[str]:
    """All long whole numbers, however they are written: p11577073, 11577073px, 11,577,073, 011577073, 1.1577073e+07."""
    text = _WHOLE.sub(r"\1", text.lower())
    told = [_NO_WORD.sub("", found[0]) for found in _GROUPED.finditer(text)]
    powers = (float(found[0]) for found in _POWER.finditer(text))
    told += [str(int(power)) for power in powers if power < 1e18 and power == int(power)]
    told += _INSIDE.findall(_DECIMAL.sub(" ", _GROUPED.sub(" ", text)))
    return [own for number in told if len(own := number.lstrip("0")) >= _NUMBER]

"""The last search before results are published: does anything in them belong to a patient of the private data?

Texts are compared as sequences of words, so that case, punctuation, line ends, HTML, JSON and terminal colours make no
difference; only hashes of the private sequences are kept. Pictures, also those inside a figure, a page or a widget, are
compared by the order of their grey values at a small size, so that scaling and a colour map make no difference.

Found are five words in a row, or a sentence of four, of a report; ids of patients and studies and names of images, if
they have at least `_NUMBER` digits, or `_NAME` letters and digits of which one is a digit, or follow the word patient,
subject or study; pictures that are at least `_SMALLEST` pixels wide and high. Words that the reports of `_COMMON`
patients or more have in common tell of none of them and are no finding ("there is no pleural effusion").

Not found are texts that are only drawn in a picture, or translated, encoded or cut to fewer words; shorter ids without
such a word; pictures that are cut to a part, turned, mixed with another, or kept as arrays; and what numbers betray.
"""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage
from scipy.stats import rankdata

from nbcore.data import Samples, image_cache, load
from nbcore.data.images import fit_square, read_image

_WORDS, _SHORT = 5, 4  # words in a row that are looked for, and words of a shorter sentence that is
_COMMON = 100  # patients
_NUMBER, _NAME = 7, 6  # characters of an id
_OWNERS = ("patient", "subject", "study")  # words before a shorter id
_SMALLEST = 24  # pixels
_SIDE, _MARGIN = 32, 2  # pixels of the small pictures, and what the encoders' central crop leaves out of them
_ALIKE = 0.92  # rank correlation of small pictures that are looked at again, twice as large, by their details
_SAME = 0.45  # of the details; over radiographs of different patients 0.38 was the highest, and 0.52 the lowest of one
_LOOKED_AT = 50  # of the most alike
_GREYS = 16  # different values of a picture that is no drawing
_CHUNK = 4096

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: no two words of a sequence can change places
_NO_WORD = re.compile(r"[\W_]+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_LINE_END = re.compile(r"\\[nrt]")
_TAG = re.compile(r"<!--|-->|<[^<>]*>")
_WHOLE = re.compile(r"(\d)\.0+(?!\w|\.\d)")  # an id that pandas has made a float
_DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+(?:e[+-]?\d+)?(?!\w|\.\d)")
_LETTER = re.compile(r"(?<![^\W_])[a-z](?=\d{5})")  # p10000032, s50414267
_PICTURE = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\n]{40,}")  # PNG, JPEG, GIF, WebP in base 64
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


class Leak(NamedTuple):
    """Something private among results: of which kind, and where; never what it says."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} is in {self.place}"


def find_leak(folder: Path, private: Mapping[str, Path], cache_root: Path) -> Leak | None:
    """The first thing in the files below `folder` that belongs to these private data sets, if there is one.

    Small pictures of the data are kept below `cache_root`, once a result holds any picture.
    """
    sets = [samples for name, root in private.items() if (samples := load(name, root)).private]
    if not sets:
        return None
    belongings = Belongings(sets, cache_root / "cache" / "images")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = path.relative_to(folder).as_posix()
        if kind := belongings.in_text(place):
            return Leak(kind, "the name of a file")
        for part, content in _contents(path):
            kind = belongings.in_text(content) if isinstance(content, str) else belongings.in_picture(content)
            if kind:
                return Leak(kind, f"{place}, {part}" if part else place)
    return None


class Belongings:
    """What belongs to the patients of private data sets, as hashes and small pictures."""

    def __init__(self, sets: Sequence[Samples], cache_directory: Path):
        self._sets, self._cache = sets, cache_directory
        self._sentences = [("a sentence of a report", *own) for samples in sets for own in _sentences(samples)]
        self._names = [own for samples in sets for own in _names(samples)]
        self._judged: dict[bytes, str | None] = {}  # by the hash of a picture file: a page repeats its notebook's

    def in_text(self, text: str) -> str | None:
        """Which kind of belonging a text holds, also as a picture in base 64."""
        for reading in _readings(text):
            for told, known in ((reading, self._sentences), (_without_decimals(reading), self._names)):
                codes = _codes(_words(told))
                for kind, length, hashes in known:
                    if _any_in(_sequences(codes, length), hashes):
                        return kind
        for encoded in _PICTURE.findall(text):
            if kind := self.in_picture(_decoded(encoded.replace("\n", ""))):
                return kind
        return None

    def in_picture(self, content: bytes) -> str | None:
        """Whether a picture file is, or has in it, one of the private images."""
        key = hashlib.blake2b(content).digest()
        if key not in self._judged:
            panels = _panels(content)
            panels += [panel[::-1] for panel in panels]  # SVG keeps the pictures of a figure upside down
            self._judged[key] = "an image" if panels and any(self._shows(view, panels) for view in _VIEWS) else None
        return self._judged[key]

    def _shows(self, view: "_View", panels: Sequence[np.ndarray]) -> bool:
        """Whether one of the panels is a private image in this view."""
        ours = _ranks(np.stack([view.of_panel(panel, 1) for panel in panels]))
        for samples, known in zip(self._sets, self._pictures):
            paths = samples.image_paths()
            for start in range(0, len(known), _CHUNK):
                likeness = np.abs(_ranks(view.of_square(known[start : start + _CHUNK], 1)) @ ours.T)  # (n, panels)
                for panel, own in zip(panels, likeness.T):
                    nearest = np.argsort(-own)[:_LOOKED_AT]
                    rows = start + nearest[own[nearest] > _ALIKE]
                    if any(_same_details(view, panel, paths[row]) for row in rows):
                        return True
        return False

    @cached_property
    def _pictures(self) -> list[np.ndarray]:
        """All private images, small: uint8 (n, S, S) of each set."""
        return [image_cache(samples, _SIDE, self._cache) for samples in self._sets]


# --- the private data as hashes


def _sentences(samples: Samples) -> Iterator[tuple[int, np.ndarray]]:
    """(words, sorted hashes) of what few patients' reports say."""
    table = samples.table[["patient", "report"]].drop_duplicates()
    table = table[table["report"] != ""]
    patients = pd.factorize(table["patient"])[0]
    reports = [_codes(_words(report)) for report in table["report"]]
    yield _WORDS, _of_few([_sequences(report, _WORDS) for report in reports], patients, _COMMON)
    short = [
        [words for sentence in report.split("\n") if len(words := _words(sentence)) == _SHORT]
        for report in table["report"]
    ]
    hashes = [np.array([_sequences(_codes(words), _SHORT)[0] for words in own], np.uint64) for own in short]
    yield _SHORT, _of_few(hashes, patients, _COMMON)


def _names(samples: Samples) -> Iterator[tuple[str, int, np.ndarray]]:
    """(kind, words, sorted hashes) of ids and image names; a name that images of two patients bear is none."""
    table, patients = samples.table, pd.factorize(samples.table["patient"])[0]
    stems = table["image"].map(lambda image: PurePosixPath(image).stem)
    columns = {
        "the id of a patient": table["patient"],
        "the id of a study": table["study"],
        "the name of an image": stems,
    }
    for kind, values in columns.items():
        found: dict[int, list[tuple[np.uint64, int]]] = {}
        for value, patient in set(zip(values.astype(str), patients)):
            for words in _ways_to_say(value):
                found.setdefault(len(words), []).append((_sequences(_codes(words), len(words))[0], patient))
        for length, own in found.items():
            hashes, owners = zip(*own)
            yield kind, length, _of_few([np.array([one], np.uint64) for one in hashes], np.array(owners), 2)


def _ways_to_say(name: str) -> list[list[str]]:
    """The words that an id or a name is looked for as; none for one without a digit."""
    words = _words(_LETTER.sub("", name.lower()))
    letters = "".join(words)
    if not any(letter.isdigit() for letter in letters):
        return []
    if len(letters) >= (_NUMBER if len(words) == 1 and letters.isdigit() else _NAME):
        return [words]
    return [[owner, *words] for owner in _OWNERS]


def _of_few(hashes: Sequence[np.ndarray], patients: np.ndarray, common: int) -> np.ndarray:
    """The hashes that fewer than `common` patients have, sorted; `hashes[i]` are of `patients[i]`."""
    if not len(hashes):
        return np.empty(0, np.uint64)
    owners = np.repeat(patients, [len(own) for own in hashes])
    every = np.concatenate(hashes)
    order = np.lexsort((owners, every))
    every, owners = every[order], owners[order]
    first = np.ones(len(every), bool)
    first[1:] = (every[1:] != every[:-1]) | (owners[1:] != owners[:-1])
    found, counts = np.unique(every[first], return_counts=True)
    return found[counts < common]


def _codes(words: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(_code, words), np.uint64, len(words))


@cache
def _code(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _sequences(codes: np.ndarray, length: int) -> np.ndarray:
    """A hash of every `length` words in a row."""
    count = max(0, len(codes) - length + 1)
    hashes = np.zeros(count, np.uint64)
    for i in range(length):
        hashes = hashes * _FACTOR + codes[i : i + count]
    return hashes


def _any_in(hashes: np.ndarray, known: np.ndarray) -> bool:
    if not len(known):
        return False
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return bool((known[places] == hashes).any())


# --- texts


def _contents(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """(part, content) of a file: the texts of a JSON file or notebook without their escapes, a picture as it is."""
    content = path.read_bytes()
    if content.startswith(_MAGIC):
        yield "", content
    elif path.suffix == ".ipynb":
        notebook = json.loads(content)
        for i, cell in enumerate(notebook.pop("cells")):
            yield f"cell {i + 1}", "\n".join(_strings(cell))
        yield "its metadata", "\n".join(_strings(notebook))
    else:
        text = content.decode("utf-8", errors="replace")
        yield "", "\n".join(_strings(json.loads(text))) if path.suffix == ".json" else text


def _strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys and numbers included; the lines of a text that is kept as a list, as one."""
    if isinstance(value, dict):
        for key, own in value.items():
            yield key
            yield from _strings(own)
    elif isinstance(value, list):
        lines = bool(value) and all(isinstance(own, str) for own in value)
        if lines and all(line.endswith("\n") for line in value[:-1]):
            yield "".join(value)
        else:
            for own in value:
                yield from _strings(own)
    elif value is not None:
        yield str(value)


def _readings(text: str) -> list[str]:
    """A text without escapes, and the same without tags."""
    text = html.unescape(html.unescape(_COLOUR.sub("", text)))
    text = _LINE_END.sub(" ", _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text))
    return [text, bare] if (bare := _TAG.sub(" ", text)) != text else [text]


def _without_decimals(text: str) -> str:
    """A text in which no digits after a point can be taken for an id, and ids have no letter in front."""
    return _LETTER.sub("", _DECIMAL.sub(" ", _WHOLE.sub(r"\1", text.lower())))


def _words(text: str) -> list[str]:
    """Its words as cleaned reports have them: small, without accented letters."""
    return _NO_WORD.sub(" ", text.lower()).encode("ascii", "ignore").decode().split()


# --- pictures


def _decoded(encoded: str) -> bytes:
    """The bytes of base 64 without its padding, whatever letters may follow."""
    encoded = encoded[:-1] if len(encoded) % 4 == 1 else encoded
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))


def _panels(content: bytes) -> list[np.ndarray]:
    """What may be a picture in a picture file, grey (h, w): the whole, and whatever stands out from the background."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            opaque = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    grey, colours = np.asarray(opaque.convert("L")), np.asarray(opaque.convert("RGB")).astype(np.int16)
    stands_out = np.abs(colours - colours[0, 0]).max(axis=2) > 8
    found = [grey]
    labels, _ = ndimage.label(stands_out)
    for i, place in enumerate(ndimage.find_objects(labels), start=1):
        if min(side.stop - side.start for side in place) < _SMALLEST:
            continue
        own = ndimage.binary_fill_holes(labels[place] == i)
        rows, columns = (np.flatnonzero(own.mean(axis=axis) > 0.5) for axis in (1, 0))  # not the ticks of an axis
        if len(rows) and len(columns):
            found.append(grey[place][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    found = [panel for panel in found if min(panel.shape) >= _SMALLEST and len(np.unique(panel)) >= _GREYS]
    return [_without_lines(panel) for panel in found]


def _without_lines(panel: np.ndarray) -> np.ndarray:
    """A panel without the thin lines of a grid that may be drawn over it."""
    width = min(panel.shape) // (2 * _SIDE)
    return ndimage.median_filter(panel, width) if width > 2 else panel


@dataclass(frozen=True)
class _View:
    """How an image may come into a figure: as a square, as it is, or as the central crop that an encoder sees."""

    fit: Callable[[np.ndarray, int], np.ndarray]
    margin: int  # of `_SIDE` pixels, on each side

    def of_panel(self, panel: np.ndarray, scale: int) -> np.ndarray:
        """A panel at `scale` times the small size."""
        return self.fit(panel, scale * (_SIDE - 2 * self.margin))

    def of_square(self, squares: np.ndarray, scale: int) -> np.ndarray:
        """The part of images (n, S, S), fitted into squares, that is in view."""
        inner = slice(scale * self.margin, scale * (_SIDE - self.margin))
        return squares[:, inner, inner]


def _small(panel: np.ndarray, side: int) -> np.ndarray:
    """A panel as uint8 (side, side), each pixel the mean of its area."""
    return np.asarray(Image.fromarray(panel).resize((side, side), Image.Resampling.BOX))


_VIEWS = (_View(_small, 0), _View(fit_square, 0), _View(_small, _MARGIN))


def _same_details(view: _View, panel: np.ndarray, path: Path) -> bool:
    """Whether panel and image agree in what distinguishes one radiograph from another like it."""
    square = fit_square(read_image(path, at_least=2 * _SIDE), 2 * _SIDE)
    pair = np.stack([view.of_panel(panel, 2), view.of_square(square[None], 2)[0]]).astype(np.float32)
    ours, theirs = _ranks(pair - ndimage.gaussian_filter(pair, (0, 1, 1)))
    return abs(float(ours @ theirs)) > _SAME


def _ranks(pictures: np.ndarray) -> np.ndarray:
    """Ranks of the pixels of each picture, float32 (n, s * s), so that a product of two rows is their correlation."""
    ranks = rankdata(pictures.reshape(len(pictures), -1), axis=1).astype(np.float32)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-6)

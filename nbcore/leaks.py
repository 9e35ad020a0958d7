"""The last search before results are published: does anything in them belong to a patient of the private data?

Texts are compared as sequences of words, so that case, punctuation, line ends, HTML, JSON, terminal colours, hyphens at
the end of a line and numbers between the words make no difference; only hashes of the private sequences are kept.
Pictures, also those inside a figure, a page or a widget, are compared by the order of their grey values at a small
size, so that scaling, a colour map of Matplotlib, a quarter turn and a mirror make no difference.

Found are five words in a row, or a sentence of four, of any section of a report; ids of patients and studies and names
of images, if they have at least seven digits (also inside a word, with separators of thousands, as a power of ten), or
six letters and digits of which one is a digit, or follow the word patient, subject or study; pictures that are at least
24 pixels wide and high, in any frame, beneath a transparency, and in a montage of up to 36 parts that are divided by
even lines or are of one size. Words that the reports of a hundred patients or more have in common tell of none of them
and are no finding ("there is no pleural effusion"). What cannot be searched is a finding, too: a link, a file of
another kind than `SEARCHED`, a text that is not UTF-8, a picture that cannot be decoded.

Not found are texts that are drawn in a picture, translated, encoded (but for the escapes of HTML and JSON), spelt
otherwise, run together, cut to fewer words, or of which other words lie between; shorter ids without such a word, and
ids that are rounded, cut in two, encoded or joined to other digits; pictures that are cut to a part beyond the
encoders' central crop, turned by other angles, warped, mixed with or partly covered by another, coloured by a map of
another origin that neither brightness, hue nor one channel follows, drawn smaller than 24 pixels, in a montage of
unequal or more parts without lines between them, drawn as shapes (an SVG of polygons), in base 64 with other letters or
of a format that is neither PNG, JPEG, GIF or WebP nor said to be a picture, or kept as numbers; and what numbers
betray. Nothing but the results is searched: not what code sends elsewhere, writes to other files or to the terminal
device itself. Raw reports and tables are known of the layout of MIMIC-CXR; of any other private data set, what `load`
gives.
"""

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from nbcore.data import Samples, load
from nbcore.leaks_pictures import UNREADABLE, Pictures, texts
from nbcore.leaks_words import Words

SEARCHED = {".ipynb", ".html", ".json", ".csv", ".md", ".tex", ".png", ".svg", ".txt", ".log", ".lock"}

_INVISIBLE = re.compile(r"\x1b\[[0-9;]*m|[\u00ad\u200b-\u200d\u2060\ufeff]|<wbr */?>")  # a terminal's colours first
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_LINE_END = re.compile(r"\\[nrt]")
_HYPHEN = re.compile(r"[-‐‑](?:\\[nr]|[\r\n])+[ \t]*")
_TAG = re.compile(r"<!--|-->|<[^<>]*>")
_LETTERS = r"(?:[A-Za-z0-9+/]|\\[nr]|[\r\n])"  # of base 64, and the ends of its lines
_PICTURE = re.compile(  # PNG, JPEG, GIF, WebP by their first bytes; others where they are said to be a picture
    rf"(?<![A-Za-z0-9+/])(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR){_LETTERS}{{40,}}"
    rf"|image/[\w.+-]+(?:;[\w=-]+)*(?:;base64,\s*|\n){_LETTERS}{{40,}}"
)
_SAID = re.compile(r"image/[\w.+-]+(?:;[\w=-]+)*(?:,\s*|\n)")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


class Leak(NamedTuple):
    """Something private among results: of which kind, and where; never what it says."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} is in {self.place}"


def find_leak(folder: Path, private: Mapping[str, Path], cache_root: Path) -> Leak | None:
    """The first thing below `folder` that belongs to these private data sets or cannot be searched, if there is one.

    Hashes of what the data say, and small pictures of them once a result holds any picture, are kept below
    `cache_root`.
    """
    belongings = Belongings.of(private, cache_root)
    return belongings and belongings.in_folder(folder)


class Belongings:
    """What belongs to the patients of private data sets, as hashes and small pictures."""

    def __init__(self, sets: Sequence[Samples], cache_directory: Path):
        self._words, self._pictures = Words(sets, cache_directory), Pictures(sets, cache_directory)

    @classmethod
    def of(cls, private: Mapping[str, Path], cache_root: Path) -> Self | None:
        """Of the private data sets in these folders; None if what lies there is private to nobody."""
        sets = [samples for name, root in private.items() if (samples := load(name, root)).private]
        return cls(sets, cache_root / "cache" / "images") if sets else None

    def in_folder(self, folder: Path) -> Leak | None:
        """The first leak below a folder: in what is written, then in the pictures."""
        if folder.is_symlink():
            return Leak("a link", "the place of the run")
        pictures: dict[bytes, str] = {}
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder).as_posix()
            if kind := self._in_words(place):
                return Leak(kind, f"the name of a {'folder' if path.is_dir() else 'file'}")
            if path.is_symlink():
                return Leak("a link", f"the place of {place}")
            if path.is_dir():
                continue
            if not path.is_file() or (path.suffix or path.name) not in SEARCHED:
                return Leak(UNREADABLE, place)
            for part, content in _contents(path):
                told = f"{place}, {part}" if part else place
                if content is None:
                    return Leak(UNREADABLE, told)
                text, encoded = _without_pictures(content) if isinstance(content, str) else ("", [content])
                if kind := self._in_words(text) or next(filter(None, map(self._in_texts_of, encoded)), None):
                    return Leak(kind, told)
                pictures |= {own: told for own in encoded if own not in pictures}
        kinds = zip(self._pictures.judge(list(pictures)), pictures.values())
        return next((Leak(kind, told) for kind, told in kinds if kind), None)

    def in_text(self, text: str) -> str | None:
        """Which kind of belonging a text holds, also as a picture in base 64."""
        text, pictures = _without_pictures(text)
        return self._in_words(text) or next(filter(None, map(self.in_picture, pictures)), None)

    def in_picture(self, content: bytes) -> str | None:
        """Whether a picture file is, has in it or says something private, or cannot be decoded."""
        return self._in_texts_of(content) or self._pictures.judge([content])[0]

    def _in_texts_of(self, picture: bytes) -> str | None:
        return next(filter(None, map(self._in_words, texts(picture))), None)

    def _in_words(self, text: str) -> str | None:
        return self._words.find(_readings(text))


# --- files


def _contents(path: Path) -> Iterator[tuple[str, str | bytes | None]]:
    """(part, content) of a file: the texts of a JSON file or notebook without their escapes, a picture as it is.

    None for what is no text.
    """
    content = path.read_bytes()
    if content.startswith(_MAGIC) or path.suffix == ".png":
        yield "", content
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        yield "", None
        return
    try:
        yield from _parts(text, path.suffix)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # damaged
        yield "", text


def _parts(text: str, suffix: str) -> list[tuple[str, str]]:
    """(part, its texts) of a text file."""
    if suffix == ".json":
        return [("", "\n".join(_strings(json.loads(text))))]
    if suffix != ".ipynb":
        return [("", text)]
    notebook = json.loads(text)
    cells = [(f"cell {i}", "\n".join(_strings(cell))) for i, cell in enumerate(notebook.pop("cells"), start=1)]
    return [*cells, ("its metadata", "\n".join(_strings(notebook)))]


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


# --- texts


def _without_pictures(text: str) -> tuple[str, list[bytes]]:
    """A text without the pictures that are in it in base 64, and these; an SVG is text."""
    texts, pictures = [_PICTURE.sub(" ", text)], []
    for found in _PICTURE.finditer(text):
        content = _decoded(_SAID.sub("", found[0].replace(";base64", ""), count=1))
        if content.lstrip().startswith(b"<"):
            own, inside = _without_pictures(content.decode("utf-8", errors="replace"))
            texts.append(own)
            pictures += inside
        else:
            pictures.append(content)
    return "\n".join(texts), pictures


def _decoded(encoded: str) -> bytes:
    """The bytes of base 64 without its padding, whatever letters may follow."""
    encoded = re.sub(r"\\[nr]|\s", "", encoded)
    encoded = encoded[:-1] if len(encoded) % 4 == 1 else encoded
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))


def _readings(text: str) -> list[tuple[str, str]]:
    """A text without escapes, and the same without tags; each as it stands, and with words that a line's end cuts."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), html.unescape(html.unescape(text)))
    text = _INVISIBLE.sub("", text)
    told, joined = (_LINE_END.sub(" ", own) for own in (text, _HYPHEN.sub("", text)))
    if (bare := _TAG.sub(" ", told)) == told:
        return [(told, joined)]
    return [(told, joined), (bare, _TAG.sub(" ", joined) if joined != told else bare)]

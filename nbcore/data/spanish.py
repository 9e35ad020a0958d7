"""Spanish reports: one Unicode form, PadChest's stemmed form of them, and a guard against text in a wrong encoding."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from nbcore.errors import UserError

if TYPE_CHECKING:
    from snowballstemmer.spanish_stemmer import SpanishStemmer

_NOT_KEPT = re.compile(r"[^a-z0-9.]+")
# What PadChest leaves out: function words, as they read with their accents on (so "más" and "también" stay).
# "no", "sin", "ni" and "con" are kept, for what they deny or join.
_LEFT_OUT = """
    a al algo algunas algunos ante antes como contra cual cuando de del desde donde durante e el ella ellas ellos en
    entre era eran es esa esas ese eso esos esta estar estas este esto estos fue fueron ha habia han hasta hay la las
    le les lo los me mucho muchos muy nada nos o os otra otras otro otros para pero poco por porque que quien quienes
    se sea ser si sido sobre son su sus tanto te tiene tienen todo todos tu un una uno unos y ya yo
"""
_FUNCTION_WORDS = frozenset(_LEFT_OUT.split())
_UNSTEMMED = {"masa", "masas"}  # else they would be "mas"
# "condensacion" lost its accent before it met a stemmer that knew the ending with the accent only.
_UNACCENTED_NOUN = re.compile(r"[a-z]+[au]cion")

_FULL_STOP = re.compile(r"(?<!\S)\.(?!\S)")
# A Spanish letter beyond ASCII is two bytes in UTF-8. Read in Latin-1 or Windows-1252, the first is a letter that
# Spanish does not have (small where the text was put into lower case since), the second a sign, which editors may drop.
# "mmÂ³" is let through: such slips with a sign stand in tables whose letters are all right.
_MISREAD = re.compile(
    "[Ããâ][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    r"|Ã(?=\s|$)|(?<=[a-z])Ã(?=[a-z])|Â(?=[\s¡¿«»ªº]|$)"
)
_LOST = "\ufffd"


def normal_form(text: str) -> str:
    """The text in Unicode's composed form (NFC): one code for a letter and its accent."""
    return unicodedata.normalize("NFC", text)


def stemmed(text: str) -> str:
    """Spanish text as PadChest's reports are written.

    Lower case; accents and the tilde of "ñ" gone ("pequeño" -> "pequen"); punctuation out but for full stops, which
    stand apart (" . "); function words out; every other word cut to its Snowball stem.
    """
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    words = _NOT_KEPT.sub(" ", plain).replace(".", " . ").split()
    return " ".join(_stem(word) for word in words if word not in _FUNCTION_WORDS)


@cache
def _stem(word: str) -> str:
    if word in _UNSTEMMED or _UNACCENTED_NOUN.fullmatch(word):
        return word
    return _stemmer().stemWord(word)


@cache
def _stemmer() -> "SpanishStemmer":
    import snowballstemmer

    return snowballstemmer.stemmer("spanish")


def one_a_line(report: str) -> str:
    """A report of PadChest's with a sentence a line, its words as they are, in NFC; "" where there is none."""
    sentences = (" ".join(sentence.split()) for sentence in _FULL_STOP.split(normal_form(report)))
    return "\n".join(filter(None, sentences))


def check_spanish(texts: Iterable[str], where: object) -> None:
    """Refuse a column of text that was read or saved in a wrong encoding.

    Args:
        texts: the column, whole and in the order of the table, so that the first text stands in row 2.
        where: the table, as the message names it.

    Raises:
        UserError: a text with the sign for a lost letter (U+FFFD), or with UTF-8 read as Latin-1 or Windows-1252
            ("neumotÃ³rax"), naming the first such row as an editor counts them (the headings are row 1).
    """
    row = 1
    for text in texts:
        row += 1
        if misread := _MISREAD.search(text):
            problem = f"{_around(text, misread.start())!r} is UTF-8 read in another encoding"
        elif _LOST in text:
            problem = f"{_around(text, text.index(_LOST))!r} has lost a letter"
        else:
            row += text.count("\n")
            continue
        raise UserError(f"{where}, row {row}: {problem}; fetch the table again and save it as UTF-8")


def _around(text: str, place: int, margin: int = 12) -> str:
    return text[max(0, place - margin) : place + margin]

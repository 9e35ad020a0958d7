"""Texts without pictures, for teaching a language model the words of a language before any image is seen.

`openi`: reports of the Indiana University chest X-ray collection (https://openi.nlm.nih.gov), as NLMCXR_reports.tgz or
unpacked. CC BY-NC-ND 4.0: for one's own use; nothing made of them may be passed on.

`spanish-imaging-sentences`: sentences of Spanish case reports (SPACCC, MEDDOCAN) that name an imaging method, in
index.csv with the columns `text` and `patient_id`. CC BY 4.0.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree import ElementTree

from nbcore.data.reports import clean_report
from nbcore.data.spanish import check_spanish, normal_form
from nbcore.data.tables import find_table, read_table, require_folder
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

_ARCHIVE = "NLMCXR_reports.tgz"
_SECTIONS = ("FINDINGS", "IMPRESSION")
_TABLE = "index.csv"
_TEXT, _DOCUMENT = "text", "patient_id"


@dataclass(frozen=True)
class Corpus:
    """Texts and, for each, the document it is from: no document may be learnt from in part and tested on in part."""

    name: str
    language: Literal["en", "es"]
    texts: list[str]
    documents: list[str]  # a report, or a patient's case

    def __len__(self) -> int:
        return len(self.texts)


def read_corpus(name: str, root: str | Path) -> Corpus:
    """Read the corpus that lies in the folder `root`; texts without words are left out.

    English reports are findings and impression, cleaned as MIMIC-CXR's are; Spanish sentences stay as they are, in NFC.

    Raises UsageError for an unknown name, UserError for a folder without this corpus, or a file that is damaged, in a
    wrong encoding, or empty.
    """
    if name not in _CORPORA:
        raise UsageError(f"unknown corpus {name!r}{nearest(name, list(_CORPORA))}")
    language, read = _CORPORA[name]
    root = Path(root)
    require_folder(root, name)
    found = [(text, document) for text, document in read(root) if text]
    if not found:
        raise UserError(f"no text in the {name} corpus under {root}: fetch it again")
    texts, documents = map(list, zip(*found))
    return Corpus(name, language, texts, documents)


def _openi(root: Path) -> Iterator[tuple[str, str]]:
    """(cleaned report, its name) of each XML of the archive, or below the folder where there is no archive."""
    for name, content in _packed(root / _ARCHIVE) if (root / _ARCHIVE).is_file() else _unpacked(root):
        try:
            sections = {
                part.get("Label"): part.text or "" for part in ElementTree.fromstring(content).iter("AbstractText")
            }
        except ElementTree.ParseError as error:
            raise UserError(f"{root}: {name} is not valid XML ({error}): fetch it again") from error
        yield clean_report(" ".join(sections.get(label, "") for label in _SECTIONS)), PurePosixPath(name).stem


def _packed(path: Path) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            members = (member for member in archive if member.isfile() and member.name.endswith(".xml"))
            return sorted((member.name, archive.extractfile(member).read()) for member in members)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"cannot read {path}, it is damaged or no archive: fetch it again") from error


def _unpacked(root: Path) -> Iterator[tuple[str, bytes]]:
    paths = sorted(root.rglob("*.xml"))
    if not paths:
        raise UserError(f"no openi reports under {root}: put {_ARCHIVE}, or the XML files out of it, there")
    for path in paths:
        try:
            yield path.relative_to(root).as_posix(), path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _spanish_sentences(root: Path) -> Iterator[tuple[str, str]]:
    path = find_table(root, [_TABLE], "spanish-imaging-sentences")
    table = read_table(path, [_TEXT, _DOCUMENT], text=[_TEXT, _DOCUMENT])
    check_spanish(table[_TEXT], path)
    for text, document in zip(table[_TEXT], table[_DOCUMENT]):
        yield " ".join(normal_form(text).split()), document


_CORPORA: dict[str, tuple[Literal["en", "es"], Callable[[Path], Iterator[tuple[str, str]]]]] = {
    "openi": ("en", _openi),
    "spanish-imaging-sentences": ("es", _spanish_sentences),
}
CORPORA = {name: language for name, (language, _) in _CORPORA.items()}  # name -> language

"""Texts without pictures, for teaching a language model the words of a language before any image is seen.

`openi`: reports of the Indiana University chest X-ray collection (https://openi.nlm.nih.gov), as NLMCXR_reports.tgz or
unpacked. CC BY-NC-ND 4.0: for one's own use; nothing made of them may be passed on. With their images they are the
data set of the same name.

`spanish-imaging-sentences`: sentences of Spanish case reports (SPACCC, MEDDOCAN) that name an imaging method, in
index.csv with the columns `text` and `patient_id`. CC BY 4.0.
"""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from nbcore.data.manifest import load_manifest
from nbcore.data.reports import clean_report
from nbcore.data.spanish import check_spanish, normal_form
from nbcore.data.tables import find_table, is_file, list_files, read_table, require_folder
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

_TABLE = "index.csv"
_TEXT, _DOCUMENT = "text", "patient_id"
_LARGEST = 2**22  # bytes of a report; the owner's are below 2**14


@dataclass(frozen=True)
class Corpus:
    """Texts and, for each, the document it is from: no document may be learnt from in part and tested on in part."""

    name: str
    language: Literal["en", "es"]
    texts: list[str]
    documents: list[str]  # a report, or a patient's case

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class OpeniReport:
    """What an XML file of Open-i tells."""

    name: str  # of the file, without .xml: the number of the report
    number: str  # as the report tells itself; where it does not, its name if that is a number
    text: str  # cleaned, a sentence a line; "" where there is too little
    images: tuple[str, ...]  # ids: the images' file names without .png
    headings: frozenset[str]  # the MeSH terms given by hand ("major"), without their qualifiers


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


def openi_reports(root: Path, archive: str, sections: Sequence[str]) -> Iterator[OpeniReport]:
    """Each XML report of the archive in `root`, or below the folder where there is no archive, by name.

    `sections` are joined in this order to one text. Raises UserError for a folder without reports, or a file that
    cannot be read, is no XML, or declares entities (of which a few lines can unfold to gigabytes).
    """
    path = root / archive
    for name, content in _packed(path) if is_file(path) else _unpacked(root, archive):
        tree = _tree(content, f"{root}: {name}")
        stem, number = PurePosixPath(name).stem, _number(tree)
        if number and stem.isdecimal() and int(stem) != int(number):
            raise UserError(f"{root}: {name} is the report CXR{number}: give it its own name back, or fetch it again")
        told = {part.get("Label"): "".join(part.itertext()) for part in tree.iter("AbstractText")}
        majors = ((major.text or "").partition("/")[0].strip() for major in tree.iter("major"))
        yield OpeniReport(
            name=stem,
            number=number or (stem if stem.isdecimal() else ""),
            text=clean_report(" ".join(told.get(section, "") for section in sections)),
            images=tuple(image.get("id", "") for image in tree.iter("parentImage")),
            headings=frozenset(majors) - {""},
        )


def _number(tree: Element) -> str:
    """102 of <uId id="CXR102"/>; "" where there is none."""
    found = next((re.fullmatch(r"CXR(\d+)", place.get("id", "")) for place in tree.iter("uId")), None)
    return found[1] if found else ""


def _tree(content: bytes, place: str) -> Element:
    def refuse(*declaration: object) -> None:
        raise UserError(f"{place} declares XML entities, which no report of Open-i does: fetch it again")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.data, refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{place} is not valid XML ({error}): fetch it again") from error
    return builder.close()


def _packed(path: Path) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            reports = []
            for member in archive:
                if member.isfile() and _is_report(member.name):
                    if member.size > _LARGEST:
                        raise UserError(f"{path}: {member.name} has {member.size} bytes, too many for a report")
                    reports.append((member.name, archive.extractfile(member).read()))
            return sorted(reports)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}, it is damaged or no archive: fetch it again") from error


def _unpacked(root: Path, archive: str) -> Iterator[tuple[str, bytes]]:
    names = sorted(filter(_is_report, list_files(root, ".")), key=PurePosixPath)
    if not names:
        raise UserError(
            f"no openi data under {root}: {archive}, or the XML files out of it, is missing; is this the right root?"
        )
    for name in names:
        try:
            yield name, (root / name).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {root / name}: {error.strerror or error}") from error


def _is_report(name: str) -> bool:
    """Whether it is an XML file, and not the "._1.xml" that another system's packer puts beside 1.xml."""
    return name.endswith(".xml") and not PurePosixPath(name).name.startswith(".")


def _openi(root: Path) -> Iterator[tuple[str, str]]:
    layout = load_manifest("openi").layout
    for report in openi_reports(root, layout.archive, layout.sections):
        yield report.text, report.name


def _spanish_sentences(root: Path) -> Iterator[tuple[str, str]]:
    path = find_table(root, [_TABLE], "spanish-imaging-sentences")
    table = read_table(path, [_TEXT, _DOCUMENT], text=[_TEXT, _DOCUMENT], broken_lines=True)
    check_spanish(table[_TEXT], path)
    for text, document in zip(table[_TEXT], table[_DOCUMENT]):
        yield " ".join(normal_form(text).split()), document


_CORPORA: dict[str, tuple[Literal["en", "es"], Callable[[Path], Iterator[tuple[str, str]]]]] = {
    "openi": ("en", _openi),
    "spanish-imaging-sentences": ("es", _spanish_sentences),
}
CORPORA = {name: language for name, (language, _) in _CORPORA.items()}  # name -> language

"""Radiology reports: finding the sections of a free-text report, and MGCA's cleaning of the text.

Both follow the published preprocessing (MIT-LCP's section headers, MGCA's sentence cleaning), quirks included: they
decide which words a model of these papers has seen.
"""

import re
from typing import NamedTuple

_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_BLANK_LINE = "\n \n"
_NUMBERED = re.compile(r"[0-9]+\.")
_WORD = re.compile(r"\w+")

# First match names the section; a header that names the examination ("CHEST, TWO VIEWS:") opens the findings.
_NORMAL_NAMES = (
    ("comparison", re.compile(r"comparison")),
    ("indication", re.compile(r"indication|reason for")),
    ("history", re.compile(r"history|clinical")),
    ("technique", re.compile(r"technique|procedure")),
    ("examination", re.compile(r"^(examination|exam|study|type of exam)\b")),
    ("recommendation", re.compile(r"^recommendation")),
    ("notification", re.compile(r"notification|^wet read")),
    ("impression", re.compile(r"impress|^(conclusion|summary|opinion)")),
    ("findings", re.compile(r"finding|\b(chest|views?|radiographs?|portable|frontal|lateral|semi-?upright|supine)\b")),
)


class Section(NamedTuple):
    name: str
    text: str
    start: int  # offset of the text in the report


def split_sections(report: str) -> list[Section]:
    """The sections of a report, in order, under normal names ("findings", "impression", "indication" ...).

    A header is upper-case text and a colon at the start of a line. What precedes the first one is the "preamble", a
    report without headers is one "full report"; where neither findings nor impression is named, what follows the
    first blank line of the last section becomes "last_paragraph".
    """
    headers = list(_HEADER.finditer(report))
    if not headers:
        sections = [Section("full report", report, 0)]
    else:
        ends = [header.start() for header in headers[1:]] + [len(report)]
        sections = [Section("preamble", report[: headers[0].start(1)], 0)]
        sections += [
            Section(_normal_name(header[1]), report[header.end() : end], header.end())
            for header, end in zip(headers, ends)
        ]
    if not {"findings", "impression"} & {section.name for section in sections}:
        name, text, start = sections[-1]
        before, blank, after = text.partition(_BLANK_LINE)
        if blank:
            sections[-1:] = [Section(name, before, start), Section("last_paragraph", after, start + len(before))]
    return sections


def _normal_name(header: str) -> str:
    header = header.strip().lower()
    return next((name for name, pattern in _NORMAL_NAMES if pattern.search(header)), header)


def extract_sections(report: str) -> dict[str, str]:
    """Section name -> text; of several sections of one name the last one stands (an impression may be revised)."""
    return {section.name: section.text.strip() for section in split_sections(report)}


def clean_sentences(text: str) -> list[str]:
    """MGCA's sentences: lower-case ASCII words, in sentences of at least two; none if the report has under three words.

    The rules cut a decimal in two ("3.5 cm" -> "5 cm"), drop one-word sentences ("Normal.") and accents, and keep the
    "___" of the de-identification.
    """
    sentences: list[list[str]] = []
    for part in _NUMBERED.split(text.replace("\n", " ")):
        for sentence in part.split("."):
            words = _WORD.findall(sentence.replace("\ufffd\ufffd", " ").lower())
            if len(words) > 1:
                sentences.append(" ".join(words).encode("ascii", "ignore").decode().split())
    enough = sum(map(len, sentences)) >= 3
    return [" ".join(words) for words in sentences if words] if enough else []


def clean_report(text: str) -> str:
    """The cleaned sentences, a line each (to a tokenizer a space like any other); "" where there is too little."""
    return "\n".join(clean_sentences(text))

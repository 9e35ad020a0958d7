"""The same studies reported in English and in Spanish: translations to test a cross-lingual model with."""

import re
from collections.abc import Iterator, Sequence
from itertools import count as count_up

from nbcore.data.manifest import load_manifest
from nbcore.data.phantom import reports, world
from nbcore.data.reports import clean_report
from nbcore.data.spanish import one_a_line, stemmed

_ITEM = re.compile(r"\b\d+\. ")  # the number of an impression
_SHORTEST = 3  # words
_APART = 2**32  # the studies' twins, whose reports are learnt from, have seeds below it


def parallel_reports(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Reports of the same studies in English, as MIMIC-CXR's are read, and in Spanish, as PadChest's are read.

    The studies are of both hospitals in turn, and in no twin of a study. No two pairs of texts are equal, and every
    report has at least three words. A larger `count` gives the same pairs and more.
    """
    sections = load_manifest("mimic-cxr").layout.sections
    hospitals = [_translations(hospital, _APART + seed, sections) for hospital in world.HOSPITALS]
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < count:
        pairs[next(hospitals[len(pairs) % len(hospitals)])] = None
    return [english for english, _ in pairs], [spanish for _, spanish in pairs]


def spanish_report(study: world.ChestStudy) -> str:
    """A report as PadChest's column holds it: one text of stems, without sections, numbers or a summary of itself."""
    report = reports.write(study, "es")
    return stemmed(_ITEM.sub("", report.findings or report.impression))


def _translations(hospital: str, seed: int, sections: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The English and the Spanish report of one frontal study after the other."""
    for index in count_up():
        (study,) = world.sample_studies(seed, [index], hospital, views=("PA", "AP"))
        english = reports.write(study, "en")
        cleaned = clean_report(" ".join(getattr(english, section) for section in sections))
        pair = (cleaned, one_a_line(spanish_report(study)))
        if min(len(text.split()) for text in pair) >= _SHORTEST:
            yield pair

"""Images, run-length masks and the text of reports."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from families.common import Case, family

from nbcore.data.images import fit_square
from nbcore.data.masks import rle_decode, rle_encode
from nbcore.data.reports import clean_sentences, split_sections


def _text_case(name: str, ours: Sequence[str], golden: Sequence[str]) -> Case:
    """Texts are compared byte by byte."""
    codes = [np.frombuffer("\0".join(texts).encode(), np.uint8) for texts in (ours, golden)]
    return Case(name, *codes, rtol=0)


@family("image_and_rle*.npz")
def image_and_rle(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """MGCA's resizing within a grey level, and SIIM's run-length masks in both directions."""
    for key in golden:
        case, _, part = key.partition("__")
        if part == "out":
            fitted = fit_square(golden[f"{case}__in"], int(golden[f"{case}__scale"]))
            yield Case(f"{stem} {case}", fitted, golden[key], rtol=0, atol=1)
        elif part == "mask":
            width, height = golden[f"{case}__wh"].tolist()
            code, mask = str(golden[f"{case}__string"]), golden[key] > 0
            yield Case(f"{stem} {case} decoded", rle_decode(code, height, width), mask.astype(np.uint8), rtol=0)
            again = rle_decode(rle_encode(mask), height, width)  # a mask has one code, a code may be spelt otherwise
            yield Case(f"{stem} {case} encoded", again, mask.astype(np.uint8), rtol=0)


@family("report_text*.json")
def report_text(stem: str, golden: dict[str, Any]) -> Iterator[Case]:
    """MGCA's cleaned sentences (none, where it drops the report) and MIMIC's sections."""
    for report in golden.get("reports", []) if "cleaned" in golden else []:
        sentences = clean_sentences(report["impression"] + " " + report["findings"])
        yield _text_case(f"{stem} cleaned {report['Path']}", sentences, golden["cleaned"].get(report["Path"], []))
    for i, case in enumerate(golden.get("sections", [])):
        sections = split_sections(case["text"])
        yield _text_case(f"{stem} section names {i}", [section.name for section in sections], case["names"])
        yield _text_case(f"{stem} section texts {i}", [section.text for section in sections], case["sections"])
        starts = np.array([section.start for section in sections])
        yield Case(f"{stem} section places {i}", starts, np.array(case["idx"]), rtol=0)

"""Sections and cleaning of reports, against hand-made cases and the official numbers where they are at hand."""

import json
from pathlib import Path

import pytest

from nbcore.data.reports import clean_report, clean_sentences, extract_sections, split_sections
from nbcore.paths import ROOT

GOLDEN = ROOT.parent / "shared" / "goldens" / "report_text.json"
REPORT = (
    " FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___F with cough.\n \n"
    " FINDINGS:  Clear lungs.\n \n"
    " IMPRESSION:  One.\n \n IMPRESSION:  Two, revised.\n"
)


def test_sections_have_normal_names_and_the_last_of_a_name_stands() -> None:
    sections = extract_sections(REPORT)
    assert sections["impression"] == "Two, revised."
    assert sections["findings"] == "Clear lungs."
    assert sections["indication"] == "___F with cough."


def test_offsets_point_at_the_text() -> None:
    for section in split_sections(REPORT):
        assert REPORT[section.start :].startswith(section.text)


def test_a_header_that_names_the_examination_opens_the_findings() -> None:
    assert extract_sections(" x\n PA AND LATERAL VIEWS OF THE CHEST:  Clear.\n")["findings"] == "Clear."


def test_without_findings_or_impression_the_last_paragraph_is_kept_apart() -> None:
    assert extract_sections(" x\n COMPARISON:  ___.\n \n Lines unchanged.")["last_paragraph"] == "Lines unchanged."
    assert set(extract_sections("no header at all")) == {"full report"}


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("1. No acute process.\n2. Stable 3.5 cm nodule.", "no acute process 5 cm nodule"),  # decimals are cut in two
        ("No pneumothorax", ""),  # two words are too few
        ("Normal. Clear lungs. Heart is normal.", "clear lungs heart is normal"),  # one-word sentences go
        ("PICC-line seen on ___ at 2:30.", "picc line seen on ___ at 2"),
        ("Sílhouette is naïve", "slhouette is nave"),
        ("Mild edema \ufffd\ufffd small effusion", "mild edema small effusion"),
        ("日本 語. Clear lungs today.", "clear lungs today"),  # nothing is left of the first sentence
        ("", ""),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean_report(text) == cleaned


def test_cleaning_a_clean_report_of_one_sentence_changes_nothing() -> None:
    once = clean_report("There is a small LEFT effusion, unchanged")
    assert clean_report(once) == once


@pytest.mark.skipif(not GOLDEN.is_file(), reason="official numbers not at hand")
def test_official_numbers() -> None:
    golden = json.loads(Path(GOLDEN).read_text())
    for report in golden["reports"]:
        text = report["impression"] + " " + report["findings"]
        assert clean_sentences(text) == golden["cleaned"].get(report["Path"], [])
    for case in golden["sections"]:
        sections = split_sections(case["text"])
        assert [section.name for section in sections] == case["names"]
        assert [section.text for section in sections] == case["sections"]
        assert [section.start for section in sections] == case["idx"]

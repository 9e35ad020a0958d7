"""Sections and cleaning of reports, against hand-made cases (the official ones: tests/families/data.py)."""

import pytest

from nbcore.data.reports import clean_report, extract_sections, split_sections

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
    assert clean_report(text).split() == cleaned.split()


def test_a_cleaned_report_has_a_sentence_a_line() -> None:
    assert clean_report("Clear lungs. Heart is\nnormal. 2. No edema.") == "clear lungs\nheart is normal\nno edema"


def test_cleaning_a_clean_report_of_one_sentence_changes_nothing() -> None:
    once = clean_report("There is a small LEFT effusion, unchanged")
    assert clean_report(once) == once

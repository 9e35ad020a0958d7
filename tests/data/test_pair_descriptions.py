"""Descriptions of the chest and breast pairs: enough of them, each class its own, in words of their modality."""

import itertools
import json
import re
from collections import Counter

import pytest

from nbcore.data.descriptions import DESCRIPTIONS, load_descriptions
from nbcore.data.manifest import load_manifest

NAMES = ("cc-ccii", "covid-pneumonia-cxr", "dmid", "busi")
STRANGE = {  # words of another modality
    "cc-ccii": "film|radiograph|x-ray|mammogram|sonograph",
    "covid-pneumonia-cxr": r"\bCT\b|axial|slice|HU\b|mammogram|sonograph",
    "dmid": "echo|sonogra|ultrasound|doppler|transducer|lungs?",
    "busi": "mammogra|film|lungs?|x-ray",
}
SMALL = {
    *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "into", "is", "it", "its", "no", "not"),
    *("of", "on", "or", "than", "that", "the", "this", "to", "which", "with"),
}


def _read(name: str) -> dict[str, list[str]]:
    return json.loads((DESCRIPTIONS / "rich" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_every_class_has_at_least_52_sentences_of_8_to_35_words(name: str) -> None:
    found = load_descriptions("rich", load_manifest(name))
    assert found == _read(name)  # nothing is dropped, nothing mended
    for label, sentences in found.items():
        assert len(sentences) >= 52, label
        for sentence in sentences:
            assert 8 <= len(sentence.split()) <= 35, sentence
            assert sentence == " ".join(sentence.split()) and re.fullmatch(r"[A-Z].*[^.]\.", sentence), sentence


def test_no_sentence_is_there_twice_in_whatever_file() -> None:
    files = (json.loads(path.read_text(encoding="utf-8")) for path in (DESCRIPTIONS / "rich").glob("*.json"))
    everywhere = Counter(sentence.lower() for own in files for each in own.values() for sentence in each)
    ours = [sentence.lower() for name in NAMES for each in _read(name).values() for sentence in each]
    assert [sentence for sentence in ours if everywhere[sentence] > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_sentences_of_a_class_differ_in_more_than_a_word_or_two(name: str) -> None:
    for sentences in _read(name).values():
        words = [frozenset(re.findall(r"[a-z]+", sentence.lower())) - SMALL for sentence in sentences]
        for (one, first), (other, second) in itertools.combinations(zip(sentences, words), 2):
            assert len(first & second) / len(first | second) < 0.8, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_the_sentences_of_a_class_do_not_open_alike(name: str) -> None:
    for label, sentences in _read(name).items():
        openings = Counter(" ".join(sentence.lower().split()[:3]) for sentence in sentences)
        assert openings.most_common(1)[0][1] <= 5, label


@pytest.mark.parametrize("name", NAMES)
def test_no_word_is_of_another_modality(name: str) -> None:
    strange = re.compile(rf"\b(?:{STRANGE[name]})", re.IGNORECASE)
    found = [sentence for each in _read(name).values() for sentence in each if strange.search(sentence)]
    assert found == []

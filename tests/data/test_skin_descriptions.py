"""The rich descriptions of skin lesions: one file for each modality of the two dermatological data sets."""

import json
import re
from collections import Counter
from itertools import combinations

import pytest

from nbcore.data.descriptions import DESCRIPTIONS

CLASSES = {
    "mra-midas": ["AK", "BCC", "MEL", "NEV", "SCC", "SK"],
    "derm7pt": ["BCC", "MEL", "MISC", "NEV", "SK"],
}
VIEWS = ("dermoscopy", "clinical")
FILES = [(name, view) for name in CLASSES for view in VIEWS]
FEWEST, MOST_ALIKE = 52, 0.8

# Terms of dermoscopy, which a clinical photograph does not show.
DERMOSCOPIC = re.compile(
    r"dermoscop|dermatoscop|polari[sz]ed|pigment network|pseudonetwork|reticul|globul|\bclods?\b|milia-like"
    r"|comedo-like|arboris|glomerular|hairpin|ovoid nest|leaf-like|spoke-wheel|lacunae|rosette|pseudopod|veil"
    r"|peppering|fingerprint|starburst|in focus|checklist",
    re.IGNORECASE,
)
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a all an and any are as at be but by can each for from has have in into is it its may no nor not of on one "
        "or over than that the their they this to under which while with within without",
    )
)
KINDS_OF_MISC = {  # derm7pt's rest class is a mixture: so many sentences at least on each part
    "dermatofibroma": 10,
    "lentig": 10,
    "melanosis|melanotic": 9,
    "vascular|angioma|lacunae|lagoons|venous|port-wine|pyogenic": 10,
}


def _read(name: str, view: str) -> dict[str, list[str]]:
    return json.loads((DESCRIPTIONS / "rich" / f"{name}.{view}.json").read_text(encoding="utf-8"))


def _content(sentence: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", sentence.lower())) - FUNCTION_WORDS


def _overlap(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard index of two sets of words, in [0, 1]."""
    return len(left & right) / len(left | right)


@pytest.mark.parametrize(("name", "view"), FILES)
def test_each_class_has_enough_whole_sentences(name: str, view: str) -> None:
    found = _read(name, view)
    assert list(found) == CLASSES[name]
    for label, sentences in found.items():
        assert len(sentences) >= FEWEST, label
        for sentence in sentences:
            assert sentence[0].isupper() and sentence.endswith("."), sentence
            assert sentence == " ".join(sentence.split()), sentence
            assert 8 <= len(sentence.split()) <= 35, sentence


@pytest.mark.parametrize(("name", "view"), FILES)
def test_sentences_of_a_class_are_no_rewordings_of_each_other(name: str, view: str) -> None:
    for sentences in _read(name, view).values():
        for left, right in combinations(sentences, 2):
            assert _overlap(_content(left), _content(right)) < MOST_ALIKE, (left, right)


def test_the_same_words_in_another_order_are_a_rewording() -> None:
    left = _content("A brown ring surrounds the pale centre of the papule.")
    right = _content("The pale centre of the papule is surrounded by a brown ring.")
    assert _overlap(left, left) == 1 and 0.6 < _overlap(left, right) < 1
    assert _overlap(left, _content("Scale covers a red patch.")) == 0


def test_no_sentence_is_in_two_classes_or_files() -> None:
    counts: Counter[str] = Counter()
    for path in (DESCRIPTIONS / "rich").glob("*.json"):
        for sentences in json.loads(path.read_text(encoding="utf-8")).values():
            counts.update(sentence.lower() for sentence in sentences)
    ours = [s.lower() for name, view in FILES for sentences in _read(name, view).values() for s in sentences]
    assert [sentence for sentence in ours if counts[sentence] > 1] == []


@pytest.mark.parametrize("name", CLASSES)
def test_dermoscopic_criteria_are_seen_in_dermoscopy_alone(name: str) -> None:
    for sentences in _read(name, "clinical").values():
        assert [sentence for sentence in sentences if DERMOSCOPIC.search(sentence)] == []
    for label, sentences in _read(name, "dermoscopy").items():
        assert sum(bool(DERMOSCOPIC.search(sentence)) for sentence in sentences) >= 10, label


@pytest.mark.parametrize("view", VIEWS)
def test_the_rest_class_describes_each_of_its_kinds(view: str) -> None:
    sentences = _read("derm7pt", view)["MISC"]
    for kind, fewest in KINDS_OF_MISC.items():
        assert sum(bool(re.search(kind, sentence, re.IGNORECASE)) for sentence in sentences) >= fewest, kind

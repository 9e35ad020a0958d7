"""The ranking of new words: by hand-made corpora, a slow reference, and what counts as a Spanish word."""

import math
import unicodedata
from collections import Counter

import pytest

from nbcore.data.vocabulary import rank_new_words, spanish_words
from nbcore.errors import UsageError, UserError

REPORTS = [
    "derrame derrame pleural",
    "torax normal sin derrame",
    "nodulo torax pulmonar",
    "torax normal zeta",
    "zeta zeta zeta zeta",
]


def slow_ranking(reports: list[str], chunk: int) -> list[str]:
    """Sum of l2-normalised tf * (ln((1 + n) / (1 + df)) + 1) over chunks."""
    documents = [Counter(" ".join(reports[i : i + chunk]).split()) for i in range(0, len(reports), chunk)]
    frequency = Counter(word for document in documents for word in document)
    importance = Counter()
    for document in documents:
        weights = {
            word: count * (math.log((1 + len(documents)) / (1 + frequency[word])) + 1)
            for word, count in document.items()
        }
        norm = math.sqrt(sum(weight**2 for weight in weights.values()))
        importance.update({word: weight / norm for word, weight in weights.items()})
    return sorted(importance, key=lambda word: (-round(importance[word], 9), word))


@pytest.mark.parametrize("chunk", [1, 2, 3, 500])
def test_tfidf_ranking_equals_the_slow_reference(chunk):
    assert rank_new_words(REPORTS, str.split, chunk=chunk) == slow_ranking(REPORTS, chunk)


def test_the_rankings_differ_where_a_word_fills_few_documents():
    by_weight = rank_new_words(REPORTS, str.split, chunk=1)
    by_documents = rank_new_words(REPORTS, str.split, ranking="document_frequency", chunk=1)
    assert by_documents[:4] == ["torax", "derrame", "normal", "zeta"]  # 3 documents, then 2 in code-point order
    assert by_weight[0] == "zeta"  # one report says nothing else
    assert sorted(by_weight) == sorted(by_documents) == sorted({word for text in REPORTS for word in text.split()})


def test_documents_are_chunks_of_successive_reports():
    reports = ["a1 b1", "a1 c1", "b1 d1", "d1 e1"]
    assert rank_new_words(reports, str.split, ranking="document_frequency", chunk=1)[:3] == ["a1", "b1", "d1"]
    assert rank_new_words(reports, str.split, ranking="document_frequency", chunk=2) == ["b1", "a1", "c1", "d1", "e1"]


def test_words_keep_case_only_if_the_tokenizer_does():
    assert set(rank_new_words(["Derrame derrame"], str.split)) == {"Derrame", "derrame"}
    assert rank_new_words(["Derrame derrame"], spanish_words) == ["derrame"]


def test_spanish_words():
    text = "Derrame pleural izquierdo de 3 cm, con neumotórax.\nS/P catéter 11-03-2017; 1.5 (T12) ..."
    assert spanish_words(text) == ["derrame", "pleural", "izquierdo", "cm", "neumotórax", "s", "p", "catéter", "t12"]
    assert spanish_words("el de la con sin , . 12 \n") == []
    assert spanish_words(unicodedata.normalize("NFD", "neumotórax año")) == ["neumotórax", "año"]


@pytest.mark.parametrize("reports", [[], ["", "de la"], ["12 ... 3"]])
def test_reports_without_words_are_an_error(reports):
    with pytest.raises(UserError, match=f"None of the {len(reports)} reports holds a word"):
        rank_new_words(reports, spanish_words)


def test_wrong_settings_are_errors():
    with pytest.raises(UsageError, match="did you mean 'tfidf'"):
        rank_new_words(REPORTS, str.split, ranking="tf-idf")
    with pytest.raises(UsageError, match="chunk is 0"):
        rank_new_words(REPORTS, str.split, chunk=0)

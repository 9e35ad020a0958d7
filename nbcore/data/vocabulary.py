"""The words of a second language, in order of their importance in its reports."""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

if TYPE_CHECKING:
    from spacy.tokenizer import Tokenizer

Ranking = Literal["tfidf", "document_frequency"]
_RANKINGS = ["tfidf", "document_frequency"]


@cache
def _spanish_tokenizer() -> "Tokenizer":
    import spacy  # slow to import

    return spacy.blank("es").tokenizer  # the tokenizer and the stop words of es_dep_news_trf, without its weights


def spanish_words(text: str) -> list[str]:
    """The words of a Spanish text in order, lower-case, NFC; without stop words, and without what holds no letter."""
    tokens = _spanish_tokenizer()(unicodedata.normalize("NFC", text).lower())
    return [token.text for token in tokens if not token.is_stop and any(map(str.isalpha, token.text))]


def rank_new_words(
    reports: Sequence[str],
    tokenize: Callable[[str], Sequence[str]],
    *,
    ranking: Ranking = "tfidf",
    chunk: int = 500,
) -> list[str]:
    """All words of `reports`, the most important ones first; ties in code-point order (Med-UniC, Sect. 3.2).

    A document is `chunk` successive reports (the last one may be shorter); it has a unit vector of TF-IDF weights.

    Args:
        reports: of the language whose words are wanted.
        tokenize: a report's words, say `spanish_words`.
        ranking: "tfidf" (paper): by the sum of a word's weights over documents, for a word is worth a place in the
            vocabulary when it matters in many reports, and a maximum would favour what one chunk repeats.
            "document_frequency" (what the official code amounts to): by the number of documents that hold the word.
        chunk: reports to a document.

    Raises:
        UsageError: an unknown ranking, or a chunk below 1.
        UserError: the reports hold no word.
    """
    if ranking not in _RANKINGS:
        raise UsageError(f"ranking: {ranking!r} is not one{nearest(ranking, _RANKINGS)}")
    if chunk < 1:
        raise UsageError(f"chunk is {chunk}: a document takes at least 1 report.")
    documents = [reports[start : start + chunk] for start in range(0, len(reports), chunk)]
    vectorizer = TfidfVectorizer(analyzer=lambda document: [word for report in document for word in tokenize(report)])
    try:
        weights = vectorizer.fit_transform(documents)  # (documents, words), sparse
    except ValueError as error:  # an empty vocabulary
        raise UserError(f"None of the {len(reports)} reports holds a word to learn: check their text.") from error
    importance = np.asarray(weights.sum(axis=0)).ravel() if ranking == "tfidf" else -vectorizer.idf_
    words = vectorizer.get_feature_names_out()
    return words[np.argsort(-importance, kind="stable")].tolist()

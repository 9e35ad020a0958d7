"""The ranking of new words."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from families.common import Case, family

from nbcore.data.vocabulary import rank_new_words


@family("vocab_tfidf*.json")
def vocab_tfidf(stem: str, golden: dict[str, Any]) -> Iterator[Case]:
    """Med-UniC's official ranking of words, a document a chunk, compared byte by byte."""
    ours = rank_new_words(golden["documents"], str.split, ranking="document_frequency", chunk=1)
    codes = [np.frombuffer("\0".join(words).encode(), np.uint8) for words in (ours, golden["ranked_tokens"])]
    yield Case(f"{stem} ranked words", *codes, rtol=0)

"""New words for a BERT: more entries in its vocabulary and rows in its embedding; and how texts are cut up by it.

Shapes: V word pieces of the vocabulary, M new words, D hidden width.
"""

import copy
import unicodedata
from collections import Counter
from collections.abc import Sequence

from tokenizers import AddedToken
from transformers import BertModel, BertTokenizer

from nbcore.errors import UserError


def extend_vocabulary(
    bert: BertModel, tokenizer: BertTokenizer, words: Sequence[str], limit: int
) -> tuple[BertModel, BertTokenizer, list[str]]:
    """Give the first `limit` of `words` that the tokenizer cuts up an entry and an embedding of their own.

    A new word is one piece where it stands as a whole word, with no letter, digit, underscore or combining mark on
    either side; every other word is cut up as before. New words are read as the base reads any text: in lower case if
    it does so; with their accents if it keeps them ("neumotórax" is not "neumotorax"), without if it strips them (as
    published uncased ones do: then both spellings are one word, as they are to all its other pieces). A base that
    keeps accents takes them composed (NFC), as `TextEncoder.tokenize` hands them over.

    Args:
        bert: embeddings (V, D); left as it is.
        tokenizer: of `bert`; left as it is.
        words: the most important ones first. Those are passed over that are one piece already, that equal an earlier
            one once read, or that the base splits at punctuation or blanks.
        limit: the largest M.

    Returns:
        copies with a vocabulary of V + M, and the M new words as the tokenizer reads them. The new embeddings are
        drawn as BERT's are (normal, `initializer_range`) from torch's global generator; all others stay as they are.

    Raises:
        UserError: the tokenizer and the embedding differ in size.
    """
    if len(tokenizer) != bert.config.vocab_size:
        raise UserError(
            f"The tokenizer has {len(tokenizer)} word pieces but the language model {bert.config.vocab_size}: "
            "take both from the same folder."
        )
    bert, tokenizer = copy.deepcopy(bert), copy.deepcopy(tokenizer)
    added = _unknown_words(tokenizer, words)[:limit]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in added])
    bert.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return bert, tokenizer, added


def _unknown_words(tokenizer: BertTokenizer, words: Sequence[str]) -> list[str]:
    """Those of `words` that are one word to the tokenizer, yet not one piece; as it reads them, each once."""
    backend = tokenizer.backend_tokenizer
    read = dict.fromkeys(backend.normalizer.normalize_str(unicodedata.normalize("NFC", word)) for word in words)
    whole = [word for word in read if [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(word)] == [word]]
    return [word for word in whole if tokenizer.tokenize(word) != [word]]


def tokenisation(report: str, before: BertTokenizer, after: BertTokenizer) -> tuple[list[str], list[str], list[bool]]:
    """A report's pieces before and after an extension, and which of the latter are new words (Med-UniC, Fig. 9)."""
    pieces, known = after.tokenize(report), before.get_vocab()
    return before.tokenize(report), pieces, [piece not in known for piece in pieces]


def pieces_per_word(texts: Sequence[str], tokenizer: BertTokenizer) -> float:
    """Mean number of word pieces per word of `texts`, at least 1; punctuation marks are words, too.

    A word that is unknown as a whole counts as many pieces as it has characters.

    Raises:
        UserError: the texts hold no word.
    """
    backend = tokenizer.backend_tokenizer
    words = Counter(
        word
        for text in texts
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
    )
    if not words:
        raise UserError(f"None of the {len(texts)} texts holds a word: there is nothing to count.")
    pieces = {word: tokenizer.tokenize(word) for word in words}
    counts = {word: len(word) if found == [tokenizer.unk_token] else len(found) for word, found in pieces.items()}
    return sum(counts[word] * times for word, times in words.items()) / words.total()

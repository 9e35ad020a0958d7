"""New words in a BERT: whole words only, all else exactly as before, on disk as in memory."""

import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from nbcore.errors import UserError
from nbcore.models.text import small_bert, text_encoder
from nbcore.models.vocabulary import extend_vocabulary, pieces_per_word, tokenisation

LETTERS = "abcdefghijklmnopqrstuvwxyzáéíóúñ"
NEW = ["con", "der", "derrame", "neumotórax", "año", "consolida", "t12"]
HELD = ["consolidation", "the", "pleural", "derra", "##me"]
# What a text is made of: new words, old ones, parts and neighbours of both, other spellings, what separates words.
BITS = [*NEW, "Derrame", "CON", "AÑO", "neumotorax", "ano", "cons", "x", "me", "ó", "é", "7", " ", "\n", ".", "-", "/"]


def make_tokenizer(strip_accents: bool | None) -> BertTokenizer:
    characters = [*LETTERS, *"0123456789.,-/()"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *HELD]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, strip_accents=strip_accents)


def extend(tokenizer, words=NEW, limit=100):
    torch.manual_seed(0)
    bert = small_bert(tokenizer, width=32, layers=1, max_length=64)
    return bert, *extend_vocabulary(bert, tokenizer, words, limit)


KEEPS, STRIPS = make_tokenizer(False), make_tokenizer(None)
_, BERT, KEEPS_NEW, ADDED = extend(KEEPS)
_, _, STRIPS_NEW, STRIPPED = extend(STRIPS)


def slow_pieces(text: str, before: BertTokenizer, added: list[str]) -> list[str]:
    """Word by word, as the base splits words."""
    backend = before.backend_tokenizer
    words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]
    return [piece for word in words for piece in ([word] if word in added else before.tokenize(word))]


@pytest.mark.parametrize("before, after, added", [(KEEPS, KEEPS_NEW, ADDED), (STRIPS, STRIPS_NEW, STRIPPED)])
@given(st.lists(st.sampled_from(BITS), max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_a_whole_new_word_is_one_piece_and_every_other_word_as_before(before, after, added, text):
    assert after.tokenize(text) == slow_pieces(text, before, added)


@given(st.text(st.sampled_from(LETTERS + LETTERS.upper() + "0123456789 .,-/()\n"), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_cut_up_word_by_word(text):
    assert KEEPS_NEW.tokenize(text) == slow_pieces(text, KEEPS, ADDED)


def test_no_new_word_inside_another():
    assert KEEPS_NEW.tokenize("Consolidation con  derrame.") == ["consolidation", "con", "derrame", "."]
    for text in ("consolidations", "lascon", "con1", "derramex", "con\u0301", "dercon"):
        assert KEEPS_NEW.tokenize(text) == KEEPS.tokenize(text), text


def test_accents_are_exact_where_the_base_keeps_them(tmp_path):
    BERT.save_pretrained(tmp_path)
    KEEPS_NEW.save_pretrained(tmp_path)
    encoder = text_encoder(str(tmp_path))
    number = encoder.tokenizer.convert_tokens_to_ids("neumotórax")
    assert number >= len(KEEPS)
    for text in ("neumotórax", "Neumotórax", "NEUMOTÓRAX", unicodedata.normalize("NFD", "neumotórax")):
        assert encoder.tokenize([text], 64)[0][0, 1:-1].tolist() == [number], text
    assert encoder.tokenizer.tokenize("neumotorax") == KEEPS.tokenize("neumotorax")
    assert encoder.tokenizer.tokenize("ano") != encoder.tokenizer.tokenize("año") == ["año"]
    assert encoder.tokenizer.decode(encoder.tokenize(["neumotórax con año"], 64)[0][0, 1:-1]) == "neumotórax con año"


def test_accents_are_folded_where_the_base_strips_them():
    """As published uncased models read all their other pieces."""
    assert STRIPPED == ["con", "der", "derrame", "neumotorax", "ano", "consolida", "t12"]
    for text in ("neumotórax", "Neumotorax", unicodedata.normalize("NFD", "NEUMOTÓRAX")):
        assert STRIPS_NEW.tokenize(text) == ["neumotorax"], text
    _, _, _, added = extend(STRIPS, ["año", "ano", "Año"])
    assert added == ["ano"]


def test_which_words_are_added():
    words = ["The", "pleural", "con", "Con", "con de", "costo-frenico", "", "derrame", "neumotórax"]
    _, bert, tokenizer, added = extend(KEEPS, words, 2)
    assert added == ["con", "derrame"]
    assert tokenizer.convert_tokens_to_ids(added) == [len(KEEPS), len(KEEPS) + 1]
    assert bert.config.vocab_size == len(tokenizer) == len(KEEPS) + 2
    assert extend(KEEPS, [unicodedata.normalize("NFD", "año")])[3] == ["año"]
    assert extend(KEEPS, ["ß", "zeta"])[3] == ["ß", "zeta"]  # what was unknown is not one piece
    _, bert, tokenizer, added = extend(KEEPS, words, 0)
    assert added == [] and len(tokenizer) == bert.config.vocab_size == len(KEEPS)


def test_old_embeddings_stay_and_new_ones_are_drawn():
    before, bert, _, added = extend(KEEPS, [f"{a}{b}zeta" for a in LETTERS for b in LETTERS], limit=2000)
    old, new = before.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight
    size = len(KEEPS)
    assert torch.equal(new[:size], old)
    assert len(new) - size == len(added) == len(LETTERS) ** 2
    assert new[size:].std().item() == pytest.approx(bert.config.initializer_range, rel=0.02)
    assert new[size:].mean().item() == pytest.approx(0, abs=0.02 * bert.config.initializer_range)
    for (name, was), (_, now) in zip(before.named_parameters(), bert.named_parameters()):
        assert "word_embeddings" in name or torch.equal(was, now)
    assert before.config.vocab_size == size  # the given model is left as it was
    assert KEEPS.tokenize("aazeta") != ["aazeta"]


def test_saved_and_loaded_it_is_the_same(tmp_path):
    BERT.save_pretrained(tmp_path)
    KEEPS_NEW.save_pretrained(tmp_path)
    loaded = text_encoder(str(tmp_path))
    assert loaded.tokenizer.get_vocab() == KEEPS_NEW.get_vocab()
    text = "Consolidation con derrame, Neumotórax/año t12; derramex neumotorax"
    assert loaded.tokenizer.tokenize(text) == KEEPS_NEW.tokenize(text) == slow_pieces(text, KEEPS, ADDED)
    for (name, kept), (_, read) in zip(BERT.named_parameters(), loaded.bert.named_parameters()):
        assert torch.equal(kept, read), name


def test_a_tokenizer_of_another_model_is_an_error():
    bert, *_ = extend(KEEPS)
    with pytest.raises(UserError, match="take both from the same folder"):
        extend_vocabulary(bert, KEEPS_NEW, NEW, 1)


def test_tokenisation_tells_the_new_words():
    before, after, is_new = tokenisation("The derrame, con X.", KEEPS, KEEPS_NEW)
    assert before == ["the", "derra", "##me", ",", "c", "##o", "##n", "x", "."]
    assert after == ["the", "derrame", ",", "con", "x", "."]
    assert is_new == [False, True, False, True, False, False]


def test_pieces_per_word():
    texts = ["The derrame.", "con"]
    assert pieces_per_word(texts, KEEPS) == 7 / 4  # the | derra ##me | . | c ##o ##n
    assert pieces_per_word(texts, KEEPS_NEW) == 1
    with pytest.raises(UserError, match="None of the 2 texts"):
        pieces_per_word(["", " \n"], KEEPS)

"""Masked language modelling on reports of two languages: what is masked, what is trained, what is kept."""

import json

import pytest
import torch
from transformers import BertForMaskedLM

from nbcore.errors import UsageError, UserError
from nbcore.language_stages import masked_loss, train_cross_lingual, training_job
from nbcore.losses.language import mask_words
from nbcore.methods.cross_lingual import CrossLingualConfig, CrossLingualModel, ReportPieces
from nbcore.models.text import small_bert, text_encoder, train_tokenizer

ENGLISH = [f"{size} {side} pleural effusion. the {part} is {state}." for size in ("small", "large")
           for side in ("left", "right") for part in ("heart", "lung") for state in ("normal", "enlarged")]  # fmt: skip
SPANISH = [f"{size} derrame {side}. {part} {state}." for size in ("pequeño", "gran") for state in ("normal", "amplio")
           for side in ("izquierdo", "derecho") for part in ("corazón", "tórax")]  # fmt: skip
WORDS = ["derrame", "pequeño", "izquierdo", "derecho", "corazón", "tórax", "amplio"]
TINY = {"batch_size": 8, "accumulate": 1, "processes": 1, "precision": "no", "max_length": 32, "threads": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An English stand-in, without a word of Spanish, as it lies on disk."""
    folder = tmp_path_factory.mktemp("english")
    tokenizer = train_tokenizer([*ENGLISH, "abcdefghijklmnopqrstuvwxyzáéíóúñ"], 120)
    torch.manual_seed(0)
    small_bert(tokenizer, width=32, layers=1, max_length=32, dropout=0.1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bilingual")
    config = CrossLingualConfig(**TINY, epochs=40, learning_rate=5e-3)
    return folder, train_cross_lingual([*ENGLISH, *SPANISH], base, WORDS, config, folder, seed=0)


@pytest.fixture(scope="module")
def untrained(base, tmp_path_factory):
    """The extended model before it has learnt anything to speak of."""
    folder = tmp_path_factory.mktemp("untrained")
    config = CrossLingualConfig(**TINY, epochs=1, learning_rate=1e-9)
    train_cross_lingual([*ENGLISH, *SPANISH], base, WORDS, config, folder, seed=0)
    return folder


def make_model(base) -> CrossLingualModel:
    encoder = text_encoder(str(base))
    torch.manual_seed(0)
    return CrossLingualModel(BertForMaskedLM(encoder.bert.config), encoder.tokenizer)


def test_defaults_are_the_papers():
    config = CrossLingualConfig()
    assert config.batch_size * config.accumulate * config.processes == 1024
    assert (config.epochs, config.learning_rate, config.mask_rate, config.max_length) == (15, 5e-4, 0.15, 256)
    assert (config.precision, config.warmup_fraction, config.new_words) == ("fp16", 0.1, 5153)


def test_every_text_has_a_masked_word_and_only_words_are_masked():
    special = torch.tensor([0, 1, 2, 3, 4])
    ids = torch.tensor([[2, 9, 3, 0, 0], [2, 7, 8, 1, 3], [2, 1, 3, 0, 0]])  # the last one has no known word
    torch.manual_seed(0)
    counts = torch.zeros(ids.shape)
    for _ in range(2000):
        read, target = mask_words(ids, special, 4, 50, 0.01, at_least_one=True)
        assert ((target >= 0).sum(dim=1) >= torch.tensor([1, 1, 0])).all()
        counts += target >= 0
        assert torch.equal(read[target < 0], ids[target < 0])
        assert torch.equal(target[target >= 0], ids[target >= 0])
    assert not counts[torch.isin(ids, special)].any()
    assert counts[0, 1] == 2000
    assert counts[1, 1] / counts[1, 2] == pytest.approx(1, abs=0.15)  # either word of the second text is as likely


def test_one_at_least_changes_nothing_else():
    ids = torch.randint(5, 50, (64, 32), generator=torch.Generator().manual_seed(0))
    drawn = []
    for at_least_one in (False, True):
        torch.manual_seed(1)
        drawn.append(mask_words(ids, torch.arange(5), 4, 50, 0.15, at_least_one=at_least_one))
    without, with_one = drawn
    assert (without[1] >= 0).any(dim=1).sum() > 50
    same = (without[1] >= 0).any(dim=1)
    for first, second in zip(without, with_one):
        assert torch.equal(first[same], second[same])


def test_masking_shares_of_a_corpus(base):
    model = make_model(base)
    ids = ReportPieces([*ENGLISH, *SPANISH] * 30, model.tokenizer, 32).__getitems__(range(960))["ids"].long()
    torch.manual_seed(0)
    read, target = model.mask(ids)
    words = ~torch.isin(ids, model.special)
    chosen = target >= 0
    assert chosen.sum() / words.sum() == pytest.approx(0.15, abs=0.01)
    assert not chosen[~words].any()
    assert torch.equal(read[~words], ids[~words])
    assert (read[chosen] == model.tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.02)


def test_the_loss_ignores_padding_and_what_is_not_masked(base):
    model = make_model(base).eval()
    data = ReportPieces([ENGLISH[0], "heart"], model.tokenizer, 32)
    long, short = (data.__getitems__([i])["ids"].long() for i in (0, 1))
    together = data.__getitems__([0, 1])["ids"].long()
    assert short.shape == (1, 3) and together.shape == (2, long.shape[1])
    assert together[1, 3:].eq(model.tokenizer.pad_token_id).all()
    target = torch.where(torch.arange(long.shape[1]) == 1, together, -1)
    alone = [model.restoration(ids, ids, target[[i], : ids.shape[1]]) for i, ids in enumerate((long, short))]
    torch.testing.assert_close(model.restoration(together, together, target), sum(alone) / 2)
    logits = model.language(input_ids=long).logits[0, 1].log_softmax(dim=0)
    torch.testing.assert_close(alone[0], -logits[long[0, 1]])


def test_a_batch_of_one_word_texts_is_finite(base):
    model = make_model(base).train()
    ids = ReportPieces(["heart"] * 2, model.tokenizer, 32).__getitems__([0, 1])["ids"]
    losses = [model.losses({"ids": ids}) for _ in range(20)]
    assert all(each["total"].isfinite() and each["total"] == each["words"] for each in losses)


def test_texts_without_words_are_an_error(base):
    tokenizer = text_encoder(str(base)).tokenizer
    for empty in ("", " \n", "日"):
        with pytest.raises(UserError, match="Text 2 of 3 holds no known word"):
            ReportPieces(["heart", empty, "lung"], tokenizer, 32)


def test_decomposed_accents_are_composed(base):
    tokenizer = text_encoder(str(base)).tokenizer
    data = ReportPieces(["o\u0301", "ó"], tokenizer, 32)
    assert torch.equal(*data.__getitems__([0, 1])["ids"])


def test_all_of_the_model_is_trained_through_one_embedding(base, tmp_path):
    corpus = tmp_path / "corpus.json"
    corpus.write_text(json.dumps({"texts": ENGLISH, "words": WORDS}))
    job = training_job(str(corpus), str(base), TINY, str(tmp_path), seed=0)
    model = job.method
    model.losses(job.dataset.__getitems__(range(16)))["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.language.cls.predictions.decoder.weight is model.language.bert.embeddings.word_embeddings.weight


def test_training_starts_from_the_base(base, untrained):
    before, after = (text_encoder(str(folder)).bert.state_dict() for folder in (base, untrained))
    assert before.keys() == after.keys()
    for name, old in before.items():
        torch.testing.assert_close(after[name][: len(old)], old, atol=1e-7, rtol=0)  # new words are appended


def test_training_teaches_both_languages(trained, untrained):
    folder, history = trained
    words = history.epochs()["words"]
    assert sum(words[-5:]) < 0.5 * sum(words[:5])
    for texts in (ENGLISH, SPANISH):
        assert masked_loss(folder, texts, seed=0) < 0.6 * masked_loss(untrained, texts, seed=0)


def test_the_rate_rises_and_falls_in_straight_lines(trained):
    rates = torch.tensor(trained[1].values["lr"])
    steps = torch.arange(1, len(rates) + 1) / len(rates)
    torch.testing.assert_close(rates, 5e-3 * torch.minimum(steps / 0.1, (1 - steps) / 0.9), atol=1e-8, rtol=1e-5)


def test_the_trained_model_is_a_report_encoder(base, trained):
    folder, _ = trained
    encoder, before = text_encoder(str(folder)), text_encoder(str(base))
    assert encoder.tokenizer.tokenize("Pequeño derrame") == ["pequeño", "derrame"]
    assert len(encoder.tokenizer) == encoder.bert.config.vocab_size == len(before.tokenizer) + len(WORDS)
    language = BertForMaskedLM.from_pretrained(folder)
    for (name, kept), (_, read) in zip(language.bert.named_parameters(), encoder.bert.named_parameters()):
        assert torch.equal(kept, read), name
    assert encoder.bert.config.hidden_dropout_prob == 0.1


def test_a_finished_run_is_loaded_and_another_refused(base, trained):
    folder, history = trained
    config = CrossLingualConfig(**TINY, epochs=40, learning_rate=5e-3)
    texts = [*ENGLISH, *SPANISH]
    before = (folder / "model.safetensors").read_bytes()
    assert train_cross_lingual(texts, base, WORDS, config, folder, seed=0) == history
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="another seed"):
        train_cross_lingual(texts, base, WORDS, config, folder, seed=1)


def test_masked_loss_is_a_function_of_texts_and_seed(trained):
    folder, _ = trained
    state = torch.get_rng_state()
    first = masked_loss(folder, ENGLISH, seed=0)
    assert masked_loss(folder, ENGLISH, seed=0) == first != masked_loss(folder, ENGLISH, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert masked_loss(folder, [" ".join(ENGLISH)], seed=0) > 0  # longer than the model reads


def test_unusable_models_are_errors(base, tmp_path):
    with pytest.raises(UserError, match="lack the head"):
        masked_loss(base, ENGLISH, seed=0)
    with pytest.raises(UserError, match="not a folder of BERT weights"):
        masked_loss(tmp_path, ENGLISH, seed=0)
    with pytest.raises(UserError, match="no text"):
        masked_loss(base, [], seed=0)
    config = CrossLingualConfig(**{**TINY, "max_length": 256}, epochs=1)
    with pytest.raises(UsageError, match=r"max_length is 256 but .* reads 32 word pieces"):
        train_cross_lingual(ENGLISH, base, WORDS, config, tmp_path, seed=0)

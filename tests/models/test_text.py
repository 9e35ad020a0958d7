"""Report encoders: freezing, exact loading of BERT-family checkpoints, embeddings that do not depend on the batch."""

import json
import unicodedata

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from nbcore.errors import UserError
from nbcore.models.text import TextEncoder, small_bert, text_encoder, train_tokenizer

TEXTS = [
    "the heart is normal in size.",
    "small left pleural effusion.",
    "no focal consolidation, pneumothorax or effusion.",
]


@pytest.fixture
def folder(tmp_path):
    """A stand-in saved in the layout of published weights."""
    tokenizer = train_tokenizer(TEXTS, 200)
    torch.manual_seed(0)
    small_bert(tokenizer, width=32, layers=3, max_length=32).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_tokenizer_depends_on_the_texts_alone():
    assert train_tokenizer(TEXTS, 100).get_vocab() == train_tokenizer(TEXTS[::-1], 100).get_vocab()
    tokenizer = train_tokenizer(TEXTS, 200)
    assert tokenizer.tokenize("Left EFFUSION") == ["left", "effusion"]
    assert tokenizer.tokenize("hat") == ["h", "##a", "##t"]  # an unknown word falls back on its characters
    assert tokenizer("heart")["input_ids"][0] == tokenizer.cls_token_id


def test_spanish_letters_keep_their_accents():
    tokenizer = train_tokenizer(["índice cardiotorácico aumentado", "índice normal"], 200)
    assert tokenizer.tokenize("Índice cardiotorácico") == ["índice", "cardiotorácico"]


def test_frozen_text_is_in_eval_mode(folder):
    encoder = text_encoder(str(folder)).train()
    assert not any(module.training for module in encoder.bert.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_unfrozen_layers_receive_gradients(folder):
    encoder = text_encoder(str(folder), trainable_layers=2).train()
    ids, mask = encoder.tokenize(TEXTS, 32)
    encoder(ids, mask).sum().backward()
    trained = {name.split(".layer.")[1][0] for name, p in encoder.named_parameters() if p.grad is not None}
    assert trained == {"1", "2"}
    assert encoder.bert.encoder.layer[2].training
    assert not encoder.bert.encoder.layer[0].training
    with pytest.raises(UserError, match="3 layers"):
        text_encoder(str(folder), trainable_layers=4)


def test_embeddings_ignore_batch_and_padding(folder):
    encoder = text_encoder(str(folder))
    together = encoder.embed(TEXTS * 3, 32, batch_size=4)
    alone = torch.cat([encoder.embed([text], 32) for text in TEXTS * 3])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    ids, mask = encoder.tokenize(TEXTS, 32)
    assert ids.shape == mask.shape
    torch.testing.assert_close(encoder(ids, mask), together[:3], atol=1e-5, rtol=1e-5)


def test_published_layout_loads_into_the_plain_class(tmp_path, folder):
    """CXR-BERT's files: prefixed keys, prediction heads, a custom model type and code that must not be run."""
    plain = text_encoder(str(folder))
    config = json.loads((folder / "config.json").read_text())
    model = BertForMaskedLM(BertConfig(**{k: v for k, v in config.items() if k != "model_type"}))
    model.bert.load_state_dict(plain.bert.state_dict())
    other = tmp_path / "published"
    other.mkdir()
    extra = {
        "cls_projection_head.dense_to_hidden.weight": torch.zeros(2, 2),
        "bert.pooler.dense.weight": torch.zeros(2, 2),
    }
    torch.save({**model.state_dict(), **extra}, other / "pytorch_model.bin")
    custom = {"model_type": "cxr-bert", "auto_map": {"AutoModel": "evil.py--Evil"}, "projection_size": 128}
    (other / "config.json").write_text(json.dumps({**config, **custom}))
    vocabulary = sorted(plain.tokenizer.get_vocab().items(), key=lambda item: item[1])
    (other / "vocab.txt").write_text("\n".join(token for token, _ in vocabulary))
    loaded = text_encoder(str(other))
    torch.testing.assert_close(loaded.embed(TEXTS, 32), plain.embed(TEXTS, 32))


def test_missing_keys_and_files_are_errors(folder):
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    state = load_file(weights)
    state.pop("encoder.layer.0.output.dense.bias")
    save_file(state, weights)
    with pytest.raises(UserError, match=r"missing \(first: encoder.layer.0.output.dense.bias\)"):
        text_encoder(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json: cannot be read"):
        text_encoder(str(folder))
    with pytest.raises(UserError, match="download=true"):
        text_encoder("nobody/no-such-model")


def test_a_whole_model_can_be_trained(folder):
    encoder = text_encoder(str(folder), trainable_layers="all").train()
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert all(module.training for module in encoder.bert.modules())
    assert not any(module.training for module in encoder.eval().modules())


def test_pieces_agree_with_the_model_itself(folder):
    encoder = text_encoder(str(folder), trainable_layers="all").eval()
    ids, mask = encoder.tokenize(TEXTS, 32)
    report, states, attention = encoder.pieces(ids, mask)
    encoder.bert.set_attn_implementation("eager")  # the one that returns its attention
    expected = encoder.bert(input_ids=ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(report, expected.last_hidden_state[:, 0])
    torch.testing.assert_close(states, expected.last_hidden_state)
    torch.testing.assert_close(attention, expected.attentions[-1].mean(dim=1)[:, 0])
    assert states.requires_grad and not attention.requires_grad
    torch.testing.assert_close(encoder.pieces(ids, mask, 3).states, sum(expected.hidden_states[-3:]))


def test_only_the_first_layers_may_be_kept(folder):
    short, whole = text_encoder(str(folder), layers=2), text_encoder(str(folder))
    ids, mask = short.tokenize(TEXTS, 32)
    states = whole.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(short(ids, mask), states[2][:, 0])


def two_forwards(encoder, ids, mask):
    """What `two_views` saves work on."""
    return encoder(ids, mask), encoder(ids, mask)


@pytest.mark.parametrize("trainable_layers", [0, 1, 3, "all"])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1] * 2], ids=["padded", "unpadded"])
@pytest.mark.parametrize("frozen_dropout", [False, True])
def test_two_views_without_dropout_are_two_forwards_in_values_and_gradients(
    folder, trainable_layers, texts, frozen_dropout
):
    encoder = text_encoder(str(folder), trainable_layers=trainable_layers, dropout=0.0).train()
    ids, mask = encoder.tokenize(texts, 32)
    views, expected = encoder.two_views(ids, mask, frozen_dropout=frozen_dropout), two_forwards(encoder, ids, mask)
    torch.testing.assert_close(views, expected)
    weights = torch.randn(2, *views[0].shape, generator=torch.Generator().manual_seed(1))
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert all(view.requires_grad == bool(trained) for view in views)
    if trained:
        ours, plain = (
            torch.autograd.grad((weights * torch.stack(pair)).sum(), trained, allow_unused=True)
            for pair in (views, expected)
        )
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def rows_seen(encoder, *args, **kwargs):
    """How many rows the embeddings and each layer are given, and whether what they return has a gradient."""
    seen = []
    parts = [encoder.bert.embeddings, *encoder.bert.encoder.layer]
    hooks = [
        part.register_forward_hook(lambda *call: seen.append((len(call[2]), call[2].requires_grad))) for part in parts
    ]
    encoder.two_views(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return seen


def test_frozen_layers_see_the_batch_once_and_trained_ones_twice(folder):
    encoder = text_encoder(str(folder), trainable_layers=1).train()
    ids, mask = encoder.tokenize(TEXTS, 32)
    assert rows_seen(encoder, ids, mask) == [(3, False), (3, False), (3, False), (6, True)]
    assert rows_seen(encoder, ids, mask, frozen_dropout=True) == [(6, False), (6, False), (6, False), (6, True)]
    whole = text_encoder(str(folder), trainable_layers="all").train()
    assert rows_seen(whole, ids, mask) == [(6, True)] * 4


@pytest.mark.parametrize(
    ("trainable_layers", "frozen_dropout", "differ"),
    [(0, False, False), (1, False, True), ("all", False, True), (0, True, True), (1, True, True)],
)
def test_views_differ_by_dropout_in_training_alone(folder, trainable_layers, frozen_dropout, differ):
    encoder = text_encoder(str(folder), trainable_layers=trainable_layers).train()
    ids, mask = encoder.tokenize(TEXTS, 32)
    first, second = encoder.two_views(ids, mask, frozen_dropout=frozen_dropout)
    assert (first != second).any(dim=1).all() == differ
    encoder.eval()
    views = encoder.two_views(ids, mask, frozen_dropout=frozen_dropout)
    torch.testing.assert_close(views, two_forwards(encoder, ids, mask))


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_of_frozen_layers_ends_with_the_call(folder, mode):
    encoder = text_encoder(str(folder), trainable_layers=1).train(mode)
    ids, mask = encoder.tokenize(TEXTS, 32)
    modes = [module.training for module in encoder.modules()]
    assert encoder.training == mode
    encoder.two_views(ids, mask, frozen_dropout=True)
    assert [module.training for module in encoder.modules()] == modes
    with pytest.raises(IndexError):
        encoder.two_views(ids + 1000, mask, frozen_dropout=True)
    assert [module.training for module in encoder.modules()] == modes


def test_dropout_of_a_loaded_model_can_be_set(folder):
    def probabilities(**options):
        modules = text_encoder(str(folder), trainable_layers="all", **options).modules()
        return {module.p for module in modules if isinstance(module, torch.nn.Dropout)}

    assert probabilities() == {0.1}
    assert probabilities(dropout=0.3) == {0.3}
    assert probabilities(dropout=0.0) == {0.0}
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError, match=r"not in \[0, 1\)"):
            text_encoder(str(folder), dropout=wrong)


def test_decomposed_accents_are_composed_before_they_are_looked_up():
    texts = ["índice cardiotorácico en la pequeña lesión"]
    tokenizer = train_tokenizer(texts, 200)
    encoder = TextEncoder(small_bert(tokenizer, width=32, layers=1, max_length=32), tokenizer)
    decomposed = unicodedata.normalize("NFD", texts[0])
    assert decomposed != texts[0]
    ids, _ = encoder.tokenize([decomposed], 32)
    assert torch.equal(ids, encoder.tokenize(texts, 32)[0])
    assert tokenizer.unk_token_id not in ids

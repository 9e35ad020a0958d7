"""MedCLIP-Swin behind the interface: prompt layouts, token means, official checkpoints, save and load."""

import pytest
import torch
from torch import nn

from nbcore.errors import UsageError, UserError
from nbcore.models import medclip
from nbcore.models.clip import CLIP_MEAN, CLIP_STD
from nbcore.models.medclip import MEDCLIP_MEAN, MedClip, medclip_swin, small_medclip
from nbcore.models.text import train_tokenizer
from nbcore.models.vision_language import load_standin

TEXTS = ["a chest x-ray with tuberculosis", "normal", "a retina with microaneurysms and a large cotton wool spot below"]
SIDE, GRID = 56, 7


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return small_medclip(TEXTS, SIDE, hidden=8)


@pytest.fixture(scope="module")
def images():
    coarse = torch.randn(3, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=SIDE)


def prompts_of(model, seed=2):
    return torch.randn(model.prompt_shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def with_layout(model, layout):
    other = MedClip(**{**model.configuration(), "prompt_layout": layout}, tokenizer=model.tokenizer)
    other.load_state_dict(model.state_dict())
    return other


def test_interface(model):
    assert (model.image_size, model.width, model.prompt_shape, model.context_width) == (SIDE, 64, (15, 8), 64)
    assert model.prompt_bound == pytest.approx((6 / (768 + 8)) ** 0.5)
    assert model.mean == MEDCLIP_MEAN
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)


def test_logit_scale_is_clamped(model):
    scale = model.log_scale.item()
    for log, expected in ((7.0, 4.6052), (-1.0, 0.0)):
        with torch.no_grad():
            model.log_scale.fill_(log)
        assert model.logit_scale.log().item() == pytest.approx(expected)
    with torch.no_grad():
        model.log_scale.fill_(scale)


def test_frozen_and_in_eval_mode_whatever_train_says(model):
    model.train()
    assert not any(module.training for module in model.children())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.eval()


def test_plain_features_are_the_projected_mean(model, images):
    expected = model.swin(images).last_hidden_state.mean(dim=1) @ model.image_projection.weight.T
    torch.testing.assert_close(model.image_features(images), expected)


def test_border_keeps_every_patch_in_its_place(model):
    states = torch.randn(2, GRID * GRID, 8)
    prompts = torch.randn(model.prompt_shape)
    grid = model.with_prompts(states, prompts).unflatten(1, (GRID + 1, GRID + 1))
    assert grid[:, :GRID, :GRID].equal(states.unflatten(1, (GRID, GRID)))
    assert grid[1, :GRID, GRID].equal(prompts[:GRID])
    assert grid[0, GRID].equal(prompts[GRID:])


def test_official_layout_follows_the_first_patch(model):
    states, prompts = torch.randn(2, GRID * GRID, 8), torch.randn(model.prompt_shape)
    tokens = with_layout(model, "official").with_prompts(states, prompts)
    assert tokens[:, 0].equal(states[:, 0])
    assert tokens[1, 1 : 2 * GRID + 2].equal(prompts)
    assert tokens[:, 2 * GRID + 2 :].equal(states[:, 1:])


@pytest.mark.parametrize("layout", ["border", "official"])
def test_prompts_meet_the_patches(model, images, layout):
    """What a prompt adds differs from image to image: it is no constant shift of the features."""
    model = with_layout(model, layout)
    prompts = prompts_of(model)
    added = model.image_features(images, prompts) - model.image_features(images, prompts_of(model, 5))
    assert (added[0] - added[1]).norm() > 0.05 * added[0].norm() > 0
    model.image_features(images, prompts).square().sum().backward()
    assert prompts.grad.norm(dim=1).min() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_features_do_not_depend_on_the_images_before(images):
    """transformers drops the shift of a stage for good once a grid fits its window; here it is dropped at the start."""
    tokenizer = train_tokenizer(["a"], 8)
    swin = {
        "image_size": SIDE,
        "patch_size": 4,
        "window_size": 7,
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [1, 1],
    }
    bert = {"vocab_size": len(tokenizer), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    model = MedClip(swin, bert, tokenizer, width=8)
    prompts = prompts_of(model)
    before = model.image_features(images, prompts)
    model.image_features(images)
    assert model.image_features(images, prompts).equal(before)


def test_prompts_of_another_size(model, images):
    with pytest.raises(UsageError, match=r"\(14, 8\) does not fill .* 7 x 7 grid; make it \(15, 8\)"):
        model.image_features(images, torch.zeros(14, 8))
    with pytest.raises(UsageError, match="'interleaved' is unknown; choose border or official"):
        with_layout(model, "interleaved")


def test_text_is_the_mean_of_three_layers_over_its_own_pieces(model):
    ids = model.tokenize(TEXTS[:1])
    hidden = model.bert(ids, output_hidden_states=True).hidden_states
    expected = (hidden[1] + hidden[2] + hidden[-1])[0].mean(dim=0) / 3 @ model.text_projection.weight.T
    torch.testing.assert_close(model.encode_tokens(ids)[0], expected)


def test_padding_counts_only_where_asked(model):
    together, alone = model.tokenize(TEXTS), model.tokenize(TEXTS[1:2])
    torch.testing.assert_close(model.encode_tokens(together)[1:2], model.encode_tokens(alone), atol=1e-5, rtol=1e-5)
    everywhere = model.encode_tokens(together, token_mean="all")
    assert not everywhere[1:2].allclose(model.encode_tokens(alone), atol=1e-2)
    torch.testing.assert_close(model.encode_tokens(alone, token_mean="all"), model.encode_tokens(alone))


def test_a_text_does_not_depend_on_its_companions(model):
    together = model.text_features(TEXTS, batch_size=2)
    alone = torch.cat([model.text_features([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_layer_norms_are_the_image_encoders(model):
    norms = model.layer_norms()
    assert len(norms) == 1 + 2 * 3 + 1 + 1  # of the patches, three blocks, one merging, the output
    assert norms[-1] is model.swin.layernorm
    assert all(isinstance(norm, nn.LayerNorm) for norm in norms)


def test_saved_and_loaded(model, images, tmp_path):
    model = with_layout(model, "official")
    model.save(tmp_path)
    torch.manual_seed(9)
    again = load_standin(tmp_path)
    assert again.image_features(images, prompts_of(model)).equal(model.image_features(images, prompts_of(model)))
    assert again.text_features(TEXTS).equal(model.text_features(TEXTS))
    assert again.tokenizer.tokenize("Retina") == ["retina"]
    assert again.prompt_layout == "official"


def published_state(model):
    """The model's weights under the names and with the buffers of MedCLIP's own checkpoint."""
    parts = {"image_projection.": "vision_model.projection_head.", "text_projection.": "text_model.projection_head."}
    parts |= {"swin.": "vision_model.model.", "bert.": "text_model.model.", "log_scale": "logit_scale"}
    names = {"q_proj": "self.query", "k_proj": "self.key", "v_proj": "self.value", "o_proj": "output.dense"}
    names |= {"relative_position_bias.": "self.", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in (parts | (names if key.startswith("swin.") else {})).items():
            key = key.replace(ours, theirs)
        state[key] = value
    state["text_model.model.embeddings.position_ids"] = torch.arange(128)[None]
    state |= {f"text_model.model.pooler.dense.{key}": torch.zeros(64) for key in ("weight", "bias")}
    block = "vision_model.model.encoder.layers.0.blocks.0.attention.self"
    assert f"{block}.relative_position_bias_table" in state
    return {**state, f"{block}.relative_position_index": torch.zeros(25, 25)}


@pytest.fixture(scope="module")
def published(model):
    """A small model with the layout of the published one: without the stem of stand-ins."""
    torch.manual_seed(0)
    return MedClip(**{**model.configuration(), "stem": False}, tokenizer=model.tokenizer)


@pytest.fixture
def folder(published, monkeypatch, tmp_path):
    """MedCLIP's unpacked archive, with a small model in the place of the published one."""
    arguments = published.configuration()
    monkeypatch.setattr(medclip, "_SWIN_TINY", arguments["swin"])
    monkeypatch.setattr(medclip, "_CLINICAL_BERT", arguments["bert"])
    monkeypatch.setattr(medclip, "_WIDTH", arguments["width"])
    torch.save(published_state(published), tmp_path / "pytorch_model.bin")
    return tmp_path


def write_vocabulary(published, folder):
    pieces = published.tokenizer.get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.get)), encoding="utf-8")


def test_medclips_checkpoint(published, images, folder):
    write_vocabulary(published, folder)
    for source in (folder, folder / "pytorch_model.bin"):
        loaded = medclip_swin(str(source))
        assert loaded.image_features(images).equal(published.image_features(images))
        assert loaded.text_features(TEXTS).equal(published.text_features(TEXTS))
    official = medclip_swin(str(folder), prompt_layout="official", clip_pixels=True)
    assert (official.mean, official.std, official.prompt_layout) == (CLIP_MEAN, CLIP_STD, "official")


def test_tokenizer_from_elsewhere(published, folder, tmp_path_factory):
    with pytest.raises(UserError, match=r"no vocab\.txt; name a folder or hub repository of Bio_ClinicalBERT"):
        medclip_swin(str(folder))
    elsewhere = tmp_path_factory.mktemp("bert")
    write_vocabulary(published, elsewhere)
    loaded = medclip_swin(str(folder), tokenizer=str(elsewhere))
    assert loaded.text_features(TEXTS).equal(published.text_features(TEXTS))
    with (elsewhere / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.write("\nanother")
    with pytest.raises(UserError, match=r"vocab\.txt: \d+ word pieces, not the \d+ of Bio_ClinicalBERT"):
        medclip_swin(str(folder), tokenizer=str(elsewhere))


def test_keys_must_match_exactly(published, folder):
    write_vocabulary(published, folder)
    state = published_state(published)
    del state["vision_model.projection_head.weight"]
    torch.save({**state, "text_model.model.extra": torch.ones(1)}, folder / "pytorch_model.bin")
    told = r"these weights do not fit MedClip: 1 missing \(first: image_proj.*; 1 unexpected \(first: bert\.extra\)\.$"
    with pytest.raises(UserError, match=told):
        medclip_swin(str(folder))

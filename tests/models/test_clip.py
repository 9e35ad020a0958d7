"""CLIP behind the interface: visual prompts, text that ignores padding, exact loading, save and load."""

import json
from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nbcore.errors import UsageError, UserError
from nbcore.models import clip
from nbcore.models.clip import OpenClip, clip_vit_b32, insert_after_first, small_clip
from nbcore.models.vision_language import load_standin, vision_language

TEXTS = ["a photo of a lung", "normal", "a fundus photograph with many microaneurysms and one cotton wool spot"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return small_clip(32)


@pytest.fixture(scope="module")
def images(model):
    pixels = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return model.normalize(pixels)


def prompts_of(model):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(model.prompt_shape, generator=generator).requires_grad_()


def test_interface(model):
    assert (model.image_size, model.width, model.prompt_shape, model.context_width) == (32, 64, (16, 64), 64)
    assert model.prompt_bound == pytest.approx((6 / (768 + 64)) ** 0.5)
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)


def test_prompt_bound_is_the_published_one():
    vision = {"image_size": 32, "patch_size": 32, "width": 768, "layers": 1}
    text = {"width": 8, "heads": 1, "layers": 1, "context_length": 8}
    wide = OpenClip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
    assert wide.prompt_bound == 0.0625
    assert wide.prompt_shape == (50, 768)


def test_normalize_is_per_channel(model):
    black, white = model.normalize(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4))
    torch.testing.assert_close(black[:, 0, 0], -torch.tensor(model.mean) / torch.tensor(model.std))
    torch.testing.assert_close(white[:, 3, 3], (1 - torch.tensor(model.mean)) / torch.tensor(model.std))


def test_frozen_and_in_eval_mode_whatever_train_says(model):
    model.train()
    assert model.training
    assert not any(module.training for module in model.children())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.eval()


def test_plain_features_are_open_clips(model, images):
    torch.testing.assert_close(model.image_features(images), model.model.encode_image(images))
    assert not model.image_features(images).norm(dim=1).allclose(torch.ones(4))


def test_prompted_features_are_those_of_all_blocks_on_all_tokens(model, images):
    """The shortened last block, against the whole transformer; values, gradient of prompts and of the LayerNorms."""
    model.requires_grad_(True)
    visual, prompts = model.model.visual, prompts_of(model)
    states = torch.cat(
        [model.patch_states(images)[:, :1], prompts.expand(4, -1, -1), model.patch_states(images)[:, 1:]], 1
    )
    simple = visual.ln_post(visual.transformer(states))[:, 0] @ visual.proj
    ours = model.image_features(images, prompts)
    torch.testing.assert_close(ours, simple)
    trained = [prompts, *(p for norm in model.layer_norms() for p in norm.parameters())]
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3))
    for expected, got in zip(*(torch.autograd.grad((f * weight).sum(), trained) for f in (simple, ours))):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    model.freeze()


def test_prompts_stand_after_the_class_token_and_have_no_position(model, images):
    states, prompts = torch.arange(10.0).view(1, 5, 2), torch.full((3, 2), -1.0)
    inserted = insert_after_first(states.expand(2, -1, -1), prompts)
    assert inserted[:, :, 0].tolist() == [[0, -1, -1, -1, 2, 4, 6, 8]] * 2
    prompts = prompts_of(model)
    turned = model.image_features(images, prompts.flip(0))
    torch.testing.assert_close(turned, model.image_features(images, prompts))
    assert not turned.allclose(model.image_features(images), atol=1e-2)


def test_gradient_reaches_the_prompts_alone(model, images):
    prompts = prompts_of(model)
    model.image_features(images, prompts).square().sum().backward()
    assert prompts.grad.abs().min(dim=1).values.max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_text_features_are_open_clips_on_the_full_length(model):
    with torch.no_grad():
        expected = model.model.encode_text(model._tokenizer(TEXTS))
    assert model.tokenize(TEXTS).shape[1] < 20
    torch.testing.assert_close(model.encode_tokens(model.tokenize(TEXTS)), expected)


def test_a_text_does_not_depend_on_its_companions(model):
    together = model.text_features(TEXTS, batch_size=2)
    alone = torch.cat([model.text_features([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone)
    assert not together.requires_grad
    assert model.text_features([]).shape == (0, 64)


def test_pad_id_is_a_piece_too(model):
    ids = model.tokenize(["wow!", "a longer text than that"])
    assert (ids[0] == 0).any()  # padding; "!" alone would be id 0 as well
    assert model.token_mask(model.tokenize(["!"])).tolist() == [[True, True, True]]
    assert model.token_mask(ids).sum(dim=1).tolist() == [4, 7]


def test_layer_norms_from_input_to_output(model):
    visual = model.model.visual
    norms = model.layer_norms()
    assert len(norms) == 2 + 2 * 3
    assert norms[0] is visual.ln_pre
    assert norms[-1] is visual.ln_post
    assert all(isinstance(norm, nn.LayerNorm) for norm in norms)


def test_context_is_word_embeddings(model):
    context = model.context("a photo of a")
    assert context.shape == (4, 64)
    assert context[0].equal(context[3])
    assert context[1].equal(model.model.token_embedding.weight[1125])


def test_saved_and_loaded(model, images, tmp_path):
    model = deepcopy(model)
    with torch.no_grad():
        model.model.logit_scale.add_(0.5)
    model.save(tmp_path / "standin")
    torch.manual_seed(9)
    again = load_standin(tmp_path / "standin")
    assert again.image_features(images, prompts_of(model)).equal(model.image_features(images, prompts_of(model)))
    assert again.text_features(TEXTS).equal(model.text_features(TEXTS))
    assert again.logit_scale.equal(model.logit_scale)
    assert (again.mean, again.std, again.prompt_shape) == (model.mean, model.std, model.prompt_shape)
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("content", [None, "{", '{"mean": 1}', '{"kind": "resnet"}'])
def test_a_folder_without_a_model_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: .*save .*again\.$"):
        load_standin(tmp_path)


@pytest.fixture
def published(monkeypatch):
    """A small model in the place of ViT-B/32, and its state dict."""
    config = {**small_clip(16).configuration()["config"], "quick_gelu": True}
    monkeypatch.setattr(clip.open_clip, "get_model_config", lambda name: dict(config))
    torch.manual_seed(3)
    return OpenClip(config).model


def test_openai_layout(published, tmp_path):
    sizes = {key: torch.tensor(1) for key in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**published.half().state_dict(), **sizes}, tmp_path / "ViT-B-32.pt")
    model = vision_language("clip_vit_b32", str(tmp_path / "ViT-B-32.pt"))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.image_features(images), published.float().encode_image(images))
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("quick", [True, False])
def test_open_clip_layout_tells_the_activation(published, tmp_path, quick):
    save_file(published.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"timm's weights of the image encoder lie in the same folder")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": quick}}))
    model = clip_vit_b32(str(tmp_path))
    images = torch.randn(2, 3, 16, 16)
    assert model.image_features(images).allclose(published.encode_image(images), atol=1e-5) == quick


def test_keys_must_match_exactly(published, tmp_path):
    state = published.state_dict()
    for broken in ({**state, "visual.extra": torch.ones(1)}, {k: v for k, v in state.items() if k != "visual.proj"}):
        torch.save(broken, tmp_path / "weights.pt")
        with pytest.raises(UserError, match=r"weights\.pt: these weights do not fit CLIP: 1 \w+ \(first: visual"):
            clip_vit_b32(str(tmp_path / "weights.pt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no open_clip_model\.safetensors or open_clip_pytorch_model\.bin"):
        clip_vit_b32(str(tmp_path / "empty"))


def test_unknown_name_and_missing_weights():
    with pytest.raises(UsageError, match="'clip_vit_b16' is unknown; choose one of clip_vit_b32, medclip_swin"):
        vision_language("clip_vit_b16", "somewhere")
    with pytest.raises(UserError, match=r"clip_vit_b32 needs its published weights: pass .* owner/name\[@revision\]"):
        vision_language("clip_vit_b32")

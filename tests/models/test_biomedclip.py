"""BiomedCLIP behind the interface: both towers against open_clip's and timm's own, true length, published layout."""

import json

import open_clip
import pytest
import torch
from transformers import BertConfig

from nbcore.errors import UsageError, UserError
from nbcore.models.biomedclip import BiomedClip, biomedclip, small_biomedclip
from nbcore.models.clip import CLIP_MEAN, insert_after_first
from nbcore.models.text import train_tokenizer
from nbcore.models.vision_language import load_standin, vision_language

TEXTS = ["a mammogram of a malignant mass", "normal", "breast ultrasound with an oval, benign mass and clear margins"]
SIDE = 32
FULL = 128  # longest text of a stand-in


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return small_biomedclip(TEXTS, SIDE, hidden=32, layers=2).double()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def prompts_of(model):
    return torch.randn(model.prompt_shape, generator=torch.Generator().manual_seed(2)).double().requires_grad_()


def test_interface(model):
    assert (model.image_size, model.width, model.prompt_shape, model.context_width) == (SIDE, 64, (16, 32), 64)
    assert model.mean == CLIP_MEAN
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    norms = model.layer_norms()
    assert len(norms) == 2 * 2 + 1
    assert norms[-1] is model.trunk.norm


def test_plain_image_features_are_timms_own(model, images):
    """The last block runs for [CLS] alone here, and for every patch there."""
    expected = model.trunk(images) @ model.image_projection.weight.T
    torch.testing.assert_close(model.image_features(images), expected, rtol=1e-12, atol=1e-12)


def test_prompted_image_features_are_the_blocks_of_all_tokens(model, images):
    prompts = prompts_of(model)
    states = model.trunk.norm(model.trunk.blocks(insert_after_first(model.patch_states(images), prompts)))
    ours, plain = model.image_features(images, prompts), states[:, 0] @ model.image_projection.weight.T
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    (expected,), (got,) = (torch.autograd.grad(f.square().sum(), prompts) for f in (plain, ours))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert got.norm(dim=1).min() > 0


def test_text_features_are_open_clips_own(model):
    ids = model.tokenize(TEXTS)
    torch.testing.assert_close(model.encode_tokens(ids), model.text(ids), rtol=1e-12, atol=1e-12)


def test_true_length_is_exact(model):
    """Values and gradients of the word embeddings are those of texts padded to the longest that the model takes."""
    ids = model.tokenize(TEXTS)
    padded = torch.nn.functional.pad(ids, (0, FULL - ids.shape[1]), value=model.tokenizer.pad_token_id)
    features, gradients = [], []
    for pieces in (ids, padded):
        embeddings = model.word_embeddings(pieces).requires_grad_()
        features.append(model.forward_embeddings(embeddings, model.token_mask(pieces)))
        gradients.append(torch.autograd.grad(features[-1].sin().sum(), embeddings)[0][:, : ids.shape[1]])
    for true, full in (features, gradients):
        assert (true - full).norm() <= 1e-12 * full.norm()
    assert gradients[0][:, :3].norm(dim=-1).min() > 0


def test_texts_longer_than_the_model_takes_are_cut(model):
    ids = model.tokenize(["mass " * 2 * FULL])
    assert ids.shape == (1, FULL)
    assert ids[0, -1] == model.tokenizer.sep_token_id


def test_saved_and_loaded(model, images, tmp_path):
    model.save(tmp_path)
    torch.manual_seed(9)
    again = load_standin(tmp_path).double()
    assert again.image_features(images, prompts_of(model)).equal(model.image_features(images, prompts_of(model)))
    assert again.text_features(TEXTS).equal(model.text_features(TEXTS))
    assert again.tokenizer.tokenize("Mass") == ["mass"]


def test_another_image_encoder(model):
    arguments = model.configuration()
    for name in ("test_resnet", "test_vit2"):  # the second one averages its patches
        with pytest.raises(UsageError, match=f"{name} is no vision transformer that answers by its one class token"):
            BiomedClip(**{**arguments, "vision": {"model_name": name}}, tokenizer=model.tokenizer)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small model that open_clip itself builds, and its folder in the layout of BiomedCLIP's hub repository."""
    folder = tmp_path_factory.mktemp("published")
    pieces = train_tokenizer(TEXTS, 200).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.get)), encoding="utf-8")
    bert = BertConfig(
        vocab_size=len(pieces), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    bert.save_pretrained(folder)
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp"}
    text |= {"hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    theirs = open_clip.CustomTextCLIP(24, vision, {**text, "hf_model_pretrained": False}, init_logit_scale=4.4).eval()
    position_ids = {"text.transformer.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({**theirs.state_dict(), **position_ids}, folder / "open_clip_pytorch_model.bin")
    pixels = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    content = json.dumps({"model_cfg": config, "preprocess_cfg": pixels})
    (folder / "open_clip_config.json").write_text(content, encoding="utf-8")
    return theirs, folder


def test_published_layout(published):
    theirs, folder = published
    model = vision_language("biomedclip", str(folder))
    images = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(model.image_features(images), theirs.encode_image(images))
    ids = model.tokenize(TEXTS)
    torch.testing.assert_close(model.text_features(TEXTS), theirs.encode_text(ids))
    assert model.tokenizer.convert_ids_to_tokens(model.tokenize(["A Mass"])[0]) == ["[CLS]", "a", "mass", "[SEP]"]
    assert model.tokenize(["mass " * 400]).shape == (1, 256)
    assert (model.mean, model.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert model.logit_scale.log().item() == pytest.approx(4.4)


def changed(folder, tmp_path, name, content):
    """A copy of the published folder with another file, or without one."""
    for path in folder.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    return str(tmp_path)


def test_keys_must_match_exactly(published, tmp_path):
    folder = changed(published[1], tmp_path, "open_clip_pytorch_model.bin", None)
    state = published[0].state_dict()
    del state["visual.head.proj.weight"]
    torch.save({**state, "logit_bias": torch.ones(1)}, tmp_path / "open_clip_pytorch_model.bin")
    told = r"do not fit BiomedClip: 1 missing \(first: image_proj.*; 1 unexpected \(first: logit_bias\)\.$"
    with pytest.raises(UserError, match=told):
        biomedclip(folder)


def configuration(**changes):
    config = {"embed_dim": 24, "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}}
    config["text_cfg"] = {"hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "mlp", "context_length": 8}
    for part, keys in changes.items():
        config[part] |= keys
    return json.dumps({"model_cfg": config})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("open_clip_config.json", None, r"config\.json: not open_clip's configuration of BiomedCLIP; fetch it again"),
        ("open_clip_config.json", '{"model_cfg": {}}', "not open_clip's configuration of BiomedCLIP"),
        (
            "open_clip_config.json",
            configuration(text_cfg={"hf_pooler_type": "mean_pooler"}),
            r"text_cfg\.hf_pooler_type is 'mean_pooler', not BiomedCLIP's 'cls_last_hidden_state_pooler'",
        ),
        (
            "open_clip_config.json",
            configuration(vision_cfg={"timm_model_name": "vit_gigantic"}),
            "timm knows no model 'vit_gigantic'",
        ),
        ("vocab.txt", None, r"no vocab\.txt; put that of BiomedCLIP's hub repository there"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]", r"vocab\.txt: 5 word pieces, not the \d+ of the model"),
        ("config.json", '{"model_type": "clip"}', r"word pieces, not the 30522 of the model"),
        ("config.json", "{", r"config\.json: not readable as JSON"),
    ],
)
def test_what_is_wrong_with_a_folder(published, tmp_path, name, content, told):
    with pytest.raises(UserError, match=told):
        biomedclip(changed(published[1], tmp_path, name, content))


def test_weights_nobody_has():
    with pytest.raises(UserError, match=r"nobody/nothing: the weights are not in the local hub cache"):
        biomedclip("nobody/nothing")

"""M-FLAG's method: variants, losses, what is trained and what is not."""

import pytest
import torch
from pydantic import ValidationError

from nbcore.errors import UsageError
from nbcore.losses.mflag import alignment_loss, orthogonality_loss
from nbcore.methods.mflag import VARIANTS, Config, MFlag, paper_size_parameters
from nbcore.models.text import TextEncoder, small_bert, train_tokenizer
from nbcore.models.vision import vision_encoder

SMALL = {"vision": "tiny_resnet", "projector_hidden": 32, "projector_width": 16, "image_size": 32}
TEXTS = ["small left effusion", "no effusion", "heart is enlarged", "normal heart"]


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"image": torch.randn(4, 1, 32, 32, generator=generator), "text": torch.randn(4, 24, generator=generator)}


def method(text: TextEncoder | None = None, **changes) -> MFlag:
    config = Config(**{**SMALL, **changes})
    torch.manual_seed(0)
    return MFlag(config, vision_encoder("tiny_resnet"), 24 if text is None else text.width, text)


def text_encoder(trainable_layers: int = 0) -> TextEncoder:
    torch.manual_seed(1)
    tokenizer = train_tokenizer(TEXTS, 100)
    return TextEncoder(small_bert(tokenizer, width=32, layers=2, max_length=16), tokenizer, trainable_layers)


def token_batch(text: TextEncoder) -> dict[str, torch.Tensor]:
    ids, mask = text.tokenize(TEXTS, 16)
    return {"image": batch()["image"], "ids": ids, "mask": mask}


def test_total_is_the_sum_of_equation_1():
    model = method()
    losses = model.losses(batch())
    assert losses.keys() == {"align", "orth", "total"}
    z_v = model.vision.global_features(batch()["image"])
    torch.testing.assert_close(losses["orth"], orthogonality_loss(z_v))
    expected = alignment_loss(model.image_projector(z_v), model.text_head(batch()["text"]))
    torch.testing.assert_close(losses["align"], expected)
    torch.testing.assert_close(losses["total"], losses["align"] + losses["orth"])


@pytest.mark.parametrize(("changes", "left"), [({"orth_weight": 0.0}, "align"), ({"align_weight": 0.0}, "orth")])
def test_ablations_of_table_4_train_on_one_loss(changes, left):
    losses = method(**changes).losses(batch())
    assert losses.keys() == {left, "total"}
    assert losses["total"] == losses[left]


def test_paper_variant_has_a_linear_projector_and_no_text_head():
    config = Config(**{**SMALL, "variant": "paper"})
    model = MFlag(config, vision_encoder("tiny_resnet"), 24)
    assert model.image_projector.weight.shape == (24, 128)
    assert isinstance(model.text_head, torch.nn.Identity)
    losses = model.losses(batch())
    z_v = model.vision.global_features(batch()["image"])
    torch.testing.assert_close(losses["orth"], orthogonality_loss(z_v, "column", off_diagonal=1, half=False))


def test_official_variant_weighs_alignment_twice_and_keeps_dropout():
    text = text_encoder()
    model = method(text, variant="official")
    assert not model.config.caches_text
    model.train()
    first, second = (model._report_embeddings(token_batch(text)) for _ in range(2))
    assert not torch.equal(first, second)
    assert not first.requires_grad
    model.eval()
    first, second = (model._report_embeddings(token_batch(text)) for _ in range(2))
    assert torch.equal(first, second)
    assert Config(variant="official").align_weight == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_given_by_the_user_wins_over_the_variant(variant):
    assert Config(variant=variant, align_weight=0.5, optimizer="adamw").align_weight == 0.5


def test_variants_name_real_fields():
    for changes in VARIANTS.values():
        assert changes.keys() <= Config.model_fields.keys()


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ValidationError):
        Config(epoch=3)


@pytest.mark.parametrize("layers", [1, 2])
def test_unfrozen_layers_are_trained_and_frozen_ones_are_not(layers):
    text = text_encoder(trainable_layers=layers)
    model = method(text, unfreeze_layers=layers).train()
    model.losses(token_batch(text))["total"].backward()
    touched = {
        name.split(".layer.")[1][0] for name, p in text.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert touched == {str(i) for i in range(2 - layers, 2)}


def test_frozen_embeddings_given_or_computed_give_one_loss():
    text = text_encoder()
    given = {"image": batch()["image"], "text": text.embed(TEXTS, 16)}
    without = method(text)
    with_cache = MFlag(without.config, without.vision, text.width)
    with_cache.load_state_dict({k: v for k, v in without.state_dict().items() if not k.startswith("text.")})
    cached = with_cache.eval().losses(given)["total"]
    direct = without.eval().losses(token_batch(text))["total"]
    torch.testing.assert_close(cached, direct, atol=1e-5, rtol=1e-5)


def test_half_precision_does_not_reach_the_losses():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method().losses(batch())
    assert losses["total"].dtype == torch.float32


def test_embeddings_are_unit_vectors_between_which_the_alignment_lies():
    text = text_encoder()
    model = method(text, text_head="mlp").eval()
    image, report = model.embed(token_batch(text))
    for points in (image, report):
        torch.testing.assert_close(points.norm(dim=1), torch.ones(4))
    expected = (2 - 2 * (image * report).sum(dim=1)).mean()
    torch.testing.assert_close(model.losses(token_batch(text))["align"], expected)


def test_texts_cannot_be_embedded_without_a_language_model():
    with pytest.raises(UsageError, match="no language model"):
        method().embed_texts(torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.int64))


def test_published_model_size():
    encoder, image_projector, text_projector, layer = 23_508_032, 6_298_624, 3_677_184, 7_087_872
    assert paper_size_parameters("official") == encoder + image_projector + text_projector == 33_483_840
    assert paper_size_parameters("paper") == encoder + 2048 * 768 + 768
    assert paper_size_parameters(unfrozen=3) == paper_size_parameters() + 3 * layer
    assert paper_size_parameters(unfrozen=None) > paper_size_parameters(unfrozen=12)


def test_recommended_target_is_standardised_and_not_trained():
    model = method().train()
    target = model.text_head(batch()["text"] * 5 + 3)  # (B, D)
    torch.testing.assert_close(target.mean(dim=0), torch.zeros(24), atol=1e-5, rtol=0)
    torch.testing.assert_close(target.square().mean(dim=0), torch.ones(24), atol=1e-3, rtol=0)
    assert list(model.text_head.parameters()) == []

"""MGCA's method: Table 4's rows, variants, prototypes, tokens and their weights."""

import pytest
import torch
import torch.nn.functional as F
from pair_batches import REPORTS, image_encoder, pair_batch, text_encoder

from nbcore.losses.mgca import instance_alignment, prototype_alignment
from nbcore.methods.mgca import Config, Mgca

SMALL = {"projector_hidden": 32, "projector_width": 16, "prototypes": 6, "upsample": None, "image_size": 32}


def method(vision: str = "tiny_resnet", **changes) -> Mgca:
    config = Config(**{**SMALL, **changes})
    text = text_encoder()
    encoder = image_encoder(vision, **config.encoder_options)
    torch.manual_seed(0)
    return Mgca(config, encoder, text.width, text)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, {"ita", "cta", "cpa"}),
        ({"token_weight": 0.0, "prototype_weight": 0.0}, {"ita"}),
        ({"prototype_weight": 0.0}, {"ita", "cta"}),
        ({"token_weight": 0.0}, {"ita", "cpa"}),
    ],
)
def test_the_rows_of_table_4_are_sums_of_their_losses(changes, left):
    model = method(**changes)
    losses = model.losses(pair_batch(model.text))
    assert losses.keys() == left | {"total"}
    torch.testing.assert_close(losses["total"], sum(losses[name] for name in left))
    assert losses["total"].isfinite()


def test_global_losses_see_the_projected_global_features():
    model = method(instance_weight=2.0)
    batch = pair_batch(model.text)
    losses = model.losses(batch)
    image = model.image_projector(model.vision.global_features(batch["image"]))
    report = model.report_projector(model.text(batch["ids"], batch["mask"]))
    torch.testing.assert_close(losses["ita"], 2 * instance_alignment(image, report, 0.07))
    torch.testing.assert_close(losses["cpa"], 0.5 * prototype_alignment(image, report, model.prototypes))


@pytest.mark.parametrize("vision", ["tiny_resnet", "tiny_vit"])
def test_everything_learns(vision):
    model = method(vision)
    for parameter in model.parameters():  # timm starts the last BatchNorm of a residual branch, and others, at 0
        torch.nn.init.normal_(parameter, std=0.1)
    model.losses(pair_batch(model.text))["total"].backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # the pieces that no report has, and keys' biases, which a softmax cancels
    assert [name for name in silent if "token_type" not in name and "key.bias" not in name] == []


def test_prototypes_are_frozen_in_the_first_epoch_only():
    model = method()
    for epoch, learns in ((0, False), (1, True)):
        model.begin_epoch(epoch)
        model.zero_grad()
        model.losses(pair_batch(model.text))["total"].backward()
        assert (model.prototypes.grad is not None) == learns


def test_padding_changes_nothing():
    model = method().eval()
    batch = pair_batch(model.text)
    padded = {**batch, "ids": F.pad(batch["ids"], (0, 5)), "mask": F.pad(batch["mask"], (0, 5))}
    torch.testing.assert_close(model.losses(batch), model.losses(padded))
    scrambled = batch["ids"].where(batch["mask"] > 0, 7)
    torch.testing.assert_close(model.losses(batch), model.losses({**batch, "ids": scrambled}))


def test_token_weights_sum_to_one_and_leave_padding_out():
    for vision in ("tiny_resnet", "tiny_vit"):
        model = method(vision)
        aligned = model.align(pair_batch(model.text))
        for weights in (aligned.region_weights, aligned.word_weights):
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
            assert not weights.requires_grad
        assert (aligned.word_weights[~aligned.mask] == 0).all()
        assert (aligned.region_weights.std() == 0) == (vision == "tiny_resnet")


def test_words_are_counted_as_their_maps_are():
    model = method().eval()
    maps = model.word_maps(pair_batch(model.text))  # (B, W, S)
    aligned = model.align(pair_batch(model.text))
    for report, mask in zip(REPORTS, aligned.mask):
        assert model.words_of(report) == [*report.split(), "[SEP]"]
        assert int(mask.sum()) == len(model.words_of(report))
    assert maps.shape == (4, aligned.mask.shape[1], aligned.regions.shape[1])
    torch.testing.assert_close(maps.sum(dim=2), torch.ones(maps.shape[:2]))


def test_paper_variant_has_learned_attention_and_the_printed_temperatures():
    config = Config(variant="paper")
    assert (config.instance_temperature, config.token_temperature, config.prototype_weight) == (0.1, 0.07, 1.0)
    model = method(variant="paper")
    model.losses(pair_batch(model.text))["total"].backward()
    assert model.word_attention.attention.in_proj_weight.grad.abs().sum() > 0
    assert model.word_maps(pair_batch(model.text)).shape[0] == 4


def test_official_losses_are_twice_ours_where_no_bug_intervenes():
    """The sums of the code with weights 1, 1, 1 are twice the means with 1, 1, 1/2 (no padding, ResNet branch)."""
    ours, theirs = method(), method(variant="official", mask_pads=True, official_shift=False)
    theirs.load_state_dict(ours.state_dict())
    batch = pair_batch(ours.text)
    torch.testing.assert_close(theirs.losses(batch)["total"], 2 * ours.losses(batch)["total"])


def test_embeddings_are_unit_vectors_and_assignments_prototypes():
    model = method().eval()
    batch = pair_batch(model.text)
    image, report = model.embed(batch)
    aligned = model.align(batch)
    torch.testing.assert_close(image, F.normalize(aligned.image, dim=1))
    torch.testing.assert_close(report, F.normalize(aligned.report, dim=1))
    with torch.no_grad():
        model.prototypes[3] = 5 * image[1]
    assert model.assignments(image)[1] == 3


def test_a_user_may_change_one_switch_of_a_variant():
    assert Config(variant="official", mask_pads=True).mask_pads
    assert not Config(variant="official").mask_pads

"""Med-UniC's method: the terms of its objective, what each trains, views, variants."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from pair_batches import image_encoder, pair_batch, text_encoder
from pydantic import ValidationError

from nbcore.data.batches import prepare
from nbcore.losses.contrastive import info_nce
from nbcore.losses.med_unic import self_supervised_alignment, text_feature_alignment, text_text_alignment
from nbcore.methods.cross_lingual import CrossLingualConfig
from nbcore.methods.med_unic import VARIANTS, Config, MedUnic

SMALL = {"projector_hidden": 32, "projector_width": 16, "ctr_width": 24, "image_size": 32, "trained_layers": 1}


def method(vision: str = "tiny_resnet", dropout: float = 0.0, **changes) -> MedUnic:
    config = Config(**{**SMALL, **changes})
    text = text_encoder(config.trained_layers, dropout)
    torch.manual_seed(0)
    return MedUnic(config, image_encoder(vision), text.width, text)


def batch_for(model: MedUnic) -> dict[str, torch.Tensor]:
    second = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return {**pair_batch(model.text), "second": second}


@contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What a module is given, call by call."""
    given: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
    yield given
    hook.remove()


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, {"cvl", "ssv", "tf", "tt"}),
        ({"ssv_weight": 0, "tf_weight": 0, "tt_weight": 0}, {"cvl"}),
        ({"tf_weight": 0, "tt_weight": 0}, {"cvl", "ssv"}),
        ({"tf_weight": 0}, {"cvl", "ssv", "tt"}),
        ({"tt_weight": 0}, {"cvl", "ssv", "tf"}),
    ],
)
def test_the_rows_of_tables_4_and_12_are_sums_of_their_losses(changes, left):
    model = method(**changes)
    batch = batch_for(model)
    if "ssv" not in left:
        del batch["second"]
    losses = model.losses(batch)
    assert losses.keys() == left | {"total"}
    torch.testing.assert_close(losses["total"], sum(losses[name] for name in left))
    assert losses["total"].isfinite()
    heads = {name.partition(".")[0] for name, _ in model.named_parameters()} - {"vision", "text"}
    expected = {"image_projector", "report_projector"} | ({"ctr_projector"} if left & {"tf", "tt"} else set())
    assert heads == expected


def test_each_loss_is_its_equation_on_its_own_projections():
    model = method(ssv_weight=2.0, tf_weight=3.0, tt_weight=5.0, temperature=0.2, visual_temperature=0.3)
    batch = batch_for(model)
    losses = model.losses(batch)
    first, second = (model.image_projector(model.vision.global_features(batch[name])) for name in ("image", "second"))
    state = model.report_states(batch["ids"], batch["mask"])
    report, view = model.report_projector(state), model.ctr_projector(state)  # without dropout the views are one
    torch.testing.assert_close(losses["cvl"], info_nce(first, report, 0.2))
    torch.testing.assert_close(losses["ssv"], 2 * info_nce(first, second, 0.3))
    torch.testing.assert_close(losses["tf"], 3 * text_feature_alignment(view, view))
    torch.testing.assert_close(losses["tt"], 5 * text_text_alignment(view, view))


@pytest.mark.parametrize(
    ("changes", "concerned"),
    [
        ({"symmetric_ssv": False}, {"ssv"}),
        ({"squared": False}, {"tf", "tt"}),
        ({"standardize": "batch"}, {"tt"}),
        ({"off_diagonal": 0.5}, {"tf", "tt"}),
        ({"temperature": 0.5}, {"cvl"}),
        ({"visual_temperature": 0.5}, {"ssv"}),
    ],
)
def test_a_switch_changes_its_own_losses_alone(changes, concerned):
    ours, theirs = method(), method(**changes)
    theirs.load_state_dict(ours.state_dict())
    one, other = ours.losses(batch_for(ours)), theirs.losses(batch_for(theirs))
    changed = {name for name in one if name != "total" and not torch.isclose(one[name], other[name])}
    assert changed == concerned


def test_one_directional_ssv_looks_for_the_second_view_of_the_first():
    model = method(symmetric_ssv=False)
    batch = batch_for(model)
    first, second = (model.image_projector(model.vision.global_features(batch[name])) for name in ("image", "second"))
    expected = self_supervised_alignment(first, second, 0.07, symmetric=False)
    torch.testing.assert_close(model.losses(batch)["ssv"], expected)


def test_reports_have_two_views_where_dropout_draws_them():
    model = method(dropout=0.5)
    with inputs_of(model.ctr_projector) as given, inputs_of(model.report_projector) as aligned:
        model.losses(batch_for(model))
        first, second = given
        assert not torch.equal(first, second)
        torch.testing.assert_close(aligned[0], first)
        model.eval()
        model.losses(batch_for(model))
    torch.testing.assert_close(given[2], given[3])


@pytest.mark.parametrize(("changes", "varies"), [({}, False), ({"frozen_dropout": True}, True)])
@pytest.mark.parametrize("ctr", [0.0, 1.0])
def test_frozen_layers_drop_out_on_request_alone(changes, varies, ctr):
    model = method(dropout=0.5, tf_weight=ctr, tt_weight=ctr, **changes)
    with inputs_of(model.text.bert.encoder.layer[1]) as entering_the_trained_layer:
        model.losses(batch_for(model))
        model.losses(batch_for(model))
        model.eval()
        model.losses(batch_for(model))
        model.losses(batch_for(model))
    first, second, *still = entering_the_trained_layer
    assert torch.allclose(first, second) != varies
    torch.testing.assert_close(*still)


def test_without_ctr_every_report_is_encoded_once():
    for changes, rows in (({}, 8), ({"tf_weight": 0, "tt_weight": 0}, 4)):
        model = method(**changes)
        with inputs_of(model.text.bert.encoder.layer[1]) as given:
            model.losses(batch_for(model))
        assert [len(states) for states in given] == [rows]


@pytest.mark.parametrize("name", ["image_projector", "ctr_projector"])
def test_each_view_has_its_own_batch_statistics(name):
    """The standardised output of a projector has mean 0 for either view, not for the two together."""
    model = method(dropout=0.5)
    seen = []
    hook = getattr(model, name).register_forward_hook(lambda _, inputs, output: seen.append(output.detach()))
    batch = batch_for(model)
    model.losses({**batch, "second": 3 * batch["second"] + 2})
    hook.remove()
    assert [tuple(view.shape) for view in seen] == [(4, seen[0].shape[1])] * 2
    for view in seen:
        torch.testing.assert_close(view.mean(dim=0), torch.zeros(view.shape[1]), atol=1e-5, rtol=0)


def test_the_backbone_sees_the_views_one_after_the_other():
    model = method()
    with inputs_of(model.vision.backbone.conv1) as given:
        model.losses(batch_for(model))
    assert [len(images) for images in given] == [4, 4]


@pytest.mark.parametrize(("trained", "layers"), [(0, set()), (1, {"1"}), (2, {"0", "1"}), ("all", {"0", "1"})])
def test_gradients_reach_what_is_to_be_trained_and_nothing_else(trained, layers):
    model = method(trained_layers=trained, frozen_dropout=trained == 0)
    for parameter in model.parameters():  # timm starts the last BatchNorm of a residual branch at 0
        torch.nn.init.normal_(parameter, std=0.1)
    model.losses(batch_for(model))["total"].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    text = {name for name in moved if name.startswith("text.")}
    assert {name.split(".layer.")[1][0] for name in text if ".layer." in name} == layers
    assert any("word_embeddings" in name for name in text) == (trained == "all")
    others = {name for name, _ in model.named_parameters() if not name.startswith("text.")}
    biases_before_batchnorm = {f"{head}_projector.{i}.bias" for head in ("image", "report", "ctr") for i in (0, 3)}
    assert others - moved <= biases_before_batchnorm


def test_a_term_of_weight_0_moves_nothing():
    """SSV off: the second view's pictures are not looked at; CTR off: P_d does not exist."""
    model = method(ssv_weight=0, tf_weight=0, tt_weight=0)
    with inputs_of(model.image_projector) as given:
        model.losses(batch_for(model))
    assert len(given) == 1
    assert not hasattr(model, "ctr_projector")


def test_both_views_come_from_the_stored_picture():
    model = method(max_length=24)
    stored = torch.randint(0, 256, (4, 40, 40), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    views = model.augment({"image": stored, "ids": torch.zeros(4, 5)}, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(views["image"], prepare(stored, 32, "crop", generator))
    assert torch.equal(views["second"], prepare(stored, 32, "med_unic", generator))
    assert views["ids"].shape == (4, 5)
    alone = method(ssv_weight=0).augment({"image": stored}, torch.Generator().manual_seed(0))
    assert alone.keys() == {"image"}
    assert torch.equal(alone["image"], views["image"])


@pytest.mark.parametrize("vision", ["tiny_resnet", "tiny_vit"])
def test_it_overfits_a_batch(vision):
    model = method(vision, temperature=0.2, visual_temperature=0.2)
    batch = batch_for(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(20):
        optimizer.zero_grad()
        losses = model.losses(batch)
        losses["total"].backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["total"] < 0.2 * history[0]["total"]
    assert history[-1]["cvl"] < 0.1 and history[-1]["ssv"] < 0.1


def test_embeddings_are_unit_vectors_of_the_aligned_space():
    model = method().eval()
    batch = batch_for(model)
    image, report = model.embed(batch)
    assert image.shape == report.shape == (4, 16)
    for points in (image, report):
        torch.testing.assert_close(points.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.losses(batch)["cvl"], info_nce(image, report, 0.07))
    padded = F.pad(batch["ids"], (0, 5), value=7), F.pad(batch["mask"], (0, 5))
    torch.testing.assert_close(model.embed_texts(*padded), report)
    states = model.report_states(*padded)
    torch.testing.assert_close(states, model.text(batch["ids"], batch["mask"]))


def test_half_precision_does_not_reach_the_losses():
    model = method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(batch_for(model))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_variants_have_the_printed_and_the_released_values():
    ours, paper, official = (Config(variant=variant) for variant in VARIANTS)
    assert (ours.squared, ours.symmetric_ssv, ours.standardize, ours.ctr_width) == (True, True, "features", 1024)
    assert ours.epochs == 50 and ours.batch_size * ours.accumulate * ours.processes == 128 * 16 * 2
    assert (paper.squared, paper.symmetric_ssv, paper.second_augmentation) == (False, False, "med_unic_paper")
    assert (official.tf_weight, official.tt_weight, official.standardize) == (1 / 4, 1 / 200, "batch")
    assert (official.frozen_dropout, official.ctr_width, official.mlm_ranking) == (True, 512, "document_frequency")
    assert official.batch_size * official.accumulate == 128
    assert official.restart_fraction * official.epochs == pytest.approx(5)
    for config in (ours, paper, official):
        assert config.mlm_batch_size * config.mlm_accumulate * config.mlm_processes == 1024
        assert config.text_options == {"trainable_layers": 3, "dropout": 0.1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_given_by_the_user_wins_over_the_variant(variant):
    config = Config(variant=variant, squared=True, ctr_width=7)
    assert (config.squared, config.ctr_width) == (True, 7)


def test_the_language_stage_is_table_8_unless_the_user_says_otherwise():
    assert Config().language_stage == CrossLingualConfig(max_length=256)
    assert Config(mlm=False).language_stage is None
    assert Config().language_stage.processes == 8
    changed = Config(new_words=9, mlm_epochs=2, mlm_learning_rate=0.5, mlm_rate=0.3, precision="no", threads=1)
    assert Config(mlm_processes=2).language_stage.processes == 2
    stage = changed.language_stage
    assert (stage.new_words, stage.epochs, stage.learning_rate, stage.mask_rate) == (9, 2, 0.5, 0.3)
    assert (stage.precision, stage.threads) == ("no", 1)
    assert Config(languages=["en"]).reads == ["en"]


def test_official_losses_are_a_quarter_and_a_two_hundredth():
    ours, theirs = method(standardize="batch"), method(variant="official")
    theirs.load_state_dict(ours.state_dict())
    one, other = ours.losses(batch_for(ours)), theirs.losses(batch_for(theirs))
    torch.testing.assert_close(other["tf"], one["tf"] / 4)
    torch.testing.assert_close(other["tt"], one["tt"] / 200)
    torch.testing.assert_close(other["cvl"], one["cvl"])


@pytest.mark.parametrize("changes", [{"languages": []}, {"languages": ["fr"]}, {"ssv_wieght": 0}, {"dropout": 1.0}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValidationError):
        Config(**changes)


def test_every_field_names_its_source():
    silent = [
        name for name in Config.__annotations__ if name != "VARIANTS" and not Config.model_fields[name].description
    ]
    assert silent == []

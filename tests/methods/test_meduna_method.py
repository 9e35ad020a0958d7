"""MedUnA's method: variants, what enters each loss, where the gradients go, and what is saved."""

import pytest
import torch
import torch.nn.functional as F
from adapted import CLASSES, WIDTH, backbone, batch, snapshot, stage_1, step
from pydantic import ValidationError

from nbcore.errors import UsageError
from nbcore.losses.meduna import confident_entropy, consistency, self_entropy, supervised_alignment
from nbcore.methods.meduna import VARIANTS, Aligned, Config, MedUnA
from nbcore.methods.text_classifier import TextClassifierConfig
from nbcore.train import fit


def method(seed: int = 0, **changes) -> MedUnA:
    return MedUnA(backbone(), stage_1(), Config(**changes), torch.Generator().manual_seed(seed))


def expected_logits(model: MedUnA, images: torch.Tensor) -> torch.Tensor:
    return backbone().image_features(images, model.prompts) @ model.adapter.T


def weak_features(images: torch.Tensor) -> torch.Tensor:
    return F.normalize(backbone().image_features(images), dim=1)


def test_recommended_is_equations_2_and_3():
    model, images = method(), batch()
    losses = model.losses(images)
    assert losses.keys() == {"consistency", "entropy", "weak", "total"}
    strong = expected_logits(model, images["image"])
    weak = weak_features(images["weak_image"]) @ model.weak_adapter.T
    torch.testing.assert_close(losses["consistency"], consistency(weak, strong))
    torch.testing.assert_close(losses["entropy"], self_entropy(strong))
    torch.testing.assert_close(losses["weak"], losses["consistency"])
    torch.testing.assert_close(losses["total"], losses["consistency"] + losses["entropy"] + losses["weak"])


def test_official_is_the_official_codes_loss():
    model, images = method(variant="official"), batch(20)
    losses = model.losses(images)
    assert losses.keys() == {"consistency", "entropy", "total"}
    strong = expected_logits(model, images["image"])
    labels = model.pseudo_labels(weak_features(images["weak_image"]))
    torch.testing.assert_close(losses["consistency"], 0.7 * F.cross_entropy(strong, labels, label_smoothing=0.1))
    torch.testing.assert_close(losses["entropy"], 1.5 * confident_entropy(strong))


def test_variants_name_real_fields_and_choose_values_only():
    for name, changes in VARIANTS.items():
        assert changes.keys() <= Config.model_fields.keys()
        plain = Config(**changes).model_dump(exclude={"variant"})
        assert Config(variant=name).model_dump(exclude={"variant"}) == plain


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_given_by_the_user_wins_over_the_variant(variant):
    assert Config(variant=variant, entropy_weight=0.5, epochs=3).model_dump(include={"entropy_weight", "epochs"}) == {
        "entropy_weight": 0.5,
        "epochs": 3,
    }


def test_stage_1_is_told_by_the_same_configuration():
    assert Config().text_stage == TextClassifierConfig()
    assert Config(variant="paper").text_stage == TextClassifierConfig(noise=0, smoothing=0)
    assert Config(text_iterations=7, text_learning_rate=0.5).text_stage.model_dump(
        include={"iterations", "learning_rate"}
    ) == {"iterations": 7, "learning_rate": 0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "hard"}, "no gradient for the weak adapter"),
        ({"consistency_weight": 0.0, "entropy_weight": 0.0}, "nothing trains the prompt"),
        ({"lambda": 1.0}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Config(**changes)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"entropy_weight": 0.0}, {"consistency", "weak", "total"}),
        ({"consistency_weight": 0.0}, {"entropy", "weak", "total"}),
    ],
)
def test_a_loss_of_weight_0_is_left_out(changes, left):
    assert method(**changes).losses(batch()).keys() == left


def test_each_equation_moves_its_own_branch():
    model = method()
    own = {"consistency": {"prompts", "adapter"}, "entropy": {"prompts", "adapter"}, "weak": {"weak_adapter"}}
    for loss, expected in own.items():
        model.zero_grad()
        model.losses(batch())[loss].backward()
        moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == expected


def test_official_weak_adapter_is_frozen():
    model = method(variant="official")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"prompts", "adapter"}
    before = model.weak_adapter.clone()
    step(model, model.losses(batch())["total"])
    assert torch.equal(model.weak_adapter, before)
    assert not torch.equal(model.adapter, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_of_the_weak_view_may_be_computed_once(variant):
    model, images = method(variant=variant), batch(12)
    expected = model.losses(images)
    features = model.plain_features(images["weak_image"])
    torch.testing.assert_close(model.losses({"image": images["image"], "weak": features}), expected)
    if not model.config.train_weak:
        fixed = {"image": images["image"], "weak_logits": model.weak_logits(features)}
        torch.testing.assert_close(model.losses(fixed), expected)


def test_a_batch_without_a_weak_view_or_with_stale_logits_is_an_error():
    images = {"image": batch()["image"]}
    with pytest.raises(UsageError, match="weak_image, weak and weak_logits"):
        method().losses(images)
    with pytest.raises(UsageError, match="train_weak is on"):
        method().losses({**images, "weak_logits": torch.zeros(5, CLASSES)})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_single_image_trains(variant):
    model = method(variant=variant)
    losses = model.losses(batch(1))
    losses["total"].backward()
    assert all(loss.isfinite() and loss.shape == () for loss in losses.values())
    assert model.prompts.grad.isfinite().all() and model.prompts.grad.any()


def test_order_of_the_images_does_not_matter():
    model, images, order = method(), batch(6), torch.randperm(6)
    shuffled = {key: value[order] for key, value in images.items()}
    torch.testing.assert_close(model.losses(shuffled), model.losses(images))


def test_prompt_starts_uniform_within_the_bound_and_by_the_seed():
    prompts = method(prompt_tokens=200).prompts.detach()
    bound = backbone().prompt_bound
    assert prompts.shape == (200, backbone().prompt_shape[1])
    assert prompts.abs().max() <= bound
    assert prompts.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert method().prompts.shape == backbone().prompt_shape
    assert torch.equal(method().prompts, method().prompts)
    assert not torch.equal(method().prompts, method(seed=1).prompts)


def test_the_start_is_stage_1_in_both_adapters_and_not_shared():
    weight = stage_1()
    model = MedUnA(backbone(), weight, Config(), torch.Generator())
    assert torch.equal(model.adapter, weight) and torch.equal(model.weak_adapter, weight)
    step(model, model.losses(batch())["total"])
    assert torch.equal(weight, stage_1())
    assert not torch.equal(model.adapter, model.weak_adapter)


def test_scores_features_and_labels():
    model, images = method(), batch(4)["image"]
    features = model.features(images)
    assert features.shape == (4, WIDTH)
    assert not torch.allclose(features.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.logits(images), features @ model.adapter.T)
    plain = model.plain_features(images)
    torch.testing.assert_close(plain, weak_features(images))
    assert torch.equal(model.pseudo_labels(plain), (plain @ model.weak_adapter.T).argmax(dim=1))


def test_only_what_is_learnt_is_saved_and_the_backbone_stays_as_it_was():
    model = method().train()
    before = snapshot(backbone())
    for _ in range(3):
        step(model, model.losses(batch())["total"])
    assert model.state_dict().keys() == {"prompts", "adapter", "weak_adapter"}
    assert {name for name, _ in model.named_parameters()} == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in backbone().state_dict().items())
    assert all(p.grad is None for p in backbone().parameters())
    assert not any(module.training for module in backbone().modules())
    loaded = method(seed=9)
    loaded.load_state_dict(model.state_dict())
    torch.testing.assert_close(loaded.logits(batch()["image"]), model.logits(batch()["image"]))


def test_the_backbone_moves_along():
    model = method()
    try:
        model.double()
        assert model.logits(batch()["image"].double()).dtype == torch.float64
        assert backbone().model.visual.proj.dtype == torch.float64
    finally:
        model.float()
    assert model.logits(batch()["image"]).dtype == torch.float32


def test_losses_are_taken_in_full_precision():
    model, images = method(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(images)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    for key, value in model.losses(images).items():
        assert losses[key].item() == pytest.approx(value.item(), rel=0.02)


class Images:
    """Both views of some images in memory."""

    def __init__(self, rows: int):
        self.views = batch(rows)

    def __len__(self) -> int:
        return len(self.views["image"])

    def __getitems__(self, indices):
        return {key: value[indices] for key, value in self.views.items()}


def test_training_lowers_the_loss_and_leaves_small_weights(tmp_path):
    model = method()
    config = Config(epochs=8, batch_size=6, learning_rate=0.1, threads=1)
    history = fit(model, Images(12), config, seed=0, directory=tmp_path)
    total = history.epochs()["total"]
    assert total[-1] < total[0] - 0.05
    assert (tmp_path / "weights.safetensors").stat().st_size < 10_000


def test_supervised_alignment_draws_images_to_their_description():
    texts, labels = (
        torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(4)),
        torch.tensor([0, 2, 1, 1, 0]),
    )
    model = Aligned(backbone(), stage_1(), Config(), torch.Generator().manual_seed(0), texts)
    images = {"image": batch()["image"], "label": labels}
    textual = texts[labels] @ model.adapter.T
    expected = supervised_alignment(expected_logits(model, images["image"]), textual)
    first = model.losses(images)["total"]
    torch.testing.assert_close(first, expected)
    for _ in range(20):
        step(model, model.losses(images)["total"], rate=0.3)
    assert model.losses(images)["total"] < 0.7 * first
    assert model.state_dict().keys() == {"prompts", "adapter"}

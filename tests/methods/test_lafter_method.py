"""LaFTer's method: its loss, what it trains, and that it leaves the backbone alone."""

import torch
import torch.nn.functional as F
from adapted import backbone, batch, snapshot, stage_1, step

from nbcore.methods import meduna
from nbcore.methods.lafter import Config, LaFTer
from nbcore.train import _optimizer


def method(**changes) -> LaFTer:
    return LaFTer(backbone(), stage_1(), Config(**changes), torch.Generator().manual_seed(0))


def test_loss_is_smoothed_cross_entropy_against_the_teachers_class():
    model, images = method(), batch()
    features = F.normalize(backbone().image_features(images["weak_image"]), dim=1)
    labels = (features @ stage_1().T).argmax(dim=1)
    strong = backbone().image_features(images["image"], model.prompts) @ model.adapter.T
    expected = F.cross_entropy(strong, labels, label_smoothing=0.1)
    torch.testing.assert_close(model.losses(images)["total"], expected)
    assert torch.equal(model.pseudo_labels(images["weak_image"]), labels)


def test_stage_1_of_lafter_is_that_of_meduna():
    assert Config().text_stage == meduna.Config().text_stage
    assert (Config().text_stage.iterations, Config().text_wrap) == (4000, False)
    assert Config(text_iterations=400).text_stage.iterations == 400


def test_prompt_adapter_and_all_layer_norms_are_trained_and_saved():
    model = method().train()
    start = snapshot(model)
    norms = len(backbone().layer_norms())
    assert norms == 6  # before, two in each of two blocks, after
    assert len(list(model.parameters())) == 2 + 2 * norms
    step(model, model.losses(batch())["total"])
    after = model.state_dict()
    unmoved = {key for key in after if torch.equal(after[key], start[key])}
    assert unmoved == {"teacher"}
    assert after.keys() == {name for name, _ in model.named_parameters()} | {"teacher"}


def test_backbone_and_other_methods_are_left_alone():
    before, images = snapshot(backbone()), batch()
    first, second = method(), method()
    expected = second.logits(images["image"])
    for _ in range(3):
        step(first, first.losses(images)["total"])
    assert all(torch.equal(value, before[key]) for key, value in backbone().state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in backbone().parameters())
    assert torch.equal(second.logits(images["image"]), expected)
    assert not torch.equal(first.logits(images["image"]), expected)


def test_copy_shares_all_other_weights_with_the_backbone():
    copied, original = dict(method().backbone.named_parameters()), dict(backbone().named_parameters())
    own = {name for name, parameter in copied.items() if parameter is not original[name]}
    trained = {id(p) for norm in backbone().layer_norms() for p in norm.parameters()}
    assert own == {name for name, parameter in original.items() if id(parameter) in trained}


def test_teacher_drifts_with_the_layer_norms_and_passes_no_gradient():
    model, images = method(), batch()
    before = model.plain_features(images["weak_image"])
    step(model, model.losses(images)["total"])
    after = model.plain_features(images["weak_image"])
    assert not torch.allclose(before, after)
    assert not after.requires_grad


def test_biases_alone_are_not_decayed():
    model = method()
    optimizer = _optimizer(model, model.config)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert {names[id(p)].rpartition(".")[2] for p in groups[0.0]} == {"bias"}
    assert {names[id(p)].rpartition(".")[2] for p in groups[0.01]} == {"weight", "prompts", "adapter"}
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 5e-4


def test_weights_load_into_a_fresh_object():
    model, images = method(), batch()
    step(model, model.losses(images)["total"])
    fresh = method(prompt_tokens=None)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.logits(images["image"]), model.logits(images["image"]))
    torch.testing.assert_close(fresh.plain_features(images["image"]), model.plain_features(images["image"]))


def test_a_single_image_trains():
    model = method()
    loss = model.losses(batch(1))["total"]
    loss.backward()
    assert loss.isfinite() and model.prompts.grad.any()

"""MedUnA's losses against slow NumPy references, analytic values, invariances and finite differences."""

import math

import numpy as np
import pytest
import torch

from nbcore.losses.meduna import (
    confident_entropy,
    consistency,
    description_loss,
    self_entropy,
    supervised_alignment,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / sum(np.exp(x) for x in row)


def slow_cross_entropy(goal: np.ndarray, logits: np.ndarray, smoothing: float) -> float:
    goal = (1 - smoothing) * goal + smoothing / len(goal)
    return -sum(y * np.log(p) for y, p in zip(goal, slow_softmax(logits)))


def slow_entropy(p: np.ndarray) -> float:
    return -sum(x * np.log(x) for x in p)


@pytest.mark.parametrize("target", ["soft", "hard"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (6, 2)])
def test_consistency_equals_the_slow_reference(target, smoothing, shape):
    weak, strong = draw(*shape), draw(*shape, seed=1)
    expected = []
    for w, s in zip(weak.numpy(), strong.numpy()):
        goal = slow_softmax(w) if target == "soft" else np.eye(len(w))[w.argmax()]
        expected.append(slow_cross_entropy(goal, s, smoothing))
    assert consistency(weak, strong, target, smoothing).item() == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("noisy", [True, False])
def test_description_loss_equals_the_slow_reference(noisy, smoothing):
    features, weight, labels = draw(6, 8), draw(3, 8, seed=1), torch.tensor([0, 1, 2, 1, 0, 2])
    noise = draw(6, 8, seed=2) if noisy else None
    rows = features + noise if noisy else features
    logits = [[sum(w * t for w, t in zip(row, text)) for row in weight.numpy()] for text in rows.numpy()]
    expected = [slow_cross_entropy(np.eye(3)[k], np.array(row), smoothing) for row, k in zip(logits, labels)]
    ours = description_loss(features, labels, weight, noise, smoothing)
    assert ours.item() == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 20])
def test_self_entropy_equals_the_slow_reference(rows):
    logits = draw(rows, 4)
    expected = np.mean([slow_entropy(slow_softmax(row)) for row in logits.numpy()])
    assert self_entropy(logits).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rows", "share", "kept"), [(20, 0.1, 2), (29, 0.1, 2), (9, 0.1, 1), (1, 0.1, 1), (7, 1.0, 7)])
def test_confident_entropy_equals_the_slow_reference(rows, share, kept):
    logits = 3 * draw(rows, 4)
    predictions = sorted((slow_softmax(row) for row in logits.numpy()), key=slow_entropy)
    expected = slow_entropy(np.mean(predictions[:kept], axis=0))
    assert confident_entropy(logits, share).item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("classes", [2, 7])
def test_uniform_logits_give_log_of_the_classes(classes):
    uniform, log_c = torch.full((12, classes), 3.0, dtype=torch.float64), pytest.approx(math.log(classes))
    for target in ("soft", "hard"):
        assert consistency(draw(12, classes), uniform, target, 0.1).item() == log_c
    assert self_entropy(uniform).item() == log_c
    assert confident_entropy(uniform).item() == log_c
    labels = torch.arange(12) % classes
    assert description_loss(draw(12, 5), labels, torch.zeros(classes, 5, dtype=torch.float64)).item() == log_c


def test_certain_and_agreeing_branches_have_no_loss():
    certain = 1e3 * torch.eye(3)[[0, 2, 1, 1]]
    assert consistency(certain, certain).item() == 0
    assert consistency(certain, certain, "hard").item() == 0
    assert self_entropy(certain).item() == 0


def test_confident_entropy_rewards_one_class_for_all_and_self_entropy_does_not():
    """What sets the two apart: certain predictions of different images cost log C here, or nothing there."""
    different, same = 1e3 * torch.eye(4), 1e3 * torch.eye(4)[[2, 2, 2, 2]]
    assert confident_entropy(different, 1.0).item() == pytest.approx(math.log(4))
    assert confident_entropy(same, 1.0).item() == 0
    assert self_entropy(different).item() == self_entropy(same).item() == 0


def test_soft_target_of_itself_costs_its_entropy():
    logits = draw(5, 4)
    torch.testing.assert_close(consistency(logits, logits), self_entropy(logits))


@pytest.mark.parametrize(
    "loss",
    [
        lambda weak, strong: consistency(weak, strong, "soft", 0.1),
        lambda weak, strong: consistency(weak, strong, "hard"),
        lambda weak, strong: self_entropy(strong),
        lambda weak, strong: confident_entropy(strong, 0.3),
    ],
)
def test_order_of_images_and_shift_of_logits_do_not_matter(loss):
    weak, strong, order = draw(11, 4), draw(11, 4, seed=1), torch.randperm(11)
    expected = loss(weak, strong)
    torch.testing.assert_close(loss(weak[order], strong[order]), expected)
    torch.testing.assert_close(loss(weak + draw(11, 1, seed=2), strong + draw(11, 1, seed=3)), expected)
    classes = torch.randperm(4)
    torch.testing.assert_close(loss(weak[:, classes], strong[:, classes]), expected)


def test_only_soft_targets_pass_a_gradient_to_the_weak_logits():
    weak, strong = draw(5, 3).requires_grad_(), draw(5, 3, seed=1)
    consistency(weak, strong).backward()
    p = weak.detach().softmax(dim=1)
    cost = -strong.log_softmax(dim=1)
    expected = p * (cost - (p * cost).sum(dim=1, keepdim=True)) / 5
    torch.testing.assert_close(weak.grad, expected)
    assert not consistency(weak, strong, "hard").requires_grad


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients(smoothing):
    weak, strong = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda w, s: consistency(w, s, "soft", smoothing), (weak, strong))
    assert check(lambda s: consistency(weak.detach(), s, "hard", smoothing), strong)
    assert check(self_entropy, strong)
    assert check(lambda s: confident_entropy(s, 0.5), strong)
    labels = torch.tensor([0, 2, 1, 1, 0])
    assert check(lambda w: description_loss(draw(5, 6), labels, w, None, smoothing), draw(3, 6).requires_grad_())
    for distance in ("cosine", "euclidean"):
        assert check(lambda v, t, distance=distance: supervised_alignment(v, t, distance), (weak, strong))


def test_far_logits_give_finite_losses_and_gradients():
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]], requires_grad=True)
    total = self_entropy(logits) + confident_entropy(logits) + consistency(logits, logits)
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()


def test_supervised_alignment_values():
    visual, textual = draw(6, 4), draw(6, 4, seed=1)
    pairs = list(zip(visual.numpy(), textual.numpy()))
    cosine = np.mean([1 - v @ t / np.linalg.norm(v) / np.linalg.norm(t) for v, t in pairs])
    euclidean = np.mean([np.linalg.norm(v - t) for v, t in pairs])
    assert supervised_alignment(visual, textual).item() == pytest.approx(cosine, rel=1e-12)
    assert supervised_alignment(visual, textual, "euclidean").item() == pytest.approx(euclidean, rel=1e-12)
    assert supervised_alignment(visual, -3 * visual).item() == pytest.approx(2)
    leaf = visual.clone().requires_grad_()
    supervised_alignment(leaf, visual, "euclidean").backward()
    assert not leaf.grad.any()


def test_unknown_readings_are_errors():
    with pytest.raises(ValueError, match="soft or hard"):
        consistency(draw(2, 2), draw(2, 2), "firm")
    with pytest.raises(ValueError, match="cosine or euclidean"):
        supervised_alignment(draw(2, 2), draw(2, 2), "manhattan")

"""Losses of prompt learning against slow NumPy references, analytic values, invariances and finite differences."""

import math

import numpy as np
import pytest
import torch

from nbcore.losses.prompts import (
    cosine_logits,
    description_scores,
    knowledge_distance,
    prototypes,
    select_descriptions,
    selective_distillation,
    semantic_consistency,
)

SCALE = 10.0


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(x * x for x in vector))


def slow_log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(x) for x in row))
    return [x - total for x in row]


def official_mask(scores: np.ndarray, threshold: float) -> np.ndarray:
    """The official selection, step by step: a robust score, standardised once more."""
    median = np.median(scores)
    robust = (scores - median) / np.median(np.abs(scores - median))
    return np.abs((robust - robust.mean()) / robust.std(ddof=1)) <= threshold


def slow_distillation(logits, images, descriptions, threshold) -> float:
    classes, count, _ = descriptions.shape
    units = [[unit(text) for text in own] for own in descriptions]
    scores = [
        np.mean([max(SCALE * unit(image) @ units[c][p] for c in range(classes)) for image in images])
        for p in range(count)
    ]
    kept = [p for p in range(count) if official_mask(np.array(scores), threshold)[p]]
    means = [unit(sum(units[c][p] for p in kept) / len(kept)) for c in range(classes)]
    total = 0.0
    for image, row in zip(images, logits):
        teacher = slow_log_softmax([SCALE * unit(image) @ mean for mean in means])
        student = slow_log_softmax(row)
        total += sum(math.exp(t) * (t - s) for t, s in zip(teacher, student))
    return total / (len(images) * classes)


def test_logits_equal_the_slow_reference():
    images, texts = draw(4, 8), draw(3, 8, seed=1)
    expected = [[SCALE * unit(i) @ unit(t) for t in texts.numpy()] for i in images.numpy()]
    np.testing.assert_allclose(cosine_logits(images, texts, SCALE), expected, rtol=1e-12)


def test_logits_of_texts_of_each_image_are_those_of_one_image_after_another():
    images, texts = draw(4, 8), draw(4, 3, 8, seed=1)
    alone = torch.cat([cosine_logits(image[None], own, SCALE) for image, own in zip(images, texts)])
    torch.testing.assert_close(cosine_logits(images, texts, SCALE), alone)


def test_logits_know_directions_only():
    images, texts = draw(4, 8), draw(3, 8, seed=1)
    torch.testing.assert_close(cosine_logits(7 * images, texts / 3, SCALE), cosine_logits(images, texts, SCALE))
    same = cosine_logits(images, images, SCALE)
    torch.testing.assert_close(same.diagonal(), torch.full((4,), SCALE, dtype=same.dtype))
    assert same.abs().max() <= SCALE * (1 + 1e-12)


@pytest.mark.parametrize("classes", [1, 3, 6])
def test_knowledge_distance_equals_the_slow_reference_in_both_readings(classes):
    texts, zero_shot = draw(classes, 8), draw(classes, 8, seed=1)
    pairs = [(unit(w), unit(z)) for w, z in zip(texts.numpy(), zero_shot.numpy())]
    cosine = np.mean([1 - w @ z for w, z in pairs])
    euclidean = np.mean([sum((w - z) ** 2) for w, z in pairs])
    assert knowledge_distance(texts, zero_shot).item() == pytest.approx(cosine, rel=1e-12)
    assert knowledge_distance(texts, zero_shot, "euclidean").item() == pytest.approx(euclidean, rel=1e-12)


def test_knowledge_distance_of_equal_and_of_opposite_prompts():
    texts = draw(3, 8)
    assert knowledge_distance(texts, 5 * texts).item() == pytest.approx(0, abs=1e-12)
    assert knowledge_distance(texts, -texts).item() == pytest.approx(2)
    assert knowledge_distance(texts, -texts, "euclidean").item() == pytest.approx(4)


def test_an_unknown_distance_is_an_error():
    with pytest.raises(ValueError, match="cosine or euclidean, not 'l1'"):
        knowledge_distance(draw(2, 4), draw(2, 4), "l1")


def test_prototypes_equal_the_slow_reference():
    descriptions, kept = draw(3, 5, 8), torch.tensor([True, False, True, True, False])
    for mask in (None, kept):
        chosen = descriptions if mask is None else descriptions[:, mask]
        expected = [unit(np.mean([unit(text) for text in own], axis=0)) for own in chosen.numpy()]
        np.testing.assert_allclose(prototypes(descriptions, mask), expected, rtol=1e-12)


def test_semantic_consistency_is_a_mean_over_elements():
    texts, means = draw(3, 8), prototypes(draw(3, 5, 8, seed=1))
    squared = [sum((unit(w) - m) ** 2) for w, m in zip(texts.numpy(), means.numpy())]
    assert semantic_consistency(texts, means).item() == pytest.approx(np.mean(squared) / 8, rel=1e-12)
    assert semantic_consistency(4 * means, means).item() == pytest.approx(0, abs=1e-15)
    assert semantic_consistency(-means, means).item() == pytest.approx(4 / 8)


@pytest.mark.parametrize("threshold", [0.7, 1.0, 1.5, 1.75])
@pytest.mark.parametrize("count", [3, 7, 50])
def test_selection_is_the_official_one(count, threshold):
    for seed in range(20):
        scores = draw(count, seed=seed) * 3 + 20
        expected = official_mask(scores.numpy(), threshold)
        if expected.any():
            np.testing.assert_array_equal(select_descriptions(scores, threshold), expected)


def test_an_outlier_is_left_out_whatever_the_scale_of_the_scores():
    scores = torch.tensor([1.0, 1.1, 0.9, 1.05, 0.95, 9.0])
    for factor, offset in ((1, 0), (100, -5), (-1, 3)):
        assert select_descriptions(factor * scores + offset).tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(
    "scores",
    [
        [2.0, 2.0, 2.0],  # no deviation at all
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0],  # none of the median kind
        [3.0],
        [1.0, 2.0],  # each is 0.71 standard deviations away
    ],
)
def test_where_the_official_selection_is_empty_all_are_kept(scores):
    with np.errstate(all="ignore"):
        assert len(scores) == 1 or not official_mask(np.array(scores), 0.5).any()
    assert select_descriptions(torch.tensor(scores), 0.5).all()


@pytest.mark.parametrize(("images", "classes", "count"), [(4, 5, 20), (1, 2, 7), (3, 3, 6)])
def test_distillation_equals_the_slow_reference(images, classes, count):
    features, descriptions, logits = draw(images, 8), draw(classes, count, 8, seed=1), draw(images, classes, seed=2)
    ours = selective_distillation(logits, features, descriptions, SCALE, threshold=1.0)
    expected = slow_distillation(logits.numpy(), features.numpy(), descriptions.numpy(), 1.0)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    features, descriptions = draw(4, 8), draw(3, 6, 8, seed=1)
    kept = select_descriptions(description_scores(features, descriptions, SCALE), 1.0)
    assert not kept.all()
    teacher = cosine_logits(features, prototypes(descriptions, kept), SCALE)
    assert selective_distillation(teacher + 5, features, descriptions, SCALE, 1.0).item() == pytest.approx(0, abs=1e-12)
    everything = cosine_logits(features, prototypes(descriptions), SCALE)
    assert selective_distillation(everything, features, descriptions, SCALE, 1.0).item() > 1e-4


def test_distillation_moves_the_student_alone():
    tensors = [draw(4, 3), draw(4, 8, seed=1), draw(3, 6, 8, seed=2)]
    logits, features, descriptions = (tensor.requires_grad_() for tensor in tensors)
    selective_distillation(logits, features, descriptions, SCALE).backward()
    assert logits.grad.any()
    assert features.grad is None and descriptions.grad is None


def test_order_of_images_classes_and_descriptions_does_not_matter():
    texts, features, descriptions = draw(3, 8), draw(4, 8, seed=1), draw(3, 6, 8, seed=2)
    logits = cosine_logits(features, texts, SCALE)
    turned, means = torch.tensor([2, 0, 1]), prototypes(descriptions)
    torch.testing.assert_close(cosine_logits(features.flip(0), texts[turned], SCALE), logits.flip(0)[:, turned])
    for distance in (knowledge_distance, semantic_consistency):
        torch.testing.assert_close(distance(texts[turned], means[turned]), distance(texts, means))
    expected = selective_distillation(logits, features, descriptions, SCALE)
    for ours in (
        selective_distillation(logits.flip(0), features.flip(0), descriptions, SCALE),
        selective_distillation(logits[:, turned], features, descriptions[turned], SCALE),
        selective_distillation(logits, features, descriptions.flip(1), SCALE),
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    "loss",
    [
        lambda texts: cosine_logits(draw(4, 6, seed=1), texts, SCALE),
        lambda texts: knowledge_distance(texts, draw(3, 6, seed=2)),
        lambda texts: knowledge_distance(texts, draw(3, 6, seed=2), "euclidean"),
        lambda texts: semantic_consistency(texts, prototypes(draw(3, 5, 6, seed=3))),
        lambda texts: selective_distillation(
            cosine_logits(draw(4, 6, seed=1), texts, SCALE), draw(4, 6, seed=1), draw(3, 5, 6, seed=3), SCALE
        ),
    ],
)
def test_gradients_agree_with_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, draw(3, 6).requires_grad_())

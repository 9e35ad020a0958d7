"""Zero-shot classification: scores and predictions against loops, metrics against scikit-learn, invariances; prompts of
classes against loops."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from nbcore.errors import UserError
from nbcore.tasks.zero_shot import (
    class_accuracy,
    class_f1,
    class_scores,
    class_weights,
    prompt_scores,
    zero_shot_metrics,
    zero_shot_scores,
)

RNG = np.random.default_rng(0)
IMAGES, POSITIVE, NEGATIVE = (RNG.normal(size=(rows, 6)).astype(np.float32) for rows in (40, 3, 3))
LABELS = RNG.integers(0, 2, (40, 3))


def test_scores_equal_loops():
    scores = zero_shot_scores(IMAGES, POSITIVE, NEGATIVE)
    for i, image in enumerate(IMAGES):
        for c, (present, absent) in enumerate(zip(POSITIVE, NEGATIVE)):
            near, far = (image @ p / np.linalg.norm(image) / np.linalg.norm(p) for p in (present, absent))
            assert (scores.positive[i, c], scores.negative[i, c]) == pytest.approx((near, far), abs=1e-6)
            assert scores.probability[i, c] == pytest.approx(
                math.exp(near) / (math.exp(near) + math.exp(far)), rel=1e-6
            )
            assert scores.prediction[i, c] == (near > far)


def test_metrics_equal_scikit_learn():
    scores = zero_shot_scores(IMAGES, POSITIVE, NEGATIVE)
    metrics = zero_shot_metrics(LABELS, scores)
    assert metrics["auc"] == pytest.approx(roc_auc_score(LABELS, scores.probability, average="macro"))
    assert metrics["f1"] == pytest.approx(f1_score(LABELS, scores.prediction, average="macro"))
    each = [accuracy_score(LABELS[:, c], scores.prediction[:, c]) for c in range(3)]
    np.testing.assert_allclose(class_accuracy(LABELS, scores.prediction), each)
    assert metrics["accuracy"] == pytest.approx(np.mean(each))


def test_an_image_next_to_the_positive_prompt_is_positive():
    scores = zero_shot_scores(np.concatenate([POSITIVE, NEGATIVE]), POSITIVE, NEGATIVE)
    assert scores.prediction[:3].diagonal().all() and not scores.prediction[3:].diagonal().any()
    own = np.eye(3, dtype=bool)
    assert (scores.probability[:3][own] > 0.5).all() and (scores.probability[3:][own] < 0.5).all()


def test_scale_does_not_matter_and_swapped_prompts_give_the_complement():
    scores = zero_shot_scores(IMAGES, POSITIVE, NEGATIVE)
    scaled = zero_shot_scores(7 * IMAGES, 0.1 * POSITIVE, 3 * NEGATIVE)
    np.testing.assert_allclose(scaled.probability, scores.probability, rtol=1e-5)
    swapped = zero_shot_scores(IMAGES, NEGATIVE, POSITIVE)
    np.testing.assert_allclose(swapped.probability, 1 - scores.probability, rtol=1e-5)
    assert (swapped.prediction == ~scores.prediction).all()
    auc = zero_shot_metrics(LABELS, scores)["auc"]
    assert zero_shot_metrics(LABELS, swapped)["auc"] == pytest.approx(1 - auc)


def test_f1_of_findings_that_are_absent_or_missed():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 0]])
    predictions = np.array([[False, True, False, True], [False, False, False, False]])
    assert class_f1(labels, predictions).tolist() == [0, 0, 0, 1]


def test_metrics_without_a_finding_of_both_kinds_are_an_error():
    with pytest.raises(UserError, match="no finding has both"):
        zero_shot_metrics(np.ones((40, 3)), zero_shot_scores(IMAGES, POSITIVE, NEGATIVE))


def test_class_weights_equal_loops_and_ignore_the_prompts_lengths():
    prompts = RNG.normal(size=(4, 3, 6))  # (P, C, D)
    weights = class_weights(prompts)
    for c in range(3):
        mean = np.mean([prompt / np.linalg.norm(prompt) for prompt in prompts[:, c]], axis=0)
        np.testing.assert_allclose(weights[c], mean / np.linalg.norm(mean))
    np.testing.assert_allclose(class_weights(prompts * RNG.uniform(0.1, 9, (4, 3, 1))), weights)


def test_class_scores_are_scaled_cosines():
    scores = class_scores(IMAGES, POSITIVE, 100.0)
    for i, c in np.ndindex(scores.shape):
        cosine = IMAGES[i] @ POSITIVE[c] / np.linalg.norm(IMAGES[i]) / np.linalg.norm(POSITIVE[c])
        assert scores[i, c] == pytest.approx(100 * cosine, abs=1e-4)
    assert np.abs(class_scores(POSITIVE, POSITIVE).diagonal() - 1).max() < 1e-6


@pytest.mark.parametrize(("reduce", "of_each"), [("max", max), ("mean", np.mean)])
def test_prompt_scores_equal_loops_for_classes_with_different_numbers_of_prompts(reduce, of_each):
    prompts = [RNG.normal(size=(count, 6)) for count in (1, 5, 2)]
    scores = prompt_scores(IMAGES, prompts, 14.0, reduce)
    assert scores.shape == (40, 3)
    for i, c in np.ndindex(scores.shape):
        cosines = [IMAGES[i] @ p / np.linalg.norm(IMAGES[i]) / np.linalg.norm(p) for p in prompts[c]]
        assert scores[i, c] == pytest.approx(14 * of_each(cosines), abs=1e-5)

"""Linear probes: optimality, selection on validation data only, AUC against scikit-learn, intervals over patients."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from nbcore.errors import UserError
from nbcore.tasks import linear_probe
from nbcore.tasks.linear_probe import accuracy, bootstrap_accuracy, bootstrap_auc, class_auc, fit_probe, macro_auc

RNG = np.random.default_rng(0)


def data(n: int, width: int = 6, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed)
    features = drawn.normal(size=(n, width)).astype(np.float32)
    weight = np.random.default_rng(99).normal(size=(width, classes))
    labels = (features @ weight + drawn.normal(size=(n, classes)) > 0).astype(np.float32)
    return features, labels


def test_auc_equals_scikit_learn_with_ties():
    labels = RNG.integers(0, 2, (80, 4)).astype(float)
    scores = RNG.integers(0, 6, (80, 4)).astype(float)
    expected = [roc_auc_score(labels[:, c], scores[:, c]) for c in range(4)]
    np.testing.assert_allclose(class_auc(labels, scores), expected)
    assert macro_auc(labels, scores) == pytest.approx(np.mean(expected))


def test_auc_of_perfect_reversed_and_constant_scores():
    labels = np.array([[0.0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]])
    scores = np.array([[0.0, 1, 5], [1, 0, 5], [0, 1, 5], [1, 0, 5]])
    assert class_auc(labels, scores).tolist() == [1, 0, 0.5]


def test_findings_with_one_kind_of_label_are_left_out():
    labels = np.array([[0.0, 1], [1, 1], [0, 1], [1, 1]])
    scores = np.array([[0.0, 1], [1, 0], [0, 1], [1, 0]])
    assert np.isnan(class_auc(labels, scores)[1])
    assert macro_auc(labels, scores) == 1
    with pytest.raises(UserError, match="no finding has both"):
        macro_auc(labels[:, 1:], scores[:, 1:])


def test_probe_reaches_the_optimum_of_its_penalty(monkeypatch):
    """With one penalty allowed, the solution must be the logistic regression scikit-learn finds for it."""
    monkeypatch.setattr(linear_probe, "PENALTIES", (0.01,))
    features, labels = data(200)
    probe = fit_probe((features, labels), data(100, seed=1))
    standard = (features - features.mean(0)) / (features - features.mean(0)).std()
    for c in range(labels.shape[1]):
        reference = LogisticRegression(C=1 / (0.01 * len(features)), tol=1e-8).fit(standard, labels[:, c])
        np.testing.assert_allclose(probe.weight[:, c], reference.coef_[0], atol=2e-3)
        assert probe.bias[c] == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_penalty_is_chosen_on_validation_data(monkeypatch):
    """Noise features and few images: weak penalties fit the training data best, and validation must not choose them."""
    drawn = np.random.default_rng(3)
    signal, labels = data(30, width=2, classes=1, seed=4)
    train = np.concatenate([signal, drawn.normal(size=(30, 60)).astype(np.float32)], axis=1)
    signal_valid, labels_valid = data(400, width=2, classes=1, seed=5)
    valid = np.concatenate([signal_valid, drawn.normal(size=(400, 60)).astype(np.float32)], axis=1)
    probe = fit_probe((train, labels), (valid, labels_valid))
    scores = {}
    for penalty in linear_probe.PENALTIES:
        monkeypatch.setattr(linear_probe, "PENALTIES", (penalty,))
        scores[penalty] = fit_probe((train, labels), (valid, labels_valid)).valid_score
    assert probe.valid_score == pytest.approx(max(scores.values()), abs=5e-3)
    assert probe.penalty != 0.001


def test_probe_does_not_depend_on_the_scale_of_features():
    features, labels = data(100)
    valid = data(60, seed=1)
    one = fit_probe((features, labels), valid)
    scaled = fit_probe((features * 50 + 3, labels), (valid[0] * 50 + 3, valid[1]))
    np.testing.assert_allclose(one.scores(valid[0]), scaled.scores(valid[0] * 50 + 3), atol=5e-2)


def test_a_class_without_positives_does_not_break_the_others():
    features, labels = data(50)
    labels[:, 1] = 0
    probe = fit_probe((features, labels), data(60, seed=1))
    assert np.isfinite(probe.weight).all()
    assert class_auc(*[data(60, seed=1)[1], probe.scores(data(60, seed=1)[0])])[0] > 0.8


def test_interval_covers_the_estimate_and_resamples_patients():
    labels = data(120)[1]
    scores = labels + np.random.default_rng(0).normal(size=labels.shape)
    low, high = bootstrap_auc(labels, scores, np.arange(120), resamples=200)
    assert low < macro_auc(labels, scores) < high
    # four copies of 30 images under one patient each say no more than 30 images do
    rows = np.repeat(np.arange(30), 4)
    apart = bootstrap_auc(labels[rows], scores[rows], np.arange(120), resamples=300)
    together = bootstrap_auc(labels[rows], scores[rows], rows, resamples=300)
    assert together[1] - together[0] > 1.4 * (apart[1] - apart[0])


def classes(n: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that exclude each other, one-hot."""
    drawn = np.random.default_rng(seed)
    features = drawn.normal(size=(n, width)).astype(np.float32)
    scores = features @ np.random.default_rng(99).normal(size=(width, 3)) + drawn.gumbel(size=(n, 3)) + [1, 0, 0]
    return features, np.eye(3, dtype=np.float32)[scores.argmax(axis=1)]


def test_multiclass_probe_reaches_the_optimum_of_its_penalty(monkeypatch):
    """It is the softmax regression scikit-learn finds; a constant added to all biases changes no probability."""
    monkeypatch.setattr(linear_probe, "PENALTIES", (0.01,))
    features, labels = classes(200)
    valid = classes(100, seed=1)
    probe = fit_probe((features, labels), valid, "multiclass")
    standard = (features - features.mean(0)) / (features - features.mean(0)).std()
    reference = LogisticRegression(C=1 / (0.01 * len(features)), tol=1e-8).fit(standard, labels.argmax(1))
    np.testing.assert_allclose(probe.weight.T, reference.coef_, atol=2e-3)
    expected = reference.intercept_ - reference.intercept_.mean()
    np.testing.assert_allclose(probe.bias - probe.bias.mean(), expected, atol=2e-3)
    right = probe.scores(valid[0]).argmax(axis=1) == valid[1].argmax(axis=1)
    assert probe.valid_score == accuracy(valid[1], probe.scores(valid[0])) == right.mean()


def test_multiclass_penalty_has_the_best_validation_accuracy_then_the_lowest_loss(monkeypatch):
    train, valid = classes(40, width=30), classes(60, width=30, seed=1)
    ranks = {}
    for penalty in (10.0, 1.0, 0.1):
        monkeypatch.setattr(linear_probe, "PENALTIES", (penalty,))
        scores = fit_probe(train, valid, "multiclass").scores(valid[0])
        ranks[penalty] = accuracy(valid[1], scores), -log_loss(valid[1].argmax(axis=1), softmax(scores, axis=1))
    monkeypatch.setattr(linear_probe, "PENALTIES", (10.0, 1.0, 0.1))
    assert fit_probe(train, valid, "multiclass").penalty == max(ranks, key=ranks.get)
    # well separated classes: all penalties tell them apart, and the weakest has the lowest loss
    easy = classes(60)[1] * 4, classes(60)[1]
    assert fit_probe(easy, easy, "multiclass").valid_score == 1
    assert fit_probe(easy, easy, "multiclass").penalty == 0.1


def test_multiclass_labels_must_be_one_hot():
    features, labels = data(50)
    with pytest.raises(ValueError, match="one-hot"):
        fit_probe((features, labels), (features, labels), "multiclass")


def test_a_class_without_training_images_does_not_break_the_others():
    features, labels = classes(80)
    seen = labels[:, 2] == 0
    probe = fit_probe((features[seen], labels[seen]), classes(60, seed=1), "multiclass")
    assert np.isfinite(probe.weight).all() and accuracy(labels[seen], probe.scores(features[seen])) > 0.7


def test_interval_of_the_accuracy_resamples_patients():
    labels = np.eye(3)[RNG.integers(0, 3, 120)]
    scores = labels + 0.8 * np.random.default_rng(0).normal(size=labels.shape)
    low, high = bootstrap_accuracy(labels, scores, np.arange(120), resamples=300)
    share = accuracy(labels, scores)
    assert low < share < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 120), rel=0.15)  # binomial
    rows = np.repeat(np.arange(30), 4)
    apart = bootstrap_accuracy(labels[rows], scores[rows], np.arange(120), resamples=300)
    together = bootstrap_accuracy(labels[rows], scores[rows], rows, resamples=300)
    assert together[1] - together[0] > 1.4 * (apart[1] - apart[0])

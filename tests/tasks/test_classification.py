"""Metrics of classes that exclude each other: analytic values, the official conventions, collapse."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from nbcore.tasks.classification import (
    accuracy_of,
    class_recalls,
    class_shares,
    commonest_share,
    confusion,
    harmonic_mean,
    is_collapsed,
    macro_f1,
)

LABELS = np.array([0, 0, 0, 1, 1, 2, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 1, 3, 4])


def test_accuracy_and_confusion_by_hand():
    assert accuracy_of(LABELS, PREDICTIONS) == pytest.approx(4 / 7)
    expected = np.zeros((5, 5), int)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[2, 3] = 2, 1, 2, 1
    expected[2, 4] = 1
    np.testing.assert_array_equal(confusion(LABELS, PREDICTIONS, 5), expected)


def test_f1_counts_absent_classes_unless_told_otherwise():
    each = [2 * 2 / (3 + 2), 2 * 2 / (2 + 3), 0, 0, 0]  # 2 hits / (labels + predictions)
    assert macro_f1(LABELS, PREDICTIONS, 5) == pytest.approx(np.mean(each))
    assert macro_f1(LABELS, PREDICTIONS, 5, present_only=True) == pytest.approx(np.mean(each[:3]))
    assert macro_f1(LABELS, LABELS, 3) == 1


def test_recalls_are_missing_for_absent_classes_and_average_to_the_balanced_accuracy():
    recalls = class_recalls(confusion(LABELS, PREDICTIONS, 5))
    np.testing.assert_allclose(recalls, [2 / 3, 1, 0, np.nan, np.nan])
    assert np.nanmean(recalls) == pytest.approx(balanced_accuracy_score(LABELS, np.minimum(PREDICTIONS, 1)))


def test_shares_and_collapse():
    np.testing.assert_allclose(class_shares(PREDICTIONS, 5), [2 / 7, 3 / 7, 0, 1 / 7, 1 / 7])
    assert commonest_share(PREDICTIONS, 5) == 3 / 7
    almost = np.zeros(100, int)
    almost[:1] = 1
    assert is_collapsed(almost, 2)
    almost[:2] = 1
    assert not is_collapsed(almost, 2)
    assert is_collapsed(np.full(7, 3), 4)


def test_harmonic_means_of_pairs_and_of_means():
    high, low = np.array([60.0, 50.0, 53.5]), np.array([60.0, 20.0, 41.8])
    each = harmonic_mean(high, low)
    np.testing.assert_allclose(each, 2 * high * low / (high + low))
    assert each.mean() < harmonic_mean(high.mean(), low.mean())
    np.testing.assert_array_equal(harmonic_mean(np.array([0.0, 50.0, 0.0]), np.array([70.0, 50.0, 0.0])), [0, 50, 0])

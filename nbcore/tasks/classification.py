"""Classes that exclude each other: how well they are told apart, and whether a classifier has stopped to tell them.

Shapes: n images, C classes. Labels and predictions are classes 0 ... C - 1, (n,).
"""

import numpy as np

COLLAPSED = 0.99  # share of one class among the predictions


def accuracy_of(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of images whose class is predicted, (n,), (n,) -> [0, 1]."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def macro_f1(labels: np.ndarray, predictions: np.ndarray, classes: int, present_only: bool = False) -> float:
    """Mean F1 over the classes, in [0, 1].

    Args:
        labels, predictions: (n,).
        classes: C.
        present_only: leave out classes that no image has, as the official evaluator of the CoOp family does; otherwise
            such a class has an F1 of 0.
    """
    from sklearn.metrics import f1_score

    counted = np.unique(labels) if present_only else np.arange(classes)
    return float(f1_score(labels, predictions, labels=counted, average="macro", zero_division=0))


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Numbers of images by class (row) and prediction (column), int (C, C)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predictions, labels=np.arange(classes))


def class_recalls(matrix: np.ndarray) -> np.ndarray:
    """Share of each class's images that are predicted to be of it, from a `confusion` (C, C) -> (C,).

    NaN for a class that no image has; the mean of the others is the balanced accuracy.
    """
    with np.errstate(invalid="ignore"):
        return np.diagonal(matrix) / matrix.sum(axis=1)


def class_shares(labels: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class among labels or predictions, (n,) -> (C,), sum 1."""
    return np.bincount(labels, minlength=classes) / len(labels)


def commonest_share(predictions: np.ndarray, classes: int) -> float:
    """Share of the class that is predicted most often, in [1 / C, 1]."""
    return float(class_shares(predictions, classes).max())


def is_collapsed(predictions: np.ndarray, classes: int) -> bool:
    """Whether nearly all predictions (99 %) are one class: an accuracy then says no more than how common that is."""
    return commonest_share(predictions, classes) >= COLLAPSED


def harmonic_mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """2ab / (a + b) entry by entry, 0 where either is 0; any shape, numbers >= 0.

    Over several seeds or tasks it is either taken of each and then averaged, or taken of the two averages; the first is
    never the larger (Jensen), and tables mix them.
    """
    from scipy.stats import hmean

    return hmean(np.stack([np.asarray(first, float), np.asarray(second, float)]), axis=0)

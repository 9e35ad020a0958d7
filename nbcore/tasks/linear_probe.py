"""Linear classification on frozen, cached features.

A logistic regression per finding, or one softmax regression over classes that exclude each other, solved to its optimum
(the problem is convex, so neither a learning rate nor a number of epochs colours the comparison of encoders); the
strength of its L2 penalty is chosen on validation data.

Shapes: n images, D feature width, C findings or classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.errors import UserError

Loss = Literal["binary", "multiclass"]
PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)  # from strong to weak: each solution starts the next


@dataclass(frozen=True)
class Probe:
    """A fitted probe: scores = (features - mean) / scale @ weight + bias.

    Attributes:
        mean: of the training features, (D,).
        scale: their standard deviation over all dimensions, one number: the encoder's strong directions stay strong.
        weight, bias: (D, C) and (C,).
        penalty: the chosen strength of the L2 penalty, one of `PENALTIES`.
        valid_score: on the validation data with that penalty, the macro AUC ("binary") or accuracy ("multiclass").
    """

    mean: np.ndarray
    scale: float
    weight: np.ndarray
    bias: np.ndarray
    penalty: float
    valid_score: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits, (n, D) -> (n, C)."""
        return ((features - self.mean) / self.scale) @ self.weight + self.bias


def fit_probe(
    train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray], loss: Loss = "binary"
) -> Probe:
    """Fit on `train` with every penalty and keep the one that is best on `valid`, the stronger of equals.

    Args:
        train, valid: features float32 (n, D) and labels (n, C) in {0, 1}.
        loss: "binary", findings that may occur together: the best penalty has the highest macro AUC; or "multiclass",
            classes of which each image has one: it has the highest accuracy, then the lowest cross-entropy.

    Raises:
        UserError: no finding has both a positive and a negative validation image ("binary").
        ValueError: the labels are not one-hot ("multiclass").
    """
    features, labels = train
    if loss == "multiclass" and any((y.sum(axis=1) != 1).any() for y in (labels, valid[1])):
        raise ValueError("multiclass labels must be one-hot: an image has none or several classes")
    mean = features.mean(axis=0)
    scale = float((features - mean).std()) + 1e-12
    x = torch.from_numpy((features - mean) / scale)
    y = torch.from_numpy(np.asarray(labels, np.float32))
    prevalence = y.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    bias = torch.logit(prevalence) if loss == "binary" else prevalence.log()
    parameters = torch.cat([torch.zeros(x.shape[1], y.shape[1]), bias[None]])  # (D + 1, C)
    best: Probe | None = None
    best_rank = (0.0, 0.0)
    for penalty in PENALTIES:
        parameters = _minimise(x, y, penalty, parameters, loss)
        probe = Probe(mean, scale, parameters[:-1].numpy(), parameters[-1].numpy(), penalty, 0.0)
        rank = _rank(valid[1], probe.scores(valid[0]), loss)
        if best is None or rank > best_rank:
            best, best_rank = replace(probe, valid_score=rank[0]), rank
    return best


def _rank(labels: np.ndarray, scores: np.ndarray, loss: Loss) -> tuple[float, float]:
    """What makes one penalty better than another on validation data: a score, and what decides between equals."""
    if loss == "binary":
        return macro_auc(labels, scores), 0.0
    entropy = _cross_entropy(torch.from_numpy(scores), torch.from_numpy(np.asarray(labels, scores.dtype)), loss)
    return accuracy(labels, scores), -entropy.sum(dim=1).mean().item()


def _cross_entropy(logits: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Terms (n, C) of the cross-entropy: a problem a finding, or in sum over the classes one problem."""
    if loss == "binary":
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return -y * F.log_softmax(logits, dim=1)


def _minimise(x: Tensor, y: Tensor, penalty: float, start: Tensor, loss: Loss) -> Tensor:
    """argmin of mean cross-entropy + penalty / 2 |W|^2 over (D + 1, C), the last row the bias."""
    parameters = start.clone().requires_grad_()
    solver = torch.optim.LBFGS([parameters], max_iter=50, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        terms = _cross_entropy(x @ parameters[:-1] + parameters[-1], y, loss)
        value = (terms.mean(dim=0) + penalty / 2 * parameters[:-1].square().sum(dim=0)).sum()
        value.backward()
        return value

    solver.step(objective)
    return parameters.detach()


def class_auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each finding, (n, C), (n, C) -> (C,); NaN where only one kind of label occurs.

    It is the Mann-Whitney statistic: the chance that a positive image scores above a negative one, ties counting half.
    """
    from scipy.stats import rankdata

    positive = labels > 0
    positives, negatives = positive.sum(axis=0), (~positive).sum(axis=0)  # (C,)
    ranks = rankdata(scores, axis=0)
    above = (ranks * positive).sum(axis=0) - positives * (positives + 1) / 2
    with np.errstate(invalid="ignore"):
        return above / (positives * negatives)


def macro_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of `class_auc` over the findings that have both positives and negatives.

    Raises:
        UserError: there is no such finding.
    """
    aucs = class_auc(labels, scores)
    if np.isnan(aucs).all():
        raise UserError("no finding has both positive and negative images in this split; an AUC cannot be computed.")
    return float(np.nanmean(aucs))


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of images whose own class has the highest score; one-hot labels (n, C), scores (n, C)."""
    return float(_correct(labels, scores).mean())


def _correct(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return labels.argmax(axis=1) == scores.argmax(axis=1)  # (n,)


def bootstrap_auc(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the macro AUC, resampling patients (not images) with replacement."""

    def mean_auc(rows: np.ndarray) -> float:
        aucs = class_auc(labels[rows], scores[rows])
        return float("nan") if np.isnan(aucs).all() else float(np.nanmean(aucs))

    return _bootstrap(mean_auc, patients, resamples, seed)


def bootstrap_accuracy(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the `accuracy`, resampling patients (not images) with replacement."""
    correct = _correct(labels, scores)
    return _bootstrap(lambda rows: float(correct[rows].mean()), patients, resamples, seed)


def _bootstrap(
    statistic: Callable[[np.ndarray], float], patients: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentiles of a statistic of the rows that resampled patients have; draws for which it is NaN are left out."""
    drawn = np.random.default_rng(seed)
    _, patient = np.unique(patients, return_inverse=True)
    order = np.argsort(patient, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(patient))[:-1])
    values = []
    for _ in range(resamples):
        rows = np.concatenate([rows_of[p] for p in drawn.integers(len(rows_of), size=len(rows_of))])
        values.append(statistic(rows))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)

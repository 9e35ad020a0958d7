"""Linear classification of findings on frozen, cached features.

A logistic regression per finding, solved to its optimum (the problem is convex, so neither a learning rate nor a number
of epochs colours the comparison of encoders); the strength of its L2 penalty is chosen on validation data.

Shapes: n images, D feature width, C findings.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.errors import UserError

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)  # from strong to weak: each solution starts the next


@dataclass(frozen=True)
class Probe:
    """A fitted probe: scores = (features - mean) / scale @ weight + bias.

    Attributes:
        mean: of the training features, (D,).
        scale: their standard deviation over all dimensions, one number: the encoder's strong directions stay strong.
        weight, bias: (D, C) and (C,).
        penalty: the chosen strength of the L2 penalty, one of `PENALTIES`.
        valid_auc: macro AUC on the validation data with that penalty.
    """

    mean: np.ndarray
    scale: float
    weight: np.ndarray
    bias: np.ndarray
    penalty: float
    valid_auc: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits, (n, D) -> (n, C)."""
        return ((features - self.mean) / self.scale) @ self.weight + self.bias


def fit_probe(train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray]) -> Probe:
    """Fit on `train` with every penalty and keep the one with the best macro AUC on `valid`.

    Args:
        train, valid: features float32 (n, D) and labels (n, C) in {0, 1}.

    Raises:
        UserError: no finding has both a positive and a negative validation image.
    """
    features, labels = train
    mean = features.mean(axis=0)
    scale = float((features - mean).std()) + 1e-12
    x = torch.from_numpy((features - mean) / scale)
    y = torch.from_numpy(np.asarray(labels, np.float32))
    prevalence = y.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    parameters = torch.cat([torch.zeros(x.shape[1], y.shape[1]), torch.logit(prevalence)[None]])  # (D + 1, C)
    best: Probe | None = None
    for penalty in PENALTIES:
        parameters = _minimise(x, y, penalty, parameters)
        weight, bias = parameters[:-1].numpy(), parameters[-1].numpy()
        probe = Probe(mean, scale, weight, bias, penalty, 0.0)
        score = macro_auc(valid[1], probe.scores(valid[0]))
        if best is None or score > best.valid_auc:
            best = Probe(mean, scale, weight, bias, penalty, score)
    return best


def _minimise(x: Tensor, y: Tensor, penalty: float, start: Tensor) -> Tensor:
    """argmin of mean cross-entropy + penalty / 2 |W|^2 over (D + 1, C), the last row the bias."""
    parameters = start.clone().requires_grad_()
    solver = torch.optim.LBFGS([parameters], max_iter=50, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ parameters[:-1] + parameters[-1], y, reduction="none")
        loss = (loss.mean(dim=0) + penalty / 2 * parameters[:-1].square().sum(dim=0)).sum()  # one problem a finding
        loss.backward()
        return loss

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


def bootstrap_auc(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the macro AUC, resampling patients (not images) with replacement."""
    drawn = np.random.default_rng(seed)
    _, patient = np.unique(patients, return_inverse=True)
    order = np.argsort(patient, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(patient))[:-1])
    values = []
    for _ in range(resamples):
        rows = np.concatenate([rows_of[p] for p in drawn.integers(len(rows_of), size=len(rows_of))])
        aucs = class_auc(labels[rows], scores[rows])
        if not np.isnan(aucs).all():
            values.append(np.nanmean(aucs))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)

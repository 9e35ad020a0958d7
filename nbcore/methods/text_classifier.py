"""Stage 1 of MedUnA and of LaFTer: a linear classifier of class descriptions, later put behind the image encoder.

Shapes: n descriptions, D width shared by image and text, C classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nbcore.errors import UserError


class TextClassifierConfig(BaseModel):
    """How the classifier of descriptions is trained: on all of them at once, with AdamW at a constant rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(4000, ge=1, description="code: of every medical data set; LaFTer has 400 to 600")
    learning_rate: float = Field(5e-4, gt=0, description="code: scripts/meduna.sh, and LaFTer")
    weight_decay: float = Field(0.01, ge=0, description="code")
    noise: float = Field(0.1, ge=0, description="code: standard deviation, per feature of a unit vector; paper: none")
    smoothing: float = Field(0.1, ge=0, lt=1, description="code: label smoothing; paper: none")

    def optimizer(self, weight: Tensor) -> torch.optim.Optimizer:
        """The optimiser of a classifier's weight, which need not require a gradient but be given one."""
        return torch.optim.AdamW([weight], lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)


@torch.no_grad()
def fit_text_classifier(
    features: Tensor, labels: Tensor, classes: int, config: TextClassifierConfig, seed: int
) -> Tensor:
    """Minimise `losses.meduna.description_loss`, Eq. 1 of MedUnA, with fresh noise in every step.

    It takes some two seconds on one thread of the CPU, more of which would but wait for each other, and so gives the
    same weights wherever the features are.

    Args:
        features: description features of unit length, (n, D).
        labels: class of each, in [0, classes), (n,).
        classes: C.
        config: see `TextClassifierConfig`.
        seed: of the initial weights (those of `nn.Linear`) and of the noise.

    Returns:
        The adapter's weight, (C, D), on the device of the features.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = features.cpu()  # (n, D)
    bound = rows.shape[1] ** -0.5
    weight = rows.new_empty(classes, rows.shape[1]).uniform_(-bound, bound, generator=generator)  # (C, D)
    targets = smoothed_targets(labels.cpu(), classes, config.smoothing, rows.dtype)  # (C, n)
    noise = GaussianNoise(config.noise, generator) if config.noise else None
    optimizer = config.optimizer(weight)
    with _one_thread():
        for _ in range(config.iterations):
            weight.grad = description_gradient(rows, targets, weight, noise)
            optimizer.step()
    return weight.to(features.device)


def text_accuracy(
    features: Tensor,
    labels: Tensor,
    classes: int,
    config: TextClassifierConfig,
    seeds: Sequence[int],
    held_out: float = 0.2,
) -> Tensor:
    """Accuracy of the classifier on descriptions it has not seen, MedUnA's Fig. 2.

    The paper does not say what it measured on; here a share of the descriptions of every class is held out, and scored
    without noise.

    Args:
        features, labels, classes, config: as of `fit_text_classifier`; each class has at least two descriptions.
        seeds: one split, and one classifier, each.
        held_out: share of each class's descriptions that is held out, in (0, 1); at least one.

    Returns:
        Accuracies in [0, 1], (len(seeds),).

    Raises:
        UserError: a class has fewer than two descriptions.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes)
    if counts.min() < 2:
        raise UserError(
            f"Class number {int(counts.argmin())} (from 0) has {int(counts.min())} of the descriptions: the accuracy "
            "on held-out descriptions needs two of each class."
        )
    accuracies = []
    for seed in seeds:
        unseen = _held_out(labels.cpu(), classes, held_out, torch.Generator().manual_seed(seed)).to(labels.device)
        weight = fit_text_classifier(features[~unseen], labels[~unseen], classes, config, seed)
        right = F.linear(features[unseen], weight).argmax(dim=1) == labels[unseen]
        accuracies.append(right.double().mean().cpu())
    return torch.stack(accuracies)


def _held_out(labels: Tensor, classes: int, share: float, generator: torch.Generator) -> Tensor:
    """Draw a share of each class, of which at least one is left on either side, (n,) -> (n,) bool."""
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        own = (labels == label).nonzero().squeeze(1)
        count = min(max(1, round(share * len(own))), len(own) - 1)
        drawn[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return drawn


@dataclass(frozen=True)
class GaussianNoise:
    """Z of (n, D) with independent entries N(0, scale^2), known only through its projections on orthonormal columns.

    Each is drawn when asked for: projections on bases at right angles to each other are independent.
    """

    scale: float
    generator: torch.Generator

    def on_features(self, basis: Tensor, rows: int) -> Tensor:
        """Z Q of Q (D, K), as (K, rows)."""
        return basis.new_empty(basis.shape[1], rows).normal_(0, self.scale, generator=self.generator)

    def on_rows(self, basis: Tensor, width: int) -> Tensor:
        """P^T Z of P (n, K), (K, width)."""
        return basis.new_empty(basis.shape[1], width).normal_(0, self.scale, generator=self.generator)


def description_gradient(features: Tensor, targets: Tensor, weight: Tensor, noise: GaussianNoise | None) -> Tensor:
    """The gradient in W of Eq. 1 with noise Z on the features, without Z itself.

    With W^T = Q R the logits are T W^T + (Z Q) R. With their error E = (softmax - targets) / n = P S the gradient is
    E^T T + E^T Z = E^T T + E^T (Z Q) Q^T + S^T (P^T Z) (I - Q Q^T). E depends on Z through Z Q alone, of which the last
    term is independent: (n + D) C normals have the law of n D, and drawing those would take most of the time.

    Args:
        features: T, (n, D).
        targets: columns of probabilities, (C, n).
        weight: W, (C, D).
        noise: Z; None for no noise.

    Returns:
        The gradient, (C, D).
    """
    logits = weight @ features.mT  # (C, n): the softmax of few long rows is the faster one
    if noise is None:
        return _error(logits, targets) @ features
    q, r = torch.linalg.qr(weight.mT)  # (D, C), (C, C)
    along = noise.on_features(q, len(features))  # (C, n)
    error = _error(logits + r.mT @ along, targets)  # (C, n)
    p, s = torch.linalg.qr(error.mT)  # (n, C), (C, C)
    beside = noise.on_rows(p, features.shape[1])  # (C, D)
    beside = beside - beside @ q @ q.mT
    return error @ features + (error @ along.mT) @ q.mT + s.mT @ beside


def _error(logits: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy in the logits, (C, n)."""
    return (logits.softmax(dim=0) - targets) / logits.shape[1]


def smoothed_targets(labels: Tensor, classes: int, smoothing: float, dtype: torch.dtype) -> Tensor:
    """One-hot targets of which the share `smoothing` is spread over all classes, (n,) -> (C, n)."""
    one_hot = F.one_hot(labels, classes).mT.to(dtype)  # (C, n)
    return (1 - smoothing) * one_hot.contiguous() + smoothing / classes


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""MedUnA's losses (Rahman et al., ISBI 2025, Sect. 2); LaFTer's is `consistency` with hard targets.

Shapes: B images, D width shared by image and text, C classes, n descriptions.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Target = Literal["soft", "hard"]
Distance = Literal["cosine", "euclidean"]


def description_loss(
    features: Tensor, labels: Tensor, weight: Tensor, noise: Tensor | None = None, smoothing: float = 0.1
) -> Tensor:
    """Cross-entropy of a linear classifier of descriptions, Eq. 1: mean_i H(e_i, softmax(W (t_i + noise_i))).

    The noise and the label smoothing are the official code's; the paper has neither (None, 0).

    Args:
        features: t, description features of unit length, (n, D).
        labels: class of each description, (n,).
        weight: W, the cross-modal adapter, (C, D); it has no bias.
        noise: added to the unit vectors, which are not normalised again, (n, D).
        smoothing: share of a target that is spread over all classes, in [0, 1).

    Returns:
        A scalar >= 0; log C for W = 0.
    """
    noisy = features if noise is None else features + noise  # (n, D)
    return F.cross_entropy(F.linear(noisy, weight), labels, label_smoothing=smoothing)


def consistency(weak_logits: Tensor, strong_logits: Tensor, target: Target = "soft", smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the strong branch against the weak one, Eq. 2 and the first term of Eq. 3:
    mean_b -y_b . log softmax(strong_b).

    ====== ============================== ==========================
    target y                              reading
    ====== ============================== ==========================
    soft   softmax(weak)                  the paper's H(y, y')
    hard   one-hot of argmax(weak)        official code, and LaFTer
    ====== ============================== ==========================

    Nothing is detached here: Eq. 2 moves the weak branch alone and Eq. 3 the strong one, which is for the caller to
    say. A hard target passes no gradient to the weak logits.

    Args:
        weak_logits, strong_logits: scores of the same images, (B, C).
        target: the reading of y (see the table).
        smoothing: share of y that is spread over all classes, in [0, 1): 0 in the paper, 0.1 in the official code.

    Returns:
        A scalar >= 0; log C for uniform strong logits.

    Raises:
        ValueError: `target` is neither of the two.
    """
    match target:
        case "soft":
            goal = weak_logits.softmax(dim=1)  # (B, C)
        case "hard":
            goal = weak_logits.argmax(dim=1)  # (B,)
        case _:
            raise ValueError(f"target must be soft or hard, not {target!r}")
    return F.cross_entropy(strong_logits, goal, label_smoothing=smoothing)


def self_entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions, the second term of Eq. 3: mean_b H(softmax(logits_b)).

    Args:
        logits: scores of the strong branch, (B, C), finite.

    Returns:
        A scalar in [0, log C]: log C for uniform logits, 0 for certain ones.
    """
    return _entropies(F.log_softmax(logits, dim=1)).mean()


def confident_entropy(logits: Tensor, share: float = 0.1) -> Tensor:
    """Entropy of the mean prediction of the most certain images, what the official code has for `self_entropy`.

    Taken from test-time prompt tuning, where the rows are views of one image. Over different images it is least when
    the most certain ones are all of one class: minimising it rewards a prediction that is the same for every image.

    The official code takes int(share * B) rows, none if B < 1 / share: its loss is then NaN and its gradient zero.
    Here at least one row is taken.

    Args:
        logits: scores of the strong branch, (B, C), B >= 1, finite.
        share: of the rows, those of lowest entropy, in (0, 1].

    Returns:
        A scalar in [0, log C].
    """
    log_p = F.log_softmax(logits, dim=1)  # (B, C)
    rows = max(1, int(share * len(logits)))
    certain = _entropies(log_p.detach()).argsort()[:rows]  # (rows,)
    log_mean = log_p[certain].logsumexp(dim=0, keepdim=True) - math.log(rows)  # (1, C)
    return _entropies(log_mean).squeeze(0)


def supervised_alignment(visual: Tensor, textual: Tensor, distance: Distance = "cosine") -> Tensor:
    """Misalignment of images with descriptions of their true class, Eq. 5: mean_b of the distance of the pairs.

    The paper leaves the measure open and the official code has none of this: "cosine" is 1 - cos, "euclidean"
    || visual - textual ||.

    Args:
        visual: g f_V(x || p), (B, C).
        textual: g f_T of the class of each image, (B, C).
        distance: the measure.

    Returns:
        A scalar, in [0, 2] for "cosine", >= 0 for "euclidean"; 0 for images that lie on their descriptions.

    Raises:
        ValueError: `distance` is neither of the two.
    """
    match distance:
        case "cosine":
            return (1 - F.cosine_similarity(visual, textual, dim=1)).mean()
        case "euclidean":
            return torch.linalg.vector_norm(visual - textual, dim=1).mean()  # its gradient at 0 is 0
        case _:
            raise ValueError(f"distance must be cosine or euclidean, not {distance!r}")


def _entropies(log_p: Tensor) -> Tensor:
    """Entropy in nats of each row of log-probabilities, (B, C) -> (B,)."""
    return -(log_p.exp() * log_p).sum(dim=1)

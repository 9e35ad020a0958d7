"""Zero-shot classification by the prompt that lies nearest to an image.

Findings that may occur together have a pair of prompts each ("pneumonia" / "no pneumonia"); classes that exclude each
other have one or several prompts of their own ("a photo of a melanoma").

Shapes: n images, C findings or classes, P prompts of a class, D width of the space that images and texts share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nbcore.tasks.linear_probe import macro_auc


@dataclass(frozen=True)
class ZeroShot:
    """How well each image agrees with the two prompts of each finding.

    Attributes:
        positive, negative: cosines of image and prompt, (n, C).
    """

    positive: np.ndarray
    negative: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """e^positive / (e^positive + e^negative), (n, C). Without a temperature, so within 1/2 +- 0.39: it ranks."""
        return 1 / (1 + np.exp(self.negative - self.positive))

    @property
    def prediction(self) -> np.ndarray:
        """Whether the positive prompt is the closer one, bool (n, C)."""
        return self.positive > self.negative


def zero_shot_scores(images: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> ZeroShot:
    """Compare images with prompts that state a finding and prompts that deny it.

    Args:
        images: embeddings, (n, D). Normalised here, like those of the prompts.
        positive, negative: embeddings of the prompts, (C, D).
    """
    images = unit_rows(images)
    return ZeroShot(images @ unit_rows(positive).T, images @ unit_rows(negative).T)


def zero_shot_metrics(labels: np.ndarray, scores: ZeroShot) -> dict[str, float]:
    """Means over the findings: "auc" of the probability, "f1" and "accuracy" of the prediction.

    Args:
        labels: (n, C) in {0, 1}.

    Raises:
        UserError: no finding has both positive and negative images.
    """
    return {
        "auc": macro_auc(labels, scores.probability),
        "f1": float(class_f1(labels, scores.prediction).mean()),
        "accuracy": float(class_accuracy(labels, scores.prediction).mean()),
    }


def class_f1(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """F1 of each finding, (n, C), (n, C) -> (C,); 0 where a finding neither occurs nor is predicted."""
    labels, predictions = labels > 0, predictions > 0
    hits = (labels & predictions).sum(axis=0)
    return 2 * hits / np.maximum(labels.sum(axis=0) + predictions.sum(axis=0), 1)


def class_accuracy(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Share of images judged rightly, for each finding: (n, C), (n, C) -> (C,)."""
    return ((labels > 0) == (predictions > 0)).mean(axis=0)


def class_weights(prompts: np.ndarray) -> np.ndarray:
    """The direction of each class: the mean of its normalised prompts, normalised again (CLIP's prompt ensemble).

    Args:
        prompts: embeddings of the same templates filled with each class's name, (P, C, D).

    Returns:
        (C, D), rows of length 1.
    """
    return unit_rows(unit_rows(prompts).mean(axis=0))


def class_scores(images: np.ndarray, weights: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Logits `scale` * cosine, (n, D), (C, D) -> (n, C); both are normalised here."""
    return scale * unit_rows(images) @ unit_rows(weights).T


def prompt_scores(
    images: np.ndarray, prompts: Sequence[np.ndarray], scale: float = 1.0, reduce: Literal["max", "mean"] = "max"
) -> np.ndarray:
    """Logits of classes by their prompts' cosines (MedCLIP): the highest of them, or their mean.

    Args:
        images: embeddings, (n, D).
        prompts: for each class the embeddings of its prompts, (P, D); P may differ.
        scale: of the cosines.

    Returns:
        (n, C).
    """
    of_class = {"max": np.max, "mean": np.mean}[reduce]
    return np.stack([of_class(class_scores(images, own, scale), axis=1) for own in prompts], axis=1)


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Rows (the last axis) scaled to length 1; a row of zeros stays one."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)

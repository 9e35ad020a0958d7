"""Few-shot learning: which images of each class are learnt from.

Shapes: n images of a split.
"""

import random
from collections.abc import Sequence

import numpy as np

VALID_SHOTS = 4  # of each class at most, to choose by


def draw_shots(train: Sequence[int], valid: Sequence[int], shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `shots` images of each class to learn from, and at most four of each to validate on.

    Draws what the official code of CoOp and its kin draws from the same labels in the same order: classes in the order
    in which they first appear, first all of the training images, then the validation images with the same generator. A
    class with fewer images gives all it has (`scarce` tells which).

    Args:
        train, valid: class of each image, (n,).
        shots: of each class, >= 1.
        seed: of the draw.

    Returns:
        Positions in `train` and in `valid`.
    """
    generator = random.Random(seed)
    return _draw(train, shots, generator), _draw(valid, min(shots, VALID_SHOTS), generator)


def scarce(labels: Sequence[int], shots: int) -> dict[int, int]:
    """Class -> number of its images, for classes with fewer than `shots`; (n,) labels."""
    classes, counts = np.unique(labels, return_counts=True)
    return {int(label): int(count) for label, count in zip(classes, counts) if count < shots}


def _draw(labels: Sequence[int], shots: int, generator: random.Random) -> np.ndarray:
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(int(label), []).append(position)
    drawn = [generator.sample(own, shots) if len(own) >= shots else own for own in members.values()]
    return np.array([position for own in drawn for position in own], np.int64)

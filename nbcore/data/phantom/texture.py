"""Smooth random fields that look the same at every resolution, and the soft edge every shape is drawn with.

B studies, K lattice points a side, S pixels a side.
"""

from functools import cache

import numpy as np


def soft(depth: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """An anti-aliased edge: 0 outside, 1 inside, linear over `width` where `depth` (positive inside) crosses 0."""
    edge = depth / width
    edge += 0.5
    return np.clip(edge, 0, 1, out=edge)


def dome(square: np.ndarray) -> np.ndarray:
    """Thickness of a unit ball at squared distance `square` from its axis: steep at the rim, as organs look."""
    return np.sqrt(np.clip(1 - square, 0, 1))


def smooth_fields(generators: list[np.random.Generator], lattice: int, size: int) -> np.ndarray:
    """float32 (B, S, S) fields of about unit variance that vary over 2 / `lattice` of the picture's half side."""
    knots = lattice + 3
    values = np.stack([generator.standard_normal((knots, knots), np.float32) for generator in generators])  # (B, K, K)
    basis = _spline_basis(lattice, size)
    return basis @ values @ basis.T  # (B, S, S)


@cache
def _spline_basis(lattice: int, size: int) -> np.ndarray:
    """(S, K) cubic B-spline weights of the pixels' centres, scaled to unit variance per axis."""
    position = (np.arange(size) + 0.5) / size * lattice
    distance = np.abs(position[:, None] + 1 - np.arange(lattice + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    basis = np.where(distance < 1, near, far)
    return (basis / np.sqrt((basis**2).sum(1, keepdims=True))).astype(np.float32)

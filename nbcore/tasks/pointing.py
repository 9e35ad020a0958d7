"""The pointing game: does a map have its maximum inside the finding it should show (Zhang et al., ECCV 2016).

Shapes: n pictures, H side.
"""

from typing import NamedTuple

import numpy as np

from nbcore.errors import UserError


class Pointing(NamedTuple):
    """Outcome of `pointing_game`.

    Attributes:
        hits: share of pictures whose map is largest inside their own finding.
        chance: the same against the findings of all other pictures: what a map scores that knows where such findings
            lie in general, and nothing of the picture at hand.
        inside: mean share of a map's mass inside the finding.
        area: mean share of the picture that the finding covers; what `inside` is for a flat map.
        pictures: n.
    """

    hits: float
    chance: float
    inside: float
    area: float
    pictures: int


def pointing_game(maps: np.ndarray, outlines: np.ndarray) -> Pointing:
    """Play it with each picture's map.

    Args:
        maps: >= 0, (n, H, H), n >= 2; of several largest places the mean result counts.
        outlines: bool (n, H, H).

    Raises UserError for fewer than two pictures.
    """
    if (count := len(maps)) < 2:
        raise UserError(f"the pointing game needs two outlined pictures or more, not {count}: take more test images")
    peaks = maps == maps.max(axis=(1, 2), keepdims=True)  # (n, H, H)
    peaks = peaks / peaks.sum(axis=(1, 2), keepdims=True)
    found = np.einsum("iyx,jyx->ij", peaks, outlines.astype(np.float64))  # map i, finding j
    mass = maps / np.maximum(maps.sum(axis=(1, 2), keepdims=True), 1e-12)
    return Pointing(
        hits=float(found.trace() / count),
        chance=float((found.sum() - found.trace()) / (count * (count - 1))),
        inside=float((mass * outlines).sum() / count),
        area=float(outlines.mean()),
        pictures=count,
    )

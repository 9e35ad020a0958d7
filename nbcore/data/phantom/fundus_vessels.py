"""The vessels of the phantom's fundus, and the tapered strokes they and most lesions are inked with.

B studies, n strokes, T steps of a vessel, P and S pixels a side of a patch and of the picture. Lengths are in half
sides of the picture.
"""

import math
from typing import NamedTuple

import numpy as np

_THINNEST = 0.55  # pixels; a stroke of a smaller radius is drawn at this one, with proportionally less ink


def stamp(rows: np.ndarray, strokes: np.ndarray, shape: tuple[int, int], fade: float = 0.0) -> np.ndarray:
    """Ink float32 (B, S, S), 0..1: over each pixel the most that any stroke leaves there.

    Args:
        rows: (n,) number of the picture each stroke belongs to.
        strokes: (n, 7) x and y of either end, the radius at either end, ink 0..1; a disc where the ends coincide.
        shape: (B, S).
        fade: width of the strokes' edge, which is never less than a pixel.
    """
    count, size = shape
    bordered = size + 2  # what strokes leave outside the picture falls on its border
    canvas = np.zeros(count * bordered**2, np.float32)
    strokes = strokes.astype(np.float32)
    ends = (strokes[:, :4].T + 1) * (size / 2) - 0.5  # (4, n) pixels
    radii = strokes[:, 4:6].T * (size / 2)  # (2, n)
    ink = strokes[:, 6] * np.minimum(1, radii.mean(0) / _THINNEST)
    radii = np.maximum(radii, _THINNEST)
    fade = max(1.0, fade * size / 2)
    reach = radii.max(0) + fade / 2
    corner = np.ceil(np.minimum(ends[:2], ends[2:]) - reach).astype(np.int64)  # (2, n)
    side = np.ceil(np.abs(ends[2:] - ends[:2]).max(0) + 2 * reach).astype(np.int64)  # (n,)
    side += side % 2
    for width in np.unique(side):
        part = np.flatnonzero(side == width)
        x, y = corner[:, None, part] + np.arange(width)[:, None]  # (P, n) each
        value = ink[part] * _cover(x, y, ends[:, part], radii[:, part], fade)  # (P, P, n)
        x, y = (np.clip(pixel, -1, size) + 1 for pixel in (x, y))
        place = (rows[part] * bordered + y)[:, None] * bordered + x
        np.maximum.at(canvas, place.ravel(), value.ravel())
    return canvas.reshape(count, bordered, bordered)[:, 1:-1, 1:-1]


def _cover(x: np.ndarray, y: np.ndarray, ends: np.ndarray, radii: np.ndarray, fade: float) -> np.ndarray:
    """(P, P, n) how much of each pixel of its patch a stroke covers."""
    x0, y0, x1, y1 = ends
    dx, dy = x1 - x0, y1 - y0
    x, y = x.astype(np.float32) - x0, (y.astype(np.float32) - y0)[:, None]  # (P, n), (P, 1, n)
    square = np.maximum(dx**2 + dy**2, 1e-6)
    along = np.clip(x * (dx / square) + y * (dy / square), 0, 1)  # (P, P, n)
    distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
    return np.clip((radii[0] + along * (radii[1] - radii[0]) - distance) / fade + 0.5, 0, 1)


class Vessels(NamedTuple):
    """Vessels as chains of points."""

    points: np.ndarray  # (..., T + 1, 2)
    heading: np.ndarray  # (..., T) radians
    radii: np.ndarray  # (..., T + 1)

    def strokes(self, ink: np.ndarray | float) -> np.ndarray:
        """(..., T, 7) as `stamp` wants them; the ink broadcasts to (..., T)."""
        parts = [
            self.points[..., :-1, :],
            self.points[..., 1:, :],
            self.radii[..., :-1, None],
            self.radii[..., 1:, None],
        ]
        return np.concatenate([*parts, np.broadcast_to(ink, self.heading.shape)[..., None]], axis=-1)


def path(start: np.ndarray, heading: np.ndarray, length: np.ndarray, radii: np.ndarray) -> Vessels:
    """Vessels from `start` (..., 2) that go on in directions (..., T) for a length (...) in all."""
    step = length[..., None, None] / heading.shape[-1] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    points = start[..., None, :] + np.concatenate([np.zeros_like(step[..., :1, :]), step.cumsum(-2)], axis=-2)
    return Vessels(points, heading, radii)


# One row a trunk: above (1) or below (-1) the fovea; vein or not; direction at the disc and in the end, in degrees away
# from temporal; length; path over which it turns.
_TRUNKS = np.array([
    (1, 0, 98, -16, 1.75, 0.50), (1, 1, 82, -12, 1.75, 0.58),
    (-1, 0, 84, -14, 1.75, 0.56), (-1, 1, 100, -18, 1.75, 0.48),
    (1, 0, 124, 158, 1.2, 0.5), (1, 1, 108, 146, 1.2, 0.5), (-1, 0, 112, 148, 1.2, 0.5), (-1, 1, 128, 162, 1.2, 0.5),
], np.float32)  # fmt: skip
VEIN = _TRUNKS[:, 1] > 0  # (8,)
_STEPS = (24, 6, 3)  # of a trunk, a branch and a twig
_OFFSHOOTS = (6, 2)  # branches of a trunk, twigs of a branch
_TRAITS = 4  # random numbers of a vessel, beside one a step
_SHAPES = [(8, *_OFFSHOOTS[:order], steps + _TRAITS) for order, steps in enumerate(_STEPS)]
NORMALS = sum(math.prod(shape) for shape in _SHAPES)  # random numbers of a tree
_THICKNESS = 0.0145  # radius of a vein at the disc


def tree(normals: np.ndarray, arcade: np.ndarray, tortuosity: np.ndarray, thickness: np.ndarray) -> list[Vessels]:
    """Trunks (B, 8), branches (B, 8, 6) and twigs (B, 8, 6, 2) of right eyes, x nasally from the centre of the disc.

    Args:
        normals: (B, `NORMALS`) standard normals that settle the trees.
        arcade: (B,) how far the temporal arcades open, about 1.
        tortuosity: (B,) about 1.
        thickness: (B, 8) of the trunks, 1 for a vein of the common width.
    """
    edges = np.cumsum([math.prod(shape) for shape in _SHAPES])[:-1]
    parts = [part.reshape(-1, *shape) for part, shape in zip(np.split(normals, edges, axis=1), _SHAPES)]
    orders = [_trunks(parts[0], arcade, tortuosity, thickness)]
    for part, share in zip(parts[1:], (0.42, 0.50)):
        orders.append(_offshoots(orders[-1], part, share, tortuosity))
    return orders


def _trunks(normals: np.ndarray, arcade: np.ndarray, tortuosity: np.ndarray, thickness: np.ndarray) -> Vessels:
    above, _, first, last, length, turning = _TRUNKS.T  # (8,) each
    steps = _STEPS[0]
    first, last = (np.deg2rad(angle + 8 * normals[..., i]) for i, angle in enumerate((first, last)))  # (B, 8)
    distance = np.linspace(0, 1, steps) * length[:, None]  # (8, T)
    turned = np.exp(-distance / (turning * arcade[:, None])[..., None])
    heading = math.pi + above[:, None] * (last[..., None] + (first - last)[..., None] * turned)
    heading += _wander(normals, tortuosity)
    radii = _THICKNESS * thickness[..., None] * np.linspace(1, 0.4, steps + 1)
    start = 0.012 * normals[..., 2:4]
    return path(start, heading, np.broadcast_to(length, first.shape), radii)


def _offshoots(parents: Vessels, normals: np.ndarray, share: float, tortuosity: np.ndarray) -> Vessels:
    """Vessels that leave their parents to either side in turn, and bend back; `share` of their length."""
    count, steps = normals.shape[-2], normals.shape[-1] - _TRAITS
    last = parents.heading.shape[-1] - 1
    at = np.linspace(0.12, 0.85, count) * last + 0.07 * last * normals[..., 0]
    at = np.clip(at.round().astype(np.int64), 1, last)  # (..., n)
    start = np.take_along_axis(parents.points, at[..., None], -2)
    onwards = np.take_along_axis(parents.heading, at, -1)
    side = np.where((np.arange(count) % 2 > 0) == (normals[..., :1, 3] > 0), 1, -1)
    away = side * (0.85 + 0.15 * normals[..., 1])
    heading = onwards[..., None] + away[..., None] * np.exp(-np.linspace(0, 1.6, steps))
    heading += _wander(normals, tortuosity)
    step = np.hypot(*np.moveaxis(parents.points[..., 1, :] - parents.points[..., 0, :], -1, 0))
    length = share * (last + 1) * step[..., None] * (1.1 - 0.6 * at / last) * np.exp(0.2 * normals[..., 2])
    radii = 0.62 * np.take_along_axis(parents.radii, at, -1)[..., None] * np.linspace(1, 0.4, steps + 1)
    return path(start, heading, length, radii)


def _wander(normals: np.ndarray, tortuosity: np.ndarray) -> np.ndarray:
    """(..., T) turns of a vessel to and fro, radians."""
    steps = normals[..., _TRAITS:]
    return tortuosity.reshape(-1, *[1] * (steps.ndim - 1)) * (0.16 * steps + 0.05 * steps.cumsum(-1))

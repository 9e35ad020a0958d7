"""What mammograms and sonograms of the phantom breast are both drawn with: outlines, dots, letters.

B studies, S pixels a side, A directions, K harmonics, N dots. Every field is float32 (B, S, S), every parameter
(B, 1, 1).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.breast import BreastStudy, Lesion
from nbcore.data.phantom.texture import soft

_ANGLES = 720
_ORDERS = np.arange(2, 13)
_NONE = Lesion(**dict.fromkeys(Lesion._fields, 0.0))._replace(radius=1.0)
_CHUNK_PIXELS = 2**16  # pictures drawn together: as many as the processor's cache holds


class Outline(NamedTuple):
    """A lesion's own field of view, in its radii."""

    reach: np.ndarray  # distance from its centre
    depth: np.ndarray  # distance from its border, positive inside
    fingers: np.ndarray  # 0..1 where spicules leave it, by direction


def in_parts(
    draw: Callable[[Sequence[BreastStudy], int], np.ndarray], studies: Sequence[BreastStudy], size: int
) -> np.ndarray:
    """What `draw` makes of the studies, a few at a time: (B, S, S)."""
    step = max(1, _CHUNK_PIXELS // size**2)
    parts = [draw(studies[start : start + step], size) for start in range(0, len(studies), step)]
    return np.concatenate(parts) if parts else np.zeros((0, size, size), np.uint8)


def stack(rows: Sequence[tuple]) -> tuple:
    """Named tuples of numbers as one of parameters (B, 1, 1)."""
    return type(rows[0])(*columns(rows))


def lesions(studies: Sequence[BreastStudy]) -> tuple[Lesion, np.ndarray]:
    """The lesions' traits, and 1 where there is one."""
    present = columns([[study.lesion is not None] for study in studies])[0]
    return stack([study.lesion or _NONE for study in studies]), present


def trace(studies: Sequence[BreastStudy], traits: Lesion, u: np.ndarray, v: np.ndarray) -> Outline:
    """The outline of each lesion, the same in both modalities; u and v are in radii along and across its long axis."""
    generators = [np.random.default_rng((study.lesion_seed, 0)) for study in studies]
    drawn = np.stack([generator.random((2, len(_ORDERS) + 2)) for generator in generators])  # (B, 2, K + 2)
    rough = traits.irregularity[..., 0]  # (B, 1)
    height = (0.015 + 0.21 * rough) * (0.4 + 0.6 * drawn[:, 0, :-2]) / np.sqrt(_ORDERS)  # (B, K)
    angle = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    waves = np.cos(_ORDERS[:, None] * angle + 2 * np.pi * drawn[:, 1, :-2, None])  # (B, K, A)
    shape = 1 + (height[..., None] * waves).sum(1)  # (B, A)
    spokes = np.cos(np.array([9, 14])[:, None] * angle + 2 * np.pi * drawn[:, 1, -2:, None]).sum(1)  # (B, A)
    step = (np.arctan2(v, u) * (_ANGLES / (2 * np.pi))).astype(int) % _ANGLES
    border, fingers = (
        np.take_along_axis(table.astype(np.float32), step.reshape(len(step), -1), 1).reshape(step.shape)
        for table in (np.clip(shape, 0.45, 1.7), np.clip(spokes - 0.35, 0, 1))
    )
    reach = np.hypot(u, v)
    return Outline(reach, border - reach, fingers)


def dots(places: np.ndarray, radii: np.ndarray, across: np.ndarray, down: np.ndarray, pixel: float) -> np.ndarray:
    """float32 (S, S) bright dots at places (N, 2) of these radii (N,) where the columns and rows are at these places.

    A dot smaller than a pixel is as much paler as it is smaller.
    """
    spread = np.hypot(radii, 0.5 * pixel)[:, None]
    columns_ = np.exp(-(((across - places[:, :1]) / spread) ** 2))  # (N, S)
    rows = np.exp(-(((down - places[:, 1:]) / spread) ** 2))
    layer = (rows * (radii[:, None] / spread) ** 2).T @ columns_
    return np.minimum(layer, 1).astype(np.float32)


def calcifications(study: BreastStudy) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 2), in radii of the lesion, and radii (N,) in millimetres."""
    if study.lesion is None:
        return np.zeros((0, 2)), np.zeros(0)
    generator = np.random.default_rng((study.lesion_seed, 1))
    coarse, micro = study.lesion.coarse, study.lesion.micro
    few, many = (round(2 + 3 * coarse) if coarse else 0), (round(6 + 12 * micro) if micro else 0)
    spots = 0.45 * generator.standard_normal((few + many, 2))
    spots[few:] = 1.5 * spots[few:] + generator.uniform(-0.3, 0.3, 2)
    return spots, np.concatenate([generator.uniform(1.2, 2.4, few), generator.uniform(0.5, 0.9, many)])


@cache
def _letters(text: str, size: int) -> np.ndarray:
    """0..1 (H, W): the text, a sixteenth of the picture high."""
    font = ImageFont.load_default(size=48)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
    high = max(4, round(size / 16))
    wide = min(size, max(2, round(high * image.width / image.height)))
    return np.asarray(image.resize((wide, high), Image.Resampling.BOX), np.float32) / 255


def write_letters(picture: np.ndarray, text: str, across: float, down: float, brightness: float) -> None:
    """Burn a text into a picture (S, S), in place: its middle is at these shares of width and height."""
    size = picture.shape[-1]
    letters = brightness * _letters(text, size)
    high, wide = letters.shape
    top = min(max(round(down * size - high / 2), 0), size - high)
    left = min(max(round(across * size - wide / 2), 0), size - wide)
    area = picture[top : top + high, left : left + wide]
    np.maximum(area, letters, out=area)


def shown(inside: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The lesion's mask, bool (B, S, S)."""
    return (inside > 0.5) & (present > 0)


def border(outline: Outline, traits: Lesion, pixel: np.ndarray, blur: float) -> np.ndarray:
    """0..1 inside a lesion; its edge is as wide as the margin is unsharp, up to `blur` radii, and a pixel at least."""
    return soft(outline.depth, 0.08 + blur * (1 - traits.sharpness) ** 1.5 + pixel / traits.radius)

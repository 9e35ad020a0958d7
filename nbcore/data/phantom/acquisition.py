"""From attenuation to the stored picture: scatter, noise, exposure, contrast curve, collimation and side markers.

B studies, S pixels a side.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.texture import smooth_fields, soft
from nbcore.data.phantom.world import HOSPITALS, Acquisition, ChestStudy

_GLYPHS = {  # 5 x 7 side markers, a row a number
    "R": (30, 17, 17, 30, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "I": (14, 4, 4, 4, 4, 4, 14),
}
_REFERENCE_SIZE = 64  # picture size at which the noise amplitude is stated


def expose(picture: np.ndarray, studies: Sequence[ChestStudy], generators: list[np.random.Generator]) -> np.ndarray:
    """Attenuation (B, S, S) -> uint8 (B, S, S), bright where attenuation is high."""
    size = picture.shape[-1]
    settings = Acquisition(*columns([study.acquisition for study in studies]))
    picture = picture + settings.shading * smooth_fields(generators, 2, size)
    picture += settings.clutter * smooth_fields(generators, 24, size)
    grain = np.stack([generator.standard_normal((size, size), np.float32) for generator in generators])
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    picture += settings.noise * np.sqrt(size / _REFERENCE_SIZE) * np.exp(0.6 * picture) * grain
    picture = _blurred(picture, settings.blur)

    shown = 1 / (1 + np.exp(-4 * (picture - settings.level) / settings.window))
    shown = np.clip(1.06 * shown - 0.03, 0, 1) ** settings.gamma
    shown *= field(studies, size)
    _mark(shown, studies)
    return (255 * shown + 0.5).astype(np.uint8)


def _blurred(picture: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Mix each picture with its mean over neighbouring pixels."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    mean = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
    return picture + amount * (mean - picture)


def field(studies: Sequence[ChestStudy], size: int) -> np.ndarray:
    """(B, S, S) what the collimator lets through: 1 inside the irradiated field, 0 in its black border."""
    settings = Acquisition(*columns([study.acquisition for study in studies]))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    across = np.minimum(grid + 1 - settings.left, 1 - settings.right - grid)  # (B, 1, S)
    grid = grid[:, None]
    down = np.minimum(grid + 1 - settings.top, 1 - settings.bottom - grid)  # (B, S, 1)
    return soft(across, 2 / size) * soft(down, 2 / size)


def _mark(shown: np.ndarray, studies: Sequence[ChestStudy]) -> None:
    """Print a side marker into each picture, in place; nothing about it depends on the findings."""
    size = shown.shape[-1]
    for picture, study in zip(shown, studies):
        side = -1 if study.seed % 4 else 1  # mostly on the patient's right
        stamp = _stamp(HOSPITALS[study.hospital].markers[side > 0], size)
        high, wide = stamp.shape
        top = int((study.acquisition.marker_y + 1) / 2 * size)
        centre = int((side * study.acquisition.marker_x + 1) / 2 * size)
        start = min(max(centre - wide // 2, 0), size - wide)
        area = picture[top : top + high, start : start + wide]
        np.maximum(area, 0.95 * stamp, out=area)


@cache
def _stamp(letter: str, size: int) -> np.ndarray:
    """The marker's letter, about a fourteenth of the picture high."""
    bits = np.array([[row >> bit & 1 for bit in (4, 3, 2, 1, 0)] for row in _GLYPHS[letter]], np.float32)
    high, wide = max(5, size // 14), max(4, size // 20)
    return bits[np.ix_(np.arange(high) * 7 // high, np.arange(wide) * 5 // wide)]

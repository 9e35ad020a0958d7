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
    return (255 * _framed(shown, settings, studies) + 0.5).astype(np.uint8)


def _blurred(picture: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Mix each picture with its mean over neighbouring pixels."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    mean = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
    return picture + amount * (mean - picture)


def _framed(shown: np.ndarray, settings: Acquisition, studies: Sequence[ChestStudy]) -> np.ndarray:
    """Add the side marker, then black out what the collimator hides."""
    size = shown.shape[-1]
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, None, :], grid[None, :, None]
    window = soft(np.minimum(x + 1 - settings.left, 1 - settings.right - x), 2 / size) * soft(
        np.minimum(y + 1 - settings.top, 1 - settings.bottom - y), 2 / size
    )
    shown = shown * window
    for i, study in enumerate(studies):
        marker = study.acquisition
        side = -1 if study.seed % 4 else 1  # mostly on the patient's right
        letter = HOSPITALS[study.hospital].markers[side > 0]
        stamp = _stamp(letter, size)
        top = int((marker.marker_y + 1) / 2 * size)
        centre = int((side * marker.marker_x + 1) / 2 * size)
        start = min(max(centre - stamp.shape[1] // 2, 0), size - stamp.shape[1])
        area = shown[i, top : top + stamp.shape[0], start : start + stamp.shape[1]]
        np.maximum(area, 0.95 * stamp[: area.shape[0], : area.shape[1]], out=area)
    return shown


@cache
def _stamp(letter: str, size: int) -> np.ndarray:
    """The marker's letter, about a fourteenth of the picture high."""
    bits = np.array([[row >> bit & 1 for bit in (4, 3, 2, 1, 0)] for row in _GLYPHS[letter]], np.float32)
    high, wide = max(5, size // 14), max(4, size // 20)
    return bits[np.ix_(np.arange(high) * 7 // high, np.arange(wide) * 5 // wide)]

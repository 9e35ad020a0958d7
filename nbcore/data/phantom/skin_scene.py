"""Where everything lies on a phantom skin lesion: its outline, its patterns, its dots and lines.

Patterns are functions of the place on the lesion in millimetres, so that every picture of a lesion shows the same
ones, at every size. B studies, S pixels a side, W plane waves, A directions, K harmonics. Every field is float32
(B, S, S), every parameter (B, 1, 1); u and v are the place on the lesion, its centre at 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.texture import soft

if TYPE_CHECKING:
    from nbcore.data.phantom.skin import Acquisition, Relief, SkinStudy, Structures, Traits

_ANGLES = 1024
_CANVAS = 384  # least side of the canvas of lines and dots
_WAVES = 24


class Dots(NamedTuple):
    """How the dots of a structure are strewn; pairs are (low, high)."""

    count: tuple[int, int]  # at strengths of 0 and 1
    radius: tuple[float, float]  # millimetres
    spread: float = 0.85  # how far from the centre, in radii of the lesion
    gap: float = 0.0  # millimetres that part a dot from those drawn before it
    ragged: float = 0.0  # millimetres over which their outlines are blurred, then broken up


@dataclass(frozen=True)
class Scene:
    """Where everything is, and the fields it is made of."""

    studies: Sequence["SkinStudy"]
    size: int
    traits: "Traits"
    structures: "Structures"
    relief: "Relief"
    acquisition: "Acquisition"
    u: np.ndarray
    v: np.ndarray
    across: np.ndarray  # distance from the centre: 1 on the border
    depth: np.ndarray  # distance from the border, positive inside
    inside: np.ndarray  # 0..1
    broad: np.ndarray  # unit-variance noise fields that lie fixed on the lesion
    patchy: np.ndarray
    medium: np.ndarray
    fine: np.ndarray
    cells: np.ndarray  # -1.5..3: about a triangular lattice of peaks, and the net of valleys between them

    def resolved(self, length: float) -> np.ndarray:
        """(B, 1, 1) contrast that pixels leave of a pattern of this period; none if they are as large."""
        return np.sinc(np.minimum(2 * self.acquisition.half / self.size / length, 1))

    def dots(self, structure: str, strewn: Dots) -> np.ndarray:
        """0..1 where the dots of a structure lie."""
        number = type(self.structures)._fields.index(structure)
        layer = np.zeros_like(self.u)
        for i, study in enumerate(self.studies):
            if strength := study.structures[number]:
                generator = np.random.default_rng((study.lesion_seed, 1, number))
                count = round(strewn.count[0] + (strewn.count[1] - strewn.count[0]) * strength)
                place, radius = generator.random((2, count)), generator.uniform(*strewn.radius, count)
                reach, angle = strewn.spread * study.traits.radius * np.sqrt(place[0]), 2 * np.pi * place[1]
                canvas = Canvas(study, self.size)
                for spot in np.stack([reach * np.cos(angle), reach * np.sin(angle), radius], 1).tolist():
                    canvas.dot(*spot, strewn.gap)
                layer[i] = canvas.read()
                if strewn.ragged:
                    drawn = ndimage.gaussian_filter(layer[i], strewn.ragged * self.size / (2 * study.acquisition.half))
                    layer[i] = soft(drawn - 0.5 + 0.12 * self.medium[i] + 0.10 * self.fine[i], 0.7) * (drawn > 0.02)
        return layer


class Canvas:
    """Lines and dots in one picture, drawn large and averaged down.

    Places are in millimetres from the lesion's centre and turn with it or, where `fixed`, from the picture's centre.
    """

    def __init__(self, study: "SkinStudy", size: int, fixed: bool = False) -> None:
        settings = study.acquisition
        if fixed:
            settings = settings._replace(tilt=0.0, shift_x=0.0, shift_y=0.0)
        self.size, self.side = size, max(_CANVAS, 2 * size)
        self.scale = self.side / (2 * settings.half)  # canvas pixels a millimetre
        cos, sin = self.scale * np.cos(settings.tilt), self.scale * np.sin(settings.tilt)
        self.turn = np.array([[cos, sin], [-sin, cos]])
        self.centre = np.array([settings.shift_x + 1, settings.shift_y + 1]) * self.side / 2
        self.image = Image.new("L", (self.side, self.side))
        self.pen = ImageDraw.Draw(self.image)

    def dot(self, u: float, v: float, radius: float, gap: float = 0.0, fill: int = 255) -> None:
        """A disc, set off by `gap` from what has been drawn before."""
        x, y = np.array([u, v]) @ self.turn + self.centre
        if gap:
            self.dot(u, v, radius + gap, fill=0)
        reach = radius * self.scale
        self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)

    def line(self, points: np.ndarray, width: float) -> None:
        """A line through points (P, 2), `width` millimetres wide; one too thin to be drawn is paler instead."""
        thickness = width * self.scale
        places = (points @ self.turn + self.centre).ravel().tolist()
        self.pen.line(places, fill=int(255 * min(1.0, thickness)), width=max(1, round(thickness)), joint="curve")

    def read(self) -> np.ndarray:
        """float32 (S, S) share of each pixel that is drawn upon."""
        if self.side % self.size == 0:
            picture = self.image.reduce(self.side // self.size)
        else:
            picture = self.image.resize((self.size, self.size), Image.Resampling.BOX)
        return np.asarray(picture, np.float32) / 255


def stack(rows: Sequence[tuple]) -> tuple:
    """Named tuples of numbers as one of parameters."""
    return type(rows[0])(*columns(rows))


def build_scene(studies: Sequence["SkinStudy"], size: int) -> Scene:
    """Lay out the lesions of a batch."""
    traits, structures, relief, settings = (
        stack([getattr(study, name) for study in studies]) for name in ("traits", "structures", "relief", "acquisition")
    )
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, None, :] - settings.shift_x, grid[None, :, None] - settings.shift_y
    cos, sin = settings.half * np.cos(settings.tilt), settings.half * np.sin(settings.tilt)
    u, v = cos * x + sin * y, cos * y - sin * x
    generators = [np.random.default_rng((study.lesion_seed, 0)) for study in studies]
    broad, patchy, medium, fine = (_waves(generators, length, settings, size) for length in (4.5, 2.6, 1.5, 0.6))

    radius = np.hypot(u / (1 + 0.5 * traits.elongation), v * (1 + 0.5 * traits.elongation))
    step = (np.arctan2(v, u) * (_ANGLES / (2 * np.pi))).astype(int) % _ANGLES
    shape, fingers = (_around(table, step) for table in _tables(generators, traits))
    outline = traits.radius * (shape + 0.16 * structures.streaks * fingers)
    depth = outline - radius + traits.irregularity * (0.12 * medium + 0.25 * broad)
    edge = 0.10 + 1.9 * (1 - traits.sharpness) ** 2 + 2 * settings.half / size
    cells = _cells(generators, u, v, traits, structures, broad, patchy)
    return Scene(
        studies, size, traits, structures, relief, settings, u, v, radius / outline, depth, soft(depth, edge), broad,
        patchy, medium, fine, cells,
    )  # fmt: skip


def _waves(generators: list[np.random.Generator], length: float, settings: "Acquisition", size: int) -> np.ndarray:
    """Fields of unit variance, sums of plane waves of about `length` millimetres that lie fixed on the lesion.

    A plane wave is made of products of a function of the row and one of the column, so a sum of them is a product of
    matrices. Each is averaged over the pixel, which fades waves too short to be shown.
    """
    drawn = np.stack([generator.random((3, _WAVES), np.float32) for generator in generators])  # (B, 3, W)
    angle, wave = 2 * np.pi * drawn[:, 0], 2 * np.pi / length * (0.6 + 0.8 * drawn[:, 1])  # (B, W)
    half, tilt, shift_x, shift_y = (
        field[..., 0] for field in (settings.half, settings.tilt, settings.shift_x, settings.shift_y)
    )  # (B, 1)
    along_x, along_y = half * wave * np.cos(angle + tilt), half * wave * np.sin(angle + tilt)  # radians a half side
    phase = 2 * np.pi * drawn[:, 2] - along_x * shift_x - along_y * shift_y
    height = math.sqrt(2 / _WAVES) * np.sinc(along_x / (np.pi * size)) * np.sinc(along_y / (np.pi * size))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    row, column = along_y[..., None] * grid + phase[..., None], along_x[..., None] * grid  # (B, W, S)
    rows = np.concatenate([np.cos(row), -np.sin(row)], 1) * np.tile(height, 2)[..., None]  # (B, 2W, S)
    return rows.transpose(0, 2, 1) @ np.concatenate([np.cos(column), np.sin(column)], 1)


@cache
def _harmonics() -> np.ndarray:
    """(2, 31, A) cosines and sines of 1 to 31 turns."""
    angle = np.arange(1, 32)[:, None] * np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def _round(heights: np.ndarray, phases: np.ndarray, orders: Sequence[int]) -> np.ndarray:
    """Sums (B, A) of harmonics of these orders, heights and phases (B, K)."""
    cosines, sines = _harmonics()[:, np.array(orders, int) - 1]
    return (heights * np.cos(phases)) @ cosines - (heights * np.sin(phases)) @ sines


def _tables(generators: list[np.random.Generator], traits: "Traits") -> tuple[np.ndarray, np.ndarray]:
    """(B, A) by direction: relative radius of the outline, and 0..1 how far a streak reaches beyond it."""
    order = np.arange(1, 13, dtype=np.float32)
    drawn = np.stack([generator.standard_normal((2, 16), np.float32) for generator in generators])  # (B, 2, 16)
    swing = 0.015 + 0.10 * traits.asymmetry[..., 0] * (order < 5) + 0.045 * traits.irregularity[..., 0] * (order > 3)
    shape = 1 + _round(swing * drawn[:, 0, :12] / order**0.5, 3 * drawn[:, 1, :12], order)
    level, phases = np.ones((len(generators), 2), np.float32), 7 * drawn[:, 1, 12:]  # (B, 4)
    fingers = _round(level, phases[:, :2], (23, 31)) - 0.3
    where = _round(level, phases[:, 2:], (1, 2))
    return np.clip(shape, 0.6, 1.5), np.clip(fingers, 0, 1) * soft(where, 0.8)


def _around(table: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Entries of a table (B, A) for directions (B, S, S)."""
    return np.take_along_axis(table, step.reshape(len(step), -1), 1).reshape(step.shape)


def _cells(
    generators: list[np.random.Generator], u: np.ndarray, v: np.ndarray, traits: "Traits", structures: "Structures",
    broad: np.ndarray, patchy: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Three warped plane waves at sixty degrees to each other: the more warped, the more atypical the network."""
    turn, pitch, *phases = columns([generator.random(4) for generator in generators])
    wave = 2 * np.pi / (0.48 + 0.32 * pitch)
    wild = 1.0 + 1.2 * structures.atypical_network + 0.5 * traits.variegation
    first = 2 * np.pi * phases[0] + wild * broad
    second = 2 * np.pi * phases[1] + wild * patchy
    summed = np.zeros_like(u)
    for third, phase in zip((0, 2 / 3, 4 / 3), (first, second, -first - second)):
        angle = np.pi * (turn + third)
        summed += np.cos(wave * (np.cos(angle) * u + np.sin(angle) * v) + phase)
    return summed

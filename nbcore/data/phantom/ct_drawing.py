"""Draw axial CT slices from studies: chest wall, mediastinum, lungs, lesions, and the scanner's picture of them.

B studies, S pixels a side, n strokes. Fields are float32 (B, S, S), parameters (B, 1, 1). Lengths are in half widths of
the thorax; densities are those of Hounsfield units over 1000 plus 1, so that air is 0, lung 0.15 and water 1. The same
study gives the same scene at every size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.fundus_vessels import path, stamp
from nbcore.data.phantom.texture import smooth_fields, soft

if TYPE_CHECKING:
    from nbcore.data.phantom.ct import Acquisition, Body, CtStudy, Lesion

_CHUNK_PIXELS = 2**16  # pictures drawn together: as many as the processor's cache holds
_REFERENCE_SIZE = 64  # picture size at which the noise amplitude is stated
_EDGE = 0.045  # width over which one tissue passes into the next
_CAVITY = 0.84  # half width of the cavity within the ribs
_FAT, _SOFT, _BONE = 0.90, 1.05, 1.5
_TRUNKS, _TWIGS, _DOTS = 6, 3, 34  # vessels of a lung that lie in the slice, their branches, and those it cuts across


@dataclass(frozen=True)
class Scene:
    """Where everything is."""

    studies: Sequence["CtStudy"]
    generators: list[np.random.Generator]
    body: "Body"  # fields (B, 1, 1)
    scan: "Acquisition"
    height: np.ndarray  # (B, 1, 1)
    x: np.ndarray  # from the midline, the patient's left positive
    y: np.ndarray  # from the middle of the chest, the back positive
    wide: np.ndarray  # (B, 1, 1) half axes of the cavity in this slice
    deep: np.ndarray
    rim: np.ndarray  # distance to the cavity's wall, positive inside
    fissure: np.ndarray  # distance to the oblique fissure, positive behind it
    coarse: np.ndarray  # unit-variance noise fields
    medium: np.ndarray
    fine: np.ndarray

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.x.shape[-1]

    def disc(self, x: np.ndarray | float, y: np.ndarray | float, radius: np.ndarray, flat: float = 1.0) -> np.ndarray:
        """(B, S, S) an ellipse of that half axis across and `flat` times as much front to back."""
        away = np.sqrt((self.x - x) ** 2 + ((self.y - y) / flat) ** 2)
        return soft(radius - away, _EDGE) * (radius > 0)

    def ink(self, row: int, strokes: np.ndarray, fade: float = 0.0) -> np.ndarray:
        """(S, S) what strokes (n, 7) of the chest leave in one picture."""
        placed = self.placed(np.full(len(strokes), row), strokes)
        return stamp(np.zeros(len(strokes), np.int64), placed, (1, self.size), fade)[0]

    def placed(self, rows: np.ndarray, strokes: np.ndarray) -> np.ndarray:
        """Strokes (n, 7) of the chest as they lie in the pictures `rows` (n,)."""
        scan = self.scan
        zoom, tilt, shift_x, shift_y = (
            each.ravel()[rows] for each in (scan.zoom, scan.tilt, scan.shift_x, scan.shift_y)
        )
        cos, sin = zoom * np.cos(tilt), zoom * np.sin(tilt)
        placed = strokes.copy()
        for i in (0, 2):
            placed[:, i] = cos * strokes[:, i] - sin * strokes[:, i + 1] + shift_x
            placed[:, i + 1] = sin * strokes[:, i] + cos * strokes[:, i + 1] + shift_y
        placed[:, 4:6] *= zoom[:, None]
        return placed


def render(studies: Sequence["CtStudy"], size: int) -> np.ndarray:
    """Slices uint8 (B, S, S), seen from the feet; a picture does not depend on which others are drawn with it."""
    images = np.zeros((len(studies), size, size), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, len(studies), chunk):
        scene = _scene(studies[start : start + chunk], size)
        density = _wall(scene)
        organs = np.maximum.reduce([_heart(scene), _vessels_of_the_mediastinum(scene), _domes(scene)])
        lung = _lung(scene, organs)
        inside = soft(scene.rim, _EDGE)
        density += inside * (_mediastinum(scene, organs) - density)
        density += lung * (_parenchyma(scene) - density)
        _airways(scene, density)
        _lesions(scene, density, lung, inside)
        images[start : start + chunk] = _reconstructed(scene, density)
    return images


def _scene(studies: Sequence["CtStudy"], size: int) -> Scene:
    generators = [np.random.default_rng(study.seed) for study in studies]
    body = studies[0].body._make(columns([study.body for study in studies]))
    scan = studies[0].acquisition._make(columns([study.acquisition for study in studies]))
    height = columns([[study.height] for study in studies])[0]
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    across, down = grid[None, None, :] - scan.shift_x, grid[None, :, None] - scan.shift_y
    cos, sin = np.cos(scan.tilt) / scan.zoom, np.sin(scan.tilt) / scan.zoom
    x, y = cos * across + sin * down, cos * down - sin * across
    wide, deep = cavity(body.depth, height)
    rim = (1 - _radius(x, y, wide, deep, body.squareness)) * deep
    fields = [smooth_fields(generators, lattice, size) for lattice in (5, 14, 30)]
    fissure = behind_the_fissure(x, y, deep, height) - 0.015 * fields[0]
    return Scene(studies, generators, body, scan, height, x, y, wide, deep, rim, fissure, *fields)


def cavity(depth: np.ndarray | float, height: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Half axes of the cavity within the ribs, which narrows towards the apex."""
    narrow = 1 - 0.45 * np.clip(1 - height / 0.42, 0, 1) ** 2
    return _CAVITY * narrow, _CAVITY * depth * (0.4 + 0.6 * narrow)


def behind_the_fissure(
    x: np.ndarray | float, y: np.ndarray | float, deep: np.ndarray | float, height: np.ndarray | float
) -> np.ndarray | float:
    """How far behind the oblique fissure, which comes forward from the top of the lungs to their base."""
    return y - deep * (0.80 - 1.45 * height) - 0.22 * (np.abs(x) - 0.45)


def _radius(x: np.ndarray, y: np.ndarray, wide: np.ndarray, deep: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(B, S, S) 1 on the outline of these half axes, less within."""
    return ((np.abs(x) / wide) ** power + (np.abs(y) / deep) ** power) ** (1 / power)


def _wall(scene: Scene) -> np.ndarray:
    """Skin, fat, muscles, ribs, breasts, and the couch below: densities (B, S, S)."""
    body, x, y = scene.body, scene.x, scene.y
    muscle = _CAVITY + body.muscle
    deep = _CAVITY * body.depth + body.muscle
    inner = (1 - _radius(x, y, muscle, deep, body.squareness)) * deep
    outer = (1 - _radius(x, y, muscle + body.fat, deep + 0.8 * body.fat, body.squareness)) * deep
    breast = np.clip(body.breast, 0, 1) * np.clip(scene.height * 3 - 0.9, 0, 1)
    outer += 0.16 * breast * np.exp(-(((np.abs(x) - 0.45) / 0.22) ** 2)) * (y < 0)
    strands = 0.10 * soft(scene.medium - 1.0, 0.8)
    density = soft(outer, _EDGE) * (_FAT + strands)
    density += soft(inner, _EDGE) * (_SOFT - 0.08 * soft(scene.medium - 0.7, 0.6) - density)
    turn = np.arctan2(y, x)
    ribs = soft(np.cos(11 * turn + body.rib_phase + 9 * scene.height) - 0.1, 0.5) * (np.abs(x) > 0.22)
    band = np.exp(-(((scene.rim + 0.5 * body.muscle) / 0.032) ** 2))
    density += body.bone * ribs * band
    sternum = scene.disc(0.0, -scene.deep - 0.045, np.full_like(body.fat, 0.11), 0.4)
    density += 0.8 * body.bone * sternum * (0.8 + 0.2 * scene.fine)
    couch = y - deep - 0.8 * body.fat - 0.09 + 0.10 * x**2
    shell = np.exp(-((couch / 0.022) ** 2)) + 0.5 * np.exp(-(((couch - 0.12) / 0.022) ** 2))
    return density + 0.45 * np.clip(scene.scan.table, 0, 1) * shell


def _spine(scene: Scene) -> np.ndarray:
    """(B, 1, 1) where the middle of the vertebral body lies, front to back."""
    return 0.80 * scene.deep - 0.35 * scene.body.vertebra


def _mediastinum(scene: Scene, organs: np.ndarray) -> np.ndarray:
    """Density of all that is not lung within the cavity: fat, vertebra, and the organs (B, S, S) that lie there."""
    body, back = scene.body, _spine(scene)
    density = _FAT + 0.04 + 0.13 * soft(0.3 + scene.coarse, 1.2)
    density = np.maximum(density, _SOFT * organs)
    bone = scene.disc(0.0, back, body.vertebra, 0.85)
    marrow = scene.disc(0.0, back, 0.72 * body.vertebra, 0.85)
    behind = back + 1.45 * body.vertebra
    arch = scene.disc(0.0, behind, 1.1 * body.vertebra, 0.55)
    canal = scene.disc(0.0, behind - 0.12 * body.vertebra, 0.55 * body.vertebra, 0.75)
    density += bone * (_BONE + 0.05 * scene.fine - density) - 0.28 * marrow
    density += arch * (1.30 - density)
    density += canal * (_SOFT - density)
    return density


def _heart(scene: Scene) -> np.ndarray:
    """(B, S, S) the heart, mostly left of the midline, from the middle of the lungs down."""
    grown = np.sqrt(np.clip((scene.height - 0.44) / 0.22, 0, 1))
    turned_x, turned_y = scene.x - 0.13, scene.y + 0.34 * scene.deep
    along, across = 0.87 * turned_x + 0.5 * turned_y, 0.87 * turned_y - 0.5 * turned_x
    radius = scene.body.heart * grown
    return soft(radius - np.sqrt((along / 1.15) ** 2 + (across / 0.85) ** 2), _EDGE) * (radius > 0)


def _vessels_of_the_mediastinum(scene: Scene) -> np.ndarray:
    """(B, S, S) the aorta and its arch, the vena cava, the pulmonary trunk and the hila."""
    body, height = scene.body, scene.height
    arch = np.clip(1 - np.abs(height - 0.28) / 0.06, 0, 1)
    lower = np.clip((height - 0.30) / 0.04, 0, 1)
    middle = np.clip(1 - np.abs(height - 0.42) / 0.14, 0, 1) ** 0.5
    hila = np.clip(1.3 - np.abs(height - 0.48) / 0.14, 0, 1)
    parts = [
        scene.disc(0.75 * body.vertebra + 0.03, _spine(scene) - 0.9 * body.vertebra, body.aorta * lower),
        scene.disc(0.08, -0.02, 2.2 * body.aorta * arch, 1.4),
        scene.disc(-0.06, -0.45 * scene.deep, 1.35 * body.aorta * middle),
        scene.disc(0.10, -0.40 * scene.deep, 1.45 * body.aorta * middle),
        scene.disc(-0.16, -0.22 * scene.deep, 0.8 * body.aorta * np.clip(1.6 - 2 * height, 0, 1)),
    ]
    parts += [scene.disc(side * 1.15 * body.mediastinum, 0.02, 0.085 * hila, 1.3) for side in (-1, 1)]
    return np.maximum.reduce(parts)


def _domes(scene: Scene) -> np.ndarray:
    """(B, S, S) the domes of the diaphragm: the liver's on the right, lower ones on the left."""
    start = 0.62 + 0.22 * scene.scan.inspiration
    right = 0.95 * np.sqrt(np.clip(scene.height - start, 0, 1))
    left = 0.90 * np.sqrt(np.clip(scene.height - start - 0.07, 0, 1))
    return np.maximum(scene.disc(-0.36, -0.03, right, 0.9), scene.disc(0.42, 0.04, left, 0.9))


def _lung(scene: Scene, organs: np.ndarray) -> np.ndarray:
    """(B, S, S) where both lungs are: within the cavity, beside what else is in it."""
    body, height, back = scene.body, scene.height, _spine(scene)
    above = np.clip(1.15 - height, 0.6, 1)
    half = 0.035 + body.mediastinum * above * np.exp(-(((scene.y + 0.06) / 0.34) ** 2))
    behind = 1.25 * body.vertebra * soft(scene.y - back + 0.4 * body.vertebra, 0.25)
    middle = np.maximum(half, behind) + 0.02 * scene.coarse
    hidden = np.maximum(organs, scene.disc(0.0, back, 1.18 * body.vertebra, 0.9))
    return soft(scene.rim - 0.012, _EDGE) * soft(np.abs(scene.x) - middle, _EDGE) * (1 - hidden)


def _parenchyma(scene: Scene) -> np.ndarray:
    """Density of healthy lung with its vessels and fissures."""
    body, back = scene.body, scene.y / scene.deep
    density = 0.22 - 0.09 * scene.scan.inspiration + 0.035 * back + 0.012 * scene.medium + 0.012 * scene.coarse
    density -= 0.09 * np.clip(body.emphysema, 0, 1) * soft(scene.medium - 0.6, 0.5)
    settled = soft(back - 0.66 + 0.05 * scene.medium, 0.25) * soft(0.11 - scene.rim, 0.1)
    density += 0.30 * np.clip(body.dependent, 0, 1) * settled
    density += 0.16 * np.exp(-((scene.fissure / 0.014) ** 2))
    return density + 0.50 * body.vessels * _pulmonary_vessels(scene)


def _pulmonary_vessels(scene: Scene) -> np.ndarray:
    """(B, S, S) vessels that branch from the hila, and those the slice cuts across."""
    count, steps = len(scene.studies), 5
    normals = np.stack([generator.standard_normal((2, _TRUNKS, 12), np.float32) for generator in scene.generators])
    side = np.array([-1, 1], np.float32)[:, None]  # (2, 1)
    fan = np.linspace(-1.25, 1.25, _TRUNKS) + 0.20 * normals[..., 0]  # (B, 2, trunks) from straight outwards
    heading = np.where(side > 0, fan, np.pi - fan)[..., None] + 0.16 * normals[..., 1 : 1 + steps].cumsum(-1)
    start = np.stack([side * 0.22 + 0.02 * normals[..., 6], 0.02 + 0.05 * normals[..., 7]], -1)
    length = 0.52 * np.exp(0.2 * normals[..., 8])
    radii = 0.020 * np.exp(0.25 * normals[..., 9, None]) * np.linspace(1, 0.3, steps + 1)
    trunks = path(start, heading, length, radii)
    strokes = [trunks.strokes(0.95).reshape(count, -1, 7)]
    for twig in range(_TWIGS):
        bend = (0.7 + 0.2 * normals[..., 10, None]) * (-1) ** (twig + (normals[..., 11, None] > 0))
        away = heading[..., twig + 1 : twig + 2] + bend * np.linspace(1, 0.5, 3)
        thick = 0.65 * radii[..., twig + 1, None] * np.linspace(1, 0.4, 4)
        strokes.append(path(trunks.points[..., twig + 1, :], away, 0.5 * length, thick).strokes(0.85))
        strokes[-1] = strokes[-1].reshape(count, -1, 7)
    strokes.append(_dots(scene))
    strokes = np.concatenate(strokes, axis=1)  # (B, n, 7)
    rows = np.repeat(np.arange(count), strokes.shape[1])
    return stamp(rows, scene.placed(rows, strokes.reshape(-1, 7)), (count, scene.size))


def _dots(scene: Scene) -> np.ndarray:
    """(B, n, 7) vessels cut across, the thinner the nearer to the pleura."""
    turn, far, size = np.stack([generator.random((3, 2, _DOTS)) for generator in scene.generators], axis=1)
    far = 0.1 + 0.85 * np.sqrt(far)
    x = np.array([-1, 1])[:, None] * (0.42 + 0.36 * far * np.cos(2 * np.pi * turn))
    y = scene.deep * 0.86 * far * np.sin(2 * np.pi * turn)
    radius = (0.007 + 0.013 * size) * (1.25 - 0.6 * far)
    return np.stack([x, y, x, y, radius, radius, np.full_like(x, 0.9)], -1).reshape(len(x), -1, 7)


def _airways(scene: Scene, density: np.ndarray) -> None:
    """The trachea and the main bronchi, in place."""
    height, above = scene.height, scene.height < 0.38
    apart = np.where(above, 0, 0.075 + 0.9 * (height - 0.38))
    radius = np.where(above, 0.085, np.where(height < 0.52, 0.060, 0))
    for side in (-1, 1):
        density *= 1 - 0.97 * scene.disc(side * apart, 0.04, radius)


def _lesions(scene: Scene, density: np.ndarray, lung: np.ndarray, inside: np.ndarray) -> None:
    """Everything that is not healthy, in place; the faint before the dense."""
    for kind, paint in _PAINTERS.items():
        within = inside if kind == "effusion" else lung
        for row, study in enumerate(scene.studies):
            for lesion in study.lesions:
                if lesion.kind == kind and (section := lesion.section(study.height)) > 0:
                    half = soft(lesion.side * scene.x[row], _EDGE)
                    paint(scene, row, lesion, section, half * within[row], density[row])


def _shape(scene: Scene, row: int, lesion: "Lesion", section: float, ragged: float, edge: float) -> np.ndarray:
    """(S, S) what a slice shows of an ellipsoid with a ragged border."""
    dx, dy = scene.x[row] - lesion.x, scene.y[row] - lesion.y
    cos, sin = np.cos(lesion.turn), np.sin(lesion.turn)
    along, across = (cos * dx + sin * dy) / lesion.along, (cos * dy - sin * dx) / lesion.across
    away = np.sqrt(along**2 + across**2) + ragged * scene.medium[row]
    return soft(section - away, edge)


def _ground_glass(
    scene: Scene, row: int, lesion: "Lesion", section: float, where: np.ndarray, density: np.ndarray
) -> None:
    cover = where * _shape(scene, row, lesion, section, 0.16, 0.5)
    veil = 0.50 * lesion.density * (1 + 0.15 * scene.fine[row])
    septa = 0.34 * lesion.paving * soft(0.28 - np.abs(scene.fine[row]), 0.3)
    density += cover * (veil + septa) * np.clip(1.25 - density, 0, 1)


def _consolidation(
    scene: Scene, row: int, lesion: "Lesion", section: float, where: np.ndarray, density: np.ndarray
) -> None:
    """Filled air spaces, up to the fissure, with the bronchi left dark."""
    cover = lesion.density * where * _shape(scene, row, lesion, section, 0.18, 0.35)
    centre = np.hypot(scene.x[row] - lesion.x, scene.y[row] - lesion.y).argmin()
    cover = cover * soft(np.sign(scene.fissure[row].flat[centre]) * scene.fissure[row] + 0.05, 0.06)
    filled = 0.98 + 0.03 * scene.medium[row]
    if lesion.bronchogram:
        generator = np.random.default_rng(lesion.seed)
        hilum = np.array([lesion.side * 0.22, 0.02])
        away = np.array([lesion.x, lesion.y]) - hilum
        fan = np.array([-0.35, 0.0, 0.35])[:, None] + 0.12 * generator.standard_normal((3, 5)).cumsum(1)
        length = np.full(3, np.hypot(*away) + 0.7 * lesion.along)
        tubes = path(np.tile(hilum, (3, 1)), np.arctan2(away[1], away[0]) + fan, length, np.full((3, 6), 0.019))
        filled = filled - 0.75 * lesion.bronchogram * scene.ink(row, tubes.strokes(1.0).reshape(-1, 7), 0.02)
    density += cover * (filled - density)


def _tree_in_bud(
    scene: Scene, row: int, lesion: "Lesion", section: float, where: np.ndarray, density: np.ndarray
) -> None:
    """Small nodules in a cluster, some on short stalks."""
    generator = np.random.default_rng(lesion.seed)
    turn, far, size, stalk = generator.random((4, 22))
    far = section * np.sqrt(far)
    x, y = (
        lesion.x + lesion.along * far * np.cos(2 * np.pi * turn),
        lesion.y + lesion.along * far * np.sin(2 * np.pi * turn),
    )
    radius = 0.016 + 0.016 * size
    to_x, to_y = x - 0.09 * stalk * lesion.side, y - 0.05 * (stalk - 0.5)
    strokes = np.stack([x, y, to_x, to_y, radius, 0.5 * radius, np.full_like(x, lesion.density)], axis=1)
    density += where * scene.ink(row, strokes, 0.02) * np.clip(0.85 - density, 0, 1)


def _effusion(scene: Scene, row: int, lesion: "Lesion", section: float, where: np.ndarray, density: np.ndarray) -> None:
    """Fluid that has settled along the back of the cavity."""
    thick = 0.55 * lesion.across * section * soft(scene.y[row] / scene.deep[row] - 0.35, 0.9)
    beside = soft(np.abs(scene.x[row]) - 1.2 * scene.body.vertebra[row], _EDGE)
    density += where * beside * soft(thick - scene.rim[row], _EDGE) * (1.02 - density)


def _solid(scene: Scene, row: int, lesion: "Lesion", section: float, where: np.ndarray, density: np.ndarray) -> None:
    """A nodule, or the band a scar leaves."""
    cover = lesion.density * where * _shape(scene, row, lesion, section, 0.05, 0.3)
    density += cover * np.clip(0.95 - density, 0, 1)


_PAINTERS: dict[str, Callable] = {  # the faint before the dense
    "ground_glass": _ground_glass,
    "scar": _solid,
    "nodule": _solid,
    "tree_in_bud": _tree_in_bud,
    "consolidation": _consolidation,
    "effusion": _effusion,
}


def _reconstructed(scene: Scene, density: np.ndarray) -> np.ndarray:
    """Kernel, noise and window of the scanner: uint8 (B, S, S)."""
    scan, size = scene.scan, scene.size
    for row, study in enumerate(scene.studies):
        smooth = ndimage.gaussian_filter(density[row], study.acquisition.blur * size / 2)
        softer = ndimage.gaussian_filter(smooth, 0.02 * size / 2)
        density[row] = smooth + study.acquisition.sharpening * (smooth - softer)
    grain = np.stack([generator.standard_normal((size, size), np.float32) for generator in scene.generators])
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    density += scan.noise * np.sqrt(size / _REFERENCE_SIZE) * grain
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    circle = soft(scan.circle - np.sqrt(grid**2 + grid[:, None] ** 2), 2 / size)
    shown = np.clip((density - scan.level) / scan.window + 0.5, 0, 1)
    return (255 * shown * circle + 0.5).astype(np.uint8)

"""Draw the lesions of the phantom skin world as a clinical photograph from about 15 centimetres shows them.

The field is several times a dermatoscope's, and light falls from one side: what stands out from the skin shades, casts
a shadow and shines, while light scattered in the skin blurs what lies within it. A picture depends on its study alone.

B studies, S pixels a side. Every field is float32 (B, S, S), every parameter (B, 1, 1), every picture (3, B, S, S) of
reflectances in 0..1. Lengths are in millimetres unless said otherwise.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from nbcore.data.phantom import skin_drawing as drawing
from nbcore.data.phantom.sampling import between
from nbcore.data.phantom.skin import CLASSES, HOSPITALS, Acquisition, SkinStudy, sample_studies
from nbcore.data.phantom.skin_clinical_captions import caption
from nbcore.data.phantom.skin_scene import Canvas, Scene, build_scene, stack
from nbcore.data.phantom.texture import dome, smooth_fields, soft

__all__ = ["CLASSES", "HOSPITALS", "SkinStudy", "caption", "render", "sample_studies"]

_CHUNK_PIXELS = 2**16  # pictures drawn together
_SHARES = (0.14, 0.38)  # least and largest share of the picture's side that a lesion takes
_SCATTER = 0.28  # standard deviation by which light spreads in the skin
_HIDDEN = 0.45  # share of what lies deep in the skin that its surface hides without immersion
_HAIRS = 45.0  # on the hairiest skin, expected
_STRIP, _TICK = 3.5, 1.6  # widths of a paper ruler and of its marks
_CLOTHS = np.array(
    [(0.30, 0.45, 0.60), (0.36, 0.52, 0.46), (0.84, 0.84, 0.82), (0.12, 0.12, 0.14), (0.55, 0.54, 0.52)]
)  # surgical blue and green, white, black, grey


class _Scenery(NamedTuple):
    """Light and surroundings of a picture."""

    azimuth: float  # of the light, radians
    slant: float  # of the light: tangent of its angle to the upright
    glare: float  # of reflections
    relief: float  # of the skin, beside its creases
    depth: float  # 0..1, of blur away from the focus
    edge: float  # half sides from the picture's centre to where the body ends; 1.5 and more: beyond the picture
    outwards: float  # direction of that edge, radians
    roundness: float  # curvature of that edge, per half side
    cloth: float  # what lies behind, 0..1


_SCENERY = _Scenery(
    azimuth=(-3.14, 3.14), slant=(0.35, 0.95), glare=(0.2, 1.0), relief=(0.3, 1.0), depth=(0.0, 0.9),
    edge=(0.66, 2.6), outwards=(-3.14, 3.14), roundness=(0.05, 0.6), cloth=(0.0, 1.0),
)  # fmt: skip
_NORTH = Acquisition(
    half=(9.5, 16.0), shift_x=(-0.25, 0.25), shift_y=(-0.25, 0.25), tilt=(-3.14, 3.14), exposure=(0.72, 1.10),
    contrast=(0.85, 1.15), warmth=(-0.12, 0.10), tint=(-0.06, 0.05), saturation=(0.75, 1.15), shading=(0.03, 0.12),
    vignette=(1.6, 3.0), blur=(0.005, 0.020), noise=(0.006, 0.020), gloss=(-1.0, -0.5), bubbles=(-2.0, -1.0),
    ruler=(-0.85, 0.15),
)  # fmt: skip
_CAMERAS = {  # of each hospital
    "north": _NORTH,
    "south": _NORTH._replace(exposure=(0.80, 1.15), warmth=(-0.16, 0.05), saturation=(0.65, 1.0), ruler=(-0.7, 0.3)),
}


def render(studies: Sequence[SkinStudy], size: int) -> np.ndarray:
    """Clinical photographs, uint8 (B, S, S, 3); none depends on which others are drawn with it."""
    images = np.zeros((len(studies), size, size, 3), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, len(studies), chunk):
        images[start : start + chunk] = _photograph(studies[start : start + chunk], size)
    return images


def _photograph(studies: Sequence[SkinStudy], size: int) -> np.ndarray:
    far, scenery = zip(*map(_shot, studies))
    generators = [np.random.default_rng((study.seed, 2)) for study in studies]
    scene, around = build_scene(far, size), stack(scenery)
    picture = drawing.bare_skin(scene, generators)
    drawing.absorb(picture, drawing.lesion_melanin(scene), drawing.lesion_blood(scene))
    above = picture.copy()
    drawing.depths(scene, picture)
    picture += _HIDDEN * (above - picture)
    _blur(picture, [_SCATTER * size / (2 * study.acquisition.half) for study in far])
    drawing.surface(scene, picture)
    _illuminate(scene, around, picture, _height(scene, around))
    _marks(scene, picture)
    _surround(scene, around, picture, generators)
    _defocus(scene, around, picture)
    return drawing.expose(scene, picture, generators)


def _shot(study: SkinStudy) -> tuple[SkinStudy, _Scenery]:
    """The study as this camera sees it, and the picture's light and surroundings."""
    generator = np.random.default_rng((study.seed, 3))
    camera = between(generator, _CAMERAS[study.hospital])
    least, largest = _SHARES
    half = float(np.clip(camera.half, study.traits.radius / largest, study.traits.radius / least))
    return replace(study, acquisition=camera._replace(half=half)), between(generator, _SCENERY)


def _height(scene: Scene, around: _Scenery) -> np.ndarray:
    """How far the surface stands out."""
    relief, inside = scene.relief, scene.inside
    body = (1 - relief.steepness) * dome(scene.across**2) + relief.steepness * soft(scene.depth, 0.9)
    rim = np.exp(-(((scene.across - 0.78) / 0.17) ** 2)) - 0.6 * soft(0.62 - scene.across, 0.35)
    height = relief.height * (body + 0.7 * relief.rim * rim * inside)
    height += relief.roughness * (0.08 * scene.medium + 0.03 * scene.fine) * inside
    height += relief.keratin * soft(0.55 - scene.across + 0.12 * scene.medium, 0.3) * (0.9 + 0.15 * scene.fine)
    height += 0.12 * scene.structures.scale * soft(scene.fine + 0.5 * scene.medium, 1.0) * inside
    skin = stack([study.skin for study in scene.studies])
    furrows = soft(0.25 - np.abs(scene.medium), 0.5) + soft(0.25 - np.abs(scene.fine + 0.4 * scene.broad), 0.6)
    return height - 0.05 * (around.relief + skin.creases) * furrows


def _illuminate(scene: Scene, around: _Scenery, picture: np.ndarray, height: np.ndarray) -> None:
    """Shading, cast shadow and gloss of a surface, in place."""
    pixel = 2 * scene.acquisition.half / scene.size
    down, right = (slope / pixel for slope in np.gradient(height, axis=(1, 2)))
    east, south = np.cos(around.azimuth), np.sin(around.azimuth)
    facing = -(east * right + south * down)
    steep = np.sqrt(1 + right**2 + down**2)
    picture *= np.clip((1 + around.slant * facing) / steep, 0.55, 1.4)
    picture *= 1 - 0.35 * _shadow(scene, around, height)
    bright = np.exp(-((right + 0.45 * east) ** 2 + (down + 0.45 * south) ** 2) / 0.06)
    shine = 0.85 * scene.relief.shine * scene.inside + 0.10
    drawing.lay(picture, around.glare * shine * bright, "light")


def _shadow(scene: Scene, around: _Scenery, height: np.ndarray) -> np.ndarray:
    """0..1 where what stands between the surface and the light keeps it away."""
    shade = np.zeros_like(height)
    for i, study in enumerate(scene.studies):
        east, south = float(np.cos(around.azimuth[i, 0, 0])), float(np.sin(around.azimuth[i, 0, 0]))
        for reach in (0.5, 1.0, 1.8):
            step = reach * scene.size / (2 * study.acquisition.half)
            lit_side = ndimage.shift(height[i], (-south * step, -east * step), order=1, mode="nearest")
            drop = reach / float(around.slant[i, 0, 0])
            np.maximum(shade[i], soft(lit_side - 0.4 * drop - height[i], 0.5), out=shade[i])
    return shade


def _marks(scene: Scene, picture: np.ndarray) -> None:
    """Hairs and a paper ruler, in place; nothing about them depends on the lesion."""
    hairs, strips, ticks = (np.zeros_like(scene.u) for _ in range(3))
    for i, study in enumerate(scene.studies):
        generator = np.random.default_rng((study.seed, 4))
        if study.skin.hair > 0:
            hairs[i] = drawing.draw_hairs(generator, study, scene.size, _HAIRS)
        if study.acquisition.ruler > 0:
            strips[i], ticks[i] = _ruler(generator, study, scene.size)
    blond = stack([study.skin for study in scene.studies]).blond
    drawing.lay(picture, 0.8 * hairs * (blond < 0.6), "dark hair")
    drawing.lay(picture, 0.5 * hairs * (blond >= 0.6), "fair hair")
    drawing.lay(picture, 0.95 * strips, "light")
    drawing.lay(picture, 0.9 * ticks, "ink")


def _ruler(generator: np.random.Generator, study: SkinStudy, size: int) -> tuple[np.ndarray, np.ndarray]:
    """0..1 where a strip of paper lies along one edge of the picture, and where its marks of millimetres are."""
    strip, ticks = Canvas(study, size, fixed=True), Canvas(study, size, fixed=True)
    half, upright = study.acquisition.half, generator.random() < 0.5
    edge = generator.choice((-1, 1)) * (half - generator.uniform(0.3, 0.9) * _STRIP)
    inner = edge - np.sign(edge) * _STRIP / 2
    ends = np.array([[-1.5 * half, edge], [1.5 * half, edge]])
    strip.line(ends[:, ::-1] if upright else ends, _STRIP)
    for number, place in enumerate(np.arange(generator.uniform(-1, 0) - half, half)):
        length = _TICK if number % 5 == 0 else 0.5 * _TICK
        tick = np.array([[place, inner], [place, inner + np.sign(edge) * length]])
        ticks.line(tick[:, ::-1] if upright else tick, 0.22)
    return strip.read(), ticks.read()


def _surround(scene: Scene, around: _Scenery, picture: np.ndarray, generators: list[np.random.Generator]) -> None:
    """Where the body ends: its darker, rounded edge, and the cloth behind, in place."""
    folds = smooth_fields(generators, 4, scene.size)
    rows = np.flatnonzero(around.edge[:, 0, 0] < 1.5)
    if not len(rows):
        return
    edge, outwards, bend, cloth = (
        field[rows] for field in (around.edge, around.outwards, around.roundness, around.cloth)
    )
    grid = (np.arange(scene.size, dtype=np.float32) + 0.5) / scene.size * 2 - 1
    along = np.cos(outwards) * grid[:, None] - np.sin(outwards) * grid
    out = np.cos(outwards) * grid + np.sin(outwards) * grid[:, None]
    depth = edge - out - 0.5 * bend * along**2  # half sides
    body = soft(depth, 0.04)
    colours = _CLOTHS[(cloth[:, 0, 0] * len(_CLOTHS)).astype(int)].T[..., None, None]  # (3, R, 1, 1)
    behind = colours * (1 + 0.12 * folds[rows]) * (1 - 0.35 * soft(0.25 + depth, 0.5))
    skin = picture[:, rows] * (1 - 0.45 * np.exp(-np.clip(depth, 0, None) / 0.12))
    picture[:, rows] = behind + body * (skin - behind)


def _defocus(scene: Scene, around: _Scenery, picture: np.ndarray) -> None:
    """Blur away from the lesion, on which the camera is focused, in place."""
    grid = (np.arange(scene.size, dtype=np.float32) + 0.5) / scene.size * 2 - 1
    x, y = grid - scene.acquisition.shift_x, grid[:, None] - scene.acquisition.shift_y
    away = around.depth * soft(np.hypot(x, y) - 0.8, 0.9)
    blurred = picture.copy()
    _blur(blurred, [0.02 * scene.size] * len(scene.studies))
    picture += away * (blurred - picture)


def _blur(picture: np.ndarray, spreads: Sequence[float]) -> None:
    """Blur each study's picture with its standard deviation in pixels, in place."""
    for i, spread in enumerate(spreads):
        if spread > 0.3:
            ndimage.gaussian_filter(picture[:, i], (0, spread, spread), output=picture[:, i], mode="nearest")

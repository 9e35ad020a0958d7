"""Draw phantom breasts as a sonogram shows them: layers from the skin down to the ribs, speckle, shadows.

Every tissue sends back an echo and takes some of the sound away; what lies deeper is seen in what is left of it, so
that cancers and ribs throw shadows and cysts let more through (`_sound`). B studies, S pixels a side. Every field is
float32 (B, S, S), every parameter (B, 1, 1). x and y are the place across and below the skin, in millimetres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.breast import BreastStudy, Lesion, Probe, Tissue
from nbcore.data.phantom.breast_captions import caption_sonogram as caption
from nbcore.data.phantom.breast_drawing import (
    Outline,
    border,
    calcifications,
    dots,
    in_parts,
    lesions,
    shown,
    stack,
    trace,
    write_letters,
)
from nbcore.data.phantom.texture import smooth_fields, soft

__all__ = ["caption", "outline", "render"]

_REFERENCE_SIZE = 64  # picture size at which the noise amplitude is stated
_MARGIN = 0.55  # radii over which the least sharp margin fades
_PRESSED = 0.48  # of a lesion's radius, under the probe and of one plane only
_GAP = 1.5  # from the upper edge of the picture to the skin
_WORDS = ("{side}T BREAST", "BREAST", "L12-4", "GEN", "RAD", "TRANS", "SAG", "FR 32", "MI 0.9")


@dataclass(frozen=True)
class _Scene:
    """Where everything is."""

    studies: Sequence[BreastStudy]
    size: int
    tissue: Tissue
    probe: Probe
    lesion: Lesion
    present: np.ndarray
    x: np.ndarray
    y: np.ndarray
    layers: np.ndarray  # y, less the waves and the tilt of the layers
    fields: tuple[np.ndarray, ...]  # unit-variance noise, from broad to fine
    bounds: tuple[np.ndarray, np.ndarray]  # depth of the gland's upper and lower border
    centre: tuple[np.ndarray, np.ndarray]  # of the lesion
    pixel: np.ndarray  # millimetres, the larger of the two sides


def render(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    """Sonograms, uint8 (B, S, S); none depends on which others are drawn with it."""
    return in_parts(_draw, studies, size)


def outline(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    """Where the lesion of each is in its sonogram: bool (B, S, S)."""
    return in_parts(lambda part, side: _mask(_lay_out(part, side, _generators(part))), studies, size)


def _mask(scene: _Scene) -> np.ndarray:
    return shown(_inside(scene, _trace(scene)), scene.present)


def _generators(studies: Sequence[BreastStudy]) -> list[np.random.Generator]:
    return [np.random.default_rng((study.seed, 2)) for study in studies]


def _draw(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    generators = _generators(studies)
    scene = _lay_out(studies, size, generators)
    echo, loss = _layers(scene)
    echo, loss = _lesions(scene, echo, loss)
    echo, loss = _ribs(scene, echo, loss)
    return _display(scene, _sound(scene, echo, loss), generators)


def _lay_out(studies: Sequence[BreastStudy], size: int, generators: list[np.random.Generator]) -> _Scene:
    tissue, probe = stack([study.tissue for study in studies]), stack([study.probe for study in studies])
    place = stack([study.place for study in studies])
    lesion, present = lesions(studies)
    lesion = lesion._replace(radius=_PRESSED * lesion.radius)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (2 * grid - 1) * probe.half, grid[:, None] * probe.depth - _GAP
    fields = tuple(smooth_fields(generators, lattice, size) for lattice in (3, 6, 13, 26))
    layers = y - np.tan(probe.tilt) * x + 1.1 * fields[0]
    upper = 2.0 + tissue.fat + 5.0 * (1 - tissue.density)
    lower = upper + (0.30 + 0.22 * tissue.density) * probe.depth
    tall = lesion.radius * np.sqrt(1 + lesion.elongation)
    centre_y = upper - 1 + place.depth * (lower - upper + 2)
    return _Scene(
        studies, size, tissue, probe, lesion, present, x, y, layers, fields, (upper, lower),
        (0.40 * place.medial * probe.half, np.maximum(centre_y, 3 + tall)),
        2 * probe.half / size,
    )  # fmt: skip


def _trace(scene: _Scene) -> Outline:
    """Its long axis lies along the skin, or upright."""
    lesion = scene.lesion
    long = np.sqrt(1 + lesion.elongation)
    wide = np.where(
        lesion.upright > 0.1, 1 / (long + 0.25 * lesion.upright), long * (1 + 0.12 * np.abs(lesion.upright))
    )
    return trace(
        scene.studies,
        lesion,
        (scene.x - scene.centre[0]) / lesion.radius / wide,
        (scene.y - scene.centre[1]) / lesion.radius * wide,
    )


def _inside(scene: _Scene, outline_: Outline) -> np.ndarray:
    return border(outline_, scene.lesion, scene.pixel, _MARGIN)


def _layers(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """Echo (linear amplitude) and loss (decibels a millimetre) of skin, fat, gland and muscle."""
    (upper, lower), tissue, y = scene.bounds, scene.tissue, scene.layers
    broad, patchy, medium, fine = scene.fields
    wavy = 1.5 * patchy + 0.5 * medium
    gland = soft(y + wavy - upper, 2.0) * soft(lower - y + wavy, 2.5)
    islands = soft(patchy + 0.4 * broad + 2.4 * tissue.density - 0.9, 1.4)  # the rest of the layer is fat lobules
    gland *= 1 - (1 - islands) * (0.5 + 0.5 * tissue.patchiness)
    muscle = soft(y - lower - 2.5, 1.5)
    septa = tissue.septa * soft(0.14 - np.abs(medium + 0.4 * patchy), 0.25) * soft(y - 2, 1.5) * (1 - muscle)
    fibres = soft(np.cos(2.6 * y + 1.2 * medium) - 0.55, 0.8)
    echo = 0.045 * (1 + 0.25 * medium) + gland * (0.24 + 0.08 * patchy + 0.06 * medium + 0.03 * fine) + 0.13 * septa
    echo = echo * (1 - muscle) + muscle * (0.05 + 0.07 * fibres)
    echo += 0.55 * soft(1.1 - np.abs(y - 0.9), 0.7)  # skin
    echo += 0.30 * soft(0.5 - np.abs(y - lower - 2.2 + 0.3 * patchy), 0.6)  # the muscle's fascia
    loss = 0.30 + 0.10 * gland * np.clip(1 + 0.8 * patchy, 0, 3) + 0.25 * septa
    return np.clip(echo, 0.03, None), loss * (y > 0)


def _lesions(scene: _Scene, echo: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the mass, its rim, spicules and calcifications into the tissue."""
    lesion, outline_, medium = scene.lesion, _trace(scene), scene.fields[2]
    inside = scene.present * _inside(scene, outline_)
    beyond = np.clip(-outline_.depth, 0, None)
    rim = scene.present * lesion.halo * np.exp(-(((beyond - 0.18) / 0.16) ** 2)) * (1 - inside)
    spikes = lesion.spiculation * outline_.fingers * np.exp(-beyond / 0.4) * scene.present * (1 - inside)
    pull = scene.present * lesion.distortion * (outline_.fingers > 0.3) * np.exp(-((beyond - 0.5) ** 2) / 0.15)
    content = 0.20 * (1 - lesion.echo) ** 1.25 * np.clip(1 + 0.35 * medium, 0.2, 3) + 0.0022
    echo = echo * (1 - inside) + content * inside
    echo = echo * (1 - 0.75 * spikes) + 0.16 * rim + 0.06 * pull * (1 - inside)
    thin = (outline_.depth > -0.12) & (outline_.depth < 0.05)
    echo += 0.10 * scene.present * lesion.sharpness**2 * thin * (lesion.echo > 0.85)  # a cyst's wall
    radius = np.maximum(lesion.radius, 3.0)
    loss = loss + inside * np.where(lesion.shadow > 0, 6.5, 3.0) * lesion.shadow / radius
    stones = _calcifications(scene)
    return echo + 0.5 * stones, loss + 1.2 * stones


def _calcifications(scene: _Scene) -> np.ndarray:
    layer = np.zeros(scene.layers.shape, np.float32)
    for i, study in enumerate(scene.studies):
        spots, radii = calcifications(study)
        if len(spots):
            spots = 0.8 * spots * scene.lesion.radius[i].item() + [scene.centre[0][i].item(), scene.centre[1][i].item()]
            layer[i] = dots(spots, 0.45 * radii, scene.x[i, 0], scene.y[i, :, 0], scene.pixel[i].item())
    return layer


def _ribs(scene: _Scene, echo: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convex bright lines below the muscle, black behind."""
    ribs = columns([_rib(study) for study in scene.studies])
    top = scene.bounds[1] + 9 + ((scene.x - ribs[0] * scene.probe.half) / ribs[1]) ** 2
    there = (scene.probe.ribs > 0) * soft(1 - np.abs(scene.x - ribs[0] * scene.probe.half) / ribs[2], 0.3)
    below = scene.layers - top
    bone = there * soft(below, 0.8)
    return echo * (1 - bone) + 0.5 * there * soft(0.7 - np.abs(below - 0.4), 0.6), loss + 6 * bone


def _rib(study: BreastStudy) -> tuple[float, ...]:
    generator = np.random.default_rng((study.seed, 3))
    return generator.uniform(-0.8, 0.8), generator.uniform(3.0, 5.0), generator.uniform(5.0, 8.0)


def _sound(scene: _Scene, echo: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Decibels that come back, (B, S, S), with the usual loss made up for."""
    step = scene.probe.depth / scene.size
    passed = np.cumsum(loss, axis=1) * step - 0.5 * loss * step
    return 20 * np.log10(np.maximum(echo, 1e-4)) - np.clip(passed - 0.36 * np.clip(scene.y, 0, None), -9, 40)


def _display(scene: _Scene, decibels: np.ndarray, generators: list[np.random.Generator]) -> np.ndarray:
    """Decibels -> uint8 (B, S, S): speckle, log compression, the probe's field of view, what is written on it."""
    probe, size = scene.probe, scene.size
    waves = [smooth_fields(generators, 64, size) for _ in range(2)]
    speckle = 20 * np.log10(np.hypot(*waves) / 1.25 + 0.15)  # the amplitude of many scatterers is Rayleigh-distributed
    picture = 1 + (decibels + probe.speckle * speckle + probe.gain - 5) / probe.span
    grain = np.stack([generator.standard_normal((size, size), np.float32) for generator in generators])
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    picture = np.clip(picture, 0, 1) + probe.noise * math.sqrt(size / _REFERENCE_SIZE) * grain
    cut = np.clip(probe.sector, 0, None)
    across, down = np.abs(scene.x) / probe.half, (scene.y + _GAP) / probe.depth
    picture = picture * soft(1 - cut * (1 - down) - across, 2 / size) * soft(scene.y + 0.10 * cut * across**2, 0.3)
    for i, study in enumerate(scene.studies):
        _mark(scene, i, study, picture[i])
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8)


def _mark(scene: _Scene, i: int, study: BreastStudy, picture: np.ndarray) -> None:
    """Letters and calipers, in place; how often there are any does not depend on a lesion."""
    generator = np.random.default_rng((study.seed, 4))
    word, across = _WORDS[generator.integers(len(_WORDS))], generator.choice((0.2, 0.8))
    down, reach = generator.choice((0.06, 0.94)), generator.uniform(4.0, 9.0)
    if study.lesion is not None:
        reach = 1.15 * scene.lesion.radius[i].item()
    if study.probe.label > 0:
        write_letters(picture, word.format(side=study.side), across, down, 0.8)
    if study.probe.calipers > 0:
        x, y = (axis[i].item() for axis in scene.centre)
        for end in (x - reach, x + reach):
            write_letters(picture, "+", (end / study.probe.half + 1) / 2, (y + _GAP) / study.probe.depth, 0.9)

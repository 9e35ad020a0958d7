"""Draw phantom breasts as a mammogram shows them: craniocaudal or oblique, the chest wall at one edge, bright on black.

Tissue is laid on as attenuation of X-rays; the film turns it into brightness (`_expose`). B studies, S pixels a side.
Every field is float32 (B, S, S), every parameter (B, 1, 1). u is the distance from the chest wall and v the one below
the nipple, in millimetres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.breast import BreastStudy, Film, Lesion, Tissue
from nbcore.data.phantom.breast_captions import caption_mammogram as caption
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
_MARGIN = 0.9  # radii over which the least sharp margin fades


@dataclass(frozen=True)
class _Scene:
    """Where everything is."""

    studies: Sequence[BreastStudy]
    size: int
    tissue: Tissue
    film: Film
    lesion: Lesion
    present: np.ndarray
    oblique: np.ndarray  # 1 in MLO views
    mirrored: np.ndarray  # -1 where the chest wall is at the right edge
    u: np.ndarray
    v: np.ndarray
    centre: tuple[np.ndarray, np.ndarray]  # u and v of the lesion's centre
    turn: np.ndarray  # of its long axis

    @property
    def pixel(self) -> np.ndarray:
        """Millimetres a pixel."""
        return 2 * self.film.half / self.size

    @property
    def skin(self) -> np.ndarray:
        """Distance from the skin, positive within the breast."""
        droop = 0.12 * self.oblique * self.u
        u, v = (
            np.clip(self.u, 0, None) / self.tissue.reach,
            (self.v - droop) / (self.tissue.breadth * self.tissue.reach),
        )
        return (1 - np.hypot(u**1.15, v)) * self.tissue.reach


def render(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    """Mammograms, uint8 (B, S, S); none depends on which others are drawn with it."""
    return in_parts(_draw, studies, size)


def outline(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    """Where the lesion of each is in its mammogram: bool (B, S, S)."""
    return in_parts(lambda part, side: _mask(_lay_out(part, side)), studies, size)


def _mask(scene: _Scene) -> np.ndarray:
    return shown(border(_trace(scene), scene.lesion, scene.pixel, _MARGIN), scene.present)


def _draw(studies: Sequence[BreastStudy], size: int) -> np.ndarray:
    scene = _lay_out(studies, size)
    generators = [np.random.default_rng((study.seed, 0)) for study in studies]
    thick = _thickness(scene)
    attenuation = _parenchyma(scene, generators) * thick + _lesions(scene, generators) * np.sqrt(thick)
    attenuation += 0.5 * _calcifications(scene) * soft(scene.skin - 2, 3) + _muscle(scene) * soft(scene.skin, 4)
    attenuation += 0.12 * soft(1.3 - np.abs(scene.skin - 1.2), 2.0 + scene.pixel)  # the skin, seen edge on
    return _expose(scene, attenuation, generators)


def _lay_out(studies: Sequence[BreastStudy], size: int) -> _Scene:
    tissue, film = stack([study.tissue for study in studies]), stack([study.film for study in studies])
    place = stack([study.place for study in studies])
    lesion, present = lesions(studies)
    oblique, mirrored = columns([(study.view == "MLO", 1 if study.side == "L" else -1) for study in studies])
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    u = (mirrored * grid + 1) * film.half - 2
    v = (grid[:, None] - film.shift) * film.half
    # seen from above a lesion is medial or lateral, from the side upper or lower
    off = (
        np.where(oblique > 0, -place.upper, place.medial)
        * 0.42
        * tissue.breadth
        * tissue.reach
        * (0.5 + place.along / 2)
    )
    middle = np.minimum(tissue.reach * (0.80 - 0.6 * place.along), 1.55 * film.half)
    turn = columns([[np.random.default_rng((study.lesion_seed, 2)).uniform(0, np.pi)] for study in studies])[0]
    return _Scene(
        studies, size, tissue, film, lesion, present, oblique, mirrored, u, np.broadcast_to(v, (len(studies), size, 1)),
        (middle, off), turn,
    )  # fmt: skip


def _trace(scene: _Scene) -> Outline:
    u, v = (scene.u - scene.centre[0]) / scene.lesion.radius, (scene.v - scene.centre[1]) / scene.lesion.radius
    cos, sin, long = np.cos(scene.turn), np.sin(scene.turn), np.sqrt(1 + scene.lesion.elongation)
    return trace(scene.studies, scene.lesion, (cos * u + sin * v) / long, (cos * v - sin * u) * long)


def _thickness(scene: _Scene) -> np.ndarray:
    """0..1: even where the paddle presses, falling towards the skin."""
    return np.sqrt(np.clip(scene.skin / (0.30 * scene.tissue.reach), 0, 1))


def _parenchyma(scene: _Scene, generators: list[np.random.Generator]) -> np.ndarray:
    """Fat, glandular tissue in a fan behind the nipple, and strands."""
    tissue = scene.tissue
    broad, patchy, medium, fine = (smooth_fields(generators, lattice, scene.size) for lattice in (3, 7, 14, 30))
    across = scene.v / (0.72 * tissue.breadth * tissue.reach)
    fan = 1 - (scene.u / tissue.reach - 0.52) ** 2 / 0.22 - across**2
    gland = soft(fan + 0.45 * broad - 0.8 + 1.3 * tissue.density, 1.0)
    body = 0.62 + 0.16 * patchy + 0.13 * medium + 0.08 * fine
    body += 0.30 * tissue.patchiness * (soft(patchy + 0.4 * medium - 0.5, 0.9) - 0.35)
    strands = soft(0.16 - np.abs(medium + 0.3 * patchy), 0.3) + 0.7 * soft(0.2 - np.abs(fine + 0.5 * broad), 0.4)
    dense = 0.10 + 0.62 * tissue.density**0.8
    return 0.20 + dense * gland * np.clip(body, 0, 1.3) + (0.05 + 0.05 * tissue.septa) * strands * (0.4 + 0.6 * gland)


def _lesions(scene: _Scene, generators: list[np.random.Generator]) -> np.ndarray:
    """The mass, its spicules, and the lines that the tissue is drawn into."""
    lesion, outline_ = scene.lesion, _trace(scene)
    inside = border(outline_, lesion, scene.pixel, _MARGIN)
    grain = smooth_fields(generators, 20, scene.size)
    mass = inside * (0.72 + 0.28 * np.sqrt(np.clip(outline_.depth, 0, 1))) * (1 + 0.08 * grain)
    beyond = np.clip(-outline_.depth, 0, None)
    spicules = lesion.spiculation * outline_.fingers * np.exp(-beyond / 0.65) * soft(0.1 - outline_.depth, 0.2)
    pull = lesion.distortion * (outline_.fingers - 0.22) * np.exp(-((outline_.reach - 1.3) ** 2) / 0.5)
    return scene.present * ((0.12 + 0.30 * lesion.attenuation) * mass + 0.26 * spicules + 0.10 * pull)


def _calcifications(scene: _Scene) -> np.ndarray:
    """Those of the lesion, and single ones anywhere that mean nothing."""
    layer = np.zeros((len(scene.studies), scene.size, scene.size), np.float32)
    for i, study in enumerate(scene.studies):
        spots, radii = calcifications(study)
        centre = [scene.centre[0][i].item(), scene.centre[1][i].item()]
        spots = centre + spots * (study.lesion.radius if study.lesion else 1.0)
        generator = np.random.default_rng((study.seed, 1))
        strays = generator.poisson(max(0.0, study.film.strays))
        where = generator.uniform((0.1, -0.6), (0.8, 0.6), (strays, 2)) * study.tissue.reach
        spots, radii = np.concatenate([spots, where]), np.concatenate([radii, generator.uniform(0.5, 1.3, strays)])
        if len(spots):
            layer[i] = dots(spots, radii, scene.u[i, 0], scene.v[i, :, 0], scene.pixel[i].item())
    return layer


def _muscle(scene: _Scene) -> np.ndarray:
    """The pectoral muscle: a wedge in the upper corner of oblique views."""
    top = scene.v - 0.25 * scene.film.half
    edge = -top * np.sin(scene.film.muscle) - scene.u * np.cos(scene.film.muscle)
    return 0.30 * scene.oblique * soft(edge - 3, 5)


def _expose(scene: _Scene, attenuation: np.ndarray, generators: list[np.random.Generator]) -> np.ndarray:
    """Attenuation -> uint8 (B, S, S)."""
    film, size = scene.film, scene.size
    body = soft(scene.skin, 1.5 + scene.pixel)
    picture = film.exposure * attenuation * (1 + film.shading * smooth_fields(generators, 2, size))
    picture = 1 / (1 + np.exp(-5.2 * film.contrast * (picture - 0.52)))
    grain = np.stack([generator.standard_normal((size, size), np.float32) for generator in generators])
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    picture += film.noise * math.sqrt(size / _REFERENCE_SIZE) * grain
    picture *= body
    for i, study in enumerate(scene.studies):
        if study.film.label > 0:
            outer = 0.86 if study.side == "L" else 0.14
            write_letters(picture[i], f"{study.side} {study.view}", outer, 0.07, 0.85)
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8)

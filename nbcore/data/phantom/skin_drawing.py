"""Draw skin lesions as a dermatoscope shows them.

Light comes back from the skin less what melanin and blood absorb (`absorb`); what lies over or within them, such as
scale, keratin or a veil, is laid on as a colour of its own (`lay`).

B studies, S pixels a side. Every field is float32 (B, S, S), every parameter (B, 1, 1), every picture (3, B, S, S)
of reflectances in 0..1.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from nbcore.data.phantom.skin_scene import Canvas, Dots, Scene, build_scene, stack
from nbcore.data.phantom.texture import smooth_fields, soft

if TYPE_CHECKING:
    from nbcore.data.phantom.skin import SkinStudy

_CHUNK_PIXELS = 2**16  # pictures drawn together: as many as the processor's cache holds
_REFERENCE_SIZE = 64  # picture size at which the noise amplitude is stated
_FAIR = (0.93, 0.76, 0.68)  # skin without melanin or visible blood
_MELANIN = (0.50, 0.88, 1.15)  # absorbance of red, green and blue at a melanin of 1
_BLOOD = (0.14, 0.95, 0.80)
_COLOURS = {
    "veil": (0.49, 0.53, 0.61), "scar": (0.86, 0.78, 0.75), "grey": (0.40, 0.41, 0.45), "nest": (0.38, 0.38, 0.46),
    "crust": (0.56, 0.25, 0.13), "pearl": (0.95, 0.80, 0.79), "keratin": (0.96, 0.91, 0.78),
    "plug": (0.22, 0.13, 0.08), "scale": (0.93, 0.89, 0.80), "patch": (0.93, 0.87, 0.84), "purple": (0.27, 0.13, 0.30),
    "dark hair": (0.16, 0.11, 0.09), "fair hair": (0.70, 0.56, 0.38), "ink": (0.13, 0.13, 0.16),
    "light": (0.98, 0.98, 0.98),
}  # fmt: skip
_DOTS = {
    "dotted_vessels": Dots((25, 70), (0.07, 0.13)),
    "ovoid_nests": Dots((2, 9), (0.30, 0.80), 0.75, ragged=0.15),
    "milia_like_cysts": Dots((5, 18), (0.10, 0.26)),
    "comedo_like_openings": Dots((4, 16), (0.14, 0.36), ragged=0.05),
    "blue_white_veil": Dots((1, 4), (0.8, 1.6), 0.5, ragged=0.30),
    "regression": Dots((1, 4), (0.7, 1.3), 0.75, ragged=0.25),
    "ulceration": Dots((1, 4), (0.5, 0.9), 0.5, ragged=0.20),
    "lacunae": Dots((6, 20), (0.35, 0.90), 0.75, gap=0.12, ragged=0.10),
}


def render(studies: Sequence["SkinStudy"], size: int) -> np.ndarray:
    """Dermoscopic pictures, uint8 (B, S, S, 3); none depends on which others are drawn with it."""
    images = np.zeros((len(studies), size, size, 3), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, len(studies), chunk):
        part = studies[start : start + chunk]
        generators = [np.random.default_rng(study.seed) for study in part]
        scene = build_scene(part, size)
        picture = bare_skin(scene, generators)
        absorb(picture, lesion_melanin(scene), lesion_blood(scene))
        depths(scene, picture)
        surface(scene, picture)
        _marks(scene, picture)
        images[start : start + chunk] = expose(scene, picture, generators)
    return images


def absorb(picture: np.ndarray, melanin: np.ndarray, blood: np.ndarray) -> None:
    """Take away the light that melanin and blood keep, in place."""
    melanin, blood = np.clip(melanin, 0, None), np.clip(blood, 0, None)
    for channel, by_melanin, by_blood in zip(picture, _MELANIN, _BLOOD):
        channel *= np.exp(-by_melanin * melanin - by_blood * blood)


def lay(picture: np.ndarray, cover: np.ndarray, colour: str) -> None:
    """Lay on a colour that covers the share `cover` (B, S, S) of what is there, in place."""
    rows = np.flatnonzero(cover.any((1, 2)))
    cover = np.clip(cover[rows], 0, 1)
    for channel, value in zip(picture, _COLOURS[colour]):
        channel[rows] += cover * (value - channel[rows])


def _dots(scene: Scene, structure: str) -> np.ndarray:
    return scene.dots(structure, _DOTS[structure])


def bare_skin(scene: Scene, generators: list[np.random.Generator]) -> np.ndarray:
    """The skin around, without any lesion."""
    skin = stack([study.skin for study in scene.studies])
    coarse, patchy = (smooth_fields(generators, lattice, scene.size) for lattice in (4, 15))
    furrows = soft(0.2 - np.abs(scene.medium), 0.5) + soft(0.25 - np.abs(scene.fine + 0.4 * scene.broad), 0.6)
    melanin = skin.tone * (1 + 0.06 * coarse + 0.05 * scene.fine) + 0.10 * skin.mottling * np.clip(patchy - 0.4, 0, 2)
    melanin += 0.05 * skin.creases * furrows + 0.10 * skin.pores * soft(scene.fine - 1.5, 0.8) * (0.4 + skin.tone)
    blood = skin.redness * (0.16 + 0.05 * coarse) + 0.07 * skin.mottling * np.clip(0.8 * coarse - patchy - 0.2, 0, 2)
    picture = np.empty((3, *scene.u.shape), np.float32)
    picture[:] = np.array(_FAIR)[:, None, None, None]
    absorb(picture, melanin, blood)
    return picture


def lesion_melanin(scene: Scene) -> np.ndarray:
    """Melanin of the lesion: its ground, networks, globules, ridges and streaks."""
    t, s, inside = scene.traits, scene.structures, scene.inside
    lopsided = 0.5 * t.asymmetry * np.clip(scene.u / t.radius, -1, 1)
    ground = t.melanin * inside * (1 + 0.38 * t.variegation * scene.broad + lopsided)
    ground *= 1 + 0.10 * scene.medium + 0.08 * scene.fine

    shown = scene.resolved(0.65)
    net = shown * (soft(0.4 * scene.medium + 0.15 * scene.fine - 0.15 - scene.cells, 1.5) - 0.35)
    fading = inside * soft(scene.depth, 2.0)
    patches = soft(scene.broad + 0.4, 1.0) * (1.2 + 0.6 * scene.medium)
    rim = soft(0.35 - np.abs(scene.across - 0.85), 0.3)
    spots = shown * soft(scene.cells - 1.1, 1.0) * soft(scene.medium + 0.9, 1.0)
    sulci = soft(0.38 - np.abs(scene.medium + 0.3 * scene.fine), 0.4) - 0.3

    melanin = ground + 0.95 * s.network * net * fading
    melanin += 1.1 * s.atypical_network * net * patches * inside
    melanin += s.peripheral_network * (0.20 + 0.75 * net) * rim
    melanin += 0.95 * s.globules * spots * inside
    melanin += 0.60 * s.ridges * sulci * inside
    return melanin + 0.5 * s.streaks * soft(0.25 - np.abs(scene.across - 0.95), 0.2) * inside


def lesion_blood(scene: Scene) -> np.ndarray:
    """Blood of the lesion: erythema and vessels."""
    t, s = scene.traits, scene.structures
    near = soft(scene.depth + 0.3, 1.2)
    blood = t.blood * near * (1 + 0.3 * t.variegation * scene.medium)
    blood += 0.75 * s.strawberry * (scene.resolved(0.65) * soft(0.2 - scene.cells, 1.6) - 0.2) * scene.inside
    blood += 1.3 * _dots(scene, "dotted_vessels") * near
    return blood + 1.2 * (0.3 + s.arborising_vessels) * _arborising(scene) * near


def _arborising(scene: Scene) -> np.ndarray:
    """0..1 where trunks branch into ever thinner vessels."""
    layer = np.zeros_like(scene.u)
    for i, study in enumerate(scene.studies):
        if strength := study.structures.arborising_vessels:
            generator = np.random.default_rng((study.lesion_seed, 2))
            canvas = Canvas(study, scene.size)
            for _ in range(2 + round(3 * strength)):
                angle = generator.uniform(0, 2 * np.pi)
                start = 0.95 * study.traits.radius * np.array([np.cos(angle), np.sin(angle)])
                heading = angle + np.pi + generator.uniform(-0.6, 0.6)
                _branch(generator, canvas, start, heading, 1.3 * study.traits.radius, 0.19)
            layer[i] = canvas.read()
    return layer


def _branch(
    generator: np.random.Generator, canvas: Canvas, start: np.ndarray, heading: float, length: float, width: float
) -> None:
    """One vessel, and two that spring from it until they are too thin."""
    bends = heading + np.cumsum(generator.normal(0, 0.35, 6))
    points = start + np.cumsum(length / 6 * np.stack([np.cos(bends), np.sin(bends)], 1), 0)
    canvas.line(np.vstack([start, points]), width)
    if width > 0.08:
        for joint, side in zip(generator.integers(1, 5, 2), (-1, 1)):
            turned = bends[joint] + side * generator.uniform(0.5, 1.0)
            _branch(generator, canvas, points[joint], turned, 0.6 * length, 0.66 * width)


def depths(scene: Scene, picture: np.ndarray) -> None:
    """What shimmers through or replaces the pigment, in place: lacunae, nests, veil, regression, pearl, white patch."""
    s, inside = scene.structures, scene.inside
    lay(picture, 0.8 * s.ovoid_nests**0.5 * _dots(scene, "ovoid_nests"), "nest")
    lacunae = _dots(scene, "lacunae")
    absorb(picture, np.zeros_like(lacunae), 1.5 * (0.4 + s.lacunae) * lacunae)
    lay(picture, 0.75 * lacunae * soft(scene.broad - 0.2, 0.6), "purple")
    veil = s.blue_white_veil**0.7 * _dots(scene, "blue_white_veil") * inside
    lay(picture, 0.75 * veil * (1 + 0.2 * scene.patchy), "veil")
    pale = s.regression**0.7 * _dots(scene, "regression") * inside
    lay(picture, 0.8 * pale, "scar")
    lay(picture, 0.8 * pale * soft(scene.fine - 1, 0.5), "grey")
    lay(picture, 0.5 * s.shiny_areas * soft(scene.broad + scene.medium, 1.5) * inside, "pearl")
    middle = soft(0.42 - scene.across + 0.05 * scene.medium, 0.3)
    lay(picture, 0.85 * s.central_white_patch**0.7 * middle, "patch")


def surface(scene: Scene, picture: np.ndarray) -> None:
    """What lies upon the lesion, in place: follicles, cysts, plugs, crusts, keratin and scale."""
    s, inside = scene.structures, scene.inside
    lay(picture, 0.55 * s.strawberry * scene.resolved(0.65) * soft(scene.cells - 1.5, 0.8) * inside, "keratin")
    lay(picture, (0.4 + 0.4 * s.milia_like_cysts) * _dots(scene, "milia_like_cysts"), "keratin")
    lay(picture, 0.85 * _dots(scene, "comedo_like_openings"), "plug")
    lay(picture, (0.5 + 0.4 * s.ulceration) * _dots(scene, "ulceration") * inside, "crust")
    horn = soft(0.5 - scene.across + 0.18 * scene.medium + 0.12 * scene.patchy, 0.25) * (scene.relief.keratin > 0)
    lay(picture, (0.5 + 0.4 * scene.relief.keratin) * horn, "keratin")
    lay(picture, 0.5 * horn * soft(scene.fine + 0.5 * scene.medium - 0.6, 0.8), "crust")
    flakes = soft(0.6 * scene.medium + scene.fine - 0.5, 1.2) * soft(scene.patchy + 0.6, 1.0)
    lay(picture, 0.7 * s.scale * flakes * inside, "scale")


def _marks(scene: Scene, picture: np.ndarray) -> None:
    """Hairs, air bubbles and a ruler, in place; nothing about them depends on the lesion."""
    hairs, bubbles, rulers = (np.zeros_like(scene.u) for _ in range(3))
    for i, study in enumerate(scene.studies):
        generator = np.random.default_rng((study.seed, 1))
        if study.skin.hair > 0:
            hairs[i] = draw_hairs(generator, study, scene.size)
        if study.acquisition.bubbles > 0:
            bubbles[i] = _bubbles(generator, study, scene.size)
        if study.acquisition.ruler > 0:
            rulers[i] = _ruler(generator, study, scene.size)
    blond = stack([study.skin for study in scene.studies]).blond
    lay(picture, 0.9 * hairs * (blond < 0.6), "dark hair")
    lay(picture, 0.7 * hairs * (blond >= 0.6), "fair hair")
    lay(picture, 0.9 * rulers, "ink")
    lay(picture, 0.6 * bubbles, "light")


def draw_hairs(generator: np.random.Generator, study: "SkinStudy", size: int, expected: float = 10) -> np.ndarray:
    """0..1 where bent hairs lie, most of them one way; `expected` of them on the hairiest skin."""
    canvas, half = Canvas(study, size, fixed=True), study.acquisition.half
    lie, width = generator.uniform(0, np.pi), generator.uniform(0.06, 0.13)
    along = np.linspace(-1, 1, 9)
    for _ in range(2 + generator.poisson(expected * study.skin.hair)):
        angle, length = lie + generator.normal(0, 0.5), generator.uniform(2, 8)
        bend = np.stack([length * along, generator.normal(0, 0.8) * along**2], 1)  # (P, 2)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        canvas.line(bend @ turn + generator.uniform(-half, half, 2), width)
    return canvas.read()


def _bubbles(generator: np.random.Generator, study: "SkinStudy", size: int) -> np.ndarray:
    """0..1 where the rims of air bubbles shine."""
    canvas, half = Canvas(study, size, fixed=True), study.acquisition.half
    for _ in range(generator.poisson(study.acquisition.bubbles)):
        (u, v), radius = generator.uniform(-half, half, 2), 0.15 + generator.exponential(0.3)
        canvas.dot(u, v, radius)
        canvas.dot(u, v, max(0.75 * radius, radius - 0.15), fill=40)
        canvas.dot(u - 0.4 * radius, v - 0.4 * radius, 0.2 * radius, fill=200)
    return canvas.read()


def _ruler(generator: np.random.Generator, study: "SkinStudy", size: int) -> np.ndarray:
    """0..1 where a scale of millimetres runs along one edge of the picture."""
    canvas, half = Canvas(study, size, fixed=True), study.acquisition.half
    edge, upright = generator.choice((-1, 1)) * generator.uniform(0.86, 0.97) * half, generator.random() < 0.5
    for number, place in enumerate(np.arange(generator.uniform(-1, 0) - half, half)):
        tick = np.array([[place, edge], [place, edge - np.sign(edge) * (0.9 if number % 5 == 0 else 0.5)]])
        canvas.line(tick[:, ::-1] if upright else tick, 0.09)
    return canvas.read()


def expose(scene: Scene, picture: np.ndarray, generators: list[np.random.Generator]) -> np.ndarray:
    """Reflectance (3, B, S, S) -> uint8 (B, S, S, 3): light, lens, sensor, colour balance."""
    size, settings = scene.size, scene.acquisition
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    light = 1 + settings.shading * smooth_fields(generators, 2, size)
    gloss = np.clip(settings.gloss, 0, None) * 0.2 * soft(smooth_fields(generators, 30, size) - 2.2, 0.8)
    light *= settings.exposure * soft(settings.vignette - np.hypot(grid, grid[:, None]), 0.12)
    for channel, gain in zip(picture, (1 + settings.warmth, 1 + settings.tint, 1 - settings.warmth)):
        channel += gloss
        channel *= gain * light
    grey = picture.mean(0)
    picture = 0.55 + settings.contrast * (grey + settings.saturation * (picture - grey) - 0.55)
    for i, study in enumerate(scene.studies):
        spread = study.acquisition.blur * size / 2
        if spread > 0.3:
            ndimage.gaussian_filter(picture[:, i], (0, spread, spread), output=picture[:, i], mode="nearest")
    grain = np.stack([generator.standard_normal((3, size, size), np.float32) for generator in generators], 1)
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    picture += settings.noise * math.sqrt(size / _REFERENCE_SIZE) * grain
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8).transpose(1, 2, 3, 0)

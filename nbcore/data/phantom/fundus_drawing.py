"""Draw fundus photographs from studies: retina, vessels, lesions, camera.

B studies, S pixels a side, n strokes. Fields are float32 (B, S, S), parameters (B, 1, 1), colours red, green and blue
in front: (3, B, S, S). Lengths are in half sides of the picture. The same study gives the same scene at every size.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from nbcore.data.phantom.anatomy import columns
from nbcore.data.phantom.fundus_vessels import NORMALS, VEIN, path, stamp, tree
from nbcore.data.phantom.texture import smooth_fields, soft

if TYPE_CHECKING:
    from nbcore.data.phantom.fundus import Camera, Eye, FundusStudy, Lesion

_CHUNK_PIXELS = 2**16  # pictures drawn together: as many as the processor's cache holds
_REFERENCE_SIZE = 64  # picture size at which the noise amplitude is stated


def _colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)[:, None, None, None]


_RETINA = _colour(0.90, 0.50, 0.26)  # without pigment
_MELANIN = _colour(0.42, 0.85, 1.00)  # absorption
_BLOOD = _colour(0.42, 1.25, 1.10)
_GREY = _colour(0.55, 0.60, 0.50)
_RIM, _CUP, _SCLERA = _colour(0.98, 0.74, 0.44), _colour(1.0, 0.90, 0.66), _colour(0.95, 0.80, 0.56)
_LIPID, _COTTON, _DRUSE = _colour(0.98, 0.86, 0.44), _colour(0.93, 0.82, 0.62), _colour(0.95, 0.76, 0.44)
_FIBROUS, _SCAR, _CLOTTED = _colour(0.80, 0.72, 0.58), _colour(0.92, 0.76, 0.50), _colour(0.42, 0.08, 0.05)
_VEIL = _colour(0.66, 0.46, 0.30)


@dataclass(frozen=True)
class Scene:
    """Where everything is."""

    studies: Sequence["FundusStudy"]
    lesions: dict[str, list[tuple[int, "Lesion"]]]  # kind -> (number of the picture, lesion)
    generators: list[np.random.Generator]
    eye: "Eye"  # fields (B, 1, 1)
    camera: "Camera"
    x: np.ndarray  # (1, 1, S)
    y: np.ndarray  # (1, S, 1)
    nasal: np.ndarray  # from the centre of the disc, away from the fovea
    below: np.ndarray  # from the centre of the disc
    coarse: np.ndarray  # unit-variance noise fields
    medium: np.ndarray
    fine: np.ndarray

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.x.shape[-1]

    def each(self, kind: str) -> list[tuple[int, "Lesion"]]:
        """(number of the picture, lesion) of every lesion of a kind."""
        return self.lesions.get(kind, [])

    def table(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Number of the picture (n,), and x, y, size, contrast and angle (5, n), of every lesion of a kind."""
        rows = [row for row, _ in self.each(kind)]
        return np.array(rows, np.int64), np.array([lesion[1:] for _, lesion in self.each(kind)]).reshape(-1, 5).T

    def blob(self, lesion: "Lesion", flattening: float = 1.0) -> np.ndarray:
        """(S, S) distance from a lesion's centre over its radius, the short axis being `flattening` of the long one."""
        dx, dy = self.x[0] - lesion.x, self.y[0] - lesion.y
        cos, sin = np.cos(lesion.angle), np.sin(lesion.angle)
        return np.sqrt((cos * dx + sin * dy) ** 2 + ((cos * dy - sin * dx) / flattening) ** 2) / lesion.size

    def ink(self, rows: Sequence[int], strokes: Sequence[np.ndarray], fade: float = 0.0) -> np.ndarray:
        """(B, S, S) what strokes leave: blocks (n, 7), and the number of the picture of each block."""
        if not len(rows):
            return np.zeros((len(self.studies), self.size, self.size), np.float32)
        rows = np.repeat(rows, [len(block) for block in strokes])
        return stamp(rows, np.concatenate(strokes), (len(self.studies), self.size), fade)


def render(studies: Sequence["FundusStudy"], size: int) -> np.ndarray:
    """Photographs uint8 (B, S, S, 3); a picture does not depend on which others are drawn with it."""
    images = np.zeros((len(studies), size, size, 3), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, len(studies), chunk):
        scene = _scene(studies[start : start + chunk], size)
        reflected = _retina(scene)
        _disc(scene, reflected)
        reflected *= np.exp(-_BLOOD * _vessels(scene))
        _pale_lesions(scene, reflected)
        _red_lesions(scene, reflected)
        _in_front(scene, reflected)
        images[start : start + chunk] = _photograph(scene, reflected)
    return images


def _scene(studies: Sequence["FundusStudy"], size: int) -> Scene:
    generators = [np.random.default_rng(study.seed) for study in studies]
    eye = studies[0].anatomy._make(columns([study.anatomy for study in studies]))
    camera = studies[0].camera._make(columns([study.camera for study in studies]))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, None, :], grid[None, :, None]
    side, disc_x, disc_y = columns([[study.nasal, *study.disc] for study in studies])
    dx, dy = x - disc_x, y - disc_y
    cos, sin = np.cos(camera.tilt), np.sin(camera.tilt)
    lesions = defaultdict(list)
    for row, study in enumerate(studies):
        for lesion in study.lesions:
            lesions[lesion.kind].append((row, lesion))
    fields = [smooth_fields(generators, lattice, size) for lattice in (4, 13, 30)]
    nasal, below = side * (cos * dx + sin * dy), cos * dy - sin * dx
    return Scene(studies, lesions, generators, eye, camera, x, y, nasal, below, *fields)


def _blend(picture: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """Lay a colour over pictures (3, B, S, S), in place, where it covers them."""
    picture += cover * (colour - picture)


def _retina(scene: Scene) -> np.ndarray:
    """Pigment epithelium, choroid and macula: reflectance (3, B, S, S)."""
    eye = scene.eye
    from_fovea = np.sqrt((scene.nasal + eye.distance) ** 2 + (scene.below - eye.drop) ** 2)
    choroid = soft(0.45 - np.abs(scene.medium + 0.5 * scene.coarse), 0.7) * soft(from_fovea - 0.25, 0.4)
    pigment = 0.1 + 0.75 * eye.pigment + 0.10 * scene.coarse + 0.04 * scene.medium + 0.03 * scene.fine
    pigment -= 0.32 * np.clip(eye.tessellation, 0, 1) * (choroid - 0.4)
    pigment += 0.50 * eye.macula * np.exp(-((from_fovea / 0.17) ** 2))
    pigment += 0.20 * eye.macula * np.exp(-((from_fovea / 0.05) ** 2))
    return _RETINA * np.exp(-_MELANIN * pigment)


def _disc(scene: Scene, picture: np.ndarray) -> None:
    """Optic disc with its cup, and the crescent of a myopic eye."""
    eye = scene.eye
    edge = max(0.02, 2 / scene.size)
    crescent = np.zeros_like(eye.disc)
    for row, lesion in scene.each("crescent"):
        crescent[row] = lesion.size
    around = np.sqrt((scene.nasal + crescent) ** 2 + (scene.below / eye.disc_height) ** 2)
    _blend(picture, _SCLERA, 0.8 * soft(eye.disc + 0.4 * crescent - around, edge) * (crescent > 0))
    away = np.sqrt(scene.nasal**2 + (scene.below / eye.disc_height) ** 2)
    rim = _RIM * (1 - 0.10 * eye.pigment) * (1 - 0.6 * np.clip(scene.nasal, 0, 0.2))
    _blend(picture, rim, 0.92 * soft(eye.disc - away, edge))
    within = np.sqrt((scene.nasal + 0.1 * eye.disc) ** 2 + scene.below**2)
    _blend(picture, _CUP, 0.85 * soft(eye.disc * eye.cup - within, 2 * edge))


def _vessels(scene: Scene) -> np.ndarray:
    """Ink of the arteries and veins; beaded veins swell and narrow."""
    count, eye = len(scene.studies), scene.eye
    normals = np.stack([generator.standard_normal(NORMALS, np.float32) for generator in scene.generators])
    width = eye.vessels[..., 0] * np.where(VEIN, 1, eye.arteries[..., 0])  # (B, 8)
    beads = np.zeros((count, 1, 1), np.float32)
    for row, lesion in scene.each("beading"):
        beads[row] = lesion.contrast
    strokes = []
    for order, vessels in enumerate(tree(normals, eye.arcade.ravel(), eye.tortuosity.ravel(), width)):
        swelling = np.where(np.arange(vessels.radii.shape[-1]) % 2 > 0, 0.7, -0.55)
        beaded = 1 + (beads * VEIN[:, None]).reshape(count, 8, *[1] * (order + 1)) * swelling
        ink = (1 - 0.15 * order) * np.where(VEIN, 0.85, 0.50).reshape(8, *[1] * (order + 1))
        strokes.append(vessels._replace(radii=vessels.radii * beaded).strokes(ink).reshape(count, -1, 7))
    strokes = np.concatenate(strokes, axis=1)  # (B, n, 7) in the frame of a right eye
    return scene.ink(range(count), [_placed(study, block) for study, block in zip(scene.studies, strokes)])


def _placed(study: "FundusStudy", strokes: np.ndarray) -> np.ndarray:
    """Strokes (n, 7) in the frame of a right eye's disc brought into the picture; none crosses the fovea."""
    cos, sin = np.cos(study.camera.tilt), np.sin(study.camera.tilt)
    turned = strokes.copy()
    for i in (0, 2):
        nasal, below = study.nasal * strokes[:, i], strokes[:, i + 1]
        turned[:, i] = study.disc[0] + cos * nasal - sin * below
        turned[:, i + 1] = study.disc[1] + sin * nasal + cos * below
    turned[:, 6] *= np.clip(np.hypot(*(turned[:, :2] - study.fovea).T) / 0.06 - 1, 0, 1)
    return turned


def _discs(scene: Scene, kind: str, radius: float = 1.0, ink: float = 1.0, fade: float = 0.0) -> np.ndarray:
    """(B, S, S) round lesions; `radius` and `ink` are factors."""
    rows, (x, y, size, contrast, _) = scene.table(kind)
    strokes = np.stack([x, y, x, y, radius * size, radius * size, ink * contrast], axis=1)
    return scene.ink(rows, strokes[:, None], fade)


def _lobed(scene: Scene, kind: str, fade: float = 0.0) -> np.ndarray:
    """(B, S, S) lesions of three unequal discs that overlap."""
    rows, (x, y, size, contrast, angle) = scene.table(kind)
    strokes = []
    for part, away in ((0.85, 0.15), (0.60, 0.55), (0.45, 0.75)):
        angle = angle * 1.7 + 1
        to_x, to_y = x + away * size * np.cos(angle), y + away * size * np.sin(angle)
        strokes.append(np.stack([to_x, to_y, to_x, to_y, part * size, part * size, contrast], axis=1))
    return scene.ink(rows, np.stack(strokes, axis=1), fade)


def _flames(scene: Scene) -> np.ndarray:
    """(B, S, S) pairs of strokes along the nerve fibres, away from the disc."""
    rows, (x, y, size, contrast, _) = scene.table("flame")
    disc = np.array([scene.studies[row].disc for row in rows]).reshape(-1, 2).T
    strokes = []
    for turn in (-0.15, 0.15):
        outwards = np.arctan2(y - disc[1], x - disc[0]) + turn
        dx, dy = 0.5 * size * np.cos(outwards), 0.5 * size * np.sin(outwards)
        wide = np.full_like(x, 0.018)
        strokes.append(np.stack([x - dx, y - dy, x + dx, y + dy, wide, 0.25 * wide, contrast], axis=1))
    return scene.ink(rows, np.stack(strokes, axis=1))


def _specks(scene: Scene, kind: str, number: tuple[int, int], radius: tuple[float, float], ink: float) -> np.ndarray:
    """(B, S, S) clusters of small discs; some of those of exudates form a ring."""
    blocks = []
    for row, cluster in scene.each(kind):
        generator = scene.generators[row]
        count = generator.integers(number[0], number[1] + 1)
        ring = kind == "exudates" and cluster.contrast > 0.85
        far = cluster.size * generator.uniform(0.75 if ring else 0, 1, count)
        turn = generator.uniform(0, 2 * np.pi, count)
        x, y = cluster.x + far * np.cos(turn), cluster.y + far * np.sin(turn)
        size = generator.uniform(*radius, count)
        blocks.append(np.stack([x, y, x, y, size, size, np.full(count, ink * cluster.contrast)], axis=1))
    return scene.ink([row for row, _ in scene.each(kind)], blocks)


def _tangle(
    scene: Scene, kind: str, number: int, radius: float, turning: float, ink: float, fade: float = 0.0
) -> np.ndarray:
    """(B, S, S) tortuous strokes from the middle of each lesion out to its size."""
    blocks = []
    for row, lesion in scene.each(kind):
        generator = scene.generators[row]
        turns = turning * generator.standard_normal((number, 8)).cumsum(1)
        heading = lesion.angle + 2 * np.pi * generator.random((number, 1)) + turns
        start = np.array([lesion.x, lesion.y]) + 0.3 * lesion.size * generator.standard_normal((number, 2))
        length = lesion.size * generator.uniform(0.8, 1.8, number)
        radii = radius * generator.uniform(0.7, 1.2, (number, 1)) * np.linspace(1, 0.7, 9)
        blocks.append(path(start, heading, length, radii).strokes(ink * lesion.contrast).reshape(-1, 7))
    return scene.ink([row for row, _ in scene.each(kind)], blocks, fade)


def _pale_lesions(scene: Scene, picture: np.ndarray) -> None:
    """Drusen, naevi, laser scars, cotton-wool spots and hard exudates."""
    for row, lesion in scene.each("naevus"):
        picture[:, row] *= np.exp(-_GREY[:, 0] * 0.7 * lesion.contrast * soft(1 - scene.blob(lesion, 0.8), 0.35))
    _blend(picture, _DRUSE, _specks(scene, "drusen", (10, 28), (0.006, 0.014), 0.55))
    _blend(picture, _SCAR, _discs(scene, "laser", 1.0, 0.65, 0.02))
    picture *= np.exp(-_GREY * _discs(scene, "laser", 0.45, 1.5, 0.01))
    _blend(picture, _COTTON, 0.85 * _lobed(scene, "cotton_wool", 0.04))
    _blend(picture, _LIPID, _specks(scene, "exudates", (6, 24), (0.006, 0.017), 1.0))


def _red_lesions(scene: Scene, picture: np.ndarray) -> None:
    """Microaneurysms, haemorrhages within the retina, and abnormal vessels."""
    layers = (
        _discs(scene, "microaneurysm"),
        _lobed(scene, "haemorrhage", 0.012),
        _flames(scene),
        _tangle(scene, "irma", 4, 0.006, 0.8, 0.8),
        _tangle(scene, "new_vessels", 15, 0.0075, 0.6, 1.0),
        _tangle(scene, "disc_vessels", 20, 0.0075, 0.6, 1.0),
    )
    picture *= np.exp(-_BLOOD * np.maximum.reduce(layers))


def _in_front(scene: Scene, picture: np.ndarray) -> None:
    """What hides the retina: fibrous tissue, preretinal and vitreous haemorrhage, asteroid bodies."""
    _blend(picture, _FIBROUS, _tangle(scene, "fibrous", 5, 0.028, 0.15, 0.60, 0.07))
    edge = max(0.05, 3 / scene.size)
    for row, lesion in scene.each("preretinal"):  # blood that has settled below a level
        away = np.hypot(scene.x[0] - lesion.x, (scene.y[0] - lesion.y) / 0.75) + 0.02 * scene.medium[row]
        pool = soft(lesion.size - away, edge) * soft(scene.y[0] - lesion.y + 0.25 * lesion.size, edge)
        _blend(picture[:, row], _CLOTTED[:, 0], (0.55 + 0.4 * lesion.contrast) * pool)
    for row, lesion in scene.each("vitreous"):
        clouds = np.exp(-(scene.blob(lesion, 0.7) ** 2)) * soft(scene.coarse[row] + 0.6 * scene.medium[row] + 0.5, 2.0)
        _blend(picture[:, row], 0.9 * _CLOTTED[:, 0], np.clip(1.1 * lesion.contrast * clouds, 0, 0.9))
    _blend(picture, _COTTON, _specks(scene, "asteroid", (14, 36), (0.006, 0.013), 0.9))


def _photograph(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """Light, lens and sensor of the camera: uint8 (B, S, S, 3)."""
    camera, size = scene.camera, scene.size
    dx = scene.x - camera.centre
    outwards = np.sqrt(dx**2 + scene.y**2) / camera.radius
    across = np.cos(camera.direction) * dx + np.sin(camera.direction) * scene.y
    light = camera.exposure * (1 - camera.vignette * outwards**2 + camera.uneven * across + 0.04 * scene.coarse)
    _blend(picture, _VEIL, np.clip(camera.haze, 0, 1))
    picture *= np.clip(light, 0, None)
    for row, lesion in scene.each("reflection"):
        picture[:, row] += _colour(0.16, 0.20, 0.24)[:, 0] * lesion.contrast * soft(1 - scene.blob(lesion, 0.35), 1.2)
    picture *= 1 - _discs(scene, "dust", 1.0, 0.5, 0.02)
    picture *= np.stack([camera.red, np.ones_like(camera.red), camera.blue])
    picture **= camera.gamma

    for row, study in enumerate(scene.studies):
        deviation = max(study.camera.blur, 0) * size / 2
        picture[:, row] = ndimage.gaussian_filter(picture[:, row], (0, deviation, deviation))
    grain = np.stack([generator.standard_normal((3, size, size), np.float32) for generator in scene.generators], axis=1)
    # averaging pixels averages their noise, so fewer and larger pixels are quieter
    picture += camera.noise * np.sqrt(size / _REFERENCE_SIZE) * grain
    field = soft(camera.radius * (1 - outwards), 2 / size) * soft(camera.cut - np.abs(scene.y), 2 / size)
    shown = 255 * np.clip(picture, 0, 1) * field + 0.5
    return np.moveaxis(shown.astype(np.uint8), 0, -1)

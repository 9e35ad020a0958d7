"""The normal frontal chest as a map of X-ray attenuation, in coordinates that no resolution enters.

B studies, S pixels a side. Every field is float32 (B, S, S), every parameter (B, 1, 1). Lengths are in half sides of
the picture; attenuation is in units of a thick slab of soft tissue, so that lung shows near 0.3 and spine near 1.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbcore.data.phantom.texture import dome, smooth_fields, soft
from nbcore.data.phantom.world import Acquisition, Anatomy, ChestStudy

LEFT, RIGHT = 1, -1  # the patient's sides as signs of x


@dataclass(frozen=True)
class Scene:
    """Where everything is: what the findings are drawn in."""

    anatomy: Anatomy  # fields (B, 1, 1), as changed by findings and inspiration
    x: np.ndarray  # from the midline, the patient's left positive
    y: np.ndarray
    r: np.ndarray  # |x|
    left: np.ndarray  # 1 in the patient's left half, 0 in the right
    outer: np.ndarray  # lateral border of the lungs at this height
    base: np.ndarray  # height of the diaphragm over this point
    lung: np.ndarray  # 0..1
    heart: np.ndarray  # 0..1 thickness
    vessels: np.ndarray  # 0..1
    coarse: np.ndarray  # unit-variance noise fields
    medium: np.ndarray
    fine: np.ndarray

    def __getitem__(self, rows: Sequence[int]) -> "Scene":
        """The scene of some of the studies."""
        picked = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, anatomy=Anatomy(*(value[rows] for value in self.anatomy)), **picked)

    def toward(self, side: int) -> np.ndarray:
        """Distance from the midline into one half of the chest, negative in the other."""
        return side * self.x

    def lung_of(self, side: int) -> np.ndarray:
        """The lung of one side, thinner where the heart lies before it."""
        return self.lung * (1 - 0.6 * self.heart) * (self.left if side == LEFT else 1 - self.left)


def columns(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Parameters (B, P) as (P, B, 1, 1), ready to broadcast over pictures."""
    return np.array(rows, np.float32).T[..., None, None]


def visibility(studies: Sequence[ChestStudy], name: str) -> np.ndarray:
    """(B, 1, 1) visibility of one finding, 0 where absent."""
    found = (study.find(name) for study in studies)
    return columns([[finding.visibility if finding else 0.0] for finding in found])[0]


def build_scene(studies: Sequence[ChestStudy], size: int, generators: list[np.random.Generator]) -> Scene:
    """Lay out the chests of a batch of frontal studies."""
    acquisition = Acquisition(*columns([study.acquisition for study in studies]))
    anatomy = _altered(studies, acquisition)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    across, down = grid[None, None, :] - acquisition.shift_x, grid[None, :, None] - acquisition.shift_y
    cos, sin = np.cos(acquisition.tilt) / acquisition.zoom, np.sin(acquisition.tilt) / acquisition.zoom
    x, y = cos * across + sin * down, cos * down - sin * across
    x = x - anatomy.spine_bend * (1 - 2 * y**2)
    r, left = np.abs(x), (x > 0).astype(np.float32)

    height = np.clip((y - anatomy.apex) / (anatomy.dome + 0.2 - anatomy.apex), 0, 1)
    turned = 1 + (2 * left - 1) * acquisition.turn
    outer = anatomy.lung_width * turned * breadth(height)
    inner = 0.09 + (0.3 * anatomy.lung_width - 0.09) * np.clip(1 - height / 0.14, 0, 1) ** 2
    base = anatomy.dome + anatomy.dome_drop * left
    base = base + anatomy.dome_curve * ((r - 0.36 * anatomy.lung_width) / (0.62 * anatomy.lung_width)) ** 2
    lung = soft(outer - r, 0.03) * soft(r - inner, 0.04) * soft(base - y, 0.025) * soft(y - anatomy.apex, 0.03)

    coarse, medium, fine = (smooth_fields(generators, lattice, size) for lattice in (5, 14, 27))
    heart = _heart(anatomy, x - 1.2 * acquisition.turn, y) * soft(base + 0.02 - y, 0.06)
    vessels = _vessels(anatomy, r, y, left, coarse + 0.6 * medium) * lung
    return Scene(anatomy, x, y, r, left, outer, base, lung, heart, vessels, coarse, medium, fine)


def breadth(height: np.ndarray) -> np.ndarray:
    """Width of a lung at a height of 0 (apex) to 1 (base), over its width at the base."""
    return 0.3 + 0.7 * np.sqrt(height * (2 - height))


def _altered(studies: Sequence[ChestStudy], acquisition: Acquisition) -> Anatomy:
    """The patients' anatomy as inspiration, projection and disease have changed it."""
    anatomy = Anatomy(*columns([study.anatomy for study in studies]))
    portable = columns([[study.view == "AP"] for study in studies])[0]
    air = visibility(studies, "emphysema")
    inspired = acquisition.inspiration * (1 - 0.3 * portable)
    return anatomy._replace(
        heart=(anatomy.heart + 0.02 * portable) * (1 + 0.40 * visibility(studies, "cardiomegaly")) * (1 - 0.15 * air),
        mediastinum=anatomy.mediastinum + 0.13 * visibility(studies, "enlarged_mediastinum"),
        dome=anatomy.dome - 0.16 * (1 - inspired) * (1 - air) + 0.08 * air,
        dome_curve=anatomy.dome_curve * (1 - 0.7 * air),
        lung_width=anatomy.lung_width * (1 + 0.04 * air),
    )


def _heart(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A sheared ellipsoid on the diaphragm, two thirds of it left of the midline."""
    half_width = anatomy.heart * anatomy.lung_width
    half_height = 0.85 * half_width * anatomy.heart_shape
    dx, dy = x - 0.30 * half_width, y - (anatomy.dome + 0.10 - half_height)
    return dome(((dx - 0.35 * dy) / half_width) ** 2 + (dy / half_height) ** 2)


def _vessels(anatomy: Anatomy, r: np.ndarray, y: np.ndarray, left: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Pulmonary vessels: two fans around each hilum, the finer one farther out."""
    dx, dy = r - 0.15, y + 0.05 + 0.05 * left
    radius, angle = np.sqrt(dx**2 + dy**2) + 0.01, np.arctan2(dy, dx)
    phase = anatomy.vessel_phase + 1.7 * left
    trunks = np.clip(np.cos(9 * angle + phase + 0.8 * warp) - 0.5, 0, None) * 2 * np.exp(-radius / 0.22)
    twigs = np.clip(np.cos(19 * angle + 2 * phase - 1.1 * warp) - 0.4, 0, None) * np.exp(-((radius - 0.35) ** 2) / 0.05)
    hilum = np.exp(-((dx / 0.07) ** 2) - (dy / 0.13) ** 2)
    return anatomy.vessel_density * (0.9 * trunks + 0.35 * twigs) + 0.9 * hilum


def attenuation(scene: Scene, studies: Sequence[ChestStudy]) -> np.ndarray:
    """The picture of these chests before any focal finding."""
    portable = columns([[study.view == "AP"] for study in studies])[0]
    emphysema = visibility(studies, "emphysema")
    depth = np.clip((scene.outer - scene.r) / (0.5 * scene.anatomy.lung_width), 0, 1)
    solid = _mediastinum(scene)
    air = scene.lung * (1 - 0.9 * solid) * (0.72 + 0.28 * np.sqrt(depth) + 0.15 * emphysema)
    vessels = scene.vessels * (1 - 0.7 * emphysema) * (1 - 0.7 * solid)
    picture = _soft_tissue(scene) - 0.62 * air + 0.06 * solid + 0.20 * vessels
    picture += _midline(scene) + _ribs(scene) + _shoulders(scene, portable) + _abdomen(scene)
    return picture


def _soft_tissue(scene: Scene) -> np.ndarray:
    """Trunk, neck, shoulders and breasts."""
    a, x, y, r = scene.anatomy, scene.x, scene.y, scene.r
    chest = a.lung_width + a.fat + 0.05
    rise = np.clip((y + 1.05) / 0.35, 0, 1)
    half_width = 0.2 + (chest - 0.2 + 0.4 * np.exp(-(((y + 0.55) / 0.22) ** 2))) * rise**2 * (3 - 2 * rise)
    trunk = dome((x / half_width) ** 2)
    below = (y - 0.12) / 0.36
    breasts = dome(((r - 0.60 * a.lung_width) / 0.30) ** 2 + below**2) * np.exp(4 * np.minimum(below, 0))
    nipples = soft(0.022 - np.hypot(r - 0.66 * a.lung_width, y - 0.24), 0.02) * np.clip(a.nipple, 0, 1)
    return (0.72 + 0.35 * a.fat) * trunk + 0.16 * a.breast * breasts + 0.13 * nipples


def _mediastinum(scene: Scene) -> np.ndarray:
    """How much of the lung's depth the heart, the great vessels and the aortic knob take up, 0..1."""
    a, x, y, r = scene.anatomy, scene.x, scene.y, scene.r
    upper = soft(a.mediastinum * (1 + 0.35 * np.clip(y + 0.35, -0.4, 0.3)) - r, 0.03) * soft(0.2 - y, 0.3)
    knob = dome(((x - 0.55 * a.mediastinum - 0.04) ** 2 + (y + 0.30) ** 2) / a.aorta**2)
    return np.maximum(np.maximum(0.75 * upper, 0.65 * np.sqrt(knob)), np.sqrt(scene.heart))


def _midline(scene: Scene) -> np.ndarray:
    """Spine with its discs, trachea and main bronchi."""
    x, y, r = scene.x, scene.y, scene.r
    discs = 1 + 0.25 * np.cos(y * (2 * np.pi / 0.105))
    spine = soft(0.085 - r, 0.05) * discs
    trachea = soft(0.04 - np.abs(x + 0.02), 0.02) * soft(-0.20 - y, 0.03)
    bronchi = soft(0.022 - np.abs(r - 0.9 * (y + 0.20)), 0.02) * soft(0.11 - np.abs(y + 0.13), 0.06)
    return 0.09 * spine * (1 - 0.4 * scene.heart) - 0.14 * trachea - 0.10 * bronchi


def _band(phase: np.ndarray, half_width: float) -> np.ndarray:
    """Bones repeating with period 1: a faint body between two bright cortical lines."""
    distance = np.abs(phase - np.floor(phase) - 0.5)
    return 0.55 * soft(half_width - distance, 0.1) + 0.6 * soft(0.05 - np.abs(distance - half_width), 0.08)


def _ribs(scene: Scene) -> np.ndarray:
    """Posterior ribs arching out from the spine, anterior ones descending towards the sternum, crossing them."""
    a, y = scene.anatomy, scene.y
    across = scene.r / scene.outer
    inside = soft(1.04 - across, 0.06) * soft(a.dome + 0.30 - y, 0.2) * soft(y - a.apex + 0.04, 0.05)
    posterior = _band((y - a.rib_slope * (1.5 * across**2 - 0.6 * across)) / a.rib_spacing + a.rib_phase, 0.22)
    fall = y + (0.2 + 0.8 * a.rib_slope) * (across - 1) + 0.3 * (across**2) ** 2
    anterior = _band(fall / (1.08 * a.rib_spacing) + a.rib_phase, 0.20) * soft(across - 0.42, 0.1)
    wall = soft(0.05 - np.abs(across - 1.02), 0.06) * soft(a.dome + 0.2 - y, 0.1) * soft(y - a.apex, 0.1)
    return a.rib_density * (0.14 * posterior * soft(across - 0.1, 0.1) + 0.08 * anterior) * inside + 0.12 * wall


def _shoulders(scene: Scene, portable: np.ndarray) -> np.ndarray:
    """Clavicles, medial borders of the scapulae (over the lungs in AP views only) and humeral heads."""
    a, y, r = scene.anatomy, scene.y, scene.r
    line = a.apex + 0.20 - a.clavicle_slope * r + 0.04 * np.sin(7 * r)
    offset = np.abs(y - line)
    clavicle = 0.5 * soft(0.032 - offset, 0.02) + 0.5 * soft(0.010 - np.abs(offset - 0.028), 0.015)
    clavicle = clavicle * soft(r - 0.09, 0.03) * soft(0.85 - r, 0.05)
    border = 0.80 - 0.20 * portable + 0.25 * (y + 0.3)
    scapula = soft(r - border, 0.03) * soft(0.26 - np.abs(y + 0.34), 0.1) * soft(border + 0.22 - r, 0.15)
    humerus = dome(((r - 0.98) ** 2 + (y + 0.52) ** 2) / 0.13**2)
    return 0.20 * clavicle + 0.07 * scapula + 0.20 * humerus


def _abdomen(scene: Scene) -> np.ndarray:
    """Liver and spleen below the diaphragm; the gastric bubble with its fluid level on the left."""
    a, x, y = scene.anatomy, scene.x, scene.y
    below = soft(y - scene.base, 0.03) * soft(scene.outer - scene.r, 0.1)
    top = a.dome + a.dome_drop + 0.03
    radius = np.maximum(a.stomach, 0.01)
    bubble = dome(((x - a.stomach_x) / (1.3 * radius)) ** 2 + ((y - top - radius) / radius) ** 2)
    bubble = bubble * soft(top + 1.3 * radius - y, 0.03) * (a.stomach > 0.05)
    return 0.12 * below * (1 - 0.4 * scene.left) - 0.42 * bubble

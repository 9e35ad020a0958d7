"""Painters of findings in the lungs, the heart and the mediastinum (shapes as in `lesion`)."""

import numpy as np

from nbcore.data.phantom.anatomy import Scene
from nbcore.data.phantom.lesion import Lesion, Painted
from nbcore.data.phantom.texture import dome, soft


def _squared(scene: Scene, lesion: Lesion, half_width: np.ndarray, half_height: np.ndarray) -> np.ndarray:
    """Squared distance from the lesion's centre, 1 on its outline."""
    x0, y0 = lesion.centre(scene)
    return ((scene.toward(lesion.side) - x0) / half_width) ** 2 + ((scene.y - y0) / half_height) ** 2


def consolidation(scene: Scene, lesion: Lesion) -> Painted:
    """A dense patch with a ragged border."""
    radius = 0.15 + 0.12 * lesion.size
    ragged = np.sqrt(_squared(scene, lesion, radius, 0.9 * radius)) + 0.16 * scene.medium
    extent = soft(1 - ragged, 0.35) * scene.lung_of(lesion.side)
    return Painted(0.56 * lesion.visibility * extent * (1 + 0.12 * scene.fine), extent)


def lobar_pneumonia(scene: Scene, lesion: Lesion) -> Painted:
    """A consolidated segment: a straight fissure above, dark air bronchograms branching within."""
    radius = 0.20 + 0.13 * lesion.size
    _, y0 = lesion.centre(scene)
    ragged = np.sqrt(_squared(scene, lesion, 1.2 * radius, radius)) + 0.12 * scene.medium
    fissure = scene.y - y0 + 0.35 * radius - 0.15 * (scene.r - 0.3)
    extent = soft(1 - ragged, 0.3) * soft(fissure, 0.03) * scene.lung_of(lesion.side)
    bronchograms = np.clip(scene.vessels, 0, 1)
    return Painted(lesion.visibility * extent * (0.60 - 0.60 * bronchograms), extent)


def infiltration(scene: Scene, lesion: Lesion) -> Painted:
    """Ill-defined patches around the bronchi."""
    reach = np.exp(-0.8 * _squared(scene, lesion, 0.24 + 0.08 * lesion.size, 0.26 + 0.08 * lesion.size))
    patches = soft(0.7 * scene.fine + 0.9 * scene.medium, 1.6)
    lung = scene.lung_of(lesion.side)
    return Painted(0.62 * lesion.visibility * reach * patches * lung, soft(reach - 0.3, 0.2) * lung)


def viral_pneumonia(scene: Scene, lesion: Lesion) -> Painted:
    """Thickened bronchovascular bundles out to the periphery, with a faint haze."""
    reach = np.exp(-0.5 * _squared(scene, lesion, 0.34, 0.40))
    lung = scene.lung_of(lesion.side)
    bundles = 0.30 * np.clip(scene.vessels, 0, 1.2) + 0.16 * soft(scene.fine - 0.4, 0.6)
    return Painted(lesion.visibility * reach * lung * (0.10 + 1.3 * bundles), soft(reach - 0.4, 0.2) * lung)


def covid(scene: Scene, lesion: Lesion) -> Painted:
    """Several ground-glass patches along the periphery of the lower lungs."""
    peripheral = soft(scene.r / scene.outer - 0.62 + 0.1 * scene.medium, 0.25)
    low = soft(scene.y - (scene.anatomy.apex + 0.35), 0.3)
    patches = soft(scene.medium + 0.35 + 0.4 * lesion.severity, 0.5)
    extent = peripheral * low * patches * scene.lung_of(lesion.side)
    return Painted(0.30 * (0.5 + lesion.visibility) * extent, extent)


def edema(scene: Scene, lesion: Lesion) -> Painted:
    """Bat-wing haze about the hila, blurred vessels, septal lines at the bases."""
    a, lung = scene.anatomy, scene.lung_of(lesion.side)
    wing = np.exp(-(((scene.r - 0.20) / 0.20) ** 2) - ((scene.y - 0.02) / 0.30) ** 2)
    across = scene.r / scene.outer
    basal = soft(across - 0.70, 0.15) * soft(scene.y - a.dome + 0.28, 0.1) * soft(a.dome + 0.15 - scene.y, 0.1)
    septal = basal * soft(np.cos(scene.y * (2 * np.pi / 0.08)) + 0.5 * scene.medium - 0.3, 0.8)
    change = 0.36 * wing * (1 + 0.2 * scene.medium) + 0.10 * scene.vessels + 0.20 * septal
    return Painted(lesion.visibility * change * lung, soft(wing - 0.35, 0.2) * lung)


def atelectasis(scene: Scene, lesion: Lesion) -> Painted:
    """One to three plates above the diaphragm, nearly horizontal, longer than thick."""
    x0, y0 = lesion.centre(scene)
    dx = scene.toward(lesion.side) - x0
    slope, length = 0.5 * lesion.across - 0.25, 0.15 + 0.12 * lesion.size
    offset = scene.y - y0 - slope * dx
    thickness = (0.024 + 0.014 * lesion.severity) * dome((dx / length) ** 2)
    plates = soft(thickness - np.abs(offset), 0.03)
    plates = np.maximum(plates, soft(thickness - np.abs(offset - 0.09), 0.03) * (lesion.severity > 0.5))
    extent = plates * soft(length - np.abs(dx), 0.02) * scene.lung_of(lesion.side)
    return Painted(0.50 * (0.25 + lesion.visibility) * extent, extent)


def nodule(scene: Scene, lesion: Lesion) -> Painted:
    """A small round shadow."""
    radius = 0.058 + 0.030 * lesion.size
    square = _squared(scene, lesion, radius, radius)
    return Painted(0.80 * (0.25 + lesion.visibility) * dome(square), soft(1 - square, 0.5))


def mass(scene: Scene, lesion: Lesion) -> Painted:
    """A large lobulated shadow with a sharp border."""
    radius = 0.125 + 0.065 * lesion.size
    square = _squared(scene, lesion, radius, 0.9 * radius) * (1 + 0.15 * scene.medium)
    return Painted(0.68 * (0.25 + lesion.visibility) * dome(square), soft(1 - square, 0.2))


def tuberculosis(scene: Scene, lesion: Lesion) -> Painted:
    """A thick-walled cavity near the apex among small nodules and streaks."""
    radius = 0.07 + 0.04 * lesion.size
    distance = np.sqrt(_squared(scene, lesion, radius, radius))
    wall = soft(0.35 - np.abs(distance - 1), 0.3)
    around = soft(2.6 - distance, 0.8) * scene.lung_of(lesion.side)
    change = 0.38 * wall - 0.05 * soft(0.7 - distance, 0.2) + 0.30 * around * soft(scene.fine - 0.3, 0.5)
    return Painted(lesion.visibility * change, around)


def fibrosis(scene: Scene, lesion: Lesion) -> Painted:
    """A honeycomb of fine lines, densest along the periphery and the bases."""
    across = scene.r / scene.outer
    _, y0 = lesion.centre(scene)
    where = soft(across - 0.45 + 0.1 * scene.medium, 0.5) * np.exp(-(((scene.y - y0) / 0.30) ** 2))
    other = scene.fine[:, ::-1]  # as good as a second independent field
    net = soft(0.32 - np.minimum(np.abs(scene.fine), np.abs(other)), 0.45)
    lung = scene.lung_of(lesion.side)
    return Painted(0.75 * lesion.visibility * where * net * lung, soft(where - 0.35, 0.2) * lung)


def emphysema(scene: Scene, lesion: Lesion) -> Painted:
    """Thin-walled bullae; that lungs are large, flat and poor in vessels is a matter of anatomy."""
    lung = scene.lung_of(lesion.side)
    radius = 0.10 + 0.07 * lesion.size
    x0 = 0.62 * scene.anatomy.lung_width
    y0 = scene.anatomy.apex + 0.22 + 0.15 * lesion.across
    distance = np.hypot(scene.toward(lesion.side) - x0, scene.y - y0)
    rim = soft(0.014 - np.abs(distance - radius), 0.02)
    return Painted(lesion.visibility * lung * (0.16 * rim - 0.10 * soft(radius - distance, 0.02)), lung)


def cardiomegaly(scene: Scene, lesion: Lesion) -> Painted:
    """The heart is already drawn large (see `anatomy`): only its outline is told."""
    return Painted(np.zeros_like(scene.heart), soft(scene.heart - 0.25, 0.1))


def enlarged_mediastinum(scene: Scene, lesion: Lesion) -> Painted:
    """Already drawn wide (see `anatomy`): only its outline is told."""
    inside = soft(scene.anatomy.mediastinum - scene.r, 0.03) * soft(0.25 - np.abs(scene.y + 0.27), 0.03)
    return Painted(np.zeros_like(inside), inside)


def hernia(scene: Scene, lesion: Lesion) -> Painted:
    """Stomach behind the heart: a round wall, air above a fluid level."""
    radius = 0.15 + 0.05 * lesion.size
    x0, y0 = 0.02 + 0.12 * lesion.across, scene.anatomy.dome - 0.5 * radius
    distance = np.hypot((scene.x - x0) / 1.2, scene.y - y0) / radius
    inside = soft(1 - distance, 0.15)
    air = inside * soft(y0 + 0.2 * radius - scene.y, 0.02)
    wall = soft(0.16 - np.abs(distance - 1), 0.12)
    return Painted((0.3 + lesion.visibility) * (0.20 * wall + 0.15 * inside - 0.62 * air), inside)

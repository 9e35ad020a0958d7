"""Painters of findings in the pleura and the chest wall (shapes as in `lesion`)."""

import numpy as np

from nbcore.data.phantom.anatomy import Scene
from nbcore.data.phantom.lesion import Lesion, Painted
from nbcore.data.phantom.texture import soft


def effusion(scene: Scene, lesion: Lesion) -> Painted:
    """Fluid with a meniscus that climbs the lateral wall and hides the diaphragm."""
    across = np.clip(scene.r / scene.outer, 0, 1.2)
    depth = 0.14 + 0.70 * lesion.severity**2  # seldom large
    medial = 0.30 + 0.25 * lesion.severity
    surface = scene.anatomy.dome + 0.24 - depth * (medial + (1 - medial) * across * across**2)
    extent = soft(scene.y - surface, 0.04) * scene.lung_of(lesion.side)
    return Painted(0.55 * (0.3 + 0.7 * lesion.visibility) * extent, extent)


def pneumothorax(scene: Scene, lesion: Lesion) -> Painted:
    """Black air without vessels outside a thin bright pleural line, widest at the apex."""
    a = scene.anatomy
    lung = scene.lung_of(lesion.side)
    height = np.clip((scene.y - a.apex) / (a.dome + 0.2 - a.apex), 0, 1)
    gap = (0.20 + 0.30 * lesion.severity) * (1.15 - 0.85 * height)
    inward = scene.outer - gap - scene.r + 0.5 * gap * soft(0.12 - height, 0.2) * -1
    outside = soft(-inward, 0.02) * lung
    line = soft(0.022 - np.abs(inward), 0.02) * lung
    collapsed = soft(inward, 0.02) * lung
    strength = 0.5 + 0.5 * lesion.visibility
    return Painted(strength * (0.34 * line - (0.20 + 0.20 * scene.vessels) * outside + 0.12 * collapsed), outside)


def pleural_thickening(scene: Scene, lesion: Lesion) -> Painted:
    """A scalloped band along the inner chest wall."""
    _, y0 = lesion.centre(scene)
    depth = scene.outer - scene.r
    bulge = 1 - ((scene.y - y0) / (0.32 + 0.12 * lesion.severity)) ** 2
    thickness = (0.10 + 0.05 * lesion.size) * bulge * (1 + 0.2 * scene.medium)
    extent = soft(thickness - depth, 0.03) * scene.lung_of(lesion.side)
    return Painted(0.48 * (0.25 + lesion.visibility) * extent, extent)


def fracture(scene: Scene, lesion: Lesion) -> Painted:
    """A lateral rib broken and displaced: two ends out of line, a dark gap, callus."""
    _, y0 = lesion.centre(scene)
    x0 = 0.86 * scene.anatomy.lung_width
    dx, dy = scene.toward(lesion.side) - x0, scene.y - y0
    along, offset = 0.8 * dx + 0.6 * dy, 0.8 * dy - 0.6 * dx
    step = 0.04 * np.sign(along)
    ends = soft(0.028 - np.abs(offset - step), 0.035) * soft(0.14 - np.abs(along), 0.04)
    gap = soft(0.022 - np.abs(along), 0.03) * soft(0.07 - np.abs(offset), 0.02)
    near = soft(0.15 - np.hypot(dx, dy), 0.02)
    return Painted((0.3 + lesion.visibility) * (0.60 * ends - 0.45 * gap), near)

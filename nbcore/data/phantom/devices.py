"""Painters of support devices and foreign objects: dense, thin, sharp (shapes as in `lesion`)."""

import numpy as np

from nbcore.data.phantom.anatomy import Scene
from nbcore.data.phantom.lesion import Lesion, Painted
from nbcore.data.phantom.texture import soft

_TUBE = 0.015  # half width


def _opaque(extent: np.ndarray, density: float) -> Painted:
    return Painted(density * extent, extent)


def pacemaker(scene: Scene, lesion: Lesion) -> Painted:
    """A generator below the left clavicle and a lead into the right ventricle."""
    a, x, y = scene.anatomy, scene.x, scene.y
    x0, y0 = 0.60 * a.lung_width + 0.08 * lesion.across, a.apex + 0.42
    box = soft(1 - ((x - x0) / 0.10) ** 4 - ((y - y0) / 0.085) ** 4, 0.4)
    tip = a.dome - 0.02
    fall = np.clip((y - y0) / (tip - y0), 0, 1)
    path = x0 - (x0 + 0.12) * np.sin(np.pi * 0.5 * np.minimum(2 * fall, 1)) + 0.32 * np.clip(2 * fall - 1, 0, 1) ** 1.5
    lead = soft(_TUBE - np.abs(x - path) / (2 - soft(fall - 0.3, 0.1)), 0.02) * (y > y0) * (y < tip)
    return _opaque(np.maximum(box, lead), 0.65)


def central_line(scene: Scene, lesion: Lesion) -> Painted:
    """A catheter from the right neck to the superior vena cava."""
    top, tip = -0.85, -0.06 + 0.1 * lesion.across
    path = -0.11 - 0.13 * np.clip((-0.35 - scene.y) / 0.5, 0, 1) ** 1.5
    line = soft(_TUBE - np.abs(scene.x - path), 0.02) * (scene.y > top) * (scene.y < tip)
    return _opaque(line, 0.60)


def endotracheal_tube(scene: Scene, lesion: Lesion) -> Painted:
    """Two walls in the trachea, ending above the carina."""
    tip = -0.36 + 0.12 * lesion.across
    wall = soft(_TUBE - np.abs(np.abs(scene.x + 0.02) - 0.026), 0.02)
    return _opaque(wall * (scene.y < tip), 0.60)


def nasogastric_tube(scene: Scene, lesion: Lesion) -> Painted:
    """A tube down the midline that turns to the left into the stomach."""
    turn = scene.anatomy.dome - 0.05
    path = 0.03 + 0.9 * np.clip(scene.y - turn, 0, None) ** 1.2
    line = soft(_TUBE + 0.004 - np.abs(scene.x - path), 0.02) * (scene.y < turn + 0.22 + 0.1 * lesion.size)
    return _opaque(line, 0.60)


def sternal_wires(scene: Scene, lesion: Lesion) -> Painted:
    """A column of wire loops after sternotomy."""
    x0 = 0.02 * (lesion.across - 0.5)
    rung = (scene.y + 0.45) / 0.13
    dy = (rung - np.floor(rung) - 0.5) * 0.13
    distance = np.hypot((scene.x - x0) / 1.3, dy)
    loops = soft(0.013 - np.abs(distance - 0.034), 0.02) * (scene.y > -0.45) * (scene.y < 0.33)
    return _opaque(loops, 0.70)


def _offsets(scene: Scene, lesion: Lesion) -> tuple[np.ndarray, np.ndarray]:
    x0, y0 = lesion.centre(scene)
    return scene.toward(lesion.side) - x0, scene.y - y0


def coin(scene: Scene, lesion: Lesion) -> Painted:
    """A solid metal disc."""
    dx, dy = _offsets(scene, lesion)
    return _opaque(soft(0.055 + 0.02 * lesion.size - np.hypot(dx, dy), 0.015), 0.9)


def ring(scene: Scene, lesion: Lesion) -> Painted:
    """A metal ring, as of a necklace or a bra."""
    dx, dy = _offsets(scene, lesion)
    return _opaque(soft(0.014 - np.abs(np.hypot(dx, dy) - 0.07), 0.015), 0.9)


def pin(scene: Scene, lesion: Lesion) -> Painted:
    """A straight thin piece of metal."""
    dx, dy = _offsets(scene, lesion)
    angle = np.pi * lesion.size
    along, offset = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    return _opaque(soft(0.016 - np.abs(offset), 0.015) * soft(0.13 - np.abs(along), 0.015), 0.9)


def button(scene: Scene, lesion: Lesion) -> Painted:
    """A disc with a hole."""
    dx, dy = _offsets(scene, lesion)
    distance = np.hypot(dx, dy)
    return _opaque(soft(0.05 - distance, 0.015) * soft(distance - 0.016, 0.015), 0.8)

"""Which painter draws which finding, and where: findings of a batch grouped so that each painter runs once a group."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nbcore.data.phantom import devices, lungs, pleura
from nbcore.data.phantom.anatomy import LEFT, RIGHT, Scene, columns
from nbcore.data.phantom.lesion import Lesion, Painted
from nbcore.data.phantom.world import ChestStudy, Finding

Painter = Callable[[Scene, Lesion], Painted]

_PAINTERS: dict[tuple[str, str], Painter] = {
    ("atelectasis", ""): lungs.atelectasis,
    ("cardiomegaly", ""): lungs.cardiomegaly,
    ("consolidation", ""): lungs.consolidation,
    ("covid", ""): lungs.covid,
    ("edema", ""): lungs.edema,
    ("effusion", ""): pleura.effusion,
    ("emphysema", ""): lungs.emphysema,
    ("enlarged_mediastinum", ""): lungs.enlarged_mediastinum,
    ("fibrosis", ""): lungs.fibrosis,
    ("fracture", ""): pleura.fracture,
    ("hernia", ""): lungs.hernia,
    ("infiltration", ""): lungs.infiltration,
    ("mass", ""): lungs.mass,
    ("nodule", ""): lungs.nodule,
    ("pleural_thickening", ""): pleura.pleural_thickening,
    ("pneumonia", "bacterial"): lungs.lobar_pneumonia,
    ("pneumonia", "viral"): lungs.viral_pneumonia,
    ("pneumothorax", ""): pleura.pneumothorax,
    ("tuberculosis", ""): lungs.tuberculosis,
    ("support_devices", "pacemaker"): devices.pacemaker,
    ("support_devices", "central_line"): devices.central_line,
    ("support_devices", "endotracheal_tube"): devices.endotracheal_tube,
    ("support_devices", "nasogastric_tube"): devices.nasogastric_tube,
    ("support_devices", "sternal_wires"): devices.sternal_wires,
    ("foreign_object", "coin"): devices.coin,
    ("foreign_object", "ring"): devices.ring,
    ("foreign_object", "pin"): devices.pin,
    ("foreign_object", "button"): devices.button,
}
_SIGNS = {"right": (RIGHT,), "left": (LEFT,), "bilateral": (RIGHT, LEFT), "": (LEFT,)}
_ZONE_TOPS = {"upper": 0.20, "middle": 0.44, "lower": 0.68, "": 0.44}  # of the lung's height
_ZONE_HEIGHT = 0.18


def draw_all(
    scene: Scene, picture: np.ndarray, studies: Sequence[ChestStudy]
) -> Iterator[tuple[tuple[str, ...], list[int], np.ndarray]]:
    """Add every finding to `picture` (B, S, S) in place; yield (names it counts as, rows, masks) for each group."""
    groups: dict[tuple[str, str, int], list[tuple[int, Finding]]] = defaultdict(list)
    for row, study in enumerate(studies):
        for finding in study.findings:
            for side in _SIGNS[finding.side]:
                groups[finding.name, finding.kind, side].append((row, finding))
    for (name, kind, side), members in sorted(groups.items()):
        rows = [row for row, _ in members]
        painted = _PAINTERS[name, kind](scene[rows], _lesion(side, [finding for _, finding in members]))
        picture[rows] += painted.change
        yield members[0][1].shows, rows, painted.extent > 0.5


def _lesion(side: int, findings: Sequence[Finding]) -> Lesion:
    """Stack findings; the two halves of a bilateral one differ in place, as they do in patients."""
    rows = []
    for finding in findings:
        across, along = finding.spot
        if finding.side == "bilateral" and side == LEFT:
            across, along = 1 - across, (along + 0.4) % 1
        height = _ZONE_TOPS[finding.zone] + _ZONE_HEIGHT * along
        rows.append((finding.visibility, finding.severity, finding.size, across, height))
    return Lesion(side, *columns(rows))

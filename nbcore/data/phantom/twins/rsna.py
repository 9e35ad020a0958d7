"""The twin of the RSNA Pneumonia Detection Challenge: DICOM files named by patient, a row a box, the finer classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins.cast import Box, Cast, outlines, save_pictures

_DETAILS = "stage_2_detailed_class_info.csv"  # beside the table; no reader needs it
_OUTLINED = ("pneumonia", "consolidation")
_LEAST = 0.004  # share of the picture below which nobody would outline an opacity


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """<patientId>.dcm, a row for each box of an image or one without a box, and one for each in the finer classes."""
    layout, names = manifest.layout, manifest.layout.columns
    order = [i for members in cast.patients().values() for i in members]
    places = [(folder / layout.images / f"{_identifier(cast.random)}.dcm", agreed(cast.studies[i])) for i in order]
    least = max(2, round(_LEAST * cast.size**2))

    def observe(drawn: chest.ChestImages, row: int) -> list[Box]:
        return outlines(np.any([drawn.masks[name][row] for name in _OUTLINED], axis=0), least)

    healthy = world.label_matrix([study for _, study in places], ["No Finding"])[:, 0] == 1
    lines = [",".join([names.image, *names.box, names.target])]
    details = [f"{names.image},class"]
    for (path, _), well, boxes in zip(places, healthy, save_pictures(places, cast.size, observe)):
        rows = [",".join(f"{side:.1f}" for side in box) + ",1" for box in boxes] or [",,,,0"]
        finer = "Lung Opacity" if boxes else "Normal" if well else "No Lung Opacity / Not Normal"
        lines += [f"{path.stem},{row}" for row in rows]
        details += [f"{path.stem},{finer}" for _ in rows]
    (folder / layout.table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / _DETAILS).write_text("\n".join(details) + "\n", encoding="utf-8")


def agreed(study: world.ChestStudy) -> world.ChestStudy:
    """The study with its pneumonia in the upper half of severity and size, and half as subtle.

    Every box of the challenge was agreed on by radiologists, so what none of them is sure of is no positive.
    """
    findings = (
        finding._replace(
            severity=(1 + finding.severity) / 2, size=(1 + finding.size) / 2, subtlety=finding.subtlety / 2
        )
        if finding.name in _OUTLINED
        else finding
        for finding in study.findings
    )
    return replace(study, findings=tuple(findings))


def _identifier(random: np.random.Generator) -> str:
    """Like 0004cfab-14fd-4e49-80ba-63a80b6bddd6."""
    digits = random.bytes(16).hex()
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])

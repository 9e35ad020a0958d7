"""CC-CCII: axial CT slices in <class>/<patient>/<scan>/ folders, of which a few of each scan are taken."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import list_files, tidy
from nbcore.errors import UsageError, UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a slice that is taken (see `middle`), in order of patient, scan and slice; exactly one class is 1.

    The owner numbers patients and scans through all classes, so a patient is known by number, whichever class folder
    names it; a scan that lies in two places of one class, in parts or twice, is united. Raises UserError for a class
    without slices, or a scan in two classes.
    """
    layout = manifest.layout
    if {*layout.class_folders} != {*manifest.classes}:
        raise UsageError(f"{manifest.name}: layout.class_folders must name the folders of each class, and no other")
    rows, owner = [], {}
    for name, patterns in layout.class_folders.items():
        scans = _scans(root, patterns, layout.suffixes)
        if not scans:
            raise UserError(
                f"{manifest.name}: no slices of {name} under {root}: expected {patterns[0]}/<patient>/<scan>/<slice>"
                f"{layout.suffixes[0]}; is this the right root?"
            )
        for key in scans:
            if key in owner:
                raise UserError(
                    f"the scan {'/'.join(key)} under {root} is one of {owner[key]} and of {name}: remove the wrong one"
                )
            owner[key] = name
        for (patient, scan), slices in scans.items():
            rows += [(patient, scan, image, name) for image in middle(slices, layout.slices_per_scan)]
    rows.sort(key=lambda row: (_natural(row[0]), _natural(row[1])))
    table = pd.DataFrame(rows, columns=["patient", "scan", "image", "class"])
    return tidy(
        len(table),
        image=table["image"],
        patient=table["patient"],
        study=table["scan"],
        **{f"label:{name}": (table["class"] == name).astype(np.float32) for name in manifest.classes},
    )


def middle(slices: Sequence[str], count: int) -> list[str]:
    """`count` evenly spaced slices of the middle half of a scan; of its middle `count` where the half has fewer."""
    if len(slices) <= count:
        return list(slices)
    span = max(count, len(slices) // 2)
    start = (len(slices) - span) // 2
    return [slices[start + int((i + 0.5) * span / count)] for i in range(count)]


def _scans(root: Path, patterns: Sequence[str], suffixes: tuple[str, ...]) -> dict[tuple[str, str], list[str]]:
    """(patient, scan) -> its slices as paths under `root`, in the order of their numbers, each once."""
    scans: dict[tuple[str, str], dict[str, str]] = {}
    for pattern in patterns:
        for folder in sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_dir()):
            for image in sorted(list_files(root, folder)):
                inside = image[len(folder) + 1 :].split("/")
                if len(inside) == 3 and image.lower().endswith(suffixes):
                    scan = scans.setdefault((_plain(inside[0]), _plain(inside[1])), {})
                    scan.setdefault(inside[2].rpartition(".")[0], image)
    return {scan: [slices[name] for name in sorted(slices, key=_natural)] for scan, slices in scans.items()}


def _plain(number: str) -> str:
    """36 of 036."""
    return number.lstrip("0") or "0" if number.isdecimal() else number


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Orders 2 before 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]

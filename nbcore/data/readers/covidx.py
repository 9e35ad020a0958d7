"""COVIDx CXR: images of several collections in a folder a split, told by a list each."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.layouts import CovidxLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import is_file, readable, tidy, unique_rows
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; a class about which a line says nothing (normal, where it says "negative") is left open.

    The collections number their patients independently, so a patient is the source and the number.
    """
    layout = manifest.layout
    for name in {name for meant in layout.classes.values() for name in meant} - set(manifest.classes):
        raise UsageError(f"{manifest.name}: layout.classes: no class {name!r}{nearest(name, list(manifest.classes))}")
    edition = _edition(manifest, root)
    rows = [row for split, file in edition.items() for row in _lines(layout, root / file, split)]
    table = pd.DataFrame(rows, columns=["patient", "image", "class", "split"])
    unique_rows(table[["image", "split", "class"]], ["image", "split"], f"the list of {manifest.name} under {root}")
    table = table.drop_duplicates(["image", "split"])
    labels = {
        f"label:{name}": [layout.classes[found].get(name, np.nan) for found in table["class"]]
        for name in manifest.classes
    }
    return tidy(
        len(table),
        image=table["image"].to_numpy(),
        patient=table["patient"].to_numpy(),
        study=table["image"].to_numpy(),
        split=table["split"].to_numpy(),
        **labels,
    )


def _edition(manifest: Manifest, root: Path) -> dict[str, str]:
    """The first edition of which all lists are there: lists of two editions share images between train and test.

    An edition whose lists are but some of those of another one, and all of those are there, is that other one.
    """
    layout = manifest.layout
    for edition in layout.editions:
        if _all_here(root, edition):
            for name, other in layout.others.items():
                if set(edition.values()) < set(other.values()) and _all_here(root, other):
                    raise UserError(
                        f"the lists under {root} ({', '.join(other.values())}) are those of {name}, not of "
                        f"{manifest.name} {manifest.version}: fetch that version with {_told(layout.editions[0])}, or "
                        f"name the lists in layout.editions of a manifest of your own"
                    )
            return edition
    wanted = " or ".join(map(_told, layout.editions))
    raise UserError(f"no {manifest.name} data under {root}: {wanted} are missing; is this the right root?")


def _all_here(root: Path, edition: dict[str, str]) -> bool:
    return all(is_file(root / file) for file in edition.values())


def _told(edition: dict[str, str]) -> str:
    return " and ".join(edition.values())


def _lines(layout: CovidxLayout, path: Path, split: str) -> list[tuple[str, str, str, str]]:
    """(patient, image, class, split) of each line; a file name may hold blanks, and old lists have no source."""
    classes = "|".join(map(re.escape, layout.classes))
    pattern = re.compile(rf"(\S+)\s+(\S.*?)\s+({classes})(?:\s+(\S+))?")
    with readable(path):
        lines = path.read_text("utf-8-sig").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not (found := pattern.fullmatch(line.strip())):
            raise UserError(
                f"{path}: line {number} is not a patient, a file and one of {', '.join(layout.classes)}; fetch it again"
            )
        patient, file, name, source = found.groups()
        rows.append((f"{source}/{patient}" if source else patient, f"{layout.folders[split]}/{file}", name, split))
    if not rows:
        raise UserError(f"{path} is empty: fetch it again")
    return rows

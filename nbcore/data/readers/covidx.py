"""COVIDx CXR: images of several collections in train/ and test/, told by a list each."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.layouts import CovidxLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import readable, tidy, unique_rows
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; a class about which a line says nothing (normal, where it says "negative") is left open.

    The collections number their patients independently, so a patient is the source and the number.
    """
    layout = manifest.layout
    for name in {name for meant in layout.classes.values() for name in meant} - set(manifest.classes):
        raise UsageError(f"{manifest.name}: layout.classes: no class {name!r}{nearest(name, list(manifest.classes))}")
    edition = _edition(layout, root, manifest.name)
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


def _edition(layout: CovidxLayout, root: Path, data_set: str) -> dict[str, str]:
    """The first edition of which all lists are there: lists of two editions share images between train and test."""
    for edition in layout.editions:
        if all((root / file).is_file() for file in edition.values()):
            return edition
    wanted = " or ".join(" and ".join(edition.values()) for edition in layout.editions)
    raise UserError(f"no {data_set} data under {root}: {wanted} are missing; is this the right root?")


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

"""IDRiD, Disease Grading: fundus photographs with a grade of retinopathy, in an official training and test set."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, first_folder, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1, the one at the position of the grade.

    The owner numbers the images of each set anew and names no patients, so a patient is the set and the number.
    """
    layout = manifest.layout
    home = first_folder(root, layout.folders, layout.tables.values(), manifest.name)
    parts = [
        _part(manifest, find_table(root, [home + file], manifest.name)).assign(split=split)
        for split, file in layout.tables.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    number = table["split"] + "/" + table["image"]
    return tidy(
        len(table),
        image=home + table["split"].map(layout.images) + "/" + table["image"] + layout.suffix,
        patient=number,
        study=number,
        split=table["split"],
        **{f"label:{name}": (table["grade"] == str(i)).astype(np.float32) for i, name in enumerate(manifest.classes)},
    )


def _part(manifest: Manifest, path: Path) -> pd.DataFrame:
    """Columns `image` and `grade` of one table, without its empty rows and columns."""
    names = manifest.layout.columns
    wanted = {names.image: "image", names.grade: "grade"}
    table = read_table(path, list(wanted), text=list(wanted)).rename(columns=wanted)
    table = table.apply(lambda column: column.str.strip())
    table = table[table["image"] != ""]
    if table.empty:
        raise UserError(f"{path} names no image: fetch it again")
    last = len(manifest.classes) - 1
    if (odd := ~table["grade"].isin([str(grade) for grade in range(last + 1)])).any():
        row = table[odd].iloc[0]
        raise UserError(
            f"{path}, row {row.name + 2}: the grade of {row['image']} is {row['grade']!r}, not one of 0 to {last}"
        )
    return table

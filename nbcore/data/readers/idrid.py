"""IDRiD, Disease Grading: fundus photographs with a grade of retinopathy, in an official training and test set."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, first_folder, list_files, read_table, tidy
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
    _check_places(root, [home + layout.images[split] for split in layout.tables], parts, layout.suffix)
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


def _check_places(root: Path, folders: Sequence[str], tables: Sequence[pd.DataFrame], suffix: str) -> None:
    """UserError for two tables that are the same, or stand in each other's place: the images of both count from 1."""
    columns = ["image", "grade"]
    one, other = (table[columns].reset_index(drop=True) for table in tables)
    if len(one) > 1 and one.equals(other):
        raise UserError(f"the tables of {folders[0]} and {folders[1]} under {root} are the same: fetch them again")
    for folder, table, others in ((folders[0], one, other), (folders[1], other, one)):
        names = {file.rpartition("/")[2].removesuffix(suffix) for file in list_files(root, folder)}
        if strange := sorted((names - {*table["image"]}) & {*others["image"]}):
            raise UserError(
                f"{root / folder} holds {strange[0]}{suffix}, which the other folder's table names: have the tables "
                f"changed places? Fetch them again"
            )


def _part(manifest: Manifest, path: Path) -> pd.DataFrame:
    """Columns `image` and `grade` of one table, without its empty rows and columns."""
    names = manifest.layout.columns
    wanted = {names.image: "image", names.grade: "grade"}
    table = read_table(path, list(wanted), text=list(wanted)).rename(columns=wanted)
    table = table.apply(lambda column: column.str.strip())
    table["image"] = table["image"].str.replace(rf"(?i){re.escape(manifest.layout.suffix)}$", "", regex=True)
    table["grade"] = table["grade"].str.removesuffix(".0")  # as a spreadsheet may save it
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

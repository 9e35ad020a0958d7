"""Derm7pt: cases with a dermoscopic image and a clinical photograph each, in three official sets."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, first_folder, number_column, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """Two rows a case, one a view; exactly one class is 1, the one its diagnosis belongs to.

    The owner names no patients, so a case is its own. The lists of a split number the cases from 0, in the order of
    the table.
    """
    layout = manifest.layout
    home = first_folder(root, layout.folders, [layout.table], manifest.name)
    path, names = find_table(root, [home + layout.table], manifest.name), layout.columns
    text = [names.case, names.diagnosis, *layout.views]
    table = read_table(path, text, text=text, broken_lines=True)  # its notes are free text
    _check_order(table[names.case], path)
    label = _classes(manifest, table, path)
    split = _splits(manifest, root, home, table[names.case])
    cases = [
        tidy(
            len(table),
            image=home + layout.images + "/" + table[column].str.strip(),
            patient=table[names.case],
            study=table[names.case],
            split=split,
            view=view,
            **{f"label:{name}": (label == name).astype(np.float32) for name in manifest.classes},
        )
        for column, view in layout.views.items()
    ]
    return pd.concat(cases, ignore_index=True)


def _check_order(cases: pd.Series, path: Path) -> None:
    """Raise UserError unless the cases are in the order of their numbers, as the owner's lists count them."""
    number = pd.to_numeric(cases, errors="coerce").dropna()
    if (odd := number.diff() <= 0).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: case {cases[row]} is out of order, and the lists of the splits count the rows in "
            f"the order of {cases.name}: sort the table by it, or fetch it again"
        )


def _classes(manifest: Manifest, table: pd.DataFrame, path: Path) -> pd.Series:
    """The class of each case."""
    owner = {text: name for name, texts in manifest.layout.diagnoses.items() for text in texts}
    diagnosis = table[manifest.layout.columns.diagnosis].str.strip().str.lower()
    label = diagnosis.map(owner)
    if label.isna().any():
        row = int(label.isna().idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the diagnosis {diagnosis[row]!r} belongs to no class: fetch the table again, or "
            f"name it in the manifest's layout.diagnoses"
        )
    return label


def _splits(manifest: Manifest, root: Path, home: str, cases: pd.Series) -> np.ndarray:
    """The set each case is listed in, (n,)."""
    layout = manifest.layout
    split = np.full(len(cases), "", dtype="<U5")
    for name, file in layout.splits.items():
        path = find_table(root, [home + file], manifest.name)
        index = number_column(read_table(path, [layout.index]), layout.index, path)
        if (odd := ~index.isin(range(len(cases)))).any():
            raise UserError(
                f"{path}: the index {index[odd].iloc[0]:g} is not a whole number of 0 to {len(cases) - 1}, the rows of "
                f"{layout.table}: fetch both again"
            )
        place = index.to_numpy(int)
        if (taken := split[place] != "").any():
            again = place[taken][0]
            raise UserError(f"{path}: case {cases[again]} is in {split[again]} already: fetch the three lists again")
        split[place] = name
    if (split == "").any():
        case = cases[int((split == "").argmax())]
        raise UserError(f"{root / home / layout.table}: case {case} is in none of the lists: fetch the lists again")
    return split

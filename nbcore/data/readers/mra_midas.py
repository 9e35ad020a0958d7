"""MRA-MIDAS: biopsied skin lesions, each photographed through a dermatoscope and from several distances."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.layouts_classes import MraMidasLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, list_files, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image of a lesion whose pathology is one of the classes, in one of the layout's views.

    Left out are controls, other distances and other pathologies. A study is the lesions of a patient at one site, as
    the table does not number lesions.
    """
    layout, names = manifest.layout, manifest.layout.columns
    path = _table(layout, root, manifest.name)
    table = read_table(path, list(names.model_dump().values()), text=list(names.model_dump().values()))
    table = table.rename(columns={theirs: ours for ours, theirs in names}).apply(lambda column: column.str.strip())
    owner = {_plain(text): name for name, texts in layout.pathologies.items() for text in texts}
    table["class"] = table["pathology"].map(_plain).map(owner)
    table = table[table["class"].notna() & (table["control"] != layout.control)]
    known = {*layout.views, *layout.other_distances}
    if (odd := ~table["distance"].isin(known)).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the {names.distance} {table['distance'][row]!r} is none of "
            f"{', '.join(map(repr, sorted(known)))}: fetch the table again, or name it in the manifest's layout"
        )
    table = table[table["distance"].isin(layout.views)].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{path} names no image of the classes {', '.join(manifest.classes)}: fetch it again")
    if (nobody := (table["patient"] == "") | (table["image"] == "")).any():
        image = table["image"][nobody].iloc[0]
        raise UserError(f"{path}: the image {image!r} has no file name or no {names.patient}: fetch the table again")
    return tidy(
        len(table),
        image=_files(root, layout.folders, table["image"]),
        patient=table["patient"],
        study=table["patient"] + "/" + table["location"],
        view=table["distance"].map(layout.views),
        **{f"label:{name}": (table["class"] == name).astype(np.float32) for name in manifest.classes},
    )


def _table(layout: MraMidasLayout, root: Path, data_set: str) -> Path:
    """The CSV; of a workbook alone, UserError tells what to do with it."""
    if (root / layout.workbook).is_file() and not (root / layout.table).is_file():
        raise UserError(f"{root / layout.workbook} is a workbook: save its first sheet as {layout.table} (CSV, UTF-8)")
    return find_table(root, [layout.table], data_set)


def _plain(pathology: str) -> str:
    """In small letters, without the blanks that some entries have beside the hyphen."""
    return "-".join(part.strip() for part in pathology.lower().split("-"))


def _files(root: Path, folders: Sequence[str], images: pd.Series) -> pd.Series:
    """The path under `root` of each file name, whatever its case and suffix; its own in the first folder if none."""
    found: dict[str, str] = {}
    for folder in folders:
        for file in sorted(list_files(root, folder)):
            place = PurePosixPath(file)
            if place.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                found.setdefault(place.name, file)
                found.setdefault(place.stem.lower(), file)
    return pd.Series(
        [found.get(name) or found.get(PurePosixPath(name).stem.lower()) or f"{folders[0]}/{name}" for name in images],
        index=images.index,
    )

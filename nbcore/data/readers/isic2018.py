"""ISIC 2018 Task 3: dermoscopic images with one of seven diagnoses each, in three official sets."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nbcore.data.layouts_classes import Isic2018Layout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, label_columns, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image of the sets whose table is there; exactly one class is 1.

    The owner names no patients, but the lesions of the training images: a lesion counts as a patient, and so does an
    image whose lesion is not known.
    """
    layout = manifest.layout
    here = {split: files for split, files in layout.tables.items() if _is_here(root, files)}
    here = here or layout.tables  # none: `find_table` tells what is missing
    parts = [_part(manifest, find_table(root, files, manifest.name), split) for split, files in here.items()]
    table = pd.concat(parts, ignore_index=True)
    return tidy(
        len(table),
        image=table["split"].map(layout.images) + "/" + table["name"] + layout.suffix,
        patient=_lesions(layout, root, table["name"]),
        study=table["name"],
        split=table["split"],
        **table.filter(like="label:"),
    )


def _is_here(root: Path, tables: Sequence[str]) -> bool:
    return any((root / name).is_file() or (root / f"{name}.gz").is_file() for name in tables)


def _part(manifest: Manifest, path: Path, split: str) -> pd.DataFrame:
    """Columns `name`, `split` and a label a class, of one table."""
    image = manifest.layout.columns.image
    table = read_table(path, [image, *manifest.classes], text=[image])
    part = pd.DataFrame({"name": table[image], "split": split, **label_columns(table, manifest.classes, path)})
    labels = part.filter(like="label:")
    if (odd := (labels == 1).sum(axis=1).ne(1) | ~labels.isin([0, 1]).all(axis=1)).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the classes of {part['name'][row]} are not a single 1 among 0s: "
            f"fetch the table again"
        )
    return part


def _lesions(layout: Isic2018Layout, root: Path, images: pd.Series) -> pd.Series:
    """The lesion of each image, or the image's own name."""
    path = next((root / file for file in layout.groupings if (root / file).is_file()), None)
    if path is None:
        return images
    names = [layout.columns.image, layout.columns.lesion]
    table = read_table(path, names, text=names)
    lesion = table[table[names[1]] != ""].drop_duplicates(names[0]).set_index(names[0])[names[1]]
    return images.map(lesion).fillna(images)

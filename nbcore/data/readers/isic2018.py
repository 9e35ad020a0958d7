"""ISIC 2018 Task 3: dermoscopic images with one of seven diagnoses each, in three official sets."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nbcore.data.layouts_classes import Isic2018Layout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, is_file, label_columns, locate, read_table, tidy, unique_rows
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
    if (twice := table.drop_duplicates(["name", "split"])["name"].duplicated()).any():
        name = table["name"][twice.idxmax()]
        splits = " and ".join(table.loc[table["name"] == name, "split"].unique())
        raise UserError(f"{manifest.name}: {name} is in the tables of {splits} under {root}: fetch the tables again")
    return tidy(
        len(table),
        image=_places(layout, root, table),
        patient=_lesions(layout, root, table),
        study=table["name"],
        split=table["split"],
        **table.filter(like="label:"),
    )


def _is_here(root: Path, tables: Sequence[str]) -> bool:
    return any(is_file(root / f"{name}{end}") for name in tables for end in ("", ".gz"))


def _part(manifest: Manifest, path: Path, split: str) -> pd.DataFrame:
    """Columns `name`, `split` and a label a class, of one table."""
    image = manifest.layout.columns.image
    table = read_table(path, [image, *manifest.classes], text=[image])
    name = table[image].str.strip().str.removesuffix(manifest.layout.suffix)
    part = pd.DataFrame({"name": name, "split": split, **label_columns(table, manifest.classes, path)})
    labels = part.filter(like="label:")
    if (odd := (labels == 1).sum(axis=1).ne(1) | ~labels.isin([0, 1]).all(axis=1)).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the classes of {part['name'][row]} are not a single 1 among 0s: "
            f"fetch the table again"
        )
    return part


def _places(layout: Isic2018Layout, root: Path, table: pd.DataFrame) -> pd.Series:
    """The path of each image, wherever below its set's folder it lies."""
    names = table["name"] + layout.suffix
    return pd.concat([locate(root, [layout.images[split]], part) for split, part in names.groupby(table["split"])])


def _lesions(layout: Isic2018Layout, root: Path, table: pd.DataFrame) -> pd.Series:
    """The lesion of each image, or the image's own name."""
    images = table["name"]
    paths = [root / file for file in layout.groupings]
    path = next(filter(is_file, paths), None)
    if path is None:
        return images
    names = [layout.columns.image, layout.columns.lesion]
    groups = read_table(path, names, text=names)
    groups[names[0]] = groups[names[0]].str.strip().str.removesuffix(layout.suffix)
    groups = groups[groups[names[1]] != ""]
    train = images[table["split"] == "train"]
    if len(train) and not train.isin(groups[names[0]]).any():
        raise UserError(f"{path} has a lesion of none of the training images, such as {train.iloc[0]}: fetch it again")
    groups = unique_rows(groups, names[:1], path)
    return images.map(groups.set_index(names[0])[names[1]]).fillna(images)

"""NIH ChestX-ray14: every image is frontal; 14 findings mined from the reports, and boxes for 880 of the images."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.layouts import NihLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, locate, number_column, read_table, readable, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; a class is 1 where the findings name it, else 0."""
    layout, names = manifest.layout, manifest.layout.columns
    path = find_table(root, layout.tables, manifest.name)
    wanted = [names.image, names.findings, names.patient, names.view]
    table = read_table(path, wanted, text=wanted)
    found = table[names.findings].str.get_dummies(layout.separator)
    if not set(manifest.classes) & set(found.columns):
        raise UserError(f"{path}: column {names.findings!r} names none of the classes {', '.join(manifest.classes)}")
    labels = {f"label:{name}": found.get(name, 0) for name in manifest.classes}
    return tidy(
        len(table),
        image=locate(root, _folders(layout, root), table[names.image]),
        patient=table[names.patient],
        study=table[names.image].str.rsplit(".", n=1).str[0],
        split=_official_split(layout, root, table[names.image]),
        view=table[names.view].where(table[names.view].isin(["PA", "AP"]), ""),
        boxes=_boxes(layout, root, table[names.image]),
        **labels,
    )


def _folders(layout: NihLayout, root: Path) -> list[str]:
    """The folders that match the layout's patterns, after the first pattern itself, where absent images belong."""
    found = [path for pattern in layout.image_folders for path in sorted(root.glob(pattern))]
    places = [layout.image_folders[0], *(folder.relative_to(root).as_posix() for folder in found)]
    return list(dict.fromkeys(places))


def _official_split(layout: NihLayout, root: Path, images: pd.Series) -> np.ndarray:
    """The split of each image: "test" where the official test list, if it is there, has it, else "train"."""
    lists = {}
    for name in (layout.train_list, layout.test_list):
        with readable(root / name):
            lists[name] = set((root / name).read_text("utf-8-sig").split()) if (root / name).exists() else set()
    if both := lists[layout.train_list] & lists[layout.test_list]:
        raise UserError(f"{root}: {min(both)} is in both {layout.train_list} and {layout.test_list}")
    return np.where(images.isin(lists[layout.test_list]), "test", "train")


def _boxes(layout: NihLayout, root: Path, images: pd.Series) -> list[list[tuple[float, ...]]]:
    """The boxes of each image, in pixels; columns by position, as the heading is malformed ("Bbox [x", "y", ...)."""
    path = root / layout.boxes
    if not path.is_file():
        return [[] for _ in images]
    with readable(path):
        heading = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns.tolist()
    sides = heading[2:6]
    if [re.sub(r"\W", "", side.lower())[-1:] for side in sides] != ["x", "y", "w", "h"]:
        raise UserError(
            f"{path}: the columns are {', '.join(heading)[:120]}, not image, finding, x, y, w, h: fetch it again"
        )
    table = read_table(path, heading[:6], may_be_empty=True)
    numbers = [number_column(table, side, path) for side in sides]
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for image, *box in zip(table[heading[0]], *numbers):
        boxes.setdefault(image, []).append(tuple(box))
    return [boxes.get(image, []) for image in images]

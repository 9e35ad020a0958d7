"""Object-CXR: frontal radiographs, half of them with foreign objects outlined by radiologists."""

import re
from pathlib import Path

import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, read_table, tidy
from nbcore.errors import UserError

_NUMBER = r"[+-]?[0-9]{1,9}(\.[0-9]*)?"  # float() takes more: nan, 1_0
_FEWEST = {"0": 4, "1": 4, "2": 6}  # numbers of a rectangle's and an ellipse's two corners, of a polygon's vertices


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; the box of an object is the smallest around its outline.

    Nothing tells of the patients, so each image counts as its own.
    """
    layout, names = manifest.layout, manifest.layout.columns
    (name,) = manifest.classes
    parts = []
    for file, split in layout.tables.items():
        path = find_table(root, [file], manifest.name)
        columns = [names.image, names.annotation]
        table = read_table(path, columns, text=columns, verbatim=True)  # a word is no annotation
        image = layout.folders[file] + "/" + table[names.image].str.rpartition("/")[2]
        boxes = [_boxes(text, path, row) for row, text in zip(table[names.image], table[names.annotation])]
        labels = {f"label:{name}": [float(bool(found)) for found in boxes]}
        parts.append(tidy(len(table), image=image, patient=image, study=image, split=split, boxes=boxes, **labels))
    return pd.concat(parts, ignore_index=True)


def _boxes(annotation: str, path: Path, image: str) -> list[tuple[float, ...]]:
    """(x, y, width, height) of each outline in "kind x y x y ...;...": 0 rectangle, 1 ellipse, 2 polygon."""
    boxes = []
    for outline in filter(str.strip, annotation.split(";")):
        kind, *numbers = outline.split()
        told = [float(number) for number in numbers if re.fullmatch(_NUMBER, number)]
        xs, ys = (told[::2], told[1::2]) if len(told) == len(numbers) else ([], [])
        fewest = _FEWEST.get(kind, 0)
        if not fewest or len(xs) != len(ys) or 2 * len(xs) < fewest or (fewest == 4 and len(xs) != 2):
            raise UserError(f"{path}: the annotation of {image!r} has an unknown outline {outline!r}; fetch it again")
        boxes.append((min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)))
    return boxes

"""The twin of Object-CXR: radiographs with and without foreign objects, outlined in three ways."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins.cast import Box, Cast, outlines, save_pictures

_OBJECTS = [(kind, side) for kind in ("coin", "ring", "pin", "button") for side in ("right", "left")]
_MORE = 3  # further objects beside the first, at most
_LEAST = 2  # pixels of an object that is still seen


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """NNNNN.jpg in train/ and dev/; the annotation is empty where nothing is to be seen."""
    layout, names = manifest.layout, manifest.layout.columns
    order = [i for members in cast.patients().values() for i in members]
    files = {("test" if part == "test" else "train"): file for file, part in layout.tables.items()}
    home = [files["test" if cast.split[i] == "test" else "train"] for i in order]
    places = [
        (folder / layout.folders[file] / f"{number:05d}.jpg", _with_more_objects(cast.studies[i], cast.random))
        for number, (i, file) in enumerate(zip(order, home), start=1)
    ]

    def observe(drawn: chest.ChestImages, row: int) -> list[Box]:
        return outlines(drawn.masks["foreign_object"][row], _LEAST)

    rows: dict[str, list[tuple[str, str]]] = {file: [] for file in layout.tables}
    for file, (path, _), boxes in zip(home, places, save_pictures(places, cast.size, observe)):
        rows[file].append((path.name, ";".join(_outline(box, cast.random) for box in boxes)))
    for file, table in rows.items():
        pd.DataFrame(table, columns=[names.image, names.annotation]).to_csv(folder / file, index=False)


def _with_more_objects(study: world.ChestStudy, random: np.random.Generator) -> world.ChestStudy:
    """The study with up to three more foreign objects, if it shows one: of one kind there is one on a side."""
    first = study.find("foreign_object")
    if first is None:
        return study
    others = [place for place in _OBJECTS if place != (first.kind, first.side)]
    more = [
        first._replace(
            kind=kind, side=side, zone=str(random.choice(world.ZONES)), spot=tuple(random.random(2).tolist())
        )
        for kind, side in random.permutation(others)[: random.integers(_MORE + 1)].tolist()
    ]
    return replace(study, findings=(*study.findings, *more))


def _outline(box: Box, random: np.random.Generator) -> str:
    """The object's outline as an annotator drew it: 0 its rectangle, 1 its ellipse, 2 a polygon of eight corners."""
    x, y, w, h = box
    if (kind := int(random.integers(3))) < 2:
        return f"{kind} {x} {y} {x + w} {y + h}"
    dx, dy = w // 3, h // 3
    xs = (x + dx, x + w - dx, x + w, x + w, x + w - dx, x + dx, x, x)
    ys = (y, y, y + dy, y + h - dy, y + h, y + h, y + h - dy, y + dy)
    return " ".join(["2", *(f"{a} {b}" for a, b in zip(xs, ys))])

"""NIH ChestX-ray14: every image is frontal; 14 findings mined from the reports, and boxes for 880 of the images."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.layouts import NihLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, is_file, locate, number_column, read_table, read_text, readable, tidy
from nbcore.errors import UserError

_NOTHING = "No Finding"  # stands alone
_NAME = re.compile(r"(\d{8})_\d{3}\.png")  # patient and follow-up


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; a class is 1 where the findings name it, else 0."""
    layout, names = manifest.layout, manifest.layout.columns
    path = find_table(root, layout.tables, manifest.name)
    wanted = [names.image, names.findings, names.patient, names.view]
    table = read_table(path, wanted, text=wanted).apply(lambda column: column.str.strip())
    found = _findings(manifest, table[names.findings], path)
    _check_patients(table[names.image], table[names.patient], path)
    images, view = table[names.image], table[names.view].str.upper()
    whole = manifest.counts.images != "unknown" and images.nunique() >= manifest.counts.images
    places = locate(root, _folders(layout, root), images)
    return tidy(
        len(table),
        image=places,
        patient=table[names.patient],
        study=images.str.rsplit(".", n=1).str[0],
        split=_official_split(layout, root, images, places, whole),
        view=view.where(view.isin(["PA", "AP"]), ""),
        boxes=_boxes(layout, root, images, whole),
        **{f"label:{name}": found.map(lambda words, name=name: name in words) for name in manifest.classes},
    )


def _findings(manifest: Manifest, cells: pd.Series, path: Path) -> pd.Series:
    """The findings of each row, as sets."""
    known = {*manifest.classes, _NOTHING}
    sets = {}
    for row, cell in zip(cells.index, cells):
        if cell not in sets:
            words = [word.strip() for word in cell.split(manifest.layout.separator)]
            odd = next((word for word in words if word not in known or (word == _NOTHING and len(words) > 1)), None)
            if odd is not None:
                told = f"the finding {odd[:80]!r} in {cell[:80]!r} is none" if cell else "no finding is told"
                raise UserError(
                    f"{path}, row {row + 2}: {told}; expected {_NOTHING} or some of "
                    f"{', '.join(manifest.classes)} with {manifest.layout.separator!r} between: fetch it again"
                )
            sets[cell] = frozenset(words)
    return cells.map(sets)


def _check_patients(images: pd.Series, patients: pd.Series, path: Path) -> None:
    """The name of an image begins with its patient's number."""
    told = images.str.extract(_NAME, expand=False)
    if (odd := told.notna() & (told.str.lstrip("0") != patients.str.lstrip("0"))).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the image {images[row]} is not of patient {patients[row][:40]!r}: fetch it again"
        )


def _folders(layout: NihLayout, root: Path) -> list[str]:
    """The folders that match the layout's patterns, after the first pattern itself, where absent images belong."""
    found = [path for pattern in layout.image_folders for path in sorted(root.glob(pattern))]
    places = [layout.image_folders[0], *(folder.relative_to(root).as_posix() for folder in found)]
    return list(dict.fromkeys(places))


def _official_split(layout: NihLayout, root: Path, images: pd.Series, places: pd.Series, whole: bool) -> np.ndarray:
    """The split of each image: "test" where the official test list, if it is there, has it, else "train".

    Where both lists are there, each image that is there must be in one of them. `whole` as for `_check_known`.
    """
    lists = {}
    for name in (layout.train_list, layout.test_list):
        if is_file(root / name):
            lists[name] = read_text(root / name).split()
            if not lists[name]:
                raise UserError(f"{root / name} is empty: fetch it again")
            _check_known(pd.Series(lists[name]), images, whole, root / name)
    if len(lists) == 2:
        if both := set(lists[layout.train_list]) & set(lists[layout.test_list]):
            raise UserError(f"{root}: {min(both)} is in both {layout.train_list} and {layout.test_list}")
        for row in images.index[~images.isin([*lists[layout.train_list], *lists[layout.test_list]])]:
            if is_file(root / places[row]):
                raise UserError(
                    f"{root}: {images[row]} is in neither {layout.train_list} nor {layout.test_list}: fetch both again"
                )
    return np.where(images.isin(lists.get(layout.test_list, [])), "test", "train")


def _check_known(listed: pd.Series, images: pd.Series, whole: bool, path: Path) -> None:
    """UserError for a listed name that the table lacks, unless that is cut (not `whole`) and it could be an image's."""
    odd = ~listed.isin(images) & (whole | ~listed.str.fullmatch(_NAME))
    if odd.any():
        raise UserError(
            f"{path} names {listed[odd].iloc[0][:80]!r}, which is no image of this data set: fetch it again"
        )


def _boxes(layout: NihLayout, root: Path, images: pd.Series, whole: bool) -> list[list[tuple[float, ...]]]:
    """The boxes of each image, in pixels; columns by position, as the heading is malformed ("Bbox [x", "y", ...)."""
    path = root / layout.boxes
    if not is_file(path):
        return [[] for _ in images]
    with readable(path):
        heading = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns.tolist()
    sides = heading[2:6]
    if [re.sub(r"\W", "", side.lower())[-1:] for side in sides] != ["x", "y", "w", "h"]:
        raise UserError(
            f"{path}: the columns are {', '.join(heading)[:120]}, not image, finding, x, y, w, h: fetch it again"
        )
    table = read_table(path, heading[:6], text=heading[:1], may_be_empty=True)
    owners = table[heading[0]].str.strip()
    _check_known(owners, images, whole, path)
    numbers = [number_column(table, side, path) for side in sides]
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for image, *box in zip(owners, *numbers):
        boxes.setdefault(image, []).append(tuple(box))
    return [boxes.get(image, []) for image in images]

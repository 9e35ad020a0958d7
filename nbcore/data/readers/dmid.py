"""DMID: mammograms whose abnormalities are listed in the style of MIAS, with masks of their regions."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.layouts_classes import DmidLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, list_files, locate, read_text, readable, tidy
from nbcore.errors import UserError

_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1: the worst of the image's abnormalities.

    The owner names no patients, so each image counts as its own. The circles of the list are not read: where they
    count from is not told, and the masks show more.
    """
    layout = manifest.layout
    found = _classes(layout, find_table(root, layout.tables, manifest.name))
    names, classes = pd.Series(list(found), dtype=str), pd.Series(list(found.values()), dtype=str)
    normal = layout.classes[layout.normal_class]
    return tidy(
        len(names),
        image=locate(root, [layout.images], names + layout.suffix),
        patient=names,
        study=names,
        mask=names.map(_outlines(layout, root)).fillna("").where(classes != normal, ""),
        **{f"label:{name}": (classes == name).astype(np.float32) for name in manifest.classes},
    )


def _classes(layout: DmidLayout, path: Path) -> dict[str, str]:
    """Image -> class. A line that does not begin with an image's name is the owner's remark."""
    severity = list(layout.classes.values())
    found: dict[str, str] = {}
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        words = dict(zip(layout.columns, line.split()))
        if not words or not re.fullmatch(layout.name_pattern, words["image"]):
            continue
        image, letter = words["image"], words.get("class", "")
        if words.get("abnormality") == layout.normal:
            letter = layout.normal_class
        if not letter:
            raise UserError(f"{path}, row {row}: the line of {image} ends before its class: fetch the list again")
        if letter not in layout.classes:
            letters = ", ".join(layout.classes)
            raise UserError(f"{path}, row {row}: the class of {image} is {letter!r}, not one of {letters}: mend it")
        name = layout.classes[letter]
        found[image] = min(name, found.get(image, name), key=severity.index)
    if not found:
        raise UserError(f"{path} names no image (such as IMG001): fetch it again")
    return found


def _outlines(layout: DmidLayout, root: Path) -> dict[str, str]:
    """Image -> its mask, of several pictures the owner's; UserError where there are two that differ."""
    files = sorted(file for file in list_files(root, layout.masks) if file.lower().endswith(_PICTURES))
    own = [file for file in files if file.lower().endswith(layout.suffix)]
    found: dict[str, str] = {}
    for file in own:
        first = found.setdefault(PurePosixPath(file).stem, file)
        if first != file and not _same(root / first, root / file):
            raise UserError(
                f"{root / first} and {root / file} are two different masks of one image: remove one of them"
            )
    return {PurePosixPath(file).stem: file for file in files} | found


def _same(one: Path, other: Path) -> bool:
    with readable(other):
        return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()

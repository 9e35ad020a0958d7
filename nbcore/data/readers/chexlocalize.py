"""CheXlocalize: CheXpert's test set, a frontal image a study, with radiologists' labels and outlines."""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nbcore.data.images import image_size
from nbcore.data.layouts import ChexlocalizeLayout
from nbcore.data.manifest import Manifest
from nbcore.data.masks import NO_RUNS, rle_decode, rle_encode
from nbcore.data.samples import RLE
from nbcore.data.tables import first_folder, is_file, label_columns, read_table, readable, tidy
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

_MOST_PIXELS = 10**8  # of a picture


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a study: its frontal image, of several that with the lowest number. All are test images."""
    layout = manifest.layout
    if layout.outlined not in manifest.classes:
        choices = nearest(layout.outlined, list(manifest.classes))
        raise UsageError(f"{manifest.name}: layout.outlined: no class {layout.outlined!r}{choices}")
    prefix = first_folder(root, layout.folders, [layout.table], manifest.name)
    path = root / prefix / layout.table
    table = read_table(path, [layout.path, *manifest.classes], text=[layout.path])
    owner = table[layout.path].str.extract(layout.study_pattern)  # (n, 2): patient, study
    if (odd := owner.isna().any(axis=1)).any():
        raise UserError(f"{path}: {table.loc[odd, layout.path].iloc[0]!r} is not a path to a patient's study")
    view = pd.to_numeric(table[layout.path].str.extract(layout.frontal, expand=False), errors="coerce")
    study = owner[0] + "_" + owner[1]
    chosen = view.dropna().groupby(study).idxmin().sort_values()
    if chosen.empty:
        raise UserError(f"{path} names no frontal image ({layout.frontal}): fetch it again")
    stem = study + "_" + table[layout.path].str.extract(r"([^/]+)\.\w+$", expand=False)
    outlines = _outlines(layout, root, set(stem))
    table = table.loc[chosen].reset_index(drop=True)
    image = prefix + table[layout.path]
    stem = stem.loc[chosen].to_numpy()
    return tidy(
        len(table),
        image=image,
        patient=owner.loc[chosen, 0].to_numpy(),
        study=chosen.index,
        split="test",
        mask=[_told(outlines.get(key), root / file) for key, file in zip(stem, image)],
        **label_columns(table, manifest.classes, path),
    )


class _Outline(NamedTuple):
    code: str  # of `masks.rle_decode`
    size: tuple[int, int]  # (H, W) of the picture it was drawn on


def _outlines(layout: ChexlocalizeLayout, root: Path, images: set[str]) -> dict[str, _Outline]:
    """Image ("patient1_study1_view1_frontal") -> the outline of the one class, where it has one."""
    path = next((root / name for name in layout.outlines if is_file(root / name)), None)
    if path is None:
        return {}
    from pycocotools import mask as coco

    with readable(path):
        told = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(told, dict):
        raise UserError(f"{path} does not hold outlines by image: fetch it again")
    if told and not images & set(told):
        raise UserError(
            f"{path} outlines none of the images of {layout.table}, but {next(iter(told))[:80]!r}: fetch both again"
        )
    outlines = {}
    for image, classes in told.items():
        try:
            outline = classes[layout.outlined]
            height, width = outline["size"]
            if not 0 < height * width <= _MOST_PIXELS:
                raise ValueError(outline["size"])
            mask = coco.decode({"size": [height, width], "counts": outline["counts"].encode()})  # (H, W)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{path}: {image!r} has no outline of {layout.outlined!r}: fetch it again") from error
        if mask.any():
            outlines[image] = _Outline(rle_encode(mask), mask.shape)
    return outlines


def _told(outline: _Outline | None, path: Path) -> str:
    """The mask column of an image; where it was resized, so is its outline."""
    if outline is None:
        return ""
    size = outline.size
    with suppress(UserError):  # whoever opens an image that cannot be read is told
        if is_file(path):  # a pipe would be waited for
            size = image_size(path)
    (high, wide), (height, width) = outline.size, size
    if (high, wide) == (height, width):
        return RLE + outline.code
    if abs(high * width - wide * height) > max(high, wide, height, width):  # more than rounding to pixels
        raise UserError(
            f"the outline of {path} is of a picture of {wide} x {high} pixels, the image has {width} x {height}: fetch "
            f"the outlines and the image again"
        )
    rows, columns = ((2 * np.arange(n) + 1) * of // (2 * n) for n, of in ((height, high), (width, wide)))
    code = rle_encode(rle_decode(outline.code, high, wide)[np.ix_(rows, columns)])
    return "" if code == NO_RUNS else RLE + code

"""CheXlocalize: CheXpert's test set, a frontal image a study, with radiologists' labels and outlines."""

import json
from pathlib import Path

import pandas as pd

from nbcore.data.layouts import ChexlocalizeLayout
from nbcore.data.manifest import Manifest
from nbcore.data.masks import NO_RUNS, rle_encode
from nbcore.data.samples import RLE
from nbcore.data.tables import first_folder, label_columns, read_table, readable, tidy
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
    table = table.loc[chosen].reset_index(drop=True)
    stem = chosen.index + "_" + table[layout.path].str.extract(r"([^/]+)\.\w+$", expand=False)
    return tidy(
        len(table),
        image=prefix + table[layout.path],
        patient=owner.loc[chosen, 0].to_numpy(),
        study=chosen.index,
        split="test",
        mask=stem.map(_outlines(layout, root)).fillna(""),
        **label_columns(table, manifest.classes, path),
    )


def _outlines(layout: ChexlocalizeLayout, root: Path) -> dict[str, str]:
    """Image ("patient1_study1_view1_frontal") -> the outline of the one class, where it has one, as Samples hold it."""
    path = next((root / name for name in layout.outlines if (root / name).is_file()), None)
    if path is None:
        return {}
    from pycocotools import mask as coco

    with readable(path):
        told = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(told, dict):
        raise UserError(f"{path} does not hold outlines by image: fetch it again")
    codes = {}
    for image, classes in told.items():
        try:
            outline = classes[layout.outlined]
            height, width = outline["size"]
            if not 0 < height * width <= _MOST_PIXELS:
                raise ValueError(outline["size"])
            code = rle_encode(coco.decode({"size": [height, width], "counts": outline["counts"].encode()}))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{path}: {image!r} has no outline of {layout.outlined!r}: fetch it again") from error
        if code != NO_RUNS:
            codes[image] = RLE + code
    return codes

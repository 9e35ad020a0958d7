"""SIIM-ACR Pneumothorax Segmentation: DICOM images in folders of studies and series, masks as run lengths."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.samples import RLE
from nbcore.data.tables import find_table, locate, read_table, readable, tidy
from nbcore.errors import UserError

_RUNS = r"\d+ \d+(?: \d+ \d+)*"  # offset and length of each run


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image, all its masks in one; images without a row in the table were never annotated and are left out.

    Stage 2's training images lie in two folders, those of stage 1's training and test images; either may be absent. The
    owner writes headings and values with a space before them, and not in every edition. The patient's number stands in
    the DICOM headers only, so each image counts as its own patient (see the manifest's notes).
    """
    layout, names = manifest.layout, manifest.layout.columns
    (name,) = manifest.classes
    path = find_table(root, layout.tables, manifest.name)
    image, mask = _headings(path, [names.image, names.mask])
    table = read_table(path, [image, mask], text=[image, mask])
    runs = table[mask].str.strip()
    if (odd := ~(runs.str.fullmatch(_RUNS) | (runs == layout.none))).any():
        raise UserError(
            f"{path}: the mask of {table.loc[odd, image].iloc[0]!r} is neither {layout.none} nor pairs of offset and "
            f"length; fetch the table again"
        )
    parts = runs.where(runs != layout.none, "").groupby(table[image].str.strip(), sort=False)
    masks = parts.agg(lambda rows: ";".join(filter(None, rows)))
    folders = [folder for folder in layout.images if (root / folder).is_dir()]
    return tidy(
        len(masks),
        image=locate(root, folders or layout.images, pd.Series(masks.index) + ".dcm"),
        patient=masks.index,
        study=masks.index,
        mask=np.where(masks != "", RLE + masks, ""),
        **{f"label:{name}": (masks != "").to_numpy(np.float32)},
    )


def _headings(path: Path, wanted: list[str]) -> list[str]:
    """The table's own spelling of these columns, which may have spaces around them."""
    with readable(path):
        own = {heading.strip(): heading for heading in pd.read_csv(path, nrows=0).columns}
    return [own.get(name.strip(), name.strip()) for name in wanted]

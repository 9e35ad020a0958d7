"""Readers: from the layout a manifest describes to `Samples`. One file a layout, one registry."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.readers import (
    busi,
    cc_ccii,
    chexlocalize,
    chexpert,
    class_folders,
    covid_chestxray,
    covidx,
    derm7pt,
    dmid,
    idrid,
    isic2018,
    mimic_cxr,
    mra_midas,
    nih,
    nlm_tb,
    object_cxr,
    padchest,
    rsna,
    siim,
)
from nbcore.data.samples import COLUMNS, Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.data.tables import list_files, require_folder
from nbcore.errors import UserError

MARKER = "PHANTOM.json"  # a root that holds it is a twin

# Each returns a row an image with the columns of Samples, and in "split" the layout's own split; also, in "testable",
# which images meet the manifest's `split.test_among`, where the reader knows that rule.
READERS: dict[str, Callable[[Manifest, Path], pd.DataFrame]] = {
    "mimic-cxr": mimic_cxr.read,
    "chexpert": chexpert.read,
    "nih": nih.read,
    "class-folders": class_folders.read,
    "covid-chestxray": covid_chestxray.read,
    "rsna": rsna.read,
    "siim": siim.read,
    "covidx": covidx.read,
    "object-cxr": object_cxr.read,
    "padchest": padchest.read,
    "chexlocalize": chexlocalize.read,
    "nlm-tb": nlm_tb.read,
    "idrid": idrid.read,
    "isic2018": isic2018.read,
    "derm7pt": derm7pt.read,
    "mra-midas": mra_midas.read,
    "dmid": dmid.read,
    "busi": busi.read,
    "cc-ccii": cc_ccii.read,
}


def load(name_or_manifest: str | Path | Manifest, root: str | Path) -> Samples:
    """Read the data set that lies in `root`.

    Rows whose image is absent are dropped and counted; splits come from the manifest's rule and are checked to share
    no patient and no image.

    Raises UserError for a root without this data set, a table that cannot be read or lacks a column, a label outside
    {1, 0, -1, nothing}, or a patient or an image in two splits; UsageError for a manifest that is wrong.
    """
    manifest = name_or_manifest if isinstance(name_or_manifest, Manifest) else load_manifest(name_or_manifest)
    root = Path(root)
    require_folder(root, manifest.name)
    frame = READERS[manifest.layout.reader](manifest, root)
    labels = [f"label:{name}" for name in manifest.classes]
    _check_labels(manifest, frame[labels].astype(np.float32))

    present = frame["image"].isin(_files_below(root, frame["image"])).to_numpy()
    if not present.any():
        raise UserError(
            f"{manifest.name}: none of its {len(frame)} images is under {root} (the first would be "
            f"{frame['image'].iloc[0]}): unpack them there"
        )
    frame = frame[present].reset_index(drop=True)
    table = frame[[*COLUMNS, *labels]].astype(dict.fromkeys(labels, np.float32))
    table["split"] = assign_splits(table["patient"], table["split"], manifest, root, frame.get("testable"))
    assert_disjoint(table)
    _check_images(manifest, table)
    return Samples(
        name=manifest.name,
        root=root,
        classes=manifest.classes,
        source="phantom" if (root / MARKER).is_file() else "real",
        missing=int((~present).sum()),
        table=table,
    )


def twin_record(root: str | Path) -> dict | None:
    """What `write_twin` noted of the twin in `root`; None for real data. UserError for a damaged marker."""
    marker = Path(root) / MARKER
    if not marker.is_file():
        return None
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{marker} is damaged: write the twin again") from error


def _files_below(root: Path, images: pd.Series) -> set[str]:
    """The files in the top folders of these images, as paths under `root`."""
    return set().union(*(list_files(root, top) for top in images.str.partition("/")[0].unique()))


def _check_images(manifest: Manifest, table: pd.DataFrame) -> None:
    pairs = table[["image", "split"]].drop_duplicates()
    if (twice := pairs["image"].duplicated()).any():
        image = pairs.loc[twice, "image"].iloc[0]
        raise UserError(f"{manifest.name}: the image {image!r} is in two splits: mend the split's list or table")


def _check_labels(manifest: Manifest, labels: pd.DataFrame) -> None:
    wrong = ~(labels.isin([1, 0, -1]) | labels.isna())
    for column in wrong.columns[wrong.any()]:
        value = labels.loc[wrong[column], column].iloc[0]
        raise UserError(f"{manifest.name}: class {column[6:]!r} has the value {value:g}, not 1, 0, -1 or nothing")

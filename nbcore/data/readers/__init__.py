"""Readers: from the layout a manifest describes to `Samples`. One file a layout, one registry."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nbcore.data.fixed_splits import fixed_for
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
    openi,
    padchest,
    rsna,
    siim,
)
from nbcore.data.samples import COLUMNS, Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.data.strict_rows import strict_rows
from nbcore.data.tables import is_file, list_files, require_folder
from nbcore.errors import UsageError, UserError

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
    "openi": openi.read,
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
    samples = read_present(manifest, Path(root)).samples
    assert_consistent(samples)
    return samples


@dataclass(frozen=True)
class Reading:
    """What `load` finds in a root, and what it takes no notice of."""

    samples: Samples
    absent: pd.Series  # images that a table names and that are not there, as paths under the root
    files: set[str]  # all files in the top folders of the images, as paths under the root
    official: tuple[str, ...]  # splits that the layout itself tells, of the images that are there
    fixed: bool  # what would be drawn is known of the complete copy


def read_present(manifest: Manifest, root: Path, needs_train: bool = True) -> Reading:
    """`load`, but patients and images may be in two splits.

    Unless `needs_train`, there may also be too few images to draw splits from: none are then drawn.
    Raises what `load` raises for all other reasons.
    """
    if manifest.part_of:
        return _read_part(manifest, root, needs_train)
    require_folder(root, manifest.name)
    frame = READERS[manifest.layout.reader](manifest, root)
    frame = strict_rows(manifest, root, frame)
    files = _files_below(root, frame["image"])
    present = frame["image"].isin(files).to_numpy()
    if not present.any():
        raise UserError(
            f"{manifest.name}: none of its {len(frame)} images is under {root} (the first would be "
            f"{frame['image'].iloc[0]}): unpack them there"
        )
    absent, frame = frame.loc[~present, "image"], frame[present].reset_index(drop=True)
    table = frame[[*COLUMNS, *(f"label:{name}" for name in manifest.classes)]]
    phantom = twin_record(root) is not None
    fixed = None if phantom else fixed_for(manifest, table["study"])  # a twin's names are those of other pictures
    official = tuple(table["split"].unique())
    known = (manifest, root, frame.get("testable"), fixed)
    try:
        table["split"] = assign_splits(table["patient"], table["split"], *known)
    except UserError as error:
        if needs_train or not (isinstance(error, UsageError) or "train" not in official):
            raise
    samples = Samples(
        name=manifest.name,
        root=root,
        classes=manifest.classes,
        source="phantom" if phantom else "real",
        missing=len(absent),
        table=table,
        private=manifest.is_private and not phantom,
    )
    return Reading(samples, absent, files, official, fixed is not None)


def _read_part(manifest: Manifest, root: Path, needs_train: bool) -> Reading:
    """The split of a whole that the manifest is of; what is absent is absent of the whole, as it changes the split."""
    part = manifest.part_of
    whole = read_present(manifest.model_copy(update={"name": part.data_set, "part_of": None}), root, needs_train)
    assert_consistent(whole.samples)
    samples = whole.samples.split(part.split)
    if not len(samples):
        raise UserError(f"{manifest.name}: no image of {part.data_set} under {root} is for {part.split}: fetch more")
    return replace(whole, samples=replace(samples, name=manifest.name))


def assert_consistent(samples: Samples) -> None:
    """Raise UserError if a patient or an image is in two splits."""
    assert_disjoint(samples.table)
    pairs = samples.table[["image", "split"]].drop_duplicates()
    if (twice := pairs["image"].duplicated()).any():
        image = pairs.loc[twice, "image"].iloc[0]
        raise UserError(f"{samples.name}: the image {image!r} is in two splits: mend the split's list or table")


def twin_record(root: str | Path) -> dict | None:
    """What `write_twin` noted of the twin in `root`; None for real data. UserError for a damaged marker."""
    marker = Path(root) / MARKER
    if not is_file(marker):
        return None
    try:
        record = json.loads(marker.read_text(encoding="utf-8"))
        if type(record["images"]) is not int or record["images"] < 1:
            raise ValueError(record["images"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{marker} is damaged: write the twin again") from error
    return record


def _files_below(root: Path, images: pd.Series) -> set[str]:
    """The files in the top folders of these images, as paths under `root`."""
    return set().union(*(list_files(root, top) for top in images.str.partition("/")[0].unique()))

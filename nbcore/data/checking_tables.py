"""What a check reads off the table, the names of the files and their hashes: counts, copies, splits, stray images.

Shapes: n images, C classes.
"""

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.checking_report import Copies, Unnamed
from nbcore.data.manifest import Count, Manifest
from nbcore.data.readers import Reading
from nbcore.data.samples import RLE, SPLITS, Samples
from nbcore.data.tables import is_file

_SHOWN = 3  # examples of anything
_OWN = "the data set's own"  # split
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
_TABLES = (".csv", ".csv.gz", ".txt", ".json", ".tsv", ".xml")
_BOXED_AT = {"nih": 1024}  # layout -> side of the owner's pictures, in whose pixels the boxes are told
_UNLISTED = {"cc-ccii", "openi"}  # layouts that leave images out though no table names any
_BETWEEN = re.compile(r"[,;|\"'\[\]{}\\/\t\r\n]+")  # what stands between the names in a table


def split_sizes(samples: Samples, expected: dict[str, Count]) -> dict[str, tuple[int, Count]]:
    """Split -> (found, expected)."""
    found = samples.table["split"].value_counts()
    return {name: (int(found.get(name, 0)), expected.get(name, "unknown")) for name in SPLITS}


def expected_splits(manifest: Manifest, root: Path) -> dict[str, Count]:
    """The split sizes of a complete copy under the rule that holds in this root."""
    rule = "test_list" if _list_in_use(manifest, root) else "default"
    return manifest.counts.splits.get(rule, {})


def balance(samples: Samples) -> pd.DataFrame:
    """A row a class: how many images have each label value."""
    values = samples.table[[f"label:{name}" for name in samples.classes]].to_numpy()  # (n, C)
    counts = {"positive": values == 1, "negative": values == 0, "uncertain": values == -1, "none": np.isnan(values)}
    return pd.DataFrame({kind: found.sum(axis=0) for kind, found in counts.items()}, index=list(samples.classes))


def positives(samples: Samples, expected: dict[str, Count]) -> pd.DataFrame:
    """A row a class: how many images should be positive, and how many in each split are."""
    values = samples.table[[f"label:{name}" for name in samples.classes]].to_numpy()  # (n, C)
    split = samples.table["split"].to_numpy()
    found = {name: (values[split == name] == 1).sum(axis=0) for name in SPLITS}
    wanted = [expected.get(name, "unknown") for name in samples.classes]
    return pd.DataFrame({"expected": wanted, **found}, index=list(samples.classes))


def split_rules(manifest: Manifest, reading: Reading) -> dict[str, str]:
    """Split -> where its images come from, of those that are there."""
    listed = _list_in_use(manifest, reading.samples.root)
    rules = {}
    for name in SPLITS:
        if not (reading.samples.table["split"] == name).any():
            continue
        if name == "test" and listed:
            rules[name] = f"listed in {listed}"
        elif name in reading.official:
            rules[name] = _OWN
        else:
            rules[name] = "fixed list" if reading.fixed else f"drawn by patient, seed {manifest.split.seed}"
    if "train" in rules and any(name != "train" and rule != _OWN for name, rule in rules.items()):
        rules["train"] = "the rest"
    return rules


def split_remarks(manifest: Manifest, reading: Reading) -> Iterator[str]:
    """Splits that are not the owner's though the owner has some, and those that are absent."""
    samples, rule = reading.samples, manifest.split
    root, found = samples.root, set(samples.table["split"])
    lists = {getattr(manifest.layout, name, None) for name in ("train_list", "test_list")} - {None}
    if absent := sorted(name for name in lists if not is_file(root / name)):
        yield f"{' and '.join(absent)} not here"
    test_drawn = "test" in found - set(reading.official) and not _list_in_use(manifest, root)
    if rule.official and test_drawn and not reading.fixed:
        yield "no image of the official test set is here or told: the test images are drawn, and not the papers'"
    if rule.test_list and not _list_in_use(manifest, root):
        what = "the official test set is used" if rule.official and not test_drawn else "the test set is drawn"
        yield f"without {rule.test_list.file}, the papers' list of test patients, {what}"
    wanted = expected_splits(manifest, root)
    for name in SPLITS:
        if name not in found and (wanted.get(name, 0) != 0 or (name == "train" and not wanted)):
            yield f"no image of the split {name!r} is here"


def patient_remarks(samples: Samples) -> Iterator[str]:
    """Images of which nobody tells whose they are, so that patients across splits cannot be seen."""
    table = samples.table
    name = table["image"].str.rpartition("/")[2]
    own = (
        (table["patient"] == table["study"])
        | (table["patient"] == name)
        | (table["patient"] == name.str.rpartition(".")[0])
    )
    if own.all():
        yield "no patients are named: each image counts as its own, so patients across splits cannot be seen"
    elif count := int(own.sum()):
        yield f"of {count} images no patient is known: each counts as its own"


def class_remarks(samples: Samples) -> Iterator[str]:
    """Classes nobody has here."""
    if absent := [name for name in samples.classes if not (samples.table[f"label:{name}"] == 1).any()]:
        yield f"no image here is positive of {', '.join(absent)}"


def misplaced_boxes(manifest: Manifest, samples: Samples, facts: np.ndarray) -> Iterator[str]:
    """Boxes told in pixels of larger or smaller pictures than these, of which FACTS (n,) are known."""
    side = _BOXED_AT.get(manifest.layout.reader)
    if side is None or samples.source == "phantom":
        return
    boxed = samples.table["boxes"].map(len).to_numpy() > 0
    other = facts["read"] & boxed & ((facts["width"] != side) | (facts["height"] != side))
    if other.any():
        row = int(other.argmax())
        yield (
            f"the boxes are told in pixels of {side} x {side} images, but {samples.table['image'][row]} is "
            f"{facts['width'][row]} x {facts['height'][row]} (one of {other.sum()}): fetch the owner's images, or move "
            f"{manifest.layout.boxes} away"
        )


def find_copies(samples: Samples, content: np.ndarray) -> Copies:
    """Images of the same content (n,), of which all zero is unknown."""
    table, labels = samples.table, [f"label:{name}" for name in samples.classes]
    halves = np.ascontiguousarray(content).view("u8").reshape(-1, 2)  # (n, 2)
    both = pd.DataFrame(halves, columns=["a", "b"])
    rows = np.flatnonzero(both.duplicated(keep=False).to_numpy() & halves.any(axis=1))
    if not len(rows):
        return Copies()
    same = both.iloc[rows].groupby(["a", "b"], sort=False).ngroup().to_numpy()  # the picture of each of these rows
    told = table.iloc[rows]
    several = {}
    combination = np.unique(np.nan_to_num(told[labels].to_numpy(), nan=9), axis=0, return_inverse=True)[1].ravel()
    columns = {"split": told["split"], "patient": told["patient"], "labels": combination}
    for name, values in columns.items():
        pairs = pd.DataFrame({"same": same, "value": pd.factorize(values)[0]}).drop_duplicates()
        several[name] = pairs["same"].value_counts(sort=False).sort_index().to_numpy() > 1  # (pictures,)
    worst = np.argsort(-(2 * several["split"].astype(int) + several["labels"]), kind="stable")[:_SHOWN]
    images = told["image"].to_numpy()
    return Copies(
        extra=len(rows) - len(several["split"]),
        across_splits=int(several["split"].sum()),
        across_patients=int(several["patient"].sum()),
        different_labels=int(several["labels"].sum()),
        examples=tuple(_pair(images, table["split"].to_numpy()[rows], np.flatnonzero(same == i)) for i in worst),
    )


def find_unnamed(manifest: Manifest, reading: Reading) -> Unnamed:
    """Image files below the folders of the images that are neither images nor masks of the table."""
    samples = reading.samples
    masks = {mask for mask in samples.table["mask"] if mask and not mask.startswith(RLE)}
    taken = set(samples.table["image"]) | masks
    pattern = re.compile(getattr(manifest.layout, "mask_pattern", "(?!)"))
    others = [file for file in reading.files - taken if file.lower().endswith(_PICTURES) and not pattern.search(file)]
    if getattr(manifest.layout, "masks", None):
        others = [file for file in others if not file.startswith(f"{manifest.layout.masks}/")]
    if manifest.layout.reader in _UNLISTED:
        return Unnamed(left_out=len(others))
    named = _named(samples.root, {PurePosixPath(file).stem for file in others}) if others else set()
    extra = sorted(file for file in others if PurePosixPath(file).stem not in named)
    return Unnamed(len(others) - len(extra), len(extra), tuple(extra[:_SHOWN]))


def _pair(images: np.ndarray, splits: np.ndarray, rows: np.ndarray) -> tuple[str, str]:
    """Two images of one picture, of different splits if there are any."""
    other = next((row for row in rows if splits[row] != splits[rows[0]]), rows[1])
    return str(images[rows[0]]), str(images[other])


def _list_in_use(manifest: Manifest, root: Path) -> str:
    listed = manifest.split.test_list
    return listed.file if listed and is_file(root / listed.file) else ""


def _named(root: Path, stems: set[str]) -> set[str]:
    """Which of these names stand, with or without a suffix, in a table or list near the root."""
    named: set[str] = set()
    for path in _tables(root):
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8", errors="replace") as file:
                for line in file:
                    words = {word.strip() for word in _BETWEEN.split(line)} | set(line.split())
                    named |= stems & (words | {word.rpartition(".")[0] for word in words})
        except OSError:  # a reader that needs it has told so
            continue
    return named


def _tables(root: Path) -> Iterator[Path]:
    """The text tables in the root and two folders down."""
    for place, folders, names in os.walk(root):
        if len(Path(place).relative_to(root).parts) >= 2:
            folders.clear()
        kept = (name for name in sorted(names) if name[0] != "." and name.lower().endswith(_TABLES))
        yield from (path for name in kept if (path := Path(place) / name).is_file())

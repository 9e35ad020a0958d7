"""Samples: a data set as one tidy table, a row an image.

Shapes: n images, C classes.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from nbcore.errors import UsageError, UserError
from nbcore.files import file_fingerprint
from nbcore.validation import nearest

COLUMNS = ("image", "patient", "study", "split", "view", "report", "language", "mask", "boxes")
SPLITS = ("train", "valid", "test")
RLE = "rle:"  # opens a mask that is told in the table itself
_JOINED = "+"  # between the names of data sets that were joined
UncertainPolicy = Literal["zero", "one", "ignore"] | Mapping[str, int]


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """The images of a data set and all that is known of them.

    `table` has a RangeIndex and the columns `image` (POSIX path under `root`), `patient`, `study`, `split`, `view`
    ("PA", "AP" or "", or one of the manifest's `views`), `report` (cleaned, a sentence a line, "" if none),
    `language`, `mask`, `boxes` (list of (x, y, w, h) in pixels of the stored image), and a float32 column
    `label:<class>` each: 1 positive, 0 negative, -1 uncertain, NaN not mentioned. `missing` counts the rows dropped
    because their image is not there. `private` marks credentialed data of real patients, of which nothing may be
    shown (nbcore.protection); a part of them, and what they are joined to, is private, too.

    `mask` is "" for none, the POSIX path under `root` of a picture of the same shape (bright where the finding is),
    or the finding itself in run lengths: "rle:3 4 10 2;0 5", of which each part between semicolons is one region in
    the code of `masks.rle_decode` and the mask is their union.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    source: Literal["real", "phantom"]
    missing: int
    table: pd.DataFrame
    private: bool = False

    def __repr__(self) -> str:
        """One line without a row of the table: it may end in a notebook or a traceback."""
        kind = f"{self.source}, private" if self.private else self.source
        return f"Samples({self.name}: {len(self):,} images, {len(self.classes)} classes, {kind})"

    def __len__(self) -> int:
        return len(self.table)

    def subset(self, rows: np.ndarray | pd.Series | list[int]) -> "Samples":
        """The rows of a boolean mask, or at these positions."""
        rows = np.asarray(rows)
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        return replace(self, table=self.table.iloc[positions].reset_index(drop=True))

    def split(self, name: str) -> "Samples":
        """The rows of "train", "valid" or "test"; UsageError for another name."""
        if name not in SPLITS:
            raise UsageError(f"unknown split {name!r}{nearest(name, list(SPLITS))}")
        return self.subset(self.table["split"] == name)

    def of_view(self, view: str) -> "Samples":
        """The rows of one view; UserError if there are none."""
        if not (rows := self.table["view"] == view).any():
            raise UserError(f"{self.name}: no image under {self.root} is a {view!r}: fetch them, or name another view")
        return replace(self.subset(rows), name=f"{self.name}/{view}")

    def pairs(self, min_words: int = 3) -> "Samples":
        """The rows whose report has at least `min_words` words; UserError if there are none."""
        enough = self.table["report"].str.split().str.len() >= min_words
        if not enough.any():
            raise UserError(f"{self.name}: no image under {self.root} has a report of {min_words} words or more")
        return self.subset(enough)

    def labels(self, uncertain: UncertainPolicy = "zero") -> np.ndarray:
        """float32 (n, C) of 0 and 1; what is not mentioned is 0.

        An uncertain label becomes 0 ("zero", CheXclusion), 1 ("one"), NaN ("ignore"), or what the mapping says of its
        class (0 where it says nothing; a manifest's `uncertain` holds the papers' mappings).
        """
        values = self.table[[f"label:{name}" for name in self.classes]].to_numpy(np.float32)
        if isinstance(uncertain, Mapping):
            for name in set(uncertain) - set(self.classes):
                raise UsageError(f"{self.name} has no class {name!r}{nearest(name, list(self.classes))}")
            instead = np.array([uncertain.get(name, 0) for name in self.classes], np.float32)
        else:
            fixed = {"zero": 0.0, "one": 1.0, "ignore": np.nan}
            if uncertain not in fixed:
                raise UsageError(f"unknown policy {uncertain!r} for uncertain labels{nearest(uncertain, list(fixed))}")
            instead = np.full(len(self.classes), fixed[uncertain], np.float32)
        return np.where(values == -1, instead, np.nan_to_num(values)).astype(np.float32)

    def image_paths(self) -> list[Path]:
        return [self.root / image for image in self.table["image"]]

    def fingerprint(self) -> str:
        """A hash of the table and the content of every image and mask file, wherever the root lies; computed once."""
        return self._fingerprint

    @cached_property
    def contents(self) -> list[str]:
        """A hash of the content of each image file."""
        return fingerprints(self.image_paths())

    @cached_property
    def _fingerprint(self) -> str:
        content = hashlib.blake2b(self.table.to_csv().encode("utf-8", "surrogatepass"), digest_size=16)
        masks = [self.root / mask for mask in self.table["mask"] if mask and not mask.startswith(RLE)]
        content.update("".join([*self.contents, *fingerprints(masks)]).encode())
        return content.hexdigest()


def join(parts: Sequence[Samples]) -> Samples:
    """Several data sets as one, in their order; a single one as it is.

    Its root is the nearest folder above all of theirs. Patients and studies get the name of their data set in front,
    so that they cannot collide; labels are dropped, as the classes differ. The fingerprint does not depend on the place
    of the common root, but on that of the data sets within it.

    Raises UsageError for nothing to join, for two data sets of one name, or for phantom data beside real data.
    """
    if not parts:
        raise UsageError("there is no data set to join")
    if len(parts) == 1:
        return parts[0]
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UsageError(f"cannot join {' and '.join(names)}: each data set may be there once")
    if len(sources := {part.source for part in parts}) > 1:
        raise UsageError(f"cannot join {' and '.join(names)}: some are phantom data and some are real")
    root = Path(os.path.commonpath([part.root.absolute() for part in parts]))
    return Samples(
        name=_JOINED.join(names),
        root=root,
        classes=(),
        source=sources.pop(),
        missing=sum(part.missing for part in parts),
        table=pd.concat([_below(part, root) for part in parts], ignore_index=True),
        private=any(part.private for part in parts),
    )


def owners(samples: Samples, column: Literal["patient", "study"]) -> pd.Series:
    """The patient or study of each image, with the name of its data set in front."""
    values = samples.table[column].astype(str)
    return values if _JOINED in samples.name else samples.name + "/" + values


def _below(part: Samples, root: Path) -> pd.DataFrame:
    """The table of a data set without its labels, as one that lies in `root`."""
    table = part.table[list(COLUMNS)].assign(patient=owners(part, "patient"), study=owners(part, "study"))
    prefix = part.root.absolute().relative_to(root)
    table["image"] = [(prefix / image).as_posix() for image in table["image"]]
    table["mask"] = [mask if mask.startswith(RLE) or not mask else (prefix / mask).as_posix() for mask in table["mask"]]
    return table


def fingerprints(paths: list[Path]) -> list[str]:
    """The content hash of each file; UserError for one that is gone or cannot be read."""
    hashes = []
    for path in paths:
        try:
            hashes.append(file_fingerprint(path))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return hashes

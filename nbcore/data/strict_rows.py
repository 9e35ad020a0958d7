"""What holds of every reader's table: each row names a picture inside the root, its patient, and lawful values."""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.samples import SPLITS
from nbcore.data.tables import unique_rows
from nbcore.errors import UserError

_NAMES = ("image", "patient", "study")
_FARTHEST = 1e6  # pixels; no side of a box lies beyond


def strict_rows(manifest: Manifest, root: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with float32 labels, names without blanks around them, and what is told twice once.

    Raises UserError, naming the data set and what is wrong, for a row without image, patient or study, an image outside
    `root`, an unknown split, a label outside {1, 0, -1, nothing}, a box that is none, or two contradictory rows.
    """
    labels = [f"label:{name}" for name in manifest.classes]
    frame = frame.astype(dict.fromkeys(labels, float)).reset_index(drop=True)
    if frame.empty:
        raise UserError(f"{manifest.name}: nothing under {root} is an image of this data set: is this the right root?")
    for name in _NAMES:
        frame[name] = frame[name].astype(str).str.strip()
        if (nameless := frame[name].isin(["", "nan"])).any():
            row = frame[nameless].iloc[0]
            known = " ".join(f"{other} {row[other]!r}" for other in _NAMES if other != name)
            raise UserError(f"{manifest.name}: the row of {known} under {root} has no {name}: fetch the table again")
    _check_places(manifest, root, frame["image"])
    if (odd := ~frame["split"].isin(SPLITS)).any():
        row = frame[odd].iloc[0]
        raise UserError(
            f"{manifest.name}: the split of {row['image']} under {root} is {str(row['split'])[:40]!r}, which is none: "
            f"fetch the table of the splits again"
        )
    _check_labels(manifest, frame[labels])
    _check_boxes(manifest, frame)
    frame = frame.astype(dict.fromkeys(labels, np.float32))  # none of 1, 0 and -1 is rounded
    return unique_rows(frame, ["image", "split"], f"{manifest.name} under {root}")


def _check_places(manifest: Manifest, root: Path, images: pd.Series) -> None:
    doubtful = images[images.str.startswith("/") | images.str.contains("..", regex=False)]
    for image in doubtful:
        if image.startswith("/") or ".." in PurePosixPath(image).parts:
            raise UserError(f"{manifest.name}: the image {image[:80]!r} lies outside {root}: fetch the table again")


def _check_labels(manifest: Manifest, labels: pd.DataFrame) -> None:
    wrong = ~(labels.isin([1, 0, -1]) | labels.isna())
    for column in wrong.columns[wrong.any()]:
        value = labels.loc[wrong[column], column].iloc[0]
        raise UserError(f"{manifest.name}: class {column[6:]!r} has the value {value:.10g}, not 1, 0, -1 or nothing")


def _check_boxes(manifest: Manifest, frame: pd.DataFrame) -> None:
    for image, boxes in zip(frame["image"], frame["boxes"]):
        for box in boxes:
            if not (np.abs(box) <= _FARTHEST).all() or min(box[2:]) < 0:
                told = ", ".join(f"{side:g}" for side in box)
                raise UserError(
                    f"{manifest.name}: the box x, y, width, height = {told} of {image} is none: fetch the table again"
                )

"""Splits by patient: drawn, read from published lists, cut down to a fraction, and checked.

Every draw goes through the patients in an order that is theirs alone (`patient_order`). So a copy of a part of a data
set has its patients in the order of the complete one, and only the place of the cut moves: a share of fewer images is
fewer images, and the patients near the cut change sides. Where the names of a complete copy are known by rule, not even
these do (`nbcore.data.fixed_splits`).
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.samples import Samples, owners
from nbcore.data.tables import is_file, readable
from nbcore.errors import UsageError, UserError

_PATIENT = {"patient", "patientid", "patientnumber", "subject", "subjectid", "subjid"}  # headings of a test list


def patient_order(patients: pd.Series | np.ndarray, seed: int) -> np.ndarray:
    """The distinct patients (as text) in the order of a hash of each, BLAKE2b with the seed as its key.

    Which of two patients comes first depends on these two and the seed: not on who else is there, nor on the order of
    the rows, the platform or the version of a library.
    """
    key = str(seed).encode()

    def rank(patient: str) -> tuple[bytes, str]:
        return hashlib.blake2b(patient.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest(), patient

    return np.array(sorted(set(np.asarray(patients).astype(str).tolist()), key=rank), dtype=str)


def patient_split(patients: pd.Series | np.ndarray, held_out: Mapping[str, int | float], seed: int) -> np.ndarray:
    """Give every image a split so that no patient is in two.

    Patients are gone through in the order of `patient_order`; each goes, with all images, to the first held-out split
    that still has room for them, else to "train". So a split holds exactly the number asked for as long as there are
    patients small enough to fill it up, and never more, unless its first patient alone is larger.

    Args:
        patients: the patient of each image, (n,).
        held_out: split -> number of images (int) or share of all images (float below 1); "train" is the rest.
        seed: of the order.

    Returns:
        Split names, (n,).

    Raises:
        UsageError: if the held-out splits leave nothing to train on.
    """
    owner, size = _in_order(patients, seed)
    total = len(owner)
    room = {name: share if isinstance(share, int) else max(1, round(share * total)) for name, share in held_out.items()}
    if "train" in room or sum(room.values()) >= total:
        raise UsageError(f"cannot hold out {dict(held_out)} of {total} images: some must remain for 'train'")
    given = np.full(len(size), "train", dtype="<U5")
    empty = set(room)
    for patient, images in enumerate(size.tolist()):
        for name, left in room.items():
            if images <= left or name in empty:
                given[patient] = name
                room[name] = left - images
                empty.discard(name)
                break
    if not (given == "train").any():
        raise UsageError(f"cannot hold out {dict(held_out)}: there are only {len(size)} patients")
    return given[owner]


def label_fraction(samples: Samples, fraction: float, seed: int) -> Samples:
    """A random part of the training split, whole patients, about `fraction` of its images and at least one patient.

    The first patients in the order of `patient_order`, so that for one seed the parts are nested (1 % within 10 %
    within 100 %). Plain random as in the papers: a rare class may have no positive left in a small part.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"a fraction of the labels must be above 0 and at most 1, not {fraction}")
    train = samples.split("train")
    owner, size = _in_order(train.table["patient"], seed)
    nearest = int(np.argmin(np.abs(np.cumsum(size) - fraction * len(train))))  # the last patient to take
    return train.subset(owner <= nearest)


def _in_order(patients: pd.Series | np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The place of each image's patient in the order, (n,), and the number of images of the patient at each place."""
    place = {patient: i for i, patient in enumerate(patient_order(patients, seed).tolist())}
    owner = np.array([place[patient] for patient in np.asarray(patients).astype(str).tolist()], dtype=np.int64)
    return owner, np.bincount(owner)


def assert_disjoint(table: pd.DataFrame) -> None:
    """Raise UserError, naming one, if a patient has images in two splits."""
    pairs = table[["patient", "split"]].drop_duplicates()
    if (twice := pairs["patient"].duplicated()).any():
        patient = pairs.loc[twice, "patient"].iloc[0]
        found = sorted(pairs.loc[pairs["patient"] == patient, "split"])
        raise UserError(f"patient {patient!r} is in two splits ({' and '.join(found)}): mend the split's list or table")


def assert_unseen(learnt: Samples, tests: Samples) -> None:
    """Raise UserError, naming an image, if what is tested on was learnt from.

    That is a picture with the same file content in both, or a patient of the same data set. Either may be a join of
    several data sets.
    """
    seen = dict(zip(learnt.contents, learnt.image_paths()))
    for path, content in zip(tests.image_paths(), tests.contents):
        if content in seen:
            raise UserError(
                f"the test image {path} is the same picture as {seen[content]}, which is learnt from: "
                f"take it out of one of the two data sets"
            )
    if (known := owners(tests, "patient").isin(owners(learnt, "patient"))).any():
        row = tests.table[known.to_numpy()].iloc[0]
        raise UserError(
            f"the test image {tests.root / row['image']} is of patient {row['patient']!r}, of whom other images are "
            f"learnt from: learn from the training split only"
        )


def assign_splits(
    patients: pd.Series,
    official: pd.Series,
    manifest: Manifest,
    root: Path,
    testable: pd.Series | None = None,
    fixed: pd.Series | None = None,
) -> np.ndarray:
    """The split of each image by the manifest's rule, (n,).

    The published test list wins where it lies in `root` (then everybody else is a candidate for validation);
    otherwise the official split; what neither fixes is drawn from the training images by patient. Where the rule
    says among whom to draw the test patients, `testable` tells the images that meet it.

    `fixed` is the split each image has in a complete copy, NaN for one that is not of it. Where it is given, it stands
    instead of a draw: a patient has the split of the first image that is known, and "train" if there is none.
    """
    rule = manifest.split
    listed = rule.test_list and root / rule.test_list.file
    if listed and is_file(listed):
        split = np.where(_in_list(patients, listed, rule.test_list.column), "test", "train").astype("<U5")
    elif rule.official:
        split = official.to_numpy(dtype="<U5")
    else:
        split = np.full(len(patients), "train", dtype="<U5")
    wanted = {"test": rule.test, "valid": rule.valid}
    if any(wanted.values()) and not (split == "train").any():
        raise UserError(f"{manifest.name}: no image under {root} is left to train on")
    draws = {name: draw for name, draw in wanted.items() if draw and not (split == name).any()}
    if draws and fixed is not None:
        theirs = fixed.groupby(patients).transform("first")
        return np.where((split == "train") & theirs.isin(list(draws)), theirs, split).astype("<U5")
    if rule.test_among and "test" in draws:
        if testable is None:
            raise UsageError(f"{manifest.name}: split.test_among does not go with reader {manifest.layout.reader!r}")
        among = (split == "train") & testable.groupby(patients).transform("all").to_numpy()
        if patients[among].nunique() < 2:
            raise UserError(
                f"{manifest.name}: no test images can be drawn under {root}: fewer than two patients have only images "
                f"with {rule.test_among.column} = {rule.test_among.value} and labels (the manifest's split.test_among)"
            )
        split[among] = patient_split(patients[among], {"test": draws.pop("test").count(int(among.sum()))}, rule.seed)
    if draws:
        pool = split == "train"
        images = {name: draw.count(int(pool.sum())) for name, draw in draws.items()}
        split[pool] = patient_split(patients[pool], images, rule.seed)
    return split


def _in_list(patients: pd.Series, path: Path, column: str | None) -> np.ndarray:
    """Which images belong to the listed patients, comparing numbers (a list says 3 where a path says patient00003)."""
    with readable(path):
        lines = pd.read_csv(path, header=None, dtype=str, keep_default_na=False).fillna("")
    first = [cell.strip() for cell in lines.iloc[0]]
    heading = not any(re.search(r"\d", cell) for cell in first)
    if column is not None and not (heading and column in first):
        raise UserError(f"{path} has no column {column!r}: mend it, or the manifest's split.test_list.column")
    place = first.index(column) if column else _place(lines, first, path)
    wanted = _number(lines.iloc[int(heading) :, place])
    listed = np.isin(_number(patients), wanted)
    if not listed.any():
        raise UserError(f"{path} names no patient of this data set: it is the list of another one")
    return listed


def _place(lines: pd.DataFrame, first: list[str], path: Path) -> int:
    """The column of the patients in a list: the only one, or that with such a heading."""
    full = [place for place in lines if (lines[place].str.strip() != "").any()]
    named = [place for place in full if re.sub(r"[\W_]", "", first[place].lower()) in _PATIENT]
    if len(full) > 1 and len(named) != 1:
        raise UserError(
            f"{path} has {len(full)} columns, of which {len(named) or 'none'} is called as patients are (PatientID): "
            f"leave the column of the patients alone in it"
        )
    return (named or full or [0])[0]


def _number(patients: pd.Series) -> np.ndarray:
    return pd.to_numeric(patients.astype(str).str.extract(r"(\d+)", expand=False)).fillna(-1).to_numpy(np.int64)

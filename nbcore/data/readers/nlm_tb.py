"""The tuberculosis sets of the NLM, Shenzhen and Montgomery: radiographs whose file name ends with the label."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import first_folder, is_file, list_files, readable, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1, the one at the position of the digit that ends the file's name.

    An image is its own patient, unless a clinical reading says otherwise (Montgomery has two such). Nothing else of
    the readings is used: they tell the diagnosis.
    """
    layout = manifest.layout
    home = first_folder(root, layout.folders, [layout.images], manifest.name)
    files = map(PurePosixPath, sorted(list_files(root, home + layout.images), reverse=True))
    named = {
        layout.prefix + path.stem[len(layout.prefix) :]: path  # of an image and a copy further down, the former
        for path in sorted(files, key=lambda path: len(path.parts), reverse=True)
        if path.suffix.lower() == ".png" and path.name.lower().startswith(f"{layout.prefix}_".lower())
    }
    named = dict(sorted(named.items(), key=lambda item: item[1]))
    images = list(named.values())
    if not images:
        raise UserError(
            f"no {manifest.name} data under {root}: expected {home}{layout.images}/{layout.prefix}_<number>_<0 or 1>"
            f".png in it; is this the right root?"
        )
    stems = pd.Series(list(named))
    digit = stems.str.extract(rf"^{re.escape(layout.prefix)}_\d+_(\d)$", expand=False)
    if (nameless := ~digit.isin([str(position) for position in range(len(manifest.classes))])).any():
        meanings = " or ".join(f"_{position} ({name})" for position, name in enumerate(manifest.classes))
        image = images[int(np.argmax(nameless))]
        raise UserError(f"{root / image} does not end in {meanings} behind its number: give it its own name back")
    _check_digits(root, home + layout.readings, stems)
    return tidy(
        len(images),
        image=[path.as_posix() for path in images],
        patient=_patients(root / home / layout.readings, stems, layout.prefix),
        study=stems,
        **{f"label:{name}": (digit == str(i)).astype(np.float32) for i, name in enumerate(manifest.classes)},
    )


def _check_digits(root: Path, readings: str, stems: pd.Series) -> None:
    """UserError for a number with two digits, or an image whose only reading bears another one."""
    number = stems.str.rpartition("_")[0]
    if (twice := number.duplicated(keep=False)).any():
        one, other = stems[number == number[twice].iloc[0]].iloc[:2]
        raise UserError(f"{one} and {other} under {root} are of one number: give them their own names back")
    told = {PurePosixPath(file).stem for file in list_files(root, readings)}
    numbers = {stem.rpartition("_")[0]: stem for stem in told}
    if (odd := ~stems.isin(told) & number.isin(numbers)).any():
        image, reading = stems[odd].iloc[0], numbers[number[odd].iloc[0]]
        raise UserError(f"the image {image} under {root} has the reading {reading}.txt: give it its own name back")


def _patients(readings: Path, stems: Sequence[str], prefix: str) -> list[str]:
    """The patient of each image, named after one of the patient's images."""
    elsewhere = re.compile(rf"same (?:pt|patient) as {re.escape(prefix)}(_\d+_\d)", re.IGNORECASE)
    patient = {stem: stem for stem in stems}
    for stem in stems:
        if found := elsewhere.search(_reading(readings / f"{stem}.txt")):
            other = prefix + found[1]
            theirs = patient.get(other, other)
            patient = {name: theirs if owner == stem else owner for name, owner in patient.items()}
    return [patient[stem] for stem in stems]


def _reading(path: Path) -> str:
    """The clinical reading; "" where there is none. What is not text in it is passed over."""
    if not is_file(path):
        return ""
    with readable(path):
        return path.read_text("utf-8-sig", errors="replace")

"""The twin of IDRiD, Disease Grading: JPEGs that count from 1 in either set, and two tables with their odd headings."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import fundus
from nbcore.data.phantom.twins.cast import Cast, in_colour, misread, save_pictures
from nbcore.errors import UsageError

_EDEMA = "Risk of macular edema "  # so the owner's heading; no reader needs it
_EMPTY = ",,,"  # columns and rows without content that end the training table


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """IDRiD_NNN.jpg; the grade is the study's position among the classes of the fundus world."""
    layout, names = manifest.layout, manifest.layout.columns
    if len(manifest.classes) != len(fundus.CLASSES):
        raise UsageError(f"{manifest.name}: the phantom writes {len(fundus.CLASSES)} classes, the grades, only")
    grades = misread(np.array([study.label for study in cast.studies]), manifest.twin.label_noise, cast.random)
    home, order = folder / layout.folders[0], [i for members in cast.patients().values() for i in members]
    places = []
    for split, file in layout.tables.items():
        extra = _EMPTY if split == "train" else ""
        lines = [f"{names.image},{names.grade},{_EDEMA}{extra}"]
        for number, i in enumerate((i for i in order if (cast.split[i] == "test") == (split == "test")), start=1):
            image = f"IDRiD_{number:03d}"
            places.append((home / layout.images[split] / f"{image}{layout.suffix}", cast.studies[i]))
            lines.append(f"{image},{grades[i]},{cast.random.integers(3) if grades[i] else 0}{extra}")
        lines += [f",,{extra}"] * (split == "train")
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    save_pictures(places, cast.size, render=in_colour("fundus"))

"""The twin of ISIC 2018 Task 3: JPEGs in three sets, a table of each with a column a class, and lesion groupings."""

from itertools import count
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import skin
from nbcore.data.phantom.twins.cast import Cast, in_colour, misread, numbers, save_pictures
from nbcore.errors import UsageError

_COLUMNS = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")  # in the owner's order
_FIRST = 24_306  # number of the first image, as in the original
_CONFIRMED = ("histopathology", "serial imaging showing no change", "single image expert consensus")


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """ISIC_NNNNNNN.jpg in random order; only of the training images the lesion is told."""
    layout, names = manifest.layout, manifest.layout.columns
    if {*manifest.classes} != {*_COLUMNS}:
        raise UsageError(f"{manifest.name}: the phantom writes the classes {', '.join(_COLUMNS)} only")
    lesions = {(study.patient, study.lesion): study.label for study in cast.studies}
    told = dict(zip(lesions, misread(np.array([*lesions.values()]), manifest.twin.label_noise, cast.random)))
    name = dict(zip(lesions, numbers(cast.random, len(lesions), 0, 10 * len(lesions))))
    order = cast.random.permutation(len(cast.studies)).tolist()
    number = count(_FIRST)
    places, groups = [], [f"{names.image},{names.lesion},diagnosis_confirm_type"]
    for split, files in layout.tables.items():
        lines = [",".join((names.image, *_COLUMNS))]
        for study in (cast.studies[i] for i in order if cast.split[i] == split):
            image, lesion = f"ISIC_{next(number):07d}", (study.patient, study.lesion)
            places.append((folder / layout.images[split] / f"{image}{layout.suffix}", study))
            lines.append(",".join([image, *(f"{float(skin.CLASSES[told[lesion]] == column)}" for column in _COLUMNS)]))
            if split == "train":
                groups.append(f"{image},HAM_{name[lesion]:07d},{cast.random.choice(_CONFIRMED)}")
        (folder / files[0]).parent.mkdir(parents=True, exist_ok=True)
        (folder / files[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / layout.groupings[0]).write_text("\n".join(groups) + "\n", encoding="utf-8")
    save_pictures(places, cast.size, render=in_colour("skin"))

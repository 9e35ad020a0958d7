"""The twin of CC-CCII: <class>/<patient>/<scan>/<slice> folders whose names are numbers that tell nothing."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import ct
from nbcore.data.phantom.twins.cast import Cast, in_colour, misread, numbers, save_pictures
from nbcore.errors import UsageError

_TOP, _BOTTOM = 0.06, 0.97  # heights of the first and the last slice of a whole scan


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """NNNN.png from above down; around the slices of a scan that has all that are read of one lie as many again."""
    layout = manifest.layout
    if {*manifest.classes} != {*ct.CLASSES}:
        raise UsageError(f"{manifest.name}: the phantom writes the classes {', '.join(ct.CLASSES)} only")
    if layout.slices_per_scan < ct.MOST_SLICES:
        raise UsageError(
            f"{manifest.name}: layout.slices_per_scan is {layout.slices_per_scan}, but the phantom's scans have up to "
            f"{ct.MOST_SLICES} slices to read: give at least that many"
        )
    patients = cast.patients()
    truth = np.array([cast.studies[members[0]].label for members in patients.values()])
    read = misread(truth, manifest.twin.label_noise, cast.random)
    scans = [*dict.fromkeys(study.scan for study in cast.studies)]
    scan_number = dict(zip(scans, numbers(cast.random, len(scans), 1, 10 * len(scans))))
    places = []
    for (members, label), number in zip(
        zip(patients.values(), read), numbers(cast.random, len(patients), 1, 10 * len(patients))
    ):
        home = folder / layout.class_folders[ct.CLASSES[label]][0] / str(number)
        slices: dict[int, list[ct.CtStudy]] = {}
        for i in members:
            slices.setdefault(cast.studies[i].scan, []).append(cast.studies[i])
        for scan, shown in slices.items():
            if len(shown) == layout.slices_per_scan:
                shown = _whole(shown, cast.random)
            for place, study in enumerate(shown):
                places.append((home / str(scan_number[scan]) / f"{place:04d}{layout.suffixes[0]}", study))
    save_pictures(places, cast.size, render=in_colour("ct"))


def _whole(shown: list[ct.CtStudy], random: np.random.Generator) -> list[ct.CtStudy]:
    """A scan whose middle half are these slices."""
    above = len(shown) // 2
    below = len(shown) - above
    first, last = shown[0].height, shown[-1].height
    heights = [
        *np.linspace(_TOP, first, above, endpoint=False),
        *np.linspace(_BOTTOM, last, below, endpoint=False)[::-1],
    ]
    more = [shown[0].at(float(height), int(random.integers(2**62))) for height in heights]
    return [*more[:above], *shown, *more[above:]]

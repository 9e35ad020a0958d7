"""Twins of radiographs in <split>/<class>/ folders: Kermany's, and those of COVID-19 and pneumonia."""

from itertools import count
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import world
from nbcore.data.phantom.twins.cast import Cast, misread, recorded, save_pictures
from nbcore.errors import UsageError

_KERMANY, _COVID = ("NORMAL", "PNEUMONIA"), ("COVID-19", "Normal", "Pneumonia")


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """Write the layout that goes with the classes."""
    writers = {_KERMANY: _kermany, _COVID: _covid}
    if manifest.classes not in writers:
        known = " or ".join(", ".join(classes) for classes in writers)
        raise UsageError(f"{manifest.name}: the phantom fills class folders of {known} only")
    writers[manifest.classes](manifest, folder, cast)


def _covid(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """CLASS(N).jpg; the numbers of a class go on from train to test, and tell no patient."""
    layout, present = manifest.layout, world.labels(cast.studies)
    truth = np.where(present["covid"] == 1, 0, np.where(present["pneumonia"] == 1, 2, 1))
    read = misread(truth, manifest.twin.label_noise, cast.random)
    number = {name: count() for name in manifest.classes}
    order = cast.random.permutation(len(cast.studies)).tolist()
    places = []
    for part, held_out in (("train", False), ("test", True)):
        for i in order:
            if (cast.split[i] == "test") == held_out:
                name = manifest.classes[read[i]]
                place = layout.class_folders.get(name, name)
                file = f"{part}/{place}/{place}({next(number[name])}){layout.suffixes[0]}"
                places.append((folder / layout.folders[0] / file, cast.studies[i]))
    save_pictures(places, cast.size)


def _kermany(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """personN_{bacteria,virus}_N.jpeg and {IM,NORMAL2-IM}-NNNN-NNNN.jpeg; each split counts from 1."""
    truth = world.labels(cast.studies)["pneumonia"]
    sick = recorded(truth, manifest.twin.label_noise, cast.random) == 1
    home = folder / manifest.layout.folders[0]
    places = []
    for part, held_out in (("train", False), ("test", True)):
        patients = [rows for rows in cast.patients().values() if (cast.split[rows[0]] == "test") == held_out]
        pictures = count(1)
        for number, members in enumerate(patients, start=1):
            series = cast.random.choice(["IM", "NORMAL2-IM"])
            for visit, i in enumerate(members, start=1):
                if sick[i]:
                    name = f"PNEUMONIA/person{number}_{_germ(cast, i)}_{next(pictures)}.jpeg"
                else:
                    name = f"NORMAL/{series}-{number:04d}-{visit:04d}.jpeg"
                places.append((home / part / name, cast.studies[i]))
    save_pictures(places, cast.size)


def _germ(cast: Cast, i: int) -> str:
    finding = cast.studies[i].find("pneumonia")
    kind = finding.kind if finding else np.array(["bacterial", "viral"])[cast.random.integers(2)]
    return {"bacterial": "bacteria", "viral": "virus"}[str(kind)]

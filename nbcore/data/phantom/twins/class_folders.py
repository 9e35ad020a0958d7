"""The twin of Kermany's radiographs: <split>/<class>/ folders, file names that count patients and images."""

from itertools import count
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import world
from nbcore.data.phantom.twins.cast import Cast, recorded, save_pictures
from nbcore.errors import UsageError


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """personN_{bacteria,virus}_N.jpeg and {IM,NORMAL2-IM}-NNNN-NNNN.jpeg; each split counts from 1."""
    if manifest.classes != ("NORMAL", "PNEUMONIA"):
        raise UsageError(f"{manifest.name}: the phantom fills the class folders NORMAL and PNEUMONIA only")
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

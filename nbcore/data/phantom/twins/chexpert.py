"""The twin of CheXpert: train.csv with the labeller's labels, valid.csv with the radiologists', lateral images too."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import world
from nbcore.data.phantom.twins.cast import Cast, label_table, save_pictures

_MENTIONED = 0.25  # share of the negatives that a report speaks of


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """patientNNNNN/studyN/viewN_{frontal,lateral}.jpg in train/ and valid/; the numbers go on from one to the other."""
    layout = manifest.layout
    home = layout.folders[0]
    lateral = cast.lateral(manifest.twin.lateral)
    truth = world.label_matrix(cast.studies, manifest.classes)
    labeller = label_table(manifest, cast, _MENTIONED)
    by_patient = sorted(cast.patients().values(), key=lambda members: cast.split[members[0]] == "test")
    rows: dict[str, list[dict]] = {"train": [], "valid": []}
    places = []
    for number, members in enumerate(by_patient, start=1):
        part = "valid" if cast.split[members[0]] == "test" else "train"
        labels = truth if part == "valid" else labeller
        for visit, i in enumerate(members, start=1):
            for view, picture in enumerate(filter(None, (cast.studies[i], lateral.get(i))), start=1):
                projection = "Lateral" if picture.view == "lateral" else "Frontal"
                place = f"{home}/{part}/patient{number:05d}/study{visit}/view{view}_{projection.lower()}.jpg"
                places.append((folder / place, picture))
                rows[part].append(_row(place, projection, picture) | dict(zip(manifest.classes, labels[i])))
    save_pictures(places, cast.size)
    for part, table in rows.items():
        pd.DataFrame(table).to_csv(folder / home / f"{part}.csv", index=False)


def _row(place: str, projection: str, picture: world.ChestStudy) -> dict[str, str | int | float]:
    return {
        "Path": place,
        "Sex": {"F": "Female", "M": "Male"}[picture.sex],
        "Age": min(picture.age, 90),
        "Frontal/Lateral": projection,
        "AP/PA": picture.view if projection == "Frontal" else np.nan,
    }

"""The twin of PadChest: one compressed table with stemmed Spanish reports, 16-bit PNGs in numbered folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import world
from nbcore.data.phantom.parallel import spanish_report
from nbcore.data.phantom.twins.cast import Cast, recorded, save_pictures

_FOLDERS = 3  # the original has fifty-four
_BY_NETWORK = 0.6  # share of the patients whose reports no physician labelled
_MIXED = 0.1  # share of the other patients' studies that were labelled by the network all the same
_UNCHANGED = 0.03  # share of the studies of which the report says but that nothing has changed
_EXCLUDED = 0.2  # share of the lateral images that are filed as frontal ones to be left out
_OTHER_LABELS = {  # what the phantom shows beside the classes
    "infiltration": "infiltrates",
    "fibrosis": "pulmonary fibrosis",
    "mass": "pulmonary mass",
    "nodule": "nodule",
    "emphysema": "emphysema",
    "fracture": "rib fracture",
    "hernia": "hiatal hernia",
    "pleural_thickening": "pleural thickening",
    "enlarged_mediastinum": "mediastinal enlargement",
    "tuberculosis": "tuberculosis",
    "support_devices": "catheter",
    "foreign_object": "external foreign body",
}


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """<number>/<ImageID>.png and a row an image; studies with one frontal image, some with a lateral one too."""
    layout, random = manifest.layout, cast.random
    lateral = cast.lateral(manifest.twin.lateral)
    by_patient = list(cast.patients().values())
    network = _by_network(by_patient, cast)
    unchanged = random.random(len(cast.studies)) < _UNCHANGED
    labels = _labels(manifest, cast, network)
    per_folder = -(-len(cast.studies) // _FOLDERS)
    rows, places = [], []
    for members in by_patient:
        patient = _digits(random, 38)
        for i in members:
            study = _digits(random, 45)
            shared = {
                "StudyID": study,
                "PatientID": patient,
                "Report": " sin cambi respect estudi previ ." if unchanged[i] else _report(manifest, cast, i),
                "MethodLabel": "RNN_model" if network[i] else "Physician",
            }
            told = "['unchanged']" if unchanged[i] else labels[i]
            for picture in filter(None, (cast.studies[i], lateral.get(i))):
                excluded = picture.view == "lateral" and random.random() < _EXCLUDED
                name, home = f"{study}_{_digits(random, 2)}-{_digits(random, 3)}.png", str(len(rows) // per_folder)
                places.append((folder / home / name, picture))
                rows.append(
                    {"ImageID": name, "ImageDir": home}
                    | shared
                    | {"Projection": "PA" if excluded else _projection(picture)}
                    | {"Labels": "['exclude']" if excluded else told}
                )
    save_pictures(places, cast.size, deep=True)
    pd.DataFrame(rows).to_csv(
        folder / f"{layout.tables[0]}.gz", compression={"method": "gzip", "compresslevel": 1, "mtime": 0}
    )


def _by_network(by_patient: Sequence[list[int]], cast: Cast) -> np.ndarray:
    """Whether the network labelled each study: bool (n,)."""
    network = cast.random.random(len(cast.studies)) < _MIXED
    for members in by_patient:
        network[members] |= cast.random.random() < _BY_NETWORK
    return network


def _labels(manifest: Manifest, cast: Cast, network: np.ndarray) -> list[str]:
    """The list of labels of each study, as text: the truth from physicians, with errors from the network."""
    truth = world.label_matrix(cast.studies, manifest.classes)
    noisy = recorded(truth, manifest.twin.label_noise, cast.random)
    found = np.where(network[:, None], noisy, truth) == 1  # (n, C)
    told = []
    for study, row in zip(cast.studies, found):
        positive = [manifest.layout.findings.get(name, (name,)) for name in np.array(manifest.classes)[row]]
        names = [str(cast.random.choice(kinds)) for kinds in positive]
        names += [label for finding, label in _OTHER_LABELS.items() if study.find(finding)]
        cast.random.shuffle(names)
        told.append(str(names or ["normal"]))
    return told


def _report(manifest: Manifest, cast: Cast, i: int) -> str:
    """Findings and impression in one stemmed text; for a share of the studies nothing, or a word."""
    fate = cast.random.random() / max(manifest.twin.no_report, 1e-9)
    if fate < 1:
        return "" if fate < 0.5 else " normal ."
    return " " + spanish_report(cast.studies[i])


def _projection(picture: world.ChestStudy) -> str:
    if picture.view == "AP":
        return "AP_horizontal" if picture.seed % 3 else "AP"
    return {"PA": "PA", "lateral": "L"}[picture.view]


def _digits(random: np.random.Generator, count: int) -> str:
    return "".join(map(str, random.integers(0, 10, count)))

"""The twin of MRA-MIDAS: a table of photographs from several distances, and JPEGs whose suffix it may get wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom.skin import SkinStudy, Structures
from nbcore.data.phantom.twins.cast import Cast, numbers
from nbcore.data.phantom.twins.skin_views import save_views, told

_PATHOLOGIES = {  # class of the world -> what the owner may call it
    "AKIEC": ("malignant- ak",),
    "BCC": ("malignant- bcc",),
    "BKL": ("benign-seborrheic keratosis",),
    "DF": ("benign-dermatofibroma",),
    "MEL": ("malignant- melanoma",),
    "NV": ("benign-melanocytic nevus",),
    "SCC": ("malignant- scc", "malignant- scc", "malignant- sccis"),
    "VASC": ("benign-hemangioma",),
}
_SITES = ("l forearm", "r upper back", "scalp vertex", "nose", "r cheek", "l lower leg", "chest", "abdomen", "r hand")
_TYPES = ("i pale white skin, blue/green eyes, blond/red hair", "ii fair skin, blue eyes", "iii darker white skin",
          "iv light brown skin", "v brown skin", "vi dark brown or black skin")  # fmt: skip
_UNTOLD = ("midas_pathreport", "midas_melanoma", "midas_ethnicity", "midas_race", "clinical_impression_1",
           "clinical_impression_2", "clinical_impression_3")  # fmt: skip
_LEFT_OUT = 0.04  # share of the cases that also have a picture of each kind that is not read
_ODD = 0.06  # share of the files whose suffix is not the table's


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """Rows in random order: each case in both views, and here and there a picture that the reader is to leave out."""
    layout, random = manifest.layout, cast.random
    classes, distance = told(cast, manifest.twin.label_noise), {view: name for name, view in layout.views.items()}
    shots = [
        (study, {layout.columns.distance: name, layout.columns.pathology: random.choice(_PATHOLOGIES[truth])}, view)
        for study, truth in zip(cast.studies, classes)
        for view, name in distance.items()
    ]
    shots += [
        (shown, changed, "clinical")
        for study in cast.studies
        for shown, changed in _left_out(manifest, study, distance["clinical"])
        if random.random() < _LEFT_OUT
    ]
    people = {patient: str(number) for patient, number in zip(
        cast.patients(), numbers(random, len(cast.patients()), 100_000, 1_000_000))}  # fmt: skip
    site = {(study.patient, study.lesion): random.choice(_SITES) for study in cast.studies}
    files = numbers(random, len(shots), 100_000_000, 1_000_000_000)
    places, rows = {view: [] for view in distance}, []
    for number, place in enumerate(random.permutation(len(shots)).tolist()):
        study, told_of_it, view = shots[place]
        stem = f"s-prd-{files[number]}"
        on_disk = random.choice((".JPG", ".jpeg")) if random.random() < _ODD else ".jpg"
        places[view].append((folder / layout.folders[0] / f"{stem}{on_disk}", study))
        rows.append(_row(manifest, study, f"{stem}.jpg", people[study.patient], site[study.patient, study.lesion])
                    | told_of_it)  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / layout.table, index_label="_unnamed_var")
    save_views(places, cast.size)


def _left_out(manifest: Manifest, study: SkinStudy, near: str) -> list[tuple[SkinStudy, dict[str, str]]]:
    """Pictures that are not read, and their rows: other distances, skin beside the lesion, other pathologies."""
    names = manifest.layout.columns
    again = replace(study, seed=study.seed + 1)
    bare = replace(
        again,
        structures=Structures(),
        traits=study.traits._replace(melanin=0.0, blood=0.0),
        relief=study.relief._replace(height=0.0, roughness=0.0, rim=0.0, keratin=0.0),
    )
    far = [(again, {names.distance: other, names.pathology: "malignant- bcc"})
           for other in manifest.layout.other_distances]  # fmt: skip
    return [
        *far,
        (bare, {names.distance: near, names.pathology: "", names.control: manifest.layout.control}),
        (again, {names.distance: near, names.pathology: "other-non-neoplastic, inflammatory, infectious"}),
    ]


def _row(manifest: Manifest, study: SkinStudy, image: str, patient: str, site: str) -> dict[str, object]:
    """What the table says of a picture, but for distance and pathology."""
    names, person = manifest.layout.columns, np.random.default_rng(study.patient)
    return {
        names.patient: patient,
        names.image: image,
        names.control: "no",
        names.distance: "",
        names.location: site,
        names.pathology: "",
        "midas_gender": person.choice(("female", "male")),
        "midas_age": int(person.integers(25, 92)),
        "midas_fitzpatrick": _TYPES[min(5, int(6 * study.skin.tone))],
        **dict.fromkeys(_UNTOLD, ""),
        "length__mm_": round(2 * study.traits.radius, 1),
        "width__mm_": round(2 * study.traits.radius / (1 + study.traits.elongation), 1),
    }

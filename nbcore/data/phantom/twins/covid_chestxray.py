"""The twin of the COVID-19 image data collection: one table of radiographs and CT, the latter's files not there."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import reports, world
from nbcore.data.phantom.twins.cast import Cast, recorded, save_pictures

_HEADING = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,intubated,intubation_present,went_icu,"
    "in_icu,needed_supplemental_O2,extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,"
    "lymphocyte_count,view,modality,date,location,folder,filename,doi,url,license,clinical_notes,"
    "other_notes"
)
_COMPUTED_TOMOGRAPHY = 0.08  # rows of CT volumes, for each radiograph
_LATERAL = 0.05
_ABSENT = 0.03  # rows of radiographs that somebody took out
_UNLABELLED = 0.05
_OTHER_PNEUMONIA = {
    "bacterial": ("Pneumonia/Bacterial/Streptococcus", "Pneumonia/Bacterial/Klebsiella"),
    "viral": ("Pneumonia/Viral/Influenza", "Pneumonia/Viral/Varicella"),
}


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """A row a radiograph, and rows without a file: CT volumes, and a few radiographs."""
    layout = manifest.layout
    findings = _findings(manifest, cast)
    places, rows = [], []
    for number, members in enumerate(cast.patients().values(), start=1):
        for i in members:
            study = cast.studies[i]
            name = f"{cast.random.integers(2**60):016x}" + cast.random.choice([".jpg", ".jpeg", ".png"])
            row = _row(number, study, findings[i], "images", name)
            row["clinical_notes"] = _notes(manifest, study)
            rows.append(row)
            places.append((folder / "images" / name, study))
            rows += _rows_without_file(row, cast.random)
    save_pictures(places, cast.size)
    pd.DataFrame(rows, columns=_HEADING.split(",")).to_csv(folder / layout.table, index=False)


def _findings(manifest: Manifest, cast: Cast) -> list[str]:
    """The `finding` of each study, as recorded: COVID-19 before other pneumonia, "todo" where nobody filled it in."""
    present = world.labels(cast.studies)
    noise, random = manifest.twin.label_noise, cast.random
    covid, pneumonia = (recorded(present[name], noise, random) == 1 for name in ("covid", "pneumonia"))
    words = []
    for i, study in enumerate(cast.studies):
        finding = study.find("pneumonia")
        kind = finding.kind if finding else "viral"
        named = "Pneumonia/Viral/COVID-19" if covid[i] else str(random.choice(_OTHER_PNEUMONIA[kind]))
        word = named if covid[i] or pneumonia[i] else "No Finding"
        words.append("todo" if random.random() < _UNLABELLED else word)
    return words


def _row(number: int, study: world.ChestStudy, finding: str, place: str, name: str) -> dict[str, str | int]:
    return {
        "patientid": number,
        "offset": 3 * study.study,
        "sex": study.sex,
        "age": study.age,
        "finding": finding,
        "view": "AP Supine" if study.view == "AP" and study.seed % 2 else study.view,
        "modality": "X-ray",
        "date": 2020,
        "location": "phantom hospital",
        "folder": place,
        "filename": name,
        "license": "phantom",
    }


def _notes(manifest: Manifest, study: world.ChestStudy) -> str:
    """The history and the picture in one text, as the collection's notes have them."""
    report = reports.write(study, manifest.language)
    return f"{report.indication} {report.findings or report.impression}"


def _rows_without_file(row: dict[str, str | int], random: np.random.Generator) -> list[dict[str, str | int]]:
    name = f"{random.integers(2**60):016x}"
    extra = []
    if random.random() < _COMPUTED_TOMOGRAPHY:
        extra.append(row | {"view": "Axial", "modality": "CT", "folder": "volumes", "filename": f"{name}.nii.gz"})
    if random.random() < _LATERAL:
        extra.append(row | {"view": "L", "filename": f"{name}-L.jpg"})
    if random.random() < _ABSENT:
        extra.append(row | {"filename": f"{name}-0.jpg"})
    return extra

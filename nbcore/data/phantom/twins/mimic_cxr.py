"""The twin of MIMIC-CXR-JPG: compressed tables, images in a folder a study, reports as text files beside them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import reports, world
from nbcore.data.phantom.twins.cast import Cast, label_table, numbers, save_pictures

_MENTIONED = 0.3  # share of the negatives that a report speaks of
_VIEWS = {
    "PA": ("CHEST (PA AND LAT)", "postero-anterior", "Erect"),
    "AP": ("CHEST (PORTABLE AP)", "antero-posterior", ""),
    "lateral": ("CHEST (PA AND LAT)", "left lateral", "Erect"),
}


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """Studies with one frontal image, some with a lateral one too, a few without a report or with next to none."""
    layout = manifest.layout
    lateral = cast.lateral(manifest.twin.lateral)
    subject, study = _identifiers(cast)
    places, rows = [], []
    for i in np.argsort(study).tolist():
        home = f"p{subject[i]:08d}"[:3] + f"/p{subject[i]}/s{study[i]}"
        _write_report(manifest, folder / layout.images / f"{home}.txt", cast, i)
        for picture in filter(None, (cast.studies[i], lateral.get(i))):
            name = _dicom_id(cast.random)
            places.append((folder / layout.images / home / f"{name}{layout.suffix}", picture))
            rows.append(_metadata(name, subject[i], study[i], picture, cast) | {"split": cast.split[i]})
    save_pictures(places, cast.size)

    table = pd.DataFrame(rows)
    table["split"] = table["split"].replace("valid", "validate")
    _write_table(table.drop(columns="split"), folder / layout.metadata)
    _write_table(table[["dicom_id", "study_id", "subject_id", "split"]], folder / layout.split)
    labels = pd.DataFrame(label_table(manifest, cast, _MENTIONED), columns=list(manifest.classes))
    labels.insert(0, "subject_id", subject)
    labels.insert(1, "study_id", study)
    _write_table(labels.sort_values(["subject_id", "study_id"]), folder / layout.labels)


def _identifiers(cast: Cast) -> tuple[list[int], list[int]]:
    """(subject, study) numbers of each study, without order or meaning."""
    members = cast.patients()
    of_patient = dict(zip(members, numbers(cast.random, len(members), 10_000_000, 20_000_000)))
    studies = numbers(cast.random, len(cast.studies), 50_000_000, 60_000_000)
    return [of_patient[study.patient] for study in cast.studies], studies


def _dicom_id(random: np.random.Generator) -> str:
    return "-".join(f"{part:08x}" for part in random.integers(2**32, size=5).tolist())


def _metadata(name: str, subject: int, study: int, picture: world.ChestStudy, cast: Cast) -> dict:
    procedure, view, orientation = _VIEWS[picture.view]
    return {
        "dicom_id": name,
        "subject_id": subject,
        "study_id": study,
        "PerformedProcedureStepDescription": procedure,
        "ViewPosition": picture.view.upper(),
        "Rows": cast.size,
        "Columns": cast.size,
        "StudyDate": int(cast.random.integers(2110, 2200)) * 10_000 + 101,
        "StudyTime": round(float(cast.random.uniform(0, 235_959)), 3),
        "ProcedureCodeSequence_CodeMeaning": procedure,
        "ViewCodeSequence_CodeMeaning": view,
        "PatientOrientationCodeSequence_CodeMeaning": orientation,
    }


def _write_report(manifest: Manifest, path: Path, cast: Cast, i: int) -> None:
    """The report with its section headers; for a share of the studies none, or one too short to use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fate = cast.random.random() / max(manifest.twin.no_report, 1e-9)
    if fate < 0.5:
        return
    study = cast.studies[i]
    report = reports.write(study, manifest.language)
    findings, impression = ("", "Normal.") if fate < 1 else (report.findings, report.impression)
    sections = {
        "EXAMINATION": _VIEWS[study.view][0],
        "INDICATION": re.sub(r"\d+", "___", report.indication),  # as de-identified
        "COMPARISON": "___." if study.study else "None.",
        "FINDINGS": findings,
        "IMPRESSION": impression,
    }
    body = " \n ".join(f"{name}:  {text}\n" for name, text in sections.items() if text)
    path.write_text(f"{' ' * 33}FINAL REPORT\n {body}", encoding="utf-8")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """As PhysioNet ships it: compressed (with no time stamp, so that equal twins are equal bytes)."""
    table.to_csv(f"{path}.gz", index=False, compression={"method": "gzip", "compresslevel": 1, "mtime": 0})

"""MIMIC-CXR-JPG 2.0.0: frontal images, CheXpert labels per study, and the sections of the free-text reports."""

from pathlib import Path

import pandas as pd

from nbcore.data.layouts import MimicCxrLayout
from nbcore.data.manifest import Manifest
from nbcore.data.reports import clean_report, extract_sections
from nbcore.data.tables import find_table, label_columns, read_table, readable, tidy, unique_rows
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a frontal image, with its study's labels and report."""
    layout, names = manifest.layout, manifest.layout.columns
    key = [names.patient, names.study]
    metadata = find_table(root, [layout.metadata], manifest.name)
    wanted = [names.image, *key, names.view]
    table = read_table(metadata, wanted, text=wanted)
    table = table[table[names.view].isin(layout.frontal_views)]

    splits = find_table(root, [layout.split], manifest.name)
    table = table.merge(
        read_table(splits, [names.image, names.split], text=[names.image, names.split]), "left", on=names.image
    )
    if (lost := table[names.split].isna()).any():
        raise UserError(f"{splits} says nothing of the image {table.loc[lost, names.image].iloc[0]!r}")

    labels = find_table(root, [layout.labels], manifest.name)
    classes = list(manifest.classes)
    studies = unique_rows(read_table(labels, [*key, *classes], text=key), key, labels)
    table = table.merge(studies, "left", on=key)  # a few studies have no labels: not mentioned

    folder = _study_folders(table[names.patient], table[names.study])
    return tidy(
        len(table),
        image=layout.images + "/" + folder + "/" + table[names.image] + layout.suffix,
        patient=table[names.patient],
        study=table[names.study],
        split=table[names.split].replace("validate", "valid"),
        view=table[names.view],
        report=_reports(layout, root, table[names.study], folder),
        language=manifest.language,
        **label_columns(table, classes, labels),
    )


def _study_folders(patient: pd.Series, study: pd.Series) -> pd.Series:
    """pXX/pXXXXXXXX/sXXXXXXXX."""
    return "p" + patient.str[:2] + "/p" + patient + "/s" + study


def _reports(layout: MimicCxrLayout, root: Path, study: pd.Series, folder: pd.Series) -> pd.Series:
    """The cleaned report of each row: from the sectioned table where there is one, else from the text files."""
    sectioned = next((path for end in ("", ".gz") if (path := root / f"{layout.sectioned}{end}").is_file()), None)
    if sectioned:
        wanted = ["study", *layout.sections]
        table = unique_rows(read_table(sectioned, wanted, text=wanted, verbatim=True), ["study"], sectioned)
        table["study"] = table["study"].str.removeprefix("s")
        table = table[table["study"].isin(study)].set_index("study")
        first, *others = (table[name] for name in layout.sections)
        return study.map(first.str.cat(others, sep=" ").map(clean_report)).fillna("")

    texts = {}
    for place in folder.unique():
        for top in layout.reports:
            if (path := root / top / f"{place}.txt").is_file():
                with readable(path):
                    sections = extract_sections(path.read_text("utf-8-sig"))
                texts[place] = clean_report(" ".join(sections.get(name, "") for name in layout.sections))
                break
    return folder.map(texts).fillna("")

"""MIMIC-CXR-JPG 2.0.0: frontal images, CheXpert labels per study, and the sections of the free-text reports."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nbcore.data.layouts import MimicCxrLayout
from nbcore.data.manifest import Manifest
from nbcore.data.reports import clean_report, extract_sections
from nbcore.data.tables import find_table, is_file, label_columns, read_table, readable, tidy, unique_rows
from nbcore.errors import UserError

_ROW = r"\n[sS]?5[0-9]{7},"  # of the sectioned table, within a section of the row above it
_NUMBER = r"^\s*[spSP]?([0-9]{1,20})(?:\.0*|\.txt)?\s*$"


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a frontal image, with its study's labels and report."""
    layout, names = manifest.layout, manifest.layout.columns
    key = [names.patient, names.study]
    metadata = find_table(root, [layout.metadata], manifest.name)
    every = _read(metadata, [names.image], key, [names.view])
    table = every[every[names.view].str.strip().str.upper().isin(layout.frontal_views)]

    splits = find_table(root, [layout.split], manifest.name)
    told = _read(splits, [names.image], key, [names.split])
    table = table.merge(told, "left", on=names.image, suffixes=("", "?"))
    if (lost := table[names.split].isna()).any():
        raise UserError(f"{splits} says nothing of the image {table.loc[lost, names.image].iloc[0]!r}")
    for name in key:
        if (other := table[name] != table[f"{name}?"]).any():
            row = table[other].iloc[0]
            raise UserError(
                f"{splits} gives the image {row[names.image]} the {name} {row[f'{name}?']}, the metadata {row[name]}: "
                f"fetch both again"
            )

    labels = find_table(root, [layout.labels], manifest.name)
    classes = list(manifest.classes)
    studies = unique_rows(_read(labels, [], key, [], classes), [names.study], labels)
    _check_overlap(studies[names.study], every[names.study], labels)
    if studies[classes].isna().all(axis=None):
        raise UserError(f"{labels} has no label of any study: fetch it again")
    table = table.merge(studies, "left", on=names.study, suffixes=("", "*"))  # a few studies have no labels
    owner = table[f"{names.patient}*"]
    if (other := owner.notna() & (owner != table[names.patient])).any():
        row = table[other].iloc[0]
        raise UserError(
            f"{labels} gives the study {row[names.study]} the {names.patient} {row[f'{names.patient}*']}, the metadata "
            f"{row[names.patient]}: fetch both again"
        )

    folder = _study_folders(table[names.patient], table[names.study])
    return tidy(
        len(table),
        image=layout.images + "/" + folder + "/" + table[names.image] + layout.suffix,
        patient=table[names.patient],
        study=table[names.study],
        split=table[names.split].str.strip().replace("validate", "valid"),
        view=table[names.view].str.strip().str.upper(),
        report=_reports(layout, root, table[names.study], folder, every[names.study]),
        language=manifest.language,
        **label_columns(table, classes, labels),
    )


def _read(
    path: Path, names: Sequence[str], key: Sequence[str], others: Sequence[str], numbers: Sequence[str] = ()
) -> pd.DataFrame:
    """These columns of a table: names without blanks around them, and the numbers of `key` as they are in folders."""
    table = read_table(path, [*names, *key, *others, *numbers], text=[*names, *key, *others])
    for name in names:
        table[name] = table[name].str.strip()
        if (nameless := table[name] == "").any():
            raise UserError(f"{path}, row {int(nameless.idxmax()) + 2} has no {name}: fetch the table again")
    for name in key:
        table[name] = _digits(table[name], path)
    return table


def _digits(numbers: pd.Series, path: Path) -> pd.Series:
    """50414267 of 50414267, s50414267, s50414267.txt and 50414267.0; UserError for what is no such number."""
    digits = numbers.str.extract(_NUMBER, expand=False)
    if (odd := digits.isna()).any():
        row = int(odd.idxmax())
        raise UserError(f"{path}, row {row + 2}: {numbers[row][:80]!r} is no {numbers.name}: fetch the table again")
    return digits


def _check_overlap(studies: pd.Series, known: pd.Series, path: Path) -> None:
    """UserError where two lists of studies, of which either may be a part, have next to nothing in common."""
    ours, theirs = set(studies), set(known)
    if 2 * len(ours & theirs) < min(len(ours), len(theirs)):
        raise UserError(
            f"{path} and the metadata have {len(ours & theirs)} studies in common, of {len(ours)} and {len(theirs)}: "
            f"are they of one version? Fetch both again"
        )


def _study_folders(patient: pd.Series, study: pd.Series) -> pd.Series:
    """pXX/pXXXXXXXX/sXXXXXXXX."""
    return "p" + patient.str[:2] + "/p" + patient + "/s" + study


def _reports(layout: MimicCxrLayout, root: Path, study: pd.Series, folder: pd.Series, known: pd.Series) -> pd.Series:
    """The cleaned report of each row: from the sectioned table where there is one, else from the text files.

    `known` are the studies of all images.
    """
    sectioned = next((path for end in ("", ".gz") if is_file(path := root / f"{layout.sectioned}{end}")), None)
    if sectioned:
        wanted = ["study", *layout.sections]
        table = read_table(sectioned, wanted, text=wanted, verbatim=True, broken_lines=True)
        for name in layout.sections:
            if (hidden := table[name].str.contains(_ROW)).any():
                row = table[hidden].iloc[0]
                raise UserError(
                    f"{sectioned}: a quote in the row of {row['study'][:80]!r} hides rows below it: make it anew"
                )
        table["study"] = _digits(table["study"], sectioned)
        table = unique_rows(table, ["study"], sectioned)
        _check_overlap(table["study"], known, sectioned)
        table = table[table["study"].isin(study)].set_index("study")
        first, *others = (table[name] for name in layout.sections)
        return study.map(first.str.cat(others, sep=" ").map(clean_report)).fillna("")

    texts = {}
    for place in folder.unique():
        for top in layout.reports:
            if is_file(path := root / top / f"{place}.txt"):
                with readable(path):
                    sections = extract_sections(path.read_text("utf-8-sig"))
                texts[place] = clean_report(" ".join(sections.get(name, "") for name in layout.sections))
                break
    return folder.map(texts).fillna("")

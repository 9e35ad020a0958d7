"""Open-i, the Indiana University chest X-rays: images that XML reports name, labels from the reports' MeSH terms."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.corpora import OpeniReport, openi_reports
from nbcore.data.layouts import OpeniLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import is_file, list_files, read_table, tidy
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

# CXR1_1_IM-0001-3001 in the reports and the owner's archive is 1_IM-0001-3001.dcm elsewhere
_ID = re.compile(r"(?:CXR)?(\d+)_(?:\d+_)?(IM-.+?)(?:\.dcm)?")


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image that a report names; lateral ones are left out where the table of projections tells which.

    A class is 1 where one of its headings is among the report's, else 0; but nothing is known of it where one of the
    layout's `unlabelled` headings is. A report is a study, and a patient.
    """
    layout = manifest.layout
    for name in set(layout.findings) - set(manifest.classes):
        raise UsageError(f"{manifest.name}: layout.findings: no class {name!r}{nearest(name, list(manifest.classes))}")
    reports = list(openi_reports(root, layout.archive, layout.sections))
    rows = [(image, report) for report in reports for image in report.images]
    if not rows:
        raise UserError(f"none of the {len(reports)} reports under {root} names an image: fetch them again")
    images = pd.Series([image for image, _ in rows], dtype=str)
    if unnamed := [report.name for image, report in rows if not image.strip()]:
        raise UserError(f"report {unnamed[0]}.xml under {root} has a parentImage without an id: fetch it again")

    for image, report in rows:
        if (told := _ID.fullmatch(image)) and report.number not in ("", told[1]):
            raise UserError(
                f"report {report.name}.xml under {root} names the image {image[:80]}, not its own: fetch it again"
            )

    projections = _projections(layout, root)
    frontal = images.map(_key).map(projections).fillna(layout.frontal) == layout.frontal
    if not frontal.any():
        raise UserError(f"{root / layout.projections} calls no image {layout.frontal!r}: fetch it again")
    images = images[frontal].reset_index(drop=True)
    shown = [report for (_, report), kept in zip(rows, frontal) if kept]
    names = [report.name for report in shown]
    return tidy(
        len(images),
        image=_places(layout, root, images),
        patient=names,
        study=names,
        report=[report.text for report in shown],
        language=manifest.language,
        **_classes(layout, manifest.classes, shown),
    )


def _key(name: str) -> str:
    """What the names of an image have in common, whichever copy they are from."""
    found = _ID.fullmatch(name)
    return "_".join(found.groups()) if found else name


def _projections(layout: OpeniLayout, root: Path) -> Mapping[str, str]:
    """Key of an image -> its projection; empty where there is no table of them."""
    path, names = root / layout.projections, layout.columns
    if not is_file(path):
        return {}
    table = read_table(path, [names.image, names.projection], text=[names.image, names.projection])
    known = table[names.projection].isin([layout.frontal, layout.lateral])
    if not known.all():
        row = table[~known].iloc[0]
        raise UserError(
            f"{path}, row {row.name + 2}: {row[names.projection]!r} is no projection; expected "
            f"{layout.frontal} or {layout.lateral}"
        )
    told = pd.Series(table[names.projection].to_numpy(), table[names.image].map(lambda name: _key(_stem(layout, name))))
    told = told[~told.reset_index().duplicated().to_numpy()]
    if (twice := told.index.duplicated()).any():
        raise UserError(f"{path} calls {told.index[twice][0]} both {layout.frontal} and {layout.lateral}: mend it")
    return told.to_dict()


def _places(layout: OpeniLayout, root: Path, images: pd.Series) -> pd.Series:
    """The path of each image wherever it lies under `root`; in the layout's folder where it is absent."""
    files = (file for file in sorted(list_files(root, ".")) if file.endswith(layout.suffixes))
    found: dict[str, str] = {}
    for file in sorted(files, key=lambda file: not file.startswith(f"{layout.images}/")):  # else wherever it lies
        found.setdefault(_key(_stem(layout, file.rpartition("/")[2])), file)
    return images.map(lambda image: found.get(_key(image), f"{layout.images}/{image}{layout.suffixes[0]}"))


def _stem(layout: OpeniLayout, name: str) -> str:
    for suffix in layout.suffixes:
        name = name.removesuffix(suffix)
    return name


def _lower(headings: Iterable[str]) -> frozenset[str]:
    return frozenset(heading.lower() for heading in headings)


def _classes(layout: OpeniLayout, classes: Sequence[str], reports: Sequence[OpeniReport]) -> dict[str, np.ndarray]:
    """{"label:<class>": float32 (n,)}."""
    headings = [_lower(report.headings) for report in reports]
    known = np.array([bool(told) and told.isdisjoint(_lower(layout.unlabelled)) for told in headings])
    columns = {}
    for name in classes:
        meant = _lower(layout.findings.get(name, (name,)))
        positive = np.array([not told.isdisjoint(meant) for told in headings])
        columns[f"label:{name}"] = np.where(positive | known, positive, np.nan).astype(np.float32)
    return columns

"""MRA-MIDAS: biopsied skin lesions, each photographed through a dermatoscope and from several distances."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.layouts_classes import MraMidasLayout
from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, is_file, list_files, read_table, readable, tidy
from nbcore.errors import UserError
from nbcore.files import file_fingerprint


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image of a lesion whose pathology is one of the classes, in one of the layout's views.

    Left out are controls, other distances and other pathologies. A study is the lesions of a patient at one site, as
    the table does not number lesions.
    """
    layout, names = manifest.layout, manifest.layout.columns
    path = _table(layout, root, manifest.name)
    wanted = list(names.model_dump().values())
    table = read_table(path, wanted, text=wanted, broken_lines=True)
    table = table.rename(columns={theirs: ours for ours, theirs in names}).apply(lambda column: column.str.strip())
    owner = {_plain(text): name for name, texts in layout.pathologies.items() for text in texts}
    table["class"] = table["pathology"].map(_plain).map(owner)
    table["patient"] = table["patient"].str.removesuffix(".0")  # 888192.0 is 888192, once a spreadsheet has saved it
    table = table[table["class"].notna() & (table["control"].str.lower() != layout.control.lower())]
    known = {*layout.views, *layout.other_distances}
    if (odd := ~table["distance"].isin(known)).any():
        row = int(odd.idxmax())
        raise UserError(
            f"{path}, row {row + 2}: the {names.distance} {table['distance'][row]!r} is none of "
            f"{', '.join(map(repr, sorted(known)))}: fetch the table again, or name it in the manifest's layout"
        )
    table = table[table["distance"].isin(layout.views)].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{path} names no image of the classes {', '.join(manifest.classes)}: fetch it again")
    if (nobody := (table["patient"] == "") | (table["image"] == "")).any():
        image = table["image"][nobody].iloc[0]
        raise UserError(f"{path}: the image {image!r} has no file name or no {names.patient}: fetch the table again")
    return tidy(
        len(table),
        image=_files(root, layout.folders, table["image"]),
        patient=table["patient"],
        study=table["patient"] + "/" + table["location"],
        view=table["distance"].map(layout.views),
        **{f"label:{name}": (table["class"] == name).astype(np.float32) for name in manifest.classes},
    )


def _table(layout: MraMidasLayout, root: Path, data_set: str) -> Path:
    """The CSV; of a workbook alone, UserError tells what to do with it."""
    if is_file(root / layout.workbook) and not is_file(root / layout.table):
        raise UserError(f"{root / layout.workbook} is a workbook: save its first sheet as {layout.table} (CSV, UTF-8)")
    return find_table(root, [layout.table], data_set)


def _plain(pathology: str) -> str:
    """In small letters, without the blanks that some entries have beside the hyphen."""
    return "-".join(part.strip() for part in pathology.lower().split("-"))


def _files(root: Path, folders: Sequence[str], images: pd.Series) -> pd.Series:
    """The path under `root` of each file name, whatever its case and suffix; its own in the first folder if none.

    UserError where several files might be meant, and differ.
    """
    exact: dict[str, str] = {}
    by_stem: dict[str, dict[str, str]] = {}  # stem -> name in small letters -> file
    for folder in folders:
        for file in sorted(list_files(root, folder)):
            place = PurePosixPath(file)
            if place.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                exact.setdefault(place.name, file)
                by_stem.setdefault(place.stem.lower(), {}).setdefault(place.name.lower(), file)

    def find(name: str) -> str:
        if name in exact:
            return exact[name]
        alike = by_stem.get(PurePosixPath(name).stem.lower(), {})
        found = [alike[name.lower()]] if name.lower() in alike else list(alike.values())
        for other in found[1:]:
            with readable(root / other):
                same = file_fingerprint(root / other) == file_fingerprint(root / found[0])
            if not same:
                raise UserError(
                    f"{name} may be {found[0]} or {other} under {root}, and they differ: remove the wrong one"
                )
        return found[0] if found else f"{folders[0]}/{name}"

    return images.map(find)

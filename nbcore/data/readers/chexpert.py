"""CheXpert v1.0 (also the "-small" edition): frontal images and 14 labels, of which train.csv's are the labeller's."""

from pathlib import Path

import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import first_folder, is_file, label_columns, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a frontal image of either table."""
    layout, names = manifest.layout, manifest.layout.columns
    prefix = first_folder(root, layout.folders, layout.tables, manifest.name)
    folders = [Path(file).stem for file in layout.tables]  # of the images that each table is of
    parts = []
    for file, split in layout.tables.items():
        path = root / prefix / file
        if not is_file(path):
            raise UserError(f"{manifest.name}: {path} is missing; fetch it again")
        text = [names.path, names.projection, names.view]
        table = read_table(path, [*text, *manifest.classes], text=text)
        table = table[table[names.projection].str.strip().str.lower() == layout.frontal.lower()].reset_index(drop=True)
        if table.empty:
            raise UserError(f"{path} names no image with {names.projection} {layout.frontal!r}: fetch it again")
        inside = table[names.path].str.strip().str.partition("/")[2]  # without the data set's own folder
        top = inside.str.partition("/")[0]
        if (wrong := top.isin(folders) & (top != Path(file).stem)).any():
            raise UserError(
                f"{path} names {table.loc[wrong, names.path].iloc[0]!r}, which is not for this table: have the tables "
                f"changed places? Fetch them again"
            )
        study = inside.str.extract(layout.study_pattern, expand=False)
        if (odd := study.isna()).any():
            raise UserError(f"{path}: {table.loc[odd, names.path].iloc[0]!r} is not a path to a patient's study")
        parts.append(
            tidy(
                len(table),
                image=prefix + inside,
                patient=inside.str.extract(layout.patient_pattern, expand=False),
                study=study,
                split=split,
                view=table[names.view].str.strip().str.upper().where(lambda view: view.isin(["PA", "AP"]), ""),
                **label_columns(table, manifest.classes, path),
            )
        )
    return pd.concat(parts, ignore_index=True)

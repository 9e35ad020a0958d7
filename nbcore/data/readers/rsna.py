"""RSNA Pneumonia Detection Challenge (stage 2): one DICOM image a patient, with a box around each opacity."""

from pathlib import Path

import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import find_table, label_columns, number_column, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image: the table's rows of one image are its boxes, or a single one without a box."""
    layout, names = manifest.layout, manifest.layout.columns
    (name,) = manifest.classes
    path = find_table(root, [layout.table], manifest.name)
    table = read_table(path, [names.image, *names.box, names.target], text=[names.image])
    image = table[names.image]
    target = label_columns(table.rename(columns={names.target: name}), [name], path)
    told = pd.DataFrame({"image": image, "label": target[f"label:{name}"]}).drop_duplicates()
    if (twice := told["image"].duplicated()).any():
        raise UserError(
            f"{path}: the rows of {told.loc[twice, 'image'].iloc[0]!r} have different {names.target}: fetch the table "
            f"again"
        )
    label = told.set_index("image")["label"]
    boxes = _boxes(table, names.image, names.box, path)
    if (odd := (label == 1) != label.index.isin(list(boxes))).any():
        raise UserError(
            f"{path}: {names.target} and boxes of {odd.idxmax()!r} contradict each other; fetch the table again"
        )
    return tidy(
        len(label),
        image=[f"{layout.images}/{patient}.dcm" for patient in label.index],
        patient=label.index,
        study=label.index,
        boxes=[boxes.get(patient, []) for patient in label.index],
        **{f"label:{name}": label.to_numpy()},
    )


def _boxes(table: pd.DataFrame, image: str, sides: tuple[str, ...], path: Path) -> dict[str, list[tuple[float, ...]]]:
    """Image -> its boxes, of those that have any."""
    numbers = pd.DataFrame({side: number_column(table, side, path) for side in sides})
    empty = numbers.isna()
    if (partial := empty.any(axis=1) & ~empty.all(axis=1)).any():
        raise UserError(f"{path}: a box of {table.loc[partial, image].iloc[0]!r} lacks a side; fetch the table again")
    boxed = ~empty.any(axis=1)
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for name, *box in zip(table.loc[boxed, image], *(numbers.loc[boxed, side] for side in sides)):
        boxes.setdefault(name, []).append(tuple(box))
    return boxes

"""Images sorted into <split>/<class>/ folders, as Kermany's and other sets of chest radiographs are."""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import first_folder, list_files, tidy
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1.

    Owners number the patients of each official split anew, so a patient is the split and the number; an image whose
    name tells no patient is its own.
    """
    layout = manifest.layout
    for name in layout.class_folders:
        if name not in manifest.classes:
            raise UsageError(
                f"{manifest.name}: layout.class_folders: unknown class {name!r}{nearest(name, list(manifest.classes))}"
            )
    prefix = first_folder(root, layout.folders, layout.splits, manifest.name)
    rows = []
    for folder, split in layout.splits.items():
        place = f"{prefix}{folder}/"
        files = sorted(list_files(root, place[:-1]))
        for name in manifest.classes:
            inside = f"{place}{layout.class_folders.get(name, name)}/".lower()
            for image in files:
                if image.lower().startswith(inside) and image.lower().endswith(layout.suffixes):
                    rows.append((image, split, name))
    if not rows:
        raise UserError(f"{manifest.name}: no {' or '.join(layout.suffixes)} images under {root / prefix}")
    table = pd.DataFrame(rows, columns=["image", "split", "class"])
    for name in manifest.classes:
        if not (table["class"] == name).any():
            raise UserError(f"{manifest.name}: no images of {name} under {root / prefix}: fetch the data set again")
    stem = table["image"].map(lambda image: PurePosixPath(image).stem)
    number = stem.str.extract(layout.patient_pattern, expand=False).fillna(stem)
    return tidy(
        len(table),
        image=table["image"],
        patient=table["split"] + "/" + number,
        study=stem,
        split=table["split"],
        **{f"label:{name}": (table["class"] == name).astype(np.float32) for name in manifest.classes},
    )

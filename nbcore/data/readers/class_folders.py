"""Images sorted into <split>/<class>/ folders, as Kermany's paediatric chest radiographs are."""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.tables import first_folder, list_files, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1.

    The owner numbers the patients of each official split anew, so a patient is the split and the number.
    """
    layout = manifest.layout
    prefix = first_folder(root, layout.folders, layout.splits, manifest.name)
    rows = []
    for folder, split in layout.splits.items():
        for name in manifest.classes:
            for image in sorted(list_files(root, f"{prefix}{folder}/{name}")):
                if image.lower().endswith(layout.suffixes):
                    rows.append((image, split, name))
    if not rows:
        raise UserError(f"{manifest.name}: no {' or '.join(layout.suffixes)} images under {root / prefix}")
    table = pd.DataFrame(rows, columns=["image", "split", "class"])
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

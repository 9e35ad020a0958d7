"""The twin of CheXlocalize: CheXpert's test images and labels, and ten outlines of each image in COCO's run lengths."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins.cast import Cast, save_pictures

_OUTLINED = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Support Devices",
)


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """test/patientNNNNN/study1/viewN_{frontal,lateral}.jpg; a lateral image comes first or last."""
    layout = manifest.layout
    home, lateral = folder / layout.folders[0], cast.lateral(manifest.twin.lateral)
    labels = world.label_matrix(cast.studies, manifest.classes)
    rows, places = [], []
    for number, members in enumerate(cast.patients().values(), start=64741):
        for visit, i in enumerate(members, start=1):
            pictures = [cast.studies[i], *filter(None, [lateral.get(i)])]
            if cast.random.random() < 0.5:
                pictures.reverse()
            for view, picture in enumerate(pictures, start=1):
                projection = "lateral" if picture.view == "lateral" else "frontal"
                place = f"test/patient{number}/study{visit}/view{view}_{projection}.jpg"
                places.append((home / place, picture))
                rows.append({layout.path: place} | dict(zip(manifest.classes, labels[i])))
    outlines = save_pictures(places, cast.size, _outlines)
    pd.DataFrame(rows).to_csv(home / layout.table, index=False)
    images = [row[layout.path].removeprefix("test/").removesuffix(".jpg").replace("/", "_") for row in rows]
    path = folder / layout.outlines[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(zip(images, outlines))), encoding="utf-8")


def _outlines(drawn: chest.ChestImages, row: int) -> dict[str, dict]:
    """Class -> its region in COCO's compressed run lengths."""
    coded = {}
    for name in _OUTLINED:
        mask = np.any([drawn.masks[finding][row] for finding in world.CLASSES[name]], axis=0)
        runs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        coded[name] = {"size": runs["size"], "counts": runs["counts"].decode()}
    return coded

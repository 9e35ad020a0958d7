"""The twin of NIH ChestX-ray14: PNGs in several folders, one table and a list of boxes with their odd headings."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins.cast import Box, Cast, recorded, save_pictures

_FOLDERS = 3  # the original has twelve
_BOXED = 0.3  # share of the test images whose findings were outlined
_HEADING = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADING = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_OUTLINED = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "effusion",
    "Infiltrate": "infiltration",  # the list of boxes has its own word for it
    "Mass": "mass",
    "Nodule": "nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
}


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """PPPPPPPP_FFF.png, patient and follow-up, in images_00N/images/."""
    layout = manifest.layout
    truth = world.label_matrix(cast.studies, manifest.classes)
    labels = recorded(truth, manifest.twin.label_noise, cast.random) == 1
    order = [(number, visit, i) for number, members in enumerate(cast.patients().values(), start=1)
             for visit, i in enumerate(members)]  # fmt: skip
    per_folder = -(-len(order) // _FOLDERS)
    lines, places, lists = [_HEADING], [], {layout.train_list: [], layout.test_list: []}
    for row, (number, visit, i) in enumerate(order):
        study, name = cast.studies[i], f"{number:08d}_{visit:03d}.png"
        found = "|".join(np.array(manifest.classes)[labels[i]]) or "No Finding"
        lines.append(f"{name},{found},{visit},{number},{study.age},{study.sex},{study.view},"
                     f"{cast.size},{cast.size},0.143,0.143")  # fmt: skip
        places.append((folder / f"images_{row // per_folder + 1:03d}" / "images" / name, study))
        lists[layout.test_list if cast.split[i] == "test" else layout.train_list].append(name)
    tested = [row for row, (_, _, i) in enumerate(order) if cast.split[i] == "test"]
    outlined = [row for row in tested if cast.random.random() < _BOXED]
    seen = save_pictures(places, cast.size, chest.ChestImages.boxes)

    (folder / layout.tables[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_boxes(folder / layout.boxes, {places[row][0].name: seen[row] for row in outlined})
    for file, names in lists.items():
        (folder / file).write_text("\n".join(names) + "\n", encoding="utf-8")


def _write_boxes(path: Path, boxes: dict[str, dict[str, list[Box]]]) -> None:
    lines = [_BOX_HEADING]
    for name, found in boxes.items():
        for label, finding in _OUTLINED.items():
            lines += [f"{name},{label},{x},{y},{w},{h},,," for x, y, w, h in found.get(finding, ())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

"""The twin of DMID: TIFFs of mammograms, a list of abnormalities in the style of MIAS, and masks of the lesions."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import breast, mammography
from nbcore.data.phantom.breast import BreastStudy
from nbcore.data.phantom.twins.cast import Cast, Pictures, misread, save_pictures
from nbcore.errors import UsageError

_TISSUE = {"a": "F", "b": "G", "c": "G", "d": "D"}  # fatty, fatty-glandular, dense-glandular


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """IMGNNN.tif in random order; a circle around each lesion, and its mask, as far as it was recognised."""
    layout = manifest.layout
    if {*manifest.classes} != {*breast.CLASSES}:
        raise UsageError(f"{manifest.name}: the phantom writes the classes {', '.join(breast.CLASSES)} only")
    labels = misread(np.array([study.label for study in cast.studies]), manifest.twin.label_noise, cast.random)
    letter = {name: letter for letter, name in layout.classes.items()}
    order = cast.random.permutation(len(cast.studies)).tolist()
    name = {i: f"IMG{number:03d}" for number, i in enumerate(order, start=1)}
    images, regions = (folder / home / home for home in (layout.images, layout.masks))  # as the owner packs them
    places = [(images / f"{name[i]}{layout.suffix}", cast.studies[i]) for i in order]
    save_pictures(places, cast.size, render=lambda part, size: Pictures(mammography.render(part, size)))
    read = {i: letter[breast.CLASSES[labels[i]]] for i in order}
    seen = [i for i in order if cast.studies[i].lesion is not None and read[i] != layout.normal_class]
    masks = [(regions / f"{name[i]}{layout.suffix}", cast.studies[i]) for i in seen]
    circles = save_pictures(
        masks,
        cast.size,
        lambda drawn, row: _circle(drawn.images[row]),
        render=lambda part, size: Pictures(np.uint8(255) * mammography.outline(part, size)),
    )
    around = dict(zip(seen, circles))
    lines = []
    for i in order:
        study = cast.studies[i]
        normal = read[i] == layout.normal_class
        words = [layout.normal] if normal else [_abnormality(study), read[i], around.get(i, "")]
        lines.append("\t".join([name[i], _TISSUE[study.composition], *words]).strip())
    (folder / layout.tables[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _abnormality(study: BreastStudy) -> str:
    """The owner's word for what is most striking."""
    lesion = study.lesion
    if lesion is None or not max(lesion.spiculation, lesion.coarse, lesion.micro, lesion.sharpness) > 0.5:
        return "MISC"
    if lesion.spiculation > 0.5:
        return "SPIC"
    return "CALC" if max(lesion.coarse, lesion.micro) > 0.5 else "CIRC"


def _circle(mask: np.ndarray) -> str:
    """x, y and radius of the smallest upright square's circle around a mask, in pixels from the upper left corner."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return ""
    ends = [(int(places.min()), int(places.max()) + 1) for places in (columns, rows)]
    x, y = ((low + high) // 2 for low, high in ends)
    return f"{x}\t{y}\t{max(high - low for low, high in ends) // 2 + 1}"

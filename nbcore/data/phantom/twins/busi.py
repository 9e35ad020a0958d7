"""The twin of BUSI: PNGs in a folder a class, numbered in each, with a mask of the lesion beside every one."""

from itertools import count
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import breast, ultrasound
from nbcore.data.phantom.twins.cast import Cast, Pictures, misread, save_pictures
from nbcore.errors import UsageError


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """ "<class> (N).png" in random order and "<class> (N)_mask.png", black where there is no lesion."""
    layout = manifest.layout
    if {*manifest.classes} != {*breast.CLASSES}:
        raise UsageError(f"{manifest.name}: the phantom writes the classes {', '.join(breast.CLASSES)} only")
    labels = misread(np.array([study.label for study in cast.studies]), manifest.twin.label_noise, cast.random)
    number = {name: count(1) for name in breast.CLASSES}
    images, masks = [], []
    for i in cast.random.permutation(len(cast.studies)).tolist():
        name = breast.CLASSES[labels[i]]
        place = folder / layout.folders[0] / layout.classes[name][0] / f"{name} ({next(number[name])})"
        images.append((place.with_name(f"{place.name}{layout.suffix}"), cast.studies[i]))
        masks.append((place.with_name(f"{place.name}_mask{layout.suffix}"), cast.studies[i]))
    save_pictures(images, cast.size, render=lambda part, size: Pictures(ultrasound.render(part, size)))
    save_pictures(masks, cast.size, render=lambda part, size: Pictures(np.uint8(255) * ultrasound.outline(part, size)))

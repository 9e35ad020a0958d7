"""What the twins of paired skin data sets share: both pictures of a lesion, and its diagnosis as somebody told it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nbcore.data.phantom import skin, skin_clinical
from nbcore.data.phantom.twins.cast import Cast, Pictures, Study, misread, save_pictures

_RENDER = {"dermoscopy": skin.render, "clinical": skin_clinical.render}


def told(cast: Cast, noise: float) -> list[str]:
    """The class of the world that was written down for each study; a lesion has one, whatever shows it."""
    lesions = {(study.patient, study.lesion): study.label for study in cast.studies}
    labels = dict(zip(lesions, misread(np.array([*lesions.values()]), noise, cast.random)))
    return [skin.CLASSES[labels[study.patient, study.lesion]] for study in cast.studies]


def save_views(places: Mapping[str, Sequence[tuple[Path, Study]]], size: int) -> None:
    """Draw the pictures of each view into their files."""
    for view, files in places.items():
        save_pictures(files, size, render=lambda studies, side, view=view: Pictures(_RENDER[view](studies, side)))

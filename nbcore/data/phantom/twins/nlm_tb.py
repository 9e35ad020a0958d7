"""The twins of the NLM's tuberculosis sets: PNGs of unequal sides, whose names end with the label, and readings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins.cast import Cast, Pictures, recorded, save_pictures
from nbcore.errors import UsageError

_TRIM = 0.1  # of the side, at most, that a detector of another format leaves out
_FORMAT = 1  # sets the format's random numbers apart from those of the picture


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """<prefix>_NNNN_{0,1}.png and .txt; the reading of a patient's later studies names the first one's image."""
    layout = manifest.layout
    if manifest.classes != ("NORMAL", "TB") or layout.prefix not in ("CHNCXR", "MCUCXR"):
        raise UsageError(f"{manifest.name}: the phantom writes NORMAL and TB for CHNCXR and MCUCXR only")
    sick = recorded(world.labels(cast.studies)["tuberculosis"], manifest.twin.label_noise, cast.random) == 1
    by_patient = list(cast.patients().values())
    numbers = (cast.random.permutation(len(cast.studies)) + 1).tolist()
    name = [f"{layout.prefix}_{number:04d}_{int(ill)}" for number, ill in zip(numbers, sick)]
    (folder / layout.readings).mkdir(parents=True)
    for first, *later in by_patient:
        for i in (first, *later):
            reading = f"{_person(layout.prefix, cast.studies[i])}\n{_finding(cast.studies[i], sick[i])}"
            reading += f" (same pt as {name[first]})" if i != first else ""
            (folder / layout.readings / f"{name[i]}.txt").write_text(reading + "\n", encoding="utf-8")
    places = [(folder / layout.images / f"{name[i]}.png", study) for i, study in enumerate(cast.studies)]
    save_pictures(places, cast.size, render=trimmed)


def trimmed(studies: Sequence[world.ChestStudy], size: int) -> Pictures:
    """The radiographs, uint8 (H, W) with sides of 0.9 to 1 times `size`, as the study's seed has it."""
    pictures = []
    for study, picture in zip(studies, chest.render(studies, size).images):
        cut = np.random.default_rng((study.seed, _FORMAT)).integers(0, round(_TRIM * size) + 1, 2)
        top, left = cut // 2
        pictures.append(picture[top : top + size - cut[0], left : left + size - cut[1]])
    return Pictures(pictures)


def _person(prefix: str, study: world.ChestStudy) -> str:
    """Sex and age, as each of the two sets has them."""
    if prefix == "CHNCXR":
        return f"{ {'F': 'female', 'M': 'male'}[study.sex] } {study.age}yrs"
    return f"Patient's Sex: {study.sex}\nPatient's Age: {study.age:03d}Y"


def _finding(study: world.ChestStudy, ill: bool) -> str:
    if not ill:
        return "normal"
    found = study.find("tuberculosis")
    return f"{found.side} {found.zone} PTB" if found else "PTB"

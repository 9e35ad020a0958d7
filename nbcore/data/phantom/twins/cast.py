"""What all twins share: the studies drawn, what is recorded of them, who is in which split, and the files of pictures.

Shapes: n studies, C classes.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import chest, world
from nbcore.data.splits import patient_split

_CHUNK = 50  # pictures a worker draws at a time
_WORKERS = 2
_JPEG_QUALITY = 92
Boxes = dict[str, list[tuple[int, int, int, int]]]


@dataclass(frozen=True)
class Cast:
    """The frontal studies of a twin, one picture each, and a generator for everything the world does not fix."""

    studies: list[world.ChestStudy]
    split: np.ndarray  # (n,) "train", "valid" or "test", by patient
    size: int
    random: np.random.Generator

    def patients(self) -> dict[int, list[int]]:
        """Patient -> positions of the studies, in random order of the patients."""
        members: dict[int, list[int]] = {}
        for i, study in enumerate(self.studies):
            members.setdefault(study.patient, []).append(i)
        order = list(members)
        self.random.shuffle(order)
        return {patient: members[patient] for patient in order}

    def lateral(self, share: float) -> dict[int, world.ChestStudy]:
        """Position -> the lateral picture of the same study, for a random share of the studies."""
        chosen = np.flatnonzero(self.random.random(len(self.studies)) < share).tolist()
        return {i: replace(self.studies[i], view="lateral") for i in chosen}


def draw_cast(manifest: Manifest, images: int, size: int, seed: int) -> Cast:
    """The studies a manifest's recipe asks for."""
    recipe = manifest.twin
    prevalence = recipe.prevalence if recipe.other_findings else world.only(**recipe.prevalence)
    studies = world.sample_studies(
        seed, range(images), recipe.hospital, prevalence, views=("PA", "AP"), age_range=recipe.age_range
    )
    patients = np.array([study.patient for study in studies])
    split = patient_split(patients, {"valid": recipe.valid, "test": recipe.test}, seed)
    return Cast(studies, split, size, np.random.default_rng((seed, images, size)))


def recorded(truth: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Labels as somebody wrote them down: (n, C) or (n,) of 0 and 1.

    A share `noise` of the positives of a class is missed, and as many negatives are called positive, so that the
    prevalence stays what it is.
    """
    positives = truth.mean(axis=0)
    flip = np.where(truth == 1, noise, np.minimum(0.5, noise * positives / np.maximum(1 - positives, 1e-9)))
    return np.where(random.random(truth.shape) < flip, 1 - truth, truth).astype(np.float32)


def label_table(manifest: Manifest, cast: Cast, mentioned: float) -> np.ndarray:
    """float32 (n, C) as a report labeller leaves it: 1, 0, -1 (uncertain), NaN (not mentioned).

    Only a share `mentioned` of the negatives is spoken of; "No Finding" is 1 or nothing, and never beside a disease.
    """
    truth = world.label_matrix(cast.studies, manifest.classes)
    labels = recorded(truth, manifest.twin.label_noise, cast.random)
    healthy = [i for i, name in enumerate(manifest.classes) if name in world.ABSENCE]
    disease = [i for i, name in enumerate(manifest.classes) if name not in {*world.ABSENCE, "Support Devices"}]
    labels[:, healthy] *= (labels[:, disease].max(axis=1, keepdims=True) == 0)  # fmt: skip
    positive = labels == 1
    silent = ~positive & (cast.random.random(labels.shape) >= mentioned)
    unsure = cast.random.random(labels.shape) < manifest.twin.uncertain
    unsure[:, healthy] = False
    silent[:, healthy] = ~positive[:, healthy]
    return np.where(silent, np.nan, np.where(unsure, -1, labels)).astype(np.float32)


def numbers(random: np.random.Generator, count: int, low: int, high: int) -> list[int]:
    """Distinct random numbers in [low, high)."""
    return random.choice(high - low, count, replace=False).__add__(low).tolist()


def save_pictures(
    places: Sequence[tuple[Path, world.ChestStudy]], size: int, boxed: Iterable[int] = ()
) -> dict[int, Boxes]:
    """Draw each study into its file (JPEG or PNG by the suffix); returns the boxes at the positions `boxed`."""
    for folder in {path.parent for path, _ in places}:
        folder.mkdir(parents=True, exist_ok=True)
    wanted = set(boxed)

    def save(start: int) -> dict[int, Boxes]:
        part = places[start : start + _CHUNK]
        drawn = chest.render([study for _, study in part], size)
        for (path, _), pixels in zip(part, drawn.images):
            options = {"compress_level": 1} if path.suffix == ".png" else {"quality": _JPEG_QUALITY}
            Image.fromarray(pixels).save(path, **options)
        return {start + i: drawn.boxes(i) for i in range(len(part)) if start + i in wanted}

    boxes: dict[int, Boxes] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for found in pool.map(save, range(0, len(places), _CHUNK)):
            boxes |= found
    return boxes

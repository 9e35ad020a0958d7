"""What all twins share: the studies drawn, what is recorded of them, who is in which split, and the files of pictures.

Shapes: n studies, C classes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from nbcore.data.manifest import Manifest, TwinRecipe
from nbcore.data.phantom import breast, chest, ct, fundus, skin, world
from nbcore.data.phantom.twins.dicom import write_dicom
from nbcore.data.splits import patient_split

_CHUNK = 50  # pictures a worker draws at a time
_WORKERS = 2
_JPEG_QUALITY = 92
_OPTIONS = {".png": {"compress_level": 1}, ".tif": {"compression": "tiff_lzw"}}
Box = tuple[int, int, int, int]  # x, y, width, height
_T = TypeVar("_T")
_CLASS_WORLDS = {
    "fundus": fundus,
    "skin": skin,
    "breast": breast,
    "ct": ct,
}  # those whose studies have one class each, not findings


class Study(Protocol):
    """What every world's studies have."""

    patient: int
    seed: int  # of noise and texture


@dataclass(frozen=True)
class Pictures:
    """Drawn studies: uint8 (H, W) or (H, W, 3) each."""

    images: Sequence[np.ndarray]


@dataclass(frozen=True)
class Cast:
    """The studies of a twin, one picture each (of chests a frontal one), and a generator for what no world fixes."""

    studies: list[Study]
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
        """Position -> the lateral picture of the same chest study, for a random share of the studies."""
        chosen = np.flatnonzero(self.random.random(len(self.studies)) < share).tolist()
        return {i: replace(self.studies[i], view="lateral") for i in chosen}


def draw_cast(manifest: Manifest, images: int, size: int, seed: int) -> Cast:
    """The studies a manifest's recipe asks for: as many as images or, of a data set of several views, as cases."""
    recipe, images = manifest.twin, images // max(1, len(manifest.views))
    studies = _one_each(recipe, images, seed) if recipe.one_study else _sample(recipe, range(images), seed)
    patients = np.array([study.patient for study in studies])
    split = patient_split(patients, {"valid": recipe.valid, "test": recipe.test}, seed)
    return Cast(studies, split, size, np.random.default_rng((seed, images, size)))


def _sample(recipe: TwinRecipe, indices: range, seed: int) -> list[Study]:
    """The studies with these indices, of the recipe's world."""
    if recipe.world in _CLASS_WORLDS:
        return _CLASS_WORLDS[recipe.world].sample_studies(seed, indices, recipe.hospital, recipe.prevalence)
    prevalence = recipe.prevalence if recipe.other_findings else world.only(**recipe.prevalence)
    return world.sample_studies(
        seed, indices, recipe.hospital, prevalence, views=("PA", "AP"), age_range=recipe.age_range
    )


def _one_each(recipe: TwinRecipe, images: int, seed: int) -> list[Study]:
    """The first study of each of so many patients."""
    first: dict[int, Study] = {}
    for start in count(0, images):
        for study in _sample(recipe, range(start, start + images), seed):
            first.setdefault(study.patient, study)
        if len(first) >= images:
            return list(first.values())[:images]


def recorded(truth: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Labels as somebody wrote them down: (n, C) or (n,) of 0 and 1.

    A share `noise` of the positives of a class is missed, and as many negatives are called positive, so that the
    prevalence stays what it is.
    """
    positives = truth.mean(axis=0)
    flip = np.where(truth == 1, noise, np.minimum(0.5, noise * positives / np.maximum(1 - positives, 1e-9)))
    return np.where(random.random(truth.shape) < flip, 1 - truth, truth).astype(np.float32)


def misread(labels: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Labels int (n,) of classes that exclude each other, as somebody wrote them down.

    A random share `noise` of the images exchange theirs, so that every class keeps its size.
    """
    chosen = np.flatnonzero(random.random(len(labels)) < noise)
    written = labels.copy()
    written[chosen] = labels[random.permutation(chosen)]
    return written


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
    places: Sequence[tuple[Path, Study]],
    size: int,
    observe: Callable[[chest.ChestImages, int], _T] = lambda drawn, row: None,
    *,
    render: Callable[[Sequence[Study], int], chest.ChestImages | Pictures] = chest.render,
    deep: bool = False,
) -> list[_T]:
    """Draw each study into its file, of a type by its suffix; returns what `observe` sees in each picture.

    `render` draws studies of the twin's world at that size. A `deep` PNG has 12 bits in words of 16.
    """
    for folder in {path.parent for path, _ in places}:
        folder.mkdir(parents=True, exist_ok=True)

    def save(start: int) -> list[_T]:
        part = places[start : start + _CHUNK]
        drawn = render([study for _, study in part], size)
        for (path, study), pixels in zip(part, drawn.images):
            if path.suffix == ".dcm":
                write_dicom(path, pixels, study)
            else:
                options = _OPTIONS.get(path.suffix, {"quality": _JPEG_QUALITY})
                Image.fromarray(pixels.astype(np.uint16) << 4 if deep else pixels).save(path, **options)
        return [observe(drawn, row) for row in range(len(part))]

    with ThreadPoolExecutor(_WORKERS) as pool:
        return [seen for part in pool.map(save, range(0, len(places), _CHUNK)) for seen in part]


def in_colour(world_name: str) -> Callable[[Sequence[Study], int], Pictures]:
    """What draws the studies of a colour world for `save_pictures`."""
    return lambda studies, size: Pictures(_CLASS_WORLDS[world_name].render(studies, size))


def outlines(mask: np.ndarray, least: int) -> list[Box]:
    """The box of each region of at least `least` pixels of a mask (S, S); pieces a pixel apart are one region."""
    touching = np.ones((3, 3), bool)
    regions, count = ndimage.label(ndimage.binary_dilation(mask, touching), touching)
    boxes = []
    for region in range(1, count + 1):
        rows, columns = np.nonzero(mask & (regions == region))
        if len(rows) >= least:
            left, top = int(columns.min()), int(rows.min())
            boxes.append((left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top))
    return boxes

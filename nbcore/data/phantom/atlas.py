"""An atlas: pictures of several kinds under short captions, for the stand-ins of general vision-language models.

Published models have seen other hospitals than the data sets they are tried on. So has the atlas: it is drawn with a
seed of its own, and from both hospitals. n pairs, S pixels a side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from nbcore.data.phantom import (
    breast,
    chest,
    chest_captions,
    ct,
    fundus,
    mammography,
    skin,
    skin_clinical,
    ultrasound,
    world,
)
from nbcore.errors import UsageError

HOSPITALS = tuple(world.HOSPITALS)


@dataclass(frozen=True)
class Atlas:
    """Pictures with captions.

    Attributes:
        images: uint8 (n, S, S, 3).
        captions: n.
        labels: of what is to be seen, int64 (n,), numbered through all kinds: the class of its world; of a
            chest tuberculosis, pneumonia, another finding, none.
        kinds: int64 (n,), numbered in the order asked for.
    """

    images: np.ndarray
    captions: list[str]
    labels: np.ndarray
    kinds: np.ndarray


def draw_atlas(pairs: Mapping[str, int], size: int, seed: int) -> Atlas:
    """Draw so many pictures of each kind and caption them.

    The kinds are "chest", "fundus", "skin", "clinical", "mammography", "ultrasound" and "ct".

    Raises UsageError for a kind the phantom cannot draw.
    """
    images, captions, labels = [], [], []
    for kind, count in pairs.items():
        if kind not in _KINDS:
            raise UsageError(f"the phantom has no pictures of kind {kind!r}: choose among {', '.join(_KINDS)}")
        sample, render, caption, label = _KINDS[kind]
        half = -(-count // len(HOSPITALS))
        studies = [study for hospital in HOSPITALS for study in sample(seed, half, hospital)][:count]
        generator = np.random.default_rng((seed, crc32(kind.encode())))
        images.append(render(studies, size))
        captions += [caption(study, generator) for study in studies]
        labels += [(kind, label(study)) for study in studies]
    known = sorted(set(labels))
    return Atlas(
        np.concatenate(images),
        captions,
        np.array([known.index(label) for label in labels]),
        np.repeat(np.arange(len(pairs)), list(pairs.values())),
    )


def _chest(seed: int, count: int, hospital: str) -> list[world.ChestStudy]:
    """Adults and children; tuberculosis and pneumonia are what teaching files are full of."""
    adults = count - count // 3
    often = world.only(
        tuberculosis=0.35, pneumonia=0.15, effusion=0.1, cardiomegaly=0.1, nodule=0.08, pneumothorax=0.06,
        consolidation=0.06, atelectasis=0.05, support_devices=0.1, covid=0.05,
    )  # fmt: skip
    childhood = world.only(pneumonia=0.5, support_devices=0.1)
    views = ("PA", "AP")
    return [
        *world.sample_studies(seed, range(adults), hospital, often, views=views),
        *world.sample_studies(seed, range(adults, count), hospital, childhood, views=views, age_range=(1, 6)),
    ]


def _render_chest(studies: Sequence[world.ChestStudy], size: int) -> np.ndarray:
    return np.repeat(chest.render(studies, size).images[..., None], 3, axis=-1)


def _chest_label(study: world.ChestStudy) -> int:
    shown = {finding.name for finding in study.findings}
    return next((i for i, name in enumerate(("tuberculosis", "pneumonia")) if name in shown), 2 + bool(shown))


def _label(study: Any) -> int:
    return study.label


def _balanced(module: Any) -> Callable[[int, int, str], list[Any]]:
    """All classes of a world alike."""
    shares = {name: 1 / len(module.CLASSES) for name in module.CLASSES}
    return lambda seed, count, hospital: module.sample_studies(seed, range(count), hospital, shares)


def _grey(render: Callable[[Sequence[Any], int], np.ndarray]) -> Callable[[Sequence[Any], int], np.ndarray]:
    """What draws without colour, in three equal channels."""
    return lambda studies, size: np.repeat(render(studies, size)[..., None], 3, axis=-1)


_KINDS: dict[str, tuple[Callable, Callable, Callable, Callable]] = {
    "chest": (_chest, _render_chest, chest_captions.caption, _chest_label),
    "fundus": (_balanced(fundus), fundus.render, fundus.caption, _label),
    "skin": (_balanced(skin), skin.render, skin.caption, _label),
    "clinical": (_balanced(skin), skin_clinical.render, skin_clinical.caption, _label),
    "mammography": (_balanced(breast), _grey(mammography.render), mammography.caption, _label),
    "ultrasound": (_balanced(breast), _grey(ultrasound.render), ultrasound.caption, _label),
    "ct": (_balanced(ct), _grey(ct.render), ct.caption, _label),
}

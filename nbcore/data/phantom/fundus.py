"""The phantom fundus world: eyes of patients with diabetes, their grade of retinopathy, and what is to be seen in them.

This file holds latent state only: `render` draws a study and `caption` describes it, from the same `FundusStudy`.
A study depends on (seed, hospital, index) and the shares asked for alone, whichever other indices are asked for.

Lengths are in half sides of the picture; x grows to the viewer's right, y downwards. Grades are those of the
International Clinical Diabetic Retinopathy scale. Both eyes of a patient share a latent normal (a Gaussian copula),
so their grades are correlated while every class keeps its exact share.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from nbcore.data.phantom.fundus_captions import caption
from nbcore.data.phantom.fundus_drawing import render
from nbcore.data.phantom.sampling import between
from nbcore.errors import UsageError
from nbcore.validation import nearest

__all__ = ["CLASSES", "HOSPITALS", "FundusStudy", "caption", "render", "sample_studies"]

CLASSES = ("normal", "mild", "moderate", "severe", "proliferative")
_SHARES = dict(zip(CLASSES, (134, 20, 136, 74, 49)))  # IDRiD's training set
_EYES_PER_PATIENT = (1, 2, 2)  # each block of five consecutive indices holds one patient of each kind
_ALIKE = 0.85  # correlation of the latent normals of a patient's two eyes
_EDGE = 0.06  # lesions keep this far from the border of the field


class Eye(NamedTuple):
    """What both eyes of a patient have in common."""

    pigment: float  # melanin, 0 light .. 1 dark
    disc: float  # radius of the optic disc
    disc_height: float  # its height over its width
    cup: float  # radius of the cup over that of the disc
    distance: float  # from the fovea to the centre of the disc
    drop: float  # how much lower than the disc's centre the fovea lies
    macula: float  # darkness of the macular pigment
    vessels: float  # factor on the width of vessels
    arteries: float  # width of an artery over that of its vein
    tortuosity: float
    arcade: float  # how far the temporal arcades open
    tessellation: float  # visibility of the choroidal vessels (none where negative)


_EYE = Eye(
    pigment=(0.0, 1.0), disc=(0.105, 0.14), disc_height=(1.0, 1.16), cup=(0.25, 0.62), distance=(0.56, 0.68),
    drop=(0.01, 0.08), macula=(0.5, 1.1), vessels=(0.85, 1.2), arteries=(0.66, 0.84), tortuosity=(0.3, 1.1),
    arcade=(0.8, 1.2), tessellation=(-0.9, 0.8),
)  # fmt: skip


class Camera(NamedTuple):
    """What changes from picture to picture."""

    radius: float  # of the field
    cut: float  # half height at which the field is cut (not at all where beyond the radius)
    centre: float  # x of the field's centre
    gaze_x: float  # of the fovea, from the field's centre away from the disc
    gaze_y: float
    tilt: float  # radians
    exposure: float
    gamma: float
    red: float  # gain
    blue: float
    vignette: float
    uneven: float  # gradient of the illumination
    direction: float  # of that gradient, radians
    haze: float  # cloudy media: a veil over the picture (none where negative)
    blur: float  # standard deviation (none where negative)
    noise: float


_CAMERA = Camera(
    radius=(0.93, 0.99), cut=(0.78, 1.7), centre=(-0.02, 0.02), gaze_x=(0.06, 0.36), gaze_y=(-0.10, 0.12),
    tilt=(-0.14, 0.14), exposure=(0.62, 1.16), gamma=(0.80, 1.20), red=(0.92, 1.10), blue=(0.75, 1.25),
    vignette=(0.10, 0.50), uneven=(0.0, 0.30), direction=(0.0, 2 * math.pi), haze=(-0.45, 0.30), blur=(-0.006, 0.012),
    noise=(0.004, 0.014),
)  # fmt: skip


class Hospital(NamedTuple):
    """Where a picture was taken: the (low, high) of each field of its camera."""

    camera: Camera
    code: int


HOSPITALS = {
    "north": Hospital(_CAMERA, 0),
    "south": Hospital(
        _CAMERA._replace(
            radius=(0.97, 1.06), cut=(0.70, 0.95), centre=(-0.05, 0.05), exposure=(0.52, 1.02), gamma=(0.90, 1.35),
            red=(0.98, 1.20), blue=(0.50, 0.95), vignette=(0.25, 0.65), blur=(-0.004, 0.015), noise=(0.006, 0.018),
        ),
        1,
    ),
}  # fmt: skip


class Lesion(NamedTuple):
    """One thing to be seen, or a cluster of its kind."""

    kind: str
    x: float
    y: float
    size: float  # radius
    contrast: float  # 0..1
    angle: float  # radians


class _Habits(NamedTuple):
    """How large a kind of lesion is and where it lies: its distance from the fovea, the disc or the field's centre."""

    size: tuple[float, float]
    about: str
    distance: tuple[float, float]


_HABITS = {
    "microaneurysm": _Habits((0.014, 0.021), "field", (0.10, 0.80)),
    "haemorrhage": _Habits((0.020, 0.044), "field", (0.15, 0.88)),  # dot and blot
    "flame": _Habits((0.05, 0.10), "disc", (0.20, 0.70)),  # flame-shaped haemorrhage
    "exudates": _Habits((0.05, 0.16), "fovea", (0.04, 0.42)),  # a cluster
    "cotton_wool": _Habits((0.028, 0.055), "disc", (0.25, 0.62)),
    "beading": _Habits((0.0, 0.0), "disc", (0.0, 0.0)),  # of every vein
    "irma": _Habits((0.05, 0.10), "fovea", (0.35, 0.65)),  # intraretinal microvascular abnormality
    "disc_vessels": _Habits((0.18, 0.30), "disc", (0.0, 0.0)),  # neovascularisation of the disc
    "new_vessels": _Habits((0.12, 0.20), "fovea", (0.45, 0.80)),  # neovascularisation elsewhere
    "preretinal": _Habits((0.12, 0.28), "fovea", (0.25, 0.60)),
    "vitreous": _Habits((0.35, 0.70), "field", (0.20, 0.60)),
    "fibrous": _Habits((0.20, 0.42), "disc", (0.05, 0.40)),
    "laser": _Habits((0.016, 0.026), "fovea", (0.50, 1.30)),
    "drusen": _Habits((0.06, 0.18), "fovea", (0.02, 0.30)),  # a cluster
    "crescent": _Habits((0.03, 0.09), "disc", (0.0, 0.0)),  # myopic, temporal to the disc
    "naevus": _Habits((0.05, 0.10), "field", (0.25, 0.70)),
    "asteroid": _Habits((0.25, 0.50), "field", (0.0, 0.35)),  # a cluster of floating specks
    "dust": _Habits((0.010, 0.026), "field", (0.10, 0.85)),
    "reflection": _Habits((0.10, 0.30), "field", (0.55, 0.85)),
}
_CONFOUNDERS = {  # probability and (least, most), whatever the grade
    "drusen": (0.16, 1, 3), "crescent": (0.14, 1, 1), "naevus": (0.06, 1, 1), "asteroid": (0.03, 1, 1),
    "dust": (0.30, 1, 3), "reflection": (0.18, 1, 2),
}  # fmt: skip
_SIGNS: tuple[dict[str, tuple[float, int, int]], ...] = (  # the same by grade
    {},
    {"microaneurysm": (1.0, 6, 16)},
    {
        "microaneurysm": (1.0, 6, 20), "haemorrhage": (1.0, 3, 14), "flame": (0.25, 1, 2), "exudates": (0.75, 1, 3),
        "cotton_wool": (0.25, 1, 2),
    },
    {
        "microaneurysm": (1.0, 12, 28), "haemorrhage": (1.0, 24, 46), "flame": (0.8, 2, 7), "exudates": (0.7, 1, 4),
        "cotton_wool": (0.75, 1, 5), "beading": (0.7, 1, 1), "irma": (0.7, 1, 4),
    },
    {
        "microaneurysm": (1.0, 4, 20), "haemorrhage": (1.0, 5, 26), "flame": (0.4, 1, 4), "exudates": (0.5, 1, 3),
        "cotton_wool": (0.4, 1, 4), "beading": (0.4, 1, 1), "irma": (0.3, 1, 2), "disc_vessels": (0.55, 1, 1),
        "new_vessels": (1.0, 1, 3), "preretinal": (0.45, 1, 2), "vitreous": (0.35, 1, 1), "fibrous": (0.5, 1, 2),
        "laser": (0.3, 40, 90),
    },
)  # fmt: skip
_QUADRANTS = ((1, 3), (1, 3), (1, 3), (4, 4), (2, 4))  # by grade, least and most of the quadrants that are affected


@dataclass(frozen=True)
class FundusStudy:
    """One fundus photograph: whose eye, how it was taken, and what is to be seen."""

    index: int
    patient: int
    eye: str  # "right" or "left"
    label: int  # grade, position in CLASSES
    hospital: str
    anatomy: Eye
    camera: Camera
    lesions: tuple[Lesion, ...]  # signs of retinopathy and confounders
    seed: int  # of vessels, noise and texture

    @property
    def nasal(self) -> int:
        """Sign of x from the fovea towards the optic disc: the disc of a right eye lies on the viewer's right."""
        return 1 if self.eye == "right" else -1

    @property
    def fovea(self) -> tuple[float, float]:
        """Its position (x, y)."""
        return (self.camera.centre - self.nasal * self.camera.gaze_x, self.camera.gaze_y)

    @property
    def disc(self) -> tuple[float, float]:
        """Position (x, y) of the centre of the optic disc."""
        x, y = self.fovea
        cos, sin = math.cos(self.camera.tilt), math.sin(self.camera.tilt)
        along, down = self.nasal * self.anatomy.distance, -self.anatomy.drop
        return (x + cos * along - sin * down, y + sin * along + cos * down)

    def find(self, kind: str) -> list[Lesion]:
        """The lesions of that kind."""
        return [lesion for lesion in self.lesions if lesion.kind == kind]

    def quadrants(self, *kinds: str) -> set[tuple[str, str]]:
        """Those of the field where such a lesion lies: ("superior" or "inferior", "nasal" or "temporal")."""
        return {
            (
                "superior" if lesion.y < 0 else "inferior",
                "nasal" if self.nasal * (lesion.x - self.camera.centre) > 0 else "temporal",
            )
            for lesion in self.lesions
            if lesion.kind in kinds
        }


def sample_studies(
    seed: int, indices: Iterable[int], hospital: str = "north", prevalence: Mapping[str, float] | None = None
) -> list[FundusStudy]:
    """Draw the studies with these indices; `prevalence` gives classes their shares.

    Classes it does not name divide the rest as in IDRiD. Raises UsageError for an unknown hospital or class and for
    shares that are negative or no distribution.
    """
    if hospital not in HOSPITALS:
        raise UsageError(f"unknown phantom hospital {hospital!r}{nearest(hospital, list(HOSPITALS))}")
    edges = list(accumulate(_shares(prevalence or {})))
    return [_study(seed, int(index), hospital, edges) for index in indices]


def _shares(wanted: Mapping[str, float]) -> list[float]:
    """The share of each class."""
    for name, share in wanted.items():
        if name not in CLASSES:
            raise UsageError(f"the fundus phantom has no class {name!r}{nearest(name, list(CLASSES))}")
        if share < 0:
            raise UsageError(f"prevalence: the share of {name!r} is {share}; give a number from 0 to 1")
    rest, unnamed = 1 - sum(wanted.values()), sum(_SHARES[name] for name in CLASSES if name not in wanted)
    if rest < -1e-6 or (rest > 1e-6 and not unnamed):
        raise UsageError(
            f"prevalence: the shares of {', '.join(wanted)} sum to {1 - rest:g}; make them sum to "
            + ("at most 1" if unnamed else "1")
        )
    return [wanted[name] if name in wanted else max(rest, 0) * _SHARES[name] / unnamed for name in CLASSES]


def _generator(seed: int, hospital: str, purpose: str, number: int) -> np.random.Generator:
    purposes = {"block": 10, "patient": 11, "study": 12}  # apart from those of the chest world
    return np.random.default_rng((seed, HOSPITALS[hospital].code, purposes[purpose], number))


@cache
def _block(seed: int, hospital: str, block: int) -> tuple[tuple[int, int], ...]:
    """(patient, eye of that patient) of the five studies of a block of three patients."""
    sizes = _generator(seed, hospital, "block", block).permutation(_EYES_PER_PATIENT)
    return tuple((block * len(sizes) + i, eye) for i, size in enumerate(sizes) for eye in range(size))


def _study(seed: int, index: int, hospital: str, edges: list[float]) -> FundusStudy:
    block, position = divmod(index, sum(_EYES_PER_PATIENT))
    patient, second = _block(seed, hospital, block)[position]
    lasting = _generator(seed, hospital, "patient", patient)
    passing = _generator(seed, hospital, "study", index)

    latent = math.sqrt(_ALIKE) * lasting.standard_normal() + math.sqrt(1 - _ALIKE) * passing.standard_normal()
    first_is_right = lasting.random() < 0.5
    study = FundusStudy(
        index=index, patient=patient, eye="right" if first_is_right != bool(second) else "left",
        label=bisect_right(edges[:-1], ndtr(latent)), hospital=hospital, anatomy=between(lasting, _EYE),
        camera=between(passing, HOSPITALS[hospital].camera), lesions=(), seed=int(passing.integers(2**62)),
    )  # fmt: skip
    return replace(study, lesions=tuple(_lesions(study, passing)))


def _lesions(study: FundusStudy, generator: np.random.Generator) -> list[Lesion]:
    """Confounders first, so that they do not depend on the grade."""
    everywhere = np.arange(4)
    found = []
    for kind, habit in _CONFOUNDERS.items():
        found += _several(study, kind, _count(habit, generator), everywhere, generator)
    least, most = _QUADRANTS[study.label]
    affected = generator.permutation(4)[: generator.integers(least, most + 1)]
    for kind, habit in _SIGNS[study.label].items():
        found += _several(study, kind, _count(habit, generator), affected, generator)
    return found


def _count(habit: tuple[float, int, int], generator: np.random.Generator) -> int:
    probability, least, most = habit
    return int(generator.integers(least, most + 1)) if generator.random() < probability else 0


def _several(
    study: FundusStudy, kind: str, count: int, quadrants: np.ndarray, generator: np.random.Generator
) -> Iterable[Lesion]:
    """`count` lesions of a kind; those without a place of their own fill the affected quadrants in turn."""
    if not count:
        return ()
    habits = _HABITS[kind]
    near, far = habits.distance
    turn = generator.random(count)
    if habits.about == "field":
        turn = (quadrants[np.arange(count) % len(quadrants)] + turn) / 4
    distance = np.sqrt(generator.uniform(near**2, far**2, count))  # evenly over the ring
    centre = {"fovea": study.fovea, "disc": study.disc, "field": (study.camera.centre, 0.0)}[habits.about]
    place = np.array(centre) + distance[:, None] * np.stack([np.cos(turn * math.tau), np.sin(turn * math.tau)], axis=1)
    if far > 0:
        place = _inside(study, place)
    size, contrast = generator.uniform(*habits.size, count), generator.uniform(0.6, 1.0, count)
    angle = generator.uniform(0, math.tau, count)
    return map(Lesion, [kind] * count, *place.T.tolist(), size.tolist(), contrast.tolist(), angle.tolist())


def _inside(study: FundusStudy, place: np.ndarray) -> np.ndarray:
    """Positions (n, 2) moved off the optic disc and into the field of the camera."""
    camera, centre, disc = study.camera, np.array([study.camera.centre, 0.0]), np.array(study.disc)
    offset = place - disc
    distance = np.maximum(np.hypot(*offset.T), 1e-3)[:, None]
    place = disc + offset * np.maximum(1, 1.4 * study.anatomy.disc / distance)
    offset = place - centre
    distance = np.maximum(np.hypot(*offset.T), 1e-3)[:, None]
    offset *= np.minimum(1, (camera.radius - _EDGE) / distance)
    offset[:, 1] = np.clip(offset[:, 1], _EDGE - camera.cut, camera.cut - _EDGE)
    return centre + offset

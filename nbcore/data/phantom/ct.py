"""The phantom CT world: patients with COVID-19, another pneumonia or healthy lungs, their scans, and axial slices.

This file holds latent state only: `render` draws a slice and `caption` describes it, from the same `CtStudy`. A study
depends on (seed, hospital, index) and the shares asked for alone, whichever other indices are asked for; one to four
consecutive studies are slices of one scan, from above down, and a patient has one or two scans.

Lesions are ellipsoids in the chest: a slice shows those it passes through, and little of a sick lung where it passes
none. Lengths are in half widths of the thorax; x grows to the patient's left (the viewer's right), y to the back;
heights run from 0, the apex of the lungs, to 1, their base. An atypical patient shows the pattern of another class.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from nbcore.data.phantom.ct_captions import caption
from nbcore.data.phantom.ct_drawing import render
from nbcore.data.phantom.sampling import between
from nbcore.errors import UsageError
from nbcore.validation import nearest

__all__ = ["CLASSES", "HOSPITALS", "MOST_SLICES", "CtStudy", "caption", "render", "sample_studies"]

CLASSES = ("COVID-19", "Normal", "Pneumonia")
_VISIBLE = 0.30  # share of a lesion's extent times its density from which it can be told
_SCANS = (1, 1, 2)  # of the three patients of a block, in random order
_SLICES = (1, 1, 2, 4)  # of its four scans, likewise
MOST_SLICES = max(_SLICES)
_HEIGHTS = (0.22, 0.82)  # between which the slices of a scan lie
_ATYPICAL = 0.15  # share of the sick who show the pattern of the other disease


class Body(NamedTuple):
    """What a patient keeps."""

    depth: float  # of the thorax, front to back, over its width
    fat: float  # under the skin
    muscle: float
    squareness: float  # exponent of the thorax's outline
    mediastinum: float  # half width at the great vessels
    heart: float  # radius
    aorta: float  # radius
    vertebra: float  # radius
    rib_phase: float
    bone: float  # density of the ribs
    breast: float  # none where negative
    vessels: float  # how dense the vessels of the lung stand out
    dependent: float  # density that gravity gives the back of the lungs; none where negative
    emphysema: float  # none where negative


class Acquisition(NamedTuple):
    """What changes from scan to scan."""

    zoom: float  # half width of the thorax, half sides of the picture
    shift_x: float
    shift_y: float
    tilt: float  # radians
    inspiration: float  # 0 poor .. 1 full
    level: float  # density shown as middle grey: 0 air, 1 water
    window: float  # densities from black to white
    noise: float
    blur: float  # standard deviation of the reconstruction's kernel, half sides
    sharpening: float  # of the kernel
    circle: float  # radius beyond which nothing is reconstructed, half sides; the corners only where above 1
    table: float  # how dense the patient's couch shows; none where negative


@dataclass(frozen=True)
class Hospital:
    """Where scans are made: the ranges (low, high) of its scanner."""

    acquisition: Acquisition
    code: int


class Lesion(NamedTuple):
    """An ellipsoid of changed lung, or the fluid beside it."""

    kind: str  # "ground_glass", "consolidation", "tree_in_bud", "effusion", "nodule" or "scar"
    side: int  # -1 the patient's right, 1 the left
    x: float  # centre
    y: float
    z: float
    along: float  # half axis along the pleura
    across: float  # half axis towards the hilum
    high: float  # half axis from slice to slice
    turn: float  # direction of the long axis, radians
    density: float  # 0..1
    paving: float  # thickened septa within: crazy paving; none at 0
    bronchogram: float  # air-filled bronchi within; none at 0
    seed: int

    def section(self, height: float) -> float:
        """How much of its greatest extent a slice at that height shows, 0..1."""
        return math.sqrt(max(0.0, 1 - ((height - self.z) / self.high) ** 2))


_BODY = Body(
    depth=(0.66, 0.82), fat=(0.03, 0.14), muscle=(0.07, 0.12), squareness=(2.0, 2.6), mediastinum=(0.17, 0.24),
    heart=(0.27, 0.38), aorta=(0.065, 0.10), vertebra=(0.13, 0.17), rib_phase=(0.0, 6.28), bone=(0.3, 0.7),
    breast=(-1.0, 1.0), vessels=(0.7, 1.3), dependent=(-0.6, 1.0), emphysema=(-3.0, 1.0),
)  # fmt: skip
_SCANNER = Acquisition(
    zoom=(0.78, 0.94), shift_x=(-0.05, 0.05), shift_y=(-0.07, 0.07), tilt=(-0.08, 0.08), inspiration=(0.3, 1.0),
    level=(0.44, 0.56), window=(1.20, 1.50), noise=(0.008, 0.028), blur=(0.008, 0.018), sharpening=(0.0, 0.4),
    circle=(0.98, 1.4), table=(-0.5, 1.0),
)  # fmt: skip
HOSPITALS = {
    "north": Hospital(_SCANNER, 0),
    "south": Hospital(  # a narrower window, a sharp kernel, and the whole field shown
        _SCANNER._replace(
            zoom=(0.72, 0.88), level=(0.50, 0.62), window=(1.00, 1.25), noise=(0.016, 0.042), blur=(0.006, 0.016),
            sharpening=(0.3, 0.9), circle=(0.94, 1.1), table=(0.1, 1.0),
        ),
        1,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CtStudy:
    """One axial slice: of whose chest, of which scan, how reconstructed, and what is to be seen."""

    index: int
    patient: int
    scan: int
    label: int  # position in `CLASSES`, the patient's
    hospital: str
    mimics: str  # the class whose pattern an atypical patient shows; "" for a typical one
    body: Body
    acquisition: Acquisition
    height: float  # of the slice: 0 apex .. 1 base of the lungs
    lesions: tuple[Lesion, ...]  # of the whole scan
    seed: int  # of vessels and noise

    @property
    def name(self) -> str:
        """Its class."""
        return CLASSES[self.label]

    @property
    def shown(self) -> tuple[Lesion, ...]:
        """Lesions of which this slice shows enough to be told."""
        return tuple(lesion for lesion in self.lesions if lesion.section(self.height) * lesion.density >= _VISIBLE)

    def at(self, height: float, seed: int) -> "CtStudy":
        """Another slice of the same scan."""
        return replace(self, height=height, seed=seed)


def sample_studies(
    seed: int, indices: Iterable[int], hospital: str = "north", prevalence: Mapping[str, float] | None = None
) -> list[CtStudy]:
    """Draw the studies with these indices.

    `prevalence` is the share of patients of single classes; those not named share the rest alike. Raises UsageError
    for an unknown hospital or class, a negative share, or shares that do not add up.
    """
    if hospital not in HOSPITALS:
        raise UsageError(f"unknown phantom hospital {hospital!r}{nearest(hospital, list(HOSPITALS))}")
    edges = list(accumulate(_shares(prevalence or {})))
    return [_study(seed, int(index), hospital, edges) for index in indices]


def _shares(wanted: Mapping[str, float]) -> list[float]:
    """The share of each class."""
    for name, share in wanted.items():
        if name not in CLASSES:
            raise UsageError(f"the CT phantom has no class {name!r}{nearest(name, list(CLASSES))}")
        if share < 0:
            raise UsageError(f"prevalence: the share of {name!r} is {share}; give a number from 0 to 1")
    rest, unnamed = 1 - sum(wanted.values()), len(set(CLASSES) - set(wanted))
    if rest < -1e-6 or (rest > 1e-6 and not unnamed):
        raise UsageError(
            f"prevalence: the shares of {', '.join(wanted)} sum to {1 - rest:g}; make them sum to "
            + ("at most 1" if unnamed else "1")
        )
    return [wanted[name] if name in wanted else max(rest, 0) / unnamed for name in CLASSES]


def _generator(seed: int, hospital: str, purpose: str, number: int) -> np.random.Generator:
    purposes = {"block": 20, "patient": 21, "scan": 22, "slice": 23}  # apart from those of the other worlds
    return np.random.default_rng((seed, HOSPITALS[hospital].code, purposes[purpose], number))


@cache
def _block(seed: int, hospital: str, block: int) -> tuple[tuple[int, int, float, float], ...]:
    """Patient, scan, and the share of the lungs' height each of the eight slices of a block of three patients is in."""
    generator = _generator(seed, hospital, "block", block)
    owners = np.repeat(np.arange(len(_SCANS)), generator.permutation(_SCANS)).tolist()
    slices = generator.permutation(_SLICES).tolist()
    return tuple(
        (block * len(_SCANS) + owner, block * len(_SLICES) + scan, i / count, (i + 1) / count)
        for scan, (owner, count) in enumerate(zip(owners, slices))
        for i in range(count)
    )


def _study(seed: int, index: int, hospital: str, edges: list[float]) -> CtStudy:
    block, position = divmod(index, sum(_SLICES))
    patient, scan, top, bottom = _block(seed, hospital, block)[position]
    person, visit, picture = (
        _generator(seed, hospital, purpose, number)
        for purpose, number in (("patient", patient), ("scan", scan), ("slice", index))
    )
    label = bisect_right(edges[:-1], person.random() * edges[-1])
    atypical, body = person.random() < _ATYPICAL, between(person, _BODY)
    mimics = {"COVID-19": "Pneumonia", "Pneumonia": "COVID-19"}.get(CLASSES[label], "") if atypical else ""
    acquisition = between(visit, HOSPITALS[hospital].acquisition)
    height = _HEIGHTS[0] + (_HEIGHTS[1] - _HEIGHTS[0]) * float(picture.uniform(top, bottom))
    study = CtStudy(
        index=index, patient=patient, scan=scan, label=label, hospital=hospital, mimics=mimics, body=body,
        acquisition=acquisition, height=height, lesions=(), seed=int(picture.integers(2**62)),
    )  # fmt: skip
    pattern = {"COVID-19": _covid, "Normal": _nothing, "Pneumonia": _pneumonia}[mimics or study.name]
    # a patient's second scan shows the same lesions, grown or shrunk
    growth = float(visit.uniform(0.8, 1.15))
    found = [*pattern(body, person), *_incidental(body, person)]
    return replace(study, lesions=tuple(_grown(lesion, growth) for lesion in found))


def _grown(lesion: Lesion, factor: float) -> Lesion:
    return lesion._replace(along=factor * lesion.along, across=factor * lesion.across, high=factor * lesion.high)


def _nothing(body: Body, generator: np.random.Generator) -> list[Lesion]:
    return []


def _covid(body: Body, generator: np.random.Generator) -> list[Lesion]:
    """Ground-glass opacities of both lungs, along the pleura, mostly at the back and below."""
    severity = generator.random()
    later = generator.random() < 0.25  # consolidation within the ground glass
    lesions = []
    for number in range(4 + int(10 * severity)):
        side = (-1, 1)[number % 2] if generator.random() < 0.85 else -1
        angle = generator.uniform(1.7, 2.75) if generator.random() < 0.75 else generator.uniform(0.6, 1.7)
        lesions.append(
            _lesion(
                body, generator, "ground_glass", side, angle, generator.uniform(0.08, 0.26),
                generator.uniform(0.25, 0.92), generator.uniform(0.15, 0.26 + 0.14 * severity),
                (0.50, 0.80), (0.14, 0.28), generator.uniform(0.45, 0.95),
                paving=generator.uniform(0.4, 1.0) if generator.random() < 0.5 else 0.0,
            )
        )  # fmt: skip
        if later and generator.random() < 0.5:
            last = lesions[-1]
            lesions.append(
                last._replace(
                    kind="consolidation", along=0.5 * last.along, across=0.6 * last.across, high=0.7 * last.high,
                    density=0.9, paving=0.0,
                )
            )  # fmt: skip
    return lesions


def _pneumonia(body: Body, generator: np.random.Generator) -> list[Lesion]:
    """Consolidation of a lobe or segments, mostly of one lung, with nodules along the airways; effusion at times."""
    severity, side = generator.random(), int(generator.choice((-1, 1)))
    lesions = []
    for number in range(1 + int(2.4 * severity)):
        here = side if number == 0 or generator.random() < 0.8 else -side
        lesions.append(
            _lesion(
                body, generator, "consolidation", here, generator.uniform(0.8, 2.6), generator.uniform(0.22, 0.50),
                generator.uniform(0.30, 0.85), generator.uniform(0.22, 0.30 + 0.16 * severity), (0.6, 1.0),
                (0.25, 0.45), generator.uniform(0.70, 1.0),
                bronchogram=generator.uniform(0.5, 1.0) if generator.random() < 0.7 else 0.0,
            )
        )  # fmt: skip
    for _ in range(int(generator.integers(0, 4))):
        here = side if generator.random() < 0.8 else -side
        lesions.append(
            _lesion(
                body, generator, "tree_in_bud", here, generator.uniform(0.6, 2.6), generator.uniform(0.25, 0.6),
                generator.uniform(0.25, 0.9), generator.uniform(0.14, 0.26), (0.7, 1.0), (0.15, 0.3),
                generator.uniform(0.6, 1.0),
            )
        )  # fmt: skip
    if generator.random() < 0.3:
        lesions.append(
            _lesion(
                body, generator, "effusion", side, 2.45, 0.0, 1.0, generator.uniform(0.3, 0.5), (0.25, 0.5),
                (0.35, 0.6), 1.0,
            )
        )  # fmt: skip
    return lesions


def _incidental(body: Body, generator: np.random.Generator) -> list[Lesion]:
    """What may be seen in anybody's lungs."""
    lesions = []
    if generator.random() < 0.25:
        lesions.append(
            _lesion(
                body, generator, "nodule", int(generator.choice((-1, 1))), generator.uniform(0.6, 2.6),
                generator.uniform(0.1, 0.6), generator.uniform(0.2, 0.85), generator.uniform(0.03, 0.06), (0.9, 1.1),
                (0.08, 0.12), 1.0,
            )
        )  # fmt: skip
    for _ in range(int(generator.integers(0, 3)) if generator.random() < 0.35 else 0):
        lesions.append(
            _lesion(
                body, generator, "scar", int(generator.choice((-1, 1))), generator.uniform(0.6, 2.7),
                generator.uniform(0.04, 0.2), generator.uniform(0.15, 0.9), generator.uniform(0.10, 0.22),
                (0.10, 0.22), (0.10, 0.25), generator.uniform(0.5, 0.9),
            )
        )  # fmt: skip
    return lesions


def _lesion(
    body: Body,
    generator: np.random.Generator,
    kind: str,
    side: int,
    angle: float,
    inwards: float,
    height: float,
    size: float,
    flatness: tuple[float, float],
    high: tuple[float, float],
    density: float,
    **more: float,
) -> Lesion:
    """A lesion at an angle from the front about its half of the chest, `inwards` of the pleura."""
    out = 1 - inwards
    x, y = 0.40 + 0.40 * out * math.sin(angle), -0.74 * body.depth * out * math.cos(angle)
    return Lesion(
        kind=kind, side=side, x=side * float(x), y=float(y), z=float(height), along=float(size),
        across=float(size * generator.uniform(*flatness)), high=float(generator.uniform(*high)),
        turn=math.atan2(0.74 * body.depth * math.sin(angle), side * 0.40 * math.cos(angle)), density=float(density),
        paving=float(more.get("paving", 0.0)), bronchogram=float(more.get("bronchogram", 0.0)),
        seed=int(generator.integers(2**62)),
    )  # fmt: skip

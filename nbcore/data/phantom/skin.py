"""The phantom skin world: patients, their lesions (the seven classes of ISIC 2018 task 3, and SCC), and their pictures.

This file holds latent state only: `render` draws a study as dermoscopy shows it and `caption` describes it. What a
lesion is (`Traits`, `Structures`, `Relief`) knows nothing of how it was photographed (`Acquisition`), so that
`skin_clinical` may draw the same lesion as a clinical photograph. A study depends on (seed, hospital, index) alone,
whichever other indices are asked for; as in HAM10000, one to three consecutive studies show one lesion, and a patient
may have two lesions.

Lengths are in millimetres on the skin. A lesion that mimics another class takes about half of its traits and
structures from there.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from nbcore.data.phantom.sampling import between
from nbcore.data.phantom.skin_captions import caption
from nbcore.data.phantom.skin_drawing import render
from nbcore.errors import UsageError

__all__ = ["CLASSES", "HOSPITALS", "SkinStudy", "caption", "render", "sample_studies"]

_HAM10000 = {"AKIEC": 327, "BCC": 514, "BKL": 1099, "DF": 115, "MEL": 1113, "NV": 6705, "VASC": 142}  # pictures
CLASSES = (*_HAM10000, "SCC")  # squamous cell carcinomas are there only where a share of them is asked for
VISIBLE = 0.4  # strength from which a structure can be told
_ATYPICAL = 0.15  # share of lesions that mimic another class
_STRENGTHS = (0.25, 1.0)
_PICTURES = (1, 1, 1, 1, 1, 2, 2, 3)  # of the eight lesions of a block, in random order
_LESIONS = (1, 1, 1, 1, 2, 2)  # of the six patients of a block, likewise


class Skin(NamedTuple):
    """What a patient's lesions share."""

    tone: float  # melanin of the skin, 0 fair .. 1 dark
    redness: float
    mottling: float  # sun damage
    creases: float
    pores: float
    hair: float  # 0..1 density; none where negative
    blond: float  # 0 dark hair .. 1 fair


class Traits(NamedTuple):
    """Size, outline and colour of a lesion."""

    radius: float
    elongation: float  # long axis over short axis, less one
    asymmetry: float  # 0..1, of outline and colour
    irregularity: float  # 0..1, of the border
    sharpness: float  # 0..1, of the border
    melanin: float  # beside the skin's own
    blood: float
    variegation: float  # 0..1, unevenness of colour


class Structures(NamedTuple):
    """Strengths of what dermoscopy shows in a lesion: 0 absent, else 0.25..1."""

    network: float = 0.0
    atypical_network: float = 0.0
    peripheral_network: float = 0.0
    globules: float = 0.0
    streaks: float = 0.0
    blue_white_veil: float = 0.0
    regression: float = 0.0
    arborising_vessels: float = 0.0
    ovoid_nests: float = 0.0
    ulceration: float = 0.0
    shiny_areas: float = 0.0
    milia_like_cysts: float = 0.0
    comedo_like_openings: float = 0.0
    ridges: float = 0.0
    scale: float = 0.0
    strawberry: float = 0.0
    dotted_vessels: float = 0.0
    central_white_patch: float = 0.0
    lacunae: float = 0.0


class Relief(NamedTuple):
    """How a lesion stands out from the skin, and its surface."""

    height: float  # millimetres
    steepness: float  # 0 dome .. 1 flat top with steep sides
    rim: float  # 0..1, of a border rolled up around the centre
    roughness: float  # 0..1
    shine: float  # 0..1
    keratin: float = 0.0  # strength of a mass of keratin in the middle: 0 absent, else 0.25..1


class Acquisition(NamedTuple):
    """What changes from picture to picture."""

    half: float  # half side of the picture
    shift_x: float  # of the lesion from the picture's centre, half sides
    shift_y: float
    tilt: float  # radians
    exposure: float
    contrast: float
    warmth: float  # white balance: red up, blue down
    tint: float  # white balance: green up
    saturation: float
    shading: float  # slow inhomogeneity of the light
    vignette: float  # radius beyond which the tube's wall darkens the picture, half sides
    blur: float  # standard deviation, half sides
    noise: float
    gloss: float  # reflections of unpolarised light
    bubbles: float  # number of air bubbles in the gel, expected; none where negative
    ruler: float  # shown where positive


@dataclass(frozen=True)
class Hospital:
    """Where pictures are taken: the ranges (low, high) of its patients' skin and of its dermatoscope."""

    skin: Skin
    acquisition: Acquisition
    code: int


_SKIN = Skin(
    tone=(0.0, 0.55), redness=(0.0, 0.9), mottling=(0.0, 1.0), creases=(0.1, 1.0), pores=(0.0, 1.0), hair=(-0.9, 1.0),
    blond=(0.0, 1.0),
)  # fmt: skip
_CONTACT = Acquisition(
    half=(5.2, 8.4), shift_x=(-0.22, 0.22), shift_y=(-0.22, 0.22), tilt=(-3.14, 3.14), exposure=(0.80, 1.14),
    contrast=(0.85, 1.20), warmth=(-0.09, 0.14), tint=(-0.05, 0.05), saturation=(0.75, 1.15), shading=(0.02, 0.09),
    vignette=(1.0, 2.0), blur=(0.0, 0.016), noise=(0.004, 0.015), gloss=(-0.6, 1.0), bubbles=(-6.0, 5.0),
    ruler=(-0.85, 0.15),
)  # fmt: skip
HOSPITALS = {
    "north": Hospital(_SKIN, _CONTACT, 0),
    "south": Hospital(
        _SKIN._replace(tone=(0.15, 0.95), redness=(0.0, 0.6), blond=(0.0, 0.3)),
        _CONTACT._replace(  # polarised light: no reflections and no gel, stronger colours
            half=(4.6, 7.4), exposure=(0.76, 1.08), warmth=(-0.14, 0.06), saturation=(0.90, 1.30),
            vignette=(1.20, 2.40), gloss=(-1.0, -0.5), bubbles=(-3.0, -1.0), ruler=(-0.7, 0.3),
        ),
        1,
    ),
}  # fmt: skip


class _Profile(NamedTuple):
    traits: Traits  # (low, high) of each
    structures: Mapping[str, float]  # probability of each
    mimics: tuple[str, ...]
    relief: Relief  # (low, high) of each; of keratin its probability


_PROFILES = {
    "AKIEC": _Profile(
        Traits(
            radius=(2.4, 5.4), elongation=(0.0, 0.6), asymmetry=(0.2, 0.8), irregularity=(0.3, 0.8),
            sharpness=(0.1, 0.6), melanin=(0.05, 0.55), blood=(0.20, 0.75), variegation=(0.2, 0.7),
        ),
        {"scale": 0.75, "strawberry": 0.65, "dotted_vessels": 0.5, "ulceration": 0.12},
        ("BKL", "BCC"),
        Relief(height=(0.0, 0.6), steepness=(0.0, 0.7), rim=(0.0, 0.1), roughness=(0.2, 0.9), shine=(0.0, 0.2)),
    ),
    "BCC": _Profile(
        Traits(
            radius=(2.2, 5.2), elongation=(0.0, 0.5), asymmetry=(0.1, 0.7), irregularity=(0.1, 0.6),
            sharpness=(0.2, 0.8), melanin=(0.05, 0.55), blood=(0.15, 0.65), variegation=(0.1, 0.6),
        ),
        {"arborising_vessels": 0.8, "ovoid_nests": 0.6, "ulceration": 0.4, "shiny_areas": 0.6},
        ("AKIEC", "NV", "MEL"),
        Relief(height=(0.3, 1.6), steepness=(0.1, 0.6), rim=(0.2, 1.0), roughness=(0.0, 0.3), shine=(0.5, 1.0)),
    ),
    "BKL": _Profile(
        Traits(
            radius=(2.2, 5.8), elongation=(0.0, 0.7), asymmetry=(0.0, 0.6), irregularity=(0.1, 0.7),
            sharpness=(0.6, 1.0), melanin=(0.25, 1.15), blood=(0.0, 0.35), variegation=(0.1, 0.6),
        ),
        {"milia_like_cysts": 0.75, "comedo_like_openings": 0.65, "ridges": 0.55, "network": 0.12, "scale": 0.1},
        ("MEL", "NV", "AKIEC"),
        Relief(height=(0.3, 1.6), steepness=(0.4, 1.0), rim=(0.0, 0.1), roughness=(0.3, 1.0), shine=(0.0, 0.35)),
    ),
    "DF": _Profile(
        Traits(
            radius=(2.0, 4.4), elongation=(0.0, 0.4), asymmetry=(0.0, 0.4), irregularity=(0.0, 0.4),
            sharpness=(0.0, 0.4), melanin=(0.20, 0.85), blood=(0.05, 0.45), variegation=(0.0, 0.4),
        ),
        {"central_white_patch": 0.85, "peripheral_network": 0.8, "dotted_vessels": 0.15},
        ("NV", "BCC"),
        Relief(height=(0.2, 1.0), steepness=(0.0, 0.3), rim=(0.0, 0.1), roughness=(0.0, 0.2), shine=(0.1, 0.5)),
    ),
    "MEL": _Profile(
        Traits(
            radius=(2.4, 6.2), elongation=(0.0, 0.8), asymmetry=(0.4, 1.0), irregularity=(0.4, 1.0),
            sharpness=(0.3, 1.0), melanin=(0.45, 1.50), blood=(0.0, 0.40), variegation=(0.4, 1.0),
        ),
        {
            "atypical_network": 0.6, "blue_white_veil": 0.6, "streaks": 0.5, "regression": 0.4, "globules": 0.4,
            "dotted_vessels": 0.15, "ulceration": 0.08,
        },
        ("NV", "BKL", "VASC"),
        Relief(height=(0.0, 1.1), steepness=(0.2, 0.9), rim=(0.0, 0.1), roughness=(0.0, 0.5), shine=(0.1, 0.6)),
    ),
    "NV": _Profile(
        Traits(
            radius=(1.8, 5.0), elongation=(0.0, 0.6), asymmetry=(0.0, 0.35), irregularity=(0.0, 0.4),
            sharpness=(0.2, 0.8), melanin=(0.25, 1.20), blood=(0.0, 0.35), variegation=(0.0, 0.35),
        ),
        {"network": 0.65, "globules": 0.45},
        ("MEL", "DF", "BKL"),
        Relief(height=(0.0, 1.2), steepness=(0.0, 0.5), rim=(0.0, 0.1), roughness=(0.0, 0.5), shine=(0.1, 0.5)),
    ),
    "VASC": _Profile(
        Traits(
            radius=(1.6, 4.2), elongation=(0.0, 0.5), asymmetry=(0.0, 0.5), irregularity=(0.1, 0.6),
            sharpness=(0.4, 1.0), melanin=(0.0, 0.40), blood=(0.20, 0.90), variegation=(0.1, 0.5),
        ),
        {"lacunae": 0.93, "blue_white_veil": 0.2, "scale": 0.08},
        ("MEL", "BCC"),
        Relief(height=(0.2, 1.5), steepness=(0.2, 0.8), rim=(0.0, 0.1), roughness=(0.0, 0.3), shine=(0.4, 1.0)),
    ),
    "SCC": _Profile(
        Traits(
            radius=(2.4, 5.6), elongation=(0.0, 0.5), asymmetry=(0.2, 0.8), irregularity=(0.2, 0.7),
            sharpness=(0.3, 0.8), melanin=(0.05, 0.45), blood=(0.30, 0.85), variegation=(0.2, 0.7),
        ),
        {"scale": 0.6, "ulceration": 0.45, "dotted_vessels": 0.5, "strawberry": 0.15},
        ("AKIEC", "BCC", "BKL"),
        Relief(
            height=(0.6, 2.4), steepness=(0.2, 0.8), rim=(0.0, 0.5), roughness=(0.4, 1.0), shine=(0.0, 0.4),
            keratin=0.65,
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SkinStudy:
    """One picture: of whose skin, of which lesion, how taken, and what is to be seen."""

    index: int
    patient: int
    lesion: int
    label: int  # position in `CLASSES`
    hospital: str
    mimics: str  # the class an atypical lesion resembles; "" for a typical one
    skin: Skin
    traits: Traits
    structures: Structures
    relief: Relief
    lesion_seed: int  # of outline, texture and places of the structures
    acquisition: Acquisition
    seed: int  # of hairs, marks and noise

    @property
    def name(self) -> str:
        """Its class."""
        return CLASSES[self.label]

    @property
    def shown(self) -> tuple[str, ...]:
        """Structures strong enough to be told, the strongest first."""
        strengths = {**self.structures._asdict(), "keratin": self.relief.keratin}
        return tuple(sorted((name for name, value in strengths.items() if value >= VISIBLE), key=strengths.get)[::-1])


def sample_studies(
    seed: int,
    indices: Iterable[int],
    hospital: str = "north",
    prevalence: Mapping[str, float] | None = None,
) -> list[SkinStudy]:
    """Draw the studies with these indices.

    `prevalence` is the share of lesions of single classes; those not named share the rest as in HAM10000, which has
    no SCC.
    Raises UsageError for an unknown hospital or class, a negative share, or shares that do not add up.
    """
    if hospital not in HOSPITALS:
        raise UsageError(f"unknown phantom hospital {hospital!r}: choose one of {', '.join(HOSPITALS)}")
    shares = _shares(prevalence or {})
    return [_study(seed, int(index), hospital, shares) for index in indices]


def _shares(named: Mapping[str, float]) -> list[float]:
    """The share of each class."""
    if unknown := sorted(set(named) - set(CLASSES)):
        raise UsageError(f"unknown phantom skin class {unknown[0]!r}: choose among {', '.join(CLASSES)}")
    if negative := [name for name in named if named[name] < 0]:
        raise UsageError(f"the share of phantom skin class {negative[0]!r} is negative: give one in 0..1")
    counts = {name: _HAM10000.get(name, 0) for name in CLASSES}
    rest, others = 1 - sum(named.values()), sum(count for name, count in counts.items() if name not in named)
    if rest < -1e-6 or (not others and rest > 1e-6):
        raise UsageError(
            f"the shares of {', '.join(named)} add up to {1 - rest:g}: let them add up to 1, or name fewer"
        )
    return [named.get(name, max(rest, 0.0) * count / max(others, 1)) for name, count in counts.items()]


def _generator(seed: int, hospital: str, purpose: str, number: int) -> np.random.Generator:
    purposes = {"block": 0, "patient": 1, "lesion": 2, "picture": 3, "relief": 4}
    return np.random.default_rng((seed, HOSPITALS[hospital].code, purposes[purpose], number))


@cache
def _block(seed: int, hospital: str, block: int) -> tuple[tuple[int, int], ...]:
    """(patient, lesion) of the pictures of a block of six patients."""
    generator = _generator(seed, hospital, "block", block)
    owners = np.repeat(np.arange(len(_LESIONS)), generator.permutation(_LESIONS)).tolist()
    pictures = generator.permutation(_PICTURES).tolist()
    return tuple(
        (block * len(_LESIONS) + owner, block * len(_PICTURES) + lesion)
        for lesion, (owner, count) in enumerate(zip(owners, pictures))
        for _ in range(count)
    )


def _study(seed: int, index: int, hospital: str, shares: list[float]) -> SkinStudy:
    block, position = divmod(index, sum(_PICTURES))
    patient, lesion = _block(seed, hospital, block)[position]
    person, mark, surface, picture = (
        _generator(seed, hospital, purpose, number)
        for purpose, number in (("patient", patient), ("lesion", lesion), ("relief", lesion), ("picture", index))
    )
    place = HOSPITALS[hospital]
    label = _pick(shares, mark.random())
    mimics, traits, structures = _lesion(mark, CLASSES[label])
    return SkinStudy(
        index=index, patient=patient, lesion=lesion, label=label, hospital=hospital, mimics=mimics,
        skin=between(person, place.skin), traits=traits, structures=structures,
        relief=_relief(surface, CLASSES[label], mimics), lesion_seed=int(mark.integers(2**62)),
        acquisition=between(picture, place.acquisition), seed=int(picture.integers(2**62)),
    )  # fmt: skip


def _lesion(generator: np.random.Generator, name: str) -> tuple[str, Traits, Structures]:
    """Whom a lesion of this class mimics (or ""), and what it looks like."""
    own = _PROFILES[name]
    atypical, choice = generator.random(2)
    mimics = own.mimics[int(choice * len(own.mimics))] if atypical < _ATYPICAL else ""
    other = _PROFILES[mimics or name]
    borrowed = generator.random(len(Traits._fields)) < 0.5
    ranges = (theirs if b else ours for ours, theirs, b in zip(own.traits, other.traits, borrowed))
    traits = between(generator, Traits(*ranges))
    strengths = {}
    for structure in Structures._fields:
        present, borrows, strength = generator.random(3)
        profile = other if borrows < 0.5 else own
        if present < profile.structures.get(structure, 0.0):
            strengths[structure] = _STRENGTHS[0] + (_STRENGTHS[1] - _STRENGTHS[0]) * float(strength)
    return mimics, traits, Structures(**strengths)


def _relief(generator: np.random.Generator, name: str, mimics: str) -> Relief:
    """What stands out; an atypical lesion borrows here, too."""
    own, other = _PROFILES[name].relief, _PROFILES[mimics or name].relief
    borrowed = generator.random(len(Relief._fields)) < 0.5
    *ranges, keratin = (theirs if b else ours for ours, theirs, b in zip(own, other, borrowed))
    present, strength = generator.random(2)
    low, high = _STRENGTHS
    return Relief(
        *generator.uniform(*np.transpose(ranges)).tolist(),
        keratin=low + (high - low) * float(strength) if present < keratin else 0.0,
    )


def _pick(weights: list[float], uniform: float) -> int:
    """The position in whose share of the unit interval the number falls."""
    edges = list(accumulate(weights))
    return bisect(edges, uniform * edges[-1])

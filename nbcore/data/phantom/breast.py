"""The phantom breast world: breasts and their lesions, benign, malignant or none, for two modalities to show.

This file holds latent state only. What a breast and its lesion are (`Tissue`, `Lesion`) knows nothing of how they are
looked at (`Film`, `Probe`): `mammography` and `ultrasound` draw and describe the very same study. A study depends on
(seed, hospital, index) alone, whichever other indices are asked for; every study is of a patient of its own.

Lengths are in millimetres. A lesion that mimics the other class takes about half of its traits from there.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nbcore.data.phantom.sampling import between
from nbcore.errors import UsageError

__all__ = ["CLASSES", "HOSPITALS", "BreastStudy", "sample_studies"]

_BUSI = {"benign": 437, "malignant": 210, "normal": 133}  # images
CLASSES = tuple(_BUSI)
_ATYPICAL = 0.15  # share of lesions that mimic the other class
_MLO = 0.5  # share of mammograms in the oblique view
_CYST = 0.4  # share of benign lesions; the others are fibroadenomas


class Tissue(NamedTuple):
    """The breast around."""

    reach: float  # from the chest wall to the nipple
    breadth: float  # half of the base, reaches
    density: float  # 0 fat alone .. 1 fibroglandular tissue alone
    patchiness: float  # 0 even .. 1 in islands
    fat: float  # beneath the skin, least thickness
    septa: float  # 0..1 strength of the ligaments


class Lesion(NamedTuple):
    """A mass with all that belongs to it; ranges are those of `_PROFILES`."""

    radius: float
    elongation: float  # long axis over short axis, less one
    upright: float  # -1 parallel to the skin .. 1 taller than wide
    irregularity: float  # 0..1, of the outline
    sharpness: float  # 0..1, of the margin
    spiculation: float  # 0..1
    distortion: float  # 0..1, of the tissue around
    attenuation: float  # 0..1, of X-rays, beside fat
    echo: float  # 0 as bright as gland .. 1 without any echo
    shadow: float  # behind it, of sound: -1 enhancement .. 1 shadow
    halo: float  # 0..1, bright rim of sound
    coarse: float  # strength of coarse calcifications, 0 for none
    micro: float  # the same of a cluster of microcalcifications


class Place(NamedTuple):
    """Where a lesion lies."""

    along: float  # 0 behind the nipple .. 1 at the chest wall
    medial: float  # -1 lateral .. 1 medial
    upper: float  # -1 lower .. 1 upper
    depth: float  # 0 at the skin .. 1 at the muscle


class Film(NamedTuple):
    """How a mammogram is taken."""

    half: float  # half side of the picture
    shift: float  # of the nipple from the middle, half sides
    exposure: float
    contrast: float
    noise: float
    shading: float
    muscle: float  # angle of its edge in the oblique view, radians
    strays: float  # expected number of single calcifications without meaning; none where negative
    label: float  # the side's letters are shown where positive


class Probe(NamedTuple):
    """How a sonogram is taken."""

    half: float  # half width of the picture
    depth: float  # of the picture
    gain: float  # decibels
    span: float  # dynamic range, decibels
    speckle: float  # 0..1
    noise: float
    tilt: float  # of the layers, radians
    sector: float  # share of the width that a curved probe leaves black at the top; none where negative
    ribs: float  # shown where positive
    label: float
    calipers: float


@dataclass(frozen=True)
class Hospital:
    """Where pictures are taken: the ranges (low, high) of its patients' breasts and of its machines."""

    tissue: Tissue
    film: Film
    probe: Probe
    code: int


_TISSUE = Tissue(
    reach=(62, 105), breadth=(0.80, 1.15), density=(0.0, 1.0), patchiness=(0.0, 1.0), fat=(3.0, 8.0), septa=(0.2, 1.0)
)
_FILM = Film(
    half=(48, 62), shift=(-0.12, 0.12), exposure=(0.86, 1.12), contrast=(0.85, 1.20), noise=(0.006, 0.020),
    shading=(0.0, 0.05), muscle=(0.32, 0.62), strays=(-2.0, 3.0), label=(-0.6, 1.0),
)  # fmt: skip
_PROBE = Probe(
    half=(20, 27), depth=(36, 50), gain=(-4, 4), span=(46, 58), speckle=(0.55, 0.85), noise=(0.006, 0.020),
    tilt=(-0.12, 0.12), sector=(-1.0, -0.5), ribs=(-0.6, 1.0), label=(-1.0, 0.7), calipers=(-1.0, 0.5),
)  # fmt: skip
HOSPITALS = {
    "north": Hospital(_TISSUE, _FILM, _PROBE, 0),
    "south": Hospital(  # denser breasts, a softer film, an older and often curved probe
        _TISSUE._replace(reach=(55, 92), density=(0.15, 1.0)),
        _FILM._replace(
            half=(46, 58), exposure=(0.76, 1.02), contrast=(0.70, 1.00), noise=(0.012, 0.030), label=(-1.0, 0.5)
        ),
        _PROBE._replace(
            half=(22, 30), gain=(-8, 1), span=(38, 50), speckle=(0.75, 1.0), sector=(-0.35, 0.35), label=(-0.6, 1.0)
        ),
        1,
    ),
}  # fmt: skip

_PLACE = Place(along=(0.1, 0.85), medial=(-1, 1), upper=(-1, 1), depth=(0.1, 0.8))
_SIZE = (8.0, 18.0)


class _Profile(NamedTuple):
    traits: Lesion  # (low, high) of each; strengths of what is absent are 0
    often: Mapping[str, float]  # probability of those a lesion may be without


_PROFILES = {
    "cyst": _Profile(
        Lesion(
            radius=_SIZE, elongation=(0.0, 0.5), upright=(-0.7, 0.1), irregularity=(0.0, 0.2), sharpness=(0.7, 1.0),
            spiculation=(0, 0), distortion=(0.0, 0.1), attenuation=(0.20, 0.55), echo=(0.88, 1.0),
            shadow=(-1.0, -0.4), halo=(0.0, 0.2), coarse=(0.3, 0.6), micro=(0.3, 0.6),
        ),
        {"coarse": 0.04, "micro": 0.02},
    ),
    "fibroadenoma": _Profile(
        Lesion(
            radius=_SIZE, elongation=(0.2, 0.9), upright=(-1.0, -0.2), irregularity=(0.0, 0.35),
            sharpness=(0.6, 1.0), spiculation=(0, 0), distortion=(0.0, 0.1), attenuation=(0.30, 0.65),
            echo=(0.40, 0.75), shadow=(-0.4, 0.2), halo=(0.0, 0.3), coarse=(0.4, 1.0), micro=(0.3, 0.6),
        ),
        {"coarse": 0.40, "micro": 0.05},
    ),
    "carcinoma": _Profile(
        Lesion(
            radius=_SIZE, elongation=(0.0, 0.7), upright=(-0.4, 1.0), irregularity=(0.4, 1.0), sharpness=(0.0, 0.5),
            spiculation=(0.3, 1.0), distortion=(0.2, 1.0), attenuation=(0.55, 1.0), echo=(0.60, 0.90),
            shadow=(0.1, 1.0), halo=(0.2, 1.0), coarse=(0.3, 0.6), micro=(0.4, 1.0),
        ),
        {"spiculation": 0.75, "coarse": 0.03, "micro": 0.5},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class BreastStudy:
    """One breast, what lies in it, and how either modality takes its picture."""

    index: int
    patient: int
    label: int  # position in `CLASSES`
    hospital: str
    kind: str  # "cyst", "fibroadenoma" or "carcinoma"; "" without a lesion
    mimics: str  # the kind an atypical lesion resembles; "" for a typical one
    side: str  # "L" or "R"
    view: str  # of the mammogram: "CC" or "MLO"
    tissue: Tissue
    lesion: Lesion | None
    place: Place  # of the lesion, or of what calipers measure instead
    film: Film
    probe: Probe
    lesion_seed: int  # of its outline and calcifications
    seed: int  # of texture, marks and noise

    @property
    def name(self) -> str:
        """Its class."""
        return CLASSES[self.label]

    @property
    def composition(self) -> str:
        """The breast's density in four letters, "a" almost entirely fat to "d" extremely dense."""
        return "abcd"[min(int(4 * self.tissue.density), 3)]

    @property
    def clock(self) -> int:
        """The hour at which the lesion lies, as one who faces the patient sees the breast."""
        across = self.place.medial if self.side == "R" else -self.place.medial
        return round(math.atan2(across, self.place.upper) * 6 / math.pi) % 12 or 12


def sample_studies(
    seed: int,
    indices: Iterable[int],
    hospital: str = "north",
    prevalence: Mapping[str, float] | None = None,
) -> list[BreastStudy]:
    """Draw the studies with these indices.

    `prevalence` is the share of single classes; those not named share the rest as in BUSI.
    Raises UsageError for an unknown hospital or class, a negative share, or shares that do not add up.
    """
    if hospital not in HOSPITALS:
        raise UsageError(f"unknown phantom hospital {hospital!r}: choose one of {', '.join(HOSPITALS)}")
    shares = _shares(prevalence or {})
    return [_study(seed, int(index), hospital, shares) for index in indices]


def _shares(named: Mapping[str, float]) -> list[float]:
    """The share of each class."""
    if unknown := sorted(set(named) - set(CLASSES)):
        raise UsageError(f"unknown phantom breast class {unknown[0]!r}: choose among {', '.join(CLASSES)}")
    if negative := [name for name in named if named[name] < 0]:
        raise UsageError(f"the share of phantom breast class {negative[0]!r} is negative: give one in 0..1")
    rest, others = 1 - sum(named.values()), sum(count for name, count in _BUSI.items() if name not in named)
    if rest < -1e-6 or (not others and rest > 1e-6):
        raise UsageError(
            f"the shares of {', '.join(named)} add up to {1 - rest:g}: let them add up to 1, or name fewer"
        )
    return [named.get(name, max(rest, 0.0) * count / max(others, 1)) for name, count in _BUSI.items()]


def _study(seed: int, index: int, hospital: str, shares: list[float]) -> BreastStudy:
    place = HOSPITALS[hospital]
    # what the class decides has a generator of its own, so that nothing else depends on it
    person, mark = (np.random.default_rng((seed, place.code, purpose, index)) for purpose in (0, 1))
    label = min(int(np.searchsorted(np.cumsum(shares), mark.random(), side="right")), len(shares) - 1)
    kind, mimics, lesion = _lesion(mark, CLASSES[label])
    left, oblique = person.random(2)
    return BreastStudy(
        index=index, patient=index, label=label, hospital=hospital, kind=kind, mimics=mimics,
        side="L" if left < 0.5 else "R", view="MLO" if oblique < _MLO else "CC",
        tissue=between(person, place.tissue), lesion=lesion, place=between(person, _PLACE),
        film=between(person, place.film), probe=between(person, place.probe),
        lesion_seed=int(mark.integers(2**62)), seed=int(person.integers(2**62)),
    )  # fmt: skip


def _lesion(generator: np.random.Generator, name: str) -> tuple[str, str, Lesion | None]:
    """Its kind, whom it mimics (or ""), and its traits."""
    if name == "normal":
        return "", "", None
    is_cyst, atypical = generator.random(2)
    benign = "cyst" if is_cyst < _CYST else "fibroadenoma"
    kind, other = (benign, "carcinoma") if name == "benign" else ("carcinoma", benign)
    mimics = other if atypical < _ATYPICAL else ""
    own, theirs = _PROFILES[kind], _PROFILES[mimics or kind]
    borrowed = generator.random(len(Lesion._fields)) < 0.5
    drawn = generator.random((2, len(Lesion._fields)))
    traits = {}
    for field, takes, present, part in zip(Lesion._fields, borrowed, *drawn.tolist()):
        profile = theirs if takes else own
        low, high = getattr(profile.traits, field)
        traits[field] = low + (high - low) * part if present < profile.often.get(field, 1.0) else 0.0
    return kind, mimics, Lesion(**traits)

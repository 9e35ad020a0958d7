"""The phantom chest world: patients, their studies, and what is to be seen in each of them.

This file holds latent state only: `chest.render` draws a study and `reports.write` describes it, in either language,
from the same `ChestStudy`. A study depends on (seed, hospital, index) alone, whichever other indices are asked for.

Lengths are in half sides of the picture; x grows to the patient's left (the viewer's right), y grows downwards.
Findings co-occur through a Gaussian copula: each has a latent normal that shares one factor with its relatives
(heart failure, infection, smoking, trauma), so joint frequencies are realistic and every marginal stays exact.
"""

import math
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from nbcore.errors import UsageError

SIDES = ("right", "left", "bilateral")
ZONES = ("upper", "middle", "lower")
STUDIES_PER_PATIENT = (1, 2, 3, 4)  # each block of ten consecutive indices holds one patient of each kind


class Finding(NamedTuple):
    """One thing to be seen; `severity` and `subtlety` in 0..1, `spot` places it within its zone, `size` in 0..1."""

    name: str
    side: str  # "right", "left", "bilateral", or "" where there is none to tell
    zone: str  # "upper", "middle", "lower" or ""
    severity: float
    subtlety: float
    spot: tuple[float, float]
    size: float
    kind: str  # subtype: "bacterial" or "viral" pneumonia, the device, the object; else ""

    @property
    def visibility(self) -> float:
        """Contrast of the finding in 0.42..1."""
        return (0.7 + 0.3 * self.severity) * (1 - 0.4 * self.subtlety)

    @property
    def shows(self) -> tuple[str, ...]:
        """The findings this one counts as: itself, and what it looks like."""
        return (self.name, *_LOOKS_LIKE.get((self.name, self.kind), ()))


_LOOKS_LIKE = {("pneumonia", "bacterial"): ("consolidation",), ("pneumonia", "viral"): ("infiltration",)}


class Anatomy(NamedTuple):
    """What a patient keeps from study to study."""

    lung_width: float  # midline to the inner chest wall
    apex: float  # top of the lungs (y)
    dome: float  # top of the right hemidiaphragm at full inspiration (y)
    dome_drop: float  # how much lower the left one stands
    dome_curve: float
    heart: float  # width of the heart over the width of the thorax
    heart_shape: float  # height over width
    aorta: float  # radius of the aortic knob
    mediastinum: float  # half width
    spine_bend: float  # scoliosis
    rib_spacing: float
    rib_slope: float
    rib_phase: float
    rib_density: float
    vessel_phase: float
    vessel_density: float
    clavicle_slope: float
    fat: float  # soft tissue beside the rib cage
    breast: float  # 0 for none
    stomach: float  # radius of the gastric bubble
    stomach_x: float
    nipple: float  # 0..1, how visible


_ANATOMY = Anatomy(
    lung_width=(0.58, 0.74), apex=(-0.80, -0.66), dome=(0.36, 0.54), dome_drop=(-0.01, 0.09), dome_curve=(0.16, 0.30),
    heart=(0.38, 0.485), heart_shape=(0.95, 1.25), aorta=(0.07, 0.11), mediastinum=(0.115, 0.165),
    spine_bend=(-0.05, 0.05), rib_spacing=(0.125, 0.165), rib_slope=(0.10, 0.34), rib_phase=(0, 1),
    rib_density=(0.4, 1.1), vessel_phase=(0, 6.28), vessel_density=(0.5, 1.3), clavicle_slope=(0.02, 0.24),
    fat=(0.06, 0.30), breast=(0.0, 1.0), stomach=(0.0, 0.17), stomach_x=(0.22, 0.38), nipple=(-1.5, 1.0),
)  # fmt: skip


class Acquisition(NamedTuple):
    """What changes from exposure to exposure."""

    shift_x: float
    shift_y: float
    zoom: float
    tilt: float  # rotation in the picture's plane, radians
    turn: float  # rotation about the long axis: shifts the mediastinum, makes one lung darker
    inspiration: float  # 0 poor .. 1 full
    level: float  # attenuation shown as middle grey
    window: float  # attenuation from black to white
    gamma: float
    noise: float  # quantum noise
    shading: float  # slow inhomogeneity of the field
    clutter: float  # structured noise: clothing, skin folds, sheets
    blur: float  # 0 sharp .. 1
    left: float  # collimation: width of the border hidden on each edge (none where negative)
    right: float
    top: float
    bottom: float
    marker_x: float
    marker_y: float


_ACQUISITION = Acquisition(
    shift_x=(-0.14, 0.14), shift_y=(-0.12, 0.12), zoom=(0.82, 1.20), tilt=(-0.11, 0.11), turn=(-0.08, 0.08),
    inspiration=(0.25, 1.0), level=(0.45, 0.68), window=(0.95, 1.60), gamma=(0.75, 1.45), noise=(0.004, 0.024),
    shading=(0.02, 0.14), clutter=(0.0, 0.04), blur=(0.0, 0.6), left=(-0.30, 0.13), right=(-0.30, 0.13),
    top=(-0.30, 0.10), bottom=(-0.30, 0.10), marker_x=(0.80, 0.95), marker_y=(-0.95, -0.70),
)  # fmt: skip


@dataclass(frozen=True)
class Hospital:
    """Where a study was made: its language, projections, side markers, acquisition ranges and case mix."""

    language: str
    views: Mapping[str, float]  # projection -> share
    markers: str  # letters of its side markers, for the patient's right and left
    acquisition: Acquisition  # (low, high) of each field
    case_mix: Mapping[str, float]  # finding -> factor on its prevalence
    code: int


HOSPITALS = {
    "north": Hospital(
        "en", {"PA": 0.42, "AP": 0.46, "lateral": 0.12}, "RL", _ACQUISITION, {"support_devices": 1.2, "edema": 1.2}, 0
    ),
    "south": Hospital(
        "es",
        {"PA": 0.64, "AP": 0.20, "lateral": 0.16},
        "DI",
        _ACQUISITION._replace(
            gamma=(0.60, 1.20), window=(0.80, 1.35), noise=(0.008, 0.030), left=(-0.1, 0.2), right=(-0.1, 0.2)
        ),
        {"support_devices": 0.8, "edema": 0.7, "emphysema": 1.3, "pleural_thickening": 1.2, "tuberculosis": 1.5},
        1,
    ),
}


class _Epidemiology(NamedTuple):
    prevalence: float
    factor: str  # latent factor it shares with its relatives
    loading: float  # correlation of its latent normal with that factor
    chronic: bool  # drawn once per patient
    sides: tuple[float, ...]  # weights of right, left, bilateral; () where laterality means nothing
    zones: tuple[float, ...]  # weights of upper, middle, lower; () likewise
    kinds: tuple[str, ...] = ()


_TRAITS = 8  # uniform numbers that settle a finding
_FACTORS = ("heart", "infection", "smoking", "trauma")
_DEVICES = ("pacemaker", "central_line", "endotracheal_tube", "nasogastric_tube", "sternal_wires")
_OBJECTS = ("coin", "ring", "pin", "button")
_EPIDEMIOLOGY = {
    "atelectasis": _Epidemiology(0.14, "heart", 0.35, False, (3, 4, 3), (0, 1, 5)),
    "cardiomegaly": _Epidemiology(0.16, "heart", 0.70, True, (), ()),
    "consolidation": _Epidemiology(0.08, "infection", 0.50, False, (5, 4, 1), (2, 3, 4)),
    "covid": _Epidemiology(0.02, "infection", 0.30, False, (0, 0, 1), (0, 1, 2)),
    "edema": _Epidemiology(0.11, "heart", 0.70, False, (0, 0, 1), ()),
    "effusion": _Epidemiology(0.17, "heart", 0.60, False, (4, 4, 3), (0, 0, 1)),
    "emphysema": _Epidemiology(0.07, "smoking", 0.60, True, (0, 0, 1), ()),
    "enlarged_mediastinum": _Epidemiology(0.07, "heart", 0.20, True, (), ()),
    "fibrosis": _Epidemiology(0.07, "smoking", 0.40, True, (1, 1, 5), (2, 1, 5)),
    "foreign_object": _Epidemiology(0.02, "trauma", 0.10, False, (1, 1, 0), (2, 2, 1), _OBJECTS),
    "fracture": _Epidemiology(0.07, "trauma", 0.60, False, (1, 1, 0), (1, 2, 1)),
    "hernia": _Epidemiology(0.05, "heart", 0.10, True, (), ()),
    "infiltration": _Epidemiology(0.09, "infection", 0.50, False, (3, 3, 3), (2, 3, 4)),
    "mass": _Epidemiology(0.06, "smoking", 0.40, True, (1, 1, 0), (3, 3, 2)),
    "nodule": _Epidemiology(0.08, "smoking", 0.40, True, (3, 3, 1), (3, 3, 2)),
    "pleural_thickening": _Epidemiology(0.08, "smoking", 0.30, True, (3, 3, 2), (4, 2, 1)),
    "pneumonia": _Epidemiology(0.09, "infection", 0.60, False, (4, 3, 2), (1, 3, 4), ("bacterial", "viral")),
    "pneumothorax": _Epidemiology(0.08, "trauma", 0.50, False, (1, 1, 0), (1, 0, 0)),
    "support_devices": _Epidemiology(0.22, "heart", 0.40, False, (), (), _DEVICES),
    "tuberculosis": _Epidemiology(0.02, "infection", 0.10, True, (3, 2, 2), (6, 1, 0)),
}
FINDINGS = tuple(_EPIDEMIOLOGY)
OPACITIES = frozenset(FINDINGS) & {
    "atelectasis", "consolidation", "covid", "edema", "fibrosis", "infiltration", "mass", "nodule", "pneumonia",
    "tuberculosis",
}  # fmt: skip


@dataclass(frozen=True)
class ChestStudy:
    """One examination: who, where, how, and what is to be seen."""

    index: int
    patient: int
    study: int  # 0, 1, ... within the patient
    hospital: str
    view: str  # "PA", "AP" or "lateral"
    sex: str  # "F" or "M"
    age: int
    anatomy: Anatomy
    acquisition: Acquisition
    findings: tuple[Finding, ...]
    seed: int  # of noise, texture and phrasing

    def find(self, name: str) -> Finding | None:
        """The finding of that name, if there is one."""
        return next((finding for finding in self.findings if finding.name == name), None)


def sample_studies(
    seed: int,
    indices: Iterable[int],
    hospital: str = "north",
    prevalence: Mapping[str, float] | None = None,
    *,
    views: Sequence[str] | None = None,
    age_range: tuple[int, int] = (18, 95),
) -> list[ChestStudy]:
    """Draw the studies with these indices; `prevalence` overrides single findings' probabilities (see `only`).

    `views` restricts the projections; `age_range` below 16 gives children's habitus.
    Raises UsageError for an unknown hospital, finding or view.
    """
    if hospital not in HOSPITALS:
        raise UsageError(f"unknown phantom hospital {hospital!r}: choose one of {', '.join(HOSPITALS)}")
    if unknown := sorted(set(prevalence or ()) - set(FINDINGS)):
        raise UsageError(f"unknown phantom finding {unknown[0]!r}: choose among {', '.join(FINDINGS)}")
    place = HOSPITALS[hospital]
    if unknown := sorted(set(views or ()) - set(place.views)):
        raise UsageError(f"unknown view {unknown[0]!r}: choose among {', '.join(place.views)}")
    wanted = np.array([
        (prevalence or {}).get(name, spec.prevalence * place.case_mix.get(name, 1.0))
        for name, spec in _EPIDEMIOLOGY.items()
    ])  # fmt: skip
    shares = {view: share for view, share in place.views.items() if view in (views or place.views)}
    return [_study(seed, int(index), hospital, wanted, shares, age_range) for index in indices]


def only(**prevalence: float) -> dict[str, float]:
    """Prevalences where every finding not named is absent: `only(pneumonia=0.6)`."""
    return dict.fromkeys(FINDINGS, 0.0) | prevalence


def _generator(seed: int, hospital: str, purpose: str, number: int) -> np.random.Generator:
    purposes = {"block": 0, "patient": 1, "study": 2}
    return np.random.default_rng((seed, HOSPITALS[hospital].code, purposes[purpose], number))


@cache
def _block(seed: int, hospital: str, block: int) -> tuple[tuple[int, int], ...]:
    """(patient, study) of the ten studies of a block of four patients."""
    sizes = _generator(seed, hospital, "block", block).permutation(STUDIES_PER_PATIENT)
    patients = len(STUDIES_PER_PATIENT)
    return tuple((block * patients + i, study) for i, size in enumerate(sizes) for study in range(size))


def _study(
    seed: int, index: int, hospital: str, prevalence: np.ndarray, views: Mapping[str, float], ages: tuple[int, int]
) -> ChestStudy:
    block, position = divmod(index, sum(STUDIES_PER_PATIENT))
    patient, study = _block(seed, hospital, block)[position]
    lasting = _generator(seed, hospital, "patient", patient)
    passing = _generator(seed, hospital, "study", index)

    sex = "FM"[int(lasting.random() < 0.5)]
    age = int(lasting.integers(ages[0], ages[1] + 1))
    anatomy = _habitus(_between(lasting, _ANATOMY), sex, age)
    findings = _findings(lasting, passing, prevalence)
    view = _pick(list(views), list(views.values()), passing.random())
    return ChestStudy(
        index=index, patient=patient, study=study, hospital=hospital, view=view, sex=sex, age=age, anatomy=anatomy,
        acquisition=_between(passing, HOSPITALS[hospital].acquisition), findings=findings,
        seed=int(passing.integers(2**62)),
    )  # fmt: skip


def _between(generator: np.random.Generator, ranges: Anatomy | Acquisition) -> Anatomy | Acquisition:
    """Each field uniformly within its (low, high)."""
    low, high = np.array(ranges).T
    return type(ranges)(*generator.uniform(low, high).tolist())


def _habitus(anatomy: Anatomy, sex: str, age: int) -> Anatomy:
    """Women have breasts; children a small thorax with a wide heart, steep lungs and no fat to speak of."""
    if sex == "M" or age < 13:
        anatomy = anatomy._replace(breast=0.0)
    if age >= 16:
        return anatomy
    return anatomy._replace(
        lung_width=0.86 * anatomy.lung_width, heart=anatomy.heart + 0.05, mediastinum=anatomy.mediastinum + 0.02,
        rib_slope=0.4 * anatomy.rib_slope, rib_spacing=0.85 * anatomy.rib_spacing, aorta=0.6 * anatomy.aorta,
        fat=0.5 * anatomy.fat,
    )  # fmt: skip


def _findings(
    lasting: np.random.Generator, passing: np.random.Generator, prevalence: np.ndarray
) -> tuple[Finding, ...]:
    """Those whose latent normal lies in the lower tail of mass `prevalence`."""
    names = len(FINDINGS)
    factors = lasting.standard_normal(len(_FACTORS))
    drawn = {  # by chronicity
        chronic: (generator.standard_normal(names), generator.random((names, _TRAITS)))
        for chronic, generator in ((True, lasting), (False, passing))
    }
    found = []
    for i, (name, spec) in enumerate(_EPIDEMIOLOGY.items()):
        noise, traits = drawn[spec.chronic]
        latent = spec.loading * factors[_FACTORS.index(spec.factor)] + math.sqrt(1 - spec.loading**2) * noise[i]
        if ndtr(latent) < prevalence[i]:
            found.append(_finding(name, spec, traits[i].tolist()))
    return tuple(found)


def _finding(name: str, spec: _Epidemiology, traits: list[float]) -> Finding:
    """Turn uniform numbers into the traits of a finding."""
    side, zone, severity, subtlety, across, along, size, kind = traits
    return Finding(
        name=name, side=_pick(SIDES, spec.sides, side), zone=_pick(ZONES, spec.zones, zone), severity=severity,
        subtlety=subtlety**2, spot=(across, along), size=size, kind=_pick(spec.kinds, (1,) * len(spec.kinds), kind),
    )  # fmt: skip


def _pick(options: Sequence[str], weights: Sequence[float], uniform: float) -> str:
    """The option in whose share of the unit interval the number falls; "" where there is no choice."""
    if not weights:
        return ""
    edges = list(accumulate(weights))
    return options[bisect(edges, uniform * edges[-1])]


_LESIONS = frozenset({"nodule", "mass"})
_NOT_DISEASE = frozenset({"support_devices", "foreign_object"})
CLASSES: Mapping[str, frozenset[str]] = {
    # CheXpert and MIMIC-CXR ("No Finding" is the absence of them all)
    "No Finding": frozenset(FINDINGS) - _NOT_DISEASE,
    "Enlarged Cardiomediastinum": frozenset({"enlarged_mediastinum"}),
    "Lung Opacity": OPACITIES,
    "Lung Lesion": _LESIONS,
    "Pleural Effusion": frozenset({"effusion"}),
    "Pleural Other": frozenset({"pleural_thickening"}),
    "Support Devices": frozenset({"support_devices"}),
    # other data sets' own words
    "Pleural_Thickening": frozenset({"pleural_thickening"}),
    "COVID-19": frozenset({"covid"}),
    "Foreign Object": frozenset({"foreign_object"}),
    "pulmonary edema": frozenset({"edema"}),
    "pleural effusion": frozenset({"effusion"}),
    "heart insufficiency": frozenset({"cardiomegaly", "edema"}),
    "hilar enlargement": frozenset(),  # nothing that the phantom draws
    "vascular redistribution": frozenset(),
    **{name.capitalize(): frozenset({name}) for name in FINDINGS if "_" not in name},
}
ABSENCE = frozenset({"No Finding"})  # classes that are positive where none of their findings is present
TOGETHER = frozenset({"heart insufficiency"})  # where all of them are; every other class, where any is


def labels(studies: Sequence[ChestStudy]) -> dict[str, np.ndarray]:
    """Finding -> int8 (B,), 1 where a study shows it, implied ones (see `Finding.shows`) included."""
    shown = [{name for finding in study.findings for name in finding.shows} for study in studies]
    return {name: np.array([name in names for names in shown], np.int8) for name in FINDINGS}


def label_matrix(studies: Sequence[ChestStudy], classes: Sequence[str]) -> np.ndarray:
    """float32 (B, C) of 0 and 1 for classes spelt as the data sets spell them (see `CLASSES`) or as in `FINDINGS`.

    Raises UsageError for a class the phantom does not know.
    """
    present = labels(studies)
    columns = []
    for name in classes:
        if name not in CLASSES and name not in FINDINGS:
            raise UsageError(f"the phantom has no class {name!r}: choose among {', '.join(sorted(CLASSES))}")
        members = CLASSES.get(name, {name})
        shown = np.zeros((len(members), len(studies)), bool)  # (members, B)
        for row, finding in enumerate(members):
            shown[row] = present[finding]
        counted = shown.all(axis=0) if name in TOGETHER else shown.any(axis=0)  # (B,)
        columns.append(~counted if name in ABSENCE else counted)
    return np.stack(columns, axis=1).astype(np.float32)

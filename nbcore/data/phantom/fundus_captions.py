"""A line or two under a fundus photograph, as a reader of diabetic retinopathy writes them; all of it true."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nbcore.data.phantom.fundus import FundusStudy

_PICTURES = (
    "fundus photograph", "colour fundus photograph", "retinal photograph", "fundus image", "color fundus photo",
    "fundus photograph of the {eye} eye", "retinal image of the {eye} eye",
)  # fmt: skip
_GRADES = (
    (
        "no diabetic retinopathy", "no signs of diabetic retinopathy", "no apparent retinopathy", "a normal fundus",
        "a normal retina without retinopathy",
    ),
    (
        "mild non-proliferative diabetic retinopathy", "mild NPDR", "stage 1 retinopathy", "mild diabetic retinopathy",
        "grade 1 diabetic retinopathy", "early background retinopathy",
    ),
    (
        "moderate non-proliferative diabetic retinopathy", "moderate NPDR", "stage 2 retinopathy",
        "moderate diabetic retinopathy", "grade 2 diabetic retinopathy",
    ),
    (
        "severe non-proliferative diabetic retinopathy", "severe NPDR", "stage 3 retinopathy",
        "severe diabetic retinopathy", "grade 3 diabetic retinopathy", "pre-proliferative retinopathy",
    ),
    (
        "proliferative diabetic retinopathy", "PDR", "stage 4 retinopathy", "proliferative retinopathy",
        "grade 4 diabetic retinopathy", "diabetic retinopathy in its proliferative stage",
    ),
)  # fmt: skip
_SIGNS = {  # the most telling first
    "disc_vessels": (
        "neovascularisation of the optic disc", "new vessels at the optic disc", "NVD",
        "a frond of new vessels on the optic disc",
    ),
    "new_vessels": ("neovascularisation elsewhere", "retinal neovascularisation", "new vessels on the retina", "NVE"),
    "preretinal": ("preretinal haemorrhage", "boat-shaped preretinal haemorrhage", "subhyaloid haemorrhage"),
    "vitreous": ("vitreous haemorrhage", "blood in the vitreous"),
    "fibrous": ("fibrous proliferation", "fibrovascular tissue", "fibrovascular proliferation"),
    "beading": ("venous beading", "beading of the retinal veins"),
    "irma": ("intraretinal microvascular abnormalities", "IRMA", "intraretinal microvascular abnormalities (IRMA)"),
    "haemorrhage": (
        "{some} dot and blot haemorrhages {where}", "{some} blot haemorrhages {where}",
        "{some} intraretinal haemorrhages {where}", "{some} retinal hemorrhages {where}",
    ),
    "cotton_wool": ("{some} cotton-wool {spot}", "{some} soft {exudate}"),
    "exudates": ("hard exudates {macula}", "yellow hard exudates {macula}", "lipid exudates {macula}"),
    "flame": ("flame-shaped {haemorrhage}", "{some} flame {haemorrhage}"),
    "microaneurysm": (
        "{some} microaneurysms", "{some} microaneurysms seen as red dots", "{some} retinal microaneurysms",
    ),
    "laser": ("laser scars", "scars of panretinal photocoagulation", "scattered photocoagulation scars"),
}  # fmt: skip
_INCIDENTAL = {
    "drusen": ("incidental drusen", "small drusen near the macula", "drusen, not related to diabetes"),
    "crescent": ("a myopic crescent beside the optic disc", "peripapillary atrophy"),
    "naevus": ("a flat choroidal naevus", "a pigmented choroidal naevus"),
    "asteroid": ("asteroid hyalosis", "asteroid bodies in the vitreous"),
    "dust": ("dust on the lens of the camera", "dust artefacts"),
    "reflection": ("a reflection artefact", "a lens reflection"),
}
_DENIALS = {  # what can be said to be absent -> the kinds that would make it untrue
    "microaneurysms": ("microaneurysm",),
    "haemorrhages": ("haemorrhage", "flame", "preretinal", "vitreous"),
    "hard exudates": ("exudates",),
    "cotton-wool spots": ("cotton_wool",),
    "venous beading": ("beading",),
    "intraretinal microvascular abnormalities": ("irma",),
    "neovascularisation": ("disc_vessels", "new_vessels"),
    "vitreous haemorrhage": ("preretinal", "vitreous"),
}
_DESCRIBED = (
    "{picture} showing {signs}", "{picture} with {signs}", "{signs}", "{signs} on this {picture}",
    "fundoscopy reveals {signs}", "{picture}: {signs}", "retina of the {eye} eye with {signs}", "note {signs}",
    "the {eye} eye shows {signs}",
)  # fmt: skip
_GRADED = (
    "{grade}", "{picture} showing {grade}", "{grade}, {picture}", "{picture} of a diabetic patient: {grade}",
    "{eye} eye, {grade}", "{picture} graded as {grade}",
)  # fmt: skip
_BOTH = (
    "{grade} with {signs}", "{signs}, consistent with {grade}", "{picture} showing {grade} with {signs}",
    "{signs}: {grade}", "{picture} with {signs}. Impression: {grade}",
)  # fmt: skip
_DENYING = ("no {denied}", "no evidence of {denied}", "no sign of {denied}", "without {denied}")
_HEALTHY = (
    "healthy optic disc, macula and vessels", "normal optic disc, macula and retinal vessels",
    "unremarkable disc and macula with vessels of normal calibre", "healthy retina", "normal posterior pole",
)  # fmt: skip
_WITHOUT_RETINOPATHY = ("retinal vessels of normal calibre", "unremarkable retinal vessels", "healthy retinal vessels")
_VAGUE = (
    "{picture}", "posterior pole of the {eye} eye", "screening photograph of a patient with diabetes, {eye} eye",
    "{picture} with the optic disc and the macula", "{picture} taken for diabetic retinopathy screening",
    "follow-up {picture}, compare with the other eye",
)  # fmt: skip
_HAZY = ("hazy view through cloudy media", "limited view of the fundus because of media opacity")
_DEFOCUSED = ("the photograph is out of focus", "poor image quality, blurred photograph")
_HAZE, _BLUR = 0.12, 0.007  # of the camera, above which they are told
_NEAR = 0.16  # from the fovea, what is said to be at the macula


def caption(study: "FundusStudy", generator: np.random.Generator) -> str:
    """One to three sentences: what is to be seen, its grade, both, or (15 % of them) nothing that tells the grade."""
    kind = generator.random()
    if kind < 0.15:
        return _finish([_vague(study, generator)])
    words = {"eye": study.eye, "grade": _pick(_GRADES[study.label], generator), "signs": _signs(study, generator)}
    words["picture"] = _pick(_PICTURES, generator).format(eye=study.eye)
    if kind < 0.50:
        frames = _DESCRIBED
    elif kind < 0.80 and study.label:
        frames = _BOTH
    else:
        frames = _GRADED
    sentences = [_pick(frames, generator).format(**words)]
    if generator.random() < 0.45 and (denied := _denied(study, generator)):
        sentences.append(_pick(_DENYING, generator).format(denied=denied))
    if generator.random() < 0.2:
        sentences.append(_remark(study, generator))
    return _finish(sentences)


def _pick(options: Sequence[str], generator: np.random.Generator) -> str:
    return options[int(generator.integers(len(options)))]


def _finish(sentences: Sequence[str]) -> str:
    """Capitals and full stops."""
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in map(str.strip, sentences) if sentence)


def _listed(parts: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _signs(study: "FundusStudy", generator: np.random.Generator) -> str:
    """The two most telling signs of retinopathy, and others or not; a healthy fundus where there is none."""
    present = [kind for kind in _SIGNS if study.find(kind)]
    if not present:
        blemished = any(study.find(kind) for kind in ("drusen", "crescent", "naevus", "asteroid"))
        return _pick(_WITHOUT_RETINOPATHY if blemished else _HEALTHY, generator)
    told = present[:2] + [kind for kind in present[2:] if generator.random() < 0.5]
    return _listed([_sign(study, told[i], generator) for i in generator.permutation(len(told))], "and")


def _sign(study: "FundusStudy", kind: str, generator: np.random.Generator) -> str:
    lesions = study.find(kind)
    single = len(lesions) == 1
    if single:
        amounts = ("a single",)
    elif len(lesions) <= 5:
        amounts = ("a few", "some", "isolated")
    else:
        amounts = ("several", "scattered", "multiple") if len(lesions) <= 14 else ("numerous", "many")
    x, y = study.fovea
    nearest = min(math.hypot(lesion.x - x, lesion.y - y) - lesion.size for lesion in lesions)
    macula = ("at the macula", "near the macula", "") if nearest < _NEAR else ("away from the macula", "")
    phrase = _pick(_SIGNS[kind], generator).format(
        some=_pick(amounts, generator), where=_pick(_places(study, kind), generator), macula=_pick(macula, generator),
        spot="spot" if single else "spots", exudate="exudate" if single else "exudates",
        haemorrhage="haemorrhage" if single else "haemorrhages",
    )  # fmt: skip
    return phrase.strip()


def _places(study: "FundusStudy", kind: str) -> tuple[str, ...]:
    """Where the lesions lie, said in different ways."""
    quadrants = study.quadrants(kind)
    if len(quadrants) == 4:
        return ("in all four quadrants", "in all quadrants", "throughout the retina")
    if len(quadrants) == 1:
        ((vertical, horizontal),) = quadrants
        return (f"in the {vertical} {horizontal} quadrant", f"in the {vertical} retina", "in one quadrant", "")
    count = {2: "two", 3: "three"}[len(quadrants)]
    return (f"in {count} quadrants", "")


def _denied(study: "FundusStudy", generator: np.random.Generator) -> str:
    """One to three things that are not there, the worst that are not first; "" where all are."""
    shown = {lesion.kind for lesion in study.lesions}
    absent = [name for name, kinds in _DENIALS.items() if not shown.intersection(kinds)]
    if not absent:
        return ""
    some = sorted(generator.permutation(len(absent))[: generator.integers(1, 4)])
    return _listed([absent[i] for i in some], "or")


def _remark(study: "FundusStudy", generator: np.random.Generator) -> str:
    """Something that has nothing to do with the grade: an incidental finding, an artefact, the quality; or ""."""
    options = [_pick(phrases, generator) for kind, phrases in _INCIDENTAL.items() if study.find(kind)]
    options += _HAZY if study.camera.haze > _HAZE else ()
    options += _DEFOCUSED if study.camera.blur > _BLUR else ()
    return _pick(options, generator) if options else ""


def _vague(study: "FundusStudy", generator: np.random.Generator) -> str:
    """A title, or a remark where there is one to make."""
    remark = _remark(study, generator) if generator.random() < 0.6 else ""
    picture = _pick(_PICTURES, generator).format(eye=study.eye)
    return remark or _pick(_VAGUE, generator).format(picture=picture, eye=study.eye)

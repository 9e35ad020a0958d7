"""Two or three sentences under an axial CT slice, as a radiologist reports it; all of it true of that slice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcore.data.phantom.ct_drawing import behind_the_fissure, cavity

if TYPE_CHECKING:
    from nbcore.data.phantom.ct import CtStudy, Lesion

_PICTURES = (
    "axial chest CT slice", "chest CT, lung window", "axial CT of the chest in the lung window",
    "axial CT image of the lungs", "chest CT slice at the level of {level}", "axial lung CT at the level of {level}",
)  # fmt: skip
_LEVELS = ((0.24, "the lung apices"), (0.34, "the aortic arch"), (0.48, "the carina"), (0.72, "the heart"),
           (9.9, "the lung bases"))  # fmt: skip
_CLASSES = {
    "COVID-19": (
        "COVID-19 pneumonia", "COVID-19", "SARS-CoV-2 pneumonia", "novel coronavirus pneumonia",
        "viral pneumonia due to COVID-19",
    ),
    "Normal": ("normal chest CT", "normal lungs", "a normal study", "no pneumonia", "healthy lungs"),
    "Pneumonia": (
        "community-acquired pneumonia", "common pneumonia", "pneumonia other than COVID-19",
        "non-COVID pneumonia", "lobar pneumonia",
    ),
}  # fmt: skip
_KINDS = {  # the most telling first
    "consolidation": (
        "consolidation {place}", "air-space consolidation {place}", "dense opacity {place}",
        "a consolidated area {place}",
    ),
    "ground_glass": (
        "ground-glass opacities {place}", "ground-glass opacification {place}", "hazy ground-glass opacities {place}",
        "GGO {place}",
    ),
    "tree_in_bud": ("tree-in-bud nodules {place}", "centrilobular nodules {place}", "tree-in-bud opacities {place}"),
    "effusion": ("{a_side} pleural effusion", "pleural fluid on the {side}", "pleural effusion on the {side}"),
}  # fmt: skip
_PAVED = ("with crazy paving", "with a crazy-paving pattern", "with thickened septa")
_TUBES = ("with air bronchograms", "containing air bronchograms", "with visible air bronchograms")
_INCIDENTAL = {"nodule": ("a small lung nodule", "a solitary nodule"), "scar": ("a fibrous band", "linear scarring")}
_SHOWING = ("{picture} showing {signs}", "{signs}", "{picture}: {signs}", "note {signs}", "{picture} with {signs}")
_CLEAR = (
    "the lungs are clear in this slice", "no focal opacity is seen", "clear lungs without consolidation",
    "lung parenchyma without focal opacity",
)  # fmt: skip
_IMPRESSIONS = ("Impression: {name}", "Findings consistent with {name}", "Diagnosis: {name}", "In keeping with {name}")
_DENIALS = {
    "ground-glass opacity": "ground_glass",
    "consolidation": "consolidation",
    "tree-in-bud nodules": "tree_in_bud",
    "pleural effusion": "effusion",
    "crazy paving": "ground_glass",
}
_DENYING = ("No {denied}", "No evidence of {denied}", "Without {denied}", "No sign of {denied}")
_VAGUE = ("{picture}", "{picture}, compare with the previous scan", "single slice of a thin-section chest CT")


def caption(study: "CtStudy", generator: np.random.Generator) -> str:
    """One to three sentences: what the slice shows, the diagnosis, both, or (15 % of them) nothing telling."""
    kind = generator.random()
    picture = _pick(_PICTURES, generator).format(level=next(name for top, name in _LEVELS if study.height < top))
    if kind < 0.15:
        return _finish([_pick(_VAGUE, generator).format(picture=picture)])
    sentences = []
    if kind < 0.85:
        signs = _signs(study, generator)
        sentences.append(
            _pick(_SHOWING, generator).format(picture=picture, signs=signs)
            if signs
            else f"{picture}: {_pick(_CLEAR, generator)}"
        )
    if kind >= 0.50:
        frame = _pick(_IMPRESSIONS, generator) if sentences else picture + ", {name}"
        sentences.append(frame.format(name=_pick(_CLASSES[study.name], generator)))
    if generator.random() < 0.4 and (denied := _denied(study, generator)):
        sentences.append(_pick(_DENYING, generator).format(denied=denied))
    return _finish(sentences)


def _signs(study: "CtStudy", generator: np.random.Generator) -> str:
    """What can be told in this slice, or ""."""
    parts = []
    for kind, phrases in _KINDS.items():
        if found := [lesion for lesion in study.shown if lesion.kind == kind]:
            side = _side(found)
            phrase = _pick(phrases, generator).format(
                place=_place(found, study), side=side.replace("bilateral", "both sides").strip(),
                a_side="bilateral" if side == "bilateral" else f"a {side}",
            )  # fmt: skip
            if kind == "ground_glass" and all(lesion.paving for lesion in found):
                phrase += " " + _pick(_PAVED, generator)
            if kind == "consolidation" and all(lesion.bronchogram for lesion in found):
                phrase += " " + _pick(_TUBES, generator)
            parts.append(phrase)
    for kind, phrases in _INCIDENTAL.items():
        if any(lesion.kind == kind for lesion in study.shown) and generator.random() < 0.5:
            parts.append(_pick(phrases, generator))
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)


def _side(lesions: Sequence["Lesion"]) -> str:
    sides = {lesion.side for lesion in lesions}
    return "bilateral" if len(sides) > 1 else {-1: "right", 1: "left"}[sides.pop()]


def _place(lesions: Sequence["Lesion"], study: "CtStudy") -> str:
    """In which lung or lobe, and how near to the pleura."""
    side = _side(lesions)
    if side == "bilateral":
        return "in both lungs" if any(_inner(lesion) for lesion in lesions) else "in the periphery of both lungs"
    if len(lesions) > 1:
        return f"in the {side} lung"
    return f"in the {side} {_lobe(lesions[0], study)}"


def _inner(lesion: "Lesion") -> bool:
    return abs(lesion.x) < 0.5 and abs(lesion.y) < 0.3


def _lobe(lesion: "Lesion", study: "CtStudy") -> str:
    if behind_the_fissure(lesion.x, lesion.y, cavity(study.body.depth, study.height)[1], study.height) > 0:
        return "lower lobe"
    return "middle lobe" if lesion.side < 0 and study.height > 0.5 else "upper lobe"


def _denied(study: "CtStudy", generator: np.random.Generator) -> str:
    """Something of which this slice shows no trace, or ""."""
    present = {lesion.kind for lesion in study.lesions if lesion.section(study.height) > 0}
    options = [name for name, kind in _DENIALS.items() if kind not in present]
    return _pick(options, generator) if options else ""


def _pick(options: Sequence[str], generator: np.random.Generator) -> str:
    return options[int(generator.integers(len(options)))]


def _finish(sentences: Sequence[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)

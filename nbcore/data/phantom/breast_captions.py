"""What a radiologist writes under a phantom mammogram or sonogram: one to three sentences, true to the study's state.

A sign is named where it is strong enough to be told, and denied only where it is absent altogether.
"""

from collections.abc import Sequence

import numpy as np

from nbcore.data.phantom.breast import BreastStudy, Lesion

VISIBLE = 0.4  # strength from which a sign can be told
_VAGUE, _SHORT, _NAMED = 0.12, 0.20, 0.38  # shares; the others describe without a diagnosis
_PICTURES = {
    "mammogram": ("mammogram", "mammography", "digital mammogram", "{view} view of the {side} breast"),
    "sonogram": ("breast ultrasound", "ultrasound of the {side} breast", "breast ultrasound image", "sonogram"),
}
_NOUNS = {
    "cyst": ("a benign cyst", "a simple cyst", "a benign breast cyst", "a benign lesion"),
    "fibroadenoma": ("a fibroadenoma", "a benign fibroadenoma", "a benign breast tumour", "a benign mass"),
    "carcinoma": (
        "a malignant tumour", "breast cancer", "a carcinoma", "a malignant mass", "an invasive ductal carcinoma",
    ),
}  # fmt: skip
_NORMAL_TEXTS = (
    "normal {picture}", "{picture} without any mass", "{picture}, normal breast tissue", "normal {picture}, {tissue}",
    "no suspicious finding in the {picture}", "{tissue}, no mass and no distortion", "negative {picture}: {tissue}",
    "normal breast, {tissue}, as the {picture} shows", "{picture} of a normal breast", "no focal lesion, {tissue}",
)  # fmt: skip
_VAGUE_TEXTS = (
    "{picture} of a patient who came for screening", "{picture}, follow-up advised", "{picture} for a second opinion",
    "{tissue}", "{picture}, no clinical data available", "{picture}. {tissue}",
)  # fmt: skip
_SHORT_TEXTS = (
    "{picture} of {noun}", "{noun}", "{picture} showing {noun}", "biopsy-proven: {noun} at {clock} o'clock",
    "{noun} of about {size} mm", "{picture}, {noun}",
)  # fmt: skip
_NAMED_TEXTS = (
    "{picture} of {noun}: {looks} with {signs}", "{looks} with {signs}, consistent with {noun}",
    "{noun}, seen as {looks} with {signs}", "{signs} in {looks}; histology confirmed {noun}",
    "{picture} showing {looks} of {size} mm with {signs}. Diagnosis: {noun}", "{looks}, diagnosed as {noun}",
)  # fmt: skip
_PLAIN_TEXTS = (
    "{looks} with {signs}", "{picture} shows {looks} at {clock} o'clock", "{looks} of {size} mm with {signs}",
    "at {clock} o'clock there is {looks}. It has {signs}", "{tissue}. There is {looks} with {signs}",
)  # fmt: skip
_FILM_TISSUE = {
    "a": ("the breast is almost entirely fatty", "fatty breast tissue"),
    "b": ("scattered areas of fibroglandular density", "scattered fibroglandular tissue"),
    "c": ("heterogeneously dense breast tissue", "the breast is heterogeneously dense"),
    "d": ("extremely dense breast tissue", "the breast is extremely dense"),
}
_SOUND_TISSUE = {
    "a": ("homogeneous background echotexture of fat", "fatty tissue"),
    "b": ("mostly fatty echotexture with some glandular tissue",),
    "c": ("mixed fibroglandular background echotexture",),
    "d": ("homogeneous fibroglandular background echotexture", "dense glandular tissue"),
}


def caption_mammogram(study: BreastStudy, generator: np.random.Generator) -> str:
    """One to three sentences on a mammogram: some vague, some of description only, some with the diagnosis."""
    tissue, lesion = _pick(generator, _FILM_TISSUE[study.composition]), study.lesion
    if lesion is None:
        return _told(study, generator, "mammogram", tissue)
    density = ", high-density" if lesion.attenuation > 0.75 else ", low-density" if lesion.attenuation < 0.45 else ""
    looks = _article(f"{_shape(lesion)}{density} mass")
    signs = [_margin(lesion, generator)]
    if lesion.coarse >= VISIBLE:
        signs.append(_pick(generator, ("coarse calcifications", "popcorn-like calcifications")))
    if lesion.micro >= VISIBLE:
        signs.append(_pick(generator, ("clustered microcalcifications", "a group of fine calcifications")))
    if lesion.distortion >= VISIBLE:
        signs.append(_pick(generator, ("architectural distortion", "distortion of the surrounding tissue")))
    denied = [
        text
        for text, strength in {
            "no suspicious calcifications": lesion.micro,
            "there is no calcification within it": lesion.micro + lesion.coarse,
        }.items()
        if not strength
    ]
    return _told(study, generator, "mammogram", tissue, looks, signs, denied)


def caption_sonogram(study: BreastStudy, generator: np.random.Generator) -> str:
    """One to three sentences on a sonogram: some vague, some of description only, some with the diagnosis."""
    tissue, lesion = _pick(generator, _SOUND_TISSUE[study.composition]), study.lesion
    if lesion is None:
        return _told(study, generator, "sonogram", tissue)
    echo = "anechoic" if lesion.echo > 0.88 else "hypoechoic" if lesion.echo > 0.5 else "mildly hypoechoic"
    looks = _article(f"{_shape(lesion)}, {echo} mass")
    signs = [_margin(lesion, generator)]
    if lesion.upright > 0.3:
        signs.append(_pick(generator, ("a taller-than-wide shape", "an orientation not parallel to the skin")))
    elif lesion.upright < -0.2:
        signs.append(_pick(generator, ("an orientation parallel to the skin", "a wider-than-tall shape")))
    if abs(lesion.shadow) >= VISIBLE:
        words = ("posterior acoustic shadowing", "acoustic shadow behind it") if lesion.shadow > 0 else (
            "posterior acoustic enhancement", "enhancement behind it",
        )  # fmt: skip
        signs.append(_pick(generator, words))
    if lesion.halo >= VISIBLE:
        signs.append(_pick(generator, ("an echogenic halo", "an echogenic rim")))
    if lesion.micro + lesion.coarse >= VISIBLE:
        signs.append(_pick(generator, ("echogenic foci", "calcifications seen as bright echoes")))
    denied = ["no calcifications are seen"] if not lesion.micro + lesion.coarse else []
    return _told(study, generator, "sonogram", tissue, looks, signs, denied)


def _told(
    study: BreastStudy,
    generator: np.random.Generator,
    modality: str,
    tissue: str,
    looks: str = "",
    signs: Sequence[str] = (),
    denied: Sequence[str] = (),
) -> str:
    side = {"L": "left", "R": "right"}[study.side]
    slots = {"picture": _pick(generator, _PICTURES[modality]).format(view=study.view, side=side), "tissue": tissue}
    kind, adds = generator.random(2)
    if kind < _VAGUE:
        return _sentences([_pick(generator, _VAGUE_TEXTS).format(**slots)])
    if study.lesion is None:
        return _sentences([_pick(generator, _NORMAL_TEXTS).format(**slots)])
    named = [signs[0], *generator.permutation(signs[1:]).tolist()[:2]]  # the margin, and at most two others
    slots |= {
        "noun": _pick(generator, _NOUNS[study.kind]),
        "looks": looks,
        "signs": " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0],
        "clock": study.clock,
        "size": round(2 * study.lesion.radius),
    }
    if kind < _VAGUE + _SHORT:
        texts = _SHORT_TEXTS
    else:
        texts = _NAMED_TEXTS if kind < _VAGUE + _SHORT + _NAMED else _PLAIN_TEXTS
    added = [_pick(generator, denied)] if denied and adds < 0.25 else []
    return _sentences([_pick(generator, texts).format(**slots), *added])


def _shape(lesion: Lesion) -> str:
    if lesion.irregularity >= 0.4:
        return "irregular"
    return "oval" if lesion.elongation > 0.3 else "round"


def _margin(lesion: Lesion, generator: np.random.Generator) -> str:
    if lesion.spiculation >= VISIBLE:
        return _pick(generator, ("spiculated margins", "spicules at its margin"))
    if lesion.irregularity >= 0.4:
        return _pick(generator, ("angular margins", "an irregular border", "microlobulated margins"))
    if lesion.sharpness > 0.6:
        return _pick(generator, ("circumscribed margins", "a well-defined margin", "smooth, sharp margins"))
    return _pick(generator, ("indistinct margins", "an ill-defined border"))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _pick(generator: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(generator.integers(len(options)))]


def _sentences(texts: Sequence[str]) -> str:
    """Capitalise, end with a full stop, join."""
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts)

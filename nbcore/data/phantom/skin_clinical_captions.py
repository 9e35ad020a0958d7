"""What is written under a clinical photograph of a phantom lesion: what the naked eye sees, true to the study's state.

No dermoscopic structure is named. A feature is named where it is strong enough to be told.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nbcore.data.phantom.skin import SkinStudy

_VAGUE, _SHORT, _NAMED = 0.12, 0.14, 0.42  # shares; the others describe without a diagnosis
_NAMES = {  # with the article before the bar
    "AKIEC": ("an|actinic keratosis", "a|solar keratosis", "an|actinic (solar) keratosis"),
    "BCC": ("a|basal cell carcinoma", "a|nodular basal cell carcinoma", "a|BCC"),
    "BKL": ("a|seborrhoeic keratosis", "a|seborrheic keratosis", "a|benign keratosis"),
    "DF": ("a|dermatofibroma", "a|fibrous histiocytoma of the skin"),
    "MEL": ("a|melanoma", "a|malignant melanoma", "a|cutaneous melanoma"),
    "NV": ("a|melanocytic nevus", "a|melanocytic naevus", "a|benign mole", "a|nevus"),
    "VASC": ("a|vascular lesion", "an|angioma", "a|haemangioma", "a|cherry angioma"),
    "SCC": ("a|squamous cell carcinoma", "a|cutaneous squamous cell carcinoma", "a|squamous cell cancer"),
}
_VAGUE_TEXTS = (
    "clinical photograph of a skin lesion", "close-up photograph of the skin, biopsy pending",
    "photograph of a lesion taken from about 15 cm", "lesion on the skin, about {size} mm wide",
    "smartphone photograph of a lesion submitted for teleconsultation", "clinical image, diagnosis deferred",
)  # fmt: skip
_SHORT_TEXTS = (
    "{noun}", "clinical photograph of {a_noun}", "{noun}, about {size} mm across", "clinical image of {a_noun}",
    "photograph of the skin with {a_noun}", "biopsy-proven {noun}", "macroscopic view of {a_noun}",
)  # fmt: skip
_NAMED_TEXTS = (
    "clinical photograph of {a_noun}: {looks}", "{looks}, diagnosed as {a_noun}", "{noun} presenting as {looks}",
    "{looks}. Diagnosis: {noun}", "biopsy confirmed {a_noun}; clinically {looks}", "{looks}, typical of {a_noun}",
)  # fmt: skip
_PLAIN_TEXTS = (
    "{looks}", "clinical photograph showing {looks}", "{looks}, about {size} mm across", "on inspection {looks}",
    "photograph from about 15 cm of {looks}", "{looks} on otherwise unremarkable skin",
)  # fmt: skip


def caption(study: "SkinStudy", generator: np.random.Generator) -> str:
    """One or two sentences about a study: some vague, some of description only, some with the diagnosis."""
    noun = _pick(generator, _NAMES[study.name])
    slots = {
        "noun": noun.partition("|")[2],
        "a_noun": noun.replace("|", " "),
        "looks": _looks(study, generator),
        "size": round(2 * study.traits.radius),
    }
    kind = generator.random()
    if kind < _VAGUE:
        texts = _VAGUE_TEXTS
    elif kind < _VAGUE + _SHORT:
        texts = _SHORT_TEXTS
    else:
        texts = _NAMED_TEXTS if kind < _VAGUE + _SHORT + _NAMED else _PLAIN_TEXTS
    text = _pick(generator, texts).format(**slots)
    return f"{text[0].upper()}{text[1:]}."


def _looks(study: "SkinStudy", generator: np.random.Generator) -> str:
    """The lesion as the eye sees it: "an asymmetric, dark brown plaque with a notched border and a warty surface"."""
    traits, words = study.traits, []
    if traits.asymmetry > 0.55:
        words.append(_pick(generator, ("asymmetric", "irregularly shaped")))
    elif traits.asymmetry < 0.25:
        words.append(_pick(generator, ("symmetric", "round to oval")))
    words.append(_colour(study, generator))
    phrase = f"{', '.join(words)} {_kind(study, generator)}"
    phrase = f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
    features = [_pick(generator, options) for options in _features(study)]
    chosen = [features[i] for i in sorted(generator.permutation(len(features))[:3])]
    return f"{phrase} with {_listed(chosen)}" if chosen else phrase


def _kind(study: "SkinStudy", generator: np.random.Generator) -> str:
    """What a lesion of this height and width is called."""
    height, wide = study.relief.height + study.relief.keratin, 2 * study.traits.radius > 8
    if height < 0.3:
        return _pick(generator, ("flat patch", "patch") if wide else ("macule", "flat spot"))
    if height < 1.0:
        return _pick(generator, ("slightly raised plaque", "thin plaque") if wide else ("flat papule", "small papule"))
    return _pick(generator, ("raised plaque", "nodule", "tumour") if wide else ("raised papule", "nodule"))


def _colour(study: "SkinStudy", generator: np.random.Generator) -> str:
    traits, structures = study.traits, study.structures
    if structures.lacunae > 0.4:
        return _pick(generator, ("red", "purple-red", "dark red"))
    if traits.melanin > 0.35 and traits.variegation > 0.6:
        return _pick(generator, ("multicoloured", "variegated", "unevenly brown to black"))
    if traits.melanin < 0.45 and traits.blood > 0.2:
        return _pick(generator, ("red", "reddish") if traits.blood > 0.45 else ("pink", "pinkish"))
    if traits.melanin > 0.9:
        return _pick(generator, ("dark brown", "brown-black", "deeply pigmented"))
    return _pick(generator, ("brown", "medium brown") if traits.melanin > 0.45 else ("light brown", "tan"))


def _features(study: "SkinStudy") -> list[tuple[str, ...]]:
    """What may be said of border and surface, each in several words."""
    traits, structures, relief = study.traits, study.structures, study.relief
    said = {
        ("an irregular border", "notched edges"): traits.irregularity > 0.55,
        ("a sharp border", "well-defined edges"): traits.sharpness > 0.7,
        ("blurred margins", "an ill-defined border"): traits.sharpness < 0.3,
        ("a rolled, raised border", "a pearly rolled edge"): relief.rim > 0.45 and relief.height > 0.5,
        ("a warty surface", "a rough surface"): relief.roughness > 0.6,
        ("a smooth surface",): relief.roughness < 0.15 and not structures.scale,
        ("a shiny surface", "a glossy surface"): relief.shine > 0.6,
        ("dry scale", "adherent scale", "a scaly surface"): structures.scale > 0.4,
        ("a crusted erosion", "central ulceration", "a bleeding crust"): structures.ulceration > 0.4,
        ("a keratotic centre", "a horny mass on top", "thick keratin"): relief.keratin > 0.4,
        ("visible small vessels", "telangiectasia"): structures.arborising_vessels > 0.6,
    }
    return [words for words, true in said.items() if true]


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _pick(generator: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(generator.integers(len(options)))]

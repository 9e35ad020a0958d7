"""What a dermatologist writes under a phantom picture: one to three English sentences, true to the study's state.

A structure is named where it is strong enough to be told, and denied only where it is absent altogether.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nbcore.data.phantom.skin import SkinStudy

_VAGUE, _SHORT, _NAMED = 0.15, 0.12, 0.38  # shares; the others describe without a diagnosis
_SIGNS = {
    "network": (
        "a regular pigment network", "a typical pigment network", "an evenly meshed brown network",
        "a honeycomb-like pigment network that fades at the edge",
    ),
    "atypical_network": (
        "an atypical pigment network", "an irregular, broadened pigment network", "a network with uneven, thick lines",
    ),
    "peripheral_network": (
        "a delicate peripheral pigment network", "a fine network at the periphery", "a ring of delicate network",
    ),
    "globules": ("brown globules", "brown dots and globules", "pigmented globules", "aggregated globules"),
    "streaks": ("streaks at the border", "peripheral streaks", "pseudopods and radial streaming", "radial streaks"),
    "blue_white_veil": ("a blue-white veil", "a blue-whitish veil", "a blue-grey structureless veil"),
    "regression": (
        "white scar-like regression with grey peppering", "regression structures", "scar-like depigmentation",
    ),
    "arborising_vessels": (
        "arborising vessels", "branching vessels", "arborizing telangiectasia", "tree-like branching vessels",
    ),
    "ovoid_nests": ("blue-grey ovoid nests", "large blue-gray ovoid nests", "bluish-grey nests"),
    "ulceration": ("ulceration", "a crusted erosion", "an ulcerated area with a brown crust"),
    "shiny_areas": ("shiny white-pink areas", "pearly areas", "a pearly, translucent surface"),
    "milia_like_cysts": ("milia-like cysts", "multiple milia-like cysts", "whitish milia-like cysts"),
    "comedo_like_openings": (
        "comedo-like openings", "dark comedo-like openings", "keratin plugs in comedo-like openings",
    ),
    "ridges": (
        "fissures and ridges", "a cerebriform pattern", "cerebriform fissures and ridges", "gyri and sulci",
    ),
    "scale": ("surface scale", "white-yellow scale", "adherent whitish scale", "a scaly surface"),
    "strawberry": (
        "a strawberry pattern", "a red pseudonetwork with pale follicles", "a strawberry-like red pseudonetwork",
    ),
    "dotted_vessels": ("dotted vessels", "red dots", "dotted and glomerular vessels"),
    "central_white_patch": (
        "a central white patch", "a central white scar-like patch", "a whitish scar-like centre",
    ),
    "keratin": ("a central mass of keratin", "a white-yellow keratin mass", "a plug of keratin in the middle"),
    "lacunae": (
        "red lacunae", "well-demarcated lacunae", "vascular lacunae", "clustered red lacunae", "lagoons of blood",
    ),
}  # fmt: skip
_NO_SIGNS = ("no distinct dermoscopic structures", "no specific dermoscopic criteria", "little discernible structure")
_NAMES = {  # with the article before the bar
    "AKIEC": ("an|actinic keratosis", "|Bowen's disease", "a|squamous cell carcinoma in situ", "a|solar keratosis"),
    "BCC": ("a|basal cell carcinoma", "a|BCC", "a|basalioma"),
    "BKL": ("a|benign keratosis", "a|seborrhoeic keratosis", "a|seborrheic keratosis", "a|keratosis-like lesion"),
    "DF": ("a|dermatofibroma", "a|fibrous histiocytoma of the skin"),
    "MEL": ("a|melanoma", "a|malignant melanoma", "a|cutaneous melanoma"),
    "NV": ("a|melanocytic nevus", "a|benign mole", "a|melanocytic naevus", "a|nevus"),
    "VASC": ("a|vascular lesion", "an|angioma", "a|haemangioma", "a|cherry angioma"),
    "SCC": (
        "a|squamous cell carcinoma",
        "a|cutaneous squamous cell carcinoma",
        "a|squamous cell carcinoma (SCC)",
        "an|epidermoid carcinoma",
    ),
}
_VAGUE_TEXTS = (
    "dermoscopic image of a skin lesion", "close-up photograph of a lesion, histopathology pending",
    "skin lesion, follow-up advised", "dermoscopy of a solitary lesion submitted for a second opinion",
    "polarised or contact dermoscopy of the skin, no clinical data available", "lesion measuring about {size} mm",
    "single lesion on the skin, stable according to the patient", "dermatoscopic picture, diagnosis deferred",
)  # fmt: skip
_SHORT_TEXTS = (
    "{noun}", "dermoscopic image of {a_noun}", "dermoscopy of {a_noun}", "{noun}, about {size} mm across",
    "a photograph of {a_noun} taken with a dermatoscope", "histopathologically confirmed {noun}",
)  # fmt: skip
_NAMED_TEXTS = (
    "{noun} with {signs}", "dermoscopy of {a_noun} showing {signs}", "{signs}, consistent with {a_noun}",
    "{looks} with {signs}; the features are those of {a_noun}", "findings in keeping with {a_noun}: {signs}",
    "histopathology confirmed {a_noun}; dermoscopy had shown {signs}", "{signs}. Diagnosis: {noun}",
    "{noun} presenting as {looks} with {signs}", "{looks}, diagnosed as {a_noun}, with {signs}",
)  # fmt: skip
_PLAIN_TEXTS = (
    "{looks} with {signs}", "dermoscopy shows {signs} in {looks}", "{signs} can be seen within {looks}",
    "{looks}. Dermoscopy reveals {signs}", "{looks} characterised by {signs}",
    "dermoscopic photograph of {looks}, with {signs}", "{signs} in {looks} of about {size} mm",
)  # fmt: skip
_DENIALS = {  # text -> structures that must all be absent
    "no pigment network": ("network", "atypical_network", "peripheral_network"),
    "no blue-white veil is seen": ("blue_white_veil",),
    "vessels are not visible": ("arborising_vessels", "dotted_vessels", "lacunae"),
    "no arborising vessels": ("arborising_vessels",),
    "there is no ulceration": ("ulceration",),
    "neither streaks nor regression": ("streaks", "regression"),
    "milia-like cysts and comedo-like openings are absent": ("milia_like_cysts", "comedo_like_openings"),
}
_MARKS = {
    "hairs": ("hairs cross the field", "some hairs overlie the skin", "the view is partly covered by hair"),
    "ruler": ("a millimetre scale is included", "ruler marks at the edge of the picture"),
}


def caption(study: "SkinStudy", generator: np.random.Generator) -> str:
    """One to three sentences about a study: some vague, some of description only, some with the diagnosis."""
    noun = _pick(generator, _NAMES[study.name])
    slots = {
        "noun": noun.partition("|")[2],
        "a_noun": noun.replace("|", " ").strip(),
        "looks": _looks(study, generator),
        "signs": _signs(study, generator),
        "size": round(2 * study.traits.radius),
    }
    kind, adds = generator.random(2)
    if kind < _VAGUE:
        return _sentences([_pick(generator, _VAGUE_TEXTS).format(**slots)])
    if kind < _VAGUE + _SHORT:
        texts = _SHORT_TEXTS
    else:
        texts = _NAMED_TEXTS if kind < _VAGUE + _SHORT + _NAMED else _PLAIN_TEXTS
    added = [_pick(generator, options) for options in (_denied(study), _marks(study)) if options]
    return _sentences([_pick(generator, texts).format(**slots), *added[: 1 if adds < 0.3 else 0]])


def _looks(study: "SkinStudy", generator: np.random.Generator) -> str:
    """The lesion at first sight, with its article: "an asymmetric, dark brown lesion with an irregular border"."""
    traits = study.traits
    words = []
    if traits.asymmetry > 0.55:
        words.append(_pick(generator, ("asymmetric", "asymmetrical")))
    elif traits.asymmetry < 0.25:
        words.append(_pick(generator, ("symmetric", "symmetrical", "regularly shaped")))
    words.append(_colour(study, generator))
    borders = []
    if traits.irregularity > 0.55:
        borders += ["an irregular border", "notched, irregular edges"]
    if traits.sharpness > 0.7:
        borders += ["a sharply demarcated border", "abrupt edges"]
    elif traits.sharpness < 0.3:
        borders += ["an ill-defined border", "blurred margins"]
    lesion = f"{', '.join(words)} {_pick(generator, ('lesion', 'macule or plaque', 'lesion', 'spot'))}"
    lesion = f"{'an' if lesion[0] in 'aeiou' else 'a'} {lesion}"
    return f"{lesion} with {_pick(generator, borders)}" if borders and generator.random() < 0.6 else lesion


def _colour(study: "SkinStudy", generator: np.random.Generator) -> str:
    traits = study.traits
    if traits.melanin > 0.35 and (traits.variegation > 0.6 or {"blue_white_veil", "regression"} & set(study.shown)):
        return _pick(generator, ("multicoloured", "variegated", "unevenly coloured"))
    if traits.melanin < 0.45 and traits.blood > 0.2:
        return _pick(generator, ("red", "reddish") if traits.blood > 0.45 else ("pink", "pinkish", "rosy"))
    if traits.melanin > 0.9:
        return _pick(generator, ("dark brown", "deeply pigmented", "brown-black"))
    return _pick(generator, ("brown", "medium brown") if traits.melanin > 0.45 else ("light brown", "pale", "tan"))


def _signs(study: "SkinStudy", generator: np.random.Generator) -> str:
    """A list of up to three structures, the strongest mostly first."""
    named = [_pick(generator, _SIGNS[name]) for name in study.shown[:3]]
    if not named:
        return _pick(generator, _NO_SIGNS)
    if len(named) > 1 and generator.random() < 0.3:
        named = named[::-1]
    return " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]


def _denied(study: "SkinStudy") -> list[str]:
    """What may be said to be missing."""
    return [text for text, names in _DENIALS.items() if not any(getattr(study.structures, name) for name in names)]


def _marks(study: "SkinStudy") -> list[str]:
    """What may be said of hairs and marks."""
    drawn = {"hairs": study.skin.hair > 0.3, "ruler": study.acquisition.ruler > 0}
    return [text for mark, texts in _MARKS.items() if drawn[mark] for text in texts]


def _pick(generator: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(generator.integers(len(options)))]


def _sentences(texts: Sequence[str]) -> str:
    """Capitalise, end with a full stop, join."""
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts)

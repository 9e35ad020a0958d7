"""What findings are called in English and Spanish, and the pairs of prompts that state and deny them.

Med-UniC's Spanish prompts were written by native speakers (Sect. 4.2); the names here are those of Spanish reports, in
full spelling. PadChest's reports are stemmed: `nbcore.data.spanish.stemmed` brings prompts into their form.
"""

from collections.abc import Iterable

from nbcore.data.manifest import load_manifest
from nbcore.errors import UsageError
from nbcore.validation import nearest

# The classes of the chest data sets, whatever their case. Both languages are equally specific.
_NAMES: dict[str, dict[str, str]] = {
    "atelectasis": {"en": "atelectasis", "es": "atelectasia"},
    "cardiomegaly": {"en": "cardiomegaly", "es": "cardiomegalia"},
    "consolidation": {"en": "consolidation", "es": "consolidación"},
    "edema": {"en": "edema", "es": "edema"},
    "effusion": {"en": "pleural effusion", "es": "derrame pleural"},
    "emphysema": {"en": "emphysema", "es": "enfisema"},
    "enlarged cardiomediastinum": {"en": "enlarged cardiomediastinum", "es": "ensanchamiento cardiomediastínico"},
    "fibrosis": {"en": "fibrosis", "es": "fibrosis"},
    "foreign object": {"en": "foreign object", "es": "cuerpo extraño"},
    "fracture": {"en": "fracture", "es": "fractura"},
    "heart insufficiency": {"en": "heart insufficiency", "es": "insuficiencia cardíaca"},
    "hernia": {"en": "hiatal hernia", "es": "hernia de hiato"},
    "hilar enlargement": {"en": "hilar enlargement", "es": "hilios prominentes"},
    "infiltration": {"en": "infiltration", "es": "infiltrado"},
    "lung lesion": {"en": "lung lesion", "es": "lesión pulmonar"},
    "lung opacity": {"en": "lung opacity", "es": "opacidad pulmonar"},
    "mass": {"en": "mass", "es": "masa"},
    "no finding": {"en": "normal chest radiograph", "es": "radiografía de tórax normal"},
    "nodule": {"en": "nodule", "es": "nódulo"},
    "pleural effusion": {"en": "pleural effusion", "es": "derrame pleural"},
    "pleural other": {"en": "other pleural abnormality", "es": "otra alteración pleural"},
    "pleural_thickening": {"en": "pleural thickening", "es": "engrosamiento pleural"},
    "pneumonia": {"en": "pneumonia", "es": "neumonía"},
    "pneumothorax": {"en": "pneumothorax", "es": "neumotórax"},
    "pulmonary edema": {"en": "pulmonary edema", "es": "edema pulmonar"},
    "support devices": {"en": "support devices", "es": "dispositivos de soporte"},
    "vascular redistribution": {"en": "vascular redistribution", "es": "redistribución vascular"},
}
_TEMPLATES: dict[str, dict[str, tuple[str, str]]] = {
    "paper": {"en": ("{}", "No {}"), "es": ("{}", "No hay {}")},
    "official": {"en": ("{}", "No {}"), "es": ("Hallazgos consistentes con {}", "No {}")},
    "official on PadChest": {"en": ("{}", "No {}"), "es": ("{}", "No {}")},
}


def prompt_pairs(classes: Iterable[str], language: str, *, style: str = "paper") -> tuple[list[str], list[str]]:
    """Prompts that state and prompts that deny each finding (Med-UniC, Sect. 4.2).

    Args:
        classes: names of classes as in the manifests, in any case.
        language: "en" or "es".
        style: "paper": "{finding}" and "No {finding}", in Spanish "No hay {finding}"; "official": the templates with
            which the official code reads CheXpert's test set; "official on PadChest": those for PadChest.

    Returns:
        Positive and negative prompts, in the order of the classes.

    Raises:
        UsageError: an unknown class, language or style.
    """
    if style not in _TEMPLATES:
        raise UsageError(f"unknown style of prompts {style!r}{nearest(style, list(_TEMPLATES))}")
    if language not in _TEMPLATES[style]:
        raise UsageError(f"unknown language of prompts {language!r}{nearest(language, list(_TEMPLATES[style]))}")
    positive, negative = _TEMPLATES[style][language]
    names = [_names(finding)[language] for finding in classes]
    return [positive.format(name) for name in names], [negative.format(name) for name in names]


def finding_terms(name: str) -> dict[str, str]:
    """What the outlined finding of a data set is called in each language: {"en": "pneumothorax", "es": "neumotórax"}.

    Args:
        name: of a data set with a single class ("siim-acr", "rsna-pneumonia"), or whose layout names the class that is
            outlined ("chexlocalize").

    Raises:
        UsageError: no such data set, it has several classes, or its class has no Spanish name here.
    """
    manifest = load_manifest(name)
    outlined = getattr(manifest.layout, "outlined", None)
    classes = [outlined] if outlined else manifest.classes
    if len(classes) != 1:
        raise UsageError(f"{name}: a term is wanted for its outlined finding, but it has {len(classes)} classes.")
    return dict(_names(classes[0]))


def _names(finding: str) -> dict[str, str]:
    if finding.lower() not in _NAMES:
        hint = nearest(finding.lower(), list(_NAMES))
        raise UsageError(f"no English and Spanish name is known for the class {finding!r}{hint}")
    return _NAMES[finding.lower()]

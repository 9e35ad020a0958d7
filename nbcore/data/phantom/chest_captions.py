"""A line or two under a chest radiograph, as pictures in teaching files and articles have them."""

from collections.abc import Sequence

import numpy as np

from nbcore.data.phantom import reports
from nbcore.data.phantom.world import ChestStudy

_PICTURES = (
    "chest radiograph", "chest x-ray", "frontal chest radiograph", "chest x ray", "radiograph of the chest", "cxr",
)  # fmt: skip
_NAMES = {
    "covid": ("covid-19 pneumonia", "covid-19"),
    "edema": ("pulmonary edema", "pulmonary oedema"),
    "effusion": ("pleural effusion",),
    "enlarged_mediastinum": ("a widened mediastinum",),
    "fibrosis": ("pulmonary fibrosis", "fibrotic scarring"),
    "foreign_object": ("a foreign object",),
    "fracture": ("a rib fracture",),
    "hernia": ("a hiatal hernia",),
    "mass": ("a lung mass", "a pulmonary mass"),
    "nodule": ("a pulmonary nodule", "a lung nodule"),
    "pleural_thickening": ("pleural thickening",),
    "pneumonia": ("pneumonia", "lung infection with pneumonia"),
    "bacterial": ("bacterial pneumonia", "lobar pneumonia", "pneumonia with consolidation and air bronchograms"),
    "viral": ("viral pneumonia", "pneumonia with interstitial infiltrates"),
    "support_devices": ("a support device",),
    "tuberculosis": (
        "tuberculosis", "pulmonary tuberculosis", "tuberculosis (TB)", "TB with cavities and fibronodular opacities",
        "cavitary tuberculosis of the upper lobe",
    ),
}  # fmt: skip
_NORMAL = (
    "normal {picture}", "{picture} without disease", "normal {picture} with clear lungs",
    "{picture} of a healthy person", "{picture}, no abnormality", "clear lungs and a normal heart, {picture}",
)  # fmt: skip
_DISEASED = ("{picture} of a patient with {names}", "{picture} showing {names}", "{names}, {picture}", "{names}")


def caption(study: ChestStudy, generator: np.random.Generator) -> str:
    """The impression of its report, its findings, or a plain title that names up to three things to be seen."""
    kind = generator.random()
    report = reports.write(study, "en")
    if kind < 0.4:
        return report.impression
    if kind < 0.6 and report.findings:
        return f"{report.findings} {report.impression}"
    return _title(study, generator)


def _title(study: ChestStudy, generator: np.random.Generator) -> str:
    def pick(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    clearest = sorted(study.findings, key=lambda finding: -finding.visibility)[:3]
    names = []
    for finding in clearest:
        known = _NAMES.get(finding.name, (finding.name.replace("_", " "),))
        names.append(pick((*known, *_NAMES.get(finding.kind, ()))))
    title = pick(_DISEASED if names else _NORMAL).format(picture=pick(_PICTURES), names=" and ".join(names))
    return f"{title[0].upper()}{title[1:]}."

"""The phantom's reports agree with the latent state, in both languages."""

import re

import pytest

from nbcore.data.phantom import reports, world
from nbcore.errors import UsageError

NAMED = {  # finding -> what names it, in English and in Spanish
    "atelectasis": (r"atelectasis", r"atelect"),
    "cardiomegaly": (
        r"cardiomegaly|enlargement of the|increased cardiothoracic", r"cardiomegalia|aumentad[oa]|aumento del índice",
    ),
    "consolidation": (r"consolidat", r"condensación|consolidación"),
    "covid": (r"COVID-19", r"COVID-19"),
    "edema": (r"edema", r"edema"),
    "effusion": (r"effusion", r"derrame"),
    "emphysema": (r"emphysema", r"enfisema"),
    "enlarged_mediastinum": (r"mediastin", r"mediast"),
    "fibrosis": (r"fibro", r"fibros"),
    "foreign_object": (r"foreign body", r"cuerpo extraño"),
    "fracture": (r"fracture", r"fractura"),
    "hernia": (r"hiat\w+ hernia", r"hernia (de hiato|hiatal)"),
    "infiltration": (r"infiltrate", r"infiltrado"),
    "mass": (r"mass", r"masa"),
    "nodule": (r"nodul", r"n[oó]dul"),
    "pleural_thickening": (r"pleural thickening", r"engrosamiento|paquipleuritis"),
    "pneumonia": (r"pneumonia", r"neumon[ií]a"),
    "pneumothorax": (r"pneumothorax", r"neumotórax"),
    "support_devices": (
        r"pacemaker|catheter|central line|tube\b|wires",
        r"marcapasos|catéter|vía central|\btubo\b|sonda|SNG|esternotomía"
    ),
    "tuberculosis": (r"tuberculosis", r"tuberculosis"),
}  # fmt: skip
LANGUAGES = ("en", "es")
DENIAL = {"en": r"^(there is )?(no|negative)\b", "es": r"^(sin\b|no se (observa|aprecia|identifica)|no hay)"}


def sentences(report: reports.Report) -> list[str]:
    return [text for text in re.split(r"\.\s*", f"{report.findings} {report.impression}") if len(text) > 2]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", world.FINDINGS)
def test_the_only_finding_is_always_reported_with_its_side(language, name):
    sides = {
        "en": {"right": r"\bright", "left": r"\bleft"},
        "es": {"right": r"derech|\bLSD|\bLID|lóbulo medio", "left": r"izquierd|\bLSI|\bLII|língula"},
    }
    for study in world.sample_studies(0, range(40), prevalence=world.only(**{name: 1})):
        report = reports.write(study, language)
        assert re.search(NAMED[name][LANGUAGES.index(language)], report.impression, re.I), report
        side = study.find(name).side
        if side in ("right", "left"):
            other = "left" if side == "right" else "right"
            assert re.search(sides[language][side], report.impression, re.I), report
            assert not re.search(sides[language][other], report.impression, re.I), report


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_denied_is_absent_and_what_is_absent_is_not_claimed(language):
    column = LANGUAGES.index(language)
    denied = {"consolidation", "effusion", "pneumothorax", "edema", "nodule", "fracture"}
    seen = set()
    for study in world.sample_studies(1, range(600)):
        shown = {name for finding in study.findings for name in finding.shows}
        for text in sentences(reports.write(study, language)):
            for name in denied:
                if re.search(NAMED[name][column], text, re.I):
                    if re.search(DENIAL[language], text, re.I) and "descartar" not in text:
                        seen.add(name)
                        assert name not in shown, (name, text)
                    elif name not in ("consolidation", "nodule"):  # words that pneumonia and tuberculosis share
                        assert name in shown, (name, text)
    assert seen == denied


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_clear_chest_is_called_clear(language):
    for study in world.sample_studies(0, range(60), prevalence=world.only()):
        report = reports.write(study, language)
        assert report.impression.rstrip(".").lower() in reports.GRAMMARS[language].clear
    for study in world.sample_studies(0, range(60), prevalence=world.only(consolidation=1)):
        text = " ".join(sentences(reports.write(study, language))).lower()
        assert not re.search(r"lungs are clear|normal chest|campos pulmonares sin|sin hallazgos pat", text)


def test_both_languages_report_the_same_findings():
    for study in world.sample_studies(2, range(300)):
        english, spanish = (" ".join(sentences(reports.write(study, language))) for language in LANGUAGES)
        for name in ("hernia", "emphysema", "covid", "foreign_object", "support_devices"):
            mentioned = [bool(re.search(pattern, text, re.I)) for pattern, text in zip(NAMED[name], (english, spanish))]
            assert mentioned[0] == mentioned[1], (name, english, spanish)


@pytest.mark.parametrize("language", LANGUAGES)
def test_reports_are_varied_clean_and_repeatable(language):
    studies = world.sample_studies(0, range(1500))
    written = [reports.write(study, language) for study in studies]
    assert written[7] == reports.write(studies[7], language)
    assert len({(report.findings, report.impression) for report in written}) > 1300
    hedges = r"possible|cannot be excluded|suspected" if language == "en" else r"posible|descartar|probable"
    assert 0.05 < sum(bool(re.search(hedges, report.impression.lower())) for report in written) / 1500 < 0.6
    for report in written:
        assert report.impression
        for section in (report.indication, report.findings, report.impression):
            assert not re.search(r"[{}|]|\.\.|\s\s|\s[.,]", section), section
            assert not section or section.endswith(".")


def test_spanish_has_its_accents():
    text = " ".join(reports.write(study, "es").findings for study in world.sample_studies(0, range(200), "south"))
    assert {"neumotórax", "índice", "cardiotorácico"} <= set(re.findall(r"\w+", text.lower()))


def test_an_unknown_language_is_named():
    with pytest.raises(UsageError, match="'fr'"):
        reports.write(world.sample_studies(0, [0])[0], "fr")

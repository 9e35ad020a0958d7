"""Names of findings and prompts: every class has them, the templates are the paper's, mistakes are told."""

import unicodedata

import pytest

from nbcore.data.manifest import load_manifest
from nbcore.data.prompts import finding_terms, prompt_pairs
from nbcore.errors import UsageError

CHEST_SETS = ["chexpert", "chexlocalize", "mimic-cxr", "padchest", "nih-chestxray14", "rsna-pneumonia", "siim-acr"]


def test_the_papers_prompts():
    classes = ["Pleural Effusion", "heart insufficiency"]
    assert prompt_pairs(classes, "en") == (
        ["pleural effusion", "heart insufficiency"],
        ["No pleural effusion", "No heart insufficiency"],
    )
    assert prompt_pairs(classes, "es") == (
        ["derrame pleural", "insuficiencia cardíaca"],
        ["No hay derrame pleural", "No hay insuficiencia cardíaca"],
    )


def test_the_official_prompts_differ_in_spanish_alone():
    assert prompt_pairs(["Consolidation"], "en", style="official") == prompt_pairs(["Consolidation"], "en")
    positive, negative = prompt_pairs(["Consolidation"], "es", style="official")
    assert (positive, negative) == (["Hallazgos consistentes con consolidación"], ["No consolidación"])


@pytest.mark.parametrize("name", CHEST_SETS)
def test_every_class_has_names_of_its_own_in_both_languages(name):
    classes = load_manifest(name).classes
    for language in ("en", "es"):
        positive, negative = prompt_pairs(classes, language)
        assert len(set(positive)) == len(set(negative)) == len(classes)
        assert all(text == unicodedata.normalize("NFC", text) == text.strip() for text in positive)


def test_english_names_are_plain_letters_and_spanish_ones_keep_their_accents():
    classes = load_manifest("chexpert").classes
    assert all(text.isascii() for text in prompt_pairs(classes, "en")[0])
    spanish = dict(zip(classes, prompt_pairs(classes, "es")[0]))
    assert spanish["Pneumothorax"] == "neumot\u00f3rax"
    assert spanish["Pneumonia"] == "neumon\u00eda"
    assert spanish["Lung Lesion"] == "lesi\u00f3n pulmonar"


def test_terms_of_a_finding():
    assert finding_terms("siim-acr") == {"en": "pneumothorax", "es": "neumotórax"}
    assert finding_terms("rsna-pneumonia") == {"en": "pneumonia", "es": "neumonía"}
    assert finding_terms("chexlocalize") == {"en": "pleural effusion", "es": "derrame pleural"}


def test_terms_that_are_changed_leave_the_names_alone():
    finding_terms("siim-acr")["es"] = "otra cosa"
    assert prompt_pairs(["Pneumothorax"], "es")[0] == ["neumotórax"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prompt_pairs(["Pneumothoraxx"], "en"), "'Pneumothoraxx'.*did you mean 'pneumothorax'"),
        (lambda: prompt_pairs(["Edema"], "ess"), "language of prompts 'ess'.*did you mean 'es'"),
        (lambda: prompt_pairs(["Edema"], "es", style="papers"), "style of prompts 'papers'.*did you mean 'paper'"),
        (lambda: finding_terms("chexpert"), "chexpert: .* 14 classes"),
        (lambda: finding_terms("siim"), "siim"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(UsageError, match=message):
        call()

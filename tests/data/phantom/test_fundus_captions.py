"""Captions of the fundus world: varied, and true of what is drawn."""

import re

import numpy as np
import pytest

from nbcore.data.phantom import fundus

NAMED = {  # what a grade's names have in common -> the grade
    r"no (apparent |diabetic |signs of diabetic )retinopathy|normal (fundus|retina without)": 0,
    r"mild|stage 1|grade 1|background": 1,
    r"moderate|stage 2|grade 2": 2,
    r"severe|stage 3|grade 3|pre-proliferative": 3,
    r"(?<!non-)(?<!pre-)\bproliferative|\bPDR|stage 4|grade 4": 4,
}
SIGNS = {  # words -> the kinds one of which must be there when they are said, and none when they are denied
    r"microaneurysm|microaneurysms": ("microaneurysm",),
    r"dot and blot haemorrhages|blot haemorrhages|intraretinal haemorrhages|retinal hemorrhages": ("haemorrhage",),
    r"flame": ("flame",),
    r"(hard|lipid) exudates": ("exudates",),
    r"cotton-wool|soft exudate": ("cotton_wool",),
    r"venous beading|beading of the retinal": ("beading",),
    r"IRMA|intraretinal microvascular": ("irma",),
    r"neovascularisation|new vessels|NVD|NVE": ("disc_vessels", "new_vessels"),
    r"vitreous haemorrhage|blood in the vitreous": ("vitreous",),
    r"preretinal|subhyaloid": ("preretinal",),
    r"fibrous|fibrovascular": ("fibrous",),
    r"laser|photocoagulation": ("laser",),
    r"drusen": ("drusen",),
    r"naevus": ("naevus",),
    r"myopic|peripapillary": ("crescent",),
    r"asteroid": ("asteroid",),
    r"dust": ("dust",),
    r"reflection": ("reflection",),
}
DENIAL = re.compile(r"^(No|No evidence of|No sign of|Without) (?!(apparent |diabetic |signs of diabetic )retinopathy)")


@pytest.fixture(scope="module")
def written() -> list[tuple[fundus.FundusStudy, str]]:
    studies = fundus.sample_studies(5, range(900), prevalence=dict.fromkeys(fundus.CLASSES, 0.2))
    return [(study, fundus.caption(study, np.random.default_rng(study.seed + 1))) for study in studies]


def test_a_caption_depends_on_study_and_generator_alone(written):
    study, text = written[7]
    assert fundus.caption(study, np.random.default_rng(study.seed + 1)) == text
    assert len({fundus.caption(study, np.random.default_rng(i)) for i in range(60)}) > 40


def test_captions_are_one_to_three_whole_sentences(written):
    for _, text in written:
        parts = text.removesuffix(".").split(". ")
        assert 1 <= len(parts) - ("Impression: " in text) <= 3, text
        assert text.endswith(".") and not re.search(r"  |\.\.|[{}]| [.,:]|,,", text), text
        assert all(part[0].isupper() for part in parts), text


def test_a_grade_that_is_named_is_the_grade(written):
    named = 0
    for study, text in written:
        for pattern, grade in NAMED.items():
            if re.search(pattern, text, re.IGNORECASE):
                assert study.label == grade, text
                named += 1
    assert 0.3 < named / len(written) < 0.7


def test_what_is_said_is_there_and_what_is_denied_is_not(written):
    said = dict.fromkeys(SIGNS, 0)
    denied = 0
    for study, text in written:
        kinds = {lesion.kind for lesion in study.lesions}
        for sentence in text.removesuffix(".").split(". "):
            absent = DENIAL.match(sentence)
            denied += bool(absent)
            if absent and "haemorrhages" in sentence:
                assert not kinds & {"haemorrhage", "flame", "preretinal", "vitreous"}, text
            for pattern, needed in SIGNS.items():
                if re.search(pattern, sentence, re.IGNORECASE):
                    assert bool(kinds.intersection(needed)) != bool(absent), (text, kinds)
                    said[pattern] += not absent
    assert min(said.values()) > 0
    assert denied > 200


def test_places_and_eyes_are_the_studys_own(written):
    for study, text in written:
        assert f"{'left' if study.eye == 'right' else 'right'} eye" not in text.lower(), text
        if "four quadrants" in text or "throughout the retina" in text:
            assert len(study.quadrants("haemorrhage")) == 4
        for vertical, side in re.findall(r"in the (superior|inferior) (nasal|temporal) quadrant", text):
            assert study.quadrants("haemorrhage") == {(vertical, side)}
        if "a single" in text:
            assert any(len(study.find(kind)) == 1 for kind in ("haemorrhage", "cotton_wool", "flame"))


def test_a_share_tells_nothing_of_the_grade(written):
    telling = re.compile("|".join([*NAMED, *list(SIGNS)[:12], "healthy", "normal", "unremarkable"]), re.IGNORECASE)
    silent = np.mean([not telling.search(re.sub(r"diabetic retinopathy screening", "", text)) for _, text in written])
    assert 0.10 < silent < 0.20

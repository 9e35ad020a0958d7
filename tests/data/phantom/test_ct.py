"""The phantom CT world: its patients, scans and slices, the pictures of them, and what is said of them."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nbcore.data.phantom import ct
from nbcore.data.phantom.atlas import draw_atlas
from nbcore.errors import UsageError

BALANCED = dict.fromkeys(ct.CLASSES, 1 / 3)
SIGNS = {
    "ground_glass": r"ground-glass|\bggo\b", "consolidation": r"consolidat|dense opacity",
    "tree_in_bud": r"tree-in-bud|centrilobular", "effusion": r"effusion|pleural fluid",
    "nodule": r"lung nodule|solitary nodule", "scar": r"fibrous band|scarring",
}  # fmt: skip
DENIAL = r"^(no evidence of|no sign of|without|no) (?!pneumonia)"
CLEAR = r"clear lungs|lungs are clear|without focal opacity|no focal opacity"


def drawn(studies: list[ct.CtStudy], size: int = 64) -> np.ndarray:
    """Pictures without noise and shading of the kernel, as floats."""
    plain = [s.acquisition._replace(noise=0.0, sharpening=0.0, blur=0.01) for s in studies]
    return ct.render([replace(s, acquisition=a) for s, a in zip(studies, plain)], size).astype(float)


def healthy(count: int) -> list[ct.CtStudy]:
    """Slices of clear lungs in a plain window, half way down."""
    studies = ct.sample_studies(3, range(8 * count), prevalence={"Normal": 1.0})[::8]
    return [replace(study, lesions=(), height=0.55, body=study.body._replace(emphysema=-1.0)) for study in studies]


def test_a_study_depends_on_seed_hospital_and_index_alone():
    together = ct.sample_studies(0, range(40))
    assert ct.sample_studies(0, [17, 3]) == [together[17], together[3]]
    assert ct.sample_studies(1, [3]) != [together[3]]
    assert ct.sample_studies(0, [3], "south")[0].body != together[3].body


def test_slices_of_a_scan_go_down_one_chest_and_patients_keep_their_disease():
    scans, patients = {}, {}
    for study in ct.sample_studies(0, range(800)):
        scans.setdefault(study.scan, []).append(study)
        patients.setdefault(study.patient, []).append(study)
    assert Counter(map(len, scans.values())) == {1: 200, 2: 100, 4: 100}
    assert Counter(len({study.scan for study in group}) for group in patients.values()) == {1: 200, 2: 100}
    for group in scans.values():
        assert [study.index for study in group] == list(range(group[0].index, group[0].index + len(group)))
        assert len({(study.patient, study.acquisition, study.lesions) for study in group}) == 1
        assert len({study.seed for study in group}) == len(group)
        heights = [study.height for study in group]
        assert heights == sorted(heights) and heights[0] > 0.2 and heights[-1] < 0.85
    for group in patients.values():
        assert len({(study.label, study.mimics, study.body) for study in group}) == 1
        places = {tuple((lesion.kind, lesion.x, lesion.y) for lesion in study.lesions) for study in group}
        assert len(places) == 1  # the second scan shows the same lesions


def test_classes_have_their_shares():
    def shares(prevalence: dict | None) -> np.ndarray:
        studies = ct.sample_studies(0, range(1600), prevalence=prevalence)
        return np.bincount([*{s.patient: s.label for s in studies}.values()], minlength=3) / len(
            {s.patient for s in studies}
        )

    assert shares(None) == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    assert shares({"Normal": 0.2}) == pytest.approx([0.4, 0.2, 0.4], abs=0.06)
    assert shares({"Pneumonia": 1.0})[2] == 1


def test_diseases_have_their_patterns_and_some_patients_the_other_s():
    patients = {s.patient: s for s in ct.sample_studies(0, range(1600), prevalence=BALANCED)}.values()
    sick = [s for s in patients if s.name != "Normal"]
    assert np.mean([bool(s.mimics) for s in sick]) == pytest.approx(0.15, abs=0.05)
    assert not any(s.mimics for s in patients if s.name == "Normal")
    for study in patients:
        kinds = Counter(lesion.kind for lesion in study.lesions)
        pattern = study.mimics or study.name
        assert ("ground_glass" in kinds) == (pattern == "COVID-19")
        assert pattern != "Pneumonia" or kinds["consolidation"]
        assert pattern != "Normal" or set(kinds) <= {"nodule", "scar"}
    typical = {name: [s for s in sick if (s.mimics or s.name) == name] for name in ("COVID-19", "Pneumonia")}
    both = {
        name: np.mean([len({x.side for x in s.lesions if x.kind not in ("nodule", "scar")}) == 2 for s in group])
        for name, group in typical.items()
    }
    assert both["COVID-19"] > 0.9 and both["Pneumonia"] < 0.5
    back = np.mean([lesion.y > 0 for s in typical["COVID-19"] for lesion in s.lesions if lesion.kind == "ground_glass"])
    assert 0.65 < back < 0.95


def test_some_slices_of_the_sick_show_little():
    sick = [s for s in ct.sample_studies(0, range(600), prevalence=BALANCED) if s.name != "Normal"]
    empty = np.mean([not [lesion for lesion in s.shown if lesion.kind not in ("nodule", "scar")] for s in sick])
    assert 0.02 < empty < 0.2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"hospital": "east"}, "'east'"), ({"prevalence": {"covid": 0.5}}, "'covid'"),
        ({"prevalence": {"Normal": 0.7, "COVID-19": 0.5}}, "1.2"), ({"prevalence": {"Normal": -0.1}}, "-0.1"),
        ({"prevalence": dict.fromkeys(ct.CLASSES, 0.1)}, "0.3"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options: dict, named: str):
    with pytest.raises(UsageError, match=named):
        ct.sample_studies(0, [0], **options)


def test_a_picture_does_not_depend_on_its_batch():
    studies = ct.sample_studies(0, range(40))
    together = ct.render(studies, 64)
    assert together.shape == (40, 64, 64) and together.dtype == np.uint8
    for part in ([5], [39, 2, 17], range(20, 33)):
        np.testing.assert_array_equal(ct.render([studies[i] for i in part], 64), together[list(part)])
    assert ct.render([], 64).shape == (0, 64, 64)


@pytest.mark.parametrize("size", [48, 128])
def test_every_size_shows_the_same_scene(size: int):
    studies = ct.sample_studies(0, range(0, 24, 3))

    def tiles(images: np.ndarray) -> np.ndarray:  # averaged down to 16 x 16
        side = images.shape[1] // 16
        return images.reshape(len(images), 16, side, 16, side).mean((2, 4))

    large, small = tiles(drawn(studies, size)), tiles(drawn(studies, 64))
    assert np.abs(large - small).mean() < 2
    assert np.abs(small - np.roll(small, 1, axis=0)).mean() > 20


@pytest.mark.parametrize("kind", SIGNS)
def test_a_lesion_brightens_its_own_side_where_the_slice_passes_it(kind: str):
    studies = healthy(6)
    without = drawn(studies, 96)
    thin = 0.04 if kind in ("nodule", "scar") else 0.18
    lesion = ct.Lesion(kind, 1, 0.55, 0.12, 0.55, 0.22, thin, 0.2, 1.6, 1.0, 0.0, 0.0, 7)
    if kind == "effusion":
        lesion = lesion._replace(y=0.4, across=0.45)
    change = drawn([replace(study, lesions=(lesion,)) for study in studies], 96) - without  # (B, S, S)
    right_half, left_half = change[:, :, :46], change[:, :, 52:]  # of the patient; the midline is near the middle
    assert (left_half.max((1, 2)) > 30).all() and (left_half.mean((1, 2)) > 0.15).all()
    assert np.abs(right_half).mean() < 0.2
    away = [replace(study, lesions=(lesion._replace(z=0.9, high=0.3),)) for study in studies]
    np.testing.assert_array_equal(drawn(away, 96), without)


def test_crazy_paving_and_air_bronchograms_show_within_their_lesions():
    studies = healthy(6)
    glass = ct.Lesion("ground_glass", 1, 0.55, 0.12, 0.55, 0.3, 0.25, 0.2, 1.6, 0.7, 0.0, 0.0, 7)
    solid = glass._replace(kind="consolidation", density=1.0)
    pictures = {
        name: drawn([replace(study, lesions=(lesion,)) for study in studies], 96)
        for name, lesion in [
            ("glass", glass), ("paved", glass._replace(paving=1.0)),
            ("solid", solid), ("airy", solid._replace(bronchogram=1.0)),
        ]
    }  # fmt: skip
    assert ((pictures["paved"] - pictures["glass"]).max((1, 2)) > 15).all()
    assert ((pictures["solid"] - pictures["airy"]).max((1, 2)) > 40).all()
    assert ((pictures["solid"] - pictures["glass"]).max((1, 2)) > 40).all()


def test_slices_look_like_the_lung_window():
    north = drawn(healthy(12))
    middle = north[:, 20:44, 20:44]
    assert (north.mean((1, 2)) > 40).all() and (north.mean((1, 2)) < 170).all()
    assert (middle.max((1, 2)) > 220).all()  # mediastinum and spine
    assert (north[:, 24:40].min((1, 2)) < 80).all()  # lung
    assert 0.1 < np.mean((north > 20) & (north < 110)) < 0.7


def test_hospitals_differ_moderately():
    north, south = (
        ct.render(ct.sample_studies(0, range(0, 600, 6), hospital), 32).reshape(100, -1) for hospital in ct.HOSPITALS
    )
    distance = abs(north.mean() - south.mean()) / north.mean(1).std()
    assert 0.3 < distance < 4


def test_brightness_alone_does_not_give_the_class_away():
    studies = ct.sample_studies(0, range(600), prevalence=BALANCED)
    labels, pictures = np.array([s.label for s in studies]), ct.render(studies, 24).astype(float)
    features = np.stack([np.ones(600), pictures.mean((1, 2)) / 255, pictures.std((1, 2)) / 255], 1)
    weights = np.linalg.lstsq(features[:400], np.eye(3)[labels[:400]], rcond=None)[0]
    assert 0.25 < ((features[400:] @ weights).argmax(1) == labels[400:]).mean() < 0.55


@pytest.mark.parametrize("hospital", ct.HOSPITALS)
def test_captions_name_only_what_is_drawn_and_deny_only_what_is_not(hospital: str):
    named, denied = Counter(), Counter()
    for study in ct.sample_studies(1, range(600), hospital, BALANCED):
        text = ct.caption(study, np.random.default_rng(study.index))
        shown = {lesion.kind: lesion.side for lesion in study.shown}
        reached = {lesion.kind for lesion in study.lesions if lesion.section(study.height) > 0}
        for sentence in re.split(r"(?<=\.) ", text.lower()):
            found = {kind for kind, pattern in SIGNS.items() if re.search(pattern, sentence)}
            if re.match(DENIAL, sentence):
                denied.update(found or ["crazy paving"])
                assert not (found or {"ground_glass"}) & reached, (text, study)
            elif re.search(CLEAR, sentence):
                assert not set(shown) - {"nodule", "scar"}, (text, study)
            else:
                named.update(found)
                assert found <= set(shown), (text, study)
        if "both lungs" in text:
            assert any(len({x.side for x in study.shown if x.kind == kind}) == 2 for kind in shown)
        for level, bounds in {"carina": (0.34, 0.48), "heart": (0.48, 0.72), "lung bases": (0.72, 1.0)}.items():
            if f"level of the {level}" in text:
                assert bounds[0] <= study.height < bounds[1]
    assert named.keys() == SIGNS.keys()
    assert denied.keys() == {"ground_glass", "consolidation", "tree_in_bud", "effusion", "crazy paving"}


def test_captions_name_no_other_class_and_are_clean():
    names = {
        "COVID-19": r"(?<!non-)(?<!than )covid|sars|coronavirus",
        "Pneumonia": r"common pn|community|lobar pn|non-covid|than covid",
        "Normal": r"normal|no pneumonia|healthy",
    }
    studies = ct.sample_studies(2, range(600), prevalence=BALANCED)
    written = [ct.caption(study, np.random.default_rng(study.index)) for study in studies]
    told = [[name for name, pattern in names.items() if re.search(pattern, text.lower())] for text in written]
    assert all(found in ([], [study.name]) for found, study in zip(told, studies))
    assert 0.4 < np.mean([bool(found) for found in told]) < 0.65
    assert written[7] == ct.caption(studies[7], np.random.default_rng(7))
    assert len(set(written)) > 330
    for text in written:
        assert 1 <= len(re.findall(r"\.( |$)", text)) <= 3
        assert text[0].isupper() and text.endswith(".")
        assert not re.search(r"[{}|_]|\.\.|\s\s|\s[.,]|\ba [aeiou]|\ban [^aeiou]", text), text


def test_the_atlas_shows_slices_of_every_class_alike_without_colour():
    atlas = draw_atlas({"ct": 240}, 16, 0)
    assert atlas.images.shape == (240, 16, 16, 3) and (atlas.images == atlas.images[..., :1]).all()
    assert np.bincount(atlas.labels).min() > 50 and len(set(atlas.captions)) > 100

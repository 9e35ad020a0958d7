"""The fundus world: latent state, shares, pictures, and errors."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from nbcore.data.phantom import fundus
from nbcore.errors import UsageError

RED = ("microaneurysm", "haemorrhage", "flame")
CONFOUNDERS = {"drusen", "crescent", "naevus", "asteroid", "dust", "reflection"}
QUADRANTS = {(vertical, side) for vertical in ("superior", "inferior") for side in ("nasal", "temporal")}


def graded(grade: str, count: int, hospital: str = "north", seed: int = 0) -> list[fundus.FundusStudy]:
    return fundus.sample_studies(seed, range(count), hospital, {grade: 1.0})


def stream(grade: str) -> Iterator[fundus.FundusStudy]:
    return (fundus.sample_studies(0, [index], prevalence={grade: 1.0})[0] for index in range(1000))


def labels(count: int, hospital: str = "north", prevalence: dict[str, float] | None = None) -> np.ndarray:
    return np.array([study.label for study in fundus.sample_studies(0, range(count), hospital, prevalence)])


def test_a_study_depends_on_seed_hospital_and_index_alone():
    together = fundus.sample_studies(0, range(30))
    assert fundus.sample_studies(0, [17, 3]) == [together[17], together[3]]
    assert fundus.sample_studies(1, [3]) != [together[3]]
    assert fundus.sample_studies(0, [3], "south")[0].anatomy != together[3].anatomy


def test_patients_own_one_or_two_eyes_whose_grades_go_together():
    owned: dict[int, list[fundus.FundusStudy]] = {}
    for study in fundus.sample_studies(0, range(600)):
        owned.setdefault(study.patient, []).append(study)
    pairs = [group for group in owned.values() if len(group) == 2]
    assert {len(group) for group in owned.values()} == {1, 2}
    for first, second in pairs:
        assert second.index == first.index + 1
        assert {first.eye, second.eye} == {"left", "right"}
        assert first.anatomy == second.anatomy and first.camera != second.camera
    grades = np.array([[study.label for study in pair] for pair in pairs])
    assert np.corrcoef(grades.T)[0, 1] > 0.6
    assert (grades[:, 0] != grades[:, 1]).any()


def test_shares_are_those_of_idrid_unless_given(monkeypatch):
    monkeypatch.setattr(fundus, "_lesions", lambda *_: ())  # labels come before them, and are quick alone
    counts = np.bincount(labels(3000), minlength=5) / 3000
    np.testing.assert_allclose(counts, np.array([134, 20, 136, 74, 49]) / 413, atol=0.03)
    counts = np.bincount(labels(3000, "south", {"mild": 0.2, "severe": 0.5}), minlength=5) / 3000
    np.testing.assert_allclose(counts, [0.3 * 134 / 319, 0.2, 0.3 * 136 / 319, 0.5, 0.3 * 49 / 319], atol=0.03)
    assert set(labels(200, prevalence=dict.fromkeys(fundus.CLASSES, 0.2))) == set(range(5))


def test_signs_of_retinopathy_follow_the_scale():
    signs = {grade: graded(grade, 60) for grade in fundus.CLASSES}
    red = [np.mean([sum(len(study.find(kind)) for kind in RED) for study in signs[grade]]) for grade in fundus.CLASSES]
    assert red[0] == 0 < red[1] < red[2] < red[3]
    assert {lesion.kind for study in signs["mild"] for lesion in study.lesions} - CONFOUNDERS == {"microaneurysm"}
    assert all(study.quadrants("haemorrhage") == QUADRANTS for study in signs["severe"])
    assert np.mean([len(study.quadrants("haemorrhage")) == 4 for study in signs["moderate"]]) < 0.1
    for grade, studies in signs.items():
        grown = [bool(study.find("new_vessels") or study.find("disc_vessels")) for study in studies]
        assert all(grown) if grade == "proliferative" else not any(grown)


def test_confounders_do_not_depend_on_the_grade():
    for studies in zip(graded("normal", 60), graded("severe", 60)):
        healthy, sick = ([lesion for lesion in study.lesions if lesion.kind in CONFOUNDERS] for study in studies)
        assert healthy == sick


@pytest.mark.parametrize("hospital", fundus.HOSPITALS)
def test_lesions_lie_in_the_field(hospital):
    for study in graded("proliferative", 40, hospital) + graded("severe", 40, hospital):
        camera = study.camera
        for lesion in study.lesions:
            if lesion.kind not in ("beading", "disc_vessels", "crescent"):  # these are at the disc
                assert np.hypot(lesion.x - camera.centre, lesion.y) < camera.radius - 0.05
                assert abs(lesion.y) < camera.cut - 0.05


def test_a_picture_does_not_depend_on_its_companions():
    studies = fundus.sample_studies(0, range(40), prevalence=dict.fromkeys(fundus.CLASSES, 0.2))
    together = fundus.render(studies, 64)
    assert together.shape == (40, 64, 64, 3) and together.dtype == np.uint8
    for part in ([5], [39, 2, 17], range(20, 33)):
        np.testing.assert_array_equal(fundus.render([studies[i] for i in part], 64), together[list(part)])
    assert fundus.render([], 64).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("size", [128, 256])
def test_every_size_shows_the_same_scene(size):
    studies = graded("proliferative", 6) + graded("severe", 6)
    studies = [replace(study, camera=study.camera._replace(noise=0.0)) for study in studies]
    small, large = fundus.render(studies, 64).astype(float), fundus.render(studies, size).astype(float)
    shrunk = large.reshape(len(studies), 64, size // 64, 64, size // 64, 3).mean((2, 4))
    difference = np.abs(small - shrunk).mean((1, 2, 3))
    assert difference.max() < 6  # of 255; pictures of different eyes differ by some 30
    assert np.abs(small - shrunk[::-1]).mean() > 15


def test_the_disc_lies_nasally_and_is_bright():
    studies = graded("normal", 40)
    clear = [replace(study, lesions=(), camera=study.camera._replace(haze=0.0, blur=0.0)) for study in studies]
    assert {study.eye for study in studies} == {"left", "right"}
    for study, green in zip(studies, fundus.render(clear, 128)[..., 1]):
        assert (study.disc[0] > study.fovea[0]) == (study.eye == "right")
        (x, y), beside = study.disc, 1.8 * study.anatomy.disc
        around = np.mean([green_at(green, x - beside, y), green_at(green, x + beside, y)])
        assert green_at(green, x, y) > 1.25 * around
        assert green_at(green, *study.fovea) < green_at(green, x, y)


def green_at(green: np.ndarray, x: float, y: float) -> float:
    """80th percentile over 9 x 9 pixels of a picture (S, S), so that a vessel does not count."""
    column, row = (int((value + 1) / 2 * len(green)) for value in (x, y))
    return float(np.percentile(green[row - 4 : row + 5, column - 4 : column + 5], 80))


@pytest.mark.parametrize(
    ("kind", "grade"),
    [(kind, "normal") for kind in sorted(CONFOUNDERS)]
    + [(kind, "severe") for kind in ("beading", "irma", "cotton_wool", "exudates", *RED)]
    + [(k, "proliferative") for k in ("laser", "vitreous", "fibrous", "preretinal", "disc_vessels", "new_vessels")],
)
def test_a_lesion_changes_the_picture_where_it_lies(kind, grade):
    study = next(study for study in stream(grade) if study.find(kind))
    study = replace(study, camera=study.camera._replace(blur=0.0, noise=0.0, haze=0.0))
    drawn, without = fundus.render([replace(study, lesions=tuple(study.find(kind))), replace(study, lesions=())], 128)
    change = np.abs(drawn.astype(int) - without).max(-1)
    assert (change > 8).any()
    grid = (np.arange(128) + 0.5) / 64 - 1
    far = np.ones((128, 128), bool)
    for lesion in study.find(kind):
        far &= np.hypot(grid - lesion.x, grid[:, None] - lesion.y) > 2.6 * lesion.size + 0.06
    if kind != "beading":  # of vessels everywhere
        assert change[far].max(initial=0) <= 2


def test_colour_alone_does_not_tell_the_grade_and_hospitals_differ():
    from sklearn.linear_model import LogisticRegression

    means = []
    for hospital in fundus.HOSPITALS:
        studies = fundus.sample_studies(0, range(300), hospital, dict.fromkeys(fundus.CLASSES, 0.2))
        images, grades = fundus.render(studies, 32), np.array([study.label for study in studies])
        colour = images.mean((1, 2))
        colour = (colour - colour.mean(0)) / colour.std(0)
        assert LogisticRegression().fit(colour[:200], grades[:200]).score(colour[200:], grades[200:]) < 0.35
        means.append(images.mean((1, 2)))
    apart = np.abs(means[0].mean(0) - means[1].mean(0)) / means[0].std(0)
    assert 0.3 < apart.max() < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hospital": "nroth"}, "'nroth'.*'north'"),
        ({"prevalence": {"sever": 0.5}}, "'sever'.*'severe'"),
        ({"prevalence": {"mild": 0.6, "severe": 0.6}}, "sum to 1.2"),
        ({"prevalence": {"mild": -0.1}}, "'mild' is -0.1"),
        ({"prevalence": dict.fromkeys(fundus.CLASSES, 0.1)}, "sum to 0.5"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        fundus.sample_studies(0, [0], **options)

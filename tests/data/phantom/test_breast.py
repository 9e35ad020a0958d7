"""The phantom breast world: latent state, two modalities of the same lesion, captions."""

from collections import Counter
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from nbcore.data.phantom import breast, mammography, ultrasound
from nbcore.data.phantom.atlas import draw_atlas
from nbcore.data.phantom.breast import BreastStudy
from nbcore.errors import UsageError

MODALITIES = [mammography, ultrasound]
BALANCED = dict.fromkeys(breast.CLASSES, 1 / 3)


def studies(count: int, kind: str = "", hospital: str = "north") -> list[BreastStudy]:
    """Typical studies of a kind of lesion; without one, of all."""
    drawn = breast.sample_studies(0, range(8 * count), hospital, BALANCED)
    return [study for study in drawn if not kind or (study.kind == kind and not study.mimics)][:count]


def clean(study: BreastStudy) -> BreastStudy:
    """Without marks and noise, in an even and fatty breast."""
    return replace(
        study,
        tissue=study.tissue._replace(density=0.1, patchiness=0.0),
        film=study.film._replace(label=-1.0, strays=-1.0, noise=0.0),
        probe=study.probe._replace(label=-1.0, calipers=-1.0, ribs=-1.0, noise=0.0, speckle=0.0, sector=-1.0, gain=0.0),
    )


def without(study: BreastStudy) -> BreastStudy:
    """The same breast without its lesion."""
    return replace(study, lesion=None, kind="", mimics="", label=breast.CLASSES.index("normal"))


def difference(modality: ModuleType, study: BreastStudy, size: int = 64) -> np.ndarray:
    """What the lesion adds to the picture."""
    drawn = modality.render([study, without(study)], size).astype(float)
    return drawn[0] - drawn[1]


def test_a_study_depends_on_seed_hospital_and_index_alone() -> None:
    together = breast.sample_studies(0, range(40))
    assert breast.sample_studies(0, [17, 3]) == [together[17], together[3]]
    assert breast.sample_studies(1, [3]) != [together[3]]
    assert breast.sample_studies(0, [3], "south")[0].tissue != together[3].tissue
    assert len({study.patient for study in together}) == 40


def test_classes_have_the_shares_asked_for_and_change_nothing_else() -> None:
    drawn = breast.sample_studies(0, range(1500), prevalence={"normal": 0.5})
    found = Counter(study.name for study in drawn)
    for name, share in {"normal": 0.5, "benign": 0.5 * 437 / 647, "malignant": 0.5 * 210 / 647}.items():
        assert abs(found[name] / 1500 - share) < 0.04
    mimics = np.mean([study.mimics != "" for study in drawn if study.lesion])
    assert 0.11 < mimics < 0.19
    for one in breast.CLASSES:
        (same,) = breast.sample_studies(0, [5], prevalence={one: 1.0})
        assert same.name == one
        for field in ("tissue", "place", "film", "probe", "side", "view", "seed", "hospital"):
            assert getattr(same, field) == getattr(drawn[5], field)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hospital": "west"}, "unknown phantom hospital 'west'"),
        ({"prevalence": {"cancer": 0.5}}, "unknown phantom breast class 'cancer'"),
        ({"prevalence": {"benign": -0.5}}, "share of phantom breast class 'benign' is negative"),
        ({"prevalence": {"benign": 0.9, "normal": 0.9}}, "the shares of benign, normal add up to 1.8"),
        ({"prevalence": dict.fromkeys(breast.CLASSES, 0.2)}, "add up to 0.6"),
    ],
)
def test_wrong_wishes_are_told(wrong: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        breast.sample_studies(0, range(2), **wrong)


@pytest.mark.parametrize(
    ("side", "medial", "upper", "clock"),
    [("R", 0, 1, 12), ("L", 0, -1, 6), ("R", -1, 0, 9), ("L", -1, 0, 3), ("R", 1, 0, 3), ("L", -0.5, 0.866, 1)],
)
def test_the_clock_is_seen_by_who_faces_the_patient(side: str, medial: float, upper: float, clock: int) -> None:
    study = studies(1)[0]
    assert replace(study, side=side, place=study.place._replace(medial=medial, upper=upper)).clock == clock


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_picture_does_not_depend_on_its_companions(modality: ModuleType) -> None:
    drawn = studies(70)
    pictures = modality.render(drawn, 32)
    assert pictures.shape == (70, 32, 32) and pictures.dtype == np.uint8
    assert (modality.render(drawn[67:], 32) == pictures[67:]).all() and (modality.render(drawn, 32) == pictures).all()
    assert (modality.outline(drawn[67:], 32) == modality.outline(drawn, 32)[67:]).all()
    assert modality.render([], 32).shape == (0, 32, 32)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("hospital", breast.HOSPITALS)
def test_the_same_scene_at_every_size(modality: ModuleType, hospital: str) -> None:
    drawn = studies(5, hospital=hospital)
    small = modality.render(drawn, 48).astype(float)
    large = modality.render(drawn, 144).reshape(5, 48, 3, 48, 3).mean((2, 4))
    # letters have a least height, and grain is drawn by the pixel
    for one, other in zip(small, large):
        one, other = (ndimage.gaussian_filter(picture, 1.5) for picture in (one, other))
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
    areas = [modality.outline(drawn, size).mean((1, 2)) for size in (48, 144)]
    np.testing.assert_allclose(*areas, rtol=0.25, atol=0.004)


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_a_lesion_has_an_outline_and_it_is_where_the_picture_changes(modality: ModuleType) -> None:
    normal = [without(study) for study in studies(6)]
    assert not modality.outline(normal, 64).any()
    for study in map(clean, studies(8, "cyst") + studies(8, "carcinoma")):
        mask = modality.outline([study], 64)[0]
        change = np.abs(difference(modality, study))
        assert mask.any() and change[mask].mean() > 4 * change[~mask].mean()


def test_masses_are_bright_on_film_and_dark_in_sound() -> None:
    for study in map(clean, studies(8, "cyst") + studies(8, "carcinoma")):
        assert difference(mammography, study)[mammography.outline([study], 64)[0]].mean() > 5
        dense = replace(study, tissue=study.tissue._replace(density=1.0))
        assert difference(ultrasound, dense)[ultrasound.outline([dense], 64)[0]].mean() < -20


def test_cysts_let_sound_through_and_cancers_keep_it() -> None:
    for kind, sign in (("cyst", 1), ("carcinoma", -1)):
        for study in map(clean, studies(6, kind)):
            lesion = study.lesion._replace(shadow=-sign * 0.8, coarse=0.0, micro=0.0)
            study = replace(study, lesion=lesion, place=study.place._replace(depth=0.2))
            mask = ultrasound.outline([study], 64)[0]
            rows, columns = np.nonzero(mask)
            middle = int(columns.mean())
            behind = difference(ultrasound, study)[rows.max() + 4 : rows.max() + 12, middle - 1 : middle + 2]
            assert sign * behind.mean() > 4


def test_microcalcifications_are_bright_points_in_either_modality() -> None:
    for study in map(clean, studies(3, "carcinoma")):
        bare = replace(study, lesion=study.lesion._replace(micro=0.0, coarse=0.0))
        dotted = replace(study, lesion=bare.lesion._replace(micro=1.0))
        for modality in MODALITIES:
            with_, less = modality.render([dotted, bare], 128).astype(float)
            assert (with_ - less).max() > 25


def test_views_and_sides() -> None:
    study = replace(clean(studies(1)[0]), view="CC")
    left, right = (replace(study, side=side) for side in "LR")
    drawn = mammography.render([left, right], 48).astype(float)
    assert drawn[0][:, :8].mean() > drawn[0][:, -8:].mean() + 5  # the chest wall at its edge
    assert np.corrcoef(drawn[0].ravel(), drawn[1][:, ::-1].ravel())[0, 1] > 0.8
    oblique, straight = mammography.render([replace(left, view="MLO"), left], 48).astype(float)
    assert (oblique - straight)[:8, :6].mean() > 20  # the pectoral muscle


def test_hospitals_differ_in_their_machines() -> None:
    for modality in MODALITIES:
        means = [modality.render(studies(40, hospital=name), 32).mean((1, 2)) for name in breast.HOSPITALS]
        pooled = np.sqrt((means[0].var() + means[1].var()) / 2)
        assert abs(means[0].mean() - means[1].mean()) > 0.25 * pooled


@pytest.mark.parametrize("modality", MODALITIES)
def test_marks_are_as_frequent_in_every_class(modality: ModuleType) -> None:
    drawn = breast.sample_studies(0, range(1000), prevalence=BALANCED)
    for settings in ([s.film.label for s in drawn], [s.probe.label for s in drawn], [s.probe.calipers for s in drawn]):
        shown, labels = np.array(settings) > 0, np.array([study.label for study in drawn])
        shares = [shown[labels == label].mean() for label in range(3)]
        assert max(shares) - min(shares) < 0.12 and 0.1 < np.mean(shown) < 0.8
    frames = modality.render(drawn[:300], 24)[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # the corners hold no lesion
    labels = np.array([study.label for study in drawn[:300]])
    for label in range(3):
        assert abs(frames[labels == label].mean() - frames.mean()) < 12


SIGNS = {  # what a caption says -> when it is true
    "spicul": lambda lesion: lesion.spiculation >= 0.4,
    "circumscribed": lambda lesion: lesion.sharpness > 0.6 and lesion.irregularity < 0.4,
    "irregular, ": lambda lesion: lesion.irregularity >= 0.4,
    "oval": lambda lesion: lesion.elongation > 0.3,
    "anechoic": lambda lesion: lesion.echo > 0.88,
    "shadow": lambda lesion: lesion.shadow >= 0.4,
    "enhancement": lambda lesion: lesion.shadow <= -0.4,
    "distortion": lambda lesion: lesion.distortion >= 0.4,
    "clustered micro": lambda lesion: lesion.micro >= 0.4,
    "no suspicious calc": lambda lesion: lesion.micro == 0,
    "no calcifications are": lambda lesion: lesion.micro + lesion.coarse == 0,
    "taller-than-wide": lambda lesion: lesion.upright > 0.3,
}


@pytest.mark.parametrize("modality", MODALITIES)
def test_captions_are_true(modality: ModuleType) -> None:
    drawn = breast.sample_studies(0, range(900), prevalence=BALANCED)
    said: Counter = Counter()
    for study in drawn:
        text = modality.caption(study, np.random.default_rng(study.index))
        assert text[0].isupper() and text.endswith(".") and "{" not in text and "  " not in text
        words = text.lower()
        for sign, true in SIGNS.items():
            if sign in words and not (sign == "distortion" and study.lesion is None):
                said[sign] += 1
                assert study.lesion is not None and true(study.lesion), (text, study.lesion)
        for name, classes in {
            "malignant": {"malignant"}, "carcinoma": {"malignant"}, "cancer": {"malignant"}, "benign": {"benign"},
            "fibroadenoma": {"benign"}, "cyst": {"benign"}, "normal": {"normal"},
        }.items():  # fmt: skip
            if name in words:
                said[name] += 1
                assert study.name in classes, text
        if "o'clock" in words:
            assert f"{study.clock} o'clock" in words
        if " view of the" in words:
            assert f"{study.view.lower()} view" in words
        for side, letter in (("left", "L"), ("right", "R")):
            assert side not in words.split() or study.side == letter
    assert min(said[name] for name in (*breast.CLASSES, "spicul")) > 20
    mine = {mammography: ("distortion", "clustered micro"), ultrasound: ("shadow", "enhancement", "anechoic")}
    assert min(said[sign] for sign in mine[modality]) > 10


def test_atlas_pictures_are_grey_in_three_channels_and_balanced() -> None:
    atlas = draw_atlas({"mammography": 60, "ultrasound": 60}, 24, 0)
    assert atlas.images.shape == (120, 24, 24, 3) and (atlas.images[..., 0] == atlas.images[..., 2]).all()
    assert len(atlas.captions) == 120 and (atlas.kinds == np.repeat([0, 1], 60)).all()
    assert np.bincount(atlas.labels).min() > 8 and len(np.unique(atlas.labels)) == 6

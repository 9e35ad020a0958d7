"""The phantom skin world: lesions and their pictures' latent state, drawing, captions."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nbcore.data.phantom import skin
from nbcore.errors import UsageError

BALANCED = dict.fromkeys(skin.CLASSES, 1 / 8)
SIGNS = {  # structure -> what names it in a caption, and no other structure
    "network": r"\b(regular|typical|honeycomb-like) pigment network|evenly meshed",
    "atypical_network": r"atypical pigment network|broadened|uneven, thick lines",
    "peripheral_network": r"peripheral pigment network|network at the periphery|ring of delicate",
    "globules": r"globules",
    "streaks": r"streaks|streaming",
    "blue_white_veil": r"veil",
    "regression": r"regression|depigmentation",
    "arborising_vessels": r"(arborising|branching) vessels|telangiectasia",
    "ovoid_nests": r"nests",
    "ulceration": r"ulcer|erosion",
    "shiny_areas": r"shiny|pearly",
    "milia_like_cysts": r"milia",
    "comedo_like_openings": r"comedo",
    "ridges": r"ridges|cerebriform|gyri",
    "scale": r"white-yellow scale|whitish scale|surface scale|scaly",
    "strawberry": r"strawberry|pseudonetwork",
    "dotted_vessels": r"dotted|red dots",
    "central_white_patch": r"central white|scar-like centre",
    "lacunae": r"lacunae|lagoons",
    "keratin": r"mass of keratin|keratin mass|plug of keratin in",
}
NAMES = {
    "AKIEC": r"keratosis|bowen|carcinoma in situ", "BCC": r"basal cell|bcc|basalioma", "BKL": r"kerato",
    "MEL": r"melanoma", "DF": r"dermatofibroma|histiocytoma", "NV": r"n(a)?evus|mole",
    "VASC": r"vascular lesion|angioma", "SCC": r"squamous cell carcinoma(?! in situ)|\bscc|epidermoid",
}  # fmt: skip
DENIAL = r"^(no (?!dis|spec)|neither|there is no|vessels are not|.* are absent\.$)"


def bare(name: str, count: int = 4, hospital: str = "north") -> list[skin.SkinStudy]:
    """Typical lesions of a class without any structure, on hairless skin, with neither marks nor noise."""
    studies = skin.sample_studies(0, range(40), hospital, {name: 1.0})
    return [
        replace(
            study,
            structures=skin.Structures(),
            skin=study.skin._replace(hair=-1.0),
            acquisition=study.acquisition._replace(bubbles=-1.0, ruler=-1.0, noise=0.0, vignette=3.0),
        )
        for study in studies
        if not study.mimics
    ][:count]


def captions(studies: list[skin.SkinStudy]) -> list[str]:
    return [skin.caption(study, np.random.default_rng(study.index)) for study in studies]


def test_a_study_depends_on_seed_hospital_and_index_alone():
    together = skin.sample_studies(0, range(40))
    assert skin.sample_studies(0, [17, 3]) == [together[17], together[3]]
    assert skin.sample_studies(1, [3]) != [together[3]]
    assert skin.sample_studies(0, [3], "south")[0].traits != together[3].traits


def test_pictures_of_a_lesion_share_its_traits_and_those_of_a_patient_the_skin():
    studies = skin.sample_studies(0, range(1200))
    lesions, patients = {}, {}
    for study in studies:
        lesions.setdefault(study.lesion, []).append(study)
        patients.setdefault(study.patient, []).append(study)
    assert Counter(len(group) for group in lesions.values()) == {1: 500, 2: 200, 3: 100}
    for group in lesions.values():
        assert [study.index for study in group] == list(range(group[0].index, group[0].index + len(group)))
        shared = {(s.patient, s.label, s.mimics, s.skin, s.traits, s.structures, s.lesion_seed) for s in group}
        assert len(shared) == 1
        assert len({(study.acquisition, study.seed) for study in group}) == len(group)
    assert {len({study.lesion for study in group}) for group in patients.values()} == {1, 2}
    assert all(len({study.skin for study in group}) == 1 for group in patients.values())


def test_shares_are_those_of_ham10000_unless_given():
    def shares(prevalence):
        labels = [study.label for study in skin.sample_studies(0, range(1600), prevalence=prevalence)]
        return np.bincount(labels, minlength=8) / len(labels)

    counts = np.array([327, 514, 1099, 115, 1113, 6705, 142, 0])
    assert shares(None) == pytest.approx(counts / counts.sum(), abs=0.03)
    others = np.where(np.array(skin.CLASSES) == "NV", 0, counts)
    expected = 0.8 * others / others.sum() + 0.2 * (np.array(skin.CLASSES) == "NV")
    assert shares({"NV": 0.2}) == pytest.approx(expected, abs=0.03)
    assert shares(BALANCED) == pytest.approx(np.full(8, 1 / 8), abs=0.03)
    assert shares({"DF": 1.0})[3] == 1


def test_some_lesions_are_atypical_and_classes_overlap():
    studies = skin.sample_studies(0, range(2000), prevalence=BALANCED)
    assert np.mean([bool(study.mimics) for study in studies]) == pytest.approx(0.15, abs=0.03)
    assert all(study.mimics != study.name for study in studies)
    owners = {name: {s.name for s in studies if getattr(s.structures, name)} for name in skin.Structures._fields}
    assert all(len(classes) >= 2 for classes in owners.values())
    assert 0.05 < np.mean([not study.shown for study in studies]) < 0.25


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"hospital": "east"}, "'east'"), ({"prevalence": {"SCK": 0.5}}, "'SCK'"),
        ({"prevalence": {"NV": 0.7, "MEL": 0.5}}, "1.2"), ({"prevalence": {"NV": -0.1}}, "'NV'"),
        ({"prevalence": dict.fromkeys(skin.CLASSES, 0.1)}, "0.8"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options, named):
    with pytest.raises(UsageError, match=named):
        skin.sample_studies(0, [0], **options)


def test_a_picture_does_not_depend_on_its_batch():
    studies = skin.sample_studies(0, range(40), prevalence=BALANCED)
    together = skin.render(studies, 64)
    assert together.shape == (40, 64, 64, 3) and together.dtype == np.uint8
    for part in ([5], [39, 2, 17], range(20, 33)):
        np.testing.assert_array_equal(skin.render([studies[i] for i in part], 64), together[list(part)])
    assert skin.render([], 64).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("size", [56, 128, 256])
def test_every_size_shows_the_same_scene(size):
    studies = skin.sample_studies(0, range(0, 24, 3), prevalence=BALANCED)
    studies = [replace(s, acquisition=s.acquisition._replace(noise=0.0)) for s in studies]

    def tiles(images):  # averaged down to 8 x 8
        side = images.shape[1] // 8
        return images.reshape(len(images), 8, side, 8, side, 3).mean((2, 4))

    large, small = tiles(skin.render(studies, size)), tiles(skin.render(studies, 64))
    assert np.abs(large - small).mean() < 2
    assert np.abs(large - small).max() < 16
    assert np.abs(small - np.roll(small, 1, axis=0)).mean() > 20


def test_all_pictures_of_a_lesion_show_the_same_patterns():
    (study,) = bare("MEL", 1)
    study = replace(study, structures=skin.Structures(atypical_network=1.0, blue_white_veil=1.0))
    straight = study.acquisition._replace(half=7.0, shift_x=0.1, shift_y=0.0, tilt=0.0, shading=0.0, gloss=-1.0)
    turned = straight._replace(tilt=np.pi / 2, shift_x=0.0, shift_y=0.1)
    pictures = skin.render([replace(study, acquisition=settings) for settings in (straight, turned)], 96).astype(float)
    middle = np.s_[24:72, 24:72, 1]
    match = {turns: np.corrcoef(np.rot90(pictures[0], turns)[middle].ravel(), pictures[1][middle].ravel())[0, 1]
             for turns in range(4)}  # fmt: skip
    assert match[3] > 0.9 and match[3] == max(match.values()), match


@pytest.mark.parametrize("structure", skin.Structures._fields)
def test_a_structure_changes_the_lesion_and_nothing_else(structure):
    without = bare("NV", 5)
    drawn = [replace(study, structures=skin.Structures(**{structure: 0.7})) for study in without]
    assert all(study.shown == (structure,) for study in drawn)
    change = np.abs(skin.render(drawn, 96).astype(float) - skin.render(without, 96)).mean(-1)  # (B, S, S)
    grid = (np.arange(96) + 0.5) / 48 - 1
    for study, changed in zip(without, change):
        settings = study.acquisition
        distance = np.hypot(grid - settings.shift_x, grid[:, None] - settings.shift_y) * settings.half
        within = distance < study.traits.radius
        assert changed[within].max() > 8
        assert changed[within].mean() > 0.7
        assert changed[distance > 2.2 * study.traits.radius + 1].max(initial=0) < 3


def test_hospitals_differ_moderately():
    north, south = (
        skin.render(skin.sample_studies(0, range(150), hospital), 32).mean((1, 2)) for hospital in skin.HOSPITALS
    )
    distance = np.abs(north.mean(0) - south.mean(0)) / north.std(0)
    assert 0.3 < distance.max() < 2


def test_mean_colour_does_not_give_the_class_away():
    studies = skin.sample_studies(0, range(600), prevalence=BALANCED)
    labels = np.array([study.label for study in studies])
    colour = skin.render(studies, 24).mean((1, 2)) / 128 - 1
    products = colour[:, :, None] * colour[:, None]
    features = np.concatenate([np.ones((600, 1)), colour, products[:, *np.triu_indices(3)]], 1)  # (N, 10)
    weights = np.linalg.lstsq(features[:400], np.eye(8)[labels[:400]], rcond=None)[0]
    hits = (features[400:] @ weights).argmax(1) == labels[400:]
    assert 0.10 < hits.mean() < 0.35


@pytest.mark.parametrize("hospital", skin.HOSPITALS)
def test_captions_name_only_what_is_drawn_and_deny_only_what_is_not(hospital):
    studies = skin.sample_studies(1, range(1500), hospital, BALANCED)
    named, denied = Counter(), Counter()
    for study, text in zip(studies, captions(studies)):
        for sentence in re.split(r"(?<=\.) ", text.lower()):
            if re.match(DENIAL, sentence):
                denied.update([sentence])
                for structure in missing(sentence):
                    assert getattr(study.structures, structure) == 0, (text, study)
                continue
            for structure, pattern in SIGNS.items():
                if re.search(pattern, sentence):
                    named.update([structure])
                    assert structure in study.shown, (text, study)
            if "hair" in sentence:
                assert study.skin.hair > 0
            if "ruler" in sentence or "millimetre" in sentence:
                assert study.acquisition.ruler > 0
            if size := re.search(r"(\d+) mm", sentence):
                assert abs(int(size[1]) - 2 * study.traits.radius) <= 0.5
            if re.search(r"\basymmetric", sentence):
                assert study.traits.asymmetry > 0.5
            elif re.search(r"\bsymmetric", sentence):
                assert study.traits.asymmetry < 0.3
    assert named.keys() == SIGNS.keys()
    assert len(denied) == 7


def missing(sentence: str) -> set[str]:
    """Structures that a denial denies."""
    groups = {
        "pigment network": {"network", "atypical_network", "peripheral_network"}, "veil": {"blue_white_veil"},
        "vessels are not": {"arborising_vessels", "dotted_vessels", "lacunae"}, "arborising": {"arborising_vessels"},
        "ulceration": {"ulceration"}, "streaks": {"streaks"}, "regression": {"regression"},
        "milia": {"milia_like_cysts"}, "comedo": {"comedo_like_openings"},
    }  # fmt: skip
    found = set().union(*(names for word, names in groups.items() if word in sentence))
    assert found, sentence
    return found


def test_captions_name_no_other_class():
    studies = skin.sample_studies(2, range(1000), prevalence=BALANCED)
    told = 0
    for study, text in zip(studies, captions(studies)):
        classes = {name for name, pattern in NAMES.items() if re.search(pattern, text.lower())}
        told += study.name in classes
        akin = {"AKIEC", "BKL"} if study.name in ("AKIEC", "BKL") else {study.name}  # both are called keratoses
        assert classes <= akin, (text, study)
    assert told / len(studies) == pytest.approx(0.5, abs=0.05)


def test_captions_are_varied_clean_and_repeatable():
    studies = skin.sample_studies(0, range(1500), prevalence=BALANCED)
    written = captions(studies)
    assert written[7] == skin.caption(studies[7], np.random.default_rng(7))
    assert len(set(written)) > 1100
    signs = "|".join([*SIGNS.values(), *NAMES.values(), "structure", "criteria"])
    vague = [text for text in written if not re.search(signs, text.lower())]
    assert len(vague) / len(written) == pytest.approx(0.15, abs=0.03)
    for text in written:
        assert 1 <= len(re.findall(r"\.( |$)", text)) <= 3
        assert text[0].isupper() and text.endswith(".")
        assert not re.search(r"[{}|_]|\.\.|\s\s|\s[.,]|\ba [aeiou]|\ban [^aeiou]", text), text

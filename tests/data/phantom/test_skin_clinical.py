"""Clinical photographs of the phantom's skin lesions: the same lesions, other cues, no dermoscopic words."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from nbcore.data.phantom import atlas, skin, skin_clinical

BALANCED = dict.fromkeys(skin.CLASSES, 1 / 8)
NAMES = {
    "AKIEC": r"actinic|solar", "BCC": r"basal cell|bcc", "BKL": r"seborrh|benign keratosis", "MEL": r"melanoma",
    "DF": r"dermatofibroma|histiocytoma", "NV": r"n(a)?evus|mole", "VASC": r"vascular lesion|angioma",
    "SCC": r"squamous|scc",
}  # fmt: skip
DERMOSCOPIC = r"dermosc|dermatosc|network|globule|veil|streak|milia|comedo|lacuna|strawberry|nests|dotted|regression"


def plain(name: str, count: int, **relief: float) -> list[skin.SkinStudy]:
    """Lesions of a class on hairless skin, with this relief."""
    return [
        replace(study, skin=study.skin._replace(hair=-1.0), relief=study.relief._replace(**relief))
        for study in skin.sample_studies(0, range(0, 4 * count, 4), prevalence={name: 1.0})
    ]


def changed(first: list[skin.SkinStudy], second: list[skin.SkinStudy]) -> np.ndarray:
    """(B, S, S) difference of their pictures."""
    one, other = (skin_clinical.render(studies, 64).astype(float) for studies in (first, second))
    return np.abs(one - other).mean(-1)


def test_a_picture_does_not_depend_on_its_batch():
    studies = skin.sample_studies(0, range(40), prevalence=BALANCED)
    together = skin_clinical.render(studies, 64)
    assert together.shape == (40, 64, 64, 3) and together.dtype == np.uint8
    for part in ([5], [39, 2, 17], range(20, 33)):
        np.testing.assert_array_equal(skin_clinical.render([studies[i] for i in part], 64), together[list(part)])
    assert skin_clinical.render([], 64).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("size", [56, 128])
def test_every_size_shows_the_same_scene(size: int):
    studies = skin.sample_studies(0, range(0, 24, 3), prevalence=BALANCED)

    def tiles(images: np.ndarray) -> np.ndarray:  # averaged down to 8 x 8
        side = images.shape[1] // 8
        return images.reshape(len(images), 8, side, 8, side, 3).mean((2, 4))

    large, small = tiles(skin_clinical.render(studies, size)), tiles(skin_clinical.render(studies, 64))
    assert np.abs(large - small).mean() < 2.5
    assert np.abs(small - np.roll(small, 1, axis=0)).mean() > 20


def test_lesions_take_a_tenth_to_two_fifths_of_the_side_and_lie_within():
    studies = plain("NV", 20, height=0.0, roughness=0.0)
    bare = [replace(study, traits=study.traits._replace(melanin=0.0, blood=0.0)) for study in studies]
    bare = [replace(study, structures=skin.Structures()) for study in bare]
    for study, drawn in zip(studies, changed(studies, bare)):
        mask = drawn > 0.35 * drawn.max()
        rows, columns = ndimage.find_objects(mask.astype(int))[0]
        side = max(rows.stop - rows.start, columns.stop - columns.start) / 64
        assert 0.08 < side < 0.62, (side, study.traits)
        assert not (mask[[0, -1]].any() or mask[:, [0, -1]].any())


@pytest.mark.parametrize("feature", ["height", "roughness", "shine", "keratin", "rim"])
def test_relief_shows_on_the_lesion_alone(feature: str):
    low, high = (plain("NV", 8, **{"height": 1.2, "shine": 0.5} | {feature: value}) for value in (0.0, 1.0))
    drawn = changed(low, high)
    strongest = drawn.reshape(8, -1).max(1)
    assert (strongest > 8).mean() >= 0.75
    far = [picture[picture > 2].size / picture.size for picture in drawn]
    assert max(far) < 0.35


def test_dermoscopic_structures_are_no_more_than_hints():
    without = [replace(study, structures=skin.Structures()) for study in plain("NV", 8)]
    drawn = [replace(study, structures=skin.Structures(network=0.9, globules=0.9)) for study in without]
    shown = np.abs(skin.render(drawn, 64).astype(float) - skin.render(without, 64)).mean(-1)
    hinted = changed(drawn, without)
    assert hinted.max() > 1
    assert np.percentile(hinted, 99) < 0.5 * np.percentile(shown, 99)


def test_both_modalities_tell_the_classes_and_dermoscopy_tells_more():
    names = [name for name in skin.CLASSES if name not in ("DF", "VASC")]
    studies = skin.sample_studies(0, range(480), prevalence=dict.fromkeys(names, 1 / 6))
    labels = np.array([study.label for study in studies])
    fitted = np.arange(480) < 300  # blocks of 12 pictures are of other patients
    score = {}
    for module in (skin, skin_clinical):
        pixels = module.render(studies, 28).astype(np.float32) / 255
        smooth = ndimage.gaussian_filter(pixels, (0, 1, 1, 0))
        parts = [pixels.mean((1, 2)), pixels.std((1, 2)), np.abs(pixels - smooth).mean((1, 2))]
        parts += [np.percentile(pixels, q, (1, 2)) for q in (2, 10, 90, 98)]
        features = np.concatenate(parts, 1)
        features = (features - features[fitted].mean(0)) / features[fitted].std(0)
        model = LogisticRegression(C=0.3, max_iter=500).fit(features[fitted], labels[fitted])
        score[module] = model.score(features[~fitted], labels[~fitted])
    assert 0.25 < score[skin_clinical] < score[skin] < 0.75, score


def test_hospitals_differ_moderately():
    north, south = (
        skin_clinical.render(skin.sample_studies(0, range(100), hospital), 32).mean((1, 2))
        for hospital in skin.HOSPITALS
    )
    distance = np.abs(north.mean(0) - south.mean(0)) / north.std(0)
    assert 0.3 < distance.max() < 2


def test_captions_say_what_the_eye_sees_and_name_no_other_class():
    studies = skin.sample_studies(2, range(1200), prevalence=BALANCED)
    written = [skin_clinical.caption(study, np.random.default_rng(study.index)) for study in studies]
    assert written[7] == skin_clinical.caption(studies[7], np.random.default_rng(studies[7].index))
    named = Counter()
    for study, text in zip(studies, written):
        lower = text.lower()
        classes = {name for name, pattern in NAMES.items() if re.search(pattern, lower)}
        named.update(classes)
        assert classes <= {study.name}, (text, study.name)
        assert not re.search(DERMOSCOPIC, lower), text
        if "nodule" in lower or "raised papule" in lower:
            assert study.relief.height + study.relief.keratin >= 1
        if "rolled" in lower:
            assert study.relief.rim > 0.45
        if "scale" in lower or "scaly" in lower:
            assert study.structures.scale > 0.4
        if "kerato" not in lower and re.search("keratin|horny|keratotic", lower):
            assert study.relief.keratin > 0.4
        if size := re.search(r"(\d+) mm", lower):
            assert abs(int(size[1]) - 2 * study.traits.radius) <= 0.5
        assert text[0].isupper() and text.endswith(".")
        assert not re.search(r"[{}|_]|\.\.|\s\s|\s[.,]|\ba [aeiou]|\ban [^aeiou]", text), text
    assert named.keys() == NAMES.keys()
    assert sum(named.values()) / len(studies) == pytest.approx(0.56, abs=0.05)
    assert len(set(written)) > 800


def test_the_atlas_has_clinical_photographs_of_every_class():
    drawn = atlas.draw_atlas({"skin": 32, "clinical": 64}, 32, 0)
    assert drawn.images.shape == (96, 32, 32, 3) and len(drawn.captions) == 96
    assert len(set(drawn.labels[drawn.kinds == 1])) == len(skin.CLASSES)
    assert not set(drawn.labels[drawn.kinds == 1]) & set(drawn.labels[drawn.kinds == 0])

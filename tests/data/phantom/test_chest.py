"""The phantom's pictures: determinism, resolution, masks and boxes."""

from dataclasses import replace

import numpy as np
import pytest

from nbcore.data.phantom import chest, world

FRONTAL = ("PA", "AP")
DRAWN_BY_ANATOMY = {"cardiomegaly", "enlarged_mediastinum", "emphysema"}  # these move edges beyond their mask


def one_finding(name: str, count: int = 4) -> list[world.ChestStudy]:
    return world.sample_studies(0, range(count), prevalence=world.only(**{name: 1}), views=FRONTAL)


def test_a_picture_does_not_depend_on_its_batch():
    studies = world.sample_studies(0, range(40))
    together = chest.render(studies, 64)
    for part in ([5], [39, 2, 17], range(20, 33)):
        alone = chest.render([studies[i] for i in part], 64)
        np.testing.assert_array_equal(alone.images, together.images[list(part)])
        for name, masks in alone.masks.items():
            np.testing.assert_array_equal(masks, together.masks[name][list(part)])


@pytest.mark.parametrize("size", [128, 224, 256])
def test_every_size_shows_the_same_scene(size):
    studies = one_finding("effusion", 3)
    small, large = chest.render(studies, 64), chest.render(studies, size)
    assert large.images.shape == (3, size, size) and large.images.dtype == np.uint8
    index = (np.arange(64) + 0.5) * size / 64
    picked = large.images[:, index.astype(int)][:, :, index.astype(int)]
    for i in range(3):
        assert np.corrcoef(picked[i].ravel(), small.images[i].ravel())[0, 1] > 0.9
        assert large.masks["effusion"][i].mean() == pytest.approx(small.masks["effusion"][i].mean(), rel=0.1, abs=0.001)


@pytest.mark.parametrize("name", sorted(set(world.FINDINGS) - DRAWN_BY_ANATOMY))
def test_a_finding_changes_the_picture_where_its_mask_says(name):
    studies = one_finding(name)
    drawn = chest.render(studies, 128)
    without = chest.render([replace(study, findings=()) for study in studies], 128)
    change = np.abs(drawn.images.astype(int) - without.images)
    for i, study in enumerate(studies):
        mask = drawn.masks[name][i]
        assert mask.any(), study
        assert change[i][mask].mean() > 3 * change[i][~mask].mean()
        assert change[i][mask].mean() > 4


@pytest.mark.parametrize("name", sorted(DRAWN_BY_ANATOMY))
def test_findings_of_the_anatomy_have_masks_and_change_the_picture(name):
    studies = one_finding(name)
    drawn = chest.render(studies, 128)
    without = chest.render([replace(study, findings=()) for study in studies], 128)
    assert drawn.masks[name].any((1, 2)).all()
    assert (drawn.images != without.images).mean() > 0.02


def test_masks_lie_on_the_side_the_finding_names():
    for name in ("effusion", "pneumothorax", "consolidation", "nodule", "fracture"):
        studies = [study for study in one_finding(name, 40) if study.find(name).side != "bilateral"]
        masks = chest.render(studies, 64).masks[name]
        for study, mask in zip(studies, masks):
            middle = (1 + study.acquisition.shift_x) * 32  # the patient's left is the viewer's right
            on_the_right_of_picture = np.nonzero(mask)[1].mean() > middle
            assert on_the_right_of_picture == (study.find(name).side == "left"), study


def test_implied_findings_share_the_mask():
    studies = one_finding("pneumonia", 8)
    drawn = chest.render(studies, 64)
    for i, study in enumerate(studies):
        implied = study.find("pneumonia").shows[1]
        np.testing.assert_array_equal(drawn.masks[implied][i], drawn.masks["pneumonia"][i])


def test_boxes_enclose_the_regions_of_the_masks():
    studies = one_finding("nodule", 12)
    drawn = chest.render(studies, 128)
    for i in range(len(studies)):
        boxes = drawn.boxes(i)["nodule"]
        assert len(boxes) >= 1
        covered = np.zeros((128, 128), bool)
        for x, y, width, height in boxes:
            assert min(x, y) >= 0 and max(x + width, y + height) <= 128
            covered[y : y + height, x : x + width] = True
        assert not (drawn.masks["nodule"][i] & ~covered).any()
    assert drawn.boxes(0).keys() == {"nodule"}


def test_lateral_views_look_different_and_carry_no_masks():
    studies = world.sample_studies(0, range(12), views=FRONTAL)
    frontal = chest.render(studies, 64)
    lateral = chest.render([replace(study, view="lateral") for study in studies], 64)
    assert not any(masks.any() for masks in lateral.masks.values())
    mean_frontal, mean_lateral = frontal.images.mean(0), lateral.images.mean(0)
    assert np.corrcoef(mean_frontal.ravel(), mean_lateral.ravel())[0, 1] < 0.8


def test_hospitals_differ_in_style_and_markers_tell_nothing():
    means = []
    for hospital in world.HOSPITALS:
        studies = world.sample_studies(0, range(150), hospital, world.only(), views=("PA",))
        means.append(chest.render(studies, 64).images.mean((1, 2)))
    assert abs(means[0].mean() - means[1].mean()) > 0.15 * means[0].std()
    studies = world.sample_studies(0, range(3000))
    sick = world.label_matrix(studies, ["No Finding"])[:, 0] == 0
    on_left = np.array([study.seed % 4 == 0 for study in studies])
    assert abs(on_left[sick].mean() - on_left[~sick].mean()) < 0.05


def test_no_studies_give_no_pictures():
    assert chest.render([], 64).images.shape == (0, 64, 64)

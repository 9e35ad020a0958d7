"""Row access, crops and augmentation of stored radiographs."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from nbcore.data.batches import Columns, _flip_and_rotation, _homography, _rotation_and_affine, prepare


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 4, side: int = 20) -> torch.Tensor:
    return torch.randint(0, 256, (batch, side, side), generator=generator(), dtype=torch.uint8)


def test_columns_hand_out_rows_together():
    columns = Columns({"image": np.arange(10).reshape(5, 2), "text": torch.arange(5)})
    batch = columns.__getitems__([3, 1])
    assert batch["image"].tolist() == [[6, 7], [2, 3]]
    assert batch["text"].tolist() == [3, 1]
    assert len(columns) == 5


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        Columns({"a": np.zeros(3), "b": np.zeros(4)})


def test_evaluation_is_the_centre_crop():
    stored = images()
    expected = stored[:, 2:18, 2:18].unsqueeze(1).float() / 127.5 - 1
    torch.testing.assert_close(prepare(stored, 16, "none"), expected)


def test_random_crops_are_windows_of_their_own_image():
    stored = images()
    crops = ((prepare(stored, 16, "crop", generator()) + 1) * 127.5).round().to(torch.uint8)[:, 0]
    windows = stored.unfold(1, 16, 1).unfold(2, 16, 1)  # (B, 5, 5, 16, 16)
    for crop, own in zip(crops, windows):
        assert (own == crop).all(dim=(-1, -2)).any()


@pytest.mark.parametrize("kind", ["crop", "official", "med_unic", "med_unic_paper"])
def test_augmentation_is_a_function_of_the_generator(kind):
    one, same, other = (prepare(images(), 16, kind, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (4, 1, 16, 16)
    assert one.abs().max() <= 1


def test_homography_maps_corners():
    source = torch.rand(3, 4, 2, generator=generator()) * 0.2 + torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    target = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    h = _homography(source, target)
    mapped = torch.cat([source, torch.ones(3, 4, 1)], dim=-1) @ h.transpose(1, 2)
    torch.testing.assert_close(mapped[..., :2] / mapped[..., 2:], target.expand(3, 4, 2), atol=1e-5, rtol=1e-5)


def test_official_augmentation_turns_the_image():
    """A bright left edge must end up elsewhere for most draws of an angle in 0 to 90 degrees."""
    stored = torch.zeros(64, 16, 16, dtype=torch.uint8)
    stored[:, :, :3] = 255
    turned = prepare(stored, 16, "official", generator())[:, 0]
    left_is_brightest = turned[:, 4:12, :3].mean(dim=(1, 2)) > turned[:, 4:12, 8:].mean(dim=(1, 2)) + 1
    assert left_is_brightest.float().mean() < 0.7


def test_convirt_views_stay_in_range_differ_and_repeat_with_the_seed():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8))
    views = [prepare(images, 32, "convirt", torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert views[0].shape == (6, 1, 32, 32)
    assert views[0].min() >= -1 - 1e-5 and views[0].max() <= 1 + 1e-5
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_convirt_views_flip_half_of_the_pictures_and_blur_them():
    left = torch.zeros(200, 64, 64, dtype=torch.uint8)
    left[:, 16:48, 14:26] = 255  # a bar left of the middle, in every window
    views = prepare(left, 64, "convirt", torch.Generator().manual_seed(0)) + 1
    columns = views.mean(dim=(1, 2))  # (200, 64)
    centre = (columns * torch.arange(64)).sum(1) / columns.sum(1)
    assert 0.4 < (centre > 32).float().mean() < 0.6
    assert len(views[0].unique()) > 20  # edges are no longer sharp


def blobs() -> torch.Tensor:
    """Six smooth pictures (6, 1, 48, 48) in [0, 1] without any symmetry."""
    axis = torch.linspace(-1, 1, 48)
    pictures = torch.zeros(6, 48, 48)
    for x, y, height in ((0.3, -0.4, 1.0), (-0.5, 0.1, 0.6), (0.1, 0.5, 0.3)):
        pictures += height * torch.exp(-((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) / 0.1)
    return pictures.unsqueeze(1)


def test_the_med_unic_view_is_torchvisions_rotation_then_affine():
    pictures = blobs()
    found = torch.nn.functional.grid_sample(pictures, _rotation_and_affine(pictures, generator()), align_corners=False)
    angle, scale, shear, *shift = torch.rand((5, 6), generator=generator()).tolist()
    for i, picture in enumerate(pictures):
        turned = TF.rotate(picture, 90 * angle[i], InterpolationMode.BILINEAR)
        moved = [0.1 * 48 * (2 * part[i] - 1) for part in shift]  # pixels
        expected = TF.affine(
            turned, 0, moved, 0.9 + 0.2 * scale[i], [20 * shear[i] - 10, 0], InterpolationMode.BILINEAR
        )
        assert (picture - expected).abs().max() > 0.2
        torch.testing.assert_close(found[i], expected, atol=0.02, rtol=0)


def test_the_view_of_med_unics_paper_is_torchvisions_flip_then_rotation():
    pictures = blobs()
    found = torch.nn.functional.grid_sample(pictures, _flip_and_rotation(pictures, generator()), align_corners=False)
    flipped, angle = torch.rand((2, 6), generator=generator()).tolist()
    assert 0 < sum(part < 0.5 for part in flipped) < 6
    for i, picture in enumerate(pictures):
        expected = TF.rotate(
            TF.hflip(picture) if flipped[i] < 0.5 else picture, 180 * angle[i], InterpolationMode.BILINEAR
        )
        torch.testing.assert_close(found[i], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", ["med_unic", "med_unic_paper"])
def test_half_of_the_med_unic_views_have_their_contrast_stretched(kind):
    stored = torch.randint(60, 120, (400, 16, 16), generator=generator(), dtype=torch.uint8)
    brightest = prepare(stored, 16, kind, generator()).amax(dim=(1, 2, 3))
    assert 0.4 < (brightest > 0.999).float().mean() < 0.6

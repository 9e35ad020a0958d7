"""Views: where they look, what they change, and that a seed decides all of it and touches nothing else."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from nbcore.data.views import (
    AugMixView,
    CleanView,
    CroppedView,
    PaddedView,
    PaperStrongView,
    RotatedView,
    StrongView,
    View,
    apply,
    tpt_views,
)

RANDOM: dict[str, Callable[[int], View]] = {
    "rotated": RotatedView,
    "strong": StrongView,
    "paper": PaperStrongView,
    "cropped": CroppedView,
    "augmix": AugMixView,
}


def _smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture in soft colours, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


IMAGES = np.stack([_smooth(40, 40, seed) for seed in range(3)])  # (3, 40, 40, 3)


def _states() -> list:
    return [torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())]  # noqa: NPY002


def test_the_clean_view_is_the_scaled_centre() -> None:
    image = Image.fromarray(_smooth(60, 90))
    scaled = np.asarray(image.resize((48, 32), Image.Resampling.BICUBIC))
    assert (np.asarray(CleanView(32)(image)) == scaled[:, 8:40]).all()
    assert (np.asarray(CleanView(60)(image)) == np.asarray(image)[:, 15:75]).all()  # nothing to scale


def test_the_padded_view_keeps_all_of_the_image_on_black() -> None:
    tall = Image.fromarray(np.full((40, 20, 3), 200, np.uint8))
    padded = np.asarray(PaddedView(40)(tall))
    assert (padded[:, 10:30] == 200).all() and not padded[:, :10].any() and not padded[:, 30:].any()
    square = np.zeros((41, 41, 3), np.uint8)
    square[:, 10:30] = _smooth(41, 20)  # an odd rest: one column more on the right
    expected = Image.fromarray(square).resize((24, 24), Image.Resampling.BILINEAR)
    assert (np.asarray(PaddedView(24)(Image.fromarray(_smooth(41, 20)))) == np.asarray(expected)).all()


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_decides_a_view_and_nothing_else_is_touched(name: str) -> None:
    view, before = RANDOM[name](24), _states()
    first = apply(view, IMAGES, 5)
    assert _states() == before
    assert first.shape == (3, 3, 24, 24) and first.dtype == torch.uint8 and first.is_contiguous()
    random.random(), torch.rand(1), np.random.rand()  # noqa: NPY002
    assert torch.equal(apply(view, IMAGES, 5), first)
    assert not torch.equal(apply(view, IMAGES, 6), first)


@pytest.mark.parametrize("name", RANDOM)
def test_every_image_of_a_batch_is_changed_in_its_own_way(name: str) -> None:
    views = apply(RANDOM[name](24), np.stack([IMAGES[0]] * 4), 0)
    assert len({view.numpy().tobytes() for view in views}) == 4


def test_generators_come_back_even_after_an_error() -> None:
    def broken(image: Image.Image) -> Image.Image:
        raise OSError(str(random.random() + torch.rand(1).item() + np.random.rand()))  # noqa: NPY002

    before = _states()
    with pytest.raises(OSError, match=r"\d"):
        apply(broken, IMAGES, 0)
    assert _states() == before


def test_all_three_generators_are_seeded_with_any_64_bits() -> None:
    drawn = []

    def spy(image: Image.Image) -> Image.Image:
        drawn.append((random.random(), torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
        return image

    for seed in (2**64 - 1, 2**64 - 1, 2**63):
        apply(spy, IMAGES[:1], seed)
        random.random(), torch.rand(1), np.random.rand()  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2]))


def test_channels_come_first() -> None:
    views = apply(CleanView(40), IMAGES, 0)
    assert (views.permute(0, 2, 3, 1).numpy() == IMAGES).all()


@pytest.mark.parametrize(("size", "largest"), [(224, 2.0), (56, 0.5)])
def test_the_blur_shrinks_with_the_view(size: int, largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    radii = []

    class Spy(ImageFilter.GaussianBlur):
        def __init__(self, radius: float) -> None:
            radii.append(radius)
            super().__init__(radius)

    monkeypatch.setattr(ImageFilter, "GaussianBlur", Spy)
    apply(StrongView(size), np.stack([IMAGES[0]] * 24), 0)
    assert len(radii) == 24  # always blurred
    assert 0.05 * largest <= min(radii) < 0.3 * largest and 0.7 * largest < max(radii) <= largest


def test_strong_views_lose_their_colours_one_time_in_five() -> None:
    views = apply(StrongView(16), np.stack([IMAGES[0]] * 250), 0)
    grey = (views == views[:, :1]).flatten(1).all(dim=1).float().mean()
    assert 0.13 < grey < 0.27


def test_the_papers_views_turn_and_the_weak_one_turns_less() -> None:
    """How far the corners of a white square turn black."""
    white = np.full((40, 40, 40, 3), 255, np.uint8)
    black = {
        degrees: (apply(RotatedView(40, degrees), white, 0) < 128).float().mean().item() for degrees in (0, 5, 10, 30)
    }
    assert black[0] == 0 and black[5] < black[10] < black[30]
    assert (apply(RotatedView(40), white, 0) < 128).float().mean() == pytest.approx(black[10])
    strong = apply(PaperStrongView(40), white, 0)
    assert (strong < 64).any() and (strong == strong[:, :1]).all()  # turned, and no colour of its own
    brightest = strong.flatten(1).amax(1).float()
    assert brightest.min() >= 0.6 * 255 - 1 and brightest.min() < 200  # scaled, by no less than 0.6


def test_views_for_prompt_tuning_begin_with_the_clean_one() -> None:
    image = _smooth(48, 48)
    for augmix in (True, False):
        views = tpt_views(image, 24, 8, 3, augmix=augmix)
        assert views.shape == (8, 3, 24, 24) and views.dtype == torch.uint8
        assert torch.equal(views[:1], apply(CleanView(24), image[None], 0))
        assert len({view.numpy().tobytes() for view in views}) == 8
        assert torch.equal(views, tpt_views(image, 24, 8, 3, augmix=augmix))
        assert not torch.equal(views[1:], tpt_views(image, 24, 8, 4, augmix=augmix)[1:])
    assert torch.equal(tpt_views(image, 24, 1, 3), views[:1])


def test_augmix_turns_and_shifts() -> None:
    """A crop of a plain picture stays plain; what is turned, sheared or shifted shows the black beside it."""
    plain = np.full((32, 32, 3), 200, np.uint8)
    assert (tpt_views(plain, 32, 16, 0, augmix=False) == 200).all()
    mixed = tpt_views(plain, 32, 64, 0)[1:]
    edged = (mixed.flatten(1).amin(1) < 185).float().mean()  # posterised to four bits, 200 becomes 192
    assert 0.3 < edged < 1
    assert mixed.float().mean() > 180  # but never far

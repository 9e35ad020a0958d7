"""Views of colour images: clean, weakly and strongly changed, and those of test-time prompt tuning.

A view is a callable that makes a square picture of another; what is random in it comes from the global generators,
which `apply` seeds for the length of a call. The official code cuts its random crops from the whole file, here they are
cut from the stored square. Normalisation is the model's own.

Shapes: B images, V views, S side of a stored image, s side of a view.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import (
    AugMix,
    CenterCrop,
    ColorJitter,
    Compose,
    InterpolationMode,
    RandomApply,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    Resize,
)
from torchvision.transforms.functional import pad

View = Callable[[Image.Image], Image.Image]

_BILINEAR, _BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC


class CleanView(Compose):
    """CLIP's evaluation view: the shorter side to `size` (bicubic), then the centre. MedUnA's code tests on it."""

    def __init__(self, size: int) -> None:
        super().__init__([Resize(size, _BICUBIC), CenterCrop(size)])


class PaddedView(Compose):
    """MedCLIP's evaluation view: padded with black to a square, then to `size` (bilinear).

    Colour is kept, where the official code makes the square grey, and an image smaller than 224 pixels is enlarged,
    where the official code pads it to 224 first.
    """

    def __init__(self, size: int) -> None:
        super().__init__([_pad_to_square, Resize((size, size), _BILINEAR)])


class RotatedView(Compose):
    """MedUnA's weak view as the paper has it (Sect. 2.2, "small rotations"): clean, turned by up to `degrees`.

    The paper gives no angle. The official code has no rotation: its weak view is `CleanView`.
    """

    def __init__(self, size: int, degrees: float = 10) -> None:
        super().__init__([CleanView(size), RandomRotation(degrees, _BILINEAR)])


class StrongView(Compose):
    """MedUnA's and LaFTer's strong view as their code has it: crop, flip, colours, grey, and always a blur.

    The blur's standard deviation is drawn from U(0.1, 2) pixels of an image of `reference` pixels; in a smaller view it
    shrinks in proportion, so that the same detail survives. At `size == reference` it is the official one.
    """

    def __init__(self, size: int, reference: int = 224) -> None:
        super().__init__(
            [
                RandomResizedCrop(size, scale=(0.2, 1.0)),
                RandomHorizontalFlip(),
                RandomApply([ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                RandomGrayscale(0.2),
                _Blur(0.1 * size / reference, 2.0 * size / reference),
            ]
        )


class PaperStrongView(Compose):
    """MedUnA's strong view as the paper has it (Sect. 2.2): "larger rotations, cropping and intensity scaling".

    The paper gives no amounts: turned by up to `degrees`, at least a fifth of the area kept and the intensity scaled by
    U(0.6, 1.4), the last two as in the official code.
    """

    def __init__(self, size: int, degrees: float = 30) -> None:
        turned = RandomRotation(degrees, _BILINEAR)
        super().__init__([turned, RandomResizedCrop(size, scale=(0.2, 1.0)), ColorJitter(brightness=0.4)])


class CroppedView(Compose):
    """A crop of 8 to 100 % of the area, flipped or not: TPT's view without AugMix; without flips, BiomedCoOp's."""

    def __init__(self, size: int, flip: bool = True) -> None:
        super().__init__([RandomResizedCrop(size), *([RandomHorizontalFlip()] if flip else [])])


class AugMixView(Compose):
    """TPT's view: a crop, flipped or not, mixed with three chains of one to three operations each (AugMix).

    Chains, depths, the weights from Dirichlet(1, 1, 1) and Beta(1, 1), and the nine operations are those of TPT.
    Magnitudes differ: TPT's severity 1 draws them from U(0.01, 0.1) of an operation's range, while torchvision's
    severity n picks one of the first n of ten even steps through that range, the first of which is no change. With its
    severity 1 nothing would ever be turned, sheared or shifted; severity 2 (no change, or a ninth of the range)
    brackets TPT's. TPT mixes after normalising, which differs by the rounding to whole grey levels alone.
    """

    def __init__(self, size: int) -> None:
        mixed = AugMix(severity=2, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)
        super().__init__([CroppedView(size), mixed])


@dataclass(frozen=True)
class _Blur:
    """A Gaussian blur whose standard deviation, in pixels, is drawn from U(low, high) by Python's generator."""

    low: float
    high: float

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(self.low, self.high)))


def _pad_to_square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    return pad(image, [left, top, side - image.width - left, side - image.height - top])


def apply(view: View, images: np.ndarray, seed: int) -> Tensor:
    """One view of each image: uint8 (B, S, S, 3) -> uint8 (B, 3, s, s), drawn anew for every image.

    A function of (view, images, seed) alone: the generators of torch (CPU), Python and NumPy are seeded for the call
    and then restored. They are the process's own, so only one thread may be here at a time. `seed` is in [0, 2^64); an
    image's view depends on its place in the batch.
    """
    with _seeded(seed):
        pixels = np.stack([np.asarray(view(Image.fromarray(image))) for image in images])  # (B, s, s, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def tpt_views(image: np.ndarray, size: int, views: int, seed: int, augmix: bool = True) -> Tensor:
    """The views of test-time prompt tuning of one image: uint8 (S, S, 3) -> uint8 (V, 3, s, s).

    V is `views`, at least 1, and s is `size`. The first is the clean one, the others are `AugMixView`s, or
    `CroppedView`s without `augmix`. The official code has 64, with AugMix for every data set but ImageNet's. A function
    of the arguments alone, as `apply` is.
    """
    view = AugMixView(size) if augmix else CroppedView(size)
    clean = apply(CleanView(size), image[None], seed)  # (1, 3, s, s)
    if views == 1:
        return clean
    return torch.cat([clean, apply(view, np.broadcast_to(image, (views - 1, *image.shape)), seed)])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, Python's and NumPy's; give them back as they were."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators, too
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002

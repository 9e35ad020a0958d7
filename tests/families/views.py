"""The views of an image: CLIP's and MedCLIP's for evaluation, and the strong one of MedUnA and LaFTer."""

import re
from collections.abc import Iterator

import numpy as np
import torch
from families.common import Case, family
from torch import Tensor

from nbcore.data.views import CleanView, PaddedView, StrongView, apply

_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_MEDCLIP = (0.5862785803043838,) * 3, (0.27950088968644304,) * 3
_VIEWS = {
    "te_transform": (CleanView, _CLIP),
    "medclip_zeroshot_transform": (PaddedView, _MEDCLIP),
    "strong": (lambda size: StrongView(size, reference=size), _CLIP),
}
_KEY = re.compile(rf"({'|'.join(_VIEWS)})(?:_seed(\d+))?(?:_(\w+))?")  # view, seed, image ("rgb" where not told)
_ATOL = 4e-3  # the golden numbers are of half precision; a grey level is 1.4e-2


@family("preprocess*.npz")
def preprocess(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Every view of every stored image, normalised as its model has it."""
    for key, expected in golden.items():
        if match := _KEY.fullmatch(key):
            name, seed, image = match.groups()
            view, statistics = _VIEWS[name]
            pixels = apply(view(expected.shape[-1]), _colour(golden[f"img_{image or 'rgb'}"])[None], int(seed or 0))
            yield Case(f"{stem} {key}", _normalised(pixels[0], *statistics).numpy(), expected, 0, _ATOL)


def _colour(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (3, s, s) -> float (3, s, s)."""
    return (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

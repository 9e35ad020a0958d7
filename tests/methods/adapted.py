"""A small CLIP, a classifier and a batch for the tests of MedUnA and LaFTer."""

from functools import cache

import torch

from nbcore.models.clip import OpenClip, small_clip

CLASSES, WIDTH, SIZE = 3, 32, 16


@cache
def _clip() -> OpenClip:
    torch.manual_seed(0)
    return small_clip(SIZE, patch=8, width=WIDTH, hidden=32, layers=2, text_layers=1)


def backbone() -> OpenClip:
    """One and the same for all tests: none may change it, see `snapshot`."""
    return _clip()


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All of a model's weights as they are now."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def stage_1() -> torch.Tensor:
    """Weight of a classifier, (C, D)."""
    return 0.2 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1))


def batch(rows: int = 5) -> dict[str, torch.Tensor]:
    """Two views of some images."""
    generator = torch.Generator().manual_seed(2)
    return {key: torch.randn(rows, 3, SIZE, SIZE, generator=generator) for key in ("image", "weak_image")}


def step(method: torch.nn.Module, losses: torch.Tensor, rate: float = 0.1) -> None:
    """One step of plain gradient descent on everything that is trained."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=rate)
    losses.backward()
    optimizer.step()
    optimizer.zero_grad()

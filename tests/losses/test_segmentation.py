"""Segmentation losses and metric against slow NumPy references, analytic values, invariances, finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nbcore.losses.segmentation import batch_dice, dice_per_image, focal_loss, mixed_loss, squared_dice_loss

SCALARS = [focal_loss, batch_dice, mixed_loss]
ALL = [*SCALARS, squared_dice_loss, dice_per_image]


def draw(batch: int = 4, height: int = 5, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and a mask whose second image is negative."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    mask = (torch.rand(batch, height, width, generator=generator) < 0.3).double()
    mask[1] = 0
    return logits, mask


def slow(logits: np.ndarray, mask: np.ndarray, gamma: float, alpha: float) -> dict[str, float | list[float]]:
    """Every value, pixel by pixel."""
    focal, overlap, total, per_image, squared = 0.0, 0.0, 0.0, [], []
    for image, truth in zip(logits, mask):
        predicted, both, own_overlap, own_squares = 0, 0, 0.0, 0.0
        for x, t in zip(image.ravel(), truth.ravel()):
            p = 1 / (1 + math.exp(-x))
            p_true = p if t else 1 - p
            focal -= (1 - p_true) ** gamma * math.log(p_true)
            overlap, total = overlap + p * t, total + p + t
            own_overlap, own_squares = own_overlap + p * t, own_squares + p * p + t * t
            predicted, both = predicted + (p > 0.5), both + (p > 0.5 and t == 1)
        squared.append(1 - (own_overlap + 1) / (own_squares + 1))
        if truth.any():
            per_image.append(2 * both / (predicted + truth.sum()))
        else:
            per_image.append(float(predicted == 0))
    dice = (2 * overlap + 1) / (total + 1)
    focal /= logits.size
    mixed = alpha * focal - math.log(dice)
    return {"focal": focal, "dice": dice, "mixed": mixed, "squared": squared, "per_image": per_image}


@pytest.mark.parametrize("shape", [(4, 5, 7), (2, 1, 9), (3, 8, 8)])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 10.0), (0.5, 3.0)])
def test_values_equal_the_slow_reference(shape, gamma, alpha):
    logits, mask = draw(*shape)
    expected = slow(logits.numpy(), mask.numpy(), gamma, 10.0)
    assert focal_loss(logits, mask, gamma).item() == pytest.approx(expected["focal"], rel=1e-12)
    assert batch_dice(logits, mask).item() == pytest.approx(expected["dice"], rel=1e-12)
    reference = slow(logits.numpy(), mask.numpy(), 2.0, alpha)["mixed"]
    assert mixed_loss(logits, mask, alpha).item() == pytest.approx(reference, rel=1e-12)
    np.testing.assert_allclose(squared_dice_loss(logits.sigmoid(), mask).numpy(), expected["squared"], rtol=1e-12)
    np.testing.assert_allclose(dice_per_image(logits, mask).numpy(), expected["per_image"], rtol=1e-12)


def test_the_form_for_any_exponent_equals_the_plain_one_forward_and_gradient():
    logits, mask = (values.requires_grad_(values.dtype.is_floating_point) for values in draw())
    focal_loss(logits, mask).backward()
    plain = logits.detach().clone().requires_grad_()
    p = plain.sigmoid()
    true = torch.where(mask == 1, p, 1 - p)
    ((1 - true).square() * -true.log()).mean().backward()
    torch.testing.assert_close(logits.grad, plain.grad, rtol=1e-10, atol=1e-14)


def test_analytic_values():
    mask = torch.zeros(2, 4, 4)
    mask[0, :2, :2] = 1
    sure = (2 * mask - 1) * 30  # right everywhere
    assert focal_loss(sure, mask) == pytest.approx(0)
    assert batch_dice(sure, mask) == pytest.approx(1)
    assert mixed_loss(sure, mask) == pytest.approx(0, abs=1e-6)
    assert dice_per_image(sure, mask).tolist() == [1, 1]
    assert dice_per_image(-sure, mask).tolist() == [0, 0]
    undecided = torch.zeros(2, 4, 4)
    assert focal_loss(undecided, mask).item() == pytest.approx(math.log(2) / 4)
    assert focal_loss(undecided, mask, gamma=0).item() == pytest.approx(math.log(2))
    assert batch_dice(undecided, mask).item() == pytest.approx((2 * 2 + 1) / (16 + 4 + 1))
    perfect = squared_dice_loss(mask, mask)
    assert perfect.tolist() == pytest.approx([1 - 5 / 9, 0])  # no factor 2 above: 1 - (4 + 1) / (8 + 1)


def test_negatives_score_one_only_if_nothing_is_predicted():
    logits, mask = torch.full((3, 4, 4), -2.0), torch.zeros(3, 4, 4)
    logits[1, 0, 0] = 2
    mask[2, 0, 0] = 1  # a positive of which nothing is predicted
    assert dice_per_image(logits, mask).tolist() == [1, 0, 0]
    assert dice_per_image(logits, mask, threshold=0.9).tolist() == [1, 1, 0]


@pytest.mark.parametrize("loss", ALL)
def test_images_and_pixels_may_come_in_any_order(loss):
    logits, mask = draw()
    logits = logits.sigmoid() if loss is squared_dice_loss else logits
    pixels = torch.randperm(35, generator=torch.Generator().manual_seed(0))
    shuffled = (x.flatten(1)[:, pixels].view(4, 5, 7).flip(0) for x in (logits, mask))
    value = loss(*shuffled)
    torch.testing.assert_close(value.flip(0) if value.ndim else value, loss(logits, mask))


@pytest.mark.parametrize("loss", ALL)
def test_masks_of_any_type_and_channels_are_alike(loss):
    logits, mask = draw()
    logits = logits.sigmoid() if loss is squared_dice_loss else logits
    for dtype in (torch.uint8, torch.bool, torch.float32):
        torch.testing.assert_close(loss(logits, mask.to(dtype)), loss(logits, mask))
    torch.testing.assert_close(loss(logits[:, None], mask[:, None]), loss(logits, mask))
    with pytest.raises(ValueError, match="differ in shape"):
        loss(logits[:, None], mask)


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_losses_and_gradients_stay_finite(extreme, dtype):
    for mask in (torch.zeros(4, 200, 200), torch.ones(4, 200, 200)):  # 160,000 pixels: too many for a float16 sum
        logits = torch.full_like(mask, extreme, dtype=dtype).requires_grad_()
        for gamma in (0.5, 2.0):
            (mixed_loss(logits, mask) + focal_loss(logits, mask, gamma)).backward()
        assert mixed_loss(logits, mask).isfinite()
        assert logits.grad.isfinite().all()
        assert dice_per_image(logits, mask).isfinite().all()


@pytest.mark.parametrize("loss", [*SCALARS, squared_dice_loss])
def test_gradients(loss):
    logits, mask = draw(3, 2, 3)
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits.requires_grad_())


def test_the_metric_has_no_gradient():
    logits, mask = draw()
    assert not dice_per_image(logits.requires_grad_(), mask).requires_grad

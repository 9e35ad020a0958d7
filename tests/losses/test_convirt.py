"""ConVIRT's loss against a slow NumPy reference, analytic values, invariances and finite differences."""

import math

import numpy as np
import pytest
import torch

from nbcore.losses.contrastive import info_nce
from nbcore.losses.convirt import convirt_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_loss(image: np.ndarray, report: np.ndarray, weight: float, temperature: float) -> float:
    """Pair by pair: the share of the matching pair among all pairs of an image, and among all of a report."""

    def closeness(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / temperature)

    loss = 0.0
    for i in range(len(image)):
        pair = closeness(image[i], report[i])
        loss -= weight * math.log(pair / sum(closeness(image[i], other) for other in report))
        loss -= (1 - weight) * math.log(pair / sum(closeness(other, report[i]) for other in image))
    return loss / len(image)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (1, 3)])
def test_loss_equals_the_slow_reference(weight, shape):
    image, report = draw(*shape), draw(*shape, seed=1)
    expected = slow_loss(image.numpy(), report.numpy(), weight, 0.3)
    assert convirt_loss(image, report, weight, 0.3).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_equal_weights_are_info_nce():
    image, report = draw(6, 5), draw(6, 5, seed=1)
    torch.testing.assert_close(convirt_loss(image, report, 0.5, 0.07), info_nce(image, report, 0.07))


def test_weight_is_that_of_the_direction_from_image_to_report():
    """Two images alike: each image finds its report, the reports cannot tell the images apart."""
    image, report = torch.tensor([[1.0, 1], [1, 1]]), torch.eye(2)
    assert convirt_loss(image, report, weight=1).item() == pytest.approx(math.log(2))
    image, report = torch.eye(3), torch.eye(3)
    assert convirt_loss(image, report, temperature=0.01).item() == pytest.approx(0, abs=1e-6)
    wrong = torch.tensor([[1.0, 0], [1, 0]])
    one_way = convirt_loss(wrong, torch.eye(2), weight=1, temperature=0.5).item()
    assert one_way == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2)
    assert convirt_loss(wrong, torch.eye(2), weight=0, temperature=0.5).item() == pytest.approx(math.log(2))


def test_order_of_the_batch_and_scale_do_not_matter():
    image, report = draw(6, 5), draw(6, 5, seed=1)
    torch.testing.assert_close(convirt_loss(image, report), convirt_loss(4 * image.flip(0), 0.3 * report.flip(0)))
    torch.testing.assert_close(convirt_loss(image, report, 0.75), convirt_loss(report, image, 0.25))
    assert convirt_loss(torch.ones(6, 5), torch.ones(6, 5)).item() == pytest.approx(math.log(6), rel=1e-6)


def test_gradients():
    assert torch.autograd.gradcheck(convirt_loss, (draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()))

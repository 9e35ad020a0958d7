"""InfoNCE and word masking."""

import numpy as np
import pytest
import torch

from nbcore.losses.contrastive import info_nce, matched_nce
from nbcore.losses.language import mask_words


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_matched_nce(first: np.ndarray, second: np.ndarray, labels: list[int], temperature: float) -> float:
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    total = 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(len(a)):
            scores = [np.exp(a[i] @ b[j] / temperature) for j in range(len(b))]
            own = [j for j in range(len(b)) if labels[j] == labels[i]]
            total -= sum(np.log(scores[j] / sum(scores)) for j in own) / len(own)
    return total / (2 * len(first))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_equals_the_slow_reference(temperature):
    first, second = draw(6, 4), draw(6, 4, seed=1)
    expected = slow_matched_nce(first.numpy(), second.numpy(), list(range(6)), temperature)
    assert info_nce(first, second, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_info_nce_values_invariances_and_gradient():
    first, second = draw(5, 4), draw(5, 4, seed=1)
    same = torch.ones(5, 4)
    assert info_nce(same, same, 0.1).item() == pytest.approx(np.log(5))
    torch.testing.assert_close(info_nce(first, second, 0.1), info_nce(second, first, 0.1))
    torch.testing.assert_close(info_nce(first, second, 0.1), info_nce(4 * first.flip(0), second.flip(0), 0.1))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5), (first.requires_grad_(), second.requires_grad_()))


def test_masking_shares_and_special_tokens():
    torch.manual_seed(0)
    ids = torch.randint(5, 1000, (400, 64))
    ids[:, 0], ids[:, -1] = 2, 0
    special = torch.tensor([0, 1, 2, 3, 4])
    read, target = mask_words(ids, special, mask_id=4, vocabulary=1000)
    chosen = target >= 0
    assert not chosen[:, 0].any()
    assert not chosen[:, -1].any()
    assert torch.equal(target[chosen], ids[chosen])
    assert torch.equal(read[~chosen], ids[~chosen])
    assert chosen[:, 1:-1].float().mean() == pytest.approx(0.15, abs=0.01)
    became = read[chosen]
    assert (became == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (became == ids[chosen]).float().mean() == pytest.approx(0.1, abs=0.02)


def test_matched_nce_equals_the_slow_reference():
    first, second, labels = draw(6, 4), draw(6, 4, seed=1), [0, 1, 0, 2, 1, 0]
    expected = slow_matched_nce(first.numpy(), second.numpy(), labels, 0.2)
    assert matched_nce(first, second, torch.tensor(labels), 0.2).item() == pytest.approx(expected, rel=1e-12)


def test_matched_nce_values_and_gradient():
    first, second = draw(5, 4), draw(5, 4, seed=1)
    alone, same = torch.arange(5), torch.ones(5, 4)
    torch.testing.assert_close(matched_nce(first, second, alone, 0.1), info_nce(first, second, 0.1))
    assert matched_nce(same, same, torch.tensor([0, 0, 1, 1, 2]), 0.1).item() == pytest.approx(np.log(5))
    order = torch.tensor([3, 1, 4, 0, 2])
    labels = torch.tensor([0, 1, 1, 2, 0])
    turned = matched_nce(first[order], second[order], labels[order], 0.1)
    torch.testing.assert_close(turned, matched_nce(first, second, labels, 0.1))
    inputs = [tensor.requires_grad_() for tensor in (first, second)]
    assert torch.autograd.gradcheck(lambda a, b: matched_nce(a, b, labels, 0.3), inputs)

"""GLoRIA's losses against a slow NumPy reference, the form with contexts, analytic values, invariances, differences."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nbcore.losses import gloria
from nbcore.losses.contrastive import info_nce
from nbcore.losses.gloria import global_loss, local_loss, local_similarity, region_attention

SHAPES = [(4, 9, 6, 16), (3, 5, 7, 2), (2, 1, 1, 3)]  # B, S, L, D


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(B: int, S: int, L: int, D: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Regions, words, and a mask that leaves each report between one word and all."""
    lengths = torch.arange(B) * 2 % L + 1
    return draw(B, S, D), draw(B, L, D, seed=1), torch.arange(L) < lengths[:, None]


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


def slow_similarity(regions, words, mask, t1: float, t2: float, t3: float, aggregate: str) -> np.ndarray:
    """Word by word, with the context of each word formed."""
    matrix = np.zeros((len(regions), len(words)))
    for b, image in enumerate(regions.numpy()):
        for t, report in enumerate(words.numpy()):
            report = report[mask[t].numpy()]
            shares = np.stack([softmax(report @ region) for region in image], axis=1)  # (words, S)
            terms = []
            for word, share in zip(report, shares):
                context = sum(a * region for a, region in zip(softmax(t1 * share), image))
                terms.append(np.exp(t2 * (word @ context) / np.linalg.norm(word) / np.linalg.norm(context)))
            matrix[b, t] = t3 * np.log(np.sum(terms) if aggregate == "sum" else np.mean(terms))
    return matrix


def plain_similarity(regions: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """All pairs at once, with contexts of (B, T, L, D)."""
    similarity = torch.einsum("bsd,tld->btls", regions, words)
    context = torch.einsum("btls,bsd->btld", region_attention(similarity, mask), regions)
    cosine = F.cosine_similarity(context, words[None], dim=3)
    return 10 * (5 * cosine).masked_fill(~mask, -torch.inf).logsumexp(dim=2)


def cross_entropies(matrix: np.ndarray) -> list[float]:
    return [-np.mean([np.log(softmax(row)[i]) for i, row in enumerate(m)]) for m in (matrix, matrix.T)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_local_loss_equals_the_slow_reference(shape, aggregate):
    inputs, temperatures = batch(*shape), (3.0, 2.0, 1.5)
    expected = slow_similarity(*inputs, *temperatures, aggregate)
    ours = local_similarity(*inputs, *temperatures, aggregate).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
    losses = [loss.item() for loss in local_loss(*inputs, *temperatures, aggregate)]
    assert losses == pytest.approx(cross_entropies(expected), rel=1e-10)


def test_global_loss_values_and_invariances():
    image, report = draw(5, 7), draw(5, 7, seed=1)
    cosine = F.normalize(image, dim=1).numpy() @ F.normalize(report, dim=1).numpy().T
    assert [x.item() for x in global_loss(image, report)] == pytest.approx(cross_entropies(10 * cosine), rel=1e-12)
    assert sum(global_loss(image, report)).item() == pytest.approx(2 * info_nce(image, report, 0.1).item())
    for ours, expected in zip(global_loss(3 * image.flip(0), 0.2 * report.flip(0)), global_loss(image, report)):
        torch.testing.assert_close(ours, expected)
    alike = global_loss(torch.ones(5, 7), report.float())[0]  # each image is nearest to the same report
    assert alike.item() > math.log(5)


@pytest.mark.parametrize("chunk", [1, 2 * 4 * 6 * 9, 10**9], ids=["one image", "two images", "all"])
def test_chunks_equal_the_form_with_contexts_forward_and_gradient(chunk, monkeypatch):
    """The last case is all at once; five images in twos leave a remainder."""
    monkeypatch.setattr(gloria, "_CHUNK", chunk)
    regions, words, mask = batch(5, 9, 6, 16)
    words, mask = words[:4], mask[:4]  # T need not be B
    weight = draw(5, 4, seed=2)  # of every entry, so that each one's gradient counts
    gradients = []
    for form in (local_similarity, plain_similarity):
        leaves = regions.clone().requires_grad_(), words.clone().requires_grad_()
        value = form(*leaves, mask)
        gradients.append((value.detach(), *torch.autograd.grad((weight * value).sum(), leaves)))
    for ours, expected in zip(*gradients):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_no_tensor_of_the_contexts_size_is_formed(monkeypatch):
    monkeypatch.setattr(gloria, "_CHUNK", 10**9)
    sizes = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            return result

    regions, words, mask = (x.requires_grad_() if x.is_floating_point() else x for x in batch(6, 4, 5, 100))
    with Record():
        sum(local_loss(regions, words, mask)).backward()
    assert (
        max(sizes) == 6 * 5 * 100 < 6 * 6 * 5 * 100
    )  # the words themselves; a context for each pair is six times that


def test_padding_has_no_influence_whatever_it_holds():
    regions, words, mask = batch(4, 9, 6, 16)
    expected = local_similarity(regions, words, mask)
    garbage = words.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    leaf = regions.clone().requires_grad_()
    longer = F.pad(garbage, (0, 0, 0, 3), value=7.0)
    value = local_similarity(leaf, longer, F.pad(mask, (0, 3)).long())
    torch.testing.assert_close(value, expected)
    sum(local_loss(leaf, longer, F.pad(mask, (0, 3)))).backward()
    assert leaf.grad.isfinite().all() and (garbage.grad[~mask] == 0).all() and garbage.grad[mask].abs().min() > 0
    for t in range(4):  # a report alone, cut to its length
        alone = local_similarity(regions, words[t : t + 1, mask[t]], mask[t : t + 1, mask[t]])
        torch.testing.assert_close(alone[:, 0], expected[:, t])


def test_order_of_batch_regions_and_words_does_not_matter():
    regions, words, mask = batch(4, 9, 6, 16)
    expected = local_loss(regions, words, mask)
    for ours in (
        local_loss(regions.flip(0), words.flip(0), mask.flip(0)),
        local_loss(regions.flip(1), words, mask),
        local_loss(regions, words.flip(1), mask.flip(1)),
    ):
        torch.testing.assert_close(ours, expected)


def test_analytic_values():
    regions, words, mask = batch(4, 1, 6, 16)  # one region is the context of every word
    cosine = F.cosine_similarity(regions[:, None], words[None], dim=3)  # (B, T, L)
    expected = 10 * (5 * cosine).masked_fill(~mask, -torch.inf).logsumexp(dim=2)
    torch.testing.assert_close(local_similarity(regions, words, mask), expected)
    difference = local_similarity(regions, words, mask) - local_similarity(regions, words, mask, aggregate="mean")
    torch.testing.assert_close(difference, 10 * mask.sum(1).double().log().expand(4, 4))
    alike = local_loss(regions[:1].expand(4, 1, 16), words[:1].expand(4, 6, 16), mask[3:].expand(4, 6))
    assert [loss.item() for loss in alike] == pytest.approx([math.log(4)] * 2)


def test_attention_is_a_distribution_in_which_words_compete():
    regions, words, mask = batch(3, 5, 7, 4)
    attention = region_attention(words @ regions.mT, mask)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(3, 7, dtype=torch.float64))
    alone = mask.sum(dim=1) == 1  # a single word wins every region whole, so it looks at all of them alike
    torch.testing.assert_close(attention[alone, 0], torch.full((int(alone.sum()), 5), 0.2, dtype=torch.float64))


def test_cosines_stay_in_range_where_contexts_vanish():
    """Opposite regions cancel, and rounding leaves a squared length of any sign: the cosine must not leave [-1, 1]."""
    word = F.normalize(draw(1, 1, 64), dim=2).float()
    region = 50 * F.normalize(draw(8, 4, 64, seed=3), dim=2).float()
    regions = torch.cat([region, -region], dim=1).requires_grad_()  # one word looks at all regions alike: c = 0
    similarity = local_similarity(regions, word, torch.ones(1, 1))
    assert (similarity.abs() <= 50.001).all()
    similarity.sum().backward()
    assert regions.grad.isfinite().all()


def test_dead_images_give_finite_gradients():
    regions, words, mask = batch(4, 9, 6, 16)
    regions[1] = 0
    leaves = regions.requires_grad_(), words.requires_grad_()
    sum(local_loss(*leaves, mask)).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_gradients(aggregate):
    regions, words, mask = batch(2, 3, 3, 4)
    leaves = regions.requires_grad_(), words.requires_grad_()
    assert torch.autograd.gradcheck(lambda r, w: local_loss(r, w, mask, aggregate=aggregate), leaves)
    assert torch.autograd.gradcheck(global_loss, (draw(3, 4).requires_grad_(), draw(3, 4, seed=1).requires_grad_()))


def test_unknown_aggregate_is_an_error():
    with pytest.raises(ValueError, match="sum or mean"):
        local_loss(*batch(2, 3, 3, 4), aggregate="max")

"""MGCA's losses against slow NumPy references, plain autograd, analytic values, invariances and finite differences."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbcore.losses.contrastive import info_nce
from nbcore.losses.mgca import (
    attended_alignment,
    attention_weights,
    clipped_weights,
    instance_alignment,
    prototype_alignment,
    token_alignment,
)

SWITCHES = list(product([True, False], [True, False]))  # mask_pads, normalize_patch_output


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Tokens(NamedTuple):
    patches: torch.Tensor
    words: torch.Tensor
    patch_weights: torch.Tensor
    word_weights: torch.Tensor
    mask: torch.Tensor


def draw_tokens(lengths=(3, 7, 1, 5), patches: int = 6, width: int = 5) -> Tokens:
    batch, slots = len(lengths), max(lengths) + 1
    mask = torch.arange(slots) < torch.tensor(lengths)[:, None]
    word_weights = (draw(batch, slots, seed=3).abs() + 0.1) * mask
    return Tokens(
        draw(batch, patches, width).requires_grad_(),
        draw(batch, slots, width, seed=1).requires_grad_(),
        F.normalize(draw(batch, patches, seed=2).abs(), p=1, dim=1),
        F.normalize(word_weights, p=1, dim=1),
        mask,
    )


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_contrast(tokens: np.ndarray, outputs: np.ndarray, weights: np.ndarray, temperature: float) -> float:
    """Eq. 5 for one sample, pair by pair; products as they are."""
    loss = 0.0
    for j in range(len(tokens)):
        match = np.exp(tokens[j] @ outputs[j] / temperature)
        row = sum(np.exp(tokens[j] @ outputs[k] / temperature) for k in range(len(tokens)))
        column = sum(np.exp(tokens[k] @ outputs[j] / temperature) for k in range(len(tokens)))
        loss -= weights[j] * (np.log(match / row) + np.log(match / column)) / 2
    return loss


def slow_tokens(tokens: Tokens, attention: float, temperature: float, mask_pads: bool, normalize: bool):
    """L_LIA and L_LTA sample by sample."""
    lia = lta = 0.0
    batch = len(tokens.mask)
    for i in range(batch):
        r, z = unit(tokens.patches[i].detach().numpy()), unit(tokens.words[i].detach().numpy())
        patch_weights, word_weights = tokens.patch_weights[i].numpy(), tokens.word_weights[i].numpy()
        length = int(tokens.mask[i].sum())
        exps = np.exp(r @ z[:length].T / attention)
        o_r = exps / exps.sum(axis=1, keepdims=True) @ z[:length]
        exps = np.exp(z @ r.T / attention)
        o_z = unit(exps / exps.sum(axis=1, keepdims=True) @ r)
        lia += slow_contrast(r, unit(o_r) if normalize else o_r, patch_weights, temperature) / batch
        end = length if mask_pads else len(z)
        lta += slow_contrast(z[:end], o_z[:end], word_weights[:end], temperature) / batch
    return lia, lta


def plain_tokens(tokens: Tokens, attention: float, temperature: float, mask_pads: bool, normalize: bool):
    """The same with torch's own softmax, cross-entropy and autograd; (L_LIA + L_LTA) / 2."""
    r, z = F.normalize(tokens.patches, dim=2), F.normalize(tokens.words, dim=2)
    o_z = F.normalize((z @ r.mT / attention).softmax(dim=2) @ r, dim=2)
    o_r = (r @ z.mT / attention).masked_fill(~tokens.mask[:, None], -torch.inf).softmax(dim=2) @ z
    total = 0.0
    pads = ~tokens.mask if mask_pads else torch.zeros_like(tokens.mask)
    no_pads = torch.zeros(r.shape[:2], dtype=torch.bool)
    for a, b, weights, out in (
        (r, F.normalize(o_r, dim=2) if normalize else o_r, tokens.patch_weights, no_pads),
        (z, o_z, tokens.word_weights, pads),
    ):
        logits = (a @ b.mT / temperature).masked_fill(out[:, None] | out[:, :, None], -1e9)
        target = torch.arange(a.shape[1]).expand(a.shape[:2])
        entropies = [F.cross_entropy(x, target, reduction="none") for x in (logits, logits.mT)]
        total = total + (weights * sum(entropies)).sum() / 4 / len(a)
    return total


def test_instance_alignment_is_info_nce():
    image, report = draw(5, 4), draw(5, 4, seed=1)
    assert instance_alignment(image, report, 0.1).equal(info_nce(image, report, 0.1))
    assert instance_alignment(image, report, 0.1, "sum").equal(2 * info_nce(image, report, 0.1))


def test_clipped_weights_equal_the_slow_reference():
    attention = draw(4, 9).abs()
    attention[0, 5:] = 0
    attention[1, 1:] = 0
    attention[2] = 0
    weights = clipped_weights(attention)
    for row, ours in zip(attention.numpy(), weights.numpy()):
        expected = row.copy()
        entries = row[row > 0]
        if len(entries):
            expected[row > 0] = np.clip(entries, np.quantile(entries, 0.1), np.quantile(entries, 0.9))
            expected /= expected.sum()
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert weights[1].tolist() == [1.0] + [0.0] * 8
    torch.testing.assert_close(clipped_weights(5 * attention), weights)
    assert not clipped_weights(attention.requires_grad_()).requires_grad


def test_attention_weights_leave_padding_out():
    tokens = draw_tokens()
    weights = attention_weights(tokens.patches, tokens.words, tokens.mask)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, 6, dtype=torch.float64))
    assert weights[2, :, 0].tolist() == [1.0] * 6  # a report of one word
    assert not weights[:, :, -1].any()


@pytest.mark.parametrize(("mask_pads", "normalize"), SWITCHES)
@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
def test_token_alignment_equals_the_slow_reference(mask_pads, normalize, chunk):
    tokens = draw_tokens()
    lia, lta = slow_tokens(tokens, 0.3, 0.2, mask_pads, normalize)
    found = token_alignment(
        *tokens,
        temperature=0.2,
        attention_temperature=0.3,
        mask_pads=mask_pads,
        normalize_patch_output=normalize,
        chunk=chunk,
    )
    assert found.image_to_text.item() == pytest.approx(lia, rel=1e-12)
    assert found.text_to_image.item() == pytest.approx(lta, rel=1e-12)
    assert found.loss.item() == pytest.approx((lia + lta) / 2, rel=1e-12)


@pytest.mark.parametrize(("mask_pads", "normalize"), SWITCHES)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_chunked_gradients_equal_plain_autograd(mask_pads, normalize, chunk):
    tokens = draw_tokens()
    plain = plain_tokens(tokens, 0.1, 0.07, mask_pads, normalize)
    expected = torch.autograd.grad(plain, tokens[:2])
    fast = token_alignment(
        *tokens, temperature=0.07, mask_pads=mask_pads, normalize_patch_output=normalize, chunk=chunk
    )
    torch.testing.assert_close(fast.loss, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(fast.loss, tokens[:2]), expected, rtol=1e-10, atol=1e-14)


def test_single_precision_is_close_to_double_at_the_paper_size():
    tokens = draw_tokens(lengths=(110, 20), patches=196, width=128)
    single = Tokens(*(x.detach().float() if x.is_floating_point() else x for x in tokens))
    single.patches.requires_grad_()
    double = plain_tokens(tokens, 0.1, 0.07, True, True)
    found = token_alignment(*single, temperature=0.07)
    assert found.loss.item() == pytest.approx(double.item(), rel=2e-6)
    (ours,), (expected,) = torch.autograd.grad(found.loss, [single.patches]), torch.autograd.grad(double, [tokens[0]])
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(("mask_pads", "normalize"), SWITCHES)
def test_token_alignment_gradient_by_finite_differences(mask_pads, normalize):
    tokens = draw_tokens(lengths=(2, 3), patches=3, width=3)
    switches = {"temperature": 0.5, "mask_pads": mask_pads, "normalize_patch_output": normalize, "chunk": 1}
    assert torch.autograd.gradcheck(
        lambda r, z: token_alignment(r, z, *tokens[2:], attention_temperature=0.4, **switches).loss, tokens[:2]
    )
    outputs = draw(2, 3, 3, seed=5).requires_grad_(), draw(2, 4, 3, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: attended_alignment(*inputs, *tokens[2:], **switches).loss, (*tokens[:2], *outputs)
    )


@pytest.mark.parametrize(("mask_pads", "normalize"), SWITCHES)
def test_attended_alignment_of_plain_attention_is_token_alignment(mask_pads, normalize):
    tokens = draw_tokens()
    patch_outputs = attention_weights(tokens.patches, tokens.words, tokens.mask) @ F.normalize(tokens.words, dim=2)
    word_outputs = attention_weights(tokens.words, tokens.patches) @ F.normalize(tokens.patches, dim=2)
    switches = {"mask_pads": mask_pads, "normalize_patch_output": normalize, "reduction": "sum"}
    ours = attended_alignment(*tokens[:2], patch_outputs, word_outputs, *tokens[2:], **switches)
    expected = token_alignment(*tokens, **switches)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours.loss, tokens[:2]), torch.autograd.grad(expected.loss, tokens[:2])
    )


def test_long_outputs_of_an_attention_do_not_overflow():
    tokens = Tokens(*(x.detach().float() if x.is_floating_point() else x for x in draw_tokens()))
    outputs = (30 * tokens.patches).requires_grad_(), tokens.words
    found = attended_alignment(*tokens[:2], *outputs, *tokens[2:], normalize_patch_output=False)
    assert found.loss.isfinite()
    assert torch.autograd.grad(found.loss, [outputs[0]])[0].isfinite().all()


def test_token_alignment_values():
    """Tokens that all agree tell nothing: the loss of a direction is the logarithm of the number of tokens."""
    tokens = draw_tokens(lengths=(3, 5))
    alike = tokens._replace(patches=torch.ones_like(tokens.patches), words=torch.ones_like(tokens.words))
    found = token_alignment(*alike, temperature=0.01)
    assert found.image_to_text.item() == pytest.approx(np.log(6))
    assert found.text_to_image.item() == pytest.approx((np.log(3) + np.log(5)) / 2)
    official = token_alignment(*alike, mask_pads=False, reduction="sum")
    assert official.text_to_image.item() == pytest.approx(np.log(6))
    assert official.loss.item() == pytest.approx(2 * np.log(6))


def test_token_alignment_ignores_padding_order_and_scale():
    tokens = draw_tokens()
    expected = token_alignment(*tokens).loss
    noise = torch.where(tokens.mask[:, :, None], tokens.words, 9 * draw(4, 8, 5, seed=9))
    longer = [F.pad(noise, (0, 0, 0, 3), value=2.0), F.pad(tokens.word_weights, (0, 3)), F.pad(tokens.mask, (0, 3))]
    padded = token_alignment(tokens.patches, longer[0], tokens.patch_weights, *longer[1:]).loss
    torch.testing.assert_close(padded, expected)
    torch.testing.assert_close(token_alignment(*(x.flip(0) for x in tokens)).loss, expected)
    scaled = tokens._replace(patches=3 * tokens.patches, words=0.2 * tokens.words)
    torch.testing.assert_close(token_alignment(*scaled).loss, expected)
    shuffled = tokens._replace(patches=tokens.patches.flip(1), patch_weights=tokens.patch_weights.flip(1))
    torch.testing.assert_close(token_alignment(*shuffled).loss, expected)


def test_a_report_without_words_gives_finite_gradients():
    tokens = draw_tokens(lengths=(0, 4))
    found = token_alignment(*tokens, chunk=1)
    assert found.loss.isfinite()
    assert all(x.isfinite().all() for x in torch.autograd.grad(found.loss, tokens[:2]))


def test_prototype_alignment_equals_the_slow_reference():
    image, report, prototypes = draw(6, 4), draw(6, 4, seed=1), draw(3, 4, seed=2)
    c = unit(prototypes.numpy())
    scores = [unit(x.numpy()) @ c.T for x in (image, report)]
    codes = []
    for score in scores:
        q = np.exp(score / 0.05)
        for _ in range(3):
            q /= q.sum(axis=0) * 3
            q /= q.sum(axis=1, keepdims=True) * 6
        codes.append(q * 6)
    expected = 0.0
    for score, code in zip(scores, codes[::-1]):
        for i, k in product(range(6), range(3)):
            expected -= code[i, k] * np.log(np.exp(score[i, k] / 0.2) / np.exp(score[i] / 0.2).sum()) / 12
    assert prototype_alignment(image, report, prototypes).item() == pytest.approx(expected, rel=1e-12)


def test_prototype_alignment_invariances_and_gradient():
    image, report, prototypes = (draw(5, 4, seed=seed).requires_grad_() for seed in range(3))
    expected = prototype_alignment(image, report, prototypes)
    torch.testing.assert_close(prototype_alignment(image.flip(0), report.flip(0), 3 * prototypes.flip(0)), expected)
    torch.testing.assert_close(prototype_alignment(report, 2 * image, prototypes), expected)
    unit_rows = F.normalize(prototypes, dim=1)
    torch.testing.assert_close(prototype_alignment(image, report, unit_rows, normalize_prototypes=False), expected)
    same = torch.ones(5, 4, dtype=torch.float64)
    assert prototype_alignment(image, report, same).item() == pytest.approx(np.log(5))
    # As epsilon grows the codes become uniform, so that their missing gradient is 0 for finite differences, too.
    assert torch.autograd.gradcheck(
        lambda *inputs: prototype_alignment(*inputs, epsilon=1e9), (image, report, prototypes), eps=1e-5
    )

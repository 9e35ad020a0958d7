"""MGCA: its three losses at the paper's batch, and the aggregation of word pieces."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.losses.mgca import clipped_weights, instance_alignment, prototype_alignment, token_alignment
from nbcore.models.words import aggregate_words
from tests.benchmarks.timing import median_seconds

BATCH, PATCHES, SLOTS, WIDTH, PROTOTYPES, HIDDEN = 144, 196, 112, 128, 500, 768


def plain_alignment(
    patches: Tensor, words: Tensor, patch_weights: Tensor, word_weights: Tensor, mask: Tensor
) -> Tensor:
    """`token_alignment` by torch's softmax, cross-entropy and autograd."""
    r, z = F.normalize(patches, dim=2), F.normalize(words, dim=2)
    logits = z @ r.mT / 0.1  # (B, L, S)
    o_z = F.normalize(logits.softmax(dim=2) @ r, dim=2)
    o_r = F.normalize(logits.mT.masked_fill(~mask[:, None], -torch.inf).softmax(dim=2) @ z, dim=2)
    image = _plain_contrast(r @ o_r.mT / 0.1, patch_weights)
    pads = ~mask[:, None] | ~mask[:, :, None]
    return (image + _plain_contrast((z @ o_z.mT / 0.1).masked_fill(pads, -1e4), word_weights)) / 2


def _plain_contrast(logits: Tensor, weights: Tensor) -> Tensor:
    target = torch.arange(logits.shape[1]).expand(logits.shape[:2])
    entropies = [F.cross_entropy(x, target, reduction="none") for x in (logits, logits.mT)]
    return (weights * sum(entropies)).sum() / 2 / len(logits)


def losses() -> None:
    generator = torch.Generator().manual_seed(0)
    image, report = (torch.randn(BATCH, WIDTH, generator=generator).requires_grad_() for _ in range(2))
    patches = torch.randn(BATCH, PATCHES, WIDTH, generator=generator).requires_grad_()
    words = torch.randn(BATCH, SLOTS, WIDTH, generator=generator).requires_grad_()
    prototypes = torch.randn(PROTOTYPES, WIDTH, generator=generator).requires_grad_()
    attention = torch.rand(BATCH, PATCHES, generator=generator)
    word_attention = torch.rand(BATCH, SLOTS, generator=generator)
    lengths = {"all 112 words long": torch.full((BATCH,), SLOTS), "20 to 112 words long": torch.arange(BATCH) % 93 + 20}
    for name, length in lengths.items():
        mask = torch.arange(SLOTS) < length[:, None]

        def total(align, mask: Tensor = mask) -> None:
            weights = clipped_weights(attention), clipped_weights(word_attention * mask)
            tokens = align(patches, words, *weights, mask)
            losses = instance_alignment(image, report), tokens, prototype_alignment(image, report, prototypes)
            sum(losses).backward()

        ours = median_seconds(lambda total=total: total(lambda *tokens: token_alignment(*tokens).loss))
        official = median_seconds(
            lambda total=total: total(
                lambda *tokens: token_alignment(*tokens, mask_pads=False, normalize_patch_output=False).loss
            )
        )
        plain = median_seconds(lambda total=total: total(plain_alignment), repeats=7)
        print(
            f"MGCA's losses, B {BATCH}, S {PATCHES}, L {SLOTS}, reports {name}, forward and backward: "
            f"{ours * 1e3:.0f} ms, with the official switches {official * 1e3:.0f} ms, "
            f"by plain autograd {plain * 1e3:.0f} ms, ratio {plain / ours:.1f}"
        )


def words() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(BATCH, SLOTS, HIDDEN, generator=generator).requires_grad_()
    attention = torch.rand(BATCH, SLOTS, generator=generator)
    begins = torch.rand(BATCH, SLOTS, generator=generator) < 0.75
    begins[:, :2] = True
    segments = begins.cumsum(dim=1) - 2
    gradient = torch.randn(BATCH, int(segments.max()) + 1, HIDDEN, generator=generator)
    seconds = median_seconds(lambda: aggregate_words(states, attention, segments)[0].backward(gradient))
    print(f"words from pieces, {BATCH} x {SLOTS} x {HIDDEN}, forward and backward: {seconds * 1e3:.0f} ms")


def run() -> None:
    losses()
    words()

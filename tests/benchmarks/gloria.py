"""GLoRIA's local loss at the paper's size, against the form that makes the context of every word in every image."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.losses.gloria import local_loss, region_attention
from tests.benchmarks.timing import THREADS, median_seconds

B, S, L, D = 48, 361, 35, 768


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Inner products of a few units: larger ones leave attention gradients so small that they slow the processor."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(L // 2, L + 1, (B,), generator=generator)
    regions, words = (torch.randn(B, n, D, generator=generator).mul_(0.3).requires_grad_() for n in (S, L))
    return regions, words, torch.arange(L) < lengths[:, None]


def loss_with_contexts(regions: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """An image at a time against all reports, the products as large as ours."""
    rows = []
    for image in regions:
        attention = region_attention(words.flatten(0, 1).matmul(image.mT).unflatten(0, mask.shape), mask)  # (B, L, S)
        cosine = F.cosine_similarity(attention @ image, words, dim=2)  # (B, L)
        rows.append((5 * cosine).masked_fill(~mask, -torch.inf).logsumexp(dim=1))
    similarity = 10 * torch.stack(rows)  # (B, B)
    target = torch.arange(B)
    return F.cross_entropy(similarity, target), F.cross_entropy(similarity.T, target)


def peak_gib(loss: Callable[..., tuple[Tensor, Tensor]]) -> float:
    """What a step adds to the peak memory of a process of its own (Linux)."""
    torch.set_num_threads(THREADS)
    batch = inputs()
    before = peak_kib()
    sum(loss(*batch)).backward()
    return (peak_kib() - before) / 2**20


def peak_kib() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def run() -> None:
    batch = inputs()
    forms = (local_loss, loss_with_contexts)
    ours, plain = (median_seconds(lambda form=form: sum(form(*batch)).backward(), 3) for form in forms)
    memory = []
    for form in forms:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            memory.append(pool.submit(peak_gib, form).result())
    print(
        f"GLoRIA local loss, B {B}, {S} regions and {L} words of width {D}, forward and backward: {ours:.2f} s and "
        f"{memory[0]:.2f} GiB, with contexts {plain:.2f} s and {memory[1]:.2f} GiB, ratio {plain / ours:.1f}"
    )

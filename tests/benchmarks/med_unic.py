"""Med-UniC: its four losses at the paper's size, and a step of its language model on two dropout views."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertModel

from nbcore.losses.contrastive import info_nce
from nbcore.losses.med_unic import self_supervised_alignment, text_feature_alignment, text_text_alignment
from nbcore.models.text import TextEncoder, train_tokenizer
from tests.benchmarks.timing import median_seconds

BATCH, WIDTH, CTR_WIDTH = 128, 512, 1024
REPORTS, PIECES, TRAINED_LAYERS = 8, 64, 3


def whole_matrix(z1: Tensor, z2: Tensor, divisor: int) -> Tensor:
    """Distance of z1^T z2 / divisor from the identity, every entry of it formed."""
    c = z1.T @ z2 / divisor
    eye = torch.eye(len(c), dtype=torch.bool)
    return ((1 - c.diagonal()).square().sum() + 0.0051 * c.masked_fill(eye, 0).square().sum()) / len(c)


def plain_regularization(z1: Tensor, z2: Tensor) -> Tensor:
    """TF and TT through the (P, P) and the (B, B) matrix."""
    features = (F.batch_norm(z, None, None, training=True) for z in (z1, z2))
    reports = (F.layer_norm(z, (CTR_WIDTH,)).T for z in (z1, z2))
    return whole_matrix(*features, BATCH) + whole_matrix(*reports, CTR_WIDTH)


def losses() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second, report = (torch.randn(BATCH, WIDTH, generator=generator).requires_grad_() for _ in range(3))
    z1, z2 = (torch.randn(BATCH, CTR_WIDTH, generator=generator).requires_grad_() for _ in range(2))

    def total(regularization: Callable[[Tensor, Tensor], Tensor]) -> None:
        contrast = info_nce(first, report, 0.07) + self_supervised_alignment(first, second)
        (contrast + regularization(z1, z2)).backward()

    ours = median_seconds(lambda: total(lambda *z: text_feature_alignment(*z) + text_text_alignment(*z)), 50)
    plain = median_seconds(lambda: total(plain_regularization), 50)
    print(
        f"Med-UniC's losses, B {BATCH}, D {WIDTH}, D' {CTR_WIDTH}, forward and backward: {ours * 1e3:.1f} ms, "
        f"through all matrices {plain * 1e3:.1f} ms, ratio {plain / ours:.1f}"
    )


def language_model() -> None:
    """Forward, backward and AdamW of a BERT-base of which the last layers are trained."""
    generator = torch.Generator().manual_seed(0)
    tokenizer = train_tokenizer(["no focal consolidation"], 100)
    bert = BertModel(BertConfig(vocab_size=1000), add_pooling_layer=False)
    encoder = TextEncoder(bert, tokenizer, TRAINED_LAYERS).train()
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=4e-5)
    ids = torch.randint(1000, (REPORTS, PIECES), generator=generator)
    mask = (torch.arange(PIECES) < torch.randint(PIECES // 2, PIECES + 1, (REPORTS, 1), generator=generator)).long()

    def step(views: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        text_feature_alignment(*views(ids, mask)).backward()
        optimizer.step()
        optimizer.zero_grad()

    shared = median_seconds(lambda: step(encoder.two_views), 7)
    separate = median_seconds(lambda: step(lambda *batch: (encoder(*batch), encoder(*batch))), 7)
    official = median_seconds(lambda: step(partial(encoder.two_views, frozen_dropout=True)), 7)
    print(
        f"two dropout views by a BERT of 12 layers, {12 - TRAINED_LAYERS} of them frozen, {REPORTS} reports, "
        f"{PIECES} pieces, training step: {shared * 1e3:.0f} ms, each view by itself {separate * 1e3:.0f} ms, "
        f"ratio {separate / shared:.2f} (4/3 by counting layers), with dropout in all layers, as officially, "
        f"{official * 1e3:.0f} ms, ratio {official / shared:.2f}"
    )


def run() -> None:
    losses()
    language_model()

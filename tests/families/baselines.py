"""Losses of the baselines (GLoRIA, ConVIRT, Barlow Twins), and zero-shot classification."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case
from torch import Tensor

from nbcore.losses.barlow import barlow_twins_loss
from nbcore.losses.convirt import convirt_loss
from nbcore.losses.gloria import global_loss, local_loss, local_similarity, region_attention
from nbcore.tasks.linear_probe import macro_auc
from nbcore.tasks.zero_shot import class_accuracy, class_f1, zero_shot_scores


def _inputs(golden: dict[str, np.ndarray], dtype: str, *names: str) -> list[Tensor]:
    """The named inputs as leaves."""
    return [torch.from_numpy(golden[f"in__{name}"]).to(DTYPES[dtype]).requires_grad_() for name in names]


def _values(
    stem: str, ours: dict[str, Any], golden: dict[str, np.ndarray], dtype: str, atol: float = 0
) -> Iterator[Case]:
    """A case for each of our numbers (tensors or arrays, under the names of the golden ones) that the file holds."""
    for key in (key for key in ours if key in golden):
        value = ours[key].detach().numpy() if isinstance(ours[key], Tensor) else np.asarray(ours[key])
        yield Case(f"{stem} {key}", value, golden[key], RTOL[dtype], atol)


def _gradients(stem: str, leaves: dict[str, Tensor], golden: dict[str, np.ndarray], dtype: str) -> Iterator[Case]:
    for key in (key for key in leaves if key in golden):
        yield gradient_case(f"{stem} {key}", leaves[key].grad, golden[key], dtype)


@family("gloria_*.npz")
def gloria(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Both losses in either direction with gradients, the similarity matrices, and the attention of single pairs."""
    for dtype in DTYPES:
        if f"{dtype}__global_i2t" in golden:
            image, report = _inputs(golden, dtype, "img_global", "txt_global")
            i2t, t2i = global_loss(image, report)
            (i2t + t2i).backward()
            yield from _values(stem, {f"{dtype}__global_i2t": i2t, f"{dtype}__global_t2i": t2i}, golden, dtype)
            leaves = {f"{dtype}__grad_img_global": image, f"{dtype}__grad_txt_global": report}
            yield from _gradients(stem, leaves, golden, dtype)
        if "in__img_local" in golden:
            yield from _gloria_attention(stem, golden, dtype)
            for aggregate in ("sum", "mean"):
                yield from _gloria_local(stem, golden, dtype, aggregate)


def _regions_words_mask(golden: dict[str, np.ndarray], images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, D, h, w) and (B, D, L) -> (B, S, D), (B, L, D) and the mask (B, L)."""
    mask = torch.arange(texts.shape[2]) < torch.from_numpy(golden["in__cap_lens"])[:, None]
    return images.flatten(2).mT, texts.mT, mask


def _gloria_local(stem: str, golden: dict[str, np.ndarray], dtype: str, aggregate: str) -> Iterator[Case]:
    prefix = f"{dtype}__{aggregate}__"
    images, texts = _inputs(golden, dtype, "img_local", "txt_local")
    inputs = _regions_words_mask(golden, images, texts)
    i2t, t2i = local_loss(*inputs, aggregate=aggregate)
    (i2t + t2i).backward()
    yield from _values(stem, {f"{prefix}local_i2t": i2t, f"{prefix}local_t2i": t2i}, golden, dtype)
    leaves = {f"{prefix}grad_img_local": images, f"{prefix}grad_txt_local": texts}
    yield from _gradients(stem, leaves, golden, dtype)
    if dtype == "f64":
        similarity = local_similarity(*inputs, aggregate=aggregate)
        yield from _values(stem, {f"naive__{aggregate}__similarity": similarity}, golden, dtype)


def _gloria_attention(stem: str, golden: dict[str, np.ndarray], dtype: str) -> Iterator[Case]:
    images, texts = _inputs(golden, dtype, "img_local", "txt_local")
    regions, words, mask = _regions_words_mask(golden, images, texts)
    for key in golden:
        if found := re.fullmatch(rf"{dtype}__attn_map_pair(\d+)", key):
            pair = int(found[1])
            attention = region_attention((words[pair] @ regions[pair].T)[None], mask[pair, None])  # (1, L, S)
            ours = attention[:, mask[pair]].unflatten(2, images.shape[2:])  # (1, words, h, w)
            yield from _values(stem, {key: ours}, golden, dtype, 1e-6 if dtype == "f32" else 0)


@family("convirt_*.npz")
def convirt(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """ConVIRT in its own form (edreis) and as the sum of both directions that MGCA's repository trains (loss)."""
    temperature, weight = float(golden.get("in__temperature", 0.1)), float(golden.get("in__alpha", 0.75))
    for dtype in DTYPES:
        image, report = _inputs(golden, dtype, "img", "txt")
        own = convirt_loss(image, report, weight, temperature)
        both = 2 * convirt_loss(image, report, 0.5, temperature)
        yield from _values(stem, {f"{dtype}__loss": both}, golden, dtype)
        for loss, name in ((own, "grad_edreis__"), (both, "grad_")):
            image.grad, report.grad = torch.autograd.grad(loss, (image, report))
            leaves = {f"{dtype}__{name}img": image, f"{dtype}__{name}txt": report}
            yield from _gradients(stem, leaves, golden, dtype)
        for key in golden:
            if found := re.fullmatch(rf"{dtype}__edreis_T([\d.]+)_alpha([\d.]+)", key):
                loss = convirt_loss(image, report, float(found[2]), float(found[1]))
                yield from _values(stem, {key: loss}, golden, dtype)
    image, report = _inputs(golden, "f64", "img", "txt")
    ours = {"paper__convirt": convirt_loss(image, report, weight, temperature)}
    for key in golden:
        if found := re.fullmatch(r"naive__(v2t|t2v|mgca_repo_convirt)_T(\d+)_(\d+)(?:_sum)?", key):
            factor, share = {"v2t": (1, 1.0), "t2v": (1, 0.0), "mgca_repo_convirt": (2, 0.5)}[found[1]]
            ours[key] = factor * convirt_loss(image, report, share, float(f"{found[2]}.{found[3]}"))
    yield from _values(stem, ours, golden, "f64")


@family("barlow_*.npz")
def barlow(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Barlow Twins: loss and gradients; the running statistics and correlations of the module's BatchNorm."""
    weight = float(golden.get("lambd", 0.0051))
    for dtype in DTYPES:
        first, second = _inputs(golden, dtype, "z1", "z2")
        loss = barlow_twins_loss(first, second, weight)
        loss.backward()
        yield from _values(stem, {f"{dtype}__loss": loss}, golden, dtype)
        yield from _gradients(stem, {f"{dtype}__grad_z1": first, f"{dtype}__grad_z2": second}, golden, dtype)
        norm = torch.nn.BatchNorm1d(first.shape[1], affine=False, dtype=DTYPES[dtype])
        correlation = norm(first).T @ norm(second) / len(first)
        statistics = {f"{dtype}__bn_{name}_after": getattr(norm, name) for name in ("running_mean", "running_var")}
        atol = 1e-6 if dtype == "f32" else 1e-12
        yield from _values(stem, statistics, golden, dtype, atol)
        if dtype == "f64":
            yield from _values(stem, {"naive__loss": loss, "naive__corr": correlation}, golden, dtype, atol)


@family("zeroshot*.npz")
def zero_shot(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Cosines, probabilities, AUC; F1 and accuracy as the paper defines them, and inverted as the code has them."""
    scores = zero_shot_scores(*(golden[f"in__{key}"] for key in ("img_emb", "pos_text_emb", "neg_text_emb")))
    labels = golden["in__labels"]
    cosines = {"official__pos_sim": scores.positive, "official__neg_sim": scores.negative}
    yield from _values(stem, {**cosines, "official__prob": scores.probability}, golden, "f32", 1e-6)
    yield from _values(stem, {"official__auc_macro": macro_auc(labels, scores.probability)}, golden, "f64")
    for reading, prediction in {"intended": scores.prediction, "official_inverted": ~scores.prediction}.items():
        f1, accuracy = class_f1(labels, prediction), class_accuracy(labels, prediction)
        ours = {"f1": f1, "f1_macro": f1.mean(), "acc": accuracy}
        yield from _values(stem, {f"{reading}__{key}": value for key, value in ours.items()}, golden, "f64")

"""Losses and metric of segmentation."""

from collections.abc import Iterator

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case

from nbcore.losses.segmentation import batch_dice, dice_per_image, focal_loss, mixed_loss, squared_dice_loss

# 1 - ratio and -log(ratio) keep the rounding of a ratio near 1, however small they are
_ATOL = {"f64": 1e-14, "f32": 1e-6}
_LOSSES = {"mixed": mixed_loss, "focal": focal_loss, "dice_coeff_batch": batch_dice}


@family("segmentation_*.npz")
def segmentation(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Mixed, focal and Dice losses with gradients in both precisions, and the Dice of each image."""
    for dtype in DTYPES:
        yield from _official(stem, golden, dtype)
    logits, mask = (torch.from_numpy(golden[f"in__{key}"]) for key in ("logits", "mask"))
    dice = dice_per_image(logits, mask)
    values = {f"naive__{name}": loss(logits, mask) for name, loss in _LOSSES.items()}
    values |= {"naive__metric_dice_per_image": dice, "naive__metric_dice": dice.mean()}
    for key in (key for key in values if key in golden):
        yield Case(f"{stem} {key}", values[key].numpy(), golden[key], RTOL["f64"], 1e-12)


def _official(stem: str, golden: dict[str, np.ndarray], dtype: str) -> Iterator[Case]:
    logits, mask = (torch.from_numpy(golden[f"in__{key}"]).to(DTYPES[dtype]) for key in ("logits", "mask"))
    probabilities = logits.sigmoid()
    squared = (probabilities, lambda probabilities, mask: squared_dice_loss(probabilities, mask).mean())
    losses = {name: (logits, loss, f"grad_{name}") for name, loss in _LOSSES.items()}
    losses["DiceLoss_p2"] = (*squared, "grad_DiceLoss_wrt_prob")
    for name, (inputs, loss, gradient) in losses.items():
        leaf = inputs.clone().requires_grad_()
        value = loss(leaf, mask)
        if (key := f"{dtype}__{name}") in golden:
            yield Case(f"{stem} {dtype} {name}", value.detach().numpy(), golden[key], RTOL[dtype], _ATOL[dtype])
        if (key := f"{dtype}__{gradient}") in golden:
            value.backward()
            yield gradient_case(f"{stem} {dtype} grad {name}", leaf.grad, golden[key], dtype)
    if (key := f"{dtype}__DiceLoss_p2_none") in golden:
        ours = squared_dice_loss(probabilities, mask).numpy()
        yield Case(f"{stem} {dtype} DiceLoss_p2 per image", ours, golden[key], RTOL[dtype], _ATOL[dtype])
    if (key := f"{dtype}__metric_dice") in golden:  # the official metric is computed in float32 either way
        yield Case(f"{stem} {dtype} metric", dice_per_image(logits, mask).mean().numpy(), golden[key], RTOL["f32"])

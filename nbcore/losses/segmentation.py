"""Losses and metric of binary segmentation, as the frozen-encoder protocol of MGCA, M-FLAG and Med-UniC uses them.

The papers say "U-Net" and "Dice" only; the equations here are those of MGCA's official code, which the others follow.

Shapes: B batch, H x W pixels. Masks are {0, 1} of any dtype; logits and mask must have the same shape.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(logits: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017), without class weights: mean over pixels of (1 - p_t)^gamma * -log p_t.

    p_t is the probability given to the true class of the pixel.

    Args:
        logits: (B, H, W).
        mask: (B, H, W).
        gamma: how strongly pixels that are right already are played down; 0 is cross-entropy.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: logits and mask differ in shape.
    """
    logits, mask = _alike(logits, mask)
    margin = logits * (2 * mask - 1)  # of the true class
    # (1 - p_t)^gamma through its logarithm: no power of 0, whose gradient is infinite for gamma < 1
    return -((gamma * F.logsigmoid(-margin)).exp() * F.logsigmoid(margin)).mean()


def batch_dice(logits: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice coefficient of the whole batch as one set of pixels: (2 sum p m + s) / (sum p + sum m + s).

    A coefficient, although the official code names it a loss. One set, so that images without a positive pixel
    weigh nothing but their false positives.

    Args:
        logits: (B, H, W).
        mask: (B, H, W).
        smooth: s, which keeps an all-negative batch defined.

    Returns:
        A scalar in (0, 1].

    Raises:
        ValueError: logits and mask differ in shape.
    """
    logits, mask = _alike(logits, mask)
    probabilities = logits.sigmoid()
    return (2 * (probabilities * mask).sum() + smooth) / (probabilities.sum() + mask.sum() + smooth)


def mixed_loss(logits: Tensor, mask: Tensor, alpha: float = 10.0) -> Tensor:
    """What the papers' decoders are trained with: alpha * focal - log(batch Dice).

    The logarithm is safe: the coefficient's smooth term of 1 bounds it below by 1 / (2 B H W + 1).

    Args:
        logits: (B, H, W).
        mask: (B, H, W).
        alpha: weight of the focal loss; 10 in MGCA's code.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: logits and mask differ in shape.
    """
    return alpha * focal_loss(logits, mask) - batch_dice(logits, mask).log()


def squared_dice_loss(probabilities: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss of each image with squared denominators: 1 - (sum p m + s) / (sum p^2 + sum m^2 + s).

    V-Net (Milletari et al. 2016), from which the squares are, has 2 sum p m above; the official code does not, so the
    loss of a perfect mask of n pixels is 1 - (n + s) / (2 n + s), nearly 1/2. Gradients only halve.

    Args:
        probabilities: (B, H, W) in [0, 1].
        mask: (B, H, W).
        smooth: s, which keeps an image without a positive pixel defined.

    Returns:
        (B,) in [0, 1).

    Raises:
        ValueError: probabilities and mask differ in shape.
    """
    probabilities, mask = (pixels.flatten(1) for pixels in _alike(probabilities, mask))  # each (B, H * W)
    overlap = (probabilities * mask).sum(dim=1)  # (B,)
    return 1 - (overlap + smooth) / (probabilities.square().sum(dim=1) + mask.square().sum(dim=1) + smooth)


@torch.no_grad()
def dice_per_image(logits: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Dice of each thresholded prediction, the papers' metric: 2 |P and T| / (|P| + |T|).

    An image without a positive pixel scores 1 if none is predicted, else 0.

    Args:
        logits: (B, H, W).
        mask: (B, H, W).
        threshold: in (0, 1); a pixel is predicted when its probability is above it.

    Returns:
        (B,) in [0, 1].

    Raises:
        ValueError: logits and mask differ in shape.
    """
    logits, mask = (pixels.flatten(1) for pixels in _alike(logits, mask))  # each (B, H * W)
    predicted = (logits > math.log(threshold / (1 - threshold))).to(mask.dtype)  # without a sigmoid of every pixel
    overlap = torch.linalg.vecdot(predicted, mask)  # (B,), counts: exact in float32 up to 2^24 pixels
    pixels = predicted.sum(dim=1) + mask.sum(dim=1)  # (B,)
    return torch.where(pixels == 0, 1.0, 2 * overlap / pixels.clamp_min(1))


def _alike(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of `values`, float32 at least: sums over a batch's pixels overflow float16."""
    if values.shape != mask.shape:  # (B, 1, H, W) against (B, H, W) would broadcast to all pairs of images
        raise ValueError(f"predictions {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.to(dtype), mask.to(dtype)

"""Segmentation: a decoder's training step from cached maps against one that runs the frozen encoder; the metric."""

import torch
from torch import Tensor

from nbcore.losses.segmentation import dice_per_image
from nbcore.models.segmentation import segmentation_head
from nbcore.models.vision import vision_encoder
from nbcore.tasks.segmentation import SegmentationConfig, Segmenter
from tests.benchmarks.timing import median_seconds


def training_step() -> None:
    """Forward and backward passes of the demo's size: ResNet of width 16, 64 px, batch 16."""
    config = SegmentationConfig(image_size=64, decoder_widths=(32, 16, 16, 8, 8))
    encoder = vision_encoder("tiny_resnet").eval()
    segmenter = Segmenter(segmentation_head(encoder, config.decoder_widths), config, encoder).train()
    image, mask = torch.randn(16, 1, 64, 64), (torch.rand(16, 64, 64) < 0.1).float()
    with torch.no_grad():
        maps = {f"map{i}": values.half().contiguous() for i, values in enumerate(encoder.maps(image))}
    cached = median_seconds(lambda: segmenter.losses({**maps, "mask": mask})["total"].backward())
    running = median_seconds(lambda: segmenter.losses({"image": image, "mask": mask})["total"].backward())
    print(
        f"segmentation step, ResNet of width 16 at 64 px, batch 16: {cached * 1e3:.0f} ms from cached maps, "
        f"{running * 1e3:.0f} ms with the frozen encoder, ratio {running / cached:.2f}"
    )


def dice_one_by_one(logits: Tensor, mask: Tensor) -> list[float]:
    """The metric as a loop over images, a number read back from each."""
    scores = []
    for image, truth in zip(logits, mask):
        predicted = image.sigmoid() > 0.5
        if truth.sum() == 0:
            scores.append(float(predicted.sum() == 0))
        else:
            scores.append(float(2 * (predicted * truth).sum() / (predicted.sum() + truth.sum())))
    return scores


def metric() -> None:
    logits, mask = torch.randn(64, 64, 64), (torch.rand(64, 64, 64) < 0.1).float()
    batched = median_seconds(lambda: dice_per_image(logits, mask))
    loop = median_seconds(lambda: dice_one_by_one(logits, mask))
    print(f"Dice of 64 masks at 64 px: {batched * 1e3:.1f} ms, singly {loop * 1e3:.1f} ms, ratio {loop / batched:.1f}")


def run() -> None:
    training_step()
    metric()

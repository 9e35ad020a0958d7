"""Segmentation with a decoder on a frozen encoder: how MGCA, M-FLAG and Med-UniC judge local features.

A data set here is rows of "mask" (B, S, S) in {0, 1} with either "image", uint8 (B, S, S), or the encoder's maps of
these images, "map0" ... from fine to coarse: `Columns` of whole arrays, or a `torch.utils.data.Subset` of them.

Shapes: n images, B batch, S stored side, H side after the centre crop, C channels and h x w positions of a map.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nbcore.config import TrainConfig
from nbcore.data.batches import prepare
from nbcore.errors import UsageError, UserError
from nbcore.losses.segmentation import dice_per_image, mixed_loss
from nbcore.models.segmentation import segmentation_head
from nbcore.models.vision import VisionEncoder
from nbcore.selection import Monitor
from nbcore.train import Batch, Dataset, fit

Augmentation = Literal["none", "shift_scale_rotate"]


class SegmentationConfig(TrainConfig):
    """How a decoder is trained. Defaults: MGCA's official code on SIIM, with ResNet-50; the paper gives no numbers."""

    # --- model
    image_size: int = Field(224, ge=16)  # the centre crop H, pixels
    decoder_widths: tuple[int, ...] | None = None  # of a U-Net; None: `segmentation_head`'s, the official code's
    setr_widths: tuple[int, ...] | None = None  # the same of the decoder of a transformer
    train_encoder: bool = False  # the papers' encoder is frozen; true is the supervised upper reference

    # --- training
    epochs: int = Field(50, ge=1)  # at most; Med-UniC: 50 on RSNA, 100 on SIIM
    patience: int = Field(10, ge=1)  # epochs without a lower validation loss; Med-UniC: 20
    validate_every: int = Field(1, ge=1)  # epochs from one validation to the next
    batch_size: int = Field(8, ge=1)  # 16 on RSNA; Med-UniC: 4
    learning_rate: float = Field(5e-4, gt=0)  # launch scripts; constant, AdamW
    weight_decay: float = Field(0.05, ge=0)  # launch scripts; Med-UniC: 1e-8
    alpha: float = Field(10.0, ge=0)  # weight of the focal loss against the log Dice coefficient
    augmentation: Augmentation = "shift_scale_rotate"  # of training images; "none" lets their maps be computed once


class Segmenter(nn.Module):
    """A decoder, with its image encoder unless that one's maps are computed beforehand.

    A frozen encoder gets no gradient and stays in evaluation mode, its BatchNorm too, whatever mode the decoder is in
    (the official code lets the statistics of its BatchNorm drift).

    Args:
        head: decoder from maps to logits, of `segmentation_head`.
        config: how it is trained.
        vision: the encoder, frozen here unless `config.train_encoder`; None where every batch brings maps.
    """

    def __init__(self, head: nn.Module, config: SegmentationConfig, vision: VisionEncoder | None = None):
        super().__init__()
        self.head, self.vision, self.config = head, vision, config
        if vision is not None:
            vision.requires_grad_(config.train_encoder)

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        if self.vision is not None and not self.config.train_encoder:
            self.vision.eval()
        return self

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mixed loss, "total", of a batch of `views`."""
        return {"total": mixed_loss(self.logits(batch), batch["mask"], self.config.alpha)}

    def logits(self, batch: Batch) -> Tensor:
        """Of "image" (B, 1, H, H) or of "map0" ..., each (B, C, h, w): (B, H, H)."""
        if "image" in batch:
            maps = self.vision.maps(batch["image"])
        else:
            maps = [batch[f"map{i}"].float() for i in range(sum(name.startswith("map") for name in batch))]
        return self.head(maps, self.config.image_size)[:, 0]  # (B, 1, H, H) -> (B, H, H)


def views(
    batch: Batch, generator: torch.Generator | None = None, *, size: int, augmentation: Augmentation = "none"
) -> Batch:
    """Stored rows as a segmenter sees them: centre crops, images in [-1, 1], masks as numbers; maps stay as they are.

    Args:
        batch: "mask" (B, S, S) in {0, 1} and "image" uint8 (B, S, S), or maps.
        generator: source of randomness; needed unless `augmentation` is "none".
        size: H <= S.
        augmentation: of image and mask alike; "none" where there are maps.
    """
    offset = (batch["mask"].shape[-1] - size) // 2
    mask = batch["mask"][:, offset : offset + size, offset : offset + size].float()  # (B, H, H)
    if "image" not in batch:
        return {**batch, "mask": mask}
    image = prepare(batch["image"], size, "none")  # (B, 1, H, H)
    if augmentation == "shift_scale_rotate":
        image, mask = shift_scale_rotate(image, mask, generator)
    return {"image": image, "mask": mask}


def shift_scale_rotate(
    image: Tensor, mask: Tensor, generator: torch.Generator, *, scale: float = 0.1, degrees: float = 10.0
) -> tuple[Tensor, Tensor]:
    """Scale by 1 - `scale` to 1 + `scale` and turn by up to `degrees` about the centre, with probability 1/2 an image.

    Albumentations' ShiftScaleRotate with the official scale and rotation and no shift. What comes in from outside is
    black and no finding. The mask takes the value of the nearest pixel, so it stays {0, 1}.

    Args:
        image: (B, 1, H, H) in [-1, 1].
        mask: (B, H, H).
        generator: source of randomness.

    Returns:
        Image and mask after the same map.
    """
    batch = len(image)
    drawn = torch.rand((3, batch), generator=generator, device=generator.device).to(image.device)
    applied = drawn[0] < 0.5
    angle = (2 * drawn[1] - 1) * torch.deg2rad(drawn.new_tensor(degrees)) * applied
    zoom = 1 + (2 * drawn[2] - 1) * scale * applied
    cos, sin, zero = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
    source = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(batch, 2, 3)  # target -> source coordinates
    grid = F.affine_grid(source, list(image.shape), align_corners=False)  # (B, H, H, 2)
    turned = F.grid_sample(image + 1, grid, align_corners=False) - 1  # outside 0, which is black once shifted back
    turned_mask = F.grid_sample(mask[:, None], grid, mode="nearest", align_corners=False)[:, 0]
    return turned, turned_mask


def balanced_rows(positive: np.ndarray, seed: int) -> np.ndarray:
    """MGCA's training images on SIIM: all positives and equally many random negatives, or all where there are fewer.

    Args:
        positive: bool (n,), whether each image's mask has a positive pixel; of the label fraction, where there is one.
        seed: of the draw.

    Returns:
        Row numbers in ascending order.

    Raises:
        UserError: no image is positive.
    """
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(positives):
        raise UserError("no training image has a mask with a positive pixel: take a larger fraction of the labels.")
    count = min(len(positives), len(negatives))
    chosen = np.random.default_rng(seed).choice(negatives, count, replace=False)
    return np.sort(np.concatenate([positives, chosen]))


@torch.no_grad()
def validation_loss(segmenter: Segmenter, data: Dataset) -> float:
    """The mixed loss, its mean over batches of the training's size as in the official code; in evaluation mode."""
    segmenter.eval()
    batches = _batches(segmenter, data, segmenter.config.batch_size)
    return float(sum(segmenter.losses(batch)["total"] * len(batch["mask"]) for batch in batches) / len(data))


@torch.no_grad()
def evaluate_dice(segmenter: Segmenter, data: Dataset, batch_size: int = 64) -> dict[str, float | int | None]:
    """Dice per image at threshold 1/2, as means over the whole data set (the official code averages batch means).

    Args:
        segmenter: put into evaluation mode.
        data: the images.
        batch_size: images a forward pass.

    Returns:
        "dice" over all images; "dice_positive" over those whose mask is not empty; "dice_negative" over the others,
        the share of them in which nothing is predicted (None where there is no such image); and the counts "images"
        and "positives".
    """
    segmenter.eval()
    scores, positive = [], []
    for batch in _batches(segmenter, data, batch_size):
        scores.append(dice_per_image(segmenter.logits(batch), batch["mask"]))
        positive.append(batch["mask"].flatten(1).any(dim=1))
    dice, found = torch.cat(scores).cpu(), torch.cat(positive).cpu()  # each (n,)
    return {
        "dice": float(dice.mean()),
        "dice_positive": float(dice[found].mean()) if found.any() else None,
        "dice_negative": float(dice[~found].mean()) if not found.all() else None,
        "images": len(dice),
        "positives": int(found.sum()),
    }


def fit_segmentation(
    encoder: VisionEncoder,
    train: Dataset,
    valid: Dataset,
    test: Dataset,
    config: SegmentationConfig,
    *,
    seed: int,
    directory: Path,
) -> dict[str, Any]:
    """Train a decoder on `train`, keep its epoch of lowest validation loss, and read the test set once.

    A frozen encoder must see no view twice, so `valid` has its maps, and `train` too unless it is augmented; `test` may
    have either. An encoder that is trained needs images.

    Args:
        encoder: frozen, or trained, in place.
        train, valid, test: rows of masks with images or maps (see the top of the file).
        config: how to train.
        seed: of the decoder's initial weights, the order of batches and the augmentation.
        directory: where the run is checkpointed and its weights stay.

    Returns:
        The numbers of `evaluate_dice`; "valid_loss" of the epoch kept and its number "best_epoch" (from 1); and the
        number of "epochs" run.

    Raises:
        UsageError: images where maps are needed or the other way round, a decoder of the wrong number of widths, or
            fewer training rows than a batch.
    """
    uses_images = {name: _has_images(data) for name, data in {"train": train, "valid": valid, "test": test}.items()}
    _check_inputs(uses_images, config)
    torch.manual_seed(seed)
    head = segmentation_head(encoder, config.setr_widths if encoder.is_transformer else config.decoder_widths)
    segmenter = Segmenter(head, config, encoder if any(uses_images.values()) else None)
    augment = partial(views, size=config.image_size, augmentation=config.augmentation)
    monitor = Monitor(lambda method: -validation_loss(method, valid), config.patience, config.validate_every)
    history = fit(segmenter, train, config, seed=seed, directory=directory, transform=augment, monitor=monitor)
    best = int(np.nanargmax(history.scores))
    return {
        **evaluate_dice(segmenter, test),
        "valid_loss": -history.scores[best],
        "best_epoch": best + 1,
        "epochs": len(history.scores),
    }


def _has_images(data: Dataset) -> bool:
    return "image" in data.__getitems__([0])


def _check_inputs(uses_images: dict[str, bool], config: SegmentationConfig) -> None:
    """Refuse maps that would be of another view or another encoder, and images whose view is the same every epoch."""
    if config.train_encoder:
        expected = dict.fromkeys(uses_images, True)
        reason = "train_encoder changes the maps with every step"
    else:
        augmented = config.augmentation != "none"
        expected = {"train": augmented, "valid": False, "test": uses_images["test"]}
        reason = f"the encoder is frozen and augmentation is '{config.augmentation}'"
    for name, wanted in expected.items():
        if uses_images[name] != wanted:
            raise UsageError(f"the {name} data of a segmentation must be {'images' if wanted else 'maps'}: {reason}.")


def _batches(segmenter: Segmenter, data: Dataset, batch_size: int) -> Iterator[Batch]:
    """All rows in order, as the segmenter sees them, on its device."""
    device = next(segmenter.parameters()).device
    for start in range(0, len(data), batch_size):
        batch = data.__getitems__(list(range(start, min(start + batch_size, len(data)))))
        yield views({name: t.to(device) for name, t in batch.items()}, size=segmenter.config.image_size)

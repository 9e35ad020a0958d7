"""Object detection with a YOLOv3 head on a frozen encoder: how MGCA and Med-UniC judge local features.

A data set here is rows of "boxes" (see `box_targets`) with either "image", uint8 (B, H, H), or the last three of the
encoder's maps of these images, "map0" to "map2" from fine to coarse: `Columns` of whole arrays, or a
`torch.utils.data.Subset` of them. There is one class of objects.

Shapes: n images, B batch, M boxes of an image at most, H side of the picture, N predictors of an image on all grids, C
classes.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from nbcore.config import TrainConfig
from nbcore.data.batches import prepare
from nbcore.errors import UsageError, UserError
from nbcore.losses.detection import assign_boxes, decode, yolo_loss
from nbcore.models.detection import YoloHead, coco_anchors
from nbcore.models.vision import VisionEncoder
from nbcore.selection import Monitor
from nbcore.train import Batch, Dataset, fit

Augmentation = Literal["none", "flip_shift"]
MAPS = ("map0", "map1", "map2")
IOU_THRESHOLDS = tuple(i / 100 for i in range(40, 80, 5))  # MGCA, Sect. 4.2; their mean is the mAP of its Table 2
MAX_DETECTIONS = 100  # of an image, COCO's limit


class DetectionConfig(TrainConfig):
    """How a detector is trained. Defaults: MGCA with ResNet-50; the paper gives no numbers, its code and scripts do."""

    # --- model
    image_size: int = Field(224, ge=32)  # H: the whole radiograph, scaled to a square
    head_width: int = Field(512, ge=4)  # of the branch on the coarse map; smaller for a stand-in encoder
    train_encoder: bool = False  # MGCA, Sect. 4.2: "frozen backbone"; true is the supervised upper reference

    # --- training
    epochs: int = Field(50, ge=1)  # at most
    patience: int = Field(10, ge=1)  # epochs without a higher validation mAP; Med-UniC: 40
    validate_every: int = Field(1, ge=1)  # epochs from one validation to the next
    batch_size: int = Field(16, ge=1)  # 8 on 1 % of RSNA or Object-CXR; Med-UniC: 4
    learning_rate: float = Field(5e-4, gt=0)  # 2e-4 on 1 % of RSNA, 2.5e-4 on 1 % of Object-CXR; constant, AdamW
    weight_decay: float = Field(1e-6, ge=0)

    augmentation: Augmentation = "none"  # of images, where the encoder is trained; the official code has none

    # --- prediction
    # least objectness; where data are few, 0.5 leaves few detections and mAP starves: 0.05 lets it see the ranking
    confidence: float = Field(0.5, ge=0, le=1)
    nms_overlap: float = Field(0.5, gt=0, le=1)  # of two detections beyond which only the surer one stays
    skip_unscored: bool = False  # the official mAP leaves out images without detections and images without boxes


class Detector(nn.Module):
    """A YOLOv3 head, with its image encoder unless that one's maps are computed beforehand.

    A frozen encoder gets no gradient and stays in evaluation mode, its BatchNorm too, whatever mode the head is in (the
    official code lets the statistics of its BatchNorm drift).

    Args:
        channels: of the three maps, fine to coarse.
        config: how it is trained, and how boxes are read off it.
        vision: the encoder, frozen here unless `config.train_encoder`; None where every batch brings maps.
    """

    def __init__(self, channels: Sequence[int], config: DetectionConfig, vision: VisionEncoder | None = None):
        super().__init__()
        self.head = YoloHead(channels, width=config.head_width)
        self.vision, self.config = vision, config
        self.register_buffer("anchors", coco_anchors(config.image_size), persistent=False)
        if vision is not None:
            vision.requires_grad_(config.train_encoder)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.vision is not None and not self.config.train_encoder:
            self.vision.eval()
        return self

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`yolo_loss` and its parts, added up over the three grids, of a batch of `views`."""
        size = self.config.image_size
        grids = [
            yolo_loss(logits, assign_boxes(batch["boxes"], anchors, logits.shape[-1], size))
            for logits, anchors in zip(self.logits(batch), self.anchors)
        ]
        return {name: torch.stack([grid[name] for grid in grids]).sum() for name in grids[0]}

    def logits(self, batch: Batch) -> list[Tensor]:
        """Of "image" (B, 1, H, H) or of "map0" to "map2": three grids (B, 18, G, G), fine to coarse."""
        maps = self.vision.maps(batch["image"])[-3:] if "image" in batch else [batch[name].float() for name in MAPS]
        return self.head(maps)

    def detect(self, batch: Batch) -> list[Tensor]:
        """The `detections` in each image of a batch of `views`; call it in evaluation mode."""
        size = self.config.image_size
        grids = [decode(logits, anchors, size) for logits, anchors in zip(self.logits(batch), self.anchors)]
        return detections(torch.cat(grids, dim=1), self.config.confidence, self.config.nms_overlap)


def views(batch: Batch, generator: torch.Generator | None = None, *, augmentation: Augmentation = "none") -> Batch:
    """Stored rows as a detector sees them: images in [-1, 1], moved with their boxes if asked to; maps as they are.

    Args:
        batch: "boxes" (see `box_targets`) and "image" uint8 (B, H, H), or maps.
        generator: source of randomness; needed unless `augmentation` is "none".
        augmentation: of images; "none" where there are maps.
    """
    if "image" not in batch:
        return batch
    image = prepare(batch["image"], batch["image"].shape[-1], "none")  # (B, 1, H, H)
    if augmentation == "none":
        return {**batch, "image": image}
    image, boxes = flip_and_shift(image, batch["boxes"], generator)
    return {**batch, "image": image, "boxes": boxes}


def flip_and_shift(
    image: Tensor, boxes: Tensor, generator: torch.Generator, reach: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Mirror half of the pictures, and move each by up to `reach` of its side either way; what comes in is black.

    Args:
        image: (B, 1, H, H) in [-1, 1].
        boxes: (B, M, 5), see `box_targets`. A box whose centre leaves the picture is dropped, none is cut.
        generator: source of randomness.

    Returns:
        Pictures and boxes after the same map.
    """
    drawn = torch.rand((3, len(image)), generator=generator, device=generator.device).to(image.device)
    sign = torch.where(drawn[0] < 0.5, -1.0, 1.0)  # (B,)
    pixels = image.shape[-1]
    x, y = ((2 * drawn[1:] - 1) * reach * pixels).round() / pixels  # in sides of the picture: whole pixels
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    source = torch.stack([sign, zero, -2 * x * sign, zero, one, -2 * y], dim=1).view(-1, 2, 3)  # target -> source
    grid = F.affine_grid(source, list(image.shape), align_corners=False)  # (B, H, H, 2)
    moved = F.grid_sample(image + 1, grid, align_corners=False) - 1
    kind, centre_x, centre_y, width, height = boxes.unbind(-1)  # (B, M) each
    centre_x = 0.5 + sign[:, None] * (centre_x - 0.5) + x[:, None]
    centre_y = centre_y + y[:, None]
    inside = (centre_x > 0) & (centre_x < 1) & (centre_y > 0) & (centre_y < 1) & (width > 0)
    return moved, torch.stack([kind, centre_x, centre_y, width, height], dim=-1) * inside[..., None]


def detections(decoded: Tensor, confidence: float, nms_overlap: float) -> list[Tensor]:
    """The boxes that stay: sure enough, and without a surer one of their class that they overlap.

    As in the official code the objectness alone ranks boxes; the class probabilities choose the class.

    Args:
        decoded: (B, N, 5 + C) of centre x, centre y, width, height, objectness, class probabilities.
        confidence: least objectness.
        nms_overlap: largest intersection over union with a surer box of the same image and class.

    Returns:
        For each image (k, 6), k <= 100, surest first: left, top, right, bottom in pixels, class, objectness.
    """
    # nothing less sure than the hundredth box that stays can matter, so the surest are tried before all are
    considered = 4 * MAX_DETECTIONS
    while True:
        score, predictor = decoded[..., 4].topk(min(considered, decoded.shape[1]), dim=1)  # (B, considered)
        image, rank = (score >= confidence).nonzero(as_tuple=True)  # (m,) each
        found = _unsuppressed(decoded[image, predictor[image, rank]], image, len(decoded), nms_overlap)
        short = torch.tensor([len(rows) < MAX_DETECTIONS for rows in found], device=score.device)  # (B,)
        if considered >= decoded.shape[1] or not (short & (score[:, -1] >= confidence)).any():
            return found
        considered *= 4


def _unsuppressed(sure: Tensor, image: Tensor, images: int, nms_overlap: float) -> list[Tensor]:
    """Of boxes (m, 5 + C) and their images (m,), those of each image that stay; the images are kept apart."""
    corners, score, label = box_convert(sure[:, :4], "cxcywh", "xyxy"), sure[:, 4], sure[:, 5:].argmax(dim=1)
    # torchvision may move each group past the others' largest coordinate, which keeps them apart only from 0 upwards
    shifted = corners - corners.amin() if len(corners) else corners
    kept = batched_nms(shifted, score, image * (sure.shape[1] - 5) + label, nms_overlap)  # surest first
    rows, image = torch.cat([corners, label[:, None], score[:, None]], dim=1)[kept], image[kept]
    return [rows[image == i][:MAX_DETECTIONS] for i in range(images)]


def box_targets(boxes: Sequence[np.ndarray | Sequence[Sequence[float]]], side: int) -> np.ndarray:
    """Boxes as training rows.

    Args:
        boxes: of each of n images, (k, 4) of left, top, width, height in pixels of the square picture; k may be 0.
            Boxes without an area are dropped.
        side: of the picture, pixels.

    Returns:
        float32 (n, M, 5) of class 0 and centre x, centre y, width, height in sides of the picture; rows of zeros pad.
    """
    arrays = [np.asarray(own, np.float64).reshape(-1, 4) for own in boxes]
    arrays = [own[(own[:, 2:] > 0).all(axis=1)] for own in arrays]
    targets = np.zeros((len(arrays), max((len(own) for own in arrays), default=0), 5), np.float32)
    for row, own in zip(targets, arrays):
        row[: len(own), 1:] = np.concatenate([own[:, :2] + own[:, 2:] / 2, own[:, 2:]], axis=1) / side
    return targets


def box_corners(targets: np.ndarray, side: int) -> list[np.ndarray]:
    """The boxes of (n, M, 5) targets again, padding left out: for each image (k, 5), corners in pixels and class."""
    targets = np.asarray(targets, np.float64)
    centre, size = targets[..., 1:3] * side, targets[..., 3:] * side  # (n, M, 2)
    corners = np.concatenate([centre - size / 2, centre + size / 2, targets[..., :1]], axis=-1)  # (n, M, 5)
    return [own[present] for own, present in zip(corners, (size > 0).all(axis=-1))]


def average_precision(
    found: Sequence[np.ndarray], truths: Sequence[np.ndarray], *, skip_unscored: bool = False
) -> np.ndarray:
    """COCO's average precision (101 recalls, 100 detections an image) over all images, one value an IoU threshold.

    Args:
        found: `detections` of each image, (k, 6).
        truths: boxes of each image, (m, 5) of corners and class.
        skip_unscored: leave out images without a detection and images without a box, as the official code does: a
            detector then gains by staying silent, and loses nothing by false alarms in healthy images.

    Returns:
        (8,) in [0, 1], for `IOU_THRESHOLDS`, each the mean over the classes that occur; 0 if nothing is left to score.

    Raises:
        UserError: no image has a box.
    """
    # pycocotools itself: torchmetrics runs it over four ranges of box areas, of which three would be thrown away
    from pycocotools.cocoeval import COCOeval

    if not any(len(own) for own in truths):
        raise UserError("no image of this split has a box; an average precision cannot be computed.")
    if skip_unscored:
        pairs = [(own, truth) for own, truth in zip(found, truths) if len(own) and len(truth)]
        if not pairs:
            return np.zeros(len(IOU_THRESHOLDS))
        found, truths = zip(*pairs)
    classes = sorted({int(row[4]) for truth in truths for row in truth})
    with redirect_stdout(io.StringIO()):  # it reports each of its steps
        judge = COCOeval(_coco(truths, classes), _coco(found, classes), "bbox")
        judge.params.iouThrs = np.array(IOU_THRESHOLDS)
        judge.params.maxDets = [MAX_DETECTIONS]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, float("inf")]], ["all"]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"].mean(axis=(1, 2, 3, 4))  # (IoU, recall, class, area, limit) -> (8,)


def _coco(images: Sequence[np.ndarray], classes: Sequence[int]) -> Any:
    """Boxes (k, 5) of corners and class, or (k, 6) with a score, of every image, as a pycocotools data set."""
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    for number, rows in enumerate(images):
        for left, top, right, bottom, label, *score in np.asarray(rows, np.float64).tolist():
            box = [left, top, right - left, bottom - top]
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": int(label), "bbox": box}
            annotations.append(
                {**entry, "area": box[2] * box[3], "iscrowd": 0, **({"score": score[0]} if score else {})}
            )
    data = COCO()
    data.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": label} for label in classes],
        "annotations": annotations,
    }
    data.createIndex()
    return data


@torch.no_grad()
def evaluate_detection(detector: Detector, data: Dataset, batch_size: int = 64) -> dict[str, float | int]:
    """Mean average precision of a detector.

    Args:
        detector: put into evaluation mode.
        data: images or maps, and boxes.
        batch_size: images a forward pass.

    Returns:
        "map" over the eight IoU thresholds 0.40 to 0.75, "map_50" at 0.5, both in [0, 1]; and the counts "images",
        "boxes" and "detections".

    Raises:
        UserError: no image has a box.
    """
    detector.eval()
    device, config = next(detector.parameters()).device, detector.config
    found: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    for batch in _batches(data, batch_size):
        truths += box_corners(batch["boxes"].numpy(), config.image_size)
        own = detector.detect(views({name: tensor.to(device) for name, tensor in batch.items()}))
        found += [rows.double().cpu().numpy() for rows in own]
    precision = average_precision(found, truths, skip_unscored=config.skip_unscored)  # (8,)
    return {
        "map": float(precision.mean()),
        "map_50": float(precision[IOU_THRESHOLDS.index(0.5)]),
        "images": len(truths),
        "boxes": sum(map(len, truths)),
        "detections": sum(map(len, found)),
    }


def fit_detection(
    encoder: VisionEncoder,
    train: Dataset,
    valid: Dataset,
    test: Dataset,
    config: DetectionConfig,
    *,
    seed: int,
    directory: Path,
) -> dict[str, Any]:
    """Train a head, keep the first epoch of highest validation mAP, and read the test set once.

    A frozen encoder must see no view twice, so `train` and `valid` have its maps; `test` may have either. An encoder
    that is trained needs images.

    Args:
        encoder: a ResNet; frozen, or trained, in place.
        train, valid, test: rows of boxes with images or maps (see the top of the file).
        config: how to train.
        seed: of the head's initial weights and the order of batches.
        directory: where the run is checkpointed and its weights stay.

    Returns:
        The numbers of `evaluate_detection` on `test`, "valid_map" of the epoch kept, its number "best_epoch" (from 1)
        and "epochs" run.

    Raises:
        UsageError: fewer than three maps, images where maps are needed or the other way round, images of another side
            than `config.image_size`, or fewer training rows than a batch.
        UserError: no validation or no test image has a box.
    """
    if len(encoder.map_channels) < len(MAPS):
        raise UsageError("detection needs an encoder with three feature maps: choose a ResNet for it.")
    with_images = [_checked(name, data, config) for name, data in (("train", train), ("valid", valid), ("test", test))]
    torch.manual_seed(seed)
    detector = Detector(encoder.map_channels[-3:], config, encoder if any(with_images) else None)
    monitor = Monitor(lambda method: evaluate_detection(method, valid)["map"], config.patience, config.validate_every)
    history = fit(
        detector,
        train,
        config,
        seed=seed,
        directory=directory,
        transform=partial(views, augmentation=config.augmentation),
        monitor=monitor,
    )
    best = int(np.nanargmax(history.scores))
    return {
        **evaluate_detection(detector, test),
        "valid_map": history.scores[best],
        "best_epoch": best + 1,
        "epochs": len(history.scores),
    }


def _checked(name: str, data: Dataset, config: DetectionConfig) -> bool:
    """Whether a data set has images; refuse maps of another encoder, and images that would be encoded every epoch."""
    row = data.__getitems__([0])
    if config.train_encoder and "image" not in row:
        raise UsageError(
            f"the {name} data of a detection must be images: train_encoder changes the maps with every step."
        )
    if not config.train_encoder and "image" in row and name != "test":
        raise UsageError(f"the {name} data of a detection must be maps: the encoder is frozen and would repeat itself.")
    if "image" in row and row["image"].shape[-1] != config.image_size:
        raise UsageError(
            f"the {name} images of a detection are {row['image'].shape[-1]} pixels wide but image_size is "
            f"{config.image_size}: store them at that side, as a crop would cut boxes off."
        )
    return "image" in row


def _batches(data: Dataset, batch_size: int) -> Iterator[Batch]:
    """All rows in order."""
    for start in range(0, len(data), batch_size):
        yield data.__getitems__(list(range(start, min(start + batch_size, len(data)))))

"""Detection: assignment, decoding and suppression of a batch of the papers' size, and an epoch's average precision."""

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, nms

from nbcore.losses.detection import assign_boxes, decode, yolo_loss
from nbcore.models.detection import coco_anchors
from nbcore.tasks.detection import IOU_THRESHOLDS, average_precision, detections
from tests.benchmarks.timing import median_seconds

SIDE, BATCH, GRIDS = 224, 16, (28, 14, 7)


def _draw() -> tuple[list[Tensor], Tensor]:
    """Logits as of an untrained head, by which half of all predictors are sure enough, and three boxes an image."""
    logits = [0.1 * torch.randn(BATCH, 18, grid, grid) for grid in GRIDS]
    boxes = torch.cat([torch.zeros(BATCH, 3, 1), 0.2 + 0.5 * torch.rand(BATCH, 3, 4)], dim=2)
    return logits, boxes


def direct_assignment(boxes: Tensor, anchors: Tensor, grid: int) -> None:
    """The loops that `assign_boxes` replaces: image by image, box by box, an entry at a time."""
    found = torch.zeros(len(boxes), 3, grid, grid)
    background, box = torch.ones_like(found), torch.zeros(*found.shape, 4)
    priors = anchors * grid / SIDE
    for b in range(len(boxes)):
        for m in range(boxes.shape[1]):
            x, y, w, h = (boxes[b, m, 1:] * grid).tolist()
            column, row = min(int(x), grid - 1), min(int(y), grid - 1)
            common = torch.minimum(torch.tensor([w, h]), priors).prod(dim=1)
            overlap = common / (w * h + priors.prod(dim=1) - common)
            best = overlap.argmax().item()
            background[b, overlap > 0.5, row, column] = 0
            background[b, best, row, column] = 0
            found[b, best, row, column] = 1
            shape = torch.log(torch.tensor([w, h]) / priors[best])
            box[b, best, row, column] = torch.tensor([x - column, y - row, *shape.tolist()])


def direct_detections(decoded: Tensor) -> None:
    """All sure boxes of one image after the other through torchvision."""
    for image in decoded:
        sure = image[image[:, 4] >= 0.5]
        nms(box_convert(sure[:, :4], "cxcywh", "xyxy"), sure[:, 4], 0.5)


def batch() -> None:
    logits, boxes = _draw()
    anchors = coco_anchors(SIDE)

    def assign() -> list[object]:
        return [assign_boxes(boxes, priors, grid, SIDE) for priors, grid in zip(anchors, GRIDS)]

    def predict() -> Tensor:
        return torch.cat([decode(x, priors, SIDE) for x, priors in zip(logits, anchors)], dim=1)

    def direct() -> None:
        for priors, grid in zip(anchors, GRIDS):
            direct_assignment(boxes, priors, grid)

    leaves = [x.clone().requires_grad_() for x in logits]

    def train() -> None:
        sum(yolo_loss(x, target)["total"] for x, target in zip(leaves, assign())).backward()

    decoded = predict()
    ours, slow = median_seconds(assign), median_seconds(direct, 5)
    print(
        f"YOLO targets, batch 16, three grids at 224 px: {ours * 1e3:.1f} ms, box by box {slow * 1e3:.1f} ms, "
        f"ratio {slow / ours:.1f}"
    )
    print(f"YOLO targets and loss, forward and backward, the same batch: {median_seconds(train) * 1e3:.1f} ms")
    ours = median_seconds(lambda: (assign(), detections(predict(), 0.5, 0.5)), 5)
    suppress, apart = (
        median_seconds(lambda: detections(decoded, 0.5, 0.5), 5),
        median_seconds(lambda: direct_detections(decoded), 5),
    )
    count = (decoded[..., 4] >= 0.5).sum().item()
    print(
        f"YOLO targets, decoding and suppression of {count} untrained boxes: {ours * 1e3:.0f} ms; suppression alone "
        f"{suppress * 1e3:.0f} ms, all boxes of an image at a time {apart * 1e3:.0f} ms, ratio {apart / suppress:.1f}"
    )


def mean_average_precision() -> None:
    from torchmetrics.detection import MeanAveragePrecision

    drawn = np.random.default_rng(0)
    for most in (5, 100):
        corners = drawn.uniform(0, 150, (500, most, 2)), drawn.uniform(0, 150, (500, 2, 2))
        found, truths = (np.concatenate([c, c + drawn.uniform(10, 70, c.shape)], axis=2) for c in corners)
        scores = drawn.random((500, most, 1))
        guesses = list(np.concatenate([found, np.zeros_like(scores), scores], axis=2))
        boxes = list(np.concatenate([truths, np.zeros((500, 2, 1))], axis=2))

        def library(guesses: list[np.ndarray] = guesses, boxes: list[np.ndarray] = boxes) -> None:
            metric = MeanAveragePrecision(iou_thresholds=list(IOU_THRESHOLDS))
            rows = [torch.from_numpy(own) for own in guesses], [torch.from_numpy(own) for own in boxes]
            guess = [{"boxes": r[:, :4], "labels": r[:, 4].long(), "scores": r[:, 5]} for r in rows[0]]
            metric.update(guess, [{"boxes": r[:, :4], "labels": r[:, 4].long()} for r in rows[1]])
            metric.compute()

        ours = median_seconds(lambda guesses=guesses, boxes=boxes: average_precision(guesses, boxes), 3)
        theirs = median_seconds(library, 3)
        print(
            f"mAP of 500 images with {most} detections each: {ours:.2f} s, through torchmetrics {theirs:.2f} s, "
            f"ratio {theirs / ours:.1f}"
        )


def run() -> None:
    torch.manual_seed(0)
    batch()
    mean_average_precision()

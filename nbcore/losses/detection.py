"""The objective of a YOLOv3 detector (Redmon and Farhadi, 2018), as MGCA and Med-UniC fine-tune it on frozen encoders.

Neither paper prints an equation: where nothing else is said, this is MGCA's official code. Every function sees one
grid; a detector adds up its three.

Shapes: B batch, M boxes of an image at most, A anchors a cell, G x G cells of a grid, C classes, n boxes in all.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Assignment:
    """What each predictor (an anchor in a cell) of a grid is to answer.

    Attributes:
        object: bool (B, A, G, G), the predictor answers for a box.
        background: bool (B, A, G, G), it is to say that there is none; a predictor may be neither.
        box: (B, A, G, G, 4), centre x and y within the cell, 0..1, and the logarithms of width and height in anchors;
            0 unless `object`.
        classes: (B, A, G, G, C) in {0, 1}.
    """

    object: Tensor
    background: Tensor
    box: Tensor
    classes: Tensor


def assign_boxes(
    boxes: Tensor, anchors: Tensor, grid: int, side: float, *, classes: int = 1, official: bool = False
) -> Assignment:
    """Give each box to the cell of its centre and, there, to the anchor of the most similar shape.

    The other anchors of that cell whose shape overlaps the box's by more than 0.5 are neither object nor background. If
    several boxes have one predictor, the last in `boxes` gives its shape, and all of them its classes.

    Args:
        boxes: (B, M, 5) of class, centre x, centre y, width, height, the last four in sides of the picture, 0..1; rows
            of zeros are padding.
        anchors: (A, 2), width and height in pixels.
        grid: G.
        side: of the picture, pixels.
        classes: C.
        official: as the code does, measure overlap with 1 added to widths and heights (a convention for pixels, here
            applied to cells, which makes it nearly blind to shape on a coarse grid); keep boxes without an area,
            with log(1e-16) as their shape; and count a predictor whose anchor overlaps its own box by less than 0.5
            as background too, so that it is asked for both answers.
    """
    present = boxes.sum(dim=2) != 0 if official else (boxes[:, :, 3:] > 0).all(dim=2)  # (B, M)
    image, slot = present.nonzero(as_tuple=True)  # (n,)
    label, place, size = boxes[image, slot].split([1, 2, 2], dim=1)  # (B, M, 5) -> (n, 1), (n, 2), (n, 2)
    place, size, priors = place * grid, size * grid, anchors.to(boxes) * (grid / side)  # all in cells
    cell = place.long().clamp(0, grid - 1)  # a centre on the last edge belongs to the last cell
    column, row = cell.unbind(dim=1)  # (n,)
    overlap = _shape_overlap(size, priors, border=1.0 if official else 0.0)  # (n, A)
    best = overlap.argmax(dim=1)  # (n,)

    found = boxes.new_zeros(len(boxes), len(anchors), grid, grid, dtype=torch.bool)  # (B, A, G, G)
    found[image, best, row, column] = True
    background = torch.ones_like(found)
    alike, anchor = (overlap > 0.5).nonzero(as_tuple=True)
    background[image[alike], anchor, row[alike], column[alike]] = False
    shape = torch.log(size / priors[best] + (1e-16 if official else 0.0))  # (n, 2)
    last = _last_of_each(((image * len(anchors) + best) * grid + row) * grid + column, found.numel())  # (n,)
    box = boxes.new_zeros(*found.shape, 4)
    box[image[last], best[last], row[last], column[last]] = torch.cat([place - cell, shape], dim=1)[last]
    labels = boxes.new_zeros(*found.shape, classes)
    labels[image, best, row, column, label[:, 0].long()] = 1
    return Assignment(found, background if official else background & ~found, box, labels)


def _shape_overlap(size: Tensor, priors: Tensor, border: float) -> Tensor:
    """Intersection over union of boxes with one centre, each side longer by `border`; (n, 2), (A, 2) -> (n, A)."""
    size, priors = size + border, priors + border
    common = torch.minimum(size[:, None], priors).prod(dim=2)  # (n, A, 2) -> (n, A)
    return common / (size.prod(dim=1)[:, None] + priors.prod(dim=1) - common)


def _last_of_each(index: Tensor, length: int) -> Tensor:
    """The positions at which a value below `length` occurs for the last time, in an order that never varies; (n,)."""
    order = torch.arange(len(index), device=index.device)
    newest = order.new_full((length,), -1).scatter_reduce_(0, index, order, "amax")
    return (newest[index] == order).nonzero()[:, 0]


def yolo_loss(
    logits: Tensor,
    assignment: Assignment,
    *,
    place_weight: float = 2.5,
    shape_weight: float = 2.5,
    background_weight: float = 0.5,
) -> dict[str, Tensor]:
    """Loss of one grid and its parts; each part is a mean over *all* predictors of the batch, object or not.

    Args:
        logits: (B, A * (5 + C), G, G), for every anchor x, y, w, h, objectness, classes.
        assignment: of the same grid.
        place_weight, shape_weight, background_weight: of x and y, of w and h, and of the background within `conf`.

    Returns:
        Scalars >= 0: `x`, `y`, `conf`, `cls`: binary cross-entropies of sigmoids; `w`, `h`: squared errors; `total` =
        place_weight (x + y) + shape_weight (w + h) + conf + cls.
    """
    found, predictors = assignment.object, assignment.object.numel()
    raw = per_anchor(logits, found.shape[1])  # (B, A, G, G, 5 + C)
    answers, box = raw[found], assignment.box[found]  # (m, 5 + C), (m, 4) of the m predictors with a box
    place = F.binary_cross_entropy_with_logits(answers[:, :2], box[:, :2], reduction="none").sum(dim=0)  # (2,)
    shape = (answers[:, 2:4] - box[:, 2:]).square().sum(dim=0)  # (2,)
    background = F.softplus(raw[..., 4][assignment.background]).sum()
    conf = F.softplus(-answers[:, 4]).sum() + background_weight * background
    cls = F.binary_cross_entropy_with_logits(answers[:, 5:], assignment.classes[found], reduction="sum")
    x, y, w, h = (torch.cat([place, shape]) / predictors).unbind()
    conf, cls = conf / predictors, cls / assignment.classes.numel()
    total = place_weight * (x + y) + shape_weight * (w + h) + conf + cls
    return {"total": total, "x": x, "y": y, "w": w, "h": h, "conf": conf, "cls": cls}


def per_anchor(logits: Tensor, anchors: int) -> Tensor:
    """The predictors of a grid apart, (B, A * (5 + C), G, G) -> (B, A, G, G, 5 + C).

    In float32 at least: the exponential of a width and a sum over all predictors overflow float16.
    """
    apart = logits.unflatten(1, (anchors, -1)).permute(0, 1, 3, 4, 2)
    return apart.to(torch.promote_types(logits.dtype, torch.float32))


def decode(logits: Tensor, anchors: Tensor, side: float) -> Tensor:
    """The boxes that one grid predicts.

    Args:
        logits: (B, A * (5 + C), G, G).
        anchors: (A, 2), width and height in pixels.
        side: of the picture, pixels.

    Returns:
        (B, A * G * G, 5 + C), anchors outermost, then rows: centre x, centre y, width, height in pixels, objectness and
        class probabilities in [0, 1].
    """
    raw = per_anchor(logits, len(anchors))  # (B, A, G, G, 5 + C)
    grid = raw.shape[2]
    axis = torch.arange(grid, device=raw.device)
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    place = (raw[..., :2].sigmoid() + torch.stack([column, row], dim=-1)) * (side / grid)
    size = raw[..., 2:4].exp() * anchors.to(raw)[:, None, None]  # (A, 2) -> (A, 1, 1, 2)
    return torch.cat([place, size, raw[..., 4:].sigmoid()], dim=-1).flatten(1, 3)

"""YOLOv3's assignment and loss against slow references, analytic values, invariances and finite differences."""

import math

import numpy as np
import pytest
import torch

from nbcore.losses.detection import Assignment, assign_boxes, decode, yolo_loss

SIDE = 64
ANCHORS = torch.tensor([[8.0, 10.0], [20.0, 14.0], [40.0, 44.0]])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_boxes(batch: int = 5, most: int = 6, classes: int = 2, seed: int = 0) -> torch.Tensor:
    """Crowded on purpose: several boxes for one predictor, an empty image, padding, boxes without an area."""
    drawn = np.random.default_rng(seed)
    boxes = np.zeros((batch, most, 5))
    for b in range(1, batch):
        for m in range(drawn.integers(1, most + 1)):
            boxes[b, m] = [drawn.integers(classes), *drawn.uniform(0.3, 0.7, 2), *drawn.uniform(0.05, 0.8, 2)]
    boxes[1, 1] = [classes - 1, *boxes[1, 0, 1:3], *0.98 * boxes[1, 0, 3:]]
    boxes[-1, 0] = [0, 1.0, 1.0, 0.2, 0.2]  # centred on the very corner
    boxes[-1, -1] = [0, 0.4, 0.4, 0, 0]
    return torch.from_numpy(boxes)


def slow_assignment(boxes: np.ndarray, grid: int, classes: int, official: bool) -> Assignment:
    """Box by box, anchor by anchor."""
    batch, anchors = len(boxes), ANCHORS.double().numpy() * grid / SIDE
    found, background = np.zeros((batch, 3, grid, grid), bool), np.ones((batch, 3, grid, grid), bool)
    box, labels = np.zeros((batch, 3, grid, grid, 4)), np.zeros((batch, 3, grid, grid, classes))
    extra = 1 if official else 0
    for b in range(batch):
        for label, cx, cy, w, h in boxes[b]:
            if not any([label, cx, cy, w, h]) or (not official and (w <= 0 or h <= 0)):
                continue
            x, y, w, h = cx * grid, cy * grid, w * grid, h * grid
            column, row = min(int(x), grid - 1), min(int(y), grid - 1)
            overlaps = []
            for width, height in anchors:
                common = (min(w, width) + extra) * (min(h, height) + extra)
                overlaps.append(common / ((w + extra) * (h + extra) + (width + extra) * (height + extra) - common))
            for a in range(3):
                if overlaps[a] > 0.5:
                    background[b, a, row, column] = False
            best = int(np.argmax(overlaps))
            found[b, best, row, column] = True
            tiny = 1e-16 if official else 0
            shape = [math.log(w / anchors[best, 0] + tiny), math.log(h / anchors[best, 1] + tiny)]
            box[b, best, row, column] = [x - column, y - row, *shape]
            labels[b, best, row, column, int(label)] = 1
    if not official:
        background &= ~found
    return Assignment(*(torch.from_numpy(part) for part in (found, background, box, labels)))


def slow_loss(logits: np.ndarray, target: Assignment) -> dict[str, float]:
    """Cell by cell, through probabilities."""
    batch, anchors, grid, _ = target.object.shape
    classes = target.classes.shape[-1]
    sums = dict.fromkeys(("x", "y", "w", "h", "conf", "cls"), 0.0)

    def entropy(logit: float, answer: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -answer * math.log(p) - (1 - answer) * math.log(1 - p)

    for b, a, i, j in np.ndindex(batch, anchors, grid, grid):
        raw = logits.reshape(batch, anchors, 5 + classes, grid, grid)[b, a, :, i, j]
        if target.background[b, a, i, j]:
            sums["conf"] += 0.5 * entropy(raw[4], 0)
        if target.object[b, a, i, j]:
            box = target.box[b, a, i, j].tolist()
            sums["x"] += entropy(raw[0], box[0])
            sums["y"] += entropy(raw[1], box[1])
            sums["w"] += (raw[2] - box[2]) ** 2
            sums["h"] += (raw[3] - box[3]) ** 2
            sums["conf"] += entropy(raw[4], 1)
            for c in range(classes):
                sums["cls"] += entropy(raw[5 + c], target.classes[b, a, i, j, c].item()) / classes
    parts = {name: value / target.object.numel() for name, value in sums.items()}
    total = 2.5 * sum(parts[name] for name in "xywh") + parts["conf"] + parts["cls"]
    return {**parts, "total": total}


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("grid", [2, 7, 8])
def test_assignment_equals_the_slow_reference(grid, official):
    boxes = draw_boxes()
    ours = assign_boxes(boxes, ANCHORS, grid, SIDE, classes=2, official=official)
    expected = slow_assignment(boxes.numpy(), grid, 2, official)
    assert ours.object.sum() < (boxes[..., 1] > 0).sum().item() - (not official)  # some predictors have several boxes
    assert torch.equal(ours.object, expected.object)
    assert torch.equal(ours.background, expected.background)
    assert torch.equal(ours.classes, expected.classes)
    torch.testing.assert_close(ours.box, expected.box, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 3])
def test_loss_equals_the_slow_reference(classes):
    boxes = draw_boxes(batch=3, classes=classes)
    assigned = assign_boxes(boxes, ANCHORS, 4, SIDE, classes=classes)
    logits = draw(3, 3 * (5 + classes), 4, 4)
    ours, expected = yolo_loss(logits, assigned), slow_loss(logits.numpy(), assigned)
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(expected, rel=1e-12)


def test_weights_reach_their_parts():
    assigned, logits = assign_boxes(draw_boxes(), ANCHORS, 4, SIDE, classes=2), draw(5, 21, 4, 4)
    plain = yolo_loss(logits, assigned, place_weight=0, shape_weight=0, background_weight=0)
    silent = slow_loss(logits.numpy(), assigned)["conf"] - plain["conf"].item()
    assert plain["total"].item() == pytest.approx(plain["conf"].item() + plain["cls"].item())
    assert yolo_loss(logits, assigned, background_weight=1)["conf"].item() - plain["conf"].item() == pytest.approx(
        2 * silent
    )


def test_the_better_anchor_answers_and_its_cell_is_that_of_the_centre():
    box = torch.tensor([[[0, 0.60, 0.30, 20 / SIDE, 14 / SIDE]]])  # the second anchor's very shape
    assigned = assign_boxes(box, ANCHORS, 4, SIDE)
    assert assigned.object.nonzero().tolist() == [[0, 1, 1, 2]]
    torch.testing.assert_close(assigned.box[0, 1, 1, 2], torch.tensor([0.4, 0.2, 0, 0]), atol=1e-6, rtol=0)


def test_adding_a_pixel_blinds_the_official_overlap_on_a_coarse_grid():
    """On 2 x 2 cells all anchors seem to fit a small box well enough to be no background; by shape only one does."""
    box = torch.tensor([[[0, 0.5, 0.5, 8 / SIDE, 10 / SIDE]]])
    ours = assign_boxes(box, ANCHORS, 2, SIDE)
    official = assign_boxes(box, ANCHORS, 2, SIDE, official=True)
    assert (~ours.background).sum() == 1
    assert (~official.background).sum() == 2


def test_no_predictor_is_asked_for_both_answers():
    for grid in (2, 4, 8):
        assigned = assign_boxes(draw_boxes(seed=grid), ANCHORS, grid, SIDE, classes=2)
        assert not (assigned.object & assigned.background).any()


def test_padding_and_boxes_without_an_area_change_nothing():
    boxes, logits = draw_boxes(), draw(5, 21, 4, 4)
    flat = boxes.clone()
    flat[0, 0] = torch.tensor([1, 0.5, 0.5, 0.3, 0])
    longer = torch.cat([torch.zeros(5, 3, 5), boxes], dim=1)
    losses = [yolo_loss(logits, assign_boxes(b, ANCHORS, 4, SIDE, classes=2))["total"] for b in (boxes, flat, longer)]
    assert losses[0] == losses[1] == losses[2]


def test_order_of_the_batch_does_not_matter():
    boxes, logits = draw_boxes(), draw(5, 21, 8, 8)
    ours = yolo_loss(logits, assign_boxes(boxes, ANCHORS, 8, SIDE, classes=2))["total"]
    turned = yolo_loss(logits.flip(0), assign_boxes(boxes.flip(0), ANCHORS, 8, SIDE, classes=2))["total"]
    torch.testing.assert_close(ours, turned, rtol=1e-12, atol=0)


def test_the_unit_of_the_picture_does_not_matter():
    one = assign_boxes(draw_boxes(), ANCHORS, 4, SIDE, classes=2)
    other = assign_boxes(draw_boxes(), 3 * ANCHORS, 4, 3 * SIDE, classes=2)
    torch.testing.assert_close(one.box, other.box, atol=1e-6, rtol=1e-6)
    assert torch.equal(one.background, other.background)


def test_analytic_values():
    nothing = assign_boxes(torch.zeros(2, 3, 5), ANCHORS, 4, SIDE)
    losses = yolo_loss(torch.zeros(2, 18, 4, 4), nothing)
    assert losses["total"].item() == pytest.approx(0.5 * math.log(2))  # every predictor unsure of the background
    assert yolo_loss(torch.full((2, 18, 4, 4), -200.0), nothing)["total"] == 0  # and sure of it
    no_rows = assign_boxes(torch.zeros(2, 0, 5), ANCHORS, 4, SIDE)
    assert yolo_loss(torch.zeros(2, 18, 4, 4), no_rows)["total"].item() == pytest.approx(0.5 * math.log(2))


def test_a_box_is_decoded_from_its_own_assignment():
    """The logits that the loss asks for decode to the box they were made from."""
    boxes = torch.tensor([[[0, 0.31, 0.77, 0.5, 0.6]], [[0, 0.82, 0.14, 0.2, 0.1]]], dtype=torch.float64)
    assigned = assign_boxes(boxes, ANCHORS, 8, SIDE)
    raw = torch.full((2, 3, 8, 8, 6), -30.0, dtype=torch.float64)
    raw[..., :2] = torch.logit(assigned.box[..., :2])
    raw[..., 2:4] = assigned.box[..., 2:]
    raw[..., 4:][assigned.object] = 30.0
    logits = raw.permute(0, 1, 4, 2, 3).flatten(1, 2)  # (B, A, 6, G, G) -> (B, A * 6, G, G)
    decoded = decode(logits, ANCHORS, SIDE)
    assert decoded.shape == (2, 3 * 8 * 8, 6)
    sure = decoded[decoded[..., 4] > 0.5]
    torch.testing.assert_close(sure[:, :4], boxes[:, 0, 1:] * SIDE, rtol=1e-6, atol=1e-6)
    least = yolo_loss(logits, assigned)
    assert least["conf"].item() + least["cls"].item() + least["w"].item() + least["h"].item() < 1e-9


def test_half_precision_logits_are_worked_on_in_single():
    logits = torch.full((1, 18, 4, 4), 12.0, dtype=torch.float16)  # exp(12) is beyond float16
    assert decode(logits, ANCHORS, SIDE).isfinite().all()
    assert yolo_loss(logits, assign_boxes(torch.zeros(1, 1, 5), ANCHORS, 4, SIDE))["total"].dtype == torch.float32


def test_gradients():
    assigned = assign_boxes(draw_boxes(batch=2), ANCHORS, 2, SIDE, classes=2)
    logits = draw(2, 21, 2, 2).requires_grad_()
    for part in ("total", "x", "h", "conf", "cls"):
        assert torch.autograd.gradcheck(lambda x, part=part: yolo_loss(x, assigned)[part], logits)
    assert torch.autograd.gradcheck(lambda x: decode(x, ANCHORS.double(), SIDE), logits)

"""The YOLOv3 detector: target assignment, loss, head, suppression and average precision."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case
from torch import Tensor

from nbcore.losses.detection import Assignment, assign_boxes, decode, yolo_loss
from nbcore.models.detection import YoloHead, coco_anchors
from nbcore.tasks.detection import IOU_THRESHOLDS, average_precision, box_corners, detections

# the official code keeps targets and the class term in float32 in every run
F32_IN_F64 = 1e-6
STRIDE = 32  # of the coarsest of a picture's grids
PARTS = ("x", "y", "w", "h", "conf", "cls")


def _grids(golden: dict[str, np.ndarray], prefix: str) -> list[int]:
    """The grids of a file, coarse to fine, as the official code has them."""
    found = (re.fullmatch(prefix + r"logits(\d+)", key) for key in golden)
    return sorted(int(match[1]) for match in found if match)


@family("yolo_loss_*.npz")
def yolo_losses(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Targets, every part of the loss, its gradient and the decoded boxes, grid by grid."""
    grids = _grids(golden, "in__")
    side = STRIDE * grids[0]
    anchors = torch.from_numpy(golden["in__anchors_px"])  # (grids, 3, 2), coarse to fine
    boxes = torch.from_numpy(golden["in__targets"])
    assigned = {}
    for grid, priors in zip(grids, anchors):
        channels = golden[f"in__logits{grid}"].shape[1]
        classes = channels // len(priors) - 5
        assigned[grid] = assign_boxes(boxes, priors, grid, side, classes=classes, official=True)
        yield from _targets(f"{stem} grid {grid}", golden, assigned[grid], grid)
    for dtype in DTYPES:
        losses = {}
        for grid in grids:
            logits = torch.from_numpy(golden[f"in__logits{grid}"]).to(DTYPES[dtype]).requires_grad_()
            losses[grid] = yolo_loss(logits, _stored(assigned[grid], golden, grid, DTYPES[dtype]))
            if f"{dtype}__loss{grid}" in golden:
                losses[grid]["total"].backward()
                yield from _parts(f"{stem} {dtype} grid {grid}", golden, losses[grid], logits.grad, dtype, grid)
        total = sum(parts["total"].item() for parts in losses.values())
        for key in (f"{dtype}__loss_total", *(["naive__loss_total"] if dtype == "f64" else [])):
            if key in golden:
                yield Case(f"{stem} {key}", np.array(total), golden[key], max(RTOL[dtype], F32_IN_F64))
        if f"{dtype}__decoded" in golden:
            inputs = [torch.from_numpy(golden[f"in__logits{grid}"]).to(DTYPES[dtype]) for grid in grids]
            ours = torch.cat([decode(logits, priors, side) for logits, priors in zip(inputs, anchors)], dim=1)
            yield Case(f"{stem} {dtype} decoded", ours.numpy(), golden[f"{dtype}__decoded"], RTOL["f32"], 1e-4)


def _targets(name: str, golden: dict[str, np.ndarray], assigned: Assignment, grid: int) -> Iterator[Case]:
    ours = {
        "mask": assigned.object,
        "noobj": assigned.background,
        "tconf": assigned.object,
        "tcls": assigned.classes,
        **{f"t{axis}": assigned.box[..., i] for i, axis in enumerate("xywh")},
    }
    for key, value in ours.items():
        if f"target_{key}{grid}" in golden:
            expected = golden[f"target_{key}{grid}"]
            yield Case(f"{name} target {key}", value.float().numpy(), expected, F32_IN_F64, 1e-6)


def _stored(assigned: Assignment, golden: dict[str, np.ndarray], grid: int, dtype: torch.dtype) -> Assignment:
    """The assignment with the golden targets' own rounding, which `_targets` has found equal to ours, where stored."""
    keys = [f"target_t{axis}{grid}" for axis in "xywh"]
    box = assigned.box.float()
    if all(key in golden for key in keys):
        box = torch.stack([torch.from_numpy(golden[key]) for key in keys], dim=-1)
    return replace(assigned, box=box.to(dtype), classes=assigned.classes.to(dtype))


def _parts(
    name: str, golden: dict[str, np.ndarray], losses: dict[str, Tensor], gradient: Tensor, dtype: str, grid: int
) -> Iterator[Case]:
    keys = {part: f"{dtype}__{part}{grid}" for part in PARTS} | {"total": f"{dtype}__loss{grid}"}
    for part, key in keys.items():
        if key in golden:
            rounded = part in ("cls", "total") or f"target_tx{grid}" not in golden
            rtol = max(RTOL[dtype], F32_IN_F64) if rounded else RTOL[dtype]
            yield Case(f"{name} {part}", losses[part].detach().numpy(), golden[key], rtol)
    if f"{dtype}__grad_logits{grid}" in golden:
        case = gradient_case(f"{name} gradient", gradient, golden[f"{dtype}__grad_logits{grid}"], dtype)
        yield replace(case, atol=max(case.atol, 1e-7 * float(np.abs(case.golden).max(initial=0))))


@family("yolo_head*.npz")
def yolo_head(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """The head with weights that follow from their names, on features from one seeded generator."""
    shapes = dict(zip(golden["names"].tolist(), ([int(n) for n in s.split("x")] for s in golden["shapes"].tolist())))
    sides = {i: golden[f"eval_out{i}"].shape[-1] for i in range(3)}
    channels = [
        shapes["embedding2.0.conv.weight"][1] - shapes["embedding2_cbl.conv.weight"][0],
        shapes["embedding1.0.conv.weight"][1] - shapes["embedding1_cbl.conv.weight"][0],
        shapes["embedding0.0.conv.weight"][1],
    ]
    classes = shapes["embedding0.conv_out.weight"][0] // 3 - 5
    head = YoloHead(channels, classes, width=shapes["embedding0.0.conv.weight"][0])
    missing = head.load_state_dict({_ours(name): _weight(name, shape) for name, shape in shapes.items()}, strict=False)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    foreign = missing.unexpected_keys + [key for key in missing.missing_keys if not key.endswith(buffers)]
    yield Case(f"{stem} parameters that have no counterpart", np.array(len(foreign)), np.array(0), 0.0)
    generator = torch.Generator().manual_seed(5)
    batch = len(golden["eval_out0"])
    maps = [torch.randn(batch, c, sides[2 - i], sides[2 - i], generator=generator) for i, c in enumerate(channels)]
    for mode in ("eval", "train"):
        head.train(mode == "train")
        with torch.no_grad():
            outputs = head(maps)[::-1]  # coarse to fine
        for i, output in enumerate(outputs):
            if f"{mode}_out{i}" in golden:
                yield Case(f"{stem} {mode} output {i}", output.numpy(), golden[f"{mode}_out{i}"], 1e-4, 1e-4)


def _ours(name: str) -> str:
    """The official name of a parameter, in our module: their branch 0 is the coarse one, our branch 2."""
    if match := re.fullmatch(r"embedding(\d)_cbl\.(\w+)\.(\w+)", name):
        return f"laterals.{2 - int(match[1])}.{_layer(match[2])}.{match[3]}"
    if match := re.fullmatch(r"embedding(\d)\.conv_out\.(\w+)", name):
        return f"outputs.{2 - int(match[1])}.1.{match[2]}"
    branch, block, layer, kind = re.fullmatch(r"embedding(\d)\.(\d)\.(\w+)\.(\w+)", name).groups()
    place = f"outputs.{2 - int(branch)}.0" if block == "5" else f"branches.{2 - int(branch)}.{block}"
    return f"{place}.{_layer(layer)}.{kind}"


def _layer(name: str) -> int:
    return ("conv", "bn").index(name)


def _weight(name: str, shape: list[int]) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) == 4:
        return drawn * (2 / np.prod(shape[1:])) ** 0.5
    return 1 + 0.1 * drawn if name.endswith("bn.weight") else 0.1 * drawn


@family("yolo_map*.npz")
def yolo_map(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Loss, suppression image by image, and average precision in both protocols from the golden detections."""
    found, truths = [], []
    for batch in sorted({int(match[1]) for key in golden if (match := re.match(r"in__batch(\d+)_", key))}):
        grids = _grids(golden, f"in__batch{batch}_")
        side = STRIDE * grids[0]
        inputs = [torch.from_numpy(golden[f"in__batch{batch}_logits{grid}"]) for grid in grids]
        anchors, boxes = coco_anchors(side).flip(0), golden[f"in__batch{batch}_targets"]
        total, decoded = 0.0, []
        for grid, logits, priors in zip(grids, inputs, anchors):
            assigned = assign_boxes(torch.from_numpy(boxes).float(), priors, grid, side, official=True)
            total += yolo_loss(logits, assigned)["total"].item()
            decoded.append(decode(logits, priors, side))
        if f"batch{batch}_loss" in golden:
            yield Case(f"{stem} batch {batch} loss", np.array(total), golden[f"batch{batch}_loss"], RTOL["f32"])
        for image, ours in enumerate(_official_detections(torch.cat(decoded, dim=1))):
            expected = golden[f"batch{batch}_img{image}_nms"].reshape(-1, 7)
            expected = expected[:, [0, 1, 2, 3, 6, 4]].astype(np.float64)  # corners, class, objectness
            name = f"{stem} batch {batch} image {image} detections"
            yield Case(name, _ordered(ours), _ordered(expected), RTOL["f32"], 1e-4)
            found.append(expected)
        truths += box_corners(boxes, side)
    yield from _precisions(stem, golden, found, truths)


def _official_detections(decoded: Tensor) -> list[np.ndarray]:
    """Our suppression under the official overlap, which takes a box to end one pixel farther right and down."""
    half = decoded.new_tensor([0.5, 0.5, 1, 1])
    wider = torch.cat([decoded[..., :4] + half, decoded[..., 4:]], dim=-1)
    ours = [rows.double().numpy() for rows in detections(wider, confidence=0.5, nms_overlap=0.5)]
    return [rows - np.array([0, 0, 1, 1, 0, 0]) for rows in ours]


def _ordered(rows: np.ndarray) -> np.ndarray:
    """By the left edge: equal scores come in no particular order."""
    return rows[np.lexsort(rows.T[:4].round(2))]


def _precisions(
    stem: str, golden: dict[str, np.ndarray], found: list[np.ndarray], truths: list[np.ndarray]
) -> Iterator[Case]:
    scored = average_precision(found, truths, skip_unscored=True)
    every = average_precision(found, truths)
    both = np.array([bool(len(own) and len(truth)) for own, truth in zip(found, truths)])
    at_half = IOU_THRESHOLDS.index(0.5)
    values = {
        "torchmetrics082__map": (scored.mean(), 1e-3),  # its recall thresholds are float32: 5e-4 off COCO's
        "torchmetrics082__map_50": (scored[at_half], 1e-3),
        "n_images_scored": (both.sum(), 0.0),
        "n_images_total": (np.array(len(both)), 0.0),
    }
    for protocol, precision in {"scored_only": scored, "all_images": every}.items():
        for source in ("naive", "pycocotools"):
            values[f"{source}__ap_per_iou_{protocol}"] = (precision, 1e-9)
            values[f"{source}__map_{protocol}"] = (precision.mean(), 1e-9)
    for key, (ours, atol) in values.items():
        if key in golden:
            yield Case(f"{stem} {key}", np.asarray(ours), golden[key], 0.0, atol)

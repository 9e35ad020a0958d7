"""Detection: suppression against a slow reference, average precision of known cases, and squares that are found."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from nbcore.data.batches import Columns
from nbcore.errors import UsageError, UserError
from nbcore.models.vision import vision_encoder
from nbcore.tasks.detection import (
    DetectionConfig,
    Detector,
    average_precision,
    box_corners,
    box_targets,
    detections,
    evaluate_detection,
    fit_detection,
    flip_and_shift,
    views,
)
from nbcore.tasks.features import extract_maps

SIDE = 64
SMALL = {"image_size": SIDE, "head_width": 32, "threads": 1, "confidence": 0.05}


def squares(images: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Noise with one or two bright squares in most images, and their boxes as x, y, w, h."""
    drawn = np.random.default_rng(seed)
    pixels = drawn.integers(0, 120, (images, SIDE, SIDE), dtype=np.uint8)
    boxes = []
    for picture in pixels:
        own = []
        for _ in range(drawn.integers(3)):
            side = drawn.integers(14, 28)
            x, y = drawn.integers(0, SIDE - side, 2)
            picture[y : y + side, x : x + side] += 120
            picture[y : y + side, x : x + side].clip(120, out=picture[y : y + side, x : x + side])
            own.append([x, y, side, side])
        boxes.append(np.array(own, float).reshape(-1, 4))
    return pixels, boxes


def rows(pixels: np.ndarray, boxes: list[np.ndarray]) -> Columns:
    return Columns({"image": pixels, "boxes": box_targets(boxes, SIDE)})


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return vision_encoder("tiny_resnet", image_size=SIDE)


@pytest.fixture(scope="module")
def cached(encoder, tmp_path_factory):
    """The three splits as maps of the frozen encoder, computed once."""
    sets = {}
    for seed, (name, images) in enumerate({"train": 192, "valid": 64, "test": 64}.items()):
        pixels, boxes = squares(images, seed)
        maps = extract_maps(encoder, pixels, SIDE, tmp_path_factory.mktemp(name), which=(2, 3, 4))
        columns = {f"map{i}": values for i, values in enumerate(maps)}
        sets[name] = Columns({**columns, "boxes": box_targets(boxes, SIDE)})
    return sets


# --- suppression


def draw_decoded(batch: int, predictors: int, classes: int = 2, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    place, size = torch.rand(batch, predictors, 2, generator=drawn), torch.rand(batch, predictors, 2, generator=drawn)
    rest = torch.rand(batch, predictors, 1 + classes, generator=drawn)
    return torch.cat([place * SIDE, 8 + size * 40, rest], dim=-1)


def slow_detections(decoded: np.ndarray, confidence: float, overlap: float) -> list[list[float]]:
    """One image, box against box."""
    candidates = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2, int(np.argmax(probabilities)), score]
        for x, y, w, h, score, *probabilities in decoded
        if score >= confidence
    ]
    kept: list[list[float]] = []
    for box in sorted(candidates, key=lambda row: -row[5]):
        worst = 0.0
        for other in (k for k in kept if k[4] == box[4]):
            width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
            height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            worst = max(worst, width * height / (sum(areas) - width * height))
        if worst <= overlap:
            kept.append(box)
    return kept[:100]


@pytest.mark.parametrize("predictors", [20, 600])  # torchvision has a way for few boxes and one for many
@pytest.mark.parametrize("overlap", [0.3, 0.9])
def test_suppression_equals_the_slow_reference(predictors, overlap):
    decoded = draw_decoded(4, predictors)
    ours = detections(decoded, 0.5, overlap)
    for image, found in enumerate(ours):
        expected = slow_detections(decoded[image].double().numpy(), 0.5, overlap)
        np.testing.assert_allclose(found.numpy(), np.array(expected), atol=1e-4)
    assert predictors == 20 or overlap < 0.9 or len(ours[0]) == 100


def test_a_crowd_does_not_hide_what_is_less_sure():
    """Five hundred sure copies of one box leave one; the lone box behind them must still be looked at."""
    crowd = torch.tensor([20.0, 20, 10, 10, 0.9, 1]).repeat(500, 1)
    lone = torch.tensor([[50.0, 50, 10, 10, 0.6, 1]])
    (found,) = detections(torch.cat([crowd, lone])[None], 0.5, 0.5)
    assert found[:, 5].tolist() == pytest.approx([0.9, 0.6])


def test_images_do_not_suppress_each_other():
    """A box that reaches far beyond the left upper edge must not meet the boxes of the image before it."""
    large = torch.tensor([[60.0, 60, 120, 120, 0.9, 1]])  # corners 0 to 120
    outside = torch.tensor([[-61.0, -61, 120, 120, 0.8, 1]])  # corners -121 to -1
    found = detections(torch.stack([large, outside]), 0.5, 0.5)
    assert [len(own) for own in found] == [1, 1]


def test_no_detection_at_all():
    found = detections(draw_decoded(3, 10), 1.0, 0.5)
    assert [own.shape for own in found] == [(0, 6)] * 3


# --- average precision


def truth(*boxes: tuple[float, ...]) -> np.ndarray:
    return np.array([[*box, 0] for box in boxes], float).reshape(-1, 5)


def found(*boxes: tuple[float, ...]) -> np.ndarray:
    return np.array([[*box[:4], 0, box[4]] for box in boxes], float).reshape(-1, 6)


def test_analytic_average_precision():
    truths = [truth((0, 0, 10, 10)), truth((5, 5, 25, 25)), truth()]
    perfect = [found((0, 0, 10, 10, 0.9)), found((5, 5, 25, 25, 0.8)), found()]
    assert average_precision(perfect, truths) == pytest.approx(1)
    silent = [found()] * 3
    assert average_precision(silent, truths).tolist() == [0] * 8
    assert average_precision(silent, truths, skip_unscored=True).tolist() == [0] * 8
    half = [perfect[0], found(), found()]
    np.testing.assert_allclose(average_precision(half, truths), 51 / 101)  # recalls 0, 0.01 ... 0.50 are reached
    assert average_precision(half, truths, skip_unscored=True) == pytest.approx(1)  # the missed image is not counted
    alarm = [*perfect[:2], found((0, 0, 9, 9, 0.95))]  # a surer false alarm in the healthy image
    np.testing.assert_allclose(average_precision(alarm, truths), 2 / 3)  # the precision where the last box is found
    assert average_precision(alarm, truths, skip_unscored=True) == pytest.approx(1)


def test_average_precision_of_a_box_that_fits_by_sixty_percent():
    precision = average_precision([found((0, 0, 10, 6.1, 0.9))], [truth((0, 0, 10, 10))])
    assert precision == pytest.approx([1, 1, 1, 1, 1, 0, 0, 0])  # 0.40 to 0.60, then 0.65 to 0.75


def test_average_precision_equals_torchmetrics():
    from torchmetrics.detection import MeanAveragePrecision

    drawn = np.random.default_rng(0)
    truths, guesses = [], []
    for _ in range(12):
        corner = drawn.uniform(0, 60, (drawn.integers(4), 2))
        size = drawn.uniform(5, 90, corner.shape)
        labels = drawn.integers(0, 2, (len(corner), 1))
        truths.append(np.concatenate([corner, corner + size, labels], axis=1))
        moved = drawn.normal(scale=3, size=(len(corner), 4)) + truths[-1][:, :4]
        extra = np.concatenate([np.concatenate([moved, labels], axis=1), [[10, 10, 50, 50, 1]]])
        guesses.append(np.concatenate([extra, drawn.random((len(extra), 1))], axis=1).astype(np.float32).astype(float))
    recalls = np.linspace(0, 1, 101).tolist()  # its own are rounded to float32, which moves some of them past a step
    metric = MeanAveragePrecision(iou_thresholds=[i / 100 for i in range(40, 80, 5)], rec_thresholds=recalls)
    metric.update(
        [
            {"boxes": torch.tensor(g[:, :4]), "labels": torch.tensor(g[:, 4]).long(), "scores": torch.tensor(g[:, 5])}
            for g in guesses
        ],
        [{"boxes": torch.tensor(t[:, :4]), "labels": torch.tensor(t[:, 4]).long()} for t in truths],
    )
    expected = metric.compute()
    ours = average_precision(guesses, truths)
    assert 0.1 < ours.mean() < 0.9
    assert ours.mean() == pytest.approx(expected["map"].item(), abs=1e-6)
    assert ours[2] == pytest.approx(expected["map_50"].item(), abs=1e-6)


def test_average_precision_needs_a_box():
    with pytest.raises(UserError, match="no image of this split has a box"):
        average_precision([found()], [truth()])


# --- rows


def test_targets_and_corners_are_inverse():
    boxes = [np.array([[4.0, 6, 10, 20], [0, 0, 64, 64]]), [], [[1, 2, 0, 5], [30, 40, 7, 9]]]
    targets = box_targets(boxes, SIDE)
    assert targets.shape == (3, 2, 5)
    np.testing.assert_allclose(targets[0, 0], [0, 9 / 64, 16 / 64, 10 / 64, 20 / 64])
    corners = box_corners(targets, SIDE)
    assert [len(own) for own in corners] == [2, 0, 1]  # the box without a width is dropped
    np.testing.assert_allclose(corners[2], [[30, 40, 37, 49, 0]], atol=1e-5)
    assert box_targets([[], []], SIDE).shape == (2, 0, 5)


# --- training


def test_squares_are_found(encoder, cached, tmp_path):
    config = DetectionConfig(**SMALL, epochs=12, learning_rate=1e-2)
    untrained = Detector(encoder.map_channels[-3:], config)
    assert evaluate_detection(untrained, cached["test"])["map"] < 0.05
    result = fit_detection(encoder, **cached, config=config, seed=0, directory=tmp_path)
    assert result["map"] > 0.25
    assert result["map_50"] > 0.4
    assert (result["images"], result["boxes"]) == (64, (cached["test"].columns["boxes"][..., 3] > 0).sum())
    assert result["best_epoch"] <= result["epochs"] <= 12
    again = fit_detection(encoder, **cached, config=config, seed=0, directory=tmp_path)  # loads what is there
    assert again == result


def test_silence_scores_zero_and_keeps_the_first_epoch(encoder, cached, tmp_path):
    config = DetectionConfig(**{**SMALL, "confidence": 1.0}, epochs=9, patience=2, batch_size=64)
    result = fit_detection(encoder, **cached, config=config, seed=0, directory=tmp_path)
    assert (result["map"], result["valid_map"], result["detections"]) == (0, 0, 0)
    assert (result["best_epoch"], result["epochs"]) == (1, 3)


def test_a_label_fraction_is_a_subset(encoder, cached, tmp_path):
    config = DetectionConfig(**SMALL, epochs=1, batch_size=16)
    few = {**cached, "train": Subset(cached["train"], range(16))}
    assert fit_detection(encoder, **few, config=config, seed=0, directory=tmp_path)["epochs"] == 1


def test_maps_and_images_give_the_same_numbers(encoder, cached):
    pixels, boxes = squares(64, seed=2)  # the test split
    torch.manual_seed(1)
    config = DetectionConfig(**{**SMALL, "confidence": 0.2})
    detector = Detector(encoder.map_channels[-3:], config, encoder).eval()
    from_maps = detector.logits(
        {name: torch.from_numpy(np.array(cached["test"].columns[name][:8])) for name in ("map0", "map1", "map2")}
    )
    from_images = detector.logits(views({"image": torch.from_numpy(pixels[:8])}))
    for one, other in zip(from_maps, from_images):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-2)  # maps are kept in float16
    assert evaluate_detection(detector, rows(pixels, boxes))["boxes"] == sum(map(len, boxes))


@pytest.mark.parametrize("train_encoder", [False, True])
def test_only_an_encoder_that_is_trained_changes(encoder, train_encoder):
    config = DetectionConfig(**SMALL, train_encoder=train_encoder)
    vision = copy.deepcopy(encoder)
    detector = Detector(vision.map_channels[-3:], config, vision).train()
    assert vision.training == train_encoder
    before = {name: value.clone() for name, value in vision.state_dict().items()}
    pixels, boxes = squares(4, seed=3)
    losses = detector.losses(views(rows(pixels, boxes).__getitems__([0, 1, 2, 3])))
    assert set(losses) == {"total", "x", "y", "w", "h", "conf", "cls"}
    losses["total"].backward()
    gradients = [p.grad is not None for p in vision.parameters()]
    assert all(gradients) if train_encoder else not any(gradients)
    statistics = [torch.equal(before[name], value) for name, value in vision.state_dict().items() if "running" in name]
    assert all(statistics) != train_encoder


def test_an_encoder_is_trained_end_to_end(encoder, tmp_path):
    vision = copy.deepcopy(encoder)
    data = rows(*squares(16, seed=4))
    config = DetectionConfig(**SMALL, train_encoder=True, epochs=1, batch_size=8)
    fit_detection(vision, data, data, data, config, seed=0, directory=tmp_path)
    assert any(not torch.equal(a.cpu(), b) for a, b in zip(vision.parameters(), encoder.parameters()))


def test_refusals(encoder, cached, tmp_path):
    images = rows(*squares(16, seed=5))
    common = {"seed": 0, "directory": tmp_path}
    frozen = DetectionConfig(**SMALL, epochs=1)
    with pytest.raises(UsageError, match="train data of a detection must be maps"):
        fit_detection(encoder, images, cached["valid"], images, frozen, **common)
    with pytest.raises(UsageError, match="train data of a detection must be images"):
        trained = DetectionConfig(**SMALL, epochs=1, train_encoder=True)
        fit_detection(encoder, **cached, config=trained, **common)
    with pytest.raises(UsageError, match="64 pixels wide but image_size is 96"):
        larger = DetectionConfig(**{**SMALL, "image_size": 96}, epochs=1)
        fit_detection(encoder, cached["train"], cached["valid"], images, larger, **common)
    with pytest.raises(UsageError, match="choose a ResNet"):
        fit_detection(vision_encoder("tiny_vit", image_size=SIDE), **cached, config=frozen, **common)


def test_defaults_are_the_published_values():
    config = DetectionConfig()
    assert (config.learning_rate, config.weight_decay, config.batch_size) == (5e-4, 1e-6, 16)
    assert (config.epochs, config.patience, config.confidence, config.nms_overlap) == (50, 10, 0.5, 0.5)


def test_flipped_and_shifted_boxes_stay_on_what_they_enclose():
    side, generator = 32, torch.Generator().manual_seed(0)
    corners = np.random.default_rng(0).integers(4, 20, (40, 2))
    image = torch.full((40, 1, side, side), -1.0)
    for picture, (x, y) in zip(image, corners):
        picture[0, y : y + 6, x : x + 9] = 1
    boxes = torch.from_numpy(box_targets([[(x, y, 9, 6)] for x, y in corners], side))
    moved, targets = flip_and_shift(image, boxes, generator)
    assert (targets[:, 0, 1] - boxes[:, 0, 1]).unique().numel() > 5
    found = box_corners(targets.numpy(), side)
    assert sum(map(len, found)) == 40
    for picture, ((left, top, right, bottom, _),) in zip(moved[:, 0], found):
        rows, columns = torch.nonzero(picture > 0, as_tuple=True)
        visible = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        box = np.clip([left, top, right, bottom], 0, side)  # what has left the picture cannot be seen
        np.testing.assert_allclose([int(edge) for edge in visible], box, atol=1.01)


def test_a_box_whose_centre_leaves_the_picture_is_dropped_and_padding_stays_empty():
    boxes = torch.tensor([[[0.0, 0.02, 0.5, 0.04, 0.2], [0.0, 0.0, 0.0, 0.0, 0.0]]]).repeat(200, 1, 1)
    _, targets = flip_and_shift(torch.zeros(200, 1, 16, 16), boxes, torch.Generator().manual_seed(0), reach=0.5)
    kept = targets[:, 0, 3] > 0
    assert 0.2 < kept.float().mean() < 0.8
    assert (targets[~kept] == 0).all() and (targets[:, 1] == 0).all()

"""Segmentation on a frozen encoder: freezing, augmentation, selection, evaluation, and learning end to end."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from nbcore.data.batches import Columns, prepare
from nbcore.errors import UsageError, UserError
from nbcore.losses.segmentation import batch_dice, dice_per_image, focal_loss, mixed_loss
from nbcore.models.segmentation import segmentation_head
from nbcore.models.vision import VisionEncoder, vision_encoder
from nbcore.tasks.features import extract_maps
from nbcore.tasks.segmentation import (
    SegmentationConfig,
    Segmenter,
    balanced_rows,
    evaluate_dice,
    fit_segmentation,
    shift_scale_rotate,
    validation_loss,
    views,
)

SIZE = 32
WIDTHS = (16, 16, 16, 8, 8)


@pytest.fixture(autouse=True)
def threads():
    """`fit` sets the number of threads for the whole process; the tests after these keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def config(**changes) -> SegmentationConfig:
    settings = {
        "image_size": SIZE, "decoder_widths": WIDTHS, "epochs": 2, "batch_size": 8, "augmentation": "none",
        "threads": 1,
    }  # fmt: skip
    return SegmentationConfig(**(settings | changes))


def encoder(seed: int = 0) -> VisionEncoder:
    torch.manual_seed(seed)
    return vision_encoder("tiny_resnet")


def squares(n: int, seed: int) -> dict[str, np.ndarray]:
    """Noise with a bright square in three of four images; "image" and "mask" uint8 (n, S, S)."""
    drawn = np.random.default_rng(seed)
    image, mask = drawn.integers(0, 140, (n, SIZE, SIZE)), np.zeros((n, SIZE, SIZE), np.uint8)
    for i in range(n):
        side, (top, left) = drawn.integers(8, 14), drawn.integers(0, SIZE - 14, 2)
        if i % 4:
            mask[i, top : top + side, left : left + side] = 1
    return {"image": (image + 100 * mask).astype(np.uint8), "mask": mask}


def mapped(vision: VisionEncoder, rows: dict[str, np.ndarray], folder) -> Columns:
    """The same rows with the encoder's maps instead of images."""
    folder.mkdir()
    numbers = range(len(vision.map_channels))
    maps = extract_maps(vision, rows["image"], SIZE, folder, numbers)
    return Columns({"mask": rows["mask"], **{f"map{i}": values for i, values in zip(numbers, maps)}})


def segmenter(settings: SegmentationConfig, with_images: bool = True) -> Segmenter:
    vision = encoder()
    return Segmenter(segmentation_head(vision, WIDTHS), settings, vision if with_images else None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bright_squares_are_found_from_maps(tmp_path):
    vision = encoder()
    sets = [mapped(vision, squares(n, seed), tmp_path / str(seed)) for seed, n in enumerate((96, 32, 48))]
    settings = config(epochs=12, learning_rate=5e-3, batch_size=16)
    result = fit_segmentation(vision, *sets, settings, seed=0, directory=tmp_path / "run")
    everything = dice_per_image(torch.full((48, SIZE, SIZE), 9.0), torch.from_numpy(sets[2].columns["mask"]))
    assert everything.mean() < 0.2
    assert result["dice_positive"] > 0.7
    assert result["dice"] > 0.6
    assert (result["images"], result["positives"]) == (48, 36)
    assert result["dice"] == pytest.approx(0.75 * result["dice_positive"] + 0.25 * result["dice_negative"])
    assert 1 <= result["best_epoch"] <= result["epochs"] <= 12
    again = fit_segmentation(vision, *sets, settings, seed=0, directory=tmp_path / "run")  # loaded, not trained
    assert again == result


def test_the_epoch_of_lowest_validation_loss_is_kept_and_patience_ends_the_run(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.5, 0.5])
    monkeypatch.setattr("nbcore.tasks.segmentation.validation_loss", lambda segmenter, data: next(losses))
    vision = encoder()
    rows = mapped(vision, squares(16, 0), tmp_path / "maps")
    result = fit_segmentation(
        vision, rows, rows, rows, config(epochs=9, patience=2), seed=0, directory=tmp_path / "run"
    )
    assert (result["best_epoch"], result["epochs"], result["valid_loss"]) == (2, 4, 1.0)


def test_a_frozen_encoder_is_not_changed_by_training(tmp_path):
    vision = encoder()
    before = {key: value.clone() for key, value in vision.state_dict().items()}
    rows = squares(16, 0)
    maps = mapped(vision, rows, tmp_path / "maps")
    settings = config(augmentation="shift_scale_rotate")
    fit_segmentation(vision, Columns(rows), maps, Columns(rows), settings, seed=0, directory=tmp_path / "run")
    assert all(torch.equal(before[key], value) for key, value in vision.state_dict().items())


def test_the_reference_trains_its_encoder(tmp_path):
    vision, rows = encoder(), Columns(squares(16, 0))
    before = {key: value.clone() for key, value in vision.state_dict().items()}
    settings = config(train_encoder=True)
    fit_segmentation(vision, rows, rows, rows, settings, seed=0, directory=tmp_path / "run")
    assert not torch.equal(before["backbone.conv1.0.weight"], vision.backbone.conv1[0].weight)
    assert not torch.equal(before["backbone.bn1.running_mean"], vision.backbone.bn1.running_mean)


def test_a_frozen_encoder_stays_in_evaluation_mode_and_gets_no_gradient():
    frozen = segmenter(config()).train()
    assert frozen.head.training
    assert not any(module.training for module in frozen.vision.modules())
    batch = views(Columns(squares(4, 0)).__getitems__([0, 1, 2, 3]), size=SIZE)
    frozen.losses(batch)["total"].backward()
    assert all(p.grad is None for p in frozen.vision.parameters())
    assert all(p.grad is not None for p in frozen.head.parameters())
    trained = segmenter(config(train_encoder=True)).train()
    assert trained.vision.training
    trained.losses(batch)["total"].backward()
    assert trained.vision.backbone.conv1[0].weight.grad is not None


def test_maps_and_images_give_the_same_losses(tmp_path):
    from_images, rows = segmenter(config()), squares(6, 0)
    maps = mapped(from_images.vision, rows, tmp_path / "maps")
    one, other = validation_loss(from_images, Columns(rows)), validation_loss(from_images, maps)
    assert one == pytest.approx(other, rel=1e-3)  # half precision
    assert one != other


def test_the_frozen_encoder_sees_no_view_twice(tmp_path, monkeypatch):
    """With maps it is never run; with augmentation once an image and epoch, and once a test image."""
    vision, rows = encoder(), squares(16, 0)
    maps = mapped(vision, rows, tmp_path / "maps")
    seen, forward = [], VisionEncoder.maps
    monkeypatch.setattr(
        VisionEncoder, "maps", lambda self, images: (seen.append(len(images)), forward(self, images))[1]
    )
    fit_segmentation(vision, maps, maps, maps, config(), seed=0, directory=tmp_path / "cached")
    assert seen == []
    settings = config(augmentation="shift_scale_rotate")
    fit_segmentation(vision, Columns(rows), maps, Columns(rows), settings, seed=0, directory=tmp_path / "augmented")
    assert sum(seen) == 2 * 16 + 16


def test_inputs_that_would_repeat_or_mistake_views_are_refused(tmp_path):
    vision, rows = encoder(), squares(16, 0)
    images, maps = Columns(rows), mapped(vision, rows, tmp_path / "maps")
    cases = [
        ("train data .* must be maps", (images, maps, maps), {}),
        ("train data .* must be images", (maps, maps, maps), {"augmentation": "shift_scale_rotate"}),
        ("valid data .* must be maps", (maps, images, maps), {}),
        ("test data .* must be images: train_encoder", (images, images, maps), {"train_encoder": True}),
    ]
    for message, sets, changes in cases:
        with pytest.raises(UsageError, match=message):
            fit_segmentation(vision, *sets, config(**changes), seed=0, directory=tmp_path / "run")


def test_rows_of_a_label_fraction_need_no_copy(tmp_path):
    maps = mapped(encoder(), squares(16, 0), tmp_path / "maps")
    some = Subset(maps, [3, 9])
    for name, values in some.__getitems__([1]).items():
        np.testing.assert_array_equal(values, maps.columns[name][[9]])


def test_dice_is_a_mean_over_images_whatever_the_batches():
    model, data = segmenter(config()).eval(), Columns(squares(7, 3))
    whole, pieces = evaluate_dice(model, data), evaluate_dice(model, data, batch_size=2)
    assert whole == pytest.approx(pieces)
    batch = views(data.__getitems__(list(range(7))), size=SIZE)
    with torch.no_grad():
        expected = dice_per_image(model.logits(batch), batch["mask"])
    assert whole["dice"] == pytest.approx(expected.mean().item())
    positive = batch["mask"].flatten(1).any(dim=1)
    assert whole["dice_positive"] == pytest.approx(expected[positive].mean().item())
    only_positive = Subset(data, [1, 2, 3])
    assert evaluate_dice(model, only_positive)["dice_negative"] is None


def test_validation_loss_weighs_batches_by_their_rows():
    model, data = segmenter(config(batch_size=4)).eval(), Columns(squares(6, 0))
    batches = [views(data.__getitems__(rows), size=SIZE) for rows in ([0, 1, 2, 3], [4, 5])]
    first, second = (mixed_loss(model.logits(batch), batch["mask"]).item() for batch in batches)
    assert validation_loss(model.train(), data) == pytest.approx((4 * first + 2 * second) / 6)


def test_the_loss_of_segmentation_is_mixed_by_alpha():
    data = views(Columns(squares(4, 0)).__getitems__([0, 1, 2, 3]), size=SIZE)
    for settings, alpha in ((config(), 10.0), (config(alpha=2.0), 2.0)):
        model = segmenter(settings).eval()
        logits = model.logits(data)
        expected = alpha * focal_loss(logits, data["mask"]) - batch_dice(logits, data["mask"]).log()
        torch.testing.assert_close(model.losses(data)["total"], expected)


def test_views_crop_image_and_mask_alike():
    stored = {"image": torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)}
    stored["mask"] = (stored["image"] > 127).to(torch.uint8)
    batch = views(stored, size=SIZE)
    torch.testing.assert_close(batch["image"], prepare(stored["image"], SIZE, "none"))
    assert torch.equal(batch["mask"], (batch["image"][:, 0] > 0).float())


def test_augmentation_moves_image_and_mask_together():
    mask = torch.zeros(200, SIZE, SIZE)
    mask[:, 4:12, 18:28] = 1
    image = mask[:, None] * 2 - 1  # bright exactly where the mask is
    turned, turned_mask = shift_scale_rotate(image, mask, generator())
    assert set(turned_mask.unique().tolist()) == {0.0, 1.0}
    assert ((turned[:, 0] > 0) == (turned_mask == 1)).float().mean() > 0.99  # they differ on edges only
    still = (turned - image).flatten(1).abs().amax(dim=1) < 1e-4
    assert 0.4 < still.float().mean() < 0.6
    assert torch.equal(turned_mask[still], mask[still])
    area = turned_mask.sum(dim=(1, 2)) / mask.sum(dim=(1, 2))
    assert 0.75 < area.min() < 0.9  # 0.9 squared, give or take whole pixels
    assert 1.1 < area.max() < 1.3  # 1.1 squared
    again = shift_scale_rotate(image, mask, generator())
    assert torch.equal(again[0], turned)
    assert torch.equal(again[1], turned_mask)


def test_what_comes_in_from_outside_is_black():
    white = torch.ones(64, 1, SIZE, SIZE)
    turned, mask = shift_scale_rotate(white, torch.ones(64, SIZE, SIZE), generator(), scale=0.0, degrees=45.0)
    corners = turned[:, 0, 0, 0]
    assert corners.min() == pytest.approx(-1)
    assert mask[corners < -0.9, 0, 0].max() == 0
    torch.testing.assert_close(turned[:, 0, 12:20, 12:20], white[:, 0, 12:20, 12:20], atol=1e-4, rtol=0)


def test_balanced_rows():
    positive = np.arange(40) % 5 == 0
    rows = balanced_rows(positive, seed=1)
    assert len(rows) == 16
    assert positive[rows].sum() == 8
    assert set(np.flatnonzero(positive)) <= set(rows)
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == balanced_rows(positive, seed=1).tolist() != balanced_rows(positive, seed=2).tolist()
    assert balanced_rows(~positive, seed=1).tolist() == list(range(40))  # fewer negatives than positives: all of them
    with pytest.raises(UserError, match="no training image"):
        balanced_rows(np.zeros(5, bool), seed=0)


def test_defaults_are_the_published_values():
    published = SegmentationConfig()
    assert (published.optimizer, published.learning_rate, published.weight_decay) == ("adamw", 5e-4, 0.05)
    assert (published.batch_size, published.epochs, published.patience, published.alpha) == (8, 50, 10, 10)
    assert (published.image_size, published.schedule, published.train_encoder) == (224, "constant", False)

"""Run-length codes, masks and boxes in the square, against slow references."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from nbcore.data.images import fit_square, square_geometry
from nbcore.data.masks import boxes_in_square, has_outline, masks, rle_decode, rle_encode
from nbcore.data.samples import Samples
from nbcore.data.tables import tidy
from nbcore.errors import UserError

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def _slow_decode(code: str, height: int, width: int) -> np.ndarray:
    """Walk the pixels down the columns, one at a time."""
    mask, place = np.zeros((height, width), np.uint8), 0
    numbers = [int(number) for number in code.split()]
    for offset, length in zip(numbers[::2], numbers[1::2]):
        place += offset
        for _ in range(length):
            mask[place % height, place // height] = 1
            place += 1
    return mask


@given(arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 1)))
@settings(max_examples=100, deadline=None)
def test_codes_come_back_as_they_went(mask: np.ndarray) -> None:
    code = rle_encode(mask)
    assert (rle_decode(code, *mask.shape) == mask).all()
    assert (code == "-1") == (not mask.any())
    if mask.any():
        assert (_slow_decode(code, *mask.shape) == mask).all()


def test_codes_by_hand() -> None:
    mask = np.array([[0, 1], [1, 1], [1, 0]], np.uint8)  # down the columns: 0 1 1 1 1 0
    assert rle_encode(mask) == "1 4"
    assert (rle_decode("1 2 0 2", 3, 2) == mask).all()  # two runs that touch
    assert rle_encode(255 * np.eye(3)) == "0 1 3 1 3 1"
    assert not rle_decode(" -1", 3, 2).any() and rle_decode(" -1", 3, 2).shape == (3, 2)


@pytest.mark.parametrize(("code", "message"), [("1 2 3", "pairs"), ("1 -2", "pairs"), ("4 3", "reach pixel 7")])
def test_wrong_codes(code: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rle_decode(code, 3, 2)


def _samples(root: Path, shape: tuple[int, int], **columns: list) -> Samples:
    """As many pictures (height, width) as the columns have entries."""
    count = len(next(iter(columns.values())))
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        Image.fromarray(np.zeros(shape, np.uint8)).save(root / name)
    table = tidy(count, image=names, patient=names, study=names, **columns, **{"label:x": np.float32(1)})
    return Samples("toy", root, ("x",), "real", 0, table)


def _square(mask: np.ndarray, size: int) -> np.ndarray:
    """Slow reference: repeat every pixel so often that areas are whole numbers, then ask for half of each."""
    inner_height, inner_width, top, left = square_geometry(*mask.shape, size)
    fine = np.repeat(np.repeat(mask.astype(float), inner_height, 0), inner_width, 1)
    covered = fine.reshape(inner_height, mask.shape[0], inner_width, mask.shape[1]).mean(axis=(1, 3))
    square = np.zeros((size, size), np.uint8)
    square[top : top + inner_height, left : left + inner_width] = covered >= 0.5 - 1e-9
    return square


@pytest.mark.parametrize("shape", [(40, 40), (48, 30), (21, 50), (9, 12)])
def test_codes_files_and_boxes_of_one_region_are_one_mask(shape: tuple[int, int], tmp_path: Path) -> None:
    region = np.zeros(shape, np.uint8)
    region[2:9, 3:11] = 1
    Image.fromarray(region).save(tmp_path / "mask.png")  # of 0 and 1
    samples = _samples(
        tmp_path,
        shape,
        mask=["rle:" + rle_encode(region), "mask.png", "", ""],
        boxes=[[], [], [(3, 2, 8, 7)], []],
    )
    code, file, box, nothing = masks(samples, 16)
    assert code.dtype == np.uint8 and (code == _square(region, 16)).all() and code.any()
    assert (file == code).all() and (box == code).all() and not nothing.any()
    assert has_outline(samples).tolist() == [True, True, True, False]


def test_a_mask_follows_its_image(tmp_path: Path) -> None:
    """What is white in the picture is 1 in the mask, for pictures of any shape."""
    region = np.random.default_rng(0).random((70, 33)) < 0.5
    samples = _samples(tmp_path, region.shape, mask=["rle:" + rle_encode(region)])
    picture = fit_square(255 * region.astype(np.uint8), 20)
    assert (masks(samples, 20)[0] == (picture >= 128)).all()


def test_several_codes_and_boxes_are_united(tmp_path: Path) -> None:
    first, second = np.zeros((2, 12, 12), np.uint8)
    first[1:6, 1:8], second[4:11, 5:9] = 1, 1
    codes = ";".join([rle_encode(first), rle_encode(second)])
    swapped = ";".join([rle_encode(second), rle_encode(first)])
    boxes = [(1, 1, 7, 5), (5, 4, 4, 7)]
    samples = _samples(tmp_path, (12, 12), mask=["rle:" + codes, "rle:" + swapped, ""], boxes=[[], [], boxes])
    for mask in masks(samples, 12):
        assert (mask == (first | second)).all()


def test_masks_keep_the_order_of_the_rows(tmp_path: Path) -> None:
    boxes = [[(i, 0, 1, 10)] if i % 3 else [] for i in range(10)]
    samples = _samples(tmp_path, (10, 10), boxes=boxes)
    whole = masks(samples, 10)
    assert (masks(samples.subset([7, 2, 3]), 10) == whole[[7, 2, 3]]).all()
    assert [mask[0].tolist().index(1) for mask in whole if mask.any()] == [1, 2, 4, 5, 7, 8]


def test_boxes_in_a_square_image_are_scaled(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (40, 40), boxes=[[(4, 8, 10, 20), (0, 0, 40, 40)], []])
    boxes, none = boxes_in_square(samples, 20)
    assert boxes.dtype == np.float32 and boxes.tolist() == [[2, 4, 5, 10], [0, 0, 20, 20]]
    assert none.shape == (0, 4) and none.dtype == np.float32


def test_boxes_follow_the_padding(tmp_path: Path) -> None:
    tall = _samples(tmp_path, (40, 20), boxes=[[(0, 0, 20, 40), (4, 8, 2, 6)]])
    assert boxes_in_square(tall, 20)[0].tolist() == [[5, 0, 10, 20], [7, 4, 1, 3]]
    wide = _samples(tmp_path, (10, 40), boxes=[[(0, 0, 40, 10)]])
    assert boxes_in_square(wide, 40)[0].tolist() == [[0, 15, 40, 10]]


def test_boxes_are_clipped_and_empty_ones_dropped(tmp_path: Path) -> None:
    told = [(-5, -5, 10, 10), (5, 5, 0, 3), (50, 2, 3, 3), (38, 39, 10, 10), (3, 3, 4, -1)]
    samples = _samples(tmp_path, (40, 40), boxes=[told, [(5, 5, 0, 0)]])
    some, none = boxes_in_square(samples, 40)
    assert some.tolist() == [[0, 0, 5, 5], [38, 39, 2, 1]]
    assert none.shape == (0, 4)
    assert masks(samples, 40).sum(axis=(1, 2)).tolist() == [27, 0]


def test_a_box_bounds_its_mask(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (53, 37), boxes=[[(6.0, 10.0, 12.0, 31.0)]])
    rows, columns = np.nonzero(masks(samples, 24)[0])
    x, y, w, h = boxes_in_square(samples, 24)[0][0]
    assert abs(columns.min() - x) <= 0.5 and abs(columns.max() + 1 - x - w) <= 0.5
    assert abs(rows.min() - y) <= 0.5 and abs(rows.max() + 1 - y - h) <= 0.5


def test_only_headers_of_images_with_boxes_are_read(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (10, 10), boxes=[[(1, 1, 2, 2)], []])
    (tmp_path / "1.png").unlink()
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:50])  # cut within the pixels
    assert [len(boxes) for boxes in boxes_in_square(samples, 10)] == [1, 0]
    assert masks(samples, 10).sum() == 4


def test_what_does_not_fit_is_told_with_the_image(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (6, 4), mask=["rle:0 25", "rle:0 1;3", "mask.png", "absent.png"])
    Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "mask.png")
    for row, message in enumerate(
        [
            r"mask of .*0\.png does not fit it: run lengths reach pixel 25 of an image of 4 x 6",
            r"mask of .*1\.png does not fit it: run lengths must be pairs",
            r"mask\.png is 6 x 4 pixels, its image .*2\.png 4 x 6",
            r"cannot read the image .*absent\.png",
        ]
    ):
        with pytest.raises(UserError, match=message) as caught:
            masks(samples.subset([row]), 8)
        assert "\n" not in str(caught.value)


def test_the_fingerprint_covers_codes_and_mask_files(tmp_path: Path) -> None:
    Image.fromarray(np.ones((6, 4), np.uint8)).save(tmp_path / "mask.png")
    samples = _samples(tmp_path, (6, 4), mask=["rle:0 2", "mask.png"])
    before = samples.fingerprint()
    other = samples.table.assign(mask=["rle:0 3", "mask.png"])
    assert replace(samples, table=other).fingerprint() != before
    Image.fromarray(np.eye(6, 4, dtype=np.uint8)).save(tmp_path / "mask.png")
    assert replace(samples).fingerprint() != before


def test_run_lengths_beyond_all_numbers() -> None:
    with pytest.raises(ValueError, match="must be numbers of pixels"):
        rle_decode("5 " + "9" * 30, 8, 8)


def test_a_picture_s_mask_is_its_brighter_half(tmp_path: Path) -> None:
    region = np.zeros((12, 12), np.uint8)
    region[3:8, 2:9] = 1
    samples = _samples(tmp_path, (12, 12), mask=["mask.png"])
    noise = np.random.default_rng(0).integers(0, 5, region.shape)
    for levels in (region, 2 * region, 255 * region, 250 * region + noise, 180 * region + noise + 1):
        Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "mask.png")
        assert (masks(samples, 12)[0] == region).all()
    Image.fromarray(0 * region).save(tmp_path / "mask.png")
    assert not masks(samples, 12).any()
    for level in (2, 255):
        Image.fromarray(np.full_like(region, level)).save(tmp_path / "mask.png")
        with pytest.raises(UserError, match=r"mask\.png covers all of its image"):
            masks(samples, 12)

"""Where the findings are: run-length codes, masks and boxes in the square that `images.fit_square` makes of an image.

Shapes: n images, H height, W width, S side of the square, k boxes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm.auto import tqdm

from nbcore.data.images import fit_square, image_size, read_image, square_geometry
from nbcore.data.samples import RLE, Samples
from nbcore.errors import UserError

NO_RUNS = "-1"  # the code of an empty mask
_WORKERS = 2
_PATIENCE = 3.0  # seconds of silence before a progress bar appears
_T = TypeVar("_T")


def rle_encode(mask: np.ndarray) -> str:
    """A mask (H, W) as "offset length offset length ...": SIIM-ACR's run lengths.

    Pixels are counted down the columns, from the left one to the right; an offset is the distance from the end of the
    run before (from the first pixel, for the first run). "-1" if the mask is empty.
    """
    flat = np.concatenate([[False], mask.T.ravel() != 0, [False]])  # (H * W + 2,)
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    if not len(edges):
        return NO_RUNS
    return " ".join(map(str, np.diff(edges, prepend=0)))  # distances between edges are offsets and lengths in turn


def rle_decode(code: str, height: int, width: int) -> np.ndarray:
    """The mask of a code as `rle_encode` writes it: uint8 (H, W) of 0 and 1.

    Raises ValueError for a code that is not pairs of offset and length, or that leaves the image.
    """
    mask = np.zeros(height * width, np.uint8)
    if code.strip() == NO_RUNS:
        return mask.reshape(height, width)
    try:
        edges = np.cumsum(np.array(code.split(), np.int64))
    except OverflowError as error:
        raise ValueError(f"run lengths must be numbers of pixels, not {code[:40]!r}") from error
    if len(edges) % 2 or (np.diff(edges, prepend=0) < 0).any():
        raise ValueError(f"run lengths must be pairs of offset and length, not {code[:40]!r}")
    if edges.max(initial=0) > len(mask):
        raise ValueError(f"run lengths reach pixel {edges[-1]} of an image of {width} x {height}")
    for start, end in edges.reshape(-1, 2):
        mask[start:end] = 1
    return mask.reshape(width, height).T


def read_mask(path: Path) -> np.ndarray:
    """The mask in a picture: uint8 (H, W) of 0 and 1, 1 where it is brighter than half of its brightest pixel.

    Raises UserError, naming the file, for a picture that cannot be read or is bright everywhere.
    """
    levels = read_image(path)  # (H, W)
    mask = (levels > levels.max() / 2).astype(np.uint8)
    if mask.all():
        raise UserError(f"the mask {path} covers all of its image, so it outlines nothing: fetch it again")
    return mask


def has_outline(samples: Samples) -> np.ndarray:
    """Which images have a mask or boxes: bool (n,)."""
    return ((samples.table["mask"] != "") | (samples.table["boxes"].map(len) > 0)).to_numpy()


def masks(samples: Samples, size: int) -> np.ndarray:
    """The mask of each image in the square of side `size`: uint8 (n, S, S) of 0 and 1.

    What the table's `mask` tells, else the union of the filled boxes (the papers' segmentation target of RSNA), else
    nothing. A pixel of the square belongs to the mask if at least half of its area does.

    Raises UserError, naming the image, for a mask that does not fit it, or a file that cannot be read.
    """
    fitted = np.zeros((len(samples), size, size), np.uint8)

    def one(row: int) -> np.ndarray:
        whole = _mask(samples, row)  # (H, W)
        return fit_square(255 * whole, size) >= 128  # (S, S)

    rows = np.flatnonzero(has_outline(samples))
    for row, mask in zip(rows, _each(one, rows, f"masks of {samples.name}")):
        fitted[row] = mask
    return fitted


def boxes_in_square(samples: Samples, size: int) -> list[np.ndarray]:
    """The boxes of each image in the square of side `size`: n arrays, float32 (k, 4) of x, y, width, height in pixels.

    Boxes are clipped to the image first; those of which nothing is left are dropped. Raises UserError for an image
    whose header cannot be read.
    """

    def one(row: int) -> np.ndarray:
        height, width = image_size(samples.root / samples.table["image"].iat[row])
        inner_height, inner_width, top, left = square_geometry(height, width, size)
        corners = _corners(samples.table["boxes"].iat[row], height, width)  # (k, 4)
        scale = np.tile([inner_width / width, inner_height / height], 2)
        x, y, right, bottom = (corners * scale + [left, top, left, top]).T
        return np.stack([x, y, right - x, bottom - y], axis=1).astype(np.float32)  # (k, 4)

    found = [np.zeros((0, 4), np.float32)] * len(samples)
    rows = np.flatnonzero(samples.table["boxes"].map(len) > 0)
    for row, boxes in zip(rows, _each(one, rows, f"boxes of {samples.name}")):
        found[row] = boxes
    return found


def _each(one: Callable[[int], _T], rows: Sequence[int], title: str) -> list[_T]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        results = pool.map(one, rows)
        return list(tqdm(results, title, len(rows), leave=False, delay=_PATIENCE, unit="image"))


def _mask(samples: Samples, row: int) -> np.ndarray:
    """The mask of one image at its own size, uint8 (H, W) of 0 and 1."""
    told, path = samples.table["mask"].iat[row], samples.root / samples.table["image"].iat[row]
    height, width = image_size(path)
    if told.startswith(RLE):
        return _decoded(told.removeprefix(RLE).split(";"), height, width, path)
    if told:
        high, wide = image_size(samples.root / told)
        if (high, wide) != (height, width):
            raise UserError(
                f"the mask {samples.root / told} is {wide} x {high} pixels, its image {path} {width} x {height}: fetch "
                f"both again"
            )
        return read_mask(samples.root / told)
    mask = np.zeros((height, width), np.uint8)
    corners = _corners(samples.table["boxes"].iat[row], height, width)  # (k, 4)
    for left, top, right, bottom in np.rint(corners).astype(int):
        mask[top:bottom, left:right] = 1
    return mask


def _decoded(codes: list[str], height: int, width: int, path: Path) -> np.ndarray:
    """The union of several codes, (H, W)."""
    try:
        return np.max([rle_decode(code, height, width) for code in codes], axis=0)
    except ValueError as error:
        raise UserError(f"the mask of {path} does not fit it: {error}; fetch the table and the image again") from error


def _corners(boxes: list[tuple[float, ...]], height: int, width: int) -> np.ndarray:
    """left, top, right, bottom of each box, float64 (k, 4), clipped to the image; empty ones are left out."""
    x, y, wide, high = np.array(boxes, np.float64).T
    corners = np.stack([x, y, x + wide, y + high], axis=1).clip(0, [width, height, width, height])  # (k, 4)
    return corners[(corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])]

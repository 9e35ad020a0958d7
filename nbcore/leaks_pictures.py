"""Whether a picture file is, or has in it, an image of private data sets (see nbcore.leaks).

A file is taken apart: its frames, its colours with and without what its transparency hides, whatever stands out from
the background, and the parts of a montage. Each part is made grey in every way in which an image may have been
coloured, turned and mirrored, and compared with all private images at once, at two small sizes.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.stats import rankdata

from nbcore.data import Samples, image_cache
from nbcore.data.images import fit_square

IMAGE, UNREADABLE = "an image", "what cannot be searched"
_SMALLEST = 24  # pixels
_SIDE, _MARGIN = 32, 2  # pixels of the small pictures, and what the encoders' central crop leaves out of them
_ALIKE = 0.92  # rank correlation of small pictures that are looked at again, twice as large, by their details
_SAME = 0.45  # of the details; over radiographs of different patients 0.38 was the highest, and 0.52 the lowest of one
_LOOKED_AT = 50  # of the most alike
_GREYS = 16  # different values of a picture that is no drawing
_PLAIN = 0.75  # share of one colour in what is a drawing, not a montage
_FRAMED, _FRAMES = 200, (1, 2)  # pixels of a region that is looked at without a frame, too, and of such frames
_CHUNK, _BATCH = 1024, 2048  # private images, and parts of results, that are compared at a time
_CELLS, _SQUARE = 36, 1.43  # parts of a montage, and the longer side of one over its shorter
_PAPER = 250  # the least grey of a figure's background
_SEAM = 1.5  # change across the seam of a montage over that elsewhere
_EVEN, _ENDS = 6.0, 0.05  # grey levels along an even line; share of it at each end of the scale that does not count
_COLOURED, _OFF_MAP, _MAPS = 16, 12.0, 2  # levels between channels; of a colour and a map's nearest; maps that may fit
_COLOUR_SIDE = 256  # pixels of the longer side at which colours are looked up


class Pictures:
    """All private images, small."""

    def __init__(self, sets: Sequence[Samples], cache_directory: Path):
        self._sets, self._cache = sets, cache_directory
        self._judged: dict[bytes, str | None] = {}  # by the hash of a picture file: a page repeats its notebook's

    def judge(self, contents: Sequence[bytes]) -> list[str | None]:
        """IMAGE for each picture file in which there is a private one, UNREADABLE for one that cannot be decoded."""
        keys = [hashlib.blake2b(content).digest() for content in contents]
        new = {key: content for key, content in zip(keys, contents) if key not in self._judged}
        pending: list[tuple[bytes, _Part]] = []
        for key, content in new.items():
            self._judged[key] = None
            try:
                for part in _parts(content):
                    pending.append((key, part))
                    if len(pending) >= _BATCH:
                        self._compare(pending)
                        pending.clear()
            except Exception:  # codecs raise whatever they like; all of it means this file
                self._judged[key] = UNREADABLE
        self._compare(pending)
        return [self._judged[key] for key in keys]

    def _compare(self, pending: Sequence[tuple[bytes, "_Part"]]) -> None:
        for margin in (0, _MARGIN):
            own = [(key, part) for key, part in pending if part.margin == margin and self._judged[key] is None]
            if not own:
                continue
            ours = np.concatenate([_grey_ranks(part.small) for _, part in own])  # (parts, s * s)
            for known in self._squares:
                for start in range(0, len(known), _CHUNK):
                    self._compare_with(np.asarray(known[start : start + _CHUNK]), own, ours, margin)

    def _compare_with(
        self, squares: np.ndarray, own: Sequence[tuple[bytes, "_Part"]], ours: np.ndarray, margin: int
    ) -> None:
        """Compare with private images (n, 2S, 2S): all at half their size, and the most alike by their details."""
        likeness = np.abs(_grey_ranks(_inner(_halved(squares), margin)) @ ours.T)  # (n, 8 * parts)
        for column in np.flatnonzero((likeness > _ALIKE).any(axis=0)):
            key, part = own[column // len(_TURNS)]
            if self._judged[key] is not None:
                continue
            nearest = np.argsort(-likeness[:, column])[:_LOOKED_AT]
            rows = nearest[likeness[nearest, column] > _ALIKE]
            details = _details(_inner(squares[rows], 2 * margin))
            if (np.abs(details @ _details(_TURNS[column % len(_TURNS)](part.large)[None])[0]) > _SAME).any():
                self._judged[key] = IMAGE

    @cached_property
    def _squares(self) -> list[np.ndarray]:
        """All private images: uint8 (n, 2S, 2S) of each set."""
        return [image_cache(samples, 2 * _SIDE, self._cache) for samples in self._sets]


# --- comparing


_TURNS: tuple[Callable[[np.ndarray], np.ndarray], ...] = tuple(
    (lambda picture, k=k, flip=flip: np.rot90(picture[:, ::-1] if flip else picture, k))
    for flip in (False, True)
    for k in range(4)
)


@dataclass(frozen=True)
class _Part:
    """A part of a result, at the sizes at which it is compared; uint8 (s, s) and (2s, 2s)."""

    margin: int  # of `_SIDE` pixels, on each side of the private images, that the part does not show
    small: np.ndarray
    large: np.ndarray


def _halved(squares: np.ndarray) -> np.ndarray:
    n, side, _ = squares.shape
    return (squares.reshape(n, side // 2, 2, side // 2, 2).mean(axis=(2, 4)) + 0.5).astype(np.uint8)


def _inner(squares: np.ndarray, margin: int) -> np.ndarray:
    side = squares.shape[-1]
    return squares[:, margin : side - margin, margin : side - margin]


def _grey_ranks(pictures: np.ndarray) -> np.ndarray:
    """Ranks of uint8 (n, s, s), float32 (n, s * s), as `_normalised`; of one (s, s) in all eight turns."""
    if pictures.ndim == 2:
        pictures = np.stack([turn(pictures) for turn in _TURNS])
    flat = pictures.reshape(len(pictures), -1)
    bins = flat + 256 * np.arange(len(flat))[:, None]
    counts = np.bincount(bins.ravel(), minlength=256 * len(flat)).reshape(-1, 256)
    ranks = (np.cumsum(counts, axis=1) - (counts - 1) / 2).astype(np.float32)
    return _normalised(ranks.ravel()[bins])


def _details(pictures: np.ndarray) -> np.ndarray:
    """Ranks of what distinguishes one radiograph from another like it: uint8 (n, s, s) -> float32 (n, s * s)."""
    values = pictures.astype(np.float32)
    values -= ndimage.gaussian_filter(values, (0, 1, 1))
    return _normalised(rankdata(values.reshape(len(values), -1), axis=1).astype(np.float32))


def _normalised(ranks: np.ndarray) -> np.ndarray:
    """So that a product of two rows is their correlation."""
    ranks -= ranks.mean(axis=1, keepdims=True)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-6)


# --- taking a picture apart


def texts(content: bytes) -> Iterator[str]:
    """What a picture file says: comments, descriptions, whatever else is not pixels, compressed or not."""
    yield content.replace(b"\0", b"").decode("latin-1")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            for key, value in image.info.items():
                plain = value.replace(b"\0", b"").decode("latin-1") if isinstance(value, bytes) else str(value)
                yield f"{key}\n{plain}"
    except Exception:  # told by `judge`
        return


def _parts(content: bytes) -> Iterator[_Part]:
    for colours in _layers(content):
        for region in _regions(colours):
            for grey in _greys(region):
                cells = [] if grey.montage is None else _cells(grey.montage)
                parts = (cell for cell in (grey.pixels[place] for place in cells) if not _is_plain(cell))
                for panel in (grey.pixels, *parts):
                    if min(panel.shape) >= _SMALLEST and len(np.unique(panel)) >= _GREYS:
                        yield from _views(panel)


def _views(panel: np.ndarray) -> Iterator[_Part]:
    """How an image may come into a figure: as a square, as it is, or as the central crop that an encoder sees."""
    yield _Part(0, _small(panel, _SIDE), _small(panel, 2 * _SIDE))
    inner = _SIDE - 2 * _MARGIN
    yield _Part(_MARGIN, _small(panel, inner), _small(panel, 2 * inner))
    if max(panel.shape) > 1.02 * min(panel.shape):
        yield _Part(0, fit_square(panel, _SIDE), fit_square(panel, 2 * _SIDE))


def _small(panel: np.ndarray, side: int) -> np.ndarray:
    """A panel as uint8 (side, side), each pixel the mean of its area."""
    return np.asarray(Image.fromarray(panel).resize((side, side), Image.Resampling.BOX))


def _layers(content: bytes) -> Iterator[np.ndarray]:
    """uint8 (h, w, 3) of each frame: as it is seen on white, and what its transparency may hide."""
    with Image.open(io.BytesIO(content)) as image:
        for frame in ImageSequence.Iterator(image):
            if frame.mode.startswith(("I", "F")):
                values = np.nan_to_num(np.asarray(frame).astype(np.float32))
                values -= values.min()
                yield _three((values * (255 / max(float(values.max()), 1e-6))).round().astype(np.uint8))
                continue
            rgba = frame.convert("RGBA")
            yield np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
            pixels = np.asarray(rgba)
            if (pixels[..., 3] < 255).any():
                yield pixels[..., :3]
                yield _three(pixels[..., 3])


def _three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _regions(colours: np.ndarray) -> Iterator[np.ndarray]:
    """The whole (h, w, 3), and whatever stands out from the background."""
    yield colours
    stands_out = np.abs(colours.astype(np.int16) - colours[0, 0]).max(axis=2) > 8
    labels, _ = ndimage.label(stands_out)
    for i, place in enumerate(ndimage.find_objects(labels), start=1):
        if min(side.stop - side.start for side in place) < _SMALLEST:
            continue
        own = ndimage.binary_fill_holes(labels[place] == i)
        rows, columns = (np.flatnonzero(own.mean(axis=axis) > 0.5) for axis in (1, 0))  # not the ticks of an axis
        if len(rows) and len(columns):
            own = colours[place][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            yield own
            if min(own.shape[:2]) < _FRAMED:
                yield from (own[frame:-frame, frame:-frame] for frame in _FRAMES)


@dataclass(frozen=True)
class _Grey:
    pixels: np.ndarray  # uint8 (h, w)
    montage: np.ndarray | None  # the same with all lines that may divide its parts, if it may have some


def _greys(colours: np.ndarray) -> Iterator[_Grey]:
    """The ways in which a region (h, w, 3) may be an image: by its brightness, or coloured with a map or by channel."""
    if min(colours.shape[:2]) < _SMALLEST:
        return
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    montage = not _is_plain(grey)
    yield _Grey(_without_lines(grey), grey if montage else None)
    step = max(1, min(min(colours.shape[:2]) // _SMALLEST, -(-max(colours.shape[:2]) // _COLOUR_SIDE)))
    few = np.ascontiguousarray(colours[::step, ::step])
    spread = few.max(axis=2).astype(int) - few.min(axis=2)
    if (spread > _COLOURED).mean() < 0.1:
        return
    for channel in range(3):
        yield _Grey(few[..., channel], None)
    yield _Grey(np.asarray(Image.fromarray(few).convert("HSV"))[..., 0], None)
    for positions in _on_maps(few):
        yield _Grey(positions, positions if montage else None)


def _is_plain(grey: np.ndarray) -> bool:
    """Whether most of it is of one grey."""
    return np.bincount(grey.ravel()).max(initial=0) >= _PLAIN * grey.size


def _without_lines(panel: np.ndarray) -> np.ndarray:
    """A panel without the thin lines of a grid that may be drawn over it."""
    width = min(panel.shape) // (2 * _SIDE)
    return ndimage.median_filter(panel, width) if width > 2 else panel


@cache
def _maps() -> list[KDTree]:
    """Matplotlib's colour maps, of 256 colours each."""
    from matplotlib import colormaps

    names = [name for name in colormaps if not name.endswith("_r") and colormaps[name].N >= 64]
    return [KDTree(np.asarray(colormaps[name](np.linspace(0, 1, 256)))[:, :3] * 255) for name in names]


def _on_maps(colours: np.ndarray) -> Iterator[np.ndarray]:
    """Where the colours (h, w, 3) lie on the colour maps that fit them best: uint8 (h, w)."""
    flat = colours.reshape(-1, 3).astype(np.float32)
    sample = flat[:: max(1, len(flat) // 500)]
    off = [float(np.median(tree.query(sample)[0])) for tree in _maps()]
    for i in np.argsort(off)[:_MAPS]:
        if off[i] < _OFF_MAP:
            yield _maps()[i].query(flat)[1].astype(np.uint8).reshape(colours.shape[:2])


# --- montages


def _cells(grey: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """The parts of a montage: between even rows and columns, and of the regular grids whose seams can be seen."""
    found = [(band, column) for band in _runs(_uneven(grey, 1)) for column in _runs(_uneven(grey[band], 0))]
    if 1 < len(found) <= _CELLS:
        yield from found
    if min(grey[[0, -1]].min(), grey[:, [0, -1]].min()) > _PAPER:  # a figure, whose panels are looked at themselves
        return
    across, along = _changes(grey), _changes(grey.T)
    height, width = grey.shape
    for rows in range(1, 1 + min(_CELLS, height // _SMALLEST)):
        for columns in range(1, 1 + min(_CELLS // rows, width // _SMALLEST)):
            tall, wide = height / rows, width / columns
            if rows * columns == 1 or not 1 / _SQUARE < tall / wide < _SQUARE:
                continue
            if _seen(across, rows) and _seen(along, columns):
                for top in range(rows):
                    for left in range(columns):
                        cell = _between(tall, top, top + 1), _between(wide, left, left + 1)
                        yield cell
                        if (inside := _without_even_edges(grey, *cell)) != cell:
                            yield inside


def _between(size: float, start: int, stop: int) -> slice:
    return slice(round(start * size), round(stop * size))


def _without_even_edges(grey: np.ndarray, rows: slice, columns: slice) -> tuple[slice, slice]:
    """A cell without what divides it from the next."""
    inside = []
    for place, axis in ((rows, 1), (columns, 0)):
        uneven = np.flatnonzero(_uneven(grey[rows, columns], axis))
        if not len(uneven):
            return rows, columns
        inside.append(slice(place.start + int(uneven[0]), place.start + int(uneven[-1]) + 1))
    return inside[0], inside[1]


def _uneven(grey: np.ndarray, axis: int) -> np.ndarray:
    """Which lines along the axis are not of one grey, but for a frame and a grid that cross them."""
    low, high = np.quantile(grey, (_ENDS, 1 - _ENDS), axis=axis)
    return high - low > _EVEN


def _runs(uneven: np.ndarray) -> list[slice]:
    """Where lines that are not even follow each other, if there are enough of them for an image."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], uneven.astype(int), [0]])))
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2]) if stop - start >= _SMALLEST]


def _changes(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how much each row differs from the one before, how much it varies along itself)."""
    values = grey.astype(np.float32)
    return np.abs(np.diff(values, axis=0)).mean(axis=1), values.std(axis=1)


def _seen(changes: tuple[np.ndarray, np.ndarray], parts: int) -> bool:
    """Whether there may be a seam at each of the lines that cut a side into equal parts."""
    across, along = changes
    size, usual = len(along) / parts, float(across.mean())
    reach = max(2, round(size / 40))
    for i in range(1, parts):
        near = slice(max(0, round(i * size) - reach), round(i * size) + reach)
        if across[near].max(initial=0) < _SEAM * usual and along[near].min(initial=np.inf) > _EVEN:
            return False
    return True

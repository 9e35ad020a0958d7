"""Reading, fitting and caching of grey images.

Shapes: n images, H height, W width, S side of the square.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from nbcore.data.samples import Samples, fingerprints
from nbcore.errors import UserError
from nbcore.files import atomic_path, digest

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_RECIPE = 2  # part of the cache's key: raise it when the same file would give other pixels
_WORKERS = 2
_LOADING = Lock()
_PATIENCE = 3.0  # seconds of silence before a progress bar appears


def read_image(path: Path, at_least: int = 0) -> np.ndarray:
    """A radiograph as uint8 (H, W), bright where dense.

    Colour becomes luminance; 16-bit images and DICOM pixels of other than 8 bits are stretched from their darkest to
    their brightest value; MONOCHROME1 is inverted, and so is a falling rescale slope. A JPEG may be decoded at 1/2, 1/4
    or 1/8 of its size as long as its shorter side keeps twice `at_least` pixels (0: full size). Raises UserError,
    naming the file, if it cannot be read.
    """
    with _told(path):
        if _is_dicom(path):
            return _read_dicom(path)
        with Image.open(path) as image:
            if at_least:
                image.draft("L", (2 * at_least, 2 * at_least))
            if image.mode.startswith(("I", "F")):
                return _stretch(np.asarray(image))
            return np.asarray(image.convert("L"))


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) as the image's header has it, no pixel decoded; UserError, naming the file, if it cannot be read."""
    with _told(path):
        if _is_dicom(path):
            record = _dicom_record(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            return int(record.Rows), int(record.Columns)
        with Image.open(path) as image:
            return image.height, image.width


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with an image into a UserError that names it."""
    try:
        yield
    except Exception as error:  # codecs raise whatever they like; all of it means this file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the image {path}: {reason}") from error


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in {".dcm", ".dicom"}


def _pydicom() -> ModuleType:
    """The library, loaded when first needed; two threads that begin at once would see it half loaded."""
    with _LOADING:
        import pydicom
        import pydicom.pixels

        return pydicom


def _dicom_record(path: Path, **options: Any) -> "FileDataset":
    pydicom = _pydicom()
    try:
        return pydicom.dcmread(path, **options)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError("it is not a DICOM file; fetch it again") from error


def _read_dicom(path: Path) -> np.ndarray:
    record = _dicom_record(path)
    _refuse_unreadable(record)
    pixels = record.pixel_array
    if record.SamplesPerPixel == 3:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    # the stretch undoes any rescaling but the sign of its slope
    falling = float(record.get("RescaleSlope") or 1) < 0
    plain = record.BitsStored == 8 and not record.PixelRepresentation
    grey = pixels.astype(np.uint8) if plain else _stretch(pixels)
    return 255 - grey if (record.PhotometricInterpretation == "MONOCHROME1") != falling else grey


def _refuse_unreadable(record: "FileDataset") -> None:
    """Raise ValueError, saying what to do, for a DICOM record that is no single picture or cannot be decompressed."""
    if "PixelData" not in record:
        raise ValueError("the DICOM file holds no pixels; fetch it again")
    if (frames := int(record.get("NumberOfFrames") or 1)) != 1:
        raise ValueError(f"it holds {frames} frames, not one picture; leave it out of the table")
    syntax = record.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        try:
            available = _pydicom().pixels.get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if not available:
            raise ValueError(f"its pixels are compressed as {syntax.name!r}; install pylibjpeg[all], or decompress it")


def _stretch(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return np.round((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)


def fit_square(image: np.ndarray, size: int) -> np.ndarray:
    """Scale the longer side to `size` and pad the shorter with black on both sides: uint8 (H, W) -> (S, S).

    MGCA's `resize_img`: every pixel of the result is the mean over its area of the original (OpenCV's INTER_AREA).
    """
    height, width, top, left = square_geometry(*image.shape, size)
    square = np.zeros((size, size), np.uint8)
    resized = _area_average(_area_average(image, height).T, width).T
    square[top : top + height, left : left + width] = np.floor(resized + 0.5)  # halves upwards, as OpenCV rounds
    return square


def square_geometry(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """(height, width, top, left) of an image of (height, width) once fitted into a square of side `size`."""
    longest = max(height, width)
    inner_height, inner_width = max(1, height * size // longest), max(1, width * size // longest)
    return inner_height, inner_width, (size - inner_height) // 2, (size - inner_width) // 2


def _area_average(image: np.ndarray, rows: int) -> np.ndarray:
    """Average (H, W) down (or up) to (rows, W): differences of the cumulative sum at the new rows' edges."""
    height = len(image)
    if height == rows:
        return image
    cumulative = np.zeros((height + 1, image.shape[1]), np.float32)
    np.cumsum(image, axis=0, dtype=np.float32, out=cumulative[1:])
    edges = np.arange(rows + 1) * (height / rows)
    below = np.minimum(edges.astype(int), height - 1)
    at_edges = cumulative[below] + (edges - below)[:, None] * image[below]
    return np.diff(at_edges, axis=0) * (rows / height)


def image_cache(samples: Samples, size: int, directory: Path) -> np.ndarray:
    """All images of `samples`, fitted to (size, size): a read-only memory map, uint8 (n, S, S).

    Decoded once and kept in `directory` under a hash of the files' content, their order and `size`, so a changed image
    can never meet a stale cache. Raises UserError naming the first image that cannot be read.
    """
    paths = samples.image_paths()
    key = digest({"recipe": _RECIPE, "size": size, "images": fingerprints(paths)})
    path = Path(directory) / f"{key}.npy"
    if not path.is_file():
        with atomic_path(path) as temporary:
            pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(paths), size, size))
            for i, image in enumerate(decode(paths, size, f"decoding {samples.name}")):
                pixels[i] = image
            pixels.flush()
    return np.load(path, mmap_mode="r")


def decode(paths: list[Path], size: int, title: str) -> Iterable[np.ndarray]:
    """Yield each image fitted to (size, size), in order; the codecs and NumPy let two threads work at once."""

    def one(path: Path) -> np.ndarray:
        return fit_square(read_image(path, at_least=size), size)

    with ThreadPoolExecutor(_WORKERS) as pool:
        yield from tqdm(pool.map(one, paths), title, len(paths), leave=False, delay=_PATIENCE, unit="image")

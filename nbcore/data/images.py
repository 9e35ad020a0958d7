"""Reading, fitting and caching of images: grey for the radiograph encoders, in colour for CLIP-like models.

Shapes: n images, H height, W width, S side of the square.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from nbcore.data.samples import Samples, fingerprints
from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_path, digest
from nbcore.validation import nearest

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_RECIPE = 2  # part of the cache's key: raise it when the same file would give other pixels
_COLOUR_RECIPE = 1  # the same for the cache in colour
_WORKERS = 2
_LOADING = Lock()
_PATIENCE = 3.0  # seconds of silence before a progress bar appears


def read_image(path: Path, at_least: int = 0, colour: bool = False) -> np.ndarray:
    """An image as uint8 (H, W), or (H, W, 3) in `colour`; a radiograph is bright where dense.

    Without `colour`, colours become luminance; with it, grey becomes three equal channels. Transparency is dropped.
    16-bit images and DICOM pixels of other than 8 bits are stretched from their darkest to their brightest value;
    MONOCHROME1 is inverted, and so is a falling rescale slope. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as
    long as its shorter side keeps twice `at_least` pixels (0: full size). Raises UserError, naming the file, if it
    cannot be read.
    """
    mode = "RGB" if colour else "L"
    with _told(path):
        if _is_dicom(path):
            return _converted(_read_dicom(path), mode)
        with Image.open(path) as image:
            if at_least:
                image.draft(mode, (2 * at_least, 2 * at_least))
            if image.mode.startswith(("I", "F")):
                return _converted(_stretch(np.asarray(image)), mode)
            return np.asarray(image.convert(mode))


def _converted(pixels: np.ndarray, mode: str) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) in Pillow's mode "L" or "RGB"."""
    return np.asarray(Image.fromarray(pixels).convert(mode))


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
    """Its pixels, uint8 (H, W), or (H, W, 3) where they are in colour."""
    record = _dicom_record(path)
    _refuse_unreadable(record)
    pixels = record.pixel_array
    if record.SamplesPerPixel == 3:
        return pixels
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
    """All images of `samples` in grey, fitted to (size, size): a read-only memory map, uint8 (n, S, S).

    Decoded once and kept in `directory` under a hash of the files' content, their order and `size`, so a changed image
    can never meet a stale cache. Raises UserError naming the first image that cannot be read.
    """

    def fitted(path: Path) -> np.ndarray:
        return fit_square(read_image(path, at_least=size), size)

    return _cache(samples, directory, fitted, (size, size), {"recipe": _RECIPE, "size": size})


def colour_cache(samples: Samples, size: int, directory: Path, fit: Literal["crop", "pad"] = "crop") -> np.ndarray:
    """All images of `samples` in colour, fitted to (size, size): a read-only memory map, uint8 (n, S, S, 3).

    "crop" is CLIP's evaluation view, `views.CleanView`; "pad" is MedCLIP's, `views.PaddedView`. Kept as `image_cache`
    keeps its own. For "crop", a large JPEG is decoded at a fraction of its size, which moves pixels by a few levels;
    "pad" decodes all of it, as rounding the margins at a fraction of the size would move the picture.

    Raises UsageError for another `fit`, UserError naming the first image that cannot be read.
    """
    from nbcore.data.views import CleanView, PaddedView  # torchvision takes a second to import

    views = {"crop": CleanView, "pad": PaddedView}
    if fit not in views:
        raise UsageError(f"unknown fit {fit!r} of colour images{nearest(fit, list(views))}")
    view, at_least = views[fit](size), size if fit == "crop" else 0

    def fitted(path: Path) -> np.ndarray:
        return np.asarray(view(Image.fromarray(read_image(path, at_least, colour=True))))

    key = {"recipe": _COLOUR_RECIPE, "size": size, "colour": True, "fit": fit}
    return _cache(samples, directory, fitted, (size, size, 3), key)


def _cache(
    samples: Samples, directory: Path, fitted: Callable[[Path], np.ndarray], shape: tuple[int, ...], key: dict[str, Any]
) -> np.ndarray:
    """A memory map of what `fitted` gives for each image; `key` tells all that this depends on but the files."""
    paths = samples.image_paths()
    path = Path(directory) / f"{digest(key | {'images': fingerprints(paths)})}.npy"
    if not path.is_file():
        with atomic_path(path) as temporary:
            pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(paths), *shape))
            for i, image in enumerate(_decode(paths, fitted, f"decoding {samples.name}")):
                pixels[i] = image
            pixels.flush()
    return np.load(path, mmap_mode="r")


def _decode(paths: list[Path], fitted: Callable[[Path], np.ndarray], title: str) -> Iterable[np.ndarray]:
    """Yield each image fitted, in order; the codecs, Pillow and NumPy let two threads work at once."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        yield from tqdm(pool.map(fitted, paths), title, len(paths), leave=False, delay=_PATIENCE, unit="image")

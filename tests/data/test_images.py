"""Reading, fitting and caching images: DICOM, odd files, exact averages, a cache keyed by content."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from nbcore.data.images import fit_square, image_cache, read_image, square_geometry
from nbcore.data.samples import Samples
from nbcore.data.tables import tidy
from nbcore.errors import UserError
from nbcore.paths import ROOT

GOLDEN = ROOT.parent / "shared" / "goldens" / "image_and_rle.npz"


def _picture(height: int = 60, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def _dicom(path: Path, pixels: np.ndarray, photometric: str) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    record = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    record.Rows, record.Columns = pixels.shape
    record.SamplesPerPixel, record.PhotometricInterpretation = 1, photometric
    record.BitsAllocated = record.BitsStored = 8 * pixels.itemsize
    record.HighBit, record.PixelRepresentation = record.BitsStored - 1, 0
    record.PixelData = pixels.tobytes()
    record.save_as(path, enforce_file_format=True)


def test_png_and_colour(tmp_path: Path) -> None:
    grey = _picture()
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "a.png") == grey).all()
    assert (read_image(tmp_path / "b.png") == grey).all()


def test_sixteen_bits_are_stretched(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 2000], [3000, 4000]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[0, 85], [170, 255]]


def test_dicom_and_its_inverted_kind(tmp_path: Path) -> None:
    grey = _picture()
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        _dicom(tmp_path / f"{photometric}.dcm", grey, photometric)
    assert (read_image(tmp_path / "MONOCHROME2.dcm") == grey).all()
    assert (read_image(tmp_path / "MONOCHROME1.dcm") == 255 - grey).all()
    _dicom(tmp_path / "deep.dcm", grey.astype(np.uint16) * 16, "MONOCHROME1")
    expected = np.round(255 - (grey - float(grey.min())) * 255 / (int(grey.max()) - int(grey.min())))
    assert np.abs(read_image(tmp_path / "deep.dcm") - expected).max() <= 1


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(_picture(200, 200)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.dcm").write_bytes(b"no dicom")
    for name in ("a.jpg", "b.png", "c.dcm", "absent.jpg"):
        with pytest.raises(UserError, match=f"cannot read the image .*{name}: ") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width", "size"), [(96, 64, 32), (50, 70, 33), (20, 20, 20), (10, 14, 28)])
def test_fitting_averages_areas(height: int, width: int, size: int) -> None:
    """Against a slow reference: repeat every pixel so often that areas become whole numbers of pixels."""
    image = _picture(height, width)
    inner_height, inner_width, top, left = square_geometry(height, width, size)
    fine = np.repeat(np.repeat(image.astype(float), inner_height, 0), inner_width, 1)
    reference = fine.reshape(inner_height, height, inner_width, width).mean(axis=(1, 3))
    fitted = fit_square(image, size)
    inside = fitted[top : top + inner_height, left : left + inner_width]
    assert np.abs(inside - reference).max() <= 0.51
    assert fitted.sum() == inside.sum()
    assert max(inner_height, inner_width) == size


@pytest.mark.skipif(not GOLDEN.is_file(), reason="official numbers not at hand")
def test_official_resizing() -> None:
    golden = np.load(GOLDEN)
    cases = [key.removesuffix("__in") for key in golden.files if key.startswith("resize") and key.endswith("__in")]
    assert cases
    for case in cases:
        fitted = fit_square(golden[f"{case}__in"], int(golden[f"{case}__scale"]))
        assert np.abs(fitted.astype(int) - golden[f"{case}__out"]).max() <= 1


def test_a_jpeg_decoded_small_is_nearly_the_jpeg_decoded_whole(tmp_path: Path) -> None:
    smooth = Image.fromarray(_picture(24, 20)).resize((1000, 1200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=92)
    assert read_image(tmp_path / "a.jpg", at_least=60).shape == (150, 125)
    small, whole = (fit_square(read_image(tmp_path / "a.jpg", at_least=n), 60).astype(int) for n in (60, 0))
    assert np.abs(small - whole).max() <= 4


def _samples(root: Path, count: int = 5) -> Samples:
    names = [f"{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(_picture(30 + i, 40, seed=i)).save(root / name)
    table = tidy(count, image=names, patient=names, study=names, **{"label:x": np.float32(1)})
    return Samples("toy", root, ("x",), "real", 0, table)


def test_the_cache_holds_what_reading_gives(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    cached = image_cache(samples, 16, tmp_path / "cache")
    assert cached.shape == (5, 16, 16) and cached.dtype == np.uint8 and not cached.flags.writeable
    for i, path in enumerate(samples.image_paths()):
        assert (cached[i] == fit_square(read_image(path), 16)).all()


def test_the_cache_is_keyed_by_content_order_and_size(tmp_path: Path) -> None:
    samples, cache = _samples(tmp_path), tmp_path / "cache"
    image_cache(samples, 16, cache)
    image_cache(samples, 16, cache)
    assert len(list(cache.iterdir())) == 1
    before = samples.fingerprint()
    Image.fromarray(255 - _picture(32, 40, seed=2)).save(tmp_path / "2.png")
    samples = replace(samples)  # as the next run reads it; one table computes its fingerprint once
    assert samples.fingerprint() != before
    assert (image_cache(samples, 16, cache)[2] == fit_square(read_image(tmp_path / "2.png"), 16)).all()
    image_cache(samples, 20, cache)
    image_cache(samples.subset([1, 0, 2, 3, 4]), 16, cache)
    assert len(list(cache.iterdir())) == 4


def test_a_moved_root_keeps_its_cache(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    image_cache(_samples(tmp_path / "a"), 16, tmp_path / "cache")
    (tmp_path / "a").rename(tmp_path / "b")
    image_cache(_samples(tmp_path / "b"), 16, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    (tmp_path / "3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"3\.png"):
        image_cache(samples, 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "3.png").unlink()
    with pytest.raises(UserError, match=r"3\.png"):
        image_cache(samples, 16, tmp_path / "cache")

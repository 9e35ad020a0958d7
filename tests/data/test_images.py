"""Reading, fitting and caching images: DICOM, odd files, exact averages, a cache keyed by content."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, JPEGBaseline8Bit, JPEGLosslessSV1, generate_uid
from pydicom.uid import ExplicitVRLittleEndian as PLAIN

from nbcore.data.images import colour_cache, fit_square, image_cache, image_size, read_image, square_geometry
from nbcore.data.samples import Samples, fingerprints
from nbcore.data.tables import tidy
from nbcore.data.views import CleanView, PaddedView
from nbcore.errors import UsageError, UserError
from nbcore.files import digest


def _picture(height: int = 60, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def _dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", syntax: str = PLAIN, **fields) -> None:
    """A DICOM file of these pixels (H, W); `fields` are set last, PixelData=None leaves the pixels out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    record = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    record.Rows, record.Columns = pixels.shape
    record.SamplesPerPixel, record.PhotometricInterpretation = 1, photometric
    record.BitsAllocated = record.BitsStored = 8 * pixels.itemsize
    record.PixelRepresentation = int(pixels.dtype.kind == "i")
    record.PixelData = pixels.tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(record, name)
        else:
            setattr(record, name, value)
    record.HighBit = record.BitsStored - 1
    record.save_as(path, enforce_file_format=True)


def test_png_and_colour(tmp_path: Path) -> None:
    grey = _picture()
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "a.png") == grey).all()
    assert (read_image(tmp_path / "b.png") == grey).all()


def _colours(height: int = 60, width: int = 40) -> np.ndarray:
    return np.stack([_picture(height, width, seed) for seed in range(3)], axis=-1)  # (H, W, 3)


def test_colour_is_kept_whatever_the_mode(tmp_path: Path) -> None:
    colours = Image.fromarray(_colours(8, 6))
    see_through = colours.copy()
    see_through.putalpha(Image.fromarray(_picture(8, 6, seed=3)))
    few = Image.fromarray(_colours(8, 6) // 128 * 255)  # eight colours
    colours.save(tmp_path / "rgb.png")
    see_through.save(tmp_path / "rgba.png")
    few.convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(tmp_path / "palette.png")
    for name in ("rgb", "rgba"):
        assert (read_image(tmp_path / f"{name}.png", colour=True) == np.asarray(colours)).all()
    assert (read_image(tmp_path / "palette.png", colour=True) == np.asarray(few)).all()


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = _picture()
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.jpg")
    Image.fromarray(grey.astype(np.uint16) * 100).save(tmp_path / "deep.png")
    _dicom(tmp_path / "inverted.dcm", grey, "MONOCHROME1")
    for name in ("grey.png", "grey.jpg", "deep.png", "inverted.dcm"):
        colours = read_image(tmp_path / name, colour=True)
        assert colours.shape == (60, 40, 3) and colours.dtype == np.uint8
        assert (colours == read_image(tmp_path / name)[..., None]).all()


def test_dicom_in_colour(tmp_path: Path) -> None:
    colours = _colours(8, 6)
    fields = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PixelData": colours.tobytes()}
    _dicom(tmp_path / "a.dcm", colours[..., 0], "RGB", **fields)
    assert (read_image(tmp_path / "a.dcm", colour=True) == colours).all()
    assert (read_image(tmp_path / "a.dcm") == np.asarray(Image.fromarray(colours).convert("L"))).all()


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


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return (values - low) * 255 / (high - low)


def test_dicom_of_twelve_and_of_signed_bits(tmp_path: Path) -> None:
    grey = _picture()
    expected = _stretched(grey.astype(float))
    _dicom(tmp_path / "twelve.dcm", grey.astype(np.uint16) * 16, BitsStored=12)
    _dicom(tmp_path / "signed.dcm", (grey.astype(np.int16) - 128) * 100, RescaleSlope="2", RescaleIntercept="-7")
    for name in ("twelve", "signed"):
        assert np.abs(read_image(tmp_path / f"{name}.dcm") - expected).max() <= 1
    _dicom(tmp_path / "eight.dcm", (grey // 2).astype(np.uint16), BitsStored=8)  # eight bits in words of sixteen
    assert (read_image(tmp_path / "eight.dcm") == grey // 2).all()  # and not stretched


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_falling_rescale_slope_inverts(photometric: str, tmp_path: Path) -> None:
    _dicom(tmp_path / "a.dcm", _picture(), photometric)
    _dicom(tmp_path / "b.dcm", _picture(), photometric, RescaleSlope="-1", RescaleIntercept="255")
    assert (read_image(tmp_path / "b.dcm") == 255 - read_image(tmp_path / "a.dcm")).all()


def test_jpeg_inside_dicom_as_the_challenges_have_it(tmp_path: Path) -> None:
    smooth = Image.fromarray(_picture(6, 5)).resize((50, 60), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    pixels = encapsulate([(tmp_path / "a.jpg").read_bytes()])
    _dicom(tmp_path / "a.dcm", np.asarray(smooth), syntax=JPEGBaseline8Bit, PixelData=pixels)
    assert np.abs(read_image(tmp_path / "a.dcm") - np.asarray(smooth).astype(int)).max() < 16


def test_dicom_files_that_are_no_picture(tmp_path: Path) -> None:
    grey = _picture(4, 4)
    (tmp_path / "text.dcm").write_text("a page of text " * 20)
    _dicom(tmp_path / "empty.dcm", grey, PixelData=None)
    _dicom(tmp_path / "film.dcm", grey, NumberOfFrames="3", PixelData=np.stack([grey] * 3).tobytes())
    _dicom(tmp_path / "lossless.dcm", grey, syntax=JPEGLosslessSV1, PixelData=encapsulate([b"\0" * 20]))
    _dicom(tmp_path / "video.dcm", grey, syntax=MPEG2MPML, PixelData=encapsulate([b"\0" * 20]))
    _dicom(tmp_path / "short.dcm", grey, PixelData=b"\0" * 8)
    reasons = {
        "text": "it is not a DICOM file; fetch it again",
        "empty": "the DICOM file holds no pixels; fetch it again",
        "film": "it holds 3 frames, not one picture",
        "lossless": "its pixels are compressed as 'JPEG Lossless.*; install pylibjpeg",
        "video": "its pixels are compressed as 'MPEG2.*; install pylibjpeg",
        "short": "less than|bytes",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf"cannot read the image .*{name}\.dcm: .*({reason})") as caught:
            read_image(tmp_path / f"{name}.dcm")
        assert "\n" not in str(caught.value)


def test_sizes_come_from_the_headers(tmp_path: Path) -> None:
    grey = _picture(60, 40)
    _dicom(tmp_path / "a.dcm", grey, PixelData=None)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(grey).save(tmp_path / name)
    for name in ("a.dcm", "a.png", "a.jpg"):
        assert image_size(tmp_path / name) == (60, 40)
    (tmp_path / "b.dcm").write_bytes(b"no dicom")
    for name in ("b.dcm", "absent.png"):
        with pytest.raises(UserError, match=f"cannot read the image .*{name}: "):
            image_size(tmp_path / name)


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


def test_a_jpeg_decoded_small_is_nearly_the_jpeg_decoded_whole(tmp_path: Path) -> None:
    smooth = Image.fromarray(_picture(24, 20)).resize((1000, 1200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=92)
    assert read_image(tmp_path / "a.jpg", at_least=60).shape == (150, 125)
    small, whole = (fit_square(read_image(tmp_path / "a.jpg", at_least=n), 60).astype(int) for n in (60, 0))
    assert np.abs(small - whole).max() <= 4


def test_the_cache_in_colour_of_a_large_jpeg_is_nearly_that_of_the_whole(tmp_path: Path) -> None:
    samples = _samples(tmp_path, count=1)
    smooth = Image.fromarray(_colours(24, 20)).resize((1000, 1200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "0.png", "JPEG", quality=92)
    assert read_image(tmp_path / "0.png", at_least=60, colour=True).shape == (150, 125, 3)
    whole = Image.open(tmp_path / "0.png")
    for fit, view in {"crop": CleanView(60), "pad": PaddedView(60)}.items():
        cached = colour_cache(samples, 60, tmp_path / "cache", fit)[0]
        assert np.abs(cached - np.asarray(view(whole)).astype(int)).max() <= 4


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


def test_the_cache_in_colour_holds_the_evaluation_views(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    Image.fromarray(_colours(32, 40)).save(tmp_path / "2.png")
    for fit, view in {"crop": CleanView(16), "pad": PaddedView(16)}.items():
        cached = colour_cache(samples, 16, tmp_path / "cache", fit)
        assert cached.shape == (5, 16, 16, 3) and cached.dtype == np.uint8 and not cached.flags.writeable
        for i, path in enumerate(samples.image_paths()):
            assert (cached[i] == np.asarray(view(Image.open(path).convert("RGB")))).all()
    with pytest.raises(UsageError, match=r"unknown fit 'cropp' of colour images \(did you mean 'crop'\?\)"):
        colour_cache(samples, 16, tmp_path / "cache", "cropp")


def test_a_cache_in_colour_is_no_other(tmp_path: Path) -> None:
    samples, cache = _samples(tmp_path), tmp_path / "cache"
    image_cache(samples, 16, cache)
    key = digest({"recipe": 2, "size": 16, "images": fingerprints(samples.image_paths())})
    assert [path.name for path in cache.iterdir()] == [f"{key}.npy"]  # caches from before those in colour still serve
    for _ in range(2):
        colour_cache(samples, 16, cache)
        colour_cache(samples, 16, cache, "pad")
        colour_cache(samples, 20, cache)
    assert len(list(cache.iterdir())) == 4

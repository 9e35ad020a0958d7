"""Pictures as DICOM files, in the forms in which real archives hold them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from nbcore.data.phantom.world import ChestStudy

_FORMS = ("plain",) * 16 + ("inverted", "inverted", "deep", "compressed")  # of twenty files each
_COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
_DEPTH = 12  # bits of a deep picture, in words of 16
_JPEG_QUALITY = 95


def uid(study: ChestStudy) -> str:
    """The identifier of a study's picture."""
    return f"2.25.{study.seed}"


def write_dicom(path: Path, pixels: np.ndarray, study: ChestStudy) -> None:
    """Write a picture uint8 (S, S): mostly 8 bits, bright where dense; some inverted, of 12 bits, or JPEG inside.

    The form is drawn by the study's seed, so it tells nothing of the findings.
    """
    form = _FORMS[study.seed // 4 % len(_FORMS)]  # its last two bits place the side marker
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit if form == "compressed" else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _COMPUTED_RADIOGRAPHY, uid(study)
    record = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    record.SOPClassUID, record.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    record.Modality, record.BodyPartExamined, record.ViewPosition = "CR", "CHEST", study.view.upper()
    record.PatientID, record.PatientSex, record.PatientAge = path.stem, study.sex, f"{study.age:03d}Y"
    record.Rows, record.Columns = pixels.shape
    record.SamplesPerPixel, record.PixelRepresentation = 1, 0
    record.PhotometricInterpretation = "MONOCHROME1" if form == "inverted" else "MONOCHROME2"
    record.BitsAllocated = 16 if form == "deep" else 8
    record.BitsStored = _DEPTH if form == "deep" else 8
    record.HighBit = record.BitsStored - 1
    if form == "compressed":
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        record.PixelData = encapsulate([jpeg.getvalue()])
    elif form == "deep":
        record.PixelData = (pixels.astype("<u2") << (_DEPTH - 8)).tobytes()
    else:
        record.PixelData = (255 - pixels if form == "inverted" else pixels).tobytes()
    record.save_as(path, enforce_file_format=True)

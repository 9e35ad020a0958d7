"""The twin of SIIM-ACR Pneumothorax: DICOM files in folders of studies and series, masks as run lengths."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.masks import NO_RUNS, rle_encode
from nbcore.data.phantom import chest
from nbcore.data.phantom.twins.cast import Cast, save_pictures
from nbcore.data.phantom.twins.dicom import uid

_IN_PARTS = 0.15  # share of the masks that are told in two rows
_TESTED = 9  # one image of so many was a test image of stage 1, as 1,372 of 12,047 were


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """<study>/<series>/<ImageId>.dcm in either folder; a row a mask, some in two that overlap, and -1 for none."""
    layout, names = manifest.layout, manifest.layout.columns
    order = [i for members in cast.patients().values() for i in members]
    places = []
    for number, study in enumerate((cast.studies[i] for i in order), start=1):
        top = layout.images[0 if number % _TESTED else -1]
        home = folder / top / f"{uid(study)}.1" / f"{uid(study)}.1.1"
        places.append((home / f"{uid(study)}.dcm", study))

    def observe(drawn: chest.ChestImages, row: int) -> np.ndarray:
        return drawn.masks["pneumothorax"][row]

    lines = [f"{names.image.strip()},{names.mask.strip()}"]  # as in stage 2; the table of stage 1 has blanks
    for (path, _), mask in zip(places, save_pictures(places, cast.size, observe)):
        parts = _in_two(mask) if mask.any() and cast.random.random() < _IN_PARTS else [mask]
        codes = [code for code in map(rle_encode, parts) if code != NO_RUNS] or [layout.none]
        lines += [f"{path.stem},{code}" for code in codes]
    (folder / layout.tables[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _in_two(mask: np.ndarray) -> list[np.ndarray]:
    """The upper and the lower part of a mask (S, S), which share a few rows."""
    rows = np.flatnonzero(mask.any(axis=1))
    middle, shared = int(rows.mean()), max(1, len(rows) // 10)
    height = np.arange(len(mask))[:, None]
    return [mask & (height < middle + shared), mask & (height >= middle - shared)]

"""Twins: miniature phantom data sets on disk, in the very layout a manifest describes, for the same readers.

A twin is a pure function of the manifest, the number of images, their size, a seed and the phantom's own sources,
which its marker PHANTOM.json records.
"""

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.phantom.twins import (
    busi,
    cc_ccii,
    chexlocalize,
    chexpert,
    class_folders,
    covid_chestxray,
    covidx,
    derm7pt,
    dmid,
    idrid,
    isic2018,
    mimic_cxr,
    mra_midas,
    nih,
    nlm_tb,
    object_cxr,
    openi,
    padchest,
    rsna,
    siim,
)
from nbcore.data.phantom.twins.cast import Cast, draw_cast
from nbcore.data.readers import MARKER, twin_record
from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_write, digest

WRITERS: dict[str, Callable[[Manifest, Path, Cast], None]] = {
    "mimic-cxr": mimic_cxr.write,
    "chexpert": chexpert.write,
    "nih": nih.write,
    "class-folders": class_folders.write,
    "covid-chestxray": covid_chestxray.write,
    "rsna": rsna.write,
    "siim": siim.write,
    "covidx": covidx.write,
    "object-cxr": object_cxr.write,
    "padchest": padchest.write,
    "openi": openi.write,
    "chexlocalize": chexlocalize.write,
    "nlm-tb": nlm_tb.write,
    "idrid": idrid.write,
    "isic2018": isic2018.write,
    "derm7pt": derm7pt.write,
    "mra-midas": mra_midas.write,
    "dmid": dmid.write,
    "busi": busi.write,
    "cc-ccii": cc_ccii.write,
}
_WORLDS = {  # layout -> the world its writer draws, if not chests
    "idrid": "fundus",
    "isic2018": "skin",
    "derm7pt": "skin",
    "mra-midas": "skin",
    "dmid": "breast",
    "busi": "breast",
    "cc-ccii": "ct",
}


def write_twin(
    name_or_manifest: str | Path | Manifest,
    root: str | Path,
    images: int | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Path:
    """Write the twin of a data set into `root`, all or nothing, and return `root`.

    A twin already there is kept if it is this very one, and replaced otherwise.

    Args:
        name_or_manifest: the data set.
        root: a new or empty folder, or one that holds a twin.
        images: frontal images with usable content, or of all views together; by default the manifest's `twin.images`.
        size: side of the square images in pixels; by default the manifest's `twin.size`.
        seed: of the world it shows.

    Raises:
        UserError: if `root` holds anything but a twin, or cannot be written.
        UsageError: for a number of images or a size the phantom cannot draw, or a world that does not go with the
            layout.
    """
    manifest = name_or_manifest if isinstance(name_or_manifest, Manifest) else load_manifest(name_or_manifest)
    record = describe_twin(manifest, images, size, seed)
    root = Path(root).absolute()
    _refuse_other_content(root)
    if manifest.twin.world != (needed := _WORLDS.get(manifest.layout.reader, "chest")):
        raise UsageError(
            f"{manifest.name}: twin.world is {manifest.twin.world!r}, but the phantom writes the layout "
            f"{manifest.layout.reader!r} with {needed!r} only"
        )
    if twin_record(root) == record:
        return root
    cast = draw_cast(manifest, record["images"], record["size"], seed)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.", suffix=".tmp") as temporary:
            fresh, stale = Path(temporary) / "fresh", Path(temporary) / "stale"
            fresh.mkdir()
            WRITERS[manifest.layout.reader](manifest, fresh, cast)
            atomic_write(fresh / MARKER, json.dumps(record, indent=1) + "\n")
            if root.exists():
                root.rename(stale)
            fresh.rename(root)
    except OSError as error:
        raise UserError(f"cannot write the twin of {manifest.name} to {root}: {error.strerror or error}") from error
    return root


def describe_twin(manifest: Manifest, images: int | None = None, size: int | None = None, seed: int = 0) -> dict:
    """The content of PHANTOM.json: all that a twin depends on (its `digest` makes a cache key)."""
    images, size = images or manifest.twin.images, size or manifest.twin.size
    if images < 20 or size < 16:
        raise UsageError(f"a twin needs at least 20 images of 16 pixels, not {images} of {size}")
    made_from = manifest.model_dump(mode="json", include={"twin", "layout", "classes", "language"})
    return {
        "manifest": manifest.name,
        "images": images,
        "size": size,
        "seed": seed,
        "recipe": digest(made_from),
        "generator": generator_version(),
    }


@cache
def generator_version() -> str:
    """A digest of the sources of phantom, stemmer and splits: what it draws or tells may change with any of them."""
    phantom = Path(__file__).parent.parent
    sources = [*phantom.rglob("*.py"), phantom.parent / "spanish.py", phantom.parent / "splits.py"]
    return digest({path.relative_to(phantom.parent).as_posix(): path.read_text("utf-8") for path in sources})


def _refuse_other_content(root: Path) -> None:
    if root.is_file():
        raise UserError(f"{root} is a file: name a folder for the twin")
    if root.is_dir() and any(root.iterdir()) and not (root / MARKER).is_file():
        raise UserError(f"{root} is not empty and not a twin (it has no {MARKER}): name another folder")

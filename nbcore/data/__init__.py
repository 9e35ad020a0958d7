"""What is on disk, as one tidy table: manifests, readers, splits, reports, images and the phantom twins.

The names below are loaded when first asked for, so that listing the manifests does not wait for pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbcore.data.images import colour_cache, image_cache
    from nbcore.data.manifest import Manifest, list_manifests, load_manifest
    from nbcore.data.readers import load
    from nbcore.data.samples import Samples, join
    from nbcore.data.splits import assert_unseen, label_fraction, patient_split

__all__ = [
    "Manifest",
    "Samples",
    "assert_unseen",
    "colour_cache",
    "image_cache",
    "join",
    "label_fraction",
    "list_manifests",
    "load",
    "load_manifest",
    "patient_split",
]

_HOME = {
    "Manifest": "manifest",
    "Samples": "samples",
    "assert_unseen": "splits",
    "colour_cache": "images",
    "image_cache": "images",
    "join": "samples",
    "label_fraction": "splits",
    "list_manifests": "manifest",
    "load": "readers",
    "load_manifest": "manifest",
    "patient_split": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

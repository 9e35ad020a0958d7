"""Small twins of 100 images, written once a session; a test that damages one gets its own copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast
from nbcore.data.phantom.world import ChestStudy

IMAGES, SIZE, SEED = 100, 32, 3


def _exact(name: str) -> Manifest:
    """The manifest with a twin whose labels are the truth and whose studies all have reports."""
    manifest = load_manifest(name)
    twin = manifest.twin.model_copy(update={"label_noise": 0.0, "uncertain": 0.0, "no_report": 0.0})
    return manifest.model_copy(update={"twin": twin})


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name -> the root of an exact twin, not to be changed."""
    written: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in written:
            written[name] = write_twin(_exact(name), tmp_path_factory.mktemp("twins") / name, IMAGES, SIZE, SEED)
        return written[name]

    return root


@pytest.fixture(scope="session")
def studies() -> Callable[[str], list[ChestStudy]]:
    """Name -> the studies its twin shows, in the phantom's order."""
    return lambda name: draw_cast(_exact(name), IMAGES, SIZE, SEED).studies


@pytest.fixture
def damaged(twin: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Name -> a copy of its twin to do harm to."""
    return lambda name: Path(shutil.copytree(twin(name), tmp_path / name))

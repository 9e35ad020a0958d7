"""Twins: reproducible, atomic, harmless to other folders, as noisy as the recipe says, silent in their names."""

import json
from pathlib import Path

import numpy as np
import pytest

from nbcore.data import load
from nbcore.data.manifest import load_manifest
from nbcore.data.phantom import twins
from nbcore.data.phantom.twins import describe_twin, write_twin
from nbcore.data.phantom.twins.cast import draw_cast, recorded
from nbcore.errors import UsageError, UserError

NAMES = [
    "busi",
    "cc-ccii",
    "chexlocalize",
    "chexpert",
    "covid-chestxray",
    "covid-pneumonia-cxr",
    "covidx",
    "derm7pt",
    "dmid",
    "idrid",
    "isic2018",
    "kermany",
    "mimic-cxr",
    "montgomery-tb",
    "mra-midas",
    "nih-chestxray14",
    "object-cxr",
    "openi",
    "padchest",
    "rsna-pneumonia",
    "shenzhen-tb",
    "siim-acr",
]

NUMBERED = {"chexlocalize", "chexpert", "idrid", "isic2018", "kermany", "nih-chestxray14", "object-cxr"}  # names count
# names that tell the class, and worlds that are tested with their data sets
ELSEWHERE = {"kermany", "shenzhen-tb", "montgomery-tb", "idrid", "isic2018"}
ELSEWHERE |= {"busi", "cc-ccii", "covid-pneumonia-cxr", "derm7pt", "dmid", "mra-midas"}


def _content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_twin_is_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = (write_twin(name, tmp_path / place, images=40, size=16, seed=1) for place in "ab")
    assert _content(first) == _content(second)
    other = write_twin(name, tmp_path / "c", images=40, size=16, seed=2)
    assert _content(other).keys() != _content(first).keys() or name in NUMBERED
    own = {v for k, v in _content(first).items() if k.endswith(("g", "v")) and "_mask" not in k}
    assert not set(_content(other).values()) & own  # masks of 16 pixels a side may well be alike


def test_the_marker_says_what_the_twin_depends_on(tmp_path: Path) -> None:
    root = write_twin("kermany", tmp_path / "twin", images=30, size=16)
    marker = json.loads((root / "PHANTOM.json").read_text())
    assert marker == describe_twin(load_manifest("kermany"), 30, 16, 0)
    assert {"manifest", "images", "size", "seed", "generator"} <= marker.keys()


def test_defaults_come_from_the_manifest() -> None:
    described, recipe = describe_twin(load_manifest("covid-chestxray")), load_manifest("covid-chestxray").twin
    assert (described["images"], described["size"]) == (recipe.images, recipe.size)


def test_an_equal_twin_is_kept_and_another_one_replaced(tmp_path: Path) -> None:
    root = write_twin("kermany", tmp_path / "twin", images=30, size=16)
    (root / "note.txt").write_text("mine")
    write_twin("kermany", root, images=30, size=16)
    assert (root / "note.txt").exists()
    write_twin("nih-chestxray14", root, images=30, size=16)
    assert not (root / "note.txt").exists() and not (root / "chest_xray").exists()
    assert len(load("nih-chestxray14", root)) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["twin"]


def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a twin"):
        write_twin("kermany", tmp_path, images=30, size=16)
    with pytest.raises(UserError, match="is a file"):
        write_twin("kermany", tmp_path / "precious.txt", images=30, size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_failure_leaves_the_old_twin_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_twin("kermany", tmp_path / "twin", images=30, size=16)
    before = _content(root)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(twins.WRITERS, "class-folders", fail)
    with pytest.raises(UserError, match=r"cannot write the twin of kermany .*No space left"):
        write_twin("kermany", root, images=31, size=16)
    assert _content(root) == before and [path.name for path in tmp_path.iterdir()] == ["twin"]


@pytest.mark.parametrize(("images", "size"), [(5, 64), (50, 8)])
def test_too_little_to_draw(images: int, size: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 20 images of 16 pixels"):
        write_twin("kermany", tmp_path / "twin", images=images, size=size)


def test_label_noise_keeps_the_prevalence() -> None:
    truth = (np.random.default_rng(0).random((20_000, 2)) < [0.1, 0.7]).astype(np.float32)
    noisy = recorded(truth, 0.1, np.random.default_rng(1))
    assert np.abs(noisy.mean(axis=0) - truth.mean(axis=0)).max() < 0.01
    missed = [(1 - noisy[truth[:, c] == 1, c]).mean() for c in range(2)]
    assert np.allclose(missed, 0.1, atol=0.02)
    assert (recorded(truth, 0.0, np.random.default_rng(1)) == truth).all()


def test_noise_and_doubt_reach_the_training_labels_but_not_the_radiologists(tmp_path: Path) -> None:
    manifest = load_manifest("chexpert")
    loud = manifest.model_copy(update={"twin": manifest.twin.model_copy(update={"label_noise": 0.3, "uncertain": 0.2})})
    samples = load(loud, write_twin(loud, tmp_path / "twin", images=200, size=16))
    values = samples.table.filter(like="label:").to_numpy()
    test = (samples.table["split"] == "test").to_numpy()
    assert set(np.unique(values[test])) == {0.0, 1.0}
    assert (values[~test] == -1).mean() > 0.05


def test_children_are_children() -> None:
    studies = draw_cast(load_manifest("kermany"), 50, 16, 0).studies
    assert {study.view for study in studies} <= {"PA", "AP"} and max(study.age for study in studies) <= 5
    assert {finding.name for study in studies for finding in study.findings} <= {"pneumonia", "support_devices"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_names_order_and_sizes_tell_nothing(name: str, tmp_path: Path) -> None:
    """No label correlates with the order of the rows or of the names beyond chance, and all pictures have one size."""
    samples = load(name, write_twin(name, tmp_path / "twin", images=400, size=16))
    labels = samples.labels()
    for order in (np.arange(len(samples)), samples.table["image"].rank().to_numpy()):
        correlations = [np.corrcoef(order, column)[0, 1] for column in labels.T if column.std() > 0]
        assert np.abs(correlations).max() < 0.23  # four standard errors

"""CC-CCII and Chest X-ray (COVID-19 & Pneumonia): labels, patients, slices and splits as the owners lay them out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcore.data import load
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.phantom import chest, ct, world
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast
from nbcore.data.readers import READERS
from nbcore.data.readers.cc_ccii import middle
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.errors import UsageError, UserError

IMAGES, SIZE, SEED = 100, 32, 3  # of each twin
SETS = ["cc-ccii", "covid-pneumonia-cxr"]
FOLDERS = {"COVID-19": "NCP", "Normal": "Normal", "Pneumonia": "CP"}
Twin = Callable[[str], Path]
Studies = Callable[[str], list]


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Black pictures, for tests of large twins that look at no picture."""
    monkeypatch.setattr(ct, "render", lambda studies, size: np.zeros((len(studies), 8, 8), np.uint8))
    monkeypatch.setattr(
        chest, "render", lambda studies, size: chest.ChestImages(np.zeros((len(studies), 8, 8), np.uint8), {})
    )


def _changed(name: str, part: str = "twin", **values: object) -> Manifest:
    manifest = load_manifest(name)
    return manifest.model_copy(update={part: getattr(manifest, part).model_copy(update=values)})


def _told(manifest: str | Manifest, root: Path, error: type[Exception] = UserError) -> str:
    with pytest.raises(error) as caught:
        load(manifest, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _positions(samples: Samples) -> np.ndarray:
    """The class of each image; each has exactly one."""
    labels = samples.labels()
    assert (labels.sum(axis=1) == 1).all()
    return labels.argmax(axis=1)


def _slices(folder: Path, count: int, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("L", (4, 4)).save(folder / f"{number}{suffix}")


# --- both


@pytest.mark.parametrize("name", SETS)
def test_whole_twins_have_every_class_in_every_split_and_in_no_order(name: str, tmp_path: Path, blank: None) -> None:
    samples, manifest = load(name, write_twin(name, tmp_path / "twin")), load_manifest(name)
    assert len(samples) == manifest.twin.images and samples.classes == ("COVID-19", "Normal", "Pneumonia")
    assert_disjoint(samples.table)
    found = pd.crosstab(samples.table["split"], _positions(samples))
    assert found.shape == (3, 3) and found.to_numpy().min() >= 4
    assert found.loc["test"].sum() == pytest.approx(manifest.split.test.fraction * len(samples), abs=1)
    assert found.loc["valid"].sum() == pytest.approx(manifest.split.valid.fraction * len(samples), abs=1)
    if name == "cc-ccii":  # the numbers of patients, scans and slices tell nothing
        number = samples.table["image"].str.extract(r"(\d+)/(\d+)/(\d+)\.png$").astype(int)
        for order in (np.arange(len(samples)), *number.to_numpy().T):
            for column in samples.labels().T:
                assert abs(np.corrcoef(order, column)[0, 1]) < 0.2
        counted = [len(list(scan.iterdir())) for scan in (tmp_path / "twin").glob("*/*/*")]
        assert set(counted) == {1, 2, 8}


@pytest.mark.parametrize("name", SETS)
def test_classes_of_a_twin_have_the_recipe_s_shares(name: str) -> None:
    manifest = _changed(name, images=1200)
    cast = draw_cast(manifest, 1200, SIZE, 0)
    if name == "cc-ccii":
        shares = np.bincount([study.label for study in cast.studies]) / 1200
        assert shares == pytest.approx([0.34, 0.32, 0.34], abs=0.08)
    else:
        present = world.labels(cast.studies)
        assert present["covid"].mean() == pytest.approx(0.30, abs=0.03)
        assert present["pneumonia"].mean() == pytest.approx(0.45, abs=0.03)
        assert len({study.patient for study in cast.studies}) == 1200
    assert {study.hospital for study in cast.studies} == {manifest.twin.hospital}


def test_the_two_sides_of_the_pair_come_from_different_hospitals() -> None:
    high, low = map(load_manifest, SETS)
    assert high.classes == low.classes and high.exclusive and low.exclusive
    assert high.twin.hospital != low.twin.hospital and high.modality != low.modality


@pytest.mark.parametrize("name", SETS)
def test_twins_are_the_same_again_and_others_with_another_seed(name: str, twin: Twin, tmp_path: Path) -> None:
    exact = _changed(name, label_noise=0.0)
    again, other = (write_twin(exact, tmp_path / str(seed), IMAGES, SIZE, seed) for seed in (SEED, SEED + 1))

    def contents(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*g")}

    assert contents(again) == contents(twin(name)) != contents(other)


def _shown(samples: Samples, cast: list) -> list[int]:
    """The position of the study each picture of a twin shows."""
    drawn = ct.render(cast, SIZE) if samples.name == "cc-ccii" else chest.render(cast, SIZE).images
    found = []
    for path in samples.image_paths():
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (SIZE, SIZE))
            found.append(int(np.abs(drawn.astype(np.float32) - np.asarray(image)).mean(axis=(1, 2)).argmin()))
    assert sorted(found) == list(range(IMAGES))
    return found


def _truth(name: str, cast: list) -> np.ndarray:
    if name == "cc-ccii":
        return np.array([study.label for study in cast])
    present = world.labels(cast)
    return np.where(present["covid"] == 1, 0, np.where(present["pneumonia"] == 1, 2, 1))


@pytest.mark.parametrize("name", SETS)
def test_pictures_show_what_their_labels_say(name: str, twin: Twin, studies: Studies) -> None:
    samples, cast = load(name, twin(name)), studies(name)
    found = _shown(samples, cast)
    assert (_positions(samples) == _truth(name, cast)[found]).all()
    patients = pd.Series([cast[i].patient for i in found])
    pairs = pd.DataFrame({"shown": patients, "read": samples.table["patient"]}).drop_duplicates()
    assert pairs["shown"].is_unique and pairs["read"].is_unique
    if name == "cc-ccii":
        assert samples.table["study"].nunique() == len({study.scan for study in cast})


@pytest.mark.parametrize("name", SETS)
def test_label_noise_reaches_the_twins(name: str, studies: Studies, tmp_path: Path) -> None:
    noisy = _changed(name, label_noise=0.4)
    samples, cast = load(noisy, write_twin(noisy, tmp_path / "twin", IMAGES, SIZE, SEED)), studies(name)
    wrong = _positions(samples) != _truth(name, cast)[_shown(samples, cast)]
    assert 0.1 < wrong.mean() < 0.45
    assert pd.Series(wrong).groupby(samples.table["patient"]).nunique().max() == 1  # the diagnosis is the patient's


def test_a_world_goes_with_its_layout_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cc-ccii: twin\.world is 'chest', but .* with 'ct' only"):
        write_twin(_changed("cc-ccii", world="chest"), tmp_path / "twin", IMAGES, SIZE)
    with pytest.raises(UsageError, match="slices_per_scan is 2, but the phantom's scans have up to 4"):
        write_twin(_changed("cc-ccii", "layout", slices_per_scan=2), tmp_path / "twin", IMAGES, SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "place"), [("cc-ccii", "NCP/<patient>/<scan>/"), ("covid-pneumonia-cxr", "Data/train")]
)
def test_a_root_without_the_data_is_told(name: str, place: str, tmp_path: Path, twin: Twin) -> None:
    message = _told(name, tmp_path)
    assert name in message and place in message and "is this the right root?" in message
    assert "is this the right root?" in _told(name, twin(SETS[1 - SETS.index(name)]))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("empty", [True, False])
def test_a_class_without_images_is_told(name: str, empty: bool, damaged: Twin) -> None:
    root = damaged(name)
    for folder in [root / "CP"] if name == "cc-ccii" else (root / "Data").glob("*/PNEUMONIA"):
        shutil.rmtree(folder)
        if empty:
            folder.mkdir()
    assert "Pneumonia under" in _told(name, root)


# --- CC-CCII


@pytest.mark.parametrize(
    ("slices", "count", "taken"),
    [
        (1, 4, [0]), (4, 4, [0, 1, 2, 3]), (5, 4, [0, 1, 2, 3]), (8, 4, [2, 3, 4, 5]), (16, 4, [5, 7, 9, 11]),
        (100, 1, [50]), (100, 4, [31, 43, 56, 68]), (7, 2, [2, 4]),
    ],
)  # fmt: skip
def test_slices_are_taken_from_the_middle(slices: int, count: int, taken: list[int]) -> None:
    names = [f"{i}.png" for i in range(slices)]
    assert middle(names, count) == [names[i] for i in taken]


def test_the_middle_is_within_the_middle_half_and_evenly_spaced() -> None:
    for total in range(8, 400, 7):
        taken = np.array([int(name) for name in middle([str(i) for i in range(total)], 4)])
        assert len(set(taken)) == 4 and taken.min() >= total // 4 - 1 and taken.max() < total - total // 4 + 1
        assert np.ptp(np.diff(taken)) <= 1
        assert abs(taken.mean() - (total - 1) / 2) <= 1


def test_slices_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name, folder in FOLDERS.items():
        _slices(tmp_path / folder / str(len(name)) / "77", 16)
    table = load("cc-ccii", tmp_path).table
    covid = table[table["label:COVID-19"] == 1]
    assert covid["image"].tolist() == [f"NCP/8/77/{i}.png" for i in (5, 7, 9, 11)]
    assert set(covid["study"]) == {"77"} and set(covid["patient"]) == {"8"}


def test_folders_of_the_parts_may_stay_beside_one_another(damaged: Twin, twin: Twin) -> None:
    root, before = damaged("cc-ccii"), load("cc-ccii", twin("cc-ccii")).table
    patients = sorted((root / "NCP").iterdir())
    for number, patient in enumerate(patients):
        part = ("COVID19-1", "COVID19-2/NCP", "NCP-3")[number % 3]
        shutil.copytree(patient, root / part / patient.name)
        if number % 2:  # the others lie in both places, and are read once
            shutil.rmtree(patient)
    (root / "CP").rename(root / "CP-7")
    (root / "lesions_slices.csv").write_text("imgpath\n")
    (root / "Normal" / "readme.txt").write_text("")
    after = load("cc-ccii", root).table
    same = ["patient", "study", "split", *(name for name in after if name.startswith("label:"))]
    pd.testing.assert_frame_equal(after[same], before[same])
    assert after["image"].str.startswith("COVID19-2/NCP/").any() and after["image"].str.startswith("CP-7/").any()


def test_a_scan_in_two_places_is_united(damaged: Twin) -> None:
    root = damaged("cc-ccii")
    before = load("cc-ccii", root).table
    for scan in sorted((root / "CP").glob("*/*")):
        away = root / "CP-2" / "CP" / scan.relative_to(root / "CP")
        away.mkdir(parents=True)
        for path in sorted(scan.iterdir())[1::2]:
            path.rename(away / path.name)
    after = load("cc-ccii", root).table
    pd.testing.assert_frame_equal(after.drop(columns="image"), before.drop(columns="image"))
    names = [table["image"].str.rpartition("/")[2].tolist() for table in (before, after)]
    assert names[0] == names[1] and after["image"].str.startswith("CP-2/").any()


def test_a_scan_in_two_classes_is_told_and_zeros_in_front_count_for_nothing(tmp_path: Path) -> None:
    for number, folder in enumerate(FOLDERS.values()):
        for patient in range(5):
            _slices(tmp_path / folder / f"{patient:0{number + 1}d}" / f"{number}{patient}", 2)
    samples = load("cc-ccii", tmp_path)
    assert len(samples) == 30 and set(samples.table["patient"]) == {*"01234"}
    shutil.copytree(tmp_path / "NCP" / "3", tmp_path / "CP" / "0003")
    assert f"the scan 3/3 under {tmp_path} is one of COVID-19 and of Pneumonia" in _told("cc-ccii", tmp_path)


def test_folders_and_slices_may_have_odd_digits(tmp_path: Path) -> None:
    for folder in FOLDERS.values():
        _slices(tmp_path / folder / "²" / f"{folder}²", 2)
        (tmp_path / folder / "²" / f"{folder}²" / "0.png").rename(tmp_path / folder / "²" / f"{folder}²" / "1²3.png")
    assert len(READERS["cc-ccii"](load_manifest("cc-ccii"), tmp_path)) == 6


def test_a_number_in_two_classes_counts_as_one_patient(tmp_path: Path) -> None:
    for number in range(12):
        for folder in FOLDERS.values():
            _slices(tmp_path / folder / str(number) / f"{folder}{number}", 2, ".jpg")
    samples = load("cc-ccii", tmp_path)
    assert len(samples) == 72 and samples.table["patient"].nunique() == 12
    assert_disjoint(samples.table)
    assert set(samples.table["split"]) == {"train", "valid", "test"}


def test_cc_ccii_with_other_classes_is_told(twin: Twin) -> None:
    changed = _changed("cc-ccii", "layout", class_folders={"COVID-19": ("NCP",)})
    assert "layout.class_folders must name the folders of each class" in _told(changed, twin("cc-ccii"), UsageError)


# --- Chest X-ray (COVID-19 & Pneumonia), and Kermany's beside it


def test_the_drawn_split_has_the_sizes_of_k_mat() -> None:
    manifest = load_manifest("covid-pneumonia-cxr")
    patients = pd.Series(range(manifest.counts.images)).astype(str)
    split = assign_splits(patients, pd.Series("train", patients.index), manifest, Path("nowhere"))
    assert {part: (split == part).sum() for part in ("train", "valid", "test")} == manifest.counts.splits["default"]


def test_files_are_numbered_through_each_class_and_the_owner_s_folders_make_no_split(twin: Twin) -> None:
    samples = load("covid-pneumonia-cxr", twin("covid-pneumonia-cxr"))
    parts = samples.table["image"].str.extract(r"^Data/(train|test)/(COVID19|NORMAL|PNEUMONIA)/\2\((\d+)\)\.jpg$")
    assert parts.notna().all(axis=None)
    for _, group in parts.groupby(1):
        assert sorted(group[2].astype(int)) == list(range(len(group)))
        assert group.loc[group[0] == "train", 2].astype(int).max() < group.loc[group[0] == "test", 2].astype(int).min()
    crossed = pd.crosstab(parts[0], samples.table["split"])
    assert (crossed.loc["train"] > 0).all() and crossed.loc["test", "train"] > 0
    assert samples.table["patient"].is_unique


def test_patients_of_copies_that_keep_kermany_s_names_stay_together(damaged: Twin) -> None:
    root = damaged("covid-pneumonia-cxr")
    home = root / "Data" / "train" / "PNEUMONIA"
    for number, path in enumerate(sorted(home.iterdir())):
        path.rename(home / f"person{number // 3}_virus_{number}.jpeg")
    table = load("covid-pneumonia-cxr", root).table
    persons = table[table["image"].str.contains("person")]
    assert persons["patient"].nunique() == -(-len(persons) // 3)
    assert persons["patient"].str.fullmatch(r"train/person\d+").all()


def test_an_unknown_class_among_the_folders_is_told(twin: Twin) -> None:
    changed = _changed("covid-pneumonia-cxr", "layout", class_folders={"COVID": "COVID19"})
    assert "unknown class 'COVID'" in _told(changed, twin("covid-pneumonia-cxr"), UsageError)


def test_kermany_s_folders_are_named_as_its_classes(twin: Twin) -> None:
    manifest, samples = load_manifest("kermany"), load("kermany", twin("kermany"))
    assert manifest.layout.class_folders == {}
    folder = samples.table["image"].str.split("/").str[-2]
    assert (folder == np.array(manifest.classes)[_positions(samples)]).all()
    official = samples.table["image"].str.split("/").str[-3]
    assert ((samples.table["split"] == "test") == (official == "test")).all()

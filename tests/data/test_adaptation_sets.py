"""Shenzhen, Montgomery, IDRiD and ISIC 2018: labels, patients and splits as the owners lay them out, colour twins."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.phantom import chest, fundus, skin, world
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast, misread
from nbcore.data.phantom.twins.nlm_tb import trimmed
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.errors import UsageError, UserError

IMAGES, SIZE, SEED = 100, 32, 3  # of each twin
TB = ["shenzhen-tb", "montgomery-tb"]
COLOUR = {"idrid": fundus, "isic2018": skin}
GRADES = Path("B. Disease Grading") / "2. Groundtruths"
TRAIN = GRADES / "a. IDRiD_Disease Grading_Training Labels.csv"
TEST = GRADES / "b. IDRiD_Disease Grading_Testing Labels.csv"
GROUPINGS = "ISIC2018_Task3_Training_LesionGroupings.csv"
Twin = Callable[[str], Path]
Studies = Callable[[str], list]


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Black pictures, for tests of large twins that look at no picture."""
    for module in COLOUR.values():
        monkeypatch.setattr(module, "render", lambda studies, size: np.zeros((len(studies), 8, 8, 3), np.uint8))
    monkeypatch.setattr(
        chest, "render", lambda studies, size: chest.ChestImages(np.zeros((len(studies), size, size), np.uint8), {})
    )


def _changed(name: str, **recipe: object) -> Manifest:
    manifest = load_manifest(name)
    return manifest.model_copy(update={"twin": manifest.twin.model_copy(update=recipe)})


def _told(manifest: str | Manifest, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(manifest, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _positions(samples: Samples) -> np.ndarray:
    """The class of each image; each has exactly one."""
    labels = samples.labels()
    assert (labels.sum(axis=1) == 1).all()
    return labels.argmax(axis=1)


def _group(keys: list) -> list[int]:
    """Number of the first row with the same key."""
    return [keys.index(key) for key in keys]


# --- all of them


@pytest.mark.parametrize("name", [*TB, *COLOUR])
def test_whole_twins_have_every_class_in_every_split_and_in_no_order(name: str, tmp_path: Path, blank: None) -> None:
    samples = load(name, write_twin(name, tmp_path / "twin"))
    assert len(samples) == load_manifest(name).twin.images
    assert_disjoint(samples.table)
    found = pd.crosstab(samples.table["split"], _positions(samples))
    assert found.shape == (3, len(samples.classes)) and found.to_numpy().min() >= 4
    assert found.loc["test"].sum() == round(0.2 * len(samples))
    number = samples.table["image"].str.extract(r"_(\d+)(?:_\d)?\.\w+$", expand=False).astype(int)
    for order in (np.arange(len(samples)), number):
        for column in samples.labels().T:
            assert abs(np.corrcoef(order, column)[0, 1]) < 4 / np.sqrt(len(samples))


@pytest.mark.parametrize(("name", "sizes"), [("shenzhen-tb", (398, 132, 132)), ("montgomery-tb", (82, 28, 28))])
def test_a_drawn_split_has_the_sizes_of_the_manifest(name: str, sizes: tuple[int, ...]) -> None:
    manifest = load_manifest(name)
    patients = pd.Series(range(manifest.counts.images)).astype(str)
    split = assign_splits(patients, pd.Series("train", patients.index), manifest, Path("nowhere"))
    assert tuple((split == part).sum() for part in ("train", "valid", "test")) == sizes
    assert tuple(manifest.counts.splits["default"].values()) == sizes


def test_idrid_validates_on_a_fifth_of_the_training_images() -> None:
    manifest = load_manifest("idrid")
    official = pd.Series(["train"] * 413 + ["test"] * 103)
    split = assign_splits(pd.Series(official.index).astype(str), official, manifest, Path("nowhere"))
    assert manifest.counts.splits["default"] == {part: (split == part).sum() for part in ("train", "valid", "test")}
    assert (split[413:] == "test").all()


@pytest.mark.parametrize(
    ("name", "other", "needed"), [("idrid", "skin", "fundus"), ("isic2018", "chest", "skin"), (TB[0], "skin", "chest")]
)
def test_a_world_goes_with_its_layout_only(name: str, other: str, needed: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}: twin\.world is '{other}', but .* with '{needed}' only"):
        write_twin(_changed(name, world=other), tmp_path / "twin", IMAGES, SIZE)
    assert not list(tmp_path.iterdir())


def test_misread_labels_change_hands() -> None:
    labels = np.random.default_rng(0).choice(4, 20_000, p=[0.1, 0.2, 0.3, 0.4])
    read = misread(labels, 0.1, np.random.default_rng(1))
    assert (np.bincount(read) == np.bincount(labels)).all()
    assert 0.06 < (read != labels).mean() < 0.08  # 0.1 times the chance of another class, 0.7
    assert (misread(labels, 0.0, np.random.default_rng(1)) == labels).all()


def _shown(samples: Samples, cast: list) -> list:
    """The study each picture of a colour twin shows."""
    drawn = COLOUR[samples.name].render(cast, SIZE).astype(np.float32)
    found = []
    for path in samples.image_paths():
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (SIZE, SIZE), "JPEG")
            found.append(int(np.abs(drawn - np.asarray(image, np.float32)).mean(axis=(1, 2, 3)).argmin()))
    assert sorted(found) == list(range(IMAGES))
    return [cast[i] for i in found]


@pytest.mark.parametrize("name", COLOUR)
def test_colour_twins_show_what_their_labels_say(name: str, twin: Twin, studies: Studies) -> None:
    samples = load(name, twin(name))
    assert _positions(samples).tolist() == [study.label for study in _shown(samples, studies(name))]


@pytest.mark.parametrize("name", COLOUR)
def test_label_noise_reaches_colour_twins(name: str, studies: Studies, tmp_path: Path) -> None:
    noisy = _changed(name, label_noise=0.4)
    samples = load(noisy, write_twin(noisy, tmp_path / "twin", IMAGES, SIZE, SEED))
    shown, read = _shown(samples, studies(name)), _positions(samples)
    assert 0.1 < (read != [study.label for study in shown]).mean() < 0.45
    if name == "isic2018":  # the diagnosis is the lesion's
        told = {}
        assert all(told.setdefault((s.patient, s.lesion), label) == label for s, label in zip(shown, read))


# --- Shenzhen and Montgomery


@pytest.mark.parametrize("name", TB)
def test_tb_labels_are_the_phantom_s(name: str, twin: Twin, studies: Studies) -> None:
    samples, cast = load(name, twin(name)), studies(name)
    shown = {(p.shape, p.tobytes()): study for p, study in zip(trimmed(cast, SIZE).images, cast)}
    read = [np.asarray(Image.open(path)) for path in samples.image_paths()]
    found = [shown[picture.shape, picture.tobytes()] for picture in read]
    assert (samples.labels()[:, 1] == world.labels(found)["tuberculosis"]).all()
    assert (_positions(samples) == samples.table["image"].str[-5].astype(int)).all()
    assert {study.hospital for study in cast} == {load_manifest(name).twin.hospital}


def test_tb_pictures_differ_in_shape_whatever_they_show() -> None:
    cast = draw_cast(load_manifest("shenzhen-tb"), 400, SIZE, 0).studies
    shapes = np.array([picture.shape for picture in trimmed(cast, SIZE).images])
    assert (shapes.min(axis=0) == round(0.9 * SIZE)).all() and (shapes.max(axis=0) == SIZE).all()
    assert (shapes[:, 0] != shapes[:, 1]).mean() > 0.5
    sick = world.labels(cast)["tuberculosis"]
    assert max(abs(np.corrcoef(sick, side)[0, 1]) for side in shapes.T) < 0.2
    again = trimmed(cast[7:9], SIZE).images  # whatever is drawn beside it
    assert (again[0] == trimmed(cast[:8], SIZE).images[7]).all()


def test_tb_twins_have_confounders_in_either_class() -> None:
    cast = draw_cast(load_manifest("montgomery-tb"), 1000, SIZE, 0).studies
    sick = world.labels(cast)["tuberculosis"] == 1
    other = np.array([any(finding.name != "tuberculosis" for finding in study.findings) for study in cast])
    assert 0.36 < sick.mean() < 0.48 and 0.15 < other[sick].mean() < 0.4 and 0.15 < other[~sick].mean() < 0.4


@pytest.mark.parametrize("name", TB)
def test_tb_readings_tell_whose_later_image_it_is(name: str, tmp_path: Path) -> None:
    manifest = _changed(name, one_study=False)
    root = write_twin(manifest, tmp_path / "twin", IMAGES, SIZE, SEED)
    samples, cast = load(manifest, root), draw_cast(manifest, IMAGES, SIZE, SEED).studies
    assert_disjoint(samples.table)
    pictures = [picture.tobytes() for picture in trimmed(cast, SIZE).images]
    order = [pictures.index(np.asarray(Image.open(path)).tobytes()) for path in samples.image_paths()]
    assert _group(samples.table["patient"].tolist()) == _group([cast[i].patient for i in order])
    assert samples.table["patient"].nunique() < 0.6 * IMAGES
    shutil.rmtree(root / "ClinicalReadings")
    assert load(manifest, root).table["patient"].nunique() == IMAGES


def test_tb_references_between_readings_may_form_chains_and_rings(damaged: Twin) -> None:
    root = damaged("montgomery-tb")
    names = load("montgomery-tb", root).table["study"].tolist()
    a, b, c, d, e, f, g, h = names[:8]
    away = "MCUCXR_9999_1"  # not in this copy
    for one, other in [(a, b), (b, c), (d, e), (e, d), (f, away), (g, away), (h, h)]:
        (root / "ClinicalReadings" / f"{one}.txt").write_text(f"Patient's Sex: F\nPTB, 6M ago (Same pt as {other})")
    patient = load("montgomery-tb", root).table["patient"].tolist()
    assert _group(patient) == [0, 0, 0, 3, 3, 5, 5, *range(7, IMAGES)]


def test_tb_readings_that_are_no_text_and_other_files_are_passed_over(damaged: Twin) -> None:
    root = damaged("montgomery-tb")
    before = load("montgomery-tb", root)
    for path in sorted((root / "ClinicalReadings").iterdir())[:9]:
        path.write_bytes(b"\xff\xfe\x00\x81 same pt")
    for side in ("leftMask", "rightMask"):
        shutil.copytree(root / "CXR_png", root / "ManualMask" / side)
    (root / "CXR_png" / "Thumbs.db").write_bytes(b"")
    pd.testing.assert_frame_equal(load("montgomery-tb", root).table, before.table)
    (root / "MontgomerySet").mkdir()
    for folder in ("CXR_png", "ClinicalReadings", "ManualMask"):
        (root / folder).rename(root / "MontgomerySet" / folder)
    inside = load("montgomery-tb", root)
    assert (inside.table["image"] == "MontgomerySet/" + before.table["image"]).all()


@pytest.mark.parametrize("wrong", ["CHNCXR_0001.png", "CHNCXR_0001_2.png", "CHNCXR_0001_0_mask.png"])
def test_a_name_without_its_digit_is_told(wrong: str, damaged: Twin) -> None:
    root = damaged("shenzhen-tb")
    load("shenzhen-tb", root).image_paths()[0].rename(root / "CXR_png" / wrong)
    assert f"{root / 'CXR_png' / wrong} does not end in _0 (NORMAL) or _1 (TB)" in _told("shenzhen-tb", root)


def test_tb_names_in_small_letters_and_copies_further_down(damaged: Twin) -> None:
    root = damaged("montgomery-tb")
    before = load("montgomery-tb", root).table
    (root / "CXR_png" / "A small").mkdir()
    for path in sorted((root / "CXR_png").glob("*.png"))[:5]:
        shutil.copy(path, root / "CXR_png" / "A small")
        path.rename(path.with_name(f"{path.stem.lower()}.PNG"))
    after = load("montgomery-tb", root).table.sort_values("study", ignore_index=True)
    pd.testing.assert_frame_equal(after.drop(columns="image"), before.drop(columns="image"))
    assert not after["image"].str.contains("small").any()


def test_tb_digits_that_contradict_each_other_are_told(damaged: Twin) -> None:
    root = damaged("montgomery-tb")
    stem = load("montgomery-tb", root).table["study"].iloc[0]
    path, wrong = root / "CXR_png" / f"{stem}.png", stem[:-1] + "01"[stem.endswith("0")]
    path.rename(path.with_name(f"{wrong}.png"))
    assert f"the image {wrong} under {root} has the reading {stem}.txt" in _told("montgomery-tb", root)
    shutil.copy(path.with_name(f"{wrong}.png"), path)
    assert f"under {root} are of one number" in _told("montgomery-tb", root)


def test_tb_a_reading_may_name_the_patient_in_small_letters(damaged: Twin) -> None:
    root = damaged("montgomery-tb")
    one, other = load("montgomery-tb", root).table["study"][:2]
    (root / "ClinicalReadings" / f"{one}.txt").write_text(f"same pt as {other.lower()}")
    assert set(load("montgomery-tb", root).table["patient"][:2]) == {other}


def test_the_root_of_the_other_set_is_told(twin: Twin) -> None:
    message = _told("shenzhen-tb", twin("montgomery-tb"))
    assert "expected CXR_png/CHNCXR_<number>_<0 or 1>.png in it; is this the right root?" in message


# --- IDRiD


def test_idrid_images_are_known_by_official_set_and_number(twin: Twin) -> None:
    table = load("idrid", twin("idrid")).table
    number = table["image"].str.extract(r"(IDRiD_\d{3})\.jpg$", expand=False)
    test = table["split"] == "test"
    assert number[test].isin(number[~test]).all() and table["patient"].is_unique
    assert (test == table["image"].str.contains("b. Testing Set", regex=False)).all()
    assert {"train", "valid"} == set(table.loc[~test, "split"])


def test_idrid_eyes_of_a_patient_are_not_parted_by_the_official_sets(tmp_path: Path) -> None:
    manifest = _changed("idrid", one_study=False)
    samples = load(manifest, write_twin(manifest, tmp_path / "twin", IMAGES, SIZE, SEED))
    shown = _shown(samples, draw_cast(manifest, IMAGES, SIZE, SEED).studies)
    test = samples.table["split"] == "test"
    patients = pd.Series([study.patient for study in shown])
    assert patients.nunique() < 0.7 * IMAGES and not set(patients[test]) & set(patients[~test])


def test_idrid_tables_have_the_owner_s_odd_headings(twin: Twin, damaged: Twin) -> None:
    lines = (twin("idrid") / TRAIN).read_text().splitlines()
    assert lines[0] == "Image name,Retinopathy grade,Risk of macular edema ,,," and lines[-1] == ",,,,,"
    root = damaged("idrid")
    (root / TRAIN).write_text("\n".join(line.replace(",", " , ") for line in lines).replace(" , ", ",", 2))
    pd.testing.assert_frame_equal(load("idrid", root).table, load("idrid", twin("idrid")).table)


def test_idrid_with_its_own_folder_as_root(damaged: Twin) -> None:
    root = damaged("idrid")
    outside, inside = load("idrid", root), load("idrid", root / "B. Disease Grading")
    assert (outside.table["image"] == "B. Disease Grading/" + inside.table["image"]).all()
    assert (outside.labels() == inside.labels()).all()


@pytest.mark.parametrize("grade", ["5", "-1", "", "2.5", "mild"])
def test_idrid_grades_off_the_scale(grade: str, damaged: Twin) -> None:
    root = damaged("idrid")
    lines = (root / TEST).read_text().splitlines()
    lines[4] = f"IDRiD_004,{grade},0"
    (root / TEST).write_text("\n".join(lines))
    message = _told("idrid", root)
    assert f"{root / TEST}, row 5: the grade of IDRiD_004 is {grade!r}, not one of 0 to 4" in message


def test_idrid_tables_that_have_changed_places(damaged: Twin) -> None:
    root = damaged("idrid")
    train, test = (root / TRAIN).read_text(), (root / TEST).read_text()
    (root / TRAIN).write_text(test)
    assert "are the same: fetch them again" in _told("idrid", root)
    (root / TEST).write_text(train)
    message = _told("idrid", root)
    assert "a. Training Set holds IDRiD_" in message and "have the tables changed places?" in message
    (root / TRAIN).write_text(train)
    assert "are the same: fetch them again" in _told("idrid", root)


def test_idrid_names_with_a_suffix_and_grades_as_a_spreadsheet_saves_them(damaged: Twin) -> None:
    root = damaged("idrid")
    before = load("idrid", root).table
    for path in (root / TRAIN, root / TEST):
        path.write_text(re.sub(r"(IDRiD_\d+),(\d)", r"\1.JPG,\2.0", path.read_text()))
    pd.testing.assert_frame_equal(load("idrid", root).table, before)


def test_idrid_without_a_table_or_rows(damaged: Twin) -> None:
    root = damaged("idrid")
    (root / TRAIN).write_text((root / TRAIN).read_text().splitlines()[0] + "\n,,,,,\n")
    assert f"{root / TRAIN} names no image" in _told("idrid", root)
    (root / TEST).unlink()
    (root / TRAIN).write_text("Image name,Retinopathy grade\nIDRiD_001,0\n")
    assert f"{TEST.as_posix()} is missing" in _told("idrid", root)
    (root / TRAIN).unlink()
    assert "no idrid data under" in _told("idrid", root)


# --- ISIC 2018


def _table(root: Path, part: str) -> Path:
    return root / f"ISIC2018_Task3_{part}_GroundTruth" / f"ISIC2018_Task3_{part}_GroundTruth.csv"


def test_isic_splits_are_the_folders_and_lesions_the_patients(twin: Twin, studies: Studies) -> None:
    root = twin("isic2018")
    table, cast = load("isic2018", root).table, studies("isic2018")
    folder = table["image"].str.extract(r"^ISIC2018_Task3_(\w+)_Input/ISIC_\d{7}\.jpg$", expand=False)
    assert (folder.map({"Training": "train", "Validation": "valid", "Test": "test"}) == table["split"]).all()
    train = table["split"] == "train"
    assert table.loc[train, "patient"].str.fullmatch(r"HAM_\d{7}").all()
    assert (table.loc[~train, "patient"] == table.loc[~train, "study"]).all()
    split = draw_cast(load_manifest("isic2018"), IMAGES, SIZE, SEED).split
    several = pd.Series([(study.patient, study.lesion) for study in cast])[split == "train"].value_counts()
    assert sorted(table.loc[train, "patient"].value_counts()) == sorted(several) and several.max() > 1
    assert (
        pd.read_csv(_table(root, "Test")).columns == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    ).all()


def test_isic_without_groupings_or_with_them_elsewhere(damaged: Twin) -> None:
    root = damaged("isic2018")
    before = load("isic2018", root)
    beside = _table(root, "Training").parent / GROUPINGS
    (root / GROUPINGS).rename(beside)
    pd.testing.assert_frame_equal(load("isic2018", root).table, before.table)
    groups = pd.read_csv(beside)
    groups.loc[0, "lesion_id"] = np.nan
    groups.drop(index=1).to_csv(beside, index=False)
    some = load("isic2018", root).table.set_index("study")["patient"]
    assert (some[groups["image"][:2]] == groups["image"][:2].to_numpy()).all() and some[groups["image"][2]][
        :4
    ] == "HAM_"
    beside.unlink()
    alone = load("isic2018", root).table
    assert (alone["patient"] == alone["study"]).all() and (alone["split"] == before.table["split"]).all()


def test_isic_groupings_that_do_not_fit(damaged: Twin) -> None:
    root = damaged("isic2018")
    path = root / GROUPINGS
    before, groups = load("isic2018", root).table, pd.read_csv(path)
    groups.assign(image=groups["image"] + ".jpg").to_csv(path, index=False)
    pd.testing.assert_frame_equal(load("isic2018", root).table, before)
    pd.concat([groups, groups.iloc[:1]]).to_csv(path, index=False)
    pd.testing.assert_frame_equal(load("isic2018", root).table, before)
    pd.concat([groups.iloc[:1].assign(lesion_id="HAM_9999999"), groups]).to_csv(path, index=False)
    assert f"{path} has two different rows of {groups['image'][0]}" in _told("isic2018", root)
    swapped = {"image": "lesion_id", "lesion_id": "image"}
    for wrong in (groups.rename(columns=swapped), groups.assign(lesion_id=""), groups.assign(image="ISIC_9999999")):
        wrong.to_csv(path, index=False)
        assert f"{path} has a lesion of none of the training images" in _told("isic2018", root)
    path.unlink()
    path.mkdir()
    assert f"{path} is a folder, not a file" in _told("isic2018", root)
    path.rmdir()
    groups.to_csv(path, index=False)
    _table(root, "Training").unlink()  # then they have nothing to fit
    report = check("isic2018", root, jobs=1)
    assert report.verdict.startswith("subset") and not report.problems


def test_isic_image_in_two_tables(damaged: Twin) -> None:
    root = damaged("isic2018")
    shutil.copy(_table(root, "Training"), _table(root, "Validation"))
    assert f"is in the tables of train and valid under {root}: fetch" in _told("isic2018", root)


def test_isic_names_with_a_suffix_and_images_unpacked_twice(damaged: Twin) -> None:
    root = damaged("isic2018")
    before, path = load("isic2018", root).table, _table(root, "Training")
    table = pd.read_csv(path)
    table.assign(image=table["image"] + ".jpg").to_csv(path, index=False)
    pd.testing.assert_frame_equal(load("isic2018", root).table, before)
    home = root / "ISIC2018_Task3_Training_Input"
    home.rename(root / "inner")
    home.mkdir()
    (root / "inner").rename(home / home.name)
    after = load("isic2018", root).table
    pd.testing.assert_frame_equal(after.drop(columns="image"), before.drop(columns="image"))
    report = check("isic2018", root, jobs=1)
    assert (report.verdict, report.unnamed.extra) == ("complete", 0)


def test_isic_tables_in_the_root_itself(damaged: Twin) -> None:
    root = damaged("isic2018")
    before = load("isic2018", root).table
    for part in ("Training", "Validation", "Test"):
        _table(root, part).rename(root / _table(root, part).name)
    pd.testing.assert_frame_equal(load("isic2018", root).table, before)


@pytest.mark.parametrize("changes", [{"MEL": 0.0, "NV": 0.0}, {"MEL": 1.0, "NV": 1.0}, {"MEL": 0.5}, {"MEL": np.nan}])
def test_isic_rows_that_are_not_one_hot(changes: dict[str, float], damaged: Twin) -> None:
    root = damaged("isic2018")
    path = _table(root, "Validation")
    table = pd.read_csv(path)
    row = int(table["NV"].idxmax())
    table.loc[row, list(changes)] = list(changes.values())
    table.to_csv(path, index=False)
    image = table.loc[row, "image"]
    assert f"{path}, row {row + 2}: the classes of {image} are not a single 1 among 0s" in _told("isic2018", root)


def test_isic_without_a_table_or_a_column(damaged: Twin) -> None:
    root = damaged("isic2018")
    path = _table(root, "Test")
    path.write_text(path.read_text().replace("VASC", "VASK", 1))
    assert f"{path} has no column 'VASC' (did you mean 'VASK'?)" in _told("isic2018", root)
    for part in ("Test", "Validation", "Training"):
        _table(root, part).unlink()
    assert "ISIC2018_Task3_Training_GroundTruth.csv is missing; is this the right root?" in _told("isic2018", root)

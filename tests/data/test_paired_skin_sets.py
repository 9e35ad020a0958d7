"""Derm7pt and MRA-MIDAS: two views of a lesion, classes as the owners' words mean them, splits, damaged tables."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcore.data import load
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.phantom import skin, skin_clinical
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast
from nbcore.data.readers.mra_midas import _plain
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint
from nbcore.errors import UserError

IMAGES, SIZE, SEED = 100, 32, 3  # of each twin
NAMES = ["derm7pt", "mra-midas"]
RENDER = {"dermoscopy": skin.render, "clinical": skin_clinical.render}
OURS = {  # class of the world -> class of the data set
    "derm7pt": {"BCC": "BCC", "BKL": "SK", "DF": "MISC", "MEL": "MEL", "NV": "NEV", "VASC": "MISC"},
    "mra-midas": {"AKIEC": "AK", "BCC": "BCC", "BKL": "SK", "MEL": "MEL", "NV": "NEV", "SCC": "SCC"},
}
META = Path("release_v0") / "meta"
TABLE = {"derm7pt": META / "meta.csv", "mra-midas": Path("release_midas.csv")}
Twin = Callable[[str], Path]
Studies = Callable[[str], list[skin.SkinStudy]]


def _changed(name: str, **recipe: object) -> Manifest:
    manifest = load_manifest(name)
    return manifest.model_copy(update={"twin": manifest.twin.model_copy(update=recipe)})


def _told(name: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def _set(row: int, column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: table[column].where(table.index != row, value)})


def _classes(samples: Samples) -> np.ndarray:
    """The class of each image; each has exactly one."""
    labels = samples.labels()
    assert (labels.sum(axis=1) == 1).all()
    return np.array(samples.classes)[labels.argmax(axis=1)]


def _shown(samples: Samples, cast: list[skin.SkinStudy]) -> list[skin.SkinStudy]:
    """The study each picture shows."""
    drawn = {view: render(cast, SIZE).astype(np.float32) for view, render in RENDER.items()}
    found = []
    for path, view in zip(samples.image_paths(), samples.table["view"]):
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (SIZE, SIZE), "JPEG")
            distance = np.abs(drawn[view] - np.asarray(image, np.float32)).mean(axis=(1, 2, 3))
        assert distance.min() < 8
        found.append(int(distance.argmin()))
    return [cast[i] for i in found]


@pytest.mark.parametrize("name", NAMES)
def test_both_views_show_what_their_labels_say(name: str, twin: Twin, studies: Studies) -> None:
    samples, cast = load(name, twin(name)), studies(name)
    assert len(samples) == IMAGES and samples.missing == 0 and len(cast) == IMAGES // 2
    assert samples.table["view"].value_counts().to_dict() == dict.fromkeys(RENDER, IMAGES // 2)
    shown = _shown(samples, cast)
    assert [OURS[name][study.name] for study in shown] == _classes(samples).tolist()
    for view in RENDER:
        rows = np.flatnonzero(samples.table["view"] == view)
        assert sorted(shown[i].index for i in rows) == [study.index for study in cast]
    patients = {}
    for study, patient in zip(shown, samples.table["patient"]):
        key = study.index if name == "derm7pt" else study.patient
        assert patients.setdefault(key, patient) == patient
    assert len(set(patients.values())) == len(patients)
    assert {study.hospital for study in cast} == {load_manifest(name).twin.hospital}


@pytest.mark.parametrize("name", NAMES)
def test_both_views_of_a_case_are_in_one_split(name: str, twin: Twin) -> None:
    samples = load(name, twin(name))
    assert_disjoint(samples.table)
    split = pd.crosstab(samples.table["patient"], [samples.table["split"], samples.table["view"]])
    for part in ("train", "valid", "test"):
        assert (split[part]["dermoscopy"] == split[part]["clinical"]).all()
        assert split[part].to_numpy().sum() > 0
    dermoscopy, clinical = (samples.of_view(view) for view in RENDER)
    assert sorted(_classes(dermoscopy)) == sorted(_classes(clinical))


def test_splits_of_derm7pt_are_the_lists(twin: Twin) -> None:
    samples = load("derm7pt", twin("derm7pt"))
    cases = pd.read_csv(twin("derm7pt") / TABLE["derm7pt"])["case_num"].astype(str)
    for split in ("train", "valid", "test"):
        listed = pd.read_csv(twin("derm7pt") / META / f"{split}_indexes.csv")["indexes"]
        assert {*cases.iloc[listed]} == {*samples.split(split).table["patient"]}


@pytest.mark.parametrize("name", NAMES)
def test_whole_twins_can_be_learnt_from_and_do_not_leak(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (skin, skin_clinical):
        monkeypatch.setattr(
            f"{module.__name__}.render", lambda studies, size: np.zeros((len(studies), 8, 8, 3), np.uint8)
        )
    monkeypatch.setattr(
        "nbcore.data.phantom.twins.skin_views._RENDER", {"dermoscopy": skin.render, "clinical": skin_clinical.render}
    )
    manifest = load_manifest(name)
    samples = load(name, write_twin(name, tmp_path / "twin"))
    assert len(samples) == manifest.twin.images and manifest.twin.images % 2 == 0
    classes = _classes(samples)
    found = pd.crosstab([samples.table["split"], samples.table["view"]], classes)
    assert found.loc["train"].to_numpy().min() >= 16  # shots of a class
    assert found.loc["valid"].to_numpy().min() >= 4 and found.loc["test"].to_numpy().min() >= 4
    wanted = pd.Series(manifest.twin.prevalence).groupby(OURS[name]).sum()
    share = pd.Series(classes).value_counts(normalize=True)
    assert (share - wanted).abs().max() < 0.08
    number = samples.table["image"].str.extract(r"(\d+)\.\w+$", expand=False).astype(float)
    once = (samples.table["view"] == "clinical").to_numpy()
    suffix = samples.table["image"].str.endswith(".jpg")
    for order in (np.arange(len(samples)), number, suffix, samples.table["patient"]):
        ranks = pd.Series(np.asarray(order, float))[once].rank()
        for column in samples.labels()[once].T:
            assert abs(np.corrcoef(ranks, column)[0, 1]) < 4 / np.sqrt(once.sum())


@pytest.mark.parametrize("name", NAMES)
def test_label_noise_reaches_both_views_alike(name: str, studies: Studies, tmp_path: Path) -> None:
    noisy = _changed(name, label_noise=0.4)
    samples = load(noisy, write_twin(noisy, tmp_path / "twin", IMAGES, SIZE, SEED))
    cast = draw_cast(noisy, IMAGES, SIZE, SEED).studies
    assert cast == studies(name)
    told: dict[tuple[int, int], str] = {}
    shown, read = _shown(samples, cast), _classes(samples)
    assert 0.1 < np.mean([OURS[name][study.name] != label for study, label in zip(shown, read)]) < 0.45
    assert all(told.setdefault((study.patient, study.lesion), label) == label for study, label in zip(shown, read))


@pytest.mark.parametrize("name", NAMES)
def test_missing_images_are_counted(name: str, damaged: Twin) -> None:
    root = damaged(name)
    for path in load(name, root).image_paths()[:3]:
        path.unlink()
    samples = load(name, root)
    assert (len(samples), samples.missing) == (IMAGES - 3, 3)


@pytest.mark.parametrize(
    ("name", "column"), [("derm7pt", "diagnosis"), ("derm7pt", "clinic"), ("mra-midas", "midas_path"),
                         ("mra-midas", "midas_iscontrol")],
)  # fmt: skip
def test_a_missing_column_is_named(name: str, column: str, damaged: Twin) -> None:
    root = damaged(name)
    _rewrite(root / TABLE[name], lambda table: table.drop(columns=column))
    assert f"{TABLE[name].name} has no column '{column}'" in _told(name, root)


@pytest.mark.parametrize("name", NAMES)
def test_another_root_is_refused(name: str, damaged: Twin) -> None:
    root = damaged(name)
    (root / TABLE[name]).unlink()
    assert TABLE[name].name in _told(name, root)


def test_derm7pt_refuses_what_it_does_not_understand(damaged: Twin) -> None:
    root = damaged("derm7pt")
    table, lists = root / TABLE["derm7pt"], root / META
    whole = table.read_text()
    _rewrite(table, _set(4, "diagnosis", "melanoma (thick)"))
    assert "row 6: the diagnosis 'melanoma (thick)' belongs to no class" in _told("derm7pt", root)
    table.write_text(whole)
    train = (lists / "train_indexes.csv").read_text().splitlines()
    for odd in ("50", "-1", "2.5"):
        (lists / "train_indexes.csv").write_text("\n".join([*train[:-1], odd]))
        assert f"train_indexes.csv: the index {odd} is not a whole number of 0 to 49" in _told("derm7pt", root)
    (lists / "train_indexes.csv").write_text("\n".join(train[:-1]))
    case = pd.read_csv(table)["case_num"][int(train[-1])]
    assert f"case {case} is in none of the lists" in _told("derm7pt", root)
    (lists / "train_indexes.csv").write_text("\n".join(train))
    with (lists / "test_indexes.csv").open("a") as file:
        file.write(f"{train[1]}\n")
    assert "is in train already" in _told("derm7pt", root)
    (lists / "valid_indexes.csv").unlink()
    assert "valid_indexes.csv is missing" in _told("derm7pt", root)


def test_derm7pt_cases_are_in_the_order_the_lists_count_them(damaged: Twin) -> None:
    root = damaged("derm7pt")
    table = root / TABLE["derm7pt"]
    before = load("derm7pt", root).table
    _rewrite(table, lambda cases: cases.sort_values("derm"))
    assert f"{table}, row " in (message := _told("derm7pt", root)) and "out of order" in message
    _rewrite(table, lambda cases: cases.sort_values("case_num", key=lambda case: case.astype(int)))
    pd.testing.assert_frame_equal(load("derm7pt", root).table, before)
    _rewrite(table, lambda cases: cases.iloc[[*range(5), 6, 5, *range(7, len(cases))]])
    assert "row 8: case 6 is out of order" in _told("derm7pt", root)


def test_derm7pt_groups_every_diagnosis_of_the_owners() -> None:
    diagnoses = load_manifest("derm7pt").layout.diagnoses
    assert {name: len(texts) for name, texts in diagnoses.items()} == {"BCC": 1, "MEL": 6, "MISC": 5, "NEV": 8, "SK": 1}
    assert "reed or spitz nevus" in diagnoses["NEV"] and "vascular lesion" in diagnoses["MISC"]


def test_derm7pt_may_lie_in_the_root_itself(damaged: Twin, tmp_path: Path) -> None:
    root = damaged("derm7pt")
    home = root / "release_v0"
    shutil.copy(root / "PHANTOM.json", home)
    assert load("derm7pt", home).table["image"].str.startswith("images/").all()


def test_midas_leaves_out_other_distances_controls_and_pathologies(twin: Twin) -> None:
    root = twin("mra-midas")
    table = pd.read_csv(root / TABLE["mra-midas"], dtype=str, keep_default_na=False)
    assert len(table) > IMAGES
    assert {"1ft", "n/a - virtual"} <= {*table["midas_distance"]} and "yes" in set(table["midas_iscontrol"])
    files = {path.stem for path in load("mra-midas", root).image_paths()}
    kept = table[table["midas_file_name"].str.removesuffix(".jpg").isin(files)]
    assert {*kept["midas_distance"]} == {"dscope", "6in"} and {*kept["midas_iscontrol"]} == {"no"}
    assert not kept["midas_path"].isin(["", "other-non-neoplastic, inflammatory, infectious"]).any()


def test_midas_leaves_out_a_control_whatever_its_pathology(damaged: Twin) -> None:
    root = damaged("mra-midas")
    image = load("mra-midas", root).image_paths()[0].stem
    _rewrite(
        root / TABLE["mra-midas"],
        lambda t: t.assign(midas_iscontrol=t["midas_iscontrol"].mask(t["midas_file_name"] == f"{image}.jpg", "yes")),
    )
    samples = load("mra-midas", root)
    assert len(samples) == IMAGES - 1 and image not in {path.stem for path in samples.image_paths()}


def test_midas_finds_files_whatever_their_suffix_and_case(damaged: Twin) -> None:
    root = damaged("mra-midas")
    suffixes = {path.suffix for path in (root / "images").iterdir()}
    assert len(suffixes) > 1
    for path in sorted((root / "images").iterdir())[:5]:
        path.rename(path.with_name(f"{path.stem.upper()}.JPEG"))
    samples = load("mra-midas", root)
    assert (len(samples), samples.missing) == (IMAGES, 0)
    (root / "images").rename(root / "photographs")
    assert load("mra-midas", root).table["image"].str.startswith("photographs/").all()


def test_midas_patients_and_controls_as_a_spreadsheet_saves_them(damaged: Twin) -> None:
    root = damaged("mra-midas")
    before, path = load("mra-midas", root).table, root / TABLE["mra-midas"]
    number = "midas_record_id"
    _rewrite(path, lambda t: t.assign(**{number: t[number].where(t.index % 2 == 0, t[number] + ".0")}))
    _rewrite(path, lambda t: t.assign(midas_iscontrol=t["midas_iscontrol"].str.capitalize()))
    _rewrite(path, lambda t: t.assign(midas_path=t["midas_path"] + "\n"))  # a cell of two lines
    pd.testing.assert_frame_equal(load("mra-midas", root).table, before)


def test_midas_files_that_differ_in_their_suffix_alone(damaged: Twin) -> None:
    root = damaged("mra-midas")
    before = load("mra-midas", root).table
    one, other = sorted((root / "images").glob("*.jpg"))[:2]
    shutil.copy(other, one.with_suffix(".png"))
    pd.testing.assert_frame_equal(load("mra-midas", root).table, before)  # the table's own name goes first
    one.rename(one.with_suffix(".jpeg"))
    assert f"{one.name} may be images/{one.stem}.jpeg or images/{one.stem}.png" in _told("mra-midas", root)
    shutil.copy(one.with_suffix(".jpeg"), one.with_suffix(".png"))
    assert len(load("mra-midas", root)) == IMAGES


def test_midas_reads_a_pathology_with_or_without_blanks(damaged: Twin) -> None:
    assert _plain("Malignant- BCC") == _plain("malignant-bcc ") == "malignant-bcc"
    root = damaged("mra-midas")
    whole = _classes(load("mra-midas", root))
    _rewrite(root / TABLE["mra-midas"], lambda t: t.assign(midas_path=t["midas_path"].str.replace("- ", "-")))
    assert (_classes(load("mra-midas", root)) == whole).all()


def test_midas_refuses_what_it_does_not_understand(damaged: Twin) -> None:
    root = damaged("mra-midas")
    table = root / TABLE["mra-midas"]
    whole = table.read_text()
    _rewrite(table, _set(2, "midas_distance", "9in"))
    assert "row 4: the midas_distance '9in' is none of" in _told("mra-midas", root)
    table.write_text(whole)
    _rewrite(table, lambda t: t.assign(midas_path="other"))
    assert "names no image of the classes AK, BCC" in _told("mra-midas", root)
    table.write_text(whole)
    _rewrite(table, lambda t: t.assign(midas_record_id=""))
    assert "no midas_record_id" in _told("mra-midas", root)
    table.rename(root / "release_midas.xlsx")
    assert "is a workbook: save its first sheet as release_midas.csv" in _told("mra-midas", root)
    assert load_manifest("mra-midas").seems_present(root)

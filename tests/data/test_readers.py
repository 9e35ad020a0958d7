"""Every reader on its twin: what is read is what the phantom knows; a user's mistake is told in one sentence."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nbcore.data import load
from nbcore.data.images import read_image
from nbcore.data.manifest import load_manifest
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins import WRITERS, write_twin
from nbcore.data.readers import READERS
from nbcore.data.samples import COLUMNS, Samples
from nbcore.data.splits import assert_disjoint
from nbcore.errors import UserError

NAMES = [
    "chexlocalize",
    "chexpert",
    "covid-chestxray",
    "covidx",
    "idrid",
    "isic2018",
    "kermany",
    "mimic-cxr",
    "montgomery-tb",
    "nih-chestxray14",
    "object-cxr",
    "openi",
    "padchest",
    "rsna-pneumonia",
    "shenzhen-tb",
    "siim-acr",
]
# of pairs of modalities, with tests of their own beside this file
PAIRED = ["busi", "cc-ccii", "covid-pneumonia-cxr", "derm7pt", "dmid", "mra-midas"]
IMAGES = 100  # in each twin
Twin = Callable[[str], Path]
Studies = Callable[[str], list[world.ChestStudy]]


def _shown(samples: Samples, studies: list[world.ChestStudy]) -> list[world.ChestStudy]:
    """The study each image shows, found by its pixels: file names must not tell."""
    read = np.stack([read_image(path) for path in samples.image_paths()])
    drawn = chest.render(studies, read.shape[1]).images.reshape(IMAGES, -1).astype(np.float32)
    read = read.reshape(IMAGES, -1)
    match = [int(np.argmin(((drawn - picture) ** 2).sum(axis=1))) for picture in read.astype(np.float32)]
    assert sorted(match) == list(range(IMAGES))
    return [studies[i] for i in match]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_tidy_and_complete(name: str, twin: Twin) -> None:
    samples = load(name, twin(name))
    assert len(samples) == IMAGES and samples.source == "phantom"
    assert list(samples.table.columns) == [*COLUMNS, *(f"label:{c}" for c in samples.classes)]
    assert isinstance(samples.table.index, pd.RangeIndex)
    assert (samples.table.filter(like="label:").dtypes == np.float32).all()
    assert set(samples.table["view"]) <= {"PA", "AP", ""}
    assert (
        samples.table["image"].is_unique
        and not samples.table.drop(columns=samples.table.filter(like="label:")).isna().any().any()
    )
    assert (samples.missing > 0) == (name == "covid-chestxray")


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_patient_and_none_is_empty(name: str, twin: Twin, studies: Studies) -> None:
    samples = load(name, twin(name))
    assert_disjoint(samples.table)
    splits = ["test"] if name == "chexlocalize" else ["train", "valid", "test"]
    assert set(samples.table["split"]) == set(splits)
    assert min(len(samples.split(split)) for split in splits) >= 0.05 * IMAGES
    patients = {study.patient for study in studies(name)}
    if name not in ("kermany", "isic2018"):  # file names count normal and ill pictures apart; lesions, not patients
        assert samples.table["patient"].nunique() == len(patients)


@pytest.mark.parametrize("name", ["chexpert", "mimic-cxr", "nih-chestxray14"])
def test_labels_are_the_phantom_s(name: str, twin: Twin, studies: Studies) -> None:
    samples = load(name, twin(name))
    truth = world.label_matrix(_shown(samples, studies(name)), samples.classes)
    values = samples.table.filter(like="label:").to_numpy()
    assert (samples.labels() == truth).all()
    assert (np.nan_to_num(values) == truth).all()
    assert np.isnan(values).any() == (name != "nih-chestxray14")
    assert not np.isnan(values[samples.table["split"] == "test"]).any() or name == "mimic-cxr"


def test_labels_of_class_folders_and_findings_are_the_phantom_s(twin: Twin, studies: Studies) -> None:
    kermany = load("kermany", twin("kermany"))
    sick = world.labels(_shown(kermany, studies("kermany")))["pneumonia"]
    assert (kermany.labels() == np.stack([1 - sick, sick], axis=1)).all()
    covid = load("covid-chestxray", twin("covid-chestxray"))
    present = world.labels(_shown(covid, studies("covid-chestxray")))
    known = covid.table["label:COVID-19"].notna().to_numpy()
    assert 0 < (~known).sum() < 0.2 * IMAGES
    expected = np.stack([present["covid"], present["covid"] | present["pneumonia"]], axis=1)[known]
    assert (covid.labels()[known, :2] == expected).all()
    assert (covid.labels()[known, 2] == 1 - expected[:, 1]).all()


def test_reports_tell_of_their_own_image(twin: Twin) -> None:
    samples = load("mimic-cxr", twin("mimic-cxr"))
    assert len(samples.pairs()) == IMAGES
    assert set(samples.table["language"]) == {"en"}
    text = samples.table["report"]
    denied = text.str.contains("no evidence of pneumothorax|without pneumothorax|no pneumothorax")
    ill = samples.table["label:Pneumothorax"] == 1
    assert denied.any() and ill.any() and not (denied & ill).any()
    assert text.str.fullmatch(r"[a-z0-9_ \n]+").all()
    assert len(load("covid-chestxray", twin("covid-chestxray")).pairs()) == IMAGES


def test_some_studies_have_no_usable_report(tmp_path: Path) -> None:
    root = write_twin("mimic-cxr", tmp_path / "twin", images=300, size=16)
    texts = [path.read_text() for path in root.rglob("*.txt")]
    assert 0.02 * 300 < 300 - len(texts) < 0.08 * 300
    assert any(text.endswith("IMPRESSION:  Normal.\n") for text in texts)
    assert 0.85 * 300 < len(load("mimic-cxr", root).pairs()) < len(texts)


def test_boxes_lie_on_their_finding(twin: Twin, studies: Studies) -> None:
    samples = load("nih-chestxray14", twin("nih-chestxray14"))
    shown = _shown(samples, studies("nih-chestxray14"))
    boxed = [i for i, boxes in enumerate(samples.table["boxes"]) if boxes]
    assert boxed
    drawn = chest.render(shown, 32)
    for i in boxed:
        anything = np.any([mask[i] for mask in drawn.masks.values()], axis=0)
        for x, y, w, h in samples.table["boxes"][i]:
            assert anything[int(y) : int(y + h), int(x) : int(x + w)].any()


def test_lateral_images_and_other_modalities_are_left_out(twin: Twin) -> None:
    table = pd.read_csv(twin("chexpert") / "CheXpert-v1.0" / "train.csv")
    assert (table["Frontal/Lateral"] == "Lateral").any()
    assert not load("chexpert", twin("chexpert")).table["image"].str.contains("lateral").any()
    metadata = pd.read_csv(twin("mimic-cxr") / "mimic-cxr-2.0.0-metadata.csv.gz")
    assert (metadata["ViewPosition"] == "LATERAL").any()
    covid = pd.read_csv(twin("covid-chestxray") / "metadata.csv")
    assert {"CT", "X-ray"} == set(covid["modality"]) and (covid["view"] == "L").any()


@pytest.mark.parametrize("policy", ["zero", "one", "ignore", {"Edema": 1}])
def test_uncertain_and_unmentioned_labels_stay_in_the_table(policy: str | dict, damaged: Twin) -> None:
    root = damaged("chexpert")
    table = pd.read_csv(root / "CheXpert-v1.0" / "valid.csv")
    table.loc[table["Frontal/Lateral"] == "Frontal", ["Edema", "Fracture"]] = -1.0
    table["Pneumonia"] = np.nan
    table.to_csv(root / "CheXpert-v1.0" / "valid.csv", index=False)
    test = load("chexpert", root).split("test")
    assert (test.table["label:Edema"] == -1).all() and test.table["label:Pneumonia"].isna().all()
    labels = dict(zip(test.classes, test.labels(policy).T))
    expected = {"zero": (0, 0), "one": (1, 1), "ignore": (np.nan, np.nan)}.get(str(policy), (1, 0))
    np.testing.assert_array_equal(labels["Edema"], np.full(len(test), expected[0], np.float32))
    np.testing.assert_array_equal(labels["Fracture"], np.full(len(test), expected[1], np.float32))
    assert (labels["Pneumonia"] == 0).all()


def test_samples_refuse_unknown_names(twin: Twin) -> None:
    samples = load("nih-chestxray14", twin("nih-chestxray14"))
    with pytest.raises(UserError, match=r"unknown split 'validation' \(did you mean 'valid'"):
        samples.split("validation")
    with pytest.raises(UserError, match=r"has no class 'Edemma' \(did you mean 'Edema'"):
        samples.labels({"Edemma": 1})
    with pytest.raises(UserError, match="unknown policy 'zeros'"):
        samples.labels("zeros")
    with pytest.raises(UserError, match=r"no image under .* has a report"):
        samples.pairs()


def test_the_fingerprint_follows_table_and_images_but_not_the_place(damaged: Twin, tmp_path: Path) -> None:
    root = damaged("chexpert")
    samples = load("chexpert", root)
    before = samples.fingerprint()
    assert load("chexpert", shutil.copytree(root, tmp_path / "elsewhere")).fingerprint() == before
    assert samples.subset([1, 0]).fingerprint() != samples.subset([0, 1]).fingerprint()
    shutil.copy(samples.image_paths()[0], samples.image_paths()[1])
    assert load("chexpert", root).fingerprint() != before


# --- other editions of the same layouts


def test_mimic_plain_tables_and_the_sectioned_table(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    from_files = load("mimic-cxr", root).table
    for path in root.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    rows = []
    for path in root.rglob("*.txt"):
        text = " ".join(path.read_text().split())
        findings = text.partition("FINDINGS: ")[2].partition(" IMPRESSION:")[0]
        rows.append({"study": path.stem, "impression": text.partition("IMPRESSION: ")[2], "findings": findings})
        path.unlink()
    pd.DataFrame(rows).to_csv(root / "mimic_cxr_sectioned.csv", index=False)
    pd.testing.assert_frame_equal(load("mimic-cxr", root).table, from_files)


def test_chexpert_small_edition_and_the_folder_itself_as_root(damaged: Twin) -> None:
    root = damaged("chexpert")
    labels = load("chexpert", root).labels()
    small = (root / "CheXpert-v1.0").rename(root / "CheXpert-v1.0-small")
    for path in small.glob("*.csv"):
        path.write_text(path.read_text().replace("CheXpert-v1.0/", "CheXpert-v1.0-small/"))
    assert (load("chexpert", root).labels() == labels).all()
    assert (load("chexpert", small).labels() == labels).all()


def test_nih_in_one_folder_and_with_the_older_table(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    before = load("nih-chestxray14", root)
    (root / "images").mkdir()
    for path in sorted(root.glob("images_*/images/*.png")):
        path.rename(root / "images" / path.name)
    lines = (root / "Data_Entry_2017_v2020.csv").read_text().splitlines()
    (root / "Data_Entry_2017.csv").write_text("\n".join(line + "," for line in lines))
    (root / "Data_Entry_2017_v2020.csv").unlink()
    after = load("nih-chestxray14", root)
    assert (after.labels() == before.labels()).all()
    assert after.table["split"].equals(before.table["split"])
    assert after.table["image"].str.fullmatch(r"images/\d{8}_\d{3}\.png").all()


def test_nih_without_lists_is_split_by_patient(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    for name in ("train_val_list.txt", "test_list.txt"):
        (root / name).unlink()
    samples = load("nih-chestxray14", root)
    assert len(samples.split("test")) == 0.2 * IMAGES
    assert_disjoint(samples.table)


def test_kermany_patients_are_numbered_per_official_split(damaged: Twin) -> None:
    root = damaged("kermany") / "chest_xray"
    samples = load("kermany", root)
    test, train = (set(samples.table["patient"][samples.table["split"] == split]) for split in ("test", "train"))
    assert {patient.removeprefix("test/") for patient in test} & {patient.removeprefix("train/") for patient in train}
    first = sorted((root / "train" / "NORMAL").iterdir())[0]
    (root / "val" / "NORMAL").mkdir(parents=True)
    first.rename(root / "val" / "NORMAL" / first.name)  # Kaggle's val/ is a part of the owner's train/
    moved = load("kermany", root).table
    assert set(moved["patient"]) == set(samples.table["patient"])
    assert moved["image"].str.startswith("val/").sum() == 1


def test_absent_images_are_dropped_and_counted(damaged: Twin) -> None:
    root = damaged("chexpert")
    samples = load("chexpert", root)
    for path in samples.image_paths()[:7]:
        path.unlink()
    assert (load("chexpert", root).missing, len(load("chexpert", root))) == (7, IMAGES - 7)


def test_a_renamed_table_is_an_edit_of_the_manifest(damaged: Twin) -> None:
    root = damaged("covid-chestxray")
    (root / "metadata.csv").rename(root / "table.csv")
    manifest = load_manifest("covid-chestxray")
    layout = manifest.layout.model_copy(update={"table": "table.csv"})
    assert len(load(manifest.model_copy(update={"layout": layout}), root)) == IMAGES


# --- mistakes


def _told(name: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*NAMES, *PAIRED])
def test_a_wrong_or_absent_root(name: str, tmp_path: Path) -> None:
    assert "is this the right root?" in _told(name, tmp_path)
    assert f"cannot read the root of {name}" in _told(name, tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert f"cannot read the root of {name}" in _told(name, tmp_path / "file")


TABLES = {
    "chexpert": ("CheXpert-v1.0/train.csv", "AP/PA"),
    "covid-chestxray": ("metadata.csv", "clinical_notes"),
    "nih-chestxray14": ("Data_Entry_2017_v2020.csv", "Finding Labels"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table(name: str, damaged: Twin) -> None:
    root, (file, column) = damaged(name), TABLES[name]
    whole = (root / file).read_text()
    (root / file).write_text(whole.replace(column, column[:-1], 1))
    assert f"{file} has no column {column!r} (did you mean {column[:-1]!r}?)" in _told(name, root)
    (root / file).write_text("")
    assert f"{file} is empty" in _told(name, root)
    (root / file).write_text(whole.splitlines()[0])
    assert f"{file} has a heading but no rows" in _told(name, root)
    (root / file).write_bytes(whole.encode().replace(b",PA,", b",P\xff,"))
    assert f"{file} is not UTF-8 text" in _told(name, root)


def test_a_damaged_archive_of_a_table(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    path = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    path.write_bytes(path.read_bytes()[:200])
    assert f"cannot read {path}" in _told("mimic-cxr", root)
    path.unlink()
    assert "mimic-cxr-2.0.0-chexpert.csv is missing" in _told("mimic-cxr", root)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes", "holds 'yes', which"),
        (7, "has the value 7,"),
        (1e308, "has the value 1e+308,"),
        (1.00000001, "has the value 1.00000001,"),
    ],
)
def test_labels_out_of_range(value: str | float, message: str, damaged: Twin) -> None:
    root = damaged("chexpert")
    path = root / "CheXpert-v1.0" / "valid.csv"
    table = pd.read_csv(path).astype({"Edema": object})
    table.loc[0, "Edema"] = value
    table.to_csv(path, index=False)
    assert message in _told("chexpert", root)


def test_a_patient_in_two_official_splits(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    path = root / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(path)
    repeated = table.loc[table["subject_id"].duplicated(), "subject_id"].iloc[0]
    rows = table.index[table["subject_id"] == repeated]
    table.loc[rows, "split"] = ["train", *["test"] * (len(rows) - 1)]
    table.to_csv(path, index=False)
    message = _told("mimic-cxr", root)
    assert "is in two splits (test and train)" in message


def test_lists_that_overlap(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    first = (root / "test_list.txt").read_text().split()[0]
    with (root / "train_val_list.txt").open("a") as file:
        file.write(first)
    assert f"{first} is in both" in _told("nih-chestxray14", root)


@pytest.mark.parametrize("packed", [False, True])
def test_the_row_in_the_wrong_encoding_is_named(packed: bool, damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    path = root / "mimic-cxr-2.0.0-metadata.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    lines[6] = lines[6].replace(b"-", "Ó".encode("latin-1"), 1)
    path.write_bytes(gzip.compress(b"".join(lines)))
    if not packed:
        path.unlink()
        path = path.with_suffix("")
        path.write_bytes(b"".join(lines))
    assert _told("mimic-cxr", root) == f"{path} is not UTF-8 text (row 7): save it as UTF-8"


def test_no_image_at_all(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    for folder in root.glob("images_*"):
        shutil.rmtree(folder)
    assert f"none of its {IMAGES} images is under" in _told("nih-chestxray14", root)


def test_every_layout_has_a_reader_and_a_writer() -> None:
    named = {load_manifest(name).layout.reader for name in [*NAMES, *PAIRED]}
    assert READERS.keys() == WRITERS.keys() == named


def test_chexpert_without_a_frontal_image(damaged: Twin) -> None:
    root = damaged("chexpert")
    path = next(root.rglob("train.csv"))
    path.write_text(path.read_text().replace(",Frontal,", ",,"))
    assert f"{path} names no image with Frontal/Lateral 'Frontal'" in _told("chexpert", root)


# --- ids and labels that are written otherwise, or belong elsewhere


MIMIC = {name: f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "split", "chexpert")}


def _rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def _sectioned(root: Path, spelling: str, share: int = 1) -> pd.Series:
    """Write a sectioned table of the studies of every `share`th image; returns these studies."""
    study = load("mimic-cxr", root).table["study"][::share].drop_duplicates()
    text = "the lungs are\nclear in " + study
    table = pd.DataFrame({"study": study.map(spelling.format), "impression": text, "findings": "", "comparison": ""})
    table.to_csv(root / "mimic_cxr_sectioned.csv", index=False)
    return study


@pytest.mark.parametrize("name", MIMIC)
@pytest.mark.parametrize("spelling", ["{}.0", " {}", "{} ", "s{}"])
def test_mimic_numbers_as_a_spreadsheet_saves_them(name: str, spelling: str, damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    before = load("mimic-cxr", root).table
    _rewrite(root / MIMIC[name], lambda t: t.assign(study_id=t["study_id"].map(spelling.format)))
    pd.testing.assert_frame_equal(load("mimic-cxr", root).table, before)


@pytest.mark.parametrize("spelling", ["s{}", "S{}", "{}.0", "s{}.txt", " s{}"])
def test_mimic_sections_are_found_however_the_study_is_spelt(spelling: str, damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    _sectioned(root, spelling)
    table = load("mimic-cxr", root).table
    assert (table["report"] == "the lungs are clear in " + table["study"]).all()


def test_mimic_sections_of_some_reports_only(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    told = _sectioned(root, "s{}", share=9)
    table = load("mimic-cxr", root).table
    assert ((table["report"] != "") == table["study"].isin(told)).all()


def test_mimic_tables_that_do_not_belong_together(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    whole = {name: (root / file).read_bytes() for name, file in MIMIC.items()}

    def told(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
        _rewrite(root / MIMIC[name], change)
        message = _told("mimic-cxr", root)
        (root / MIMIC[name]).write_bytes(whole[name])
        return message

    def shifted(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(study_id=(table["study_id"].astype(int) + 10**8).astype(str))

    assert "0 studies in common" in told("chexpert", shifted)
    reversed_ = told("chexpert", lambda t: t.assign(study_id=t["study_id"].to_numpy()[::-1]))
    assert "gives the study" in reversed_ and "the subject_id" in reversed_
    rolled = told("metadata", lambda t: t.assign(study_id=np.roll(t["study_id"], 1)))
    assert f"{MIMIC['split']} gives the image" in rolled and "the study_id" in rolled
    assert f"{MIMIC['split']} gives the image" in told("split", shifted)
    for odd in ("abc", "", "x" * 300, "9" * 300):
        message = told("metadata", lambda t, odd=odd: t.assign(study_id=t["study_id"].where(t.index != 4, odd)))
        assert f"row 6: {odd[:80]!r} is no study_id" in message
    message = told("metadata", lambda t: t.assign(dicom_id=t["dicom_id"].where(t.index != 4, "")))
    assert "row 6 has no dicom_id" in message
    labels = list(load_manifest("mimic-cxr").classes)
    assert "has no label of any study" in told("chexpert", lambda t: t.assign(**dict.fromkeys(labels, "")))
    for spelling, reason in {"s1{}": "metadata have 0 studies in common", "study {}": "is no study"}.items():
        _sectioned(root, spelling)
        assert reason in _told("mimic-cxr", root)
        (root / "mimic_cxr_sectioned.csv").unlink()
    (root / "mimic_cxr_sectioned.csv").write_text('study,impression,findings\ns50000001,"a,b\ns50000002,c",d\n')
    assert "a quote in the row of 's50000001' hides rows below it" in _told("mimic-cxr", root)


def test_mimic_views_in_small_letters(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    before = load("mimic-cxr", root).table
    _rewrite(root / MIMIC["metadata"], lambda t: t.assign(ViewPosition=t["ViewPosition"].str.lower() + " "))
    pd.testing.assert_frame_equal(load("mimic-cxr", root).table, before)


def test_chexpert_tables_that_have_changed_places(damaged: Twin) -> None:
    root = damaged("chexpert")
    train, valid = (root / "CheXpert-v1.0" / f"{name}.csv" for name in ("train", "valid"))
    before, whole = load("chexpert", root).table, train.read_text()
    train.write_text(whole.replace(",Frontal,", ",frontal ,"))
    pd.testing.assert_frame_equal(load("chexpert", root).table, before)
    train.write_text(valid.read_text())
    valid.write_text(whole)
    message = _told("chexpert", root)
    assert f"{train} names 'CheXpert-v1.0/valid/" in message and "have the tables changed places?" in message


def test_covid_words_and_ids_are_read_however_they_are_written(damaged: Twin) -> None:
    root = damaged("covid-chestxray")
    before, path = load("covid-chestxray", root).table, root / "metadata.csv"
    _rewrite(path, lambda t: t.assign(finding=t["finding"].str.lower() + " ", modality=t["modality"].str.upper()))
    pd.testing.assert_frame_equal(load("covid-chestxray", root).table, before)
    _rewrite(path, lambda t: t.assign(patientid=t["patientid"].where(t.index % 2 == 0, t["patientid"] + ".0")))
    pd.testing.assert_frame_equal(load("covid-chestxray", root).table, before)
    for lost in ("7", ""):
        _rewrite(path, lambda t, lost=lost: t.assign(finding=lost))
        message = _told("covid-chestxray", root)
        assert f"no finding is one of COVID-19, Pneumonia, No Finding; the first is {lost!r}" in message


def test_covid_notes_may_be_of_several_lines(damaged: Twin) -> None:
    root = damaged("covid-chestxray")
    before = load("covid-chestxray", root).table
    _rewrite(root / "metadata.csv", lambda t: t.assign(clinical_notes=t["clinical_notes"].str.replace(" ", "\n", n=1)))
    pd.testing.assert_frame_equal(load("covid-chestxray", root).table, before)


def test_kermany_in_a_folder_of_its_own_name(damaged: Twin) -> None:
    root = damaged("kermany")
    before = load("kermany", root).table
    (root / "chest_xray").rename(root / "inner")
    (root / "chest_xray").mkdir()
    (root / "inner").rename(root / "chest_xray" / "chest_xray")  # as Kaggle's archive has it, beside an upper copy
    after = load("kermany", root).table
    pd.testing.assert_frame_equal(after.drop(columns="image"), before.drop(columns="image"))
    assert (after["image"] == "chest_xray/" + before["image"]).all()
    assert load_manifest("kermany").seems_present(root)


def test_kermany_class_folders_in_small_letters(damaged: Twin) -> None:
    root = damaged("kermany")
    before = load("kermany", root).table
    (root / "chest_xray" / "train" / "NORMAL").rename(root / "chest_xray" / "train" / "normal")
    after = load("kermany", root).table
    pd.testing.assert_frame_equal(after.drop(columns="image"), before.drop(columns="image"))

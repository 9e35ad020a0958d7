"""The check of a local copy: complete, a subset, or broken, with the reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.manifest import list_manifests, load_manifest
from nbcore.errors import UsageError

IMAGES = 100  # in each twin
Twin = Callable[[str], Path]


@pytest.mark.parametrize("name", [name for name in list_manifests() if not load_manifest(name).part_of])
def test_a_twin_is_complete(name: str, twin: Twin) -> None:
    report = check(name, twin(name))
    assert (report.verdict, report.exit_status, report.images) == ("complete", 0, IMAGES)
    assert sum(found for found, _ in report.splits.values()) == IMAGES
    assert (report.balance.sum(axis=1) == IMAGES).all()
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == "complete"
    assert f"phantom data: {IMAGES} images" in report.to_text()


def test_absent_images_make_a_subset(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    for path in load("nih-chestxray14", root).image_paths()[:20]:
        path.unlink()
    report = check("nih-chestxray14", root)
    assert (report.verdict, report.exit_status, report.missing) == (f"subset: {IMAGES - 20} of {IMAGES}", 0, 20)


def test_real_data_is_measured_by_the_manifest(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    (root / "PHANTOM.json").unlink()
    report = check("nih-chestxray14", root)
    assert report.verdict == f"subset: {IMAGES} of 112120"
    assert report.source == "real" and report.splits["test"][1] == 25596
    patients = load("nih-chestxray14", root).table["patient"]
    (root / "testSet_PatientID.csv").write_text(patients.iloc[0])
    assert check("nih-chestxray14", root).splits["test"] == ((patients == patients.iloc[0]).sum(), 6373)


@pytest.mark.parametrize("quick", [False, True])
def test_unreadable_images_break_it(quick: bool, damaged: Twin) -> None:
    root = damaged("chexpert")
    for path in load("chexpert", root).image_paths()[:8]:
        path.write_bytes(path.read_bytes()[:100])
    report = check("chexpert", root, quick=quick)
    assert (report.verdict, report.exit_status, len(report.problems)) == ("broken", 1, 6)
    assert "cannot read the image" in report.to_text() and "3 more images" in report.problems[-1]


def test_copies_are_noticed_also_across_splits(damaged: Twin) -> None:
    root = damaged("chexpert")
    samples = load("chexpert", root)
    shutil.copy(samples.split("train").image_paths()[0], samples.split("test").image_paths()[0])
    remark = check("chexpert", root).remarks[-1]
    assert "1 images are identical copies of another; 1 pictures are in more than one split" in remark


@pytest.mark.parametrize("quick", [False, True])
def test_masks_that_do_not_fit_break_it(quick: bool, damaged: Twin) -> None:
    root = damaged("siim-acr")
    assert check("siim-acr", root, quick=quick).outlined == (load("siim-acr", root).table["mask"] != "").sum() > 0
    text = (root / "stage_2_train.csv").read_text().splitlines()
    row = next(i for i, line in enumerate(text) if not line.endswith("-1") and i)
    text[row] = text[row].split(",")[0] + ", 5 2000"
    (root / "stage_2_train.csv").write_text("\n".join(text))
    report = check("siim-acr", root, quick=quick)
    assert (report.verdict, len(report.problems)) == ("broken", 1)
    assert "does not fit it: run lengths reach pixel 2005" in report.to_text()


def test_boxes_that_nobody_can_see_are_remarked(damaged: Twin) -> None:
    root = damaged("object-cxr")
    path = root / "dev.csv"
    first, *others = path.read_text().splitlines()
    others[0] = others[0].split(",")[0] + ",0 3 3 3 9;1 90 90 95 95;2 1 1 5 1 5 5"
    path.write_text("\n".join([first, *others]))
    report = check("object-cxr", root)
    assert report.exit_status == 0 and "2 boxes are empty or outside their picture" in report.to_text()


def test_a_wrong_root_is_broken_and_a_wrong_name_an_error(tmp_path: Path) -> None:
    report = check("chexpert", tmp_path)
    assert report.exit_status == 1 and "is this the right root?" in report.to_text()
    with pytest.raises(UsageError, match="unknown data set"):
        check("chexprt", tmp_path)


def test_patients_in_two_splits_break_it_and_all_else_is_told(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    table = load("nih-chestxray14", root).table
    patient = next(p for p in table.loc[table["split"] != "test", "patient"] if (table["patient"] == p).sum() > 1)
    name = Path(table.loc[table["patient"] == patient, "image"].iloc[0]).name
    for listed, more in (("test_list.txt", [name]), ("train_val_list.txt", [])):
        names = [line for line in (root / listed).read_text().split() if line != name]
        (root / listed).write_text("\n".join(names + more))
    report = check("nih-chestxray14", root)
    assert (report.verdict, len(report.problems)) == ("broken", 1)
    assert f"patient {patient!r} is in two splits" in report.problems[0]
    assert report.images == report.pictures.decoded == IMAGES


def test_it_is_told_where_splits_come_from(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    (root / "PHANTOM.json").unlink()
    rules = check("nih-chestxray14", root, quick=True).split_rule
    assert rules == {"train": "the rest", "valid": "drawn by patient, seed 0", "test": "the data set's own"}
    (root / "test_list.txt").unlink()
    report = check("nih-chestxray14", root, quick=True)
    assert report.split_rule["test"] == "drawn by patient, seed 0"
    assert "test_list.txt not here" in report.remarks and any("not the papers'" in remark for remark in report.remarks)


def test_official_sets_may_lack(damaged: Twin) -> None:
    root = damaged("isic2018")
    (root / "PHANTOM.json").unlink()
    tests = check("isic2018", root, quick=True).splits["test"][0]
    for part in ("Training", "Validation"):
        shutil.rmtree(root / f"ISIC2018_Task3_{part}_Input")
        shutil.rmtree(root / f"ISIC2018_Task3_{part}_GroundTruth")
    report = check("isic2018", root)
    assert (report.verdict, report.images) == (f"subset: {tests} of 11720", tests)
    assert "no image of the split 'train' is here" in report.remarks
    assert any(remark.startswith("no patients are named") for remark in report.remarks)


def test_classes_are_measured_by_the_manifest(damaged: Twin) -> None:
    root = damaged("busi")
    (root / "PHANTOM.json").unlink()
    shutil.rmtree(root / "Dataset_BUSI_with_GT" / "normal")
    report = check("busi", root)
    assert report.positives["expected"].to_dict() == {"benign": 437, "malignant": 210, "normal": 133}
    assert (report.positives[["train", "valid", "test"]].sum(axis=1) == report.balance["positive"]).all()
    assert "no image here is positive of normal" in report.remarks and report.verdict.endswith("of 780")

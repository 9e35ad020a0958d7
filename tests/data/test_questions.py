"""The answers to the questions users ask about the data are true of the code: shown on twins."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.images import fit_square, read_image
from nbcore.data.manifest import load_manifest
from nbcore.data.masks import has_outline, masks, rle_decode
from nbcore.data.readers.cc_ccii import middle
from nbcore.data.samples import RLE, Samples
from nbcore.data.splits import assert_unseen, label_fraction, patient_order
from nbcore.errors import UserError
from nbcore.losses.segmentation import dice_per_image
from nbcore.paths import MANIFESTS
from nbcore.tasks.few_shot import draw_shots
from nbcore.tasks.segmentation import balanced_rows

Twin = Callable[[str], Path]


def asked(name: str, question: str) -> str:
    """The answer, so that a question that was reworded fails here."""
    return load_manifest(name).questions[question]


def labels_of(samples: Samples, name: str) -> list[float]:
    return samples.table[f"label:{name}"].tolist()


def test_mimic_views_and_sections(damaged: Twin) -> None:
    root = damaged("mimic-cxr")
    metadata = pd.read_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", dtype=str)
    assert "LATERAL" in set(metadata["ViewPosition"])
    assert asked("mimic-cxr", "Which views are kept?").startswith("Those whose ViewPosition is PA or AP")
    samples = load("mimic-cxr", root)
    assert set(samples.table["view"]) == {"PA", "AP"}

    assert "joined" in asked(
        "mimic-cxr", "Which sections of a report are learnt from, and what of a report that has neither?"
    )
    studies = samples.table["study"].drop_duplicates().tolist()
    sectioned = pd.DataFrame(
        {"study": [f"s{study}" for study in studies[:3]], "impression": ["No effusion.", "", "Ok."]}
    )
    sectioned["findings"] = ["The heart is large.", "", ""]
    asked("mimic-cxr", "Where does mimic_cxr_sectioned.csv come from, and must I make it?")
    sectioned.to_csv(root / "mimic_cxr_sectioned.csv", index=False)
    samples = load("mimic-cxr", root)
    report = samples.table.drop_duplicates("study").set_index("study")["report"]
    assert report[studies[0]] == "no effusion\nthe heart is large"
    assert report[studies[1]] == report[studies[2]] == ""
    assert set(samples.pairs().table["study"]) == {studies[0]}


def test_mimic_test_list_wins(damaged: Twin) -> None:
    assert "CheXclusion" in asked("mimic-cxr", "Whose split is it, and why has M-FLAG 23,137 test images?")
    root = damaged("mimic-cxr")
    patients = load("mimic-cxr", root).table.query("split == 'train'")["patient"].unique()[:4]
    (root / "testSet_SubjID.csv").write_text("subject_id\n" + "\n".join(patients), encoding="utf-8")
    table = load("mimic-cxr", root).table
    assert set(table.query("split == 'test'")["patient"]) == set(patients)
    assert (table["split"] == "valid").any()


def test_a_part_of_mimic_keeps_the_official_splits(damaged: Twin) -> None:
    question = "Do I need the 4.6 TB of DICOM images, or is there a smaller MIMIC?"
    assert asked("mimic-cxr", question).startswith("The JPG edition")
    root = damaged("mimic-cxr")
    whole = load("mimic-cxr", root)
    for patient in whole.table["patient"].unique()[::3]:
        for folder in root.glob(f"files/p*/p{patient}"):
            shutil.rmtree(folder)
    part = load("mimic-cxr", root)
    assert 0 < part.missing == len(whole) - len(part)
    kept = whole.table[whole.table["image"].isin(part.table["image"])]
    assert part.table["split"].tolist() == kept["split"].tolist()


def test_pairs_come_from_every_data_set_with_reports(twin: Twin) -> None:
    assert asked("mimic-cxr", "Can I pre-train on something else than MIMIC?").startswith("Yes")
    for name in ("openi", "padchest", "covid-chestxray"):
        assert len(load(name, twin(name)).pairs()) > 0, name
    with pytest.raises(UserError, match="has a report"):
        load("rsna-pneumonia", twin("rsna-pneumonia")).pairs()
    question = "What are Med-UniC's only_imp.npy, 200k_find_imp.csv and PDC_cleaned.csv, and M-FLAG's csv and npy?"
    assert "not needed here" in asked("mimic-cxr", question)


def test_shots_are_drawn_by_seed(twin: Twin) -> None:
    assert "as in CoOp's code" in asked("dmid", "Which images are the 16 shots of each seed?")
    samples = load("dmid", twin("dmid"))
    train, valid = (samples.split(split).labels().argmax(axis=1) for split in ("train", "valid"))
    drawn = [draw_shots(train, valid, 16, seed) for seed in (1, 1, 2)]
    assert [rows.tolist() for rows in drawn[0]] == [rows.tolist() for rows in drawn[1]]
    assert drawn[0][0].tolist() != drawn[2][0].tolist()
    count = np.bincount(train)
    assert np.bincount(train[drawn[0][0]]).tolist() == np.minimum(count, 16).tolist()
    assert np.bincount(valid[drawn[0][1]]).max() <= 4


def test_images_are_padded_not_cut() -> None:
    assert "padded with black" in asked("mimic-cxr", "To what size are the images brought, and how?")
    square = fit_square(np.full((40, 20), 200, np.uint8), 16)
    assert (square[:, 4:12] == 200).all() and not square[:, :4].any() and not square[:, 12:].any()


def test_uncertain_labels(twin: Twin) -> None:
    assert "positive for Atelectasis, Edema and Pleural Effusion" in asked(
        "chexpert", "How are uncertain labels (-1) treated?"
    )
    assert asked("mimic-cxr", "How are uncertain (-1) and missing labels treated?").startswith("Both are negative")
    for name in ("chexpert", "mimic-cxr"):
        samples, manifest = load(name, twin(name)).subset([0, 1]), load_manifest(name)
        labels = [f"label:{each}" for each in samples.classes]
        unsure = replace(samples, table=samples.table.assign(**dict.fromkeys(labels, np.float32(-1))))
        assert not unsure.labels(manifest.uncertain["default"]).any()
        mgca = dict(zip(samples.classes, unsure.labels(manifest.uncertain.get("mgca", "zero"))[0]))
        expected = {"Atelectasis", "Edema", "Pleural Effusion"} if name == "chexpert" else set()
        assert {each for each, value in mgca.items() if value} == expected
        missing = replace(samples, table=samples.table.assign(**dict.fromkeys(labels, np.float32(np.nan))))
        assert not missing.labels("one").any()


def test_chexpert_views_tests_editions_and_parts(damaged: Twin) -> None:
    root = damaged("chexpert")
    tables = {name: pd.read_csv(root / "CheXpert-v1.0" / f"{name}.csv") for name in ("train", "valid")}
    frontal = {name: table[table["Frontal/Lateral"] == "Frontal"]["Path"] for name, table in tables.items()}
    assert asked("chexpert", "Are lateral images used?").startswith("No") and len(frontal["train"]) < len(
        tables["train"]
    )
    samples = load("chexpert", root)
    asked("chexpert", "Which images are for validation and which for testing?")
    assert set(samples.split("test").table["image"]) == set(frontal["valid"])
    assert set(samples.subset(samples.table["split"] != "test").table["image"]) == set(frontal["train"])

    asked("chexpert", "How is CheXpert 5x200 made, and is it held out?")  # nothing but valid.csv is
    named = samples.split("train").table.drop(columns="label:No Finding").filter(like="label:").fillna(0)
    assert ((named == 1).sum(axis=1).eq(1) & (named == 0).sum(axis=1).eq(12)).any()  # as those of 5x200 are
    assert asked("chexpert", "Do I need the full-size images, or will CheXpert-v1.0-small do?").startswith("Either")
    (root / "CheXpert-v1.0").rename(root / "CheXpert-v1.0-small")
    assert len(load("chexpert", root)) == len(samples)

    assert "whole patients" in asked("chexpert", "Which images are the 1 % and the 10 % of the labels?")
    small, large = (set(label_fraction(samples, part, 0).table["image"]) for part in (0.05, 0.3))
    assert small < large and large != set(label_fraction(samples, 0.3, 1).table["image"])


def test_chexlocalize_labels_images_and_masks(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    table = pd.read_csv(root / "CheXpert" / "test_labels.csv")
    assert "no columns for view" in asked("chexlocalize", "How does one get the labels of CXP500?")
    assert not {"Frontal/Lateral", "AP/PA", "Sex", "Age"} & {*table.columns}
    samples = load("chexlocalize", root)
    asked("chexlocalize", "Why are there 500 images, when the test set has 668?")
    assert len(table) > len(samples) and samples.table["study"].is_unique
    assert (samples.table["mask"] != "").any()
    assert "no masks" in asked("chexlocalize", "Where do the masks come from?")
    (root / "CheXlocalize" / "gt_segmentations_test.json").unlink()
    assert set(load("chexlocalize", root).table["mask"]) == {""}


def test_padchest_labels_are_compared_whole(damaged: Twin) -> None:
    assert "compared whole" in asked("padchest", "Which of PadChest's labels make up the ten classes?")
    root = damaged("padchest")
    (path,) = root.glob("PADCHEST*")
    table = pd.read_csv(path, dtype=str)
    rows = table.index[table["Projection"].isin(["PA", "AP"])][:3]
    table.loc[rows, "Labels"] = ["['hydropneumothorax']", "['pseudo pneumonia']", "['unchanged']"]
    table.to_csv(path, index=False)
    found = (
        load("padchest", root).table.assign(name=lambda frame: frame["image"].str.rpartition("/")[2]).set_index("name")
    )
    first, second, third = (found.loc[table.loc[row, "ImageID"]] for row in rows)
    assert first["label:pneumothorax"] == 1 and second["label:pneumonia"] == 0 and np.isnan(third["label:pneumonia"])

    assert "labelled by physicians" in asked("padchest", "Which images are the 1,000 of the test set PDC?")
    assert "AP_horizontal" in asked("padchest", "Which projections are kept?")
    method = table.set_index("ImageID")["MethodLabel"]
    tested = found[found["split"] == "test"]
    assert set(method[found[found["patient"].isin(tested["patient"])].index]) == {"Physician"}
    assert set(table.set_index("ImageID").loc[found.index, "Projection"]) <= {"PA", "AP", "AP_horizontal"}


def test_deep_images_are_stretched(tmp_path: Path) -> None:
    assert "own darkest" in asked("padchest", "How do the 16-bit images become 8-bit ones?")
    Image.fromarray(np.array([[300, 1300], [2300, 4300]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").tolist() == [[0, 64], [128, 255]]


def test_rsna_masks_are_boxes_and_one_table_is_enough(damaged: Twin) -> None:
    root = damaged("rsna-pneumonia")
    assert asked("rsna-pneumonia", "Is stage_2_detailed_class_info.csv needed?").startswith("No")
    (root / "stage_2_detailed_class_info.csv").unlink(missing_ok=True)
    samples = load("rsna-pneumonia", root)
    assert asked("rsna-pneumonia", "Where do the segmentation masks come from?").startswith("They are the filled boxes")
    row = samples.subset([int(samples.table["boxes"].map(len).gt(0).to_numpy().argmax())])
    filled = np.zeros((32, 32), np.uint8)
    for x, y, width, height in np.array(row.table["boxes"].iloc[0], int):
        filled[y : y + height, x : x + width] = 1
    assert (masks(row, 32)[0] == filled).all()
    assert "cannot see it" in asked("rsna-pneumonia", "Does it share patients with NIH ChestX-ray14?")
    assert_unseen(samples.split("train"), replace(samples.split("test"), name="nih-chestxray14"))


def test_a_part_has_its_patients_in_the_order_of_the_whole(twin: Twin) -> None:
    question = "Has a copy of a part of the images the same splits as a complete one?"
    assert asked("rsna-pneumonia", question).startswith("Nearly")
    patients = load("rsna-pneumonia", twin("rsna-pneumonia")).table["patient"]
    part = patients.sample(frac=0.5, random_state=0)
    whole = patient_order(patients, 0)
    assert patient_order(part, 0).tolist() == whole[np.isin(whole, part)].tolist()


def test_lists_of_small_sets_are_kept() -> None:
    for name, question in {
        "shenzhen-tb": "Where is split_zhou_ShenzhenCXR.json?",
        "idrid": "Where is split_zhou_IDRID.json?",
        "busi": "Where do K-MaT's 389, 155 and 236 images come from?",
    }.items():
        assert f"data_manifests/splits/{name}.csv" in asked(name, question)
        kept = pd.read_csv(MANIFESTS / "splits" / f"{name}.csv")["split"].value_counts()
        assert kept.to_dict() == load_manifest(name).counts.splits["default"]


def test_siim_codes(damaged: Twin) -> None:
    root = damaged("siim-acr")
    before = load("siim-acr", root)
    path = root / "stage_2_train.csv"
    text = path.read_text("utf-8")
    assert ",-1" in text and len(text.splitlines()) - 1 > len(before)
    assert "union" in asked("siim-acr", "Why has the table more rows than there are images?")
    assert asked("siim-acr", "What does -1 mean, with or without a blank before it?").startswith("No pneumothorax")
    path.write_text(text.replace(",", ", "), encoding="utf-8")
    assert labels_of(load("siim-acr", root), "Pneumothorax") == labels_of(before, "Pneumothorax")
    assert asked("siim-acr", "How are the run lengths to be read?").startswith("Column by column")
    assert rle_decode("1 2 3 1", 4, 2).T.ravel().tolist() == [0, 1, 1, 0, 0, 0, 1, 0]


def test_siim_stages_and_folders(damaged: Twin) -> None:
    root = damaged("siim-acr")
    complete = load("siim-acr", root)
    top = complete.table["image"].str.partition("/")[0]
    question = "In which folders are the images, and what is in stage_2_images/?"
    assert asked("siim-acr", question).startswith("In dicom-images-train/ and dicom-images-test/")
    assert set(top) == {"dicom-images-train", "dicom-images-test"}
    (root / "stage_2_images").mkdir()
    shutil.copy(complete.image_paths()[0], root / "stage_2_images" / "ID_0a0adf93f.dcm")
    assert load("siim-acr", root).table.equals(complete.table)

    assert asked("siim-acr", "Stage 1 or stage 2, train-rle.csv or stage_2_train.csv?").startswith("Stage 2")
    heading, *rows = (root / "stage_2_train.csv").read_text("utf-8").splitlines()
    first = set(complete.table.loc[top == "dicom-images-train", "study"])
    rows = [row.replace(",", ", ") for row in rows if row.split(",")[0] in first]
    (root / "train-rle.csv").write_text("\n".join([heading.replace(",", ", "), *rows]), encoding="utf-8")
    assert load("siim-acr", root).table.equals(complete.table)
    table = (root / "stage_2_train.csv").rename(root / "kept.csv")
    stage_1 = load("siim-acr", root)
    assert (set(stage_1.table["study"]), stage_1.missing) == (first, 0)

    table.rename(root / "stage_2_train.csv")
    shutil.rmtree(root / "dicom-images-test")
    part = load("siim-acr", root)
    assert (set(part.table["study"]), part.missing) == (first, len(complete) - len(first))
    (root / "PHANTOM.json").unlink()
    report = check("siim-acr", root, quick=True)
    assert (report.verdict, report.exit_status) == (f"subset: {len(first)} of 12047", 0)
    shutil.rmtree(root / "dicom-images-train")
    with pytest.raises(UserError, match="the first would be dicom-images-train/"):
        load("siim-acr", root)


def test_siim_negatives_are_as_many_as_positives(twin: Twin) -> None:
    train = load("siim-acr", twin("siim-acr")).split("train")
    positive = has_outline(train)
    assert asked("siim-acr", "Are images without pneumothorax learnt from?").startswith("As many as there are with one")
    rows = balanced_rows(positive, 0)
    assert positive[rows].mean() == 0.5 and positive[rows].sum() == positive.sum()
    nothing = torch.full((2, 4, 4), -9.0)
    nothing[1, 0, 0] = 9.0
    assert dice_per_image(nothing, torch.zeros(2, 4, 4)).tolist() == [1, 0]


def test_covidx_words_and_missing_images(damaged: Twin) -> None:
    root = damaged("covidx")
    path = root / "train_COVIDx9A.txt"
    lines = path.read_text("utf-8").splitlines()
    meant = asked("covidx", "What do COVID-19, positive and negative mean in the lists?")
    assert meant.startswith("COVID-19 and positive mean the same")
    files = [line.split()[1] for line in lines[:2]]
    lines[:2] = [f"90001 {files[0]} positive sirm", f"90002 {files[1]} negative rsna"]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = load("covidx", root).table.set_index("image")
    assert table.loc[f"train/{files[0]}", ["label:COVID-19", "label:normal"]].tolist() == [1, 0]
    assert table.loc[f"train/{files[1]}", "label:COVID-19"] == 0 and np.isnan(
        table.loc[f"train/{files[1]}", "label:normal"]
    )
    asked("covidx", "Are patients kept apart?")
    assert table.loc[f"train/{files[0]}", "patient"] == "sirm/90001"
    assert "dropped" in asked("covidx", "Why are images of train_COVIDx9A.txt missing from the Kaggle copy?")
    (root / "train" / files[0]).unlink()
    assert load("covidx", root).missing == 1
    assert asked("covidx", "Which edition of COVIDx?").startswith("V9A")
    shutil.copy(path, root / "train.txt")
    (root / "test.txt").write_text("1 absent.png negative x", encoding="utf-8")
    assert len(load("covidx", root)) == len(lines) - 1 + len(
        (root / "test_COVIDx9A.txt").read_text("utf-8").splitlines()
    )


def test_covidx_of_cxr_4_is_refused_unless_it_is_named(damaged: Twin, tmp_path: Path) -> None:
    root = damaged("covidx")
    complete = load("covidx", root)
    answer = asked("covidx", "Kaggle's copy has 84,818 images and a folder val/, is that the data set?")
    assert answer.startswith("No, it is COVIDx CXR-4 of 2023")
    lists = {split: (root / f"{split}_COVIDx9A.txt").read_text("utf-8") for split in ("train", "test")}
    moved = set(complete.split("valid").table["image"].str.removeprefix("train/"))
    rows = lists["train"].splitlines()
    lists["val"] = "\n".join(row for row in rows if row.split()[1] in moved)
    lists["train"] = "\n".join(row for row in rows if row.split()[1] not in moved)
    (root / "val").mkdir()
    for name in moved:
        (root / "train" / name).rename(root / "val" / name)
    for split, text in lists.items():
        text = text.replace(" COVID-19 ", " positive ")
        for name in (" normal ", " pneumonia "):
            text = text.replace(name, " negative ")
        (root / f"{split}.txt").write_text(text, encoding="utf-8")
    with_lists = load("covidx", root)  # those of V9A are still there
    assert (len(with_lists), with_lists.missing) == (len(complete) - len(moved), len(moved))

    (root / "train_COVIDx9A.txt").unlink()
    (root / "PHANTOM.json").unlink()
    with pytest.raises(UserError, match=r"train.txt, val.txt, test.txt\) are those of COVIDx CXR-4, not of covidx V9A"):
        load("covidx", root)
    report = check("covidx", root, quick=True)
    assert (report.verdict, report.exit_status) == ("broken", 1) and "COVIDx CXR-4" in report.to_text()

    raw = yaml.safe_load((MANIFESTS / "covidx.yaml").read_text("utf-8"))
    raw["layout"]["editions"] = [raw["layout"]["others"]["COVIDx CXR-4"]]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    own = load(tmp_path / "mine.yaml", root)
    assert len(own) == len(complete)
    assert set(own.split("valid").table["image"]) == {f"val/{name}" for name in moved}
    assert set(own.split("test").table["image"]) == set(complete.split("test").table["image"])

    (root / "val.txt").unlink()  # what remains is taken for CXR-3
    assert len(load("covidx", root)) == len(complete) - len(moved)


def test_object_cxr_boxes_and_test_images(damaged: Twin) -> None:
    root = damaged("object-cxr")
    table = pd.read_csv(root / "dev.csv", dtype=str)
    table.loc[0, "annotation"] = "2 1 1 5 2 3 9;1 4 4 6 8"
    table.to_csv(root / "dev.csv", index=False)
    assert asked("object-cxr", "How does an ellipse or a polygon become a box?").startswith(
        "As the smallest box around it"
    )
    tests = load("object-cxr", root).split("test").table
    assert tests["boxes"].iloc[0] == [(1, 1, 4, 8), (4, 4, 2, 4)]
    asked("object-cxr", "Which images are tested on?")
    assert len(tests) == len(table)


def test_nih_folders_lists_and_boxes(damaged: Twin) -> None:
    root = damaged("nih-chestxray14")
    before = load("nih-chestxray14", root)
    official = {*(root / "test_list.txt").read_text("utf-8").split()}
    assert "share no patient" in asked(
        "nih-chestxray14", "Is there an official split, and does it keep patients apart?"
    )
    names = before.table["image"].str.rpartition("/")[2]
    assert set(names[before.table["split"] == "test"]) == official
    assert asked("nih-chestxray14", "Must the twelve archives be merged into one folder?").startswith("No")
    (root / "images").mkdir()
    for path in list(root.glob("images_001/images/*")):
        path.rename(root / "images" / path.name)
    for path in list(root.glob("images_002/images/*")):
        path.rename(root / "images_002" / path.name)
    assert len(load("nih-chestxray14", root)) == len(before)
    assert "precedence" in asked("nih-chestxray14", "Why has M-FLAG 6,373 test images?")
    patients = before.split("train").table["patient"].unique()[:3]
    (root / "testSet_PatientID.csv").write_text("\n".join(map(str, patients)), encoding="utf-8")
    assert set(load("nih-chestxray14", root).split("test").table["patient"]) == set(patients)
    assert "without boxes" in asked("nih-chestxray14", "Which images have boxes?")
    assert before.table["boxes"].map(len).any()
    (root / "BBox_List_2017.csv").unlink()
    assert not load("nih-chestxray14", root).table["boxes"].map(len).any()


def test_kermany_val_and_patients(damaged: Twin) -> None:
    root = damaged("kermany")
    assert asked("kermany", "Kaggle's val/ has 16 images: is that the validation set?").startswith("No")
    (root / "chest_xray" / "val" / "NORMAL").mkdir(parents=True)
    image = next((root / "chest_xray" / "train" / "NORMAL").iterdir())
    number = image.name.replace("IM-", "IM-9")
    image.rename(root / "chest_xray" / "val" / "NORMAL" / number)
    table = load("kermany", root).table.set_index("image")
    assert table.loc[f"chest_xray/val/NORMAL/{number}", "patient"].startswith("train/")
    assert asked("kermany", "person1 is in train/ and in test/: is that one patient?").startswith("No")
    numbers = table["patient"].str.split("/", expand=True).groupby(1)[0].nunique()
    assert (numbers == 2).any()


def test_tuberculosis_labels_and_patients(twin: Twin) -> None:
    table = load("shenzhen-tb", twin("shenzhen-tb")).table
    assert asked("shenzhen-tb", "What do _0 and _1 at the end of a file's name mean?").endswith(
        "[classes, layout.prefix]"
    )
    assert (table["label:TB"] == table["image"].str.extract(r"_(\d)\.png$")[0].astype(float)).all()
    root = twin("montgomery-tb")
    table = load("montgomery-tb", root).table
    asked("montgomery-tb", "Are two images of one patient kept together?")
    (root_readings,) = root.rglob("ClinicalReadings")
    told = sum("same pt as" in path.read_text("utf-8") for path in root_readings.glob("*.txt"))
    assert table["patient"].nunique() == len(table) - told


def test_idrid_grades_are_classes_in_order(twin: Twin) -> None:
    assert asked("idrid", "Which class has which number?").startswith("Grade 0 is Normal")
    root = twin("idrid")
    graded = {}
    for path in root.rglob("*Labels.csv"):
        part = "test" if "Testing" in path.name else "train"
        table = pd.read_csv(path, dtype=str).dropna(subset=["Image name"])
        graded |= {(part, name): grade for name, grade in zip(table["Image name"], table["Retinopathy grade"])}
    samples = load("idrid", root)
    found = samples.labels().argmax(axis=1)
    parts = np.where(samples.table["image"].str.contains("Testing"), "test", "train")
    stems = samples.table["image"].map(lambda image: Path(image).stem)
    assert [graded[key] for key in zip(parts, stems)] == found.astype(str).tolist()


def test_isic_columns_and_lesions(damaged: Twin) -> None:
    root = damaged("isic2018")
    before = load("isic2018", root)
    asked("isic2018", "In which order are the classes?")
    (path,) = root.rglob("ISIC2018_Task3_Training_GroundTruth.csv")
    table = pd.read_csv(path)
    table[["image", *reversed(table.columns[1:])]].to_csv(path, index=False)
    assert (load("isic2018", root).labels() == before.labels()).all()
    assert "a lesion counts as a patient" in asked("isic2018", "Can pictures of one lesion be in two splits?")
    train = before.split("train")
    assert train.table["patient"].nunique() < len(train)
    (path,) = root.rglob("*LesionGroupings.csv")
    path.unlink()
    assert load("isic2018", root).table["patient"].is_unique


def test_skin_views_and_cases(twin: Twin) -> None:
    asked("mra-midas", "Which images are dermoscopic, and which are photographs?")
    assert set(load("mra-midas", twin("mra-midas")).table["view"]) == {"dermoscopy", "clinical"}
    assert asked("derm7pt", "Do the two pictures of a case stay together?").startswith("Yes")
    cases = load("derm7pt", twin("derm7pt")).table.groupby("study")
    assert (cases["view"].nunique() == 2).all() and cases["split"].nunique().max() == 1
    assert "metastases" in asked("derm7pt", "How do the owners' many diagnoses become five classes?")
    assert "melanoma metastasis" in load_manifest("derm7pt").layout.diagnoses["MEL"]


def test_ct_slices(twin: Twin) -> None:
    assert asked("cc-ccii", "Which of the 617,000 slices are read?").startswith("Four of each scan")
    assert middle([str(i) for i in range(100)], 4) == ["31", "43", "56", "68"]
    table = load("cc-ccii", twin("cc-ccii")).table
    assert table.groupby(["patient", "study"]).size().max() == 4
    assert asked("cc-ccii", "Is the split by slice or by patient?").startswith("By patient")
    assert table.groupby("patient")["split"].nunique().max() == 1


def test_the_folders_of_the_covid_collection_are_no_split(twin: Twin) -> None:
    assert asked("covid-pneumonia-cxr", "Are the owner's folders train/ and test/ the split?").startswith("No")
    table = load("covid-pneumonia-cxr", twin("covid-pneumonia-cxr")).table
    assert table.groupby(table["image"].str.contains("/test/"))["split"].nunique().tolist() == [3, 3]


def test_breast_classes_and_masks(damaged: Twin) -> None:
    assert asked("dmid", "What is the class of an image with several abnormalities?").startswith("The worst one")
    root = damaged("dmid")
    (path,) = root.rglob("Info.txt")
    first, *_ = (line for line in path.read_text("utf-8").splitlines() if "NORM" in line.split())
    name = first.split()[0]
    path.write_text(path.read_text("utf-8") + f"{name}\tG\tMISC\tB\n{name}\tG\tSPIC\tM\n", encoding="utf-8")
    assert load("dmid", root).table.set_index("patient").loc[name, "label:malignant"] == 1

    asked("busi", "Some images have several masks: which is right?")
    root = damaged("busi")
    table = load("busi", root).table
    outlined = table[table["mask"].str.endswith(".png")].iloc[0]
    first = root / outlined["mask"]
    other = np.zeros_like(read_image(first))
    other[:4] = 255
    Image.fromarray(other).save(first.with_name(first.name.replace("_mask", "_mask_1")))
    drawn = [read_image(file) > 0 for file in sorted(first.parent.glob(f"{first.stem}*.png"))]
    assert len(drawn) == 2
    table = load("busi", root).table
    several = table[table["image"] == outlined["image"]].iloc[0]
    size = drawn[0].shape
    union = sum(rle_decode(code, *size) for code in several["mask"].removeprefix(RLE).split(";")) > 0
    assert (union == np.any(drawn, axis=0)).all()
    assert set(table[table["label:normal"] == 1]["mask"]) == {""}


def test_covid_collection_modalities_and_findings(damaged: Twin) -> None:
    root = damaged("covid-chestxray")
    table = pd.read_csv(root / "metadata.csv", dtype=str).fillna("")
    assert asked("covid-chestxray", "Files of metadata.csv are missing from images/: why?").startswith(
        "They are CT volumes"
    )
    assert set(table["modality"]) > {"X-ray"}
    samples = load("covid-chestxray", root)
    rows = table.set_index("filename").loc[samples.table["study"]]
    assert set(rows["modality"]) == {"X-ray"}
    asked("covid-chestxray", "What does the finding todo mean?")
    todo = (rows["finding"] == "todo").to_numpy()
    assert todo.any() and samples.table.loc[todo, "label:COVID-19"].isna().all() and not samples.labels()[todo].any()
    assert "COVID-19 among them" in asked("covid-chestxray", "Which classes does Pneumonia hold?")
    sick = samples.subset(samples.table["label:COVID-19"] == 1)
    assert len(sick) and set(labels_of(sick, "Pneumonia")) == {1}

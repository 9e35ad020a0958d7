"""The data sets with boxes, masks or a class of three: what is read is what is to be seen, in every edition."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from nbcore.data import load
from nbcore.data.images import read_image
from nbcore.data.manifest import load_manifest
from nbcore.data.masks import boxes_in_square, masks, rle_decode
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins import write_twin
from nbcore.data.phantom.twins.cast import draw_cast, outlines
from nbcore.data.phantom.twins.rsna import agreed
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint
from nbcore.errors import UserError

IMAGES, SIZE = 100, 32  # of each twin
Twin = Callable[[str], Path]
Studies = Callable[[str], list[world.ChestStudy]]


def _shown(samples: Samples, studies: list[world.ChestStudy]) -> tuple[list[world.ChestStudy], chest.ChestImages]:
    """The study each image shows, found by its pixels, and its drawing."""
    read = np.stack([read_image(path) for path in samples.image_paths()]).reshape(IMAGES, -1).astype(np.float32)
    drawn = chest.render(studies, SIZE).images.reshape(IMAGES, -1).astype(np.float32)
    match = [int(np.argmin(((drawn - picture) ** 2).sum(axis=1))) for picture in read]
    assert sorted(match) == list(range(IMAGES))
    shown = [studies[i] for i in match]
    return shown, chest.render(shown, SIZE)


# --- what is read is what is to be seen


def test_siim_masks_are_the_phantom_s(twin: Twin, studies: Studies) -> None:
    samples = load("siim-acr", twin("siim-acr"))
    _, drawn = _shown(samples, studies("siim-acr"))
    assert (masks(samples, SIZE) == drawn.masks["pneumothorax"]).all()
    assert (samples.labels()[:, 0] == drawn.masks["pneumothorax"].any(axis=(1, 2))).all()
    assert samples.table["mask"].str.contains(";").any() and (samples.table["mask"] == "").any()


def test_rsna_boxes_enclose_the_pneumonia(twin: Twin, studies: Studies) -> None:
    samples = load("rsna-pneumonia", twin("rsna-pneumonia"))
    shown, drawn = _shown(samples, [agreed(study) for study in studies("rsna-pneumonia")])
    seen = drawn.masks["pneumonia"] | drawn.masks["consolidation"]
    filled = masks(samples, SIZE).astype(bool)
    label = samples.labels()[:, 0] == 1
    assert (label == [bool(boxes) for boxes in samples.table["boxes"]]).all()
    assert (seen & ~filled).sum() < 0.02 * seen.sum()
    assert not filled[~seen.any(axis=(1, 2))].any()
    sick = np.array([bool(study.find("pneumonia") or study.find("consolidation")) for study in shown])
    assert not (label & ~sick).any() and label.sum() >= 0.9 * sick.sum()
    for boxes, mask in zip(boxes_in_square(samples, SIZE), seen):
        for x, y, w, h in boxes.astype(int):
            inside = mask[y : y + h, x : x + w]
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_rsna_finer_classes_agree_with_the_boxes(twin: Twin) -> None:
    root = twin("rsna-pneumonia")
    details = pd.read_csv(root / "stage_2_detailed_class_info.csv").drop_duplicates().set_index("patientId")["class"]
    samples = load("rsna-pneumonia", root)
    finer = details[samples.table["patient"]].to_numpy()
    assert ((finer == "Lung Opacity") == (samples.labels()[:, 0] == 1)).all()
    assert {"Normal", "No Lung Opacity / Not Normal"} <= set(finer)


def test_object_cxr_boxes_enclose_the_objects(twin: Twin, studies: Studies) -> None:
    """Also what the twin adds to the phantom's one object lies in boxes: nothing else in the picture is as bright."""
    samples = load("object-cxr", twin("object-cxr"))
    _, drawn = _shown(samples, studies("object-cxr"))
    filled = masks(samples, SIZE).astype(bool)
    first = drawn.masks["foreign_object"]
    missed = first & ~filled
    assert missed.sum(axis=(1, 2)).max() <= 1  # an object of one pixel is not outlined
    assert (samples.labels()[:, 0] == filled.any(axis=(1, 2))).all()
    assert max(map(len, samples.table["boxes"])) > 1
    text = ";".join(pd.concat([pd.read_csv(path) for path in twin("object-cxr").glob("*.csv")])["annotation"].dropna())
    assert {outline.split()[0] for outline in text.split(";")} == {"0", "1", "2"}


def test_covidx_classes_are_the_phantom_s(twin: Twin, studies: Studies) -> None:
    samples = load("covidx", twin("covidx"))
    present = world.labels(_shown(samples, studies("covidx"))[0])
    covid, pneumonia = present["covid"] == 1, present["pneumonia"] == 1
    expected = np.stack([~covid & ~pneumonia, pneumonia & ~covid, covid], axis=1)
    assert (samples.labels() == expected).all() and (samples.labels().sum(axis=1) == 1).all()
    test = samples.split("test").table["image"]
    assert len(test) and test.str.startswith("test/").all()
    assert samples.table["patient"].str.fullmatch(r"(cohen|rsna|bimcv)/\d+").all()


def test_twins_hold_every_form_of_dicom(twin: Twin) -> None:
    for name in ("rsna-pneumonia", "siim-acr"):
        records = [pydicom.dcmread(path) for path in twin(name).rglob("*.dcm")]
        forms = [
            (r.PhotometricInterpretation, r.BitsStored, r.file_meta.TransferSyntaxUID.is_compressed) for r in records
        ]
        assert forms.count(("MONOCHROME2", 8, False)) > 0.6 * IMAGES
        assert {("MONOCHROME1", 8, False), ("MONOCHROME2", 12, False), ("MONOCHROME2", 8, True)} <= set(forms)


@pytest.mark.parametrize("name", ["rsna-pneumonia", "siim-acr", "object-cxr"])
def test_twins_whose_images_stand_for_patients_have_one_study_each(name: str, studies: Studies) -> None:
    assert len(studies(name)) == len({study.patient for study in studies(name)}) == IMAGES
    assert len(draw_cast(load_manifest(name), 41, SIZE, 0).studies) == 41


@pytest.mark.parametrize(
    ("name", "findings", "low", "high"),
    [
        ("rsna-pneumonia", ["pneumonia", "consolidation"], 0.3, 0.45),
        ("siim-acr", ["pneumothorax"], 0.25, 0.35),
        ("object-cxr", ["foreign_object"], 0.45, 0.55),
        ("covidx", ["covid"], 0.3, 0.42),
    ],
)
def test_positives_are_as_frequent_as_intended(name: str, findings: list[str], low: float, high: float) -> None:
    present = world.labels(draw_cast(load_manifest(name), 1000, SIZE, 0).studies)
    assert low < np.any([present[finding] for finding in findings], axis=0).mean() < high


def test_outlines_join_pieces_and_drop_specks() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:5, 3:6] = mask[6, 4] = True  # one row between the two
    mask[15, 15] = True
    mask[10:12, 12:19] = True
    assert outlines(mask, 2) == [(3, 2, 3, 5), (12, 10, 7, 2)]
    assert outlines(mask, 1)[2] == (15, 15, 1, 1)
    assert outlines(np.zeros((5, 5), bool), 1) == []


# --- other editions, and rows as the owners write them


def test_rsna_rows_of_an_image_are_its_boxes(damaged: Twin) -> None:
    root = damaged("rsna-pneumonia")
    names = sorted(path.stem for path in (root / "stage_2_train_images").iterdir())
    rows = [f"{names[0]},1.0,2.0,3.0,4.0,1", *(f"{name},,,,,0" for name in names[1:]), f"{names[0]},5.5,6.0,7.0,8.0,1"]
    (root / "stage_2_train_labels.csv").write_text("\n".join(["patientId,x,y,width,height,Target", *rows]))
    samples = load("rsna-pneumonia", root)
    assert len(samples) == IMAGES and samples.labels().sum() == 1
    assert samples.table["boxes"].iloc[0] == [(1, 2, 3, 4), (5.5, 6, 7, 8)]
    assert samples.table["boxes"].iloc[1] == []


def test_rsna_rows_of_an_image_agree_on_its_target(damaged: Twin) -> None:
    root = damaged("rsna-pneumonia")
    path = root / "stage_2_train_labels.csv"
    table = pd.read_csv(path)
    positive = table[table["Target"] == 1].iloc[[0]]
    for target in (0, np.nan):
        pd.concat([table, positive.assign(x=1, Target=target)]).to_csv(path, index=False)
        message = f"{path}: the rows of {positive['patientId'].iloc[0]!r} have different Target"
        assert message in _told("rsna-pneumonia", root)


@pytest.mark.parametrize(("heading", "space"), [("ImageId, EncodedPixels", " "), ("ImageId,EncodedPixels", "")])
def test_siim_rows_of_an_image_are_united(heading: str, space: str, damaged: Twin) -> None:
    root = damaged("siim-acr")
    names = sorted(path.stem for path in root.rglob("*.dcm"))
    codes = [(names[0], "3 4 10 2"), (names[0], "0 5"), *((name, "-1") for name in names[1:])]
    (root / "stage_2_train.csv").write_text("\n".join([heading, *(f"{name},{space}{code}" for name, code in codes)]))
    samples = load("siim-acr", root)
    assert samples.table["mask"].iloc[0] == "rle:3 4 10 2;0 5" and (samples.table["mask"].iloc[1:] == "").all()
    assert samples.labels()[:, 0].tolist() == [1] + [0] * (IMAGES - 1)
    both = rle_decode("3 4 10 2", SIZE, SIZE) | rle_decode("0 5", SIZE, SIZE)
    assert (masks(samples, SIZE)[0] == both).all()


def test_siim_lies_in_two_folders_flat_or_deep(damaged: Twin) -> None:
    root = damaged("siim-acr")
    before = load("siim-acr", root)
    seen = masks(before, SIZE)
    tops = before.table["image"].str.partition("/")[0]
    assert tops.value_counts().to_dict() == {"dicom-images-train": IMAGES - 11, "dicom-images-test": 11}
    for path, top in zip(before.image_paths(), tops):
        path.rename(root / top / path.name)
    after = load("siim-acr", root)
    assert (after.labels() == before.labels()).all() and (masks(after, SIZE) == seen).all()
    assert (after.table["split"] == before.table["split"]).all()
    assert after.table["image"].str.fullmatch(r"dicom-images-(train|test)/2\.25\.\d+\.dcm").all()


def test_siim_image_without_a_row_was_not_annotated(damaged: Twin) -> None:
    root = damaged("siim-acr")
    lines = (root / "stage_2_train.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] != lines[1].split(",")[0]]
    (root / "stage_2_train.csv").write_text("\n".join(kept))
    samples = load("siim-acr", root)
    assert (len(samples), samples.missing) == (IMAGES - 1, 0)


def test_covidx_of_two_classes_leaves_the_others_open(damaged: Twin) -> None:
    root = damaged("covidx")
    covid = load("covidx", root).table.set_index("image")["label:COVID-19"]
    for split in ("train", "test"):
        text = (root / f"{split}_COVIDx9A.txt").read_text()
        text = text.replace(" COVID-19 ", " positive ").replace(" normal ", " negative ")
        (root / f"{split}.txt").write_text(text.replace(" pneumonia ", " negative "))
    (root / "test_COVIDx9A.txt").unlink()  # half an edition is none
    samples = load("covidx", root)
    assert (samples.table.set_index("image")["label:COVID-19"] == covid).all()
    positive = (samples.table["label:COVID-19"] == 1).to_numpy()
    others = samples.table[["label:normal", "label:pneumonia"]].to_numpy()
    assert (others[positive] == 0).all() and np.isnan(others[~positive]).all()


def test_covidx_without_sources_and_with_blanks_in_names(damaged: Twin) -> None:
    root = damaged("covidx")
    image = load("covidx", root).split("train").image_paths()[0]
    image.rename(image.with_name("COVID 19 (1).png"))
    (root / "train_COVIDx9A.txt").write_text(
        "7 COVID 19 (1).png COVID-19 sirm\n\n"
        + (root / "train_COVIDx9A.txt").read_text().replace(" cohen\n", "\n").replace(" bimcv\n", "\n")
    )
    samples = load("covidx", root)
    row = samples.table[samples.table["image"] == "train/COVID 19 (1).png"].iloc[0]
    assert (row["patient"], row["label:COVID-19"], row["label:normal"]) == ("sirm/7", 1, 0)
    assert_disjoint(samples.table)


def test_object_cxr_outlines_become_boxes(damaged: Twin) -> None:
    root = damaged("object-cxr")
    lines = (root / "dev.csv").read_text().splitlines()
    names = [line.split(",")[0] for line in lines[1:]]
    told = ["0 2 3 8 9;1 4 5 6 10", "2 9 9 3 12 5 4 20 6;", ""]
    rows = [f"/path/{name},{text}" for name, text in zip(names, told)] + [f"{name}," for name in names[3:]]
    (root / "dev.csv").write_text("\n".join([lines[0], *rows]))
    test = load("object-cxr", root).split("test").table
    assert test["boxes"].iloc[:3].tolist() == [[(2, 3, 6, 6), (4, 5, 2, 5)], [(3, 4, 17, 8)], []]
    assert test["label:Foreign object"].tolist() == [1, 1] + [0] * (len(names) - 2)


# --- mistakes


def _told(name: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("rsna-pneumonia", "stage_2_train_labels.csv", "Target", "Targets", "has no column 'Target' (did you mean"),
        ("rsna-pneumonia", "stage_2_train_labels.csv", ",,,,0", ",,9,,0", "lacks a side; fetch"),
        ("rsna-pneumonia", "stage_2_train_labels.csv", ",,,,0", ",a,,,0", "column 'y' holds 'a', which is no number"),
        ("siim-acr", "stage_2_train.csv", "EncodedPixels", "Pixels", "has no column 'EncodedPixels'"),
        ("siim-acr", "stage_2_train.csv", ",-1", ",3 4 5", "is neither -1 nor pairs of offset and length"),
        ("covidx", "train_COVIDx9A.txt", " normal ", " well ", "is not a patient, a file and one of normal, pneumonia"),
        ("object-cxr", "train.csv", "annotation", "notes", "train.csv has no column 'annotation'"),
    ],
)
def test_a_damaged_table(name: str, file: str, old: str, new: str, message: str, damaged: Twin) -> None:
    path = damaged(name) / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert message in _told(name, path.parent)
    path.write_text("")
    assert f"{file} is empty" in _told(name, path.parent)
    path.unlink()
    assert file in _told(name, path.parent)


@pytest.mark.parametrize("outline", [
    "3 1 1 2 2", "0 1 1 2", "1 1 2 3 4 5 6", "2 1 1 2 2", "0 a 1 2 2", "0",
    "2 2 2 nan 20 20 20 9 9", "0 1 1 inf 2", "0 1 1 1_0 20", "0 1 1 ²0 20", "NA", "None", "nan"])  # fmt: skip
def test_an_outline_of_no_known_kind(outline: str, damaged: Twin) -> None:
    root = damaged("object-cxr")
    first, second, *_ = (root / "dev.csv").read_text().splitlines()
    image = second.split(",")[0]
    (root / "dev.csv").write_text(f"{first}\n{image},{outline}\n")
    assert f"the annotation of {image!r} has an unknown outline {outline!r}" in _told("object-cxr", root)


def test_covidx_classes_of_the_layout_are_the_manifest_s(damaged: Twin) -> None:
    manifest = load_manifest("covidx")
    layout = manifest.layout.model_copy(update={"classes": {"normal": {"nromal": 1}}})
    with pytest.raises(UserError, match=r"layout\.classes: no class 'nromal' \(did you mean 'normal'"):
        load(manifest.model_copy(update={"layout": layout}), damaged("covidx"))


def test_an_image_or_a_patient_in_two_splits(damaged: Twin) -> None:
    root = damaged("covidx")
    first, *_ = (root / "train_COVIDx9A.txt").read_text().splitlines()
    with (root / "test_COVIDx9A.txt").open("a") as file:
        file.write(first + "\n")
    shutil.copy(root / "train" / first.split()[1], root / "test" / first.split()[1])
    assert "is in two splits" in _told("covidx", root)


def test_an_image_of_two_patients_in_two_splits(damaged: Twin) -> None:
    root = damaged("covidx")
    manifest = load_manifest("covidx")
    layout = manifest.layout.model_copy(update={"folders": {"train": "train", "test": "train"}})
    file = (root / "train_COVIDx9A.txt").read_text().split()[1]
    with (root / "test_COVIDx9A.txt").open("a") as lines:
        lines.write(f"999 {file} normal cohen\n")
    with pytest.raises(UserError, match=f"the image 'train/{file}' is in two splits"):
        load(manifest.model_copy(update={"layout": layout}), root)


@pytest.mark.parametrize("images", [48, 80])
def test_a_list_of_boxes_may_hold_none(images: int, tmp_path: Path) -> None:
    root = write_twin("nih-chestxray14", tmp_path / "twin", images, 32)
    (root / "BBox_List_2017.csv").write_text((root / "BBox_List_2017.csv").read_text().splitlines()[0] + "\n")
    assert not load("nih-chestxray14", root).table["boxes"].map(len).any()

"""DMID and BUSI: classes, masks, splits as the owners lay them out, and the grey twins of one world."""

import json
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
from nbcore.data.masks import masks, rle_decode
from nbcore.data.phantom import breast, mammography, ultrasound
from nbcore.data.phantom.twins import write_twin
from nbcore.data.readers import MARKER
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.errors import UsageError, UserError

IMAGES, SIZE, SEED = 100, 32, 3  # of each twin
MODALITIES = {"dmid": mammography, "busi": ultrasound}
INFO = Path("TIFF Images") / "TIFF Images" / "Info.txt"
BUSI = Path("Dataset_BUSI_with_GT")
Twin = Callable[[str], Path]


def _told(name: str | Manifest, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _positions(samples: Samples) -> np.ndarray:
    labels = samples.labels()
    assert (labels.sum(axis=1) == 1).all()
    return labels.argmax(axis=1)


def _shown(samples: Samples, cast: list) -> list[int]:
    """The study each picture of a twin shows."""
    drawn = [picture.tobytes() for picture in MODALITIES[samples.name].render(cast, SIZE)]
    pictures = [Image.open(path) for path in samples.image_paths()]
    assert {(picture.mode, picture.size) for picture in pictures} == {("L", (SIZE, SIZE))}
    return [drawn.index(np.asarray(picture).tobytes()) for picture in pictures]


# --- both


@pytest.mark.parametrize("name", MODALITIES)
def test_twins_show_what_their_labels_and_masks_say(name: str, twin: Twin, studies: Callable[[str], list]) -> None:
    samples, cast = load(name, twin(name)), studies(name)
    assert samples.classes == breast.CLASSES and len(samples) == IMAGES
    order = _shown(samples, cast)
    assert sorted(order) == list(range(IMAGES))
    assert _positions(samples).tolist() == [cast[i].label for i in order]
    drawn = MODALITIES[name].outline([cast[i] for i in order], SIZE)
    assert (masks(samples, SIZE) == drawn).all() and drawn.any((1, 2)).sum() > 40
    normal = _positions(samples) == breast.CLASSES.index("normal")
    assert ((samples.table["mask"] == "") == normal).all()


@pytest.mark.parametrize("name", MODALITIES)
def test_twins_have_every_class_in_every_split_and_in_no_order(name: str, tmp_path: Path) -> None:
    root = write_twin(name, tmp_path / "twin", 300, 16)
    samples = load(name, root)
    assert_disjoint(samples.table)
    found = pd.crosstab(samples.table["split"], _positions(samples))
    assert found.shape == (3, 3) and found.to_numpy().min() >= 4
    prevalence = load_manifest(name).twin.prevalence
    for share, label in zip(samples.labels().mean(0), samples.classes):
        assert abs(share - prevalence[label]) < 0.1
    number = samples.table["image"].str.extract(r"(\d+)\)?\.\w+$", expand=False).astype(int)
    if name == "dmid":  # those of BUSI count in each class
        for column in samples.labels().T:
            assert abs(np.corrcoef(number, column)[0, 1]) < 4 / np.sqrt(300)
    assert number.is_unique == (name == "dmid")
    other = write_twin(name, tmp_path / "again", 300, 16)
    assert load(name, other).fingerprint() == samples.fingerprint()


@pytest.mark.parametrize("name", MODALITIES)
def test_a_drawn_split_has_the_sizes_of_the_manifest(name: str) -> None:
    manifest = load_manifest(name)
    patients = pd.Series(range(manifest.counts.images)).astype(str)
    split = assign_splits(patients, pd.Series("train", patients.index), manifest, Path("nowhere"))
    assert {part: (split == part).sum() for part in ("train", "valid", "test")} == manifest.counts.splits["default"]


@pytest.mark.parametrize("name", MODALITIES)
def test_label_noise_reaches_the_twins_and_masks_do_not_tell_it(
    name: str, studies: Callable[[str], list], tmp_path: Path
) -> None:
    manifest = load_manifest(name)
    noisy = manifest.model_copy(update={"twin": manifest.twin.model_copy(update={"label_noise": 0.4})})
    samples = load(noisy, write_twin(noisy, tmp_path / "twin", IMAGES, SIZE, SEED))
    cast = studies(name)
    shown = [cast[i] for i in _shown(samples, cast)]
    assert 0.1 < (_positions(samples) != [study.label for study in shown]).mean() < 0.45


@pytest.mark.parametrize("name", MODALITIES)
def test_the_world_and_the_classes_are_the_breast_s(name: str, tmp_path: Path) -> None:
    manifest = load_manifest(name)
    chest = manifest.model_copy(update={"twin": manifest.twin.model_copy(update={"world": "chest"})})
    with pytest.raises(UsageError, match="with 'breast' only"):
        write_twin(chest, tmp_path / "twin", IMAGES, SIZE)
    with pytest.raises(UsageError, match="writes the classes benign, malignant, normal only"):
        write_twin(manifest.model_copy(update={"classes": ("benign", "other")}), tmp_path / "twin", IMAGES, SIZE)


@pytest.mark.parametrize(
    ("name", "mark"), [("dmid", "Info.txt is missing"), ("busi", "expected Dataset_BUSI_with_GT/")]
)
def test_an_empty_root_is_told(name: str, mark: str, tmp_path: Path) -> None:
    message = _told(name, tmp_path)
    assert f"no {name} data under" in message and mark in message and "is this the right root?" in message


# --- DMID


def test_dmid_class_is_the_worst_abnormality(damaged: Twin) -> None:
    root = damaged("dmid")
    listed = """\
DMID: image tissue abnormality class x y radius

IMG001 G CIRC B 10 12 4
IMG002 D NORM
IMG003 - CALC B
IMG003 - SPIC M 9 9 3
IMG003 - MISC B 1 2 3
IMG004 F ASYM N
IMG004 F CIRC B 8 8 -
IMG005 F NORM N
"""
    (root / INFO).write_text(listed)
    samples = load("dmid", root)
    names = [samples.classes[position] for position in _positions(samples)]
    assert dict(zip(samples.table["study"], names)) == {
        "IMG001": "benign", "IMG002": "normal", "IMG003": "malignant", "IMG004": "benign", "IMG005": "normal",
    }  # fmt: skip
    assert samples.table["patient"].is_unique and samples.table["boxes"].map(len).eq(0).all()
    assert (samples.table.loc[samples.labels()[:, 2] == 1, "mask"] == "").all()


def test_dmid_with_a_column_of_views(damaged: Twin) -> None:
    root = damaged("dmid")
    before = load("dmid", root)
    lines = [line.replace("\t", "\tMLO\t", 1) for line in (root / INFO).read_text().splitlines()]
    (root / INFO).write_text("\n".join(lines))
    manifest = load_manifest("dmid")
    columns = {"columns": ("image", "view", "tissue", "abnormality", "class")}
    manifest = manifest.model_copy(update={"layout": manifest.layout.model_copy(update=columns)})
    pd.testing.assert_frame_equal(load(manifest, root).table, before.table)


def test_dmid_unpacked_without_inner_folders(damaged: Twin) -> None:
    root = damaged("dmid")
    before = load("dmid", root).table
    for home in ("TIFF Images", "ROI Masks"):
        for path in (root / home / home).iterdir():
            path.rename(root / home / path.name)
    after = load("dmid", root).table
    pd.testing.assert_frame_equal(after.drop(columns=["image", "mask"]), before.drop(columns=["image", "mask"]))
    for column, home in (("image", "TIFF Images"), ("mask", "ROI Masks")):
        assert (after[column] == before[column].str.replace(f"{home}/{home}", home)).all()
    (root / "TIFF Images" / "IMG004.tif").unlink()
    shutil.rmtree(root / "ROI Masks")
    less = load("dmid", root)
    assert less.missing == 1 and len(less) == IMAGES - 1 and (less.table["mask"] == "").all()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("IMG003 G CIRC X 1 2 3", "row 3: the class of IMG003 is 'X', not one of M, B, N"),
        ("IMG003 G CIRC", "row 3: the line of IMG003 ends before its class"),
        ("IMG003", "row 3: the line of IMG003 ends before its class"),
    ],
)
def test_dmid_lines_that_are_wrong(line: str, told: str, damaged: Twin) -> None:
    root = damaged("dmid")
    lines = (root / INFO).read_text().splitlines()
    (root / INFO).write_text("\n".join([*lines[:2], line, *lines[3:]]))
    assert f"{root / INFO}, {told}" in _told("dmid", root)


def test_dmid_lists_that_are_no_lists(damaged: Twin) -> None:
    root = damaged("dmid")
    (root / INFO).write_text("fetched from elsewhere\n")
    assert f"{root / INFO} names no image" in _told("dmid", root)
    (root / INFO).write_bytes(b"IMG001\xff G NORM\n")
    assert "is not UTF-8 text (row 1)" in _told("dmid", root)


def test_dmid_masks_are_pictures_and_one_each(damaged: Twin) -> None:
    root = damaged("dmid")
    before = load("dmid", root).table
    mask, other = (root / file for file in before.loc[before["mask"] != "", "mask"].iloc[:2])
    mask.with_suffix(".txt").write_text("notes")
    Image.open(other).save(mask.with_suffix(".png"))
    again = root / "ROI Masks" / "again" / mask.name
    again.parent.mkdir()
    shutil.copy(mask, again)  # unpacked twice
    after = load("dmid", root).table
    pd.testing.assert_frame_equal(after.drop(columns="mask"), before.drop(columns="mask"))
    changed = after["mask"] != before["mask"]
    assert (after.loc[changed, "mask"] == again.relative_to(root).as_posix()).all() and changed.sum() <= 1
    shutil.copy(other, again)
    assert "are two different masks of one image" in (message := _told("dmid", root)) and str(again) in message
    again.unlink()
    mask.unlink()  # a copy whose masks were converted
    file = load("dmid", root).table.set_index("study")["mask"][mask.stem]
    assert root / file == mask.with_suffix(".png")


# --- BUSI


def _as_biomedcoop(root: Path) -> Path:
    """The same data in the other layout."""
    home = root / "BUSI" / "BUSI"
    for name, folder in zip(breast.CLASSES, ("benign_tumor", "malignant_tumor", "normal_scan")):
        (home / folder).parent.mkdir(parents=True, exist_ok=True)
        (root / BUSI / name).rename(home / folder)
    (root / BUSI).rmdir()
    return home


def test_busi_in_the_layout_of_biomedcoop(damaged: Twin) -> None:
    root = damaged("busi")
    before = load("busi", root).table
    home = _as_biomedcoop(root)
    for inside in (root, root / "BUSI", home):
        if inside != root:
            shutil.copy(root / MARKER, inside)
        after = load("busi", inside).table
        pd.testing.assert_frame_equal(after.drop(columns=["image", "mask"]), before.drop(columns=["image", "mask"]))
    assert load("busi", root).table["image"].str.startswith("BUSI/BUSI/benign_tumor/benign (").sum() == sum(
        before["label:benign"] == 1
    )


def test_busi_s_published_split_wins(damaged: Twin) -> None:
    root = damaged("busi")
    table = load("busi", root).table
    images = np.random.default_rng(0).permutation(table["image"].to_numpy())[:60]
    folder = {"benign": "benign_tumor", "malignant": "malignant_tumor", "normal": "normal_scan"}
    paths = [f"{folder[Path(image).parent.name]}/{Path(image).name}" for image in images]
    items = [[path, 0, path.partition("/")[0].replace("_", " ")] for path in paths]
    lists = {"train": items[:30], "val": items[30:40], "test": items[40:]}
    (root / "split_BUSI.json").write_text(json.dumps(lists))
    listed = load("busi", root)
    assert listed.table["image"].tolist() == images.tolist() and listed.missing == 0
    assert listed.table["split"].tolist() == ["train"] * 30 + ["valid"] * 10 + ["test"] * 20
    labels = table.set_index("image").filter(like="label:").loc[images]
    assert (listed.labels() == labels.to_numpy()).all()


def test_busi_splits_that_do_not_fit(damaged: Twin) -> None:
    root = damaged("busi")
    path = root / "split_BUSI.json"
    path.write_text("{'train': []}")
    assert f"cannot read {path}" in _told("busi", root)
    for wrong in ([], {"train": [["benign/benign (1).png"]]}, {"training": [["a.png", 0, "b"]]}, {"train": 3}):
        path.write_text(json.dumps(wrong))
        assert f"{path} does not hold lists of [path, label, class] named train, val and test" in _told("busi", root)
    path.write_text(json.dumps({"train": [["benign/benign (999).png", 0, "benign"]]}))
    assert f"{path} lists none of the images under {root / BUSI}" in _told("busi", root)
    lists = {part: [[f"benign/benign ({number}).png", 0, "benign"]] for part, number in (("train", 1), ("val", 2))}
    path.write_text(json.dumps({**lists, "test": lists["train"]}))
    assert "patient 'benign (1).png' is in two splits" in _told("busi", root)


def test_busi_masks_of_several_lesions_are_united(damaged: Twin) -> None:
    root = damaged("busi")
    first = root / BUSI / "benign" / "benign (1)_mask.png"
    second = np.zeros((SIZE, SIZE), np.uint8)
    second[:5, 20:] = 255
    Image.fromarray(second).save(first.with_name("benign (1)_mask_1.png"))
    samples = load("busi", root)
    row = samples.table.index[samples.table["study"] == "benign (1).png"][0]
    told = samples.table["mask"][row]
    assert told.startswith("rle:") and told.count(";") == 1 and len(samples) == IMAGES
    codes = told.removeprefix("rle:").split(";")
    assert {rle_decode(code, SIZE, SIZE).sum() for code in codes} == {60, (np.asarray(Image.open(first)) > 0).sum()}
    united = masks(samples.subset([row]), SIZE)[0]
    assert (united == ((np.asarray(Image.open(first)) > 0) | (second > 0))).all()
    first.unlink()
    alone = load("busi", root).table["mask"][row]
    assert alone == (BUSI / "benign" / "benign (1)_mask_1.png").as_posix()


@pytest.mark.parametrize("shape", [(SIZE // 2, SIZE // 2), (SIZE // 2, 2 * SIZE), (0, 0)])
def test_busi_masks_of_several_sizes_are_told(shape: tuple[int, int], damaged: Twin) -> None:
    """The data set is read all the same; who opens the mask, and the check, is told."""
    root = damaged("busi")
    second = root / BUSI / "benign" / "benign (1)_mask_1.png"
    if shape == (0, 0):
        second.write_bytes(b"no picture")
    else:
        Image.fromarray(np.eye(*shape, dtype=np.uint8)).save(second)
    samples = load("busi", root)
    row = samples.table.index[samples.table["study"] == "benign (1).png"]
    message = f"the mask {second} is {shape[1]} x {shape[0]} pixels, its image" if shape[0] else "cannot read the image"
    with pytest.raises(UserError) as caught:
        masks(samples.subset(row), SIZE)
    assert message in str(caught.value)
    report = check("busi", root, jobs=1)
    assert report.verdict == "broken" and [message in problem for problem in report.problems] == [True]


def test_busi_of_two_masks_one_may_be_black(damaged: Twin) -> None:
    root = damaged("busi")
    first = root / BUSI / "benign" / "benign (1)_mask.png"
    second = first.with_name("benign (1)_mask_1.png")
    Image.new("L", (SIZE, SIZE)).save(second)
    samples = load("busi", root)
    row = samples.table.index[samples.table["study"] == "benign (1).png"]
    assert "-" not in samples.table["mask"][row[0]]
    assert (masks(samples.subset(row), SIZE)[0] == (np.asarray(Image.open(first)) > 0)).all()
    shutil.copy(second, first)
    assert not masks(load("busi", root).subset(row), SIZE).any()


def test_busi_takes_only_what_is_called_as_the_owner_calls_it(damaged: Twin) -> None:
    root = damaged("busi")
    before = load("busi", root).table
    home = root / BUSI / "benign"
    for stray in ("benign (1)_mask - Copy.png", "benign (1) - Copy.png", "benign (1) (1).png"):
        shutil.copy(home / "benign (1).png", home / stray)
    report = check("busi", root, jobs=1)
    assert (report.verdict, report.unnamed.extra) == ("complete", 3)
    (home / "._benign (1).png").write_bytes(b"\0\5\x16\7")
    pd.testing.assert_frame_equal(load("busi", root).table, before)
    foreign = home / "malignant (1).png"
    shutil.copy(root / BUSI / "malignant" / "malignant (1).png", foreign)
    assert f"{foreign} is called malignant and lies among the benign ones: move it" in _told("busi", root)


def test_busi_in_capitals_and_under_other_names(damaged: Twin) -> None:
    root = damaged("busi")
    before = load("busi", root).table
    home = root / BUSI / "benign"
    (home / "benign (1).png").rename(home / "benign (1).PNG")
    (home / "benign (1)_mask.png").rename(home / "benign (1)_mask.PNG")
    after = load("busi", root).table
    assert (after["study"] == before["study"]).all() and (after["split"] == before["split"]).all()
    one = after[after["study"] == "benign (1).png"].iloc[0]
    assert (one["image"], one["mask"]) == (f"{BUSI}/benign/benign (1).PNG", f"{BUSI}/benign/benign (1)_mask.PNG")
    for path in list(home.iterdir()):  # as some other copy may call them
        path.rename(home / path.name.lower().replace("benign (", "us_").replace(")", ""))
    other = load("busi", root).table
    assert len(other) == len(before) and (other["mask"] != "").sum() == (before["mask"] != "").sum()


def test_busi_in_a_folder_called_as_its_archive(damaged: Twin) -> None:
    root = damaged("busi")
    before = load("busi", root).table
    (root / "Dataset_BUSI").mkdir()
    (root / BUSI).rename(root / "Dataset_BUSI" / BUSI)
    after = load("busi", root).table
    pd.testing.assert_frame_equal(after.drop(columns=["image", "mask"]), before.drop(columns=["image", "mask"]))
    assert check("busi", root, jobs=1).verdict == "complete"


def test_busi_without_a_class_or_all(damaged: Twin) -> None:
    root = damaged("busi")
    before = load("busi", root)
    paths = [[image.removeprefix(f"{BUSI}/"), 0, ""] for image in before.table["image"]]
    shutil.rmtree(root / BUSI / "malignant")
    malignant = before.table["label:malignant"] == 1
    samples = load("busi", root)
    assert len(samples) == (~malignant).sum() and (samples.table["label:malignant"] == 0).all()
    (root / "split_BUSI.json").write_text(json.dumps({"train": paths[::2], "val": paths[1::4], "test": paths[3::4]}))
    listed = load("busi", root)
    assert (len(listed), listed.missing) == (len(samples), malignant.sum())
    for name in ("benign", "normal"):
        shutil.rmtree(root / BUSI / name)
        (root / BUSI / name).mkdir()
    message = _told("busi", root)
    assert "no .png images under" in message and "Dataset_BUSI_with_GT/malignant or" in message

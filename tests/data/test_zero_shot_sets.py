"""PadChest and CheXlocalize: whose labels count, who may be tested on, where images and outlines are."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from nbcore.data import load
from nbcore.data.images import read_image
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.masks import masks, rle_decode
from nbcore.data.phantom import chest, world
from nbcore.data.phantom.twins import write_twin
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint, assign_splits
from nbcore.errors import UsageError, UserError

IMAGES, SIZE = 100, 32  # of each twin
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
Twin = Callable[[str], Path]
Studies = Callable[[str], list[world.ChestStudy]]


def _shown(samples: Samples, studies: list[world.ChestStudy], stretched: bool = True) -> list[world.ChestStudy]:
    """The study each image shows, found by its pixels: those of a file of 16 bits are stretched."""
    read = np.stack([read_image(path) for path in samples.image_paths()]).reshape(IMAGES, -1).astype(np.float32)
    drawn = chest.render(studies, SIZE).images.reshape(IMAGES, -1).astype(np.float32)
    if stretched:
        low, high = drawn.min(axis=1, keepdims=True), drawn.max(axis=1, keepdims=True)
        drawn = (drawn - low) * 255 / (high - low)
    match = [int(np.argmin(((drawn - picture) ** 2).sum(axis=1))) for picture in read]
    assert sorted(match) == list(range(IMAGES))
    return [studies[i] for i in match]


def _rows(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / f"{TABLE}.gz", dtype=str, keep_default_na=False)


def _edit(root: Path, table: pd.DataFrame) -> None:
    (root / f"{TABLE}.gz").unlink(missing_ok=True)
    table.to_csv(root / TABLE, index=False)


def _told(manifest: str | Manifest, root: Path, kind: type[UserError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        load(manifest, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- PadChest: labels and reports


def test_padchest_labels_are_the_phantom_s_where_they_are_known(twin: Twin, studies: Studies) -> None:
    samples = load("padchest", twin("padchest"))
    truth = world.label_matrix(_shown(samples, studies("padchest")), samples.classes)
    values = samples.table.filter(like="label:").to_numpy()
    open_ = np.isnan(values).all(axis=1)
    assert (np.isnan(values).any(axis=1) == open_).all() and 0 < open_.sum() < 0.2 * IMAGES
    assert (values[~open_] == truth[~open_]).all()
    assert dict(zip(samples.classes, truth.sum(axis=0) > 0)) == {
        name: name not in {"hilar enlargement", "vascular redistribution"} for name in samples.classes
    }


def test_heart_insufficiency_is_cardiomegaly_with_edema() -> None:
    studies = world.sample_studies(0, range(400), "south")
    both, heart, water, hili = world.label_matrix(
        studies, ["heart insufficiency", "cardiomegaly", "pulmonary edema", "hilar enlargement"]
    ).T
    assert (both == heart * water).all() and 0 < both.sum() < min(heart.sum(), water.sum())
    assert not hili.any()


@pytest.mark.parametrize(
    ("told", "positive", "negative"),
    [
        ("['cardiomegaly', ' pleural effusion ', '']", {"cardiomegaly", "pleural effusion"}, 8),
        ("['laminar atelectasis', 'vascular hilar enlargement']", {"atelectasis", "hilar enlargement"}, 8),
        ("['pneumonia sequelae', 'pericardial effusion', 'kerley lines']", set(), 10),  # no part of a label counts
        ("['normal']", set(), 10),
        ("['unchanged', 'cardiomegaly']", {"cardiomegaly"}, 0),
        ("['suboptimal study']", set(), 0),
        ("[]", set(), 0),
        ("", set(), 0),
    ],
)
def test_padchest_reads_whole_labels(told: str, positive: set[str], negative: int, damaged: Twin) -> None:
    root = damaged("padchest")
    table = _rows(root)
    image = table.loc[(table["Projection"] == "PA") & (table["Labels"] != "['exclude']"), "ImageID"].iloc[0]
    table.loc[table["ImageID"] == image, "Labels"] = told
    _edit(root, table)
    samples = load("padchest", root)
    row = samples.table[samples.table["image"].str.endswith(image)].filter(like="label:").iloc[0]
    assert {name.removeprefix("label:") for name in row.index[row == 1]} == positive
    assert (row == 0).sum() == negative


def test_padchest_leaves_out_lateral_and_excluded_images(twin: Twin) -> None:
    table, samples = _rows(twin("padchest")), load("padchest", twin("padchest"))
    assert {"PA", "AP", "AP_horizontal", "L"} == set(table["Projection"])
    assert ((table["Labels"] == "['exclude']") & (table["Projection"] == "PA")).any()
    assert len(table) > IMAGES == len(samples)
    read = samples.table["image"].str.rpartition("/")[2]
    projection = table.set_index("ImageID")["Projection"][read]
    assert (projection.replace("AP_horizontal", "AP").to_numpy() == samples.table["view"]).all()


def test_padchest_reports_are_spanish_stems_a_sentence_a_line(twin: Twin, tmp_path: Path) -> None:
    samples = load("padchest", twin("padchest"))
    told = _rows(twin("padchest")).set_index("ImageID")["Report"][samples.table["image"].str.rpartition("/")[2]]
    assert samples.table["report"].str.split().tolist() == [text.replace(".", " ").split() for text in told]
    assert samples.table["report"].str.fullmatch(r"[a-z0-9 \n]+").all()
    assert samples.table["report"].str.contains("\n").any() and set(samples.table["language"]) == {"es"}
    quiet = load("padchest", write_twin("padchest", tmp_path / "twin", images=300, size=16))
    assert 0.9 * 300 < len(quiet.pairs()) < 0.99 * 300 and (quiet.table["report"] == "").any()


def test_padchest_pictures_have_sixteen_bits(twin: Twin) -> None:
    path = load("padchest", twin("padchest")).image_paths()[0]
    with Image.open(path) as image:
        assert image.mode.startswith("I;16") and np.asarray(image).max() > 255
    assert read_image(path).dtype == np.uint8


def test_padchest_in_one_folder_or_another(damaged: Twin) -> None:
    root = damaged("padchest")
    before = load("padchest", root)
    (root / "images").mkdir()
    for i, path in enumerate(sorted(root.glob("[0-9]*/*.png"))):
        path.rename((root / "images" if i % 2 else root) / path.name)
    after = load("padchest", root)
    assert (after.table["patient"] == before.table["patient"]).all() and after.missing == 0
    assert (after.table["image"].str.rpartition("/")[2] == before.table["image"].str.rpartition("/")[2]).all()
    after.image_paths()[0].unlink()
    assert load("padchest", root).missing == 1


# --- PadChest: who may be tested on


def test_padchest_test_patients_were_labelled_by_physicians_alone(tmp_path: Path) -> None:
    root = write_twin("padchest", tmp_path / "twin", images=400, size=16)
    samples, table = load("padchest", root), _rows(root)
    assert_disjoint(samples.table)
    method = table.set_index("ImageID")["MethodLabel"][samples.table["image"].str.rpartition("/")[2]].to_numpy()
    physicians = pd.Series(method == "Physician").groupby(samples.table["patient"]).all()
    test = samples.split("test").table
    assert physicians[test["patient"]].all() and len(test) > 15
    assert not test.filter(like="label:").isna().any(axis=None)
    others = samples.table[samples.table["split"] != "test"]
    assert {True, False} == set(physicians[others["patient"]])  # by lot, not all of them
    some = pd.Series(method == "Physician").groupby(samples.table["patient"]).any()
    assert (some & ~physicians).any()


def test_the_network_s_labels_have_errors_and_the_physicians_none(tmp_path: Path, studies: Studies) -> None:
    manifest = load_manifest("padchest")
    noisy = manifest.model_copy(update={"twin": manifest.twin.model_copy(update={"label_noise": 0.3})})
    root = write_twin(noisy, tmp_path / "twin", IMAGES, SIZE, 3)
    samples = load(noisy, root)
    truth = world.label_matrix(_shown(samples, studies("padchest")), samples.classes)
    values = samples.table.filter(like="label:").to_numpy()
    wrong = ((values != truth) & ~np.isnan(values)).any(axis=1)
    method = _rows(root).set_index("ImageID")["MethodLabel"][samples.table["image"].str.rpartition("/")[2]].to_numpy()
    assert not wrong[method == "Physician"].any() and wrong[method == "RNN_model"].mean() > 0.2


def test_a_thousand_images_of_a_large_table_are_drawn_for_the_test() -> None:
    manifest, random = load_manifest("padchest"), np.random.default_rng(0)
    patients = pd.Series(random.integers(0, 30_000, 60_000).astype(str))
    testable = pd.Series(random.random(60_000) < 0.5)
    split = assign_splits(patients, pd.Series("train", patients.index), manifest, Path("nowhere"), testable)
    assert [(split == name).sum() for name in ("test", "valid")] == [1000, 5000]
    assert testable.groupby(patients).all()[patients[split == "test"]].all()


def test_the_rule_needs_patients_to_draw_from_and_a_reader_that_knows_it(damaged: Twin, twin: Twin) -> None:
    root = damaged("padchest")
    table = _rows(root)
    _edit(root, table.assign(MethodLabel="RNN_model"))
    assert "fewer than two patients have only images with MethodLabel = Physician and labels" in _told("padchest", root)
    _edit(root, table.drop(columns="MethodLabel"))
    assert "has no column 'MethodLabel'" in _told("padchest", root)
    rsna = load_manifest("rsna-pneumonia")
    rule = rsna.split.model_copy(update={"test_among": load_manifest("padchest").split.test_among})
    changed = rsna.model_copy(update={"split": rule})
    assert "split.test_among does not go with reader 'rsna'" in _told(changed, twin("rsna-pneumonia"), UsageError)


# --- PadChest: mistakes


def test_padchest_mistakes_are_told_with_their_row(damaged: Twin) -> None:
    root = damaged("padchest")
    table = _rows(root)
    for told in (
        *("cardiomegaly", "['cardiomegaly'", "'cardiomegaly'", "[1]", "[{[]}]", "['a', ['b']]", "{'a'}", "[f'a']"),
        *("['pneumonia' 'nodule']", "['pneumonia',, 'nodule']", "['\\x']", f"[{'-' * 150}1]"),
    ):
        changed = table.copy()
        changed.loc[4, "Labels"] = told
        _edit(root, changed)
        assert f"{TABLE}, row 6: {told!r} is not a list of labels" in _told("padchest", root)
    changed = table.copy()
    changed.loc[7, "Report"] = "neumotÃ³rax izquierd ."
    _edit(root, changed)
    assert f"{TABLE}, row 9: 'neumotÃ³rax izquie' is UTF-8 read in another encoding" in _told("padchest", root)
    _edit(root, table.assign(Projection="L"))
    assert "names no image of the projections PA, AP, AP_horizontal" in _told("padchest", root)
    manifest = load_manifest("padchest")
    layout = manifest.layout.model_copy(update={"findings": {"pnumonia": ("pneumonia",)}})
    _edit(root, table)
    wrong = manifest.model_copy(update={"layout": layout})
    assert "layout.findings: no class 'pnumonia' (did you mean 'pneumonia'?)" in _told(wrong, root, UsageError)


@pytest.mark.parametrize("deep", [f"[{'-' * 20000}1]", "(" * 5000 + ")" * 5000, "[" * 5000 + "]" * 5000])
def test_padchest_labels_nested_without_end(deep: str, damaged: Twin) -> None:
    root = damaged("padchest")
    table = _rows(root)
    table.loc[4, "Labels"] = deep
    _edit(root, table)
    message = _told("padchest", root)
    assert f"{TABLE}, row 6: " in message and len(message) < 500


def test_padchest_labels_and_folders_as_others_write_them(damaged: Twin) -> None:
    root = damaged("padchest")
    before, table = load("padchest", root).table, _rows(root)
    _edit(root, table.assign(Labels=table["Labels"].str.upper(), ImageDir=table["ImageDir"] + ".0"))
    pd.testing.assert_frame_equal(load("padchest", root).table, before)
    _edit(root, table.assign(Report=table["Report"].str.replace(" . ", " .\n", regex=False)))
    lines = load("padchest", root).table
    pd.testing.assert_frame_equal(lines.drop(columns="report"), before.drop(columns="report"))
    assert (lines["report"].str.split() == before["report"].str.split()).all()


def test_padchest_takes_an_image_from_the_folder_of_its_archive(damaged: Twin) -> None:
    root = damaged("padchest")
    before = load("padchest", root)
    one, other = before.image_paths()[:2]
    (root / "-1").mkdir()
    shutil.copy(one, root / "-1" / other.name)
    pd.testing.assert_frame_equal(load("padchest", root).table, before.table)


def test_padchest_in_latin_1_is_told_with_its_row(damaged: Twin) -> None:
    root = damaged("padchest")
    lines = gzip.decompress((root / f"{TABLE}.gz").read_bytes()).splitlines(keepends=True)
    lines[2] = lines[2].replace(b" con ", " cón ".encode("latin-1")).replace(b"png", "pñg".encode("latin-1"))
    (root / f"{TABLE}.gz").write_bytes(gzip.compress(b"".join(lines)))
    assert f"{TABLE}.gz is not UTF-8 text (row 3)" in _told("padchest", root)


# --- CheXlocalize


def test_chexlocalize_is_one_frontal_image_a_study_and_all_test(twin: Twin, studies: Studies) -> None:
    samples = load("chexlocalize", twin("chexlocalize"))
    table = pd.read_csv(twin("chexlocalize") / "CheXpert" / "test_labels.csv")
    assert len(table) > IMAGES == len(samples) == samples.table["study"].nunique() == len(samples.split("test"))
    assert samples.table["image"].str.contains("frontal").all() and (samples.table["mask"] != "").any()
    assert samples.table["image"].str.contains("view2").any()  # behind a lateral one
    truth = world.label_matrix(_shown(samples, studies("chexlocalize"), stretched=False), samples.classes)
    assert (samples.labels() == truth).all()


def test_chexlocalize_takes_the_frontal_view_with_the_lowest_number(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    path = root / "CheXpert" / "test_labels.csv"
    before, table = load("chexlocalize", root), pd.read_csv(path)
    first = before.table["image"].iloc[0]
    more = table[table["Path"] == first.removeprefix("CheXpert/")].copy()
    more["Path"] = more["Path"].str.replace(r"view\d+", "view10", regex=True)
    shutil.copy(root / first, root / "CheXpert" / more["Path"].iloc[0])
    pd.concat([more, table]).to_csv(path, index=False)
    after = load("chexlocalize", root)
    assert sorted(after.table["image"]) == sorted(before.table["image"])


@pytest.mark.parametrize("finding", ["Pleural Effusion", "Cardiomegaly", "Lung Opacity"])
def test_chexlocalize_outlines_are_the_phantom_s(finding: str, twin: Twin, studies: Studies) -> None:
    manifest = load_manifest("chexlocalize")
    layout = manifest.layout.model_copy(update={"outlined": finding})
    samples = load(manifest.model_copy(update={"layout": layout}), twin("chexlocalize"))
    drawn = chest.render(_shown(samples, studies("chexlocalize"), stretched=False), SIZE)
    expected = np.any([drawn.masks[name] for name in world.CLASSES[finding]], axis=0)
    assert expected.any() and (masks(samples, SIZE) == expected).all()


def test_chexlocalize_without_outlines_and_with_its_own_folder_as_root(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    labels = load("chexlocalize", root).labels()
    shutil.rmtree(root / "CheXlocalize")
    assert (load("chexlocalize", root).table["mask"] == "").all()
    assert (load("chexlocalize", root / "CheXpert").labels() == labels).all()


def _outline(root: Path, image: Path, outline: dict) -> None:
    """Give an image this outline."""
    key = image.relative_to(root / "CheXpert" / "test").with_suffix("").as_posix().replace("/", "_")
    outlines = root / "CheXlocalize" / "gt_segmentations_test.json"
    told = json.loads(outlines.read_text())
    told[key]["Pleural Effusion"] = outline
    outlines.write_text(json.dumps(told))


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (20, 20), (45, 46)])
def test_chexlocalize_outlines_follow_a_resized_image(size: tuple[int, int], damaged: Twin) -> None:
    root = damaged("chexlocalize")
    region = np.zeros((SIZE, SIZE), np.uint8)
    region[6:30, 8:16] = 1
    runs = coco.encode(np.asfortranarray(region))
    row = 5
    path = load("chexlocalize", root).image_paths()[row]
    _outline(root, path, {"size": runs["size"], "counts": runs["counts"].decode()})
    before = load("chexlocalize", root)
    assert (masks(before.subset([row]), SIZE)[0] == region).all()
    Image.open(path).resize(size).save(path)
    after = load("chexlocalize", root)
    rows, columns = np.nonzero(masks(after.subset([row]), SIZE)[0])
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    assert np.abs(np.subtract([top, bottom, left, right], [6, 30, 8, 16])).max() <= 1
    assert len(rows) == (bottom - top) * (right - left)
    others = before.table.index != row
    pd.testing.assert_frame_equal(after.table[others], before.table[others])


def test_chexlocalize_outlines_of_other_pictures(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    runs = coco.encode(np.eye(32, dtype=np.uint8, order="F"))
    row = 5
    path = load("chexlocalize", root).image_paths()[row]
    _outline(root, path, {"size": [32, 32], "counts": runs["counts"].decode()})
    Image.new("L", (48, 32)).save(path)
    message = _told("chexlocalize", root)
    assert f"the outline of {path} is of a picture of 32 x 32 pixels, the image has 48 x 32" in message
    runs = coco.encode(np.asfortranarray(np.eye(32, 48, dtype=np.uint8)))
    for size in ([32, 48], [48, 32]):
        _outline(root, path, {"size": size, "counts": runs["counts"].decode()})
        if size == [32, 48]:
            assert (rle_decode(load("chexlocalize", root).table["mask"][row][4:], *size) == np.eye(*size)).all()
        else:
            assert "is of a picture of 32 x 48 pixels, the image has 48 x 32" in _told("chexlocalize", root)
    runs = coco.encode(np.zeros((7, 7), np.uint8, "F"))
    _outline(root, path, {"size": [7, 7], "counts": runs["counts"].decode()})
    assert load("chexlocalize", root).table["mask"][row] == ""  # nothing has no size
    outlines = root / "CheXlocalize" / "gt_segmentations_test.json"
    told = json.loads(outlines.read_text())
    for change in ((lambda name: f"{name}.jpg"), (lambda name: name.replace("patient", "patient9"))):
        outlines.write_text(json.dumps({change(name): classes for name, classes in told.items()}))
        assert f"{outlines} outlines none of the images of test_labels.csv" in _told("chexlocalize", root)
    for some in ({}, dict(list(told.items())[:3])):  # the owner's own has three images in four
        outlines.write_text(json.dumps(some))
        assert len(load("chexlocalize", root)) == IMAGES


def test_chexlocalize_mistakes(damaged: Twin) -> None:
    root = damaged("chexlocalize")
    outlines, labels = root / "CheXlocalize" / "gt_segmentations_test.json", root / "CheXpert" / "test_labels.csv"
    told = json.loads(outlines.read_text())
    image = next(iter(told))
    told[image].pop("Pleural Effusion")
    outlines.write_text(json.dumps(told))
    assert f"{outlines}: {image!r} has no outline of 'Pleural Effusion'" in _told("chexlocalize", root)
    outlines.write_text("{")
    assert f"cannot read {outlines}" in _told("chexlocalize", root)
    outlines.unlink()
    whole = labels.read_text()
    labels.write_text(whole.replace("frontal", "lateral"))
    assert f"{labels} names no frontal image" in _told("chexlocalize", root)
    labels.write_text(whole.replace("/study1/", "/", 1))
    assert "is not a path to a patient's study" in _told("chexlocalize", root)
    manifest = load_manifest("chexlocalize")
    layout = manifest.layout.model_copy(update={"outlined": "Efusion"})
    wrong = manifest.model_copy(update={"layout": layout})
    assert "layout.outlined: no class 'Efusion'" in _told(wrong, root, UsageError)


def test_a_data_set_that_is_all_test_may_still_not_want_for_training_images(damaged: Twin) -> None:
    manifest = load_manifest("chexlocalize")
    rule = manifest.split.model_copy(update={"valid": load_manifest("rsna-pneumonia").split.valid})
    assert "is left to train on" in _told(manifest.model_copy(update={"split": rule}), damaged("chexlocalize"))

"""What NIH ChestX-ray14 tells in two places agrees, or is told in one sentence; parts of the official copy are read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.manifest import load_manifest
from nbcore.errors import UserError

NAME = "nih-chestxray14"
TABLE, BOXES = "Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"
TRAIN, TEST = "train_val_list.txt", "test_list.txt"
Twin = Callable[[str], Path]


def _edit(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a file; a change of nothing proves nothing."""
    before = path.read_text("utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def _cut(path: Path, kept: set[str]) -> None:
    """Leave only the heading and the rows of these images."""
    heading, *rows = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([heading, *(row for row in rows if row.split(",")[0] in kept)]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Effusion", "Efusion", "the finding 'Efusion' in "),
        ("No Finding", "No Finding|Mass", "the finding 'No Finding' in 'No Finding|Mass' is none"),
        ("No Finding", "", "no finding is told; expected No Finding or some of Atelectasis, "),
        ("Pleural_Thickening", "Pleural Thickening", "the finding 'Pleural Thickening' in "),
        ("|", ";", ";"),
        ("|", "||", "the finding '' in "),
    ],
)
def test_an_unknown_finding_is_told_with_its_row(old: str, new: str, told: str, damaged: Twin) -> None:
    root = damaged(NAME)
    row = next(i for i, line in enumerate((root / TABLE).read_text().splitlines(), start=1) if old in line)
    _edit(root / TABLE, lambda text: text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"{TABLE}, row {row}: ") as caught:
        load(NAME, root)
    assert told in str(caught.value) and len(str(caught.value)) < 700


def test_blanks_around_names_and_findings_mean_nothing(damaged: Twin) -> None:
    root = damaged(NAME)
    whole = load(NAME, root).table
    _edit(root / TABLE, lambda text: text.replace("|", " | ").replace(".png,", ".png ,").replace(",PA,", ", pa ,"))
    _edit(root / BOXES, lambda text: text.replace(".png,", ".png ,"))
    assert load(NAME, root).table.equals(whole)


def test_an_image_is_of_the_patient_in_its_name(damaged: Twin) -> None:
    root = damaged(NAME)
    _edit(root / TABLE, lambda text: text.replace("Follow-up #,Patient ID", "Patient ID,Follow-up #"))
    with pytest.raises(UserError, match=r"row 2: the image 00000001_000.png is not of patient '0'"):
        load(NAME, root)


def _without_last_patient(text: str) -> str:
    names = text.split()
    return "\n".join(name for name in names if name[:8] != names[-1][:8])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_last_patient, "is in neither train_val_list.txt nor test_list.txt"),
        (lambda text: text.rstrip()[:-4], r"test_list.txt names '\d{8}_\d{3}', which is no image of this data set"),
        (lambda text: text.replace("\n", ",\n"), r"test_list.txt names '\d{8}_\d{3}.png,', which"),
        (lambda text: text.replace(".png", ".PNG"), r"test_list.txt names '\d{8}_\d{3}.PNG', which"),
        (lambda text: "", "test_list.txt is empty"),
    ],
)
def test_a_damaged_list_moves_no_test_image(change: Callable[[str], str], told: str, damaged: Twin) -> None:
    root = damaged(NAME)
    _edit(root / TEST, change)
    with pytest.raises(UserError, match=told):
        load(NAME, root)
    assert check(NAME, root, quick=True).verdict == "broken"


@pytest.mark.parametrize("file", [TEST, BOXES])
def test_a_folder_in_the_place_of_a_list_is_told(file: str, damaged: Twin) -> None:
    root = damaged(NAME)
    (root / file).unlink()
    (root / file).mkdir()
    with pytest.raises(UserError, match=rf"{file} is a folder, not a file"):
        load(NAME, root)


def test_boxes_without_an_image_are_told(damaged: Twin) -> None:
    root = damaged(NAME)
    _edit(root / BOXES, lambda text: text.replace(".png,", ","))
    with pytest.raises(UserError, match=r"BBox_List_2017.csv names '\d{8}_\d{3}', which is no image"):
        load(NAME, root)


def test_few_images_beside_complete_tables_are_a_subset(damaged: Twin) -> None:
    root = damaged(NAME)
    whole = load(NAME, root).table.set_index("image")
    for path in load(NAME, root).image_paths()[:70]:
        path.unlink()
    part = load(NAME, root).table.set_index("image")
    tested = whole.loc[part.index, "split"] == "test"
    assert len(part) == 30 and ((part["split"] == "test") == tested).all()
    assert check(NAME, root).verdict == "subset: 30 of 100"


def test_a_table_cut_to_its_images_goes_with_complete_lists_and_boxes(damaged: Twin) -> None:
    root = damaged(NAME)
    whole = load(NAME, root).table
    for kept in (whole[whole["boxes"].map(len) == 0], whole[whole["split"] == "test"]):
        names = set(kept["image"].str.rpartition("/")[2])
        complete = (root / TABLE).read_text()
        _cut(root / TABLE, names)
        report = check(NAME, root)
        assert (report.images, report.exit_status) == (len(names), 0), report.problems
        assert report.outlined == (kept["boxes"].map(len) > 0).sum()
        (root / TABLE).write_text(complete)


def test_lists_and_boxes_of_a_complete_table_name_its_images_only(damaged: Twin) -> None:
    root, manifest = damaged(NAME), load_manifest(NAME)
    counts = manifest.counts.model_copy(update={"images": 100})
    whole = manifest.model_copy(update={"counts": counts})
    assert len(load(whole, root)) == 100
    for file, line in ((TEST, "99999999_000.png"), (BOXES, "99999999_000.png,Mass,1,1,2,2,,,")):
        _edit(root / file, lambda text, line=line: text + line + "\n")
        assert len(load(manifest, root)) == 100  # of a cut one
        with pytest.raises(UserError, match=rf"{file} names '99999999_000.png', which is no image"):
            load(whole, root)
        _edit(root / file, lambda text, line=line: text.replace(line + "\n", ""))


def test_boxes_of_pictures_of_another_size_are_remarked(damaged: Twin) -> None:
    root = damaged(NAME)
    boxed = load(NAME, root).table["boxes"].map(len) > 0
    assert check(NAME, root).exit_status == 0  # a twin's are of its own pictures
    (root / "PHANTOM.json").unlink()
    report = check(NAME, root)
    assert report.verdict == "subset: 100 of 112120"  # a mirror of small images is one, but for its boxes
    assert f"is 32 x 32 (one of {boxed.sum()}): fetch the owner's images" in " ".join(report.remarks)
    for path in [path for path, has in zip(load(NAME, root).image_paths(), boxed) if has]:
        with Image.open(path) as image:
            image.resize((1024, 1024)).save(path)
    assert not any("told in pixels" in remark for remark in check(NAME, root).remarks)

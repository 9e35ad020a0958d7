"""The tour shows every data set there is, in colour, with what is outlined; of private data only numbers."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from nbcore.analysis import tour_figures
from nbcore.data import list_manifests, load_manifest
from nbcore.paths import NOTEBOOKS
from nbcore.protection import NOT_SHOWN
from nbcore.settings import load_settings
from nbcore.study_tour import TourStudy

TWINS = {"busi": 24, "mimic-cxr": 24, "padchest": 80, "derm7pt": 24}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    class Few(TourStudy):
        """A tour of few data sets, so that few twins are written."""

        present = (*TWINS, "pdc")

    folder = tmp_path_factory.mktemp("tour")
    settings = load_settings("tour", "smoke", {"twin_images": TWINS, "twin_size": 32, "images_each": 4})
    return Few("tour", settings, profile="smoke", seed=0, data_root=None, output_root=folder)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_all_manifests_are_toured():
    settings = load_settings("tour", "smoke", {})
    assert settings.data_sets == list_manifests()
    wholes = {name for name in list_manifests() if not load_manifest(name).part_of}
    assert settings.twin_images.keys() == wholes
    shown = load_settings("tour", "open", {}).data_sets
    assert "mimic-cxr" not in shown and "busi" in shown


def test_a_part_lies_in_its_wholes_folder(study):
    assert study.root("pdc") == study.root("padchest")
    whole = study.samples("padchest").split("test").table
    assert study.samples("pdc").table["image"].tolist() == whole["image"].tolist()


def test_pictures_show_one_class_after_the_other_in_colour(study):
    rows = study.pictures(["busi", "derm7pt"])
    assert list(rows) == ["busi", "derm7pt/dermoscopy", "derm7pt/clinical"]
    assert {picture.title for picture in rows["busi"]} == {"benign", "malignant", "normal"}
    assert all(len(pictures) == 4 for pictures in rows.values())
    spread = [np.ptp(picture.pixels, axis=2).max() for picture in rows["derm7pt/clinical"]]
    assert min(spread) > 20


def test_pictures_have_the_pixels_that_a_sheet_shows(study):
    (name, pictures), *_ = study.pictures(["busi"]).items()
    assert {max(picture.pixels.shape) for picture in pictures} == {tour_figures.PIXELS}
    for figure in (tour_figures.gallery({name: pictures}), tour_figures.pair({"a": {"b": pictures}})):
        figure.set_dpi(tour_figures.DPI)
        for image in figure.axes[0].images:
            assert image.get_window_extent().width == pytest.approx(tour_figures.PIXELS, abs=1)


def test_outlines_are_those_of_the_files(study):
    for picture in study.outlined_pictures()["busi"]:
        assert picture.mask.shape == picture.size == (32, 32)
        assert 0 < picture.mask.mean() < 0.9


def test_balance_is_the_share_of_each_split(study):
    table = study.balance().set_index(["dataset", "split", "class"])["share"].sort_index()
    valid = study.samples("busi").split("valid").table
    assert table["busi", "valid", "benign"] == pytest.approx(100 * (valid["label:benign"] == 1).mean())
    assert table["busi", "test"].sum() == pytest.approx(100)


def test_reports_of_both_languages_beside_their_images(study):
    pages = study.report_pages(each=2)
    assert {name: len(page) for name, page in pages.items()} == {"English": 2, "Spanish": 2}
    reports = set(study.samples("padchest").table["report"])
    assert all(report in reports for _, report in pages["Spanish"])
    assert tour_figures.denies("no pleural effusion") and tour_figures.denies("sin derram ni neumotorax")
    assert not tour_figures.denies("note is made of a large nodule") and not tour_figures.denies("observ nodul")


def test_browser_choices_lead_to_what_is_asked_for(study):
    assert study.splits_of("pdc") == ["test"]
    assert study.classes_of("busi", "train") == ["any", "benign", "malignant", "normal"]
    benign = study.samples("busi").split("train").table["label:benign"] == 1
    assert study.numbers_of("busi", "train", "benign") == range(benign.sum())
    figure = study.view("busi", "train", "benign", 1, True)
    patient = study.samples("busi").split("train").table["patient"][benign].iloc[1]
    told = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert {"benign", patient} <= set(told)
    outlines = [len(study.view("busi", "train", "benign", 1, on).axes[0].collections) for on in (True, False)]
    assert outlines == [1, 0]


def test_split_table_tells_where_splits_come_from(study):
    table = study.split_table()
    assert table.loc["derm7pt", "test is"] == "the owner's"
    assert table.loc["busi", "valid is"] == "drawn by patient, seed 0"
    assert table.loc["pdc", "valid is"] == ""
    assert set(table["duplicates"]) == {"0"}


def test_nothing_of_private_data_is_shown(study, tmp_path):
    samples = study.samples("mimic-cxr")
    study._samples["mimic-cxr"] = replace(samples, private=True)
    try:
        picture = study.pictures(["mimic-cxr"])["mimic-cxr"][0]
        assert not picture.pixels.any() and picture.title == NOT_SHOWN
        figure = study.view("mimic-cxr", "train", "any", 0, True)
        told = " ".join(text.get_text() for axis in figure.axes for text in axis.texts)
        assert NOT_SHOWN in told
        first = samples.split("train").table.iloc[0]
        assert not any(first[key] in told for key in ("patient", "study"))
        assert "mimic-cxr" not in study.report_lengths() and list(study.report_texts()) == ["Spanish"]
        assert all("mimic-cxr" not in shown.title for shown, _ in study.report_pages().get("English", []))
    finally:
        study._samples["mimic-cxr"] = samples


def test_boxes_and_masks_are_drawn_where_they_are():
    mask = np.zeros((10, 20), bool)
    mask[2:6, 4:8] = True
    picture = tour_figures.Picture(np.zeros((5, 10, 3), np.uint8), (100, 200), "x", mask, ((20.0, 10.0, 40.0, 30.0),))
    _, axis = plt.subplots()
    tour_figures.draw(axis, picture, place=(3, 1, 2))  # a square of side 2: 100 pixels are one unit, 0.5 above it
    box = axis.patches[0].get_bbox()
    np.testing.assert_allclose([box.x0, box.y0, box.x1, box.y1], [3.2, 1.6, 3.6, 1.9])
    line = axis.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(line.min(axis=0), [3.4, 1.7], atol=0.051)
    np.testing.assert_allclose(line.max(axis=0), [3.8, 2.1], atol=0.051)


def test_real_copies_are_shown_and_the_others_absent(tmp_path):
    folder = tmp_path / "data" / "busi" / "Dataset_BUSI_with_GT"
    random = np.random.default_rng(0)
    for name in ("benign", "malignant", "normal"):
        (folder / name).mkdir(parents=True)
        for number in range(1, 13):
            pixels = random.integers(0, 255, (20, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name} ({number}).png")
    (tmp_path / "data" / "dmid").mkdir()
    study = TourStudy.open(
        "tour", profile="open", seed=0, data_root=str(tmp_path / "data"), output_root=str(tmp_path), overrides={}
    )
    assert study.present == ["busi"]
    here = study.overview()["here"]
    assert (here["busi"], here["dmid"], here["openi"]) == ("real", "unreadable: see data check", "absent")
    assert study.overview().loc["busi", ["images", "of"]].tolist() == ["36", "780"]
    assert (study.outlined, study.pairs(), study.report_pages()) == ([], {}, {})
    assert study.picture_table().loc["busi", ["width", "height"]].tolist() == ["30", "20"]


def test_a_headless_run_holds_no_widget(tmp_path, monkeypatch):
    """The browser's cell, run as every cell is: the figure is there, and nothing of a widget."""
    source = nbformat.read(NOTEBOOKS / "tour.ipynb", as_version=4)
    cell = next(cell for cell in source.cells if cell.source.endswith("outlines=True,\n    )"))
    before = "from nbcore.widgets import browse\nfrom nbcore.study_tour import TourStudy\nstudy = TourStudy.open("
    opened = f"{before}'tour', profile='smoke', seed=0, data_root=None, output_root={str(tmp_path)!r}, "
    opened += "overrides={'twin_images': {'busi': 24}, 'twin_size': 32})\nTourStudy.present = ['busi']"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(opened), cell])
    from nbclient import NotebookClient

    monkeypatch.delenv("NBCORE_HEADLESS", raising=False)
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    shown = [set(output.data) for output in notebook.cells[1].outputs if "data" in output]
    assert shown == [{"image/png", "text/plain"}]
    assert "widgets" not in notebook.metadata
    assert "widget" not in json.dumps([output for each in notebook.cells for output in each.outputs])

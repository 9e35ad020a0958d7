"""Figures show every method in one colour and name it."""

from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbcore.analysis import figures
from nbcore.analysis.geometry import geometry
from nbcore.data import list_manifests, load_manifest
from nbcore.protection import Guard
from nbcore.study_base import StudyBase


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


CLOUDS = {name: geometry(np.random.default_rng(i).normal(size=(20, 6))) for i, name in enumerate("abc")}


def test_training_curves_keep_a_methods_colour_across_panels():
    histories = {
        "both": {"align": [2.0, 1.0], "orth": [3.0, 2.0], "total": [5.0, 3.0], "lr": [1.0, 1.0]},
        "one": {"orth": [3.0, 1.0], "total": [3.0, 1.0], "lr": [1.0, 1.0]},
    }
    fig = figures.training_curves(histories)
    panels = {axis.get_title(): {line.get_label(): line.get_color() for line in axis.lines} for axis in fig.axes}
    assert panels.keys() == {"align", "orth", "total"}
    assert panels["orth"] == panels["total"]
    assert panels["align"] == {"both": panels["total"]["both"]}
    assert [text.get_text() for text in fig.axes[-1].get_legend().get_texts()] == ["both", "one"]


def test_collapse_scatter_marks_the_reference():
    fig = figures.collapse_scatter(CLOUDS, "b")
    colours = [tuple(axis.collections[0].get_facecolor()[0][:3].round(2)) for axis in fig.axes]
    assert len(colours) == 3
    assert colours[0] == colours[2] != colours[1]
    assert "effective rank" in fig.axes[0].get_title()


def test_spectra_start_at_one():
    lines = figures.spectra(CLOUDS).axes[0].lines
    assert [line.get_ydata()[0] for line in lines] == [1, 1, 1]


def test_gallery_of_nothing_is_a_blank_page():
    assert figures.image_grid([], []) is not None


class Shown(list):
    """As much of samples as a gallery asks for."""

    classes, private = ("Edema", "Lung Opacity"), False

    def split(self, _):
        return self

    def subset(self, rows):
        return Shown(self[row] for row in rows)

    def labels(self):
        return np.array(self)


def test_a_picture_without_a_positive_label_says_so():
    samples = Shown([(1, 0), (0, 0), (1, 1)])
    study = SimpleNamespace(samples=lambda _: samples, images=lambda own: np.zeros((len(own), 4, 4)), guard=Guard())
    titles = [axis.get_title() for axis in StudyBase.gallery(study, "x").axes if axis.images]
    assert titles == ["Edema", "none of its classes", "Edema, Lung Opacity"]


@pytest.mark.parametrize("name", list_manifests())
def test_titles_keep_to_their_pictures(name):
    classes = sorted(load_manifest(name).classes, key=len, reverse=True)
    titles = [", ".join([*classes[i:], *classes[:i]]) for i in range(min(6, len(classes)))] * 6
    fig = figures.image_grid([np.zeros((8, 8))] * 6, titles[:6])
    renderer = fig.canvas.get_renderer()
    fig.draw_without_rendering()
    boxes = [axis.title.get_window_extent(renderer) for axis in fig.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[0].x0 > 0 and boxes[-1].x1 < fig.bbox.x1
    assert max(axis.get_title().count("\n") for axis in fig.axes) <= 1


def test_outlined_pictures_have_an_outline_where_there_is_something_to_find():
    pictures, outlines = np.zeros((3, 16, 16), np.uint8), np.zeros((3, 16, 16), bool)
    outlines[0, 4:8, 4:8] = True
    fig = figures.outlined(pictures, outlines, ["a", "b", "c"], heat=np.ones((3, 16, 16)), columns=2)
    drawn = [axis for axis in fig.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == ["a", "b", "c"]
    assert [len(axis.images) for axis in drawn] == [2, 2, 2]
    assert [bool(axis.collections) for axis in drawn] == [True, False, False]


def test_embeddings_are_coloured_by_every_grouping():
    points = np.random.default_rng(0).normal(size=(12, 2))
    fig = figures.embedding_scatter(points, {"finding": ["x", "y"] * 6, "prototype": [str(i) for i in range(12)]})
    assert [axis.get_title() for axis in fig.axes] == ["finding", "prototype"]
    assert [len(axis.collections) for axis in fig.axes] == [2, 12]
    assert [axis.get_legend() is None for axis in fig.axes] == [False, True]  # twelve names would hide the points


def test_training_curves_are_logarithmic_over_a_wide_range_only():
    history = {"total": [100.0, 1.0], "ita": [3.0, 2.0], "lr": [1.0, 1.0]}
    fig = figures.training_curves({"one": history, "two": {"total": [50.0, 2.0]}})
    scales = {axis.get_title(): axis.get_yscale() for axis in fig.axes if axis.lines}
    assert scales == {"ita": "linear", "total": "log"}

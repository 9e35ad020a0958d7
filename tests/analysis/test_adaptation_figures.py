"""Figures of adapted classifiers show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbcore.analysis import adaptation_figures as figures
from nbcore.tasks.text_image import Alignment

GRADES = ["Normal", "Stage_1_Retinopathy", "Stage_2_Retinopathy"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_confusion_is_shown_as_shares_of_each_class():
    counts = np.array([[3, 1, 0], [0, 8, 2], [0, 0, 0]])
    fig = figures.confusion_matrices({"Zero-shot": counts, "MedUnA": 10 * np.eye(3, dtype=int)}, GRADES)
    first, second, bar = fig.axes
    assert [axis.get_title() for axis in (first, second)] == ["Zero-shot", "MedUnA"]
    np.testing.assert_allclose(first.images[0].get_array(), [[0.75, 0.25, 0], [0, 0.8, 0.2], [0, 0, 0]])
    assert {image.get_clim() for axis in (first, second) for image in axis.images} == {(0, 1)}
    assert [text.get_text() for text in first.texts] == ["75", "25", "0", "0", "80", "20", "0", "0", "0"]
    assert [label.get_text() for label in first.get_yticklabels()] == [name.replace("_", " ") for name in GRADES]
    assert bar.get_ylabel() == "share of the class"
    many = figures.confusion_matrices({"": np.eye(8)}, list("abcdefgh"))
    assert not many.axes[0].texts


def test_text_accuracy_has_its_spread_and_its_place_against_the_final_one():
    rows = [("IDRID", "rich", 60, 30), ("IDRID", "rich", 70, 34), ("IDRID", "noisy", 40, 20), ("ISIC", "rich", 90, 50)]
    fig = figures.text_vs_final(pd.DataFrame(rows, columns=["dataset", "descriptions", "text", "final"]))
    bars, plane = fig.axes
    assert [label.get_text() for label in bars.get_xticklabels()] == ["IDRID", "ISIC"]
    rich, noisy = ([bar.get_height() for bar in container] for container in bars.containers)
    assert rich == [65, 90] and noisy == [40]
    spread = np.concatenate([line.get_ydata() for line in bars.lines])
    assert np.nanmax(spread) == pytest.approx(65 + np.std([60, 70], ddof=1))
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["rich", "noisy"]
    assert [text.get_text() for text in plane.get_legend().get_texts()] == ["IDRID", "ISIC"]
    assert sorted(plane.collections[0].get_offsets().tolist()) == [[40, 20], [65, 32], [90, 50]]
    colours = {tuple(handle.get_facecolor()) for handle in fig.legends[0].get_patches()}
    assert {tuple(colour) for colour in plane.collections[0].get_facecolors()} == colours


def test_alignment_curves_have_chance_beside_them():
    ks = np.arange(1, 4)
    curves = Alignment(
        ks, np.array([0.5, 0.7, 0.8]), np.array([0.5, 0.6, 0.4]), np.array([0.2, 0.3, 0.4]), np.full(3, 0.2)
    )
    other = Alignment(ks, np.ones(3), np.ones(3), np.zeros(3), np.zeros(3))
    fig = figures.alignment_curves({"rich": curves, "noisy": other})
    for axis, key in zip(fig.axes, ("hit", "precision")):
        found, chance = axis.lines[:2]
        np.testing.assert_array_equal(found.get_xdata(), ks)
        np.testing.assert_array_equal(found.get_ydata(), getattr(curves, key))
        np.testing.assert_array_equal(chance.get_ydata(), getattr(curves, f"chance_{key}"))
        assert chance.get_linestyle() == "--" and chance.get_color() == found.get_color() != axis.lines[2].get_color()
        assert axis.get_ylabel() == f"{key}@k"
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["rich", "noisy", "chance"]


def test_a_collapse_is_one_bar_of_one_colour():
    shares = {"Zero-shot": np.array([0.2, 0.5, 0.3]), "LaFTer": np.array([0.0, 1.0, 0.0])}
    fig = figures.prediction_shares(shares, np.array([0.6, 0.3, 0.1]), GRADES)
    (axis,) = fig.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["labels", "Zero-shot", "LaFTer"]
    widths = np.array([[bar.get_width() for bar in container] for container in axis.containers])  # (C, rows)
    np.testing.assert_allclose(widths, [[0.6, 0.2, 0], [0.3, 0.5, 1], [0.1, 0.3, 0]])
    starts = np.array([[bar.get_x() for bar in container] for container in axis.containers])
    np.testing.assert_allclose(starts[1:], widths.cumsum(axis=0)[:-1])
    assert len({container[0].get_facecolor() for container in axis.containers}) == 3
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [name.replace("_", " ") for name in GRADES]
    assert [text.get_text() for text in axis.texts] == ["60", "20", "", "30", "50", "100", "10", "30", ""]
    assert axis.yaxis_inverted()


def test_planes_before_and_after_share_colours_and_no_class_is_always_on_top():
    drawn = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 60)
    planes = {"zero-shot": drawn.normal(size=(180, 2)), "MedUnA": drawn.normal(size=(180, 2))}
    fig = figures.before_after(planes, labels, GRADES)
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names == [name.replace("_", " ") for name in GRADES]
    of_class = [handle.get_facecolor()[0][:3] for handle in fig.legends[0].legend_handles]
    for axis, (title, plane) in zip(fig.axes, planes.items()):
        assert axis.get_title() == title
        dots = axis.collections[0]
        found = {tuple(place): colour[:3] for place, colour in zip(dots.get_offsets(), dots.get_facecolors())}
        for point, label in zip(plane, labels):
            np.testing.assert_allclose(found[tuple(point)], of_class[label])
        last = [np.allclose(colour[:3], of_class[2]) for colour in dots.get_facecolors()[-60:]]
        assert 10 < sum(last) < 40


def test_accuracy_by_epoch_draws_a_line_a_method_and_dashes_what_has_no_epochs():
    both = {"MedUnA": np.array([0.2, 0.5, 0.4]), "Zero-shot": np.array([0.3])}
    curves = {"A": both, "B": {"MedUnA": np.array([0.1])}}
    fig = figures.accuracy_by_epoch(curves)
    first, second = fig.axes
    assert [line.get_label() for line in first.lines] == ["MedUnA", "Zero-shot"]
    assert first.lines[0].get_ydata().tolist() == pytest.approx([20, 50, 40])
    assert first.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert (first.lines[0].get_linestyle(), first.lines[1].get_linestyle()) == ("-", "--")
    assert len(second.lines) == 1

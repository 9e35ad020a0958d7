"""Figures of transported prompts show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbcore.analysis import prompt_figures as figures

CLASSES = ["COVID-19", "Normal", "Pneumonia"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_couplings_are_scaled_to_one_and_titled_with_their_diagonal():
    drawn = np.array([[0.2, 0.1, 0.0], [0.1, 0.2, 0.1], [0.0, 0.1, 0.2]])
    fig = figures.coupling_matrices({"start": np.full((3, 3), 1 / 9), "end": drawn}, CLASSES)
    first, second, bar = fig.axes
    np.testing.assert_allclose(first.images[0].get_array(), np.full((3, 3), 1 / 3))
    np.testing.assert_allclose(second.images[0].get_array(), 3 * drawn)
    assert {axis.images[0].get_clim() for axis in (first, second)} == {(0, 1)}
    assert [axis.get_title() for axis in (first, second)] == ["start\ndiagonal mass 0.33", "end\ndiagonal mass 0.60"]
    assert first.get_ylabel() == "high-end class" and second.get_xlabel() == "low-end class"
    assert [label.get_text() for label in first.get_yticklabels()] == CLASSES
    assert bar.get_ylabel() == "N × coupling"


def test_the_trace_lies_between_the_uniform_and_the_identical_coupling():
    fig = figures.coupling_trace({"skin": [0.34, 0.5, 0.9], "breast": [0.33]}, {"skin": 6, "breast": 3})
    (axis,) = fig.axes
    first, sixth, second, third, identity = axis.lines
    assert first.get_xdata().tolist() == [1, 2, 3] and first.get_ydata().tolist() == [0.34, 0.5, 0.9]
    assert second.get_xdata().tolist() == [1] and second.get_color() != first.get_color()
    assert sixth.get_color() == first.get_color() and third.get_color() == second.get_color()
    assert [line.get_ydata()[0] for line in (sixth, third, identity)] == [1 / 6, 1 / 3, 1]
    assert {line.get_linestyle() for line in (sixth, third, identity)} == {"--"}
    assert {text.get_text(): text.get_position()[1] for text in axis.texts} == {
        "identity": 1,
        "uniform, N = 3": 1 / 3,
        "uniform, N = 6": 1 / 6,
    }
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["skin", "breast"]


def test_prompts_are_joined_by_set_and_coloured_by_class():
    drawn = np.random.default_rng(0)
    sets = {"high-end": drawn.normal(size=(3, 2)), "low-end": drawn.normal(size=(3, 2))}
    fig = figures.prompt_map(sets, CLASSES)
    (axis,) = fig.axes
    for plane, dots, ring in zip(sets.values(), axis.collections, axis.lines, strict=True):
        np.testing.assert_array_equal(dots.get_offsets(), plane)
        np.testing.assert_array_equal(ring.get_xydata(), plane[[0, 1, 2, 0]])
    one, other = axis.collections
    np.testing.assert_array_equal(one.get_facecolors(), other.get_facecolors())
    assert not np.array_equal(one.get_paths()[0].vertices, other.get_paths()[0].vertices)  # markers
    legend = fig.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["high-end", "low-end", *CLASSES]
    colours = [plt.matplotlib.colors.to_rgba(handle.get_color()) for handle in legend.legend_handles[2:]]
    np.testing.assert_allclose(colours, one.get_facecolors())


def test_recalls_have_their_spread_over_seeds():
    seeds = np.array([[0.2, 0.4, 0.0], [0.4, 0.4, 1.0]])
    fig = figures.class_recalls({"CoOp": np.array([1.0, 0.5, 0.1]), "K-MaT": seeds}, CLASSES)
    (axis,) = fig.axes
    alone, spread = (container for container in axis.containers if hasattr(container, "patches"))
    assert [bar.get_height() for bar in alone] == pytest.approx([100, 50, 10]) and alone.errorbar is None
    assert [bar.get_height() for bar in spread] == pytest.approx([30, 40, 50])
    ends = np.array(spread.errorbar.lines[2][0].get_segments())[:, :, 1]  # (N, 2)
    np.testing.assert_allclose((ends[:, 1] - ends[:, 0]) / 2, 100 * seeds.std(axis=0, ddof=1))
    centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in (alone, spread)]
    np.testing.assert_allclose(np.mean(centres, axis=0), [0, 1, 2], atol=1e-9)
    assert [label.get_text() for label in axis.get_xticklabels()] == CLASSES
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["CoOp", "K-MaT"]


def test_high_and_low_end_lie_over_harmonic_means():
    rows = [
        ("CoOp", "Chest", 1, 52.0, 26.0),
        ("CoOp", "Chest", 2, 54.0, 28.0),
        ("K-MaT", "Chest", 1, 54.0, 41.0),
        ("CoOp", "Breast", 1, 75.0, 27.0),
    ]
    fig = figures.high_low(pd.DataFrame(rows, columns=["method", "dataset", "seed", "high", "low"]))
    chest, breast = fig.axes
    assert [axis.get_title() for axis in (chest, breast)] == ["Chest", "Breast"]
    lines, *dots = chest.collections
    assert [found.get_offsets().tolist() for found in dots] == [
        [[52, 26], [54, 28]], [[53, 27]], [[54, 41]], [[54, 41]],
    ]  # fmt: skip
    assert tuple(dots[1].get_facecolor()[0]) == tuple(breast.collections[2].get_facecolor()[0])
    for level, path in zip(lines.levels, lines.get_paths()):
        if len(path.vertices):
            high, low = path.vertices.T
            np.testing.assert_allclose(2 * high * low / (high + low), level, rtol=2e-3)
    assert sum(len(path.vertices) > 0 for path in lines.get_paths()) >= 3
    assert chest.get_xlim() == breast.get_xlim() == (46, 81) and chest.get_ylim() == (20, 47)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["CoOp", "K-MaT"]


def test_a_line_a_solver_over_how_close_the_classes_are():
    table = pd.DataFrame({"solver": ["a", "a", "b"], "cosine": [0.1, 0.9, 0.1], "diagonal": [1.0, 0.4, 0.8]})
    fig = figures.coupling_by_closeness(table, 3)
    first, second, uniform = fig.axes[0].lines
    assert first.get_xdata().tolist() == [0.1, 0.9] and first.get_ydata().tolist() == [1.0, 0.4]
    assert second.get_ydata().tolist() == [0.8] and uniform.get_ydata()[0] == 1 / 3
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b"]

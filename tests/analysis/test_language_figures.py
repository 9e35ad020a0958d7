"""Figures of languages show what they are given, in the paper's colours."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nbcore.analysis import language_figures as figures

BLUE, ORANGE = "#0173b2", "#de8f05"  # of seaborn's colour-blind-safe palette


def same_colour(drawn, colour: str) -> bool:
    return np.allclose(drawn[:3], to_rgb(colour), atol=0.01)


def test_spanish_is_blue_and_english_orange_in_every_spelling():
    colours = figures.community_colours(["es", "en", "Spanish", "English", "south", "north", "en"])
    assert list(colours) == ["English", "Spanish", "en", "es", "north", "south"]
    assert same_colour(colours["es"], BLUE) and same_colour(colours["Spanish"], BLUE)
    assert same_colour(colours["en"], ORANGE) and same_colour(colours["English"], ORANGE)
    assert len({tuple(colours[name]) for name in ("en", "es", "north", "south")}) == 4


def test_every_point_has_its_communitys_colour_and_none_is_always_on_top():
    drawn = np.random.default_rng(1)
    points, languages = drawn.normal(size=(200, 2)), ["English"] * 100 + ["Spanish"] * 100
    fig = figures.community_scatter({"MLM": (points, languages), "Med-UniC": (points[:100], languages[:100])})
    assert [axis.get_title() for axis in fig.axes] == ["MLM", "Med-UniC"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["English", "Spanish"]
    dots = fig.axes[0].collections[0]
    found = {tuple(place): colour for place, colour in zip(dots.get_offsets(), dots.get_facecolors())}
    for point, language in zip(points, languages):
        assert same_colour(found[tuple(point)], BLUE if language == "Spanish" else ORANGE)
    last = [same_colour(colour, BLUE) for colour in dots.get_facecolors()[-50:]]
    assert 10 < sum(last) < 40


def test_the_matrix_is_ruled_between_languages():
    similarity = np.linspace(-0.5, 1, 10 * 10).reshape(10, 10)
    fig = figures.similarity_matrix(similarity, {"English": 4, "Spanish": 6})
    axis, bar = fig.axes
    np.testing.assert_array_equal(axis.images[0].get_array(), similarity)
    assert axis.images[0].get_clim() == (-0.5, 1)
    assert bar.get_ylabel() == "cosine"
    assert [list(line.get_ydata()) for line in axis.lines[::2]] == [[3.5, 3.5]]
    assert [list(line.get_xdata()) for line in axis.lines[1::2]] == [[3.5, 3.5]]
    for labels, places in [(axis.get_xticklabels(), axis.get_xticks()), (axis.get_yticklabels(), axis.get_yticks())]:
        assert [label.get_text() for label in labels] == ["English", "Spanish"]
        assert list(places) == [1.5, 6.5]


def test_each_picture_is_followed_by_a_map_for_each_term():
    pictures = np.arange(2 * 16 * 16).reshape(2, 16, 16).astype(np.uint8)
    outlines = np.zeros((2, 16, 16), bool)
    outlines[0, 4:8, 4:8] = True
    maps = {"pneumothorax": np.full((2, 16, 16), 0.5), "neumotórax": np.zeros((2, 16, 16))}
    maps["pneumothorax"][:, 3, 3] = 2
    fig = figures.similarity_maps_figure(pictures, outlines, maps)
    axes = np.array(fig.axes).reshape(2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["picture", "pneumothorax", "neumotórax"]
    assert [[len(axis.images) for axis in row] for row in axes] == [[1, 2, 2], [1, 2, 2]]
    assert [[bool(axis.collections) for axis in row] for row in axes] == [[True] * 3, [False] * 3]
    for row, picture in zip(axes, pictures):
        for axis in row:
            np.testing.assert_array_equal(axis.images[0].get_array(), picture)
        heat, nothing = (np.asarray(axis.images[1].get_array()) for axis in row[1:])
        assert heat.max() == 1 and heat[0, 0] == pytest.approx(0.25)
        assert (nothing == 0).all()  # not missing


def test_the_larger_cosine_decides():
    scores = [
        ("English", "Pneumothorax", 0.4, "No Pneumothorax", 0.1),
        ("Spanish", "Neumotórax", -0.1, "No hay Neumotórax", 0.2),
        ("Spanish", "Edema", 0.2, "No hay edema", 0.2),  # as `ZeroShot.prediction` has it
    ]
    fig = figures.zero_shot_pipeline(np.zeros((16, 16), np.uint8), scores)
    picture, *panels = fig.axes
    assert len(picture.images) == 1
    assert [axis.get_title(loc="left") for axis in panels] == [
        "English: positive",
        "Spanish: negative",
        "Spanish: negative",
    ]
    for axis, (_, positive, agrees, negative, denies) in zip(panels, scores):
        assert [label.get_text() for label in axis.get_yticklabels()] == [positive, negative]
        assert [bar.get_width() for bar in axis.patches] == [agrees, denies]
        assert axis.yaxis_inverted()  # the positive prompt is the upper one
    assert [[bar.get_alpha() == 1 for bar in axis.patches] for axis in panels] == [
        [True, False],
        [False, True],
        [False, True],
    ]
    assert [same_colour(axis.patches[0].get_facecolor(), BLUE) for axis in panels] == [False, True, True]
    assert [text.get_text() for text in panels[1].texts] == ["-0.10", "0.20"]
    assert len({axis.get_xlim() for axis in panels}) == 1


def test_word_pieces_flow_in_order_without_touching_their_neighbours():
    before = ["in", "##fil", "##tra", "##do", "p", "##ulm", "##onar", "$", "x", "$"] * 8
    after = ["infiltrado", "pulmonar", "$", "x", "$"] * 8
    is_new = [piece == "infiltrado" for piece in after]
    fig = figures.tokenisation_figure(before, after, is_new)
    axis = fig.axes[0]
    texts, boxes = axis.texts[2:], axis.patches
    assert [text.get_text() for text in axis.texts[:2]] == [
        "before the extension: 80 word pieces",
        "after the extension: 40 word pieces, 8 of them new words",
    ]
    assert [text.get_text() for text in texts] == before + after
    assert [same_colour(box.get_facecolor(), BLUE) for box in boxes] == [False] * 80 + is_new
    fig.canvas.draw()
    lines = {}
    for text, box in zip(texts, boxes):
        inner, outer = text.get_window_extent(), box.get_window_extent()
        assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1
        assert fig.bbox.x0 <= outer.x0 and outer.x1 <= fig.bbox.x1 and fig.bbox.y0 <= outer.y0
        lines.setdefault(box.get_y(), []).append((text.get_text(), box))
    assert len(lines) > 4
    for line in lines.values():
        assert not line[0][0].startswith("##")  # a word is not torn apart
        for (_, left), (piece, right) in pairwise(line):
            assert right.get_x() - left.get_x() - left.get_width() == (0 if piece.startswith("##") else 1)
    assert all(lower - upper > 0.99 > boxes[0].get_height() for upper, lower in pairwise(sorted(lines)))


def test_a_vocabulary_that_did_not_grow_says_so():
    fig = figures.tokenisation_figure(["a", "##b"], ["a", "##b"], [False, False])
    assert fig.axes[0].texts[1].get_text() == "after the extension: 2 word pieces"

"""The pointing game on maps and outlines whose outcome can be counted."""

import numpy as np
import pytest

from nbcore.errors import UserError
from nbcore.tasks.pointing import pointing_game


def scene(count: int = 4, size: int = 8) -> np.ndarray:
    """One outlined row a picture, each its own."""
    outlines = np.zeros((count, size, size), bool)
    outlines[np.arange(count), np.arange(count)] = True
    return outlines


def test_a_map_that_knows_hits_always_and_chance_never():
    result = pointing_game(scene().astype(float), scene())
    assert (result.hits, result.chance, result.inside, result.pictures) == (1.0, 0.0, pytest.approx(1.0), 4)
    assert result.area == pytest.approx(1 / 8)


def test_a_map_that_always_looks_at_one_place_gains_nothing():
    maps = np.zeros((4, 8, 8))
    maps[:, 2, 5] = 1  # inside the outline of picture 2
    result = pointing_game(maps, scene())
    assert result.hits == pytest.approx(1 / 4)
    assert result.chance == pytest.approx(3 / 12)  # each other map points into picture 2's


def test_a_flat_map_is_worth_the_area():
    result = pointing_game(np.ones((4, 8, 8)), scene())
    assert result.hits == result.chance == pytest.approx(result.area)
    assert result.inside == pytest.approx(result.area)


def test_scale_and_order_do_not_matter():
    drawn = np.random.default_rng(0)
    maps, outlines = drawn.random((5, 6, 6)), drawn.random((5, 6, 6)) > 0.5
    order = drawn.permutation(5)
    one, other = pointing_game(maps, outlines), pointing_game(3 * maps[order], outlines[order])
    assert one == pytest.approx(other)


def test_one_picture_has_no_others_to_compare_with():
    with pytest.raises(UserError, match="needs two outlined pictures or more, not 1"):
        pointing_game(scene(1).astype(float), scene(1))

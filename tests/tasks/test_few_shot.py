"""Drawing of shots: what is drawn, from where, and that it is the official draw (goldens: tests/families)."""

import random

import numpy as np
import pytest

from nbcore.tasks.few_shot import VALID_SHOTS, draw_shots, scarce

TRAIN = np.repeat([2, 0, 1], [40, 30, 20])
VALID = np.tile([1, 0, 2], 6)


@pytest.mark.parametrize("shots", [1, 3, 16])
def test_every_class_gives_its_shots(shots):
    train, valid = draw_shots(TRAIN, VALID, shots, 0)
    np.testing.assert_array_equal(np.bincount(TRAIN[train]), [shots] * 3)
    np.testing.assert_array_equal(np.bincount(VALID[valid]), [min(shots, VALID_SHOTS)] * 3)
    assert len({*train.tolist()}) == len(train) and len({*valid.tolist()}) == len(valid)


def test_classes_come_in_the_order_of_their_first_image_from_one_stream():
    """By hand: the stream of random.seed, all of training before validation."""
    train, valid = draw_shots(TRAIN, VALID, 2, 5)
    stream = random.Random(5)
    expected = [stream.sample(np.flatnonzero(label == TRAIN).tolist(), 2) for label in (2, 0, 1)]
    np.testing.assert_array_equal(train, np.concatenate(expected))
    expected = [stream.sample(np.flatnonzero(label == VALID).tolist(), 2) for label in (1, 0, 2)]
    np.testing.assert_array_equal(valid, np.concatenate(expected))


def test_a_seed_repeats_and_another_differs_without_touching_the_global_stream():
    random.seed(3)
    before = random.getstate()
    first, again, other = (draw_shots(TRAIN, VALID, 4, seed)[0] for seed in (0, 0, 1))
    assert random.getstate() == before
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_scarce_class_gives_all_it_has():
    train, valid = draw_shots(TRAIN, [0, 1], 25, 0)
    np.testing.assert_array_equal(np.bincount(TRAIN[train]), [25, 20, 25])
    assert sorted(valid.tolist()) == [0, 1]
    assert scarce(TRAIN, 25) == {1: 20}
    assert scarce(TRAIN, 20) == {}

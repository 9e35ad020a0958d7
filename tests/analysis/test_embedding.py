"""Planes of embeddings."""

import numpy as np
import pytest

from nbcore.analysis.embedding import tsne


@pytest.mark.parametrize("count", [4, 12, 60])
def test_few_points_are_no_obstacle(count):
    points = np.random.default_rng(0).normal(size=(count, 8))
    plane = tsne(points)
    assert plane.shape == (count, 2) and np.isfinite(plane).all()


def test_clusters_stay_apart_and_the_seed_decides():
    drawn = np.random.default_rng(0)
    points = np.concatenate([drawn.normal(size=(30, 8)), 20 + drawn.normal(size=(30, 8))])
    plane = tsne(points, seed=1)
    assert np.array_equal(plane, tsne(points, seed=1))
    one, other = plane[:30], plane[30:]
    gap = np.linalg.norm(one.mean(0) - other.mean(0))
    assert gap > 2 * max(one.std(), other.std())

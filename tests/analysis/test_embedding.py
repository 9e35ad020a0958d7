"""Planes of embeddings."""

import numpy as np
import pytest

from nbcore.analysis.embedding import tsne, tsne_of_sets


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


def test_sets_share_a_plane():
    drawn = np.random.default_rng(0)
    sets = {"few": drawn.normal(size=(3, 8)), "more": drawn.normal(size=(5, 8))}
    planes = tsne_of_sets(sets)
    assert {name: plane.shape for name, plane in planes.items()} == {"few": (3, 2), "more": (5, 2)}
    assert np.array_equal(np.concatenate(list(planes.values())), tsne(np.concatenate(list(sets.values()))))

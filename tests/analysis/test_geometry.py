"""Collapse measures on clouds whose shape is known."""

import numpy as np
import pytest

from nbcore.analysis.geometry import alignment, distance_correlation, effective_rank, geometry, uniformity
from nbcore.errors import UserError

RNG = np.random.default_rng(0)


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([3.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(np.zeros(3)) == 1
    p = np.array([0.5, 0.25, 0.25])
    assert effective_rank(7 * p) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_a_line_has_rank_one_and_a_ball_has_full_rank():
    line = np.outer(RNG.normal(size=500), RNG.normal(size=16)) + 5
    assert geometry(line).effective_rank == pytest.approx(1, abs=1e-6)
    ball = RNG.normal(size=(4000, 16))
    assert geometry(ball).effective_rank == pytest.approx(16, rel=0.01)
    assert geometry(line).explained[0] == pytest.approx(1)


def test_spectrum_and_components_are_those_of_the_covariance():
    features = RNG.normal(size=(60, 5)) * [5, 3, 2, 1, 0.5]
    shape = geometry(features)
    np.testing.assert_allclose(shape.spectrum, np.linalg.eigvalsh(np.cov(features.T))[::-1])
    assert shape.components.shape == (60, 3)
    np.testing.assert_allclose(shape.components.var(axis=0, ddof=1), shape.spectrum[:3])
    np.testing.assert_allclose(np.corrcoef(shape.components.T), np.eye(3), atol=1e-8)


def test_geometry_ignores_order_and_shift():
    features = RNG.normal(size=(40, 6))
    moved = geometry(features[::-1] + 3)
    assert moved.effective_rank == pytest.approx(geometry(features).effective_rank)


def test_uniformity_and_alignment():
    points = RNG.normal(size=(50, 4))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    pairs = [np.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(50) for j in range(i)]
    assert uniformity(points) == pytest.approx(np.log(np.mean(pairs)))
    assert uniformity(np.ones((10, 4))) == pytest.approx(0, abs=1e-9)  # one point: as collapsed as can be
    assert uniformity(points) < uniformity(points + 10)
    assert alignment(points, 3 * points) == pytest.approx(0, abs=1e-12)
    assert alignment(points, -points) == pytest.approx(4)


def test_too_few_images():
    with pytest.raises(UserError, match="at least 4"):
        geometry(np.zeros((3, 5)))


def test_distance_correlation_sees_the_arrangement_alone():
    points = RNG.normal(size=(6, 4))
    turn, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    assert distance_correlation(points, 3 * points @ turn + 7) == pytest.approx(1)
    other = RNG.normal(size=(6, 9))
    pairs = [(i, j) for i in range(6) for j in range(i)]
    of = [[np.sqrt(((each[i] - each[j]) ** 2).sum()) for i, j in pairs] for each in (points, other)]
    expected = np.mean(np.prod([(d - np.mean(d)) / np.std(d) for d in of], axis=0))
    assert distance_correlation(points, other) == pytest.approx(expected)
    near_and_far = np.array([[0.0], [1.0], [3.0]]), np.array([[0.0], [2.0], [-1.0]])  # 1, 3, 2 and 2, 1, 3
    assert distance_correlation(*near_and_far) == pytest.approx(-0.5)


def test_distance_correlation_of_what_has_no_arrangement():
    points = RNG.normal(size=(3, 4))
    assert np.isnan(distance_correlation(points[:2], points[:2]))
    assert np.isnan(distance_correlation(points, np.eye(3)))
    assert np.isnan(distance_correlation(np.ones((3, 4)), points))

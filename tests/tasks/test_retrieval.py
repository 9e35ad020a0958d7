"""Retrieval against a ranking in every order of the ties, by hand, in chunks, and the errors it raises."""

from itertools import permutations, product

import numpy as np
import pytest

from nbcore.errors import UserError
from nbcore.tasks import retrieval
from nbcore.tasks.retrieval import precision_at_k, recall_at_k, retrieval_metrics

KS = (1, 2, 4)


def draw(n: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def slow(queries, candidates, match: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether a match is among the k nearest, and their share among them: means over all orders of the ties."""
    cosine = np.array([[q @ c / np.linalg.norm(q) / np.linalg.norm(c) for c in candidates] for q in queries]).round(5)
    found, share = [], []
    for row, right in zip(cosine, match):
        nearest = [right[sorted(order, key=lambda c: -row[c])[:k]] for order in permutations(range(len(row)))]
        found.append(np.mean([near.any() for near in nearest]))
        share.append(np.mean([near.mean() for near in nearest]))
    return np.array(found), np.array(share)


def with_ties(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Six pairs; the embeddings on a small grid, so that many cosines are equal (and exactly so)."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2, 6, 4)).astype(np.float32)
    return signs[0], signs[1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("groups", [None, np.array(["a", "b", "a", "c", "c", "a"])])
def test_recall_equals_the_slow_reference_ties_included(seed, groups):
    images, reports = with_ties(seed)
    match = np.eye(6, dtype=bool) if groups is None else groups[:, None] == groups
    ours = recall_at_k(images, reports, KS, groups)
    for k in KS:
        assert ours[k] == pytest.approx(slow(images, reports, match, k)[0].mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["multi-label", "single-label"])
def test_precision_equals_the_slow_reference_ties_included(seed, kind):
    images, reports = with_ties(seed)
    drawn = np.random.default_rng(seed + 10)
    if kind == "multi-label":
        labels = drawn.integers(0, 2, (6, 3))
        labels[2] = 0  # a query without labels is left out
        match = np.array([[(a & b).any() for b in labels] for a in labels])
        counted = labels.any(axis=1)
    else:
        labels = drawn.integers(0, 3, 6)
        match, counted = labels[:, None] == labels, np.ones(6, bool)
    ours = precision_at_k(images, reports, labels, KS)
    for k in KS:
        assert ours[k] == pytest.approx(slow(images, reports, match, k)[1][counted].mean(), abs=1e-6)


def test_chunks_change_nothing(monkeypatch):
    images, labels, groups = draw(50), np.random.default_rng(1).integers(0, 2, (50, 4)), np.arange(50) // 2
    reports = images + draw(50, seed=1)
    whole = retrieval_metrics(images, reports, labels, groups)
    monkeypatch.setattr(retrieval, "_CHUNK", 7 * 50)
    pieces = retrieval_metrics(images, reports, labels, groups)
    assert pieces == pytest.approx(whole, abs=1e-9) and len(whole) == 2 * 2 * 3


def test_perfect_and_blind_embeddings():
    same = np.array(list(product([-1.0, 1.0], repeat=4)))  # 16 rows whose cosines are exact
    assert set(retrieval_metrics(same, 3 * same).values()) == {1.0}
    blind = retrieval_metrics(np.ones((16, 4)), same, np.arange(16) % 2)
    assert blind["report_to_image_recall@5"] == pytest.approx(5 / 16)  # every image alike: a draw
    assert blind["report_to_image_precision@5"] == pytest.approx(1 / 2)


def test_directions_differ():
    """Both images are nearest to report 0, so one image finds its report, but both reports find theirs."""
    images = np.array([[1.0, 0.0], [1.0, 0.2]])
    reports = np.array([[1.0, 0.0], [0.0, 1.0]])
    metrics = retrieval_metrics(images, reports, ks=[1])
    assert metrics == {"image_to_report_recall@1": 0.5, "report_to_image_recall@1": 1.0}


def test_identical_reports_are_hits_only_if_told():
    """Four texts, each the report of three images that embed to it exactly."""
    corners = np.array(list(product([-1.0, 1.0], repeat=4)))[[0, 3, 5, 6]]
    embeddings = np.repeat(corners, 3, axis=0)
    texts = np.repeat(["clear", "effusion", "nodule", "edema"], 3)
    assert recall_at_k(embeddings, embeddings, [1, 3], None) == pytest.approx({1: 1 / 3, 3: 1})
    assert recall_at_k(embeddings, embeddings, [1], texts)[1] == pytest.approx(1)


def test_order_of_pairs_does_not_matter():
    images, reports, labels = draw(15), draw(15, seed=1), np.arange(15) % 3
    order = np.random.default_rng(2).permutation(15)
    expected = retrieval_metrics(images, reports, labels)
    assert retrieval_metrics(images[order], reports[order], labels[order]) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 7])
def test_impossible_k_is_an_error(k):
    for call in (lambda: recall_at_k(draw(6), draw(6), [k]), lambda: precision_at_k(draw(6), draw(6), np.ones(6), [k])):
        with pytest.raises(UserError, match=f"k = {k} needs 1 <= k <= 6"):
            call()


def test_precision_without_labels_is_an_error():
    with pytest.raises(UserError, match="no image has a positive label"):
        precision_at_k(draw(6), draw(6), np.zeros((6, 2)), [1])

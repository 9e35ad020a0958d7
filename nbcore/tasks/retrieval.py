"""Retrieval between images and reports by the cosine of their embeddings.

Ties are broken at random, in expectation: embeddings that are all alike score as a blind draw does.

Shapes: n pairs, D width of the shared space, C findings; a chunk has q queries.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from nbcore.errors import UserError
from nbcore.tasks.zero_shot import unit_rows

_CHUNK = 2**24  # cosines held at a time


def retrieval_metrics(
    images: np.ndarray,
    reports: np.ndarray,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """Recall and, given labels, precision in both directions, for matched pairs.

    Args:
        images, reports: embeddings, (n, D); row i of one belongs to row i of the other.
        labels: of the pairs, see `precision_at_k`.
        groups: of the pairs, see `recall_at_k`.
        ks: how many of the nearest count.

    Returns:
        "image_to_report_recall@1", "report_to_image_precision@5" and so on.

    Raises:
        UserError: a k is not in [1, n], or no pair has a positive label.
    """
    metrics = {}
    for name, queries, candidates in (("image_to_report", images, reports), ("report_to_image", reports, images)):
        values = {"recall": recall_at_k(queries, candidates, ks, groups)}
        if labels is not None:
            values["precision"] = precision_at_k(queries, candidates, labels, ks)
        metrics |= {f"{name}_{metric}@{k}": value for metric, by_k in values.items() for k, value in by_k.items()}
    return metrics


def recall_at_k(
    queries: np.ndarray, candidates: np.ndarray, ks: Sequence[int], groups: np.ndarray | None = None
) -> dict[int, float]:
    """Share of queries with a correct candidate among their k nearest.

    Args:
        queries, candidates: embeddings, (n, D); candidate i is the correct one for query i.
        ks: how many of the nearest count.
        groups: (n,), any values; every candidate of the query's own group is correct. Without them a report that
            occurs m times is found by a draw among m, however good the embedding: give identical reports one group.

    Raises:
        UserError: a k is not in [1, n].
    """
    from scipy.stats import hypergeom

    _check(ks, len(candidates))
    groups = np.arange(len(queries)) if groups is None else np.unique(groups, return_inverse=True)[1]
    hits = dict.fromkeys(ks, 0.0)
    for rows, cosine in _cosines(queries, candidates):
        correct = groups[rows, None] == groups  # (q, n)
        best = np.where(correct, cosine, -np.inf).max(axis=1, keepdims=True)  # (q, 1)
        nearer = (cosine > best).sum(axis=1)  # (q,) wrong candidates in front of the first correct one
        level = cosine == best  # (q, n)
        tied, correct_tied = level.sum(axis=1), (level & correct).sum(axis=1)
        for k in ks:
            draws = np.clip(k - nearer, 0, tied)  # of those tied, the number among the k nearest
            hits[k] += (1 - hypergeom.pmf(0, tied, correct_tied, draws)).sum()
    return {k: float(hits[k] / len(queries)) for k in ks}


def precision_at_k(
    queries: np.ndarray, candidates: np.ndarray, labels: np.ndarray, ks: Sequence[int]
) -> dict[int, float]:
    """Share of the k nearest candidates that match the query, mean over the queries.

    Two pairs match if they share a positive label (multi-label), or have the same class (single-label). A query without
    any positive label cannot be matched and is left out; a "no finding" column makes it count.

    Args:
        queries, candidates: embeddings, (n, D), of the two sides of the pairs; the query's own pair is a candidate.
        labels: of the pairs, (n, C) in {0, 1}, or (n,) classes.
        ks: how many of the nearest count.

    Raises:
        UserError: a k is not in [1, n], or no query has a positive label.
    """
    _check(ks, len(candidates))
    labels = np.asarray(labels)
    if labels.ndim == 1:
        labels = labels[:, None] == np.unique(labels)  # (n, C)
    labels = (labels > 0).astype(np.float32)
    labelled = labels.any(axis=1)  # (n,)
    if not labelled.any():
        raise UserError("no image has a positive label in this split; the precision of retrieval cannot be computed.")
    total = dict.fromkeys(ks, 0.0)
    for rows, cosine in _cosines(queries, candidates):
        match = labels[rows] @ labels.T > 0  # (q, n); never for a query without labels
        for k in ks:
            last = np.partition(cosine, -k, axis=1)[:, -k, None]  # (q, 1) the k-th nearest
            nearer, level = cosine > last, cosine == last
            left = k - nearer.sum(axis=1)  # (q,) places for those tied at the k-th
            found = (match & nearer).sum(axis=1) + left * (match & level).sum(axis=1) / level.sum(axis=1)
            total[k] += found.sum() / k
    return {k: float(total[k] / labelled.sum()) for k in ks}


def _check(ks: Sequence[int], candidates: int) -> None:
    for k in ks:
        if not 1 <= k <= candidates:
            raise UserError(f"retrieval at k = {k} needs 1 <= k <= {candidates}, the number of pairs; change k.")


def _cosines(queries: np.ndarray, candidates: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Chunks of rows and their cosines with all candidates, (q, n)."""
    queries, candidates = unit_rows(queries), unit_rows(candidates)
    step = max(1, _CHUNK // len(candidates))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        yield rows, queries[rows] @ candidates.T

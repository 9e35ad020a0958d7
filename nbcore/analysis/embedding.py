"""Planes in which high-dimensional embeddings can be looked at.

Shapes: n points, D width.
"""

from collections.abc import Mapping

import numpy as np

_PERPLEXITY = 30.0  # scikit-learn's own


def tsne(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton, 2008) of (n, D) points, n >= 4, from their first components: (n, 2).

    The perplexity is 30, or a third of the points where those are few: it must be smaller than n.
    """
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points).astype(np.float32)


def tsne_of_sets(sets: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """`tsne` of several sets of points in one plane: name -> (n, D) to name -> (n, 2)."""
    plane = tsne(np.concatenate(list(sets.values())), seed)
    ends = np.cumsum([len(points) for points in sets.values()])[:-1]
    return dict(zip(sets, np.split(plane, ends)))

"""Planes in which high-dimensional embeddings can be looked at.

Shapes: n points, D width.
"""

import numpy as np

_PERPLEXITY = 30.0  # scikit-learn's own


def tsne(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton, 2008) of (n, D) points, n >= 4, from their first components: (n, 2).

    The perplexity is 30, or a third of the points where those are few: it must be smaller than n.
    """
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points).astype(np.float32)

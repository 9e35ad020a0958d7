"""Dimensional collapse: how much of its feature space an encoder uses; and whether two sets are arranged alike.

Shapes: n images, D feature width, P width of the aligned space, N classes.
"""

from dataclasses import dataclass

import numpy as np

from nbcore.errors import UserError


@dataclass(frozen=True)
class Geometry:
    """The shape of a cloud of features.

    Attributes:
        spectrum: singular values of the covariance matrix, largest first, (min(n, D),) (Jing et al., ICLR 2022).
        effective_rank: exp of the entropy of the normalised spectrum (Roy & Vetterli, 2007), in [1, D]; 1 when all
            features move together, D when they are independent and equally strong.
        components: the images in the first three principal components of the centred features, (n, 3).
        explained: share of the variance in these three, each in [0, 1].
        uniformity: log mean_{i != j} exp(-2 |x_i - x_j|^2) of the normalised features (Wang & Isola, ICML 2020); <= 0,
            lower is more evenly spread over the sphere.
    """

    spectrum: np.ndarray
    effective_rank: float
    components: np.ndarray
    explained: np.ndarray
    uniformity: float


def geometry(features: np.ndarray) -> Geometry:
    """Describe a cloud of features (n, D).

    Raises:
        UserError: fewer than four images.
    """
    if len(features) < 4:
        raise UserError(f"the geometry of features needs at least 4 images, not {len(features)}.")
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    spectrum = singular**2 / (len(features) - 1)
    return Geometry(
        spectrum=spectrum,
        effective_rank=effective_rank(spectrum),
        components=left[:, :3] * singular[:3],
        explained=spectrum[:3] / max(spectrum.sum(), np.finfo(float).tiny),
        uniformity=uniformity(features),
    )


def effective_rank(spectrum: np.ndarray) -> float:
    """exp of the Shannon entropy of a non-negative spectrum divided by its sum; 1 for a spectrum of zeros."""
    total = spectrum.sum()
    if total <= 0:
        return 1.0
    share = spectrum[spectrum > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def uniformity(features: np.ndarray, scale: float = 2.0) -> float:
    """log of the mean Gaussian potential between distinct points of the unit sphere; (n, D) -> a number <= 0."""
    from scipy.spatial.distance import pdist

    return float(np.log(np.exp(-scale * pdist(_unit(features), "sqeuclidean")).mean()))


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of matched, normalised embeddings, (n, P), (n, P) -> [0, 4] (Wang & Isola, 2020)."""
    return float(np.square(_unit(first) - _unit(second)).sum(axis=1).mean())


def distance_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of the Euclidean distances within two sets of matched points: are they arranged alike?

    It ignores rotation, shift and scale of either set. (Szekely's dependence measure of the same name is another.)

    Args:
        first, second: (N, D) and (N, E), row i of one matched with row i of the other.

    Returns:
        A number in [-1, 1]; nan if N < 3, or if the distances within a set are all equal.
    """
    from scipy.spatial.distance import pdist

    pair = np.stack([pdist(points.astype(np.float64)) for points in (first, second)])  # (2, N (N - 1) / 2)
    if len(first) < 3 or (np.ptp(pair, axis=1) <= 1e-6 * pair.max(axis=1)).any():
        return float("nan")
    return float(np.corrcoef(pair)[0, 1])


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)

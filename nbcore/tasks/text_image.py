"""How well images are aligned with unpaired texts: the classes of the descriptions next to an image (MedUnA, Fig. 4).

Shapes: n images, m descriptions, D width of the space they share, K numbers of descriptions looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbcore.errors import UserError
from nbcore.tasks.zero_shot import unit_rows


@dataclass(frozen=True)
class Alignment:
    """What is among the k nearest descriptions, for several k; means over the images, in [0, 1].

    A hit rate grows with k whatever the embeddings are, so a "peak" in k, as the paper has it, can only be one of the
    precision or of the distance from chance.

    Attributes:
        ks: (K,).
        hit: share of images with a description of their own class among the k, (K,).
        precision: share of the k that are of the image's class, (K,).
        chance_hit, chance_precision: what a random ranking has in expectation, (K,).
    """

    ks: np.ndarray
    hit: np.ndarray
    precision: np.ndarray
    chance_hit: np.ndarray
    chance_precision: np.ndarray


def top_k_alignment(
    images: np.ndarray,
    descriptions: np.ndarray,
    image_labels: np.ndarray,
    description_labels: np.ndarray,
    ks: Sequence[int],
) -> Alignment:
    """Rank all descriptions for each image by cosine and compare the classes of the first k with the image's.

    Ties are broken at random, by the same draw at every call.

    Args:
        images, descriptions: embeddings, (n, D) and (m, D); normalised here.
        image_labels, description_labels: classes, (n,) and (m,).
        ks: how many of the nearest are looked at, each in [1, m].

    Raises:
        UserError: a k is not in [1, m].
    """
    from scipy.stats import hypergeom

    ks = np.asarray(ks)
    total = len(descriptions)
    if ks.min() < 1 or ks.max() > total:
        raise UserError(f"the k of the nearest descriptions must be in [1, {total}], the number there is: change ks.")
    cosine = unit_rows(images) @ unit_rows(descriptions).T  # (n, m)
    draw = np.random.default_rng(0).random(cosine.shape, dtype=np.float32)
    nearest = np.lexsort((draw, -cosine))[:, : ks.max()]  # (n, largest k)
    match = np.asarray(description_labels)[nearest] == np.asarray(image_labels)[:, None]
    found = match.cumsum(axis=1)[:, ks - 1]  # (n, K)
    own = (np.asarray(image_labels)[:, None] == description_labels).sum(axis=1)[:, None]  # (n, 1)
    return Alignment(
        ks=ks,
        hit=(found > 0).mean(axis=0),
        precision=(found / ks).mean(axis=0),
        chance_hit=1 - hypergeom.pmf(0, total, own, ks).mean(axis=0),
        chance_precision=np.full(len(ks), own.mean() / total),
    )

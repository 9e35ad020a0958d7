"""Community bias: how far embeddings give away the language or hospital they come from (Med-UniC, Figures 1 and 4).

The paper judges by eye, on t-SNE; these are numbers for the same question.

Shapes: n points, D width.
"""

from collections.abc import Sequence

import numpy as np

from nbcore.errors import UserError
from nbcore.tasks.retrieval import recall_at_k


def community_probe(
    points: np.ndarray, communities: Sequence[str], patients: Sequence[str], seed: int, folds: int = 5
) -> float:
    """Cross-validated balanced accuracy of a linear classifier that tells the community from the embedding.

    A logistic regression on standardised features with the communities weighted equally, judged on patients it has not
    seen: the mean, over the communities, of the share of points told rightly. Chance is 1 / communities, and 1 means
    that a plane separates them.

    Args:
        points: embeddings, (n, D).
        communities: of the points, (n,), at least two values.
        patients: of the points, (n,); both versions of a translated report belong to one.
        seed: of the division into folds.
        folds: parts, each judged by a classifier fitted on the others.

    Returns:
        In [0, 1].

    Raises:
        UserError: fewer than two communities, or one with fewer patients than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    communities, patients = np.asarray(communities), np.asarray(patients)
    for community in _several(communities):
        count = len(np.unique(patients[communities == community]))
        if count < folds:
            raise UserError(
                f"the probe for communities needs at least {folds} patients of {str(community)!r}, not {count}: "
                "give it more data or fewer folds."
            )
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    points = points.astype(np.float64)
    told = cross_val_predict(classifier, points, communities, groups=patients, cv=parts)
    return float(balanced_accuracy_score(communities, told))


def community_silhouette(points: np.ndarray, communities: Sequence[str]) -> float:
    """Mean silhouette of the communities by cosine distance (Rousseeuw, 1987), (n, D), (n,) -> [-1, 1].

    1: each a tight cluster far from the others; 0: they lie in each other; below: points lie nearer to another's.

    Raises:
        UserError: fewer than two communities, or no more points than communities.
    """
    from sklearn.metrics import silhouette_score

    communities = np.asarray(communities)
    if len(_several(communities)) == len(communities):
        raise UserError("the silhouette of communities needs a community with at least 2 points; give it more data.")
    return float(silhouette_score(points.astype(np.float64), communities, metric="cosine"))


def translated_retrieval(
    english: np.ndarray, spanish: np.ndarray, k: int = 1, texts: tuple[Sequence[str], Sequence[str]] | None = None
) -> dict[str, float]:
    """How often a report's translation is among its k nearest reports of the other language, by cosine.

    Args:
        english, spanish: embeddings, (n, D); row i of both is the same study.
        k: how many of the nearest count.
        texts: the English and the Spanish reports, (n,) each. With them every candidate with the very text of the
            right one is right, too.

    Returns:
        "en_to_es_recall@k" and "es_to_en_recall@k" in [0, 1]; chance is about k / n.

    Raises:
        UserError: k is not in [1, n].
    """
    english_texts, spanish_texts = map(np.asarray, texts) if texts else (None, None)
    return {
        f"en_to_es_recall@{k}": recall_at_k(english, spanish, [k], spanish_texts)[k],
        f"es_to_en_recall@{k}": recall_at_k(spanish, english, [k], english_texts)[k],
    }


def _several(communities: np.ndarray) -> np.ndarray:
    """The distinct communities, at least two of them."""
    distinct = np.unique(communities)
    if len(distinct) < 2:
        raise UserError(f"community bias needs points of two communities, not only of {', '.join(map(str, distinct))}.")
    return distinct

"""Community bias on clouds whose overlap is known."""

import numpy as np
import pytest
from scipy.stats import norm

from nbcore.analysis.community import community_probe, community_silhouette, translated_retrieval
from nbcore.errors import UserError

RNG = np.random.default_rng(0)
LANGUAGES = np.repeat(["en", "es"], 300)
PATIENTS = np.arange(600)
CLOUD = RNG.normal(size=(600, 4))


def test_the_probe_reaches_what_the_overlap_allows():
    assert community_probe(CLOUD, LANGUAGES, PATIENTS, seed=0) == pytest.approx(0.5, abs=0.06)
    for distance in (1, 2, 8):
        apart = CLOUD + distance * (LANGUAGES == "es")[:, None] * np.eye(4)[0]
        best = norm.cdf(distance / 2)  # of two Gaussians so far apart
        assert community_probe(apart, LANGUAGES, PATIENTS, seed=0) == pytest.approx(best, abs=0.04)


def test_a_rare_community_counts_as_much_as_a_common_one():
    rare = np.repeat(["es", "en"], [200, 2000])
    apart = RNG.normal(size=(2200, 2)) + (rare == "es")[:, None] * np.eye(2)[0]
    assert community_probe(apart, rare, np.arange(2200), seed=0) == pytest.approx(norm.cdf(0.5), abs=0.05)


def test_the_probe_does_not_know_patients_again():
    """With more dimensions than patients a patient's second picture could be told by the first."""
    who = RNG.normal(size=(60, 200))
    points = np.repeat(who, 10, axis=0) + 0.01 * RNG.normal(size=(600, 200))
    grouped = community_probe(points, LANGUAGES, np.repeat(np.arange(60), 10), seed=0)
    assert grouped < 0.75 < community_probe(points, LANGUAGES, PATIENTS, seed=0)


def test_the_probe_ignores_order_names_and_the_scale_of_a_dimension():
    points = CLOUD + (LANGUAGES == "es")[:, None]
    value = community_probe(points, LANGUAGES, PATIENTS, seed=1)
    assert community_probe(points * [1, 10, 100, 1000] + 5, LANGUAGES, PATIENTS, seed=1) == pytest.approx(value)
    renamed = np.where(LANGUAGES == "es", "a", "b")
    assert community_probe(points, renamed, PATIENTS, seed=1) == pytest.approx(value, abs=0.02)
    assert community_probe(points.astype(np.float32), LANGUAGES, PATIENTS, seed=1) == pytest.approx(value, abs=0.005)


def test_embeddings_that_are_all_alike_give_nothing_away():
    rare = np.r_[0:300, 300:360]
    assert community_probe(np.ones((360, 4)), LANGUAGES[rare], rare, seed=0) == 0.5


def test_the_silhouette_equals_a_loop():
    points, languages = CLOUD[290:310] + (LANGUAGES[290:310] == "es")[:, None], LANGUAGES[290:310]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    distance, values = 1 - unit @ unit.T, []
    for i in range(20):
        own = languages == languages[i]
        inside = distance[i, own].sum() / (own.sum() - 1)
        outside = distance[i, ~own].mean()
        values.append((outside - inside) / max(inside, outside))
    assert community_silhouette(points, languages) == pytest.approx(np.mean(values))
    assert community_silhouette(7 * points, languages) == pytest.approx(np.mean(values))


def test_the_silhouette_of_one_and_of_two_clusters():
    assert community_silhouette(CLOUD, LANGUAGES) == pytest.approx(0, abs=0.02)
    apart = 100 * np.eye(4)[(LANGUAGES == "es").astype(int)] + CLOUD
    assert community_silhouette(apart, LANGUAGES) > 0.95


def test_translations_that_lie_together_are_found_in_both_directions():
    found = translated_retrieval(CLOUD, CLOUD + 1e-6)
    assert found == {"en_to_es_recall@1": 1, "es_to_en_recall@1": 1}
    assert translated_retrieval(CLOUD, np.ones((600, 4)))["en_to_es_recall@1"] == pytest.approx(1 / 600)


def test_the_two_directions_differ():
    english, spanish = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in np.radians([[0, 9, 50], [4, 60, 85]]))
    found = translated_retrieval(english, spanish)  # 0 finds 4, and 4 and 85 find 0 and 50; all else goes astray
    assert found == pytest.approx({"en_to_es_recall@1": 1 / 3, "es_to_en_recall@1": 2 / 3})
    assert translated_retrieval(english, spanish, k=3) == {"en_to_es_recall@3": 1, "es_to_en_recall@3": 1}


def test_a_report_with_the_very_text_of_the_translation_is_right():
    english = RNG.normal(size=(4, 3))
    spanish = english[[1, 0, 2, 3]]  # the first two translations are swapped
    texts = ["a", "b", "c", "d"], ["igual", "igual", "tercero", "cuarto"]
    assert translated_retrieval(english, spanish)["en_to_es_recall@1"] == 0.5
    found = translated_retrieval(english, spanish, texts=texts)
    assert found == {"en_to_es_recall@1": 1, "es_to_en_recall@1": 0.5}  # the English reports are all different


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: community_probe(CLOUD[:300], LANGUAGES[:300], PATIENTS[:300], 0), "two communities, not only of en"),
        (lambda: community_probe(CLOUD, LANGUAGES, np.minimum(PATIENTS, 303), 0), "5 patients of 'es', not 4"),
        (lambda: community_silhouette(CLOUD[:5], LANGUAGES[:5]), "two communities"),
        (lambda: community_silhouette(CLOUD[[0, 300]], LANGUAGES[[0, 300]]), "at least 2 points"),
        (lambda: translated_retrieval(CLOUD[:3], CLOUD[:3], k=4), "k = 4"),
    ],
)
def test_too_little_data(call, message):
    with pytest.raises(UserError, match=message):
        call()

"""Alignment of images with descriptions: a slow reference, invariances, chance."""

import numpy as np
import pytest

from nbcore.errors import UserError
from nbcore.tasks.text_image import top_k_alignment

RNG = np.random.default_rng(0)
IMAGES, DESCRIPTIONS = RNG.normal(size=(40, 6)), RNG.normal(size=(17, 6))
IMAGE_LABELS, DESCRIPTION_LABELS = RNG.integers(0, 3, 40), RNG.integers(0, 3, 17)
KS = [1, 2, 5, 17]


def test_it_equals_the_slow_reference():
    found = top_k_alignment(IMAGES, DESCRIPTIONS, IMAGE_LABELS, DESCRIPTION_LABELS, KS)
    for place, k in enumerate(KS):
        hits, shares = [], []
        for image, label in zip(IMAGES, IMAGE_LABELS):
            cosines = [image @ d / np.linalg.norm(image) / np.linalg.norm(d) for d in DESCRIPTIONS]
            nearest = sorted(range(17), key=lambda j: -cosines[j])[:k]
            matches = [DESCRIPTION_LABELS[j] == label for j in nearest]
            hits.append(any(matches))
            shares.append(np.mean(matches))
        assert found.hit[place] == pytest.approx(np.mean(hits))
        assert found.precision[place] == pytest.approx(np.mean(shares))


def test_chance_is_what_random_embeddings_have():
    arguments = IMAGE_LABELS, DESCRIPTION_LABELS, KS
    drawn = [top_k_alignment(RNG.normal(size=(40, 6)), RNG.normal(size=(17, 6)), *arguments) for _ in range(400)]
    for key in ("hit", "precision"):
        mean = np.mean([getattr(found, key) for found in drawn], axis=0)
        np.testing.assert_allclose(getattr(drawn[0], f"chance_{key}"), mean, atol=0.02)


def test_embeddings_that_are_all_alike_score_as_chance_does():
    images, descriptions = np.ones((3000, 4)), np.ones((20, 4))
    found = top_k_alignment(images, descriptions, np.arange(3000) % 2, np.arange(20) // 10, [1, 3])
    np.testing.assert_allclose(found.precision, 0.5, atol=0.03)
    np.testing.assert_allclose(found.hit, found.chance_hit, atol=0.03)


def test_scale_and_order_do_not_matter_and_own_descriptions_are_found():
    arguments = IMAGE_LABELS, DESCRIPTION_LABELS, KS
    found = top_k_alignment(IMAGES, DESCRIPTIONS, *arguments)
    other = top_k_alignment(7 * IMAGES[::-1], 0.1 * DESCRIPTIONS, IMAGE_LABELS[::-1], DESCRIPTION_LABELS, KS)
    np.testing.assert_allclose(other.precision, found.precision)
    perfect = top_k_alignment(np.eye(3)[IMAGE_LABELS], np.eye(3)[DESCRIPTION_LABELS], *arguments)
    assert perfect.hit.tolist() == [1, 1, 1, 1] and perfect.precision[0] == 1
    assert perfect.precision[-1] == pytest.approx(perfect.chance_precision[-1])  # all are looked at


@pytest.mark.parametrize("ks", [[0, 1], [1, 18]])
def test_more_descriptions_than_there_are_cannot_be_looked_at(ks):
    with pytest.raises(UserError, match=r"in \[1, 17\]"):
        top_k_alignment(IMAGES, DESCRIPTIONS, IMAGE_LABELS, DESCRIPTION_LABELS, ks)

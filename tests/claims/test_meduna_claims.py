"""MedUnA's claims on numbers whose outcome is known."""

import pandas as pd
import pytest

from nbcore.claims.meduna import claims

CLIP, MEDCLIP = "CLIP ViT-B/32", "MedCLIP-Swin"
ACCURACY = {
    CLIP: {"Zero-shot": 0.40, "LaFTer": 0.452, "TPT": 0.48, "MedUnA": 0.45},
    MEDCLIP: {"Zero-shot": 0.40, "LaFTer": 0.45, "TPT": 0.40, "MedUnA": 0.55},
}


def accuracies(values=ACCURACY, seeds=3) -> pd.DataFrame:
    """Two data sets, of which the second is easier by 0.1 for everybody."""
    return pd.DataFrame(
        {"backbone": b, "method": m, "dataset": d, "seed": s, "accuracy": v + 0.1 * (d == "B") + 0.001 * s}
        for b, methods in values.items()
        for m, v in methods.items()
        for d in "AB"
        for s in range(seeds)
    )


def texts(final: dict[str, float]) -> pd.DataFrame:
    ranks = {"rich": 0.9, "generic": 0.8, "noisy": 0.5}
    return pd.DataFrame(
        {"source": t, "dataset": d, "seed": s, "text": ranks[t], "final": final[t]}
        for t in final
        for d in "AB"
        for s in range(3)
    )


def separation(gain: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"backbone": b, "dataset": d, "seed": s, "before": 0.1, "after": 0.1 + gain}
        for b in ACCURACY
        for d in "AB"
        for s in range(3)
    )


def shares(official: float, ours: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"method": m, "dataset": d, "seed": s, "commonest": share}
        for m, share in {"MedUnA": ours, "official entropy": official}.items()
        for d in "AB"
        for s in range(3)
    )


def judged(*, values=ACCURACY, final=None, gain=0.05, official=1.0, ours=0.6):
    final = final or {"rich": 0.6, "generic": 0.5, "noisy": 0.4}
    found = claims(accuracies(values), texts(final), separation(gain), shares(official, ours))
    return {claim.key: claim for claim in found}


def test_rivals_are_met_on_each_backbone():
    found = judged()
    assert found[f"vs-zero-shot: {CLIP}"].mean == pytest.approx(5)
    assert found[f"vs-zero-shot: {CLIP}"].verdict == "supported"
    assert found[f"vs-tpt: {CLIP}"].verdict == "not supported"  # three points behind
    assert found[f"vs-lafter: {MEDCLIP}"].mean == pytest.approx(10)


def test_at_least_as_good_leaves_a_margin_of_one_point():
    found = judged()
    assert found[f"vs-lafter: {CLIP}"].mean == pytest.approx(-0.2)
    assert found[f"vs-lafter: {CLIP}"].verdict == "supported"
    assert found[f"vs-zero-shot: {CLIP}"].threshold == 0


def test_backbones_are_compared_where_both_are_there():
    assert judged()["medclip-over-clip"].mean == pytest.approx(10)
    assert "medclip-over-clip" not in judged(values={CLIP: ACCURACY[CLIP]})


@pytest.mark.parametrize(
    "final, tau, verdict",
    [
        ({"rich": 0.6, "generic": 0.5, "noisy": 0.4}, 1, "supported"),
        ({"rich": 0.4, "generic": 0.5, "noisy": 0.6}, -1, "not supported"),
        ({"rich": 0.5, "generic": 0.5, "noisy": 0.5}, 0, "inconclusive"),
    ],
)
def test_text_accuracy_ranks_the_sets(final, tau, verdict):
    found = judged(final=final)["texts-rank"]
    assert (found.mean, found.verdict) == (pytest.approx(tau), verdict)


def test_two_sets_have_no_ranking():
    assert "texts-rank" not in judged(final={"rich": 0.5, "noisy": 0.4})


def test_separation_is_the_rise_of_the_silhouette():
    assert judged(gain=-0.02)["separation"].mean == pytest.approx(-0.02)
    assert judged(gain=-0.02)["separation"].verdict == "not supported"


@pytest.mark.parametrize("official, ours, effect", [(0.95, 0.94, 100), (0.94, 0.5, 0), (1, 1, 0), (0.5, 0.99, -100)])
def test_a_run_has_collapsed_from_95_percent_on(official, ours, effect):
    assert judged(official=official, ours=ours)["official-entropy-collapses"].mean == pytest.approx(effect)


def test_without_the_control_there_is_no_claim_on_collapse():
    rows = shares(1.0, 0.5)
    found = claims(accuracies(), texts({"rich": 0.6}), separation(0.1), rows[rows["method"] == "MedUnA"])
    assert "official-entropy-collapses" not in {claim.key for claim in found}


def test_three_seeds_are_needed():
    found = claims(accuracies(seeds=2), texts({"rich": 0.6}), separation(0.1), shares(1, 1))
    assert {c.verdict for c in found if c.key.startswith("vs-")} == {"inconclusive"}

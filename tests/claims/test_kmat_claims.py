"""K-MaT's claims on numbers whose outcome is known."""

import pandas as pd
import pytest

from nbcore.claims.kmat import claims

PAIRS = ["Skin I", "Breast"]
# method -> (Hi, Lo, H) of an easy pair; the other is harder by 0.1
RUNS = {
    "BiomedCLIP": (0.3, 0.4, 0.34),
    "CoOp": (0.6, 0.3, 0.4),
    "KgCoOp": (0.55, 0.35, 0.43),
    "BiomedCoOp": (0.55, 0.42, 0.485),
    "K-MaT": (0.6, 0.4, 0.48),
}
ROWS = {"row 1": 0.40, "row 3": 0.35, "row 4": 0.42, "row 5": 0.44, "row 8": 0.48}


def runs(values=RUNS, seeds=3) -> pd.DataFrame:
    return pd.DataFrame(
        {"method": m, "dataset": pair, "seed": s, "setting": setting, "accuracy": v - 0.1 * i + 0.001 * s, "f1": v / 2}
        for m, ends in values.items()
        for i, pair in enumerate(PAIRS)
        for s in range(seeds)
        for setting, v in zip(("Hi", "Lo", "H"), ends)
    )


def ablation(harmonic=ROWS, commonest=None, seeds=3) -> pd.DataFrame:
    shares = {"row 3": 0.9, "row 5": 0.5, "row 4": 0.6, "row 8": 0.7} | (commonest or {})
    return pd.DataFrame(
        {"method": m, "dataset": pair, "seed": s, "setting": setting, "accuracy": value, "f1": value, "commonest": c}
        for m, value in harmonic.items()
        for pair in PAIRS
        for s in range(seeds)
        for setting, c in (("Lo", shares.get(m, 0.5)), ("H", float("nan")))
    )


def structure(with_transport: float = 0.9) -> pd.DataFrame:
    return pd.DataFrame(
        {"method": m, "dataset": pair, "seed": s, "correlation": with_transport if m in ("row 5", "row 8") else 0.2}
        for m in ROWS
        for pair in PAIRS
        for s in range(3)
    )


def verdicts(found):
    return {claim.key: claim.verdict for claim in found}


def test_each_claim_is_judged_on_its_own_numbers():
    found = verdicts(claims(runs(), ablation(), structure()))
    assert found["vs-coop: accuracy"] == found["vs-kgcoop: accuracy"] == "supported"
    assert found["vs-biomedcoop: accuracy"] == "supported"  # half a point below, within the margin of one
    assert found["vs-coop: f1"] == "supported"
    assert found["coop-forgets: Skin I"] == found["coop-forgets: Breast"] == "supported"
    assert found["kmat-keeps-the-low-end"] == "supported"
    for key in ("anchoring-helps", "transport-helps", "together-most", "over-baseline"):
        assert found[key] == "supported"
    assert found["structure: without anchoring"] == found["structure: with anchoring"] == "supported"
    assert found["spread: without anchoring"] == "supported"
    assert found["spread: with anchoring"] == "not supported"


def test_the_other_way_round_nothing_is_supported():
    worse = {**RUNS, "K-MaT": (0.3, 0.2, 0.24), "CoOp": (0.6, 0.5, 0.55)}
    rows = {"row 1": 0.5, "row 3": 0.45, "row 4": 0.42, "row 5": 0.41, "row 8": 0.4}
    found = verdicts(claims(runs(worse), ablation(rows, {"row 5": 1.0}), structure(0.1)))
    assert set(found.values()) == {"not supported"}


def test_effects_are_points_averaged_over_the_pairs_and_paired_by_seed():
    found = {claim.key: claim for claim in claims(runs(), ablation(), structure())}
    assert found["vs-coop: accuracy"].effects == pytest.approx([8.0] * 3)
    assert found["vs-biomedcoop: accuracy"].mean == pytest.approx(-0.5)
    assert found["together-most"].mean == pytest.approx(4.0)
    assert found["spread: without anchoring"].mean == pytest.approx(40.0)


def test_two_seeds_decide_nothing_and_absent_methods_are_left_out():
    few = runs(seeds=2)
    found = claims(few[few["method"] != "KgCoOp"], ablation().iloc[:0], structure())
    assert {claim.verdict for claim in found} == {"inconclusive"}
    assert not [claim.key for claim in found if "kgcoop" in claim.key or "transport" in claim.key]


def test_without_correlations_the_structure_is_not_judged():
    found = verdicts(claims(runs(), ablation(), structure().iloc[:0]))
    assert "spread: with anchoring" in found and not [key for key in found if key.startswith("structure")]

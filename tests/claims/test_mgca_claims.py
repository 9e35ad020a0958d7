"""MGCA's claims on numbers whose outcome is known."""

import pandas as pd
import pytest

from nbcore.claims.mgca import claims

SCORES = {"MGCA": 0.70, "ConVIRT": 0.66, "GLoRIA-MIMIC": 0.73, "Random": 0.50}
ABLATION = {"MGCA": 0.70, "ITA": 0.71, "ITA + CTA": 0.6, "ITA + CPA": 0.6}
DICE = {
    "MGCA": 0.50,
    "ConVIRT": 0.50,
    "GLoRIA-MIMIC": 0.50,
    "Random": 0.3,
    "ITA": 0.4,
    "ITA + CTA": 0.45,
    "ITA + CPA": 0.42,
}
MAP = {"MGCA": 0.20, "ConVIRT": 0.21, "GLoRIA-MIMIC": 0.17, "Random": 0.1}


def runs(values: dict[str, float], column: str, fractions=(0.01, 1.0), **keys) -> pd.DataFrame:
    """Three seeds on two data sets; with more labels the order of the methods is turned round."""
    rows = [
        {"method": m, "seed": s, "dataset": d, "fraction": f, column: (v if f < 1 else 1 - v) + 0.01 * s, **keys}
        for m, v in values.items()
        for s in range(3)
        for d in ("A", "B")
        for f in fractions
    ]
    return pd.DataFrame(rows)


def frames():
    localized = pd.concat(
        [runs(DICE, "dice", (0.1, 1.0), task="segmentation"), runs(MAP, "map", (0.1, 1.0), task="detection")]
    )
    pointing = [{"seed": s, "dataset": d, "hits": 0.4 + 0.01 * s, "chance": 0.3} for s in range(3) for d in "AB"]
    return runs(SCORES, "score"), runs(ABLATION, "score"), localized, pd.DataFrame(pointing), [0.1, 0.2, 0.3]


def test_effects_and_verdicts_are_those_of_the_numbers():
    found = {claim.key: claim for claim in claims(*frames())}
    expected = {
        "full-vs-ita": (-1.0, "not supported"),
        "cta-vs-cpa": (3.0, "supported"),
        "mgca-vs-convirt": (1.0, "supported"),
        "mgca-vs-gloria-mimic": (0.0, None),
        "words-point": (11.0, "supported"),
        "prototypes-agree": (0.2, "supported"),
    }
    assert found.keys() == expected.keys()
    for key, (mean, verdict) in expected.items():
        assert found[key].mean == pytest.approx(mean, abs=1e-9)
        assert verdict is None or found[key].verdict == verdict
        assert len(found[key].effects) == 3


def test_without_localisation_the_other_claims_stand():
    probes, ablation, _, pointing, agreement = frames()
    empty = pd.DataFrame(columns=["method", "seed", "dataset", "task", "fraction"])
    found = claims(probes, ablation, empty, pointing[:0], agreement)
    assert [claim.key for claim in found] == ["full-vs-ita", "prototypes-agree"]

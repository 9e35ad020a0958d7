"""M-FLAG's claims on probes whose outcome is known."""

import pandas as pd
import pytest

from nbcore.claims.mflag import claims

METHODS = {
    "M-FLAG": 0.70,
    "Random": 0.60,
    "only L_align": 0.72,
    "only L_orth": 0.65,
    "Unfreeze_1": 0.66,
    "Unfreeze_2": 0.72,
}


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [
        {
            "method": method,
            "seed": seed,
            "dataset": name,
            "fraction": fraction,
            "score": auc + 0.01 * seed + 0.1 * fraction,
        }
        for method, auc in METHODS.items()
        for seed in range(3)
        for name in ("NIH", "MIMIC")
        for fraction in (0.01, 0.1)
    ]
    ranks = [{"method": m, "seed": s, "effective_rank": 100 * auc} for m, auc in METHODS.items() for s in range(3)]
    return pd.DataFrame(rows), pd.DataFrame(ranks)


def test_effects_and_verdicts_are_those_of_the_numbers():
    found = {claim.key: claim for claim in claims(*frames(), 20, 100)}
    expected = {
        "orthogonality-rank": (-2.0, "not supported"),
        "full-vs-align": (-2.0, "not supported"),
        "full-vs-orth": (5.0, "supported"),
        "frozen-vs-unfrozen": (1.0, "supported"),
        "pretraining-1%": (10.0, "supported"),
        "pretraining-10%": (10.0, "supported"),
        "fewer-parameters": (80.0, "supported"),
    }
    assert found.keys() == expected.keys()
    for key, (mean, verdict) in expected.items():
        assert found[key].mean == pytest.approx(mean)
        assert found[key].verdict == verdict
        assert len(found[key].effects) == (1 if key == "fewer-parameters" else 3)

"""Med-UniC's claims on numbers whose outcome is known."""

import pandas as pd
import pytest

from nbcore.claims.med_unic import ABLATIONS, OURS, RIVALS, claims
from nbcore.paths import NOTEBOOKS

WITHOUT_CTR = "SSV + CVL + MLM"
TITLES = ("0 frozen", "9 frozen", "12 frozen")
SEEDS = range(3)
TEXT = {"MLM": (0.9, 0.5, 0.2), "Med-UniC": (0.7, 0.1, 0.6), WITHOUT_CTR: (0.1, 0.9, 0.9)}
IMAGE = {"MLM": (0.0, 0.0), "Med-UniC": (0.8, 0.3), WITHOUT_CTR: (0.6, 0.4)}
AUC = {  # English, Spanish
    "Med-UniC": (0.80, 0.75),
    WITHOUT_CTR: (0.85, 0.74),
    "CVL + MLM": (0.70, 0.60),
    "SSV + CVL + CTR": (0.90, 0.90),
    "ConVIRT": (0.90, 0.70),
    "GLoRIA-MIMIC": (0.50, 0.77),
    "MGCA": (0.60, 0.65),
}
SCORES = {"Med-UniC": 0.70, "CVL + MLM": 0.66, WITHOUT_CTR: 0.71, "SSV + CVL + CTR": 0.69, "Random": 0.9}
SCORES |= {"ConVIRT": 0.65, "GLoRIA-MIMIC": 0.72, "MGCA": 0.67}
LOCALIZED = {  # Dice, mAP
    "Med-UniC": (0.6, 0.4),
    "ConVIRT": (0.5, 0.2),
    "GLoRIA-MIMIC": (0.8, 0.3),
    "MGCA": (0.5, 0.4),
}
FROZEN = {"0 frozen": 0.705, "9 frozen": 0.70, "12 frozen": 0.68}
EXPECTED = {
    "text-probe": (20.0, "supported"),
    "text-silhouette": (0.4, "supported"),
    "text-translations": (40.0, "supported"),
    "text-ctr-probe": (-60.0, "not supported"),
    "text-ctr-silhouette": (0.8, "supported"),
    "text-ctr-translations": (-30.0, "not supported"),
    "image-probe": (-20.0, "not supported"),
    "image-silhouette": (0.1, "supported"),
    "spanish-loses-less": (6.0, "supported"),
    "spanish-vs-convirt": (5.0, "supported"),
    "spanish-vs-gloria-mimic": (-2.0, "not supported"),
    "spanish-vs-mgca": (10.0, "supported"),
    "full-vs-cvl-mlm-probes": (4.0, "supported"),
    "full-vs-ssv-cvl-mlm-probes": (-1.0, "not supported"),
    "full-vs-ssv-cvl-ctr-probes": (1.0, "supported"),
    "full-vs-cvl-mlm-zero-shot": (12.5, "supported"),
    "full-vs-ssv-cvl-mlm-zero-shot": (-2.0, "not supported"),
    "full-vs-ssv-cvl-ctr-zero-shot": (-12.5, "not supported"),
    "few-labels-vs-convirt": (5.0, "supported"),
    "few-labels-vs-gloria-mimic": (-2.0, "not supported"),
    "few-labels-vs-mgca": (3.0, "supported"),
    "localizes-vs-convirt": (15.0, "supported"),  # half of 10 in Dice and 20 in mAP
    "localizes-vs-gloria-mimic": (-5.0, "not supported"),
    "localizes-vs-mgca": (5.0, "supported"),
    "frozen-vs-none": (-0.5, "supported"),  # within a point
    "frozen-vs-all": (2.0, "supported"),
    "heat-en": (10.0, "supported"),
    "heat-es": (-5.0, "not supported"),
    "heat-agrees": (0.2, "supported"),
}


def frames(seeds=SEEDS) -> list[pd.DataFrame]:
    """Every number shifts with the seed, alike for all methods; with more labels the order of methods is turned."""
    bias = [
        {"embedding": e, "modality": m, "seed": s, **{k: v + 0.01 * s for k, v in zip(names, values)}}
        for m, table in (("text", TEXT), ("image", IMAGE))
        for e, values in table.items()
        for s in seeds
        for names in [("probe", "silhouette", "en_to_es")]
    ]
    zero_shot = [
        {"method": m, "seed": s, "dataset": d, "language": code, "auc": value + 0.01 * s + shift}
        for m, values in AUC.items()
        for s in seeds
        for d, shift in (("CXP500", 0.05), ("PDC", -0.05))
        for code, value in zip(("en", "es"), values)
    ]
    probes = [
        {"method": m, "seed": s, "dataset": d, "fraction": f, "score": (v if f < 0.5 else 1 - v) + 0.01 * s}
        for m, v in SCORES.items()
        for s in seeds
        for d in "AB"
        for f in (0.1, 1.0)
    ]
    frozen = [
        {"method": m, "seed": s, "dataset": d, "fraction": f, "score": v + 0.01 * s}
        for m, v in FROZEN.items()
        for s in seeds
        for d in "AB"
        for f in (0.1, 1.0)
    ]
    localized = [
        {
            "method": m,
            "seed": s,
            "dataset": "A",
            "task": task,
            "fraction": f,
            value: (v if f < 0.5 else 1 - v) + 0.01 * s,
        }
        for m, values in LOCALIZED.items()
        for s in seeds
        for (task, value), v in zip((("segmentation", "dice"), ("detection", "map")), values)
        for f in (0.1, 1.0)
    ]
    pointing = [
        {"seed": s, "dataset": d, "language": code, "hits": hits + 0.01 * s, "chance": 0.3 + 0.01 * s}
        for s in seeds
        for d in "AB"
        for code, hits in (("en", 0.4), ("es", 0.25))
    ]
    agreement = [
        {"seed": s, "dataset": d, "agreement": 0.7 + 0.01 * s, "mismatched": 0.5 + 0.01 * s}
        for s in seeds
        for d in "AB"
    ]
    return [pd.DataFrame(rows) for rows in (bias, zero_shot, probes, frozen, localized, pointing, agreement)]


def test_effects_and_verdicts_are_those_of_the_numbers():
    found = {claim.key: claim for claim in claims(*frames(), TITLES)}
    assert found.keys() == EXPECTED.keys()
    for key, (mean, verdict) in EXPECTED.items():
        assert found[key].mean == pytest.approx(mean, abs=1e-9), key
        assert found[key].verdict == verdict, key
        assert len(found[key].effects) == 3


def test_more_than_a_point_lost_by_freezing_is_too_much():
    data = frames()
    data[3].loc[data[3]["method"] == "9 frozen", "score"] -= 0.01
    found = {claim.key: claim for claim in claims(*data, TITLES)}
    assert (found["frozen-vs-none"].threshold, found["frozen-vs-none"].verdict) == (-1.0, "not supported")


def test_two_seeds_decide_nothing():
    found = claims(*frames(range(2)), TITLES)
    assert len(found) == len(EXPECTED)
    assert {claim.verdict for claim in found} == {"inconclusive"}


@pytest.mark.parametrize(
    ("place", "prefixes"),
    [
        (0, ("text", "image")),
        (1, ("spanish", "full-vs-cvl-mlm-zero", "full-vs-ssv-cvl-mlm-zero", "full-vs-ssv-cvl-ctr-zero")),
        (2, ("full-vs-cvl-mlm-probes", "full-vs-ssv-cvl-mlm-probes", "full-vs-ssv-cvl-ctr-probes", "few-labels")),
        (3, ("frozen",)),
        (4, ("localizes",)),
        (5, ("heat-en", "heat-es")),
        (6, ("heat-agrees",)),
    ],
)
@pytest.mark.parametrize("columns", [True, False])
def test_without_an_input_its_claims_are_left_out(place, prefixes, columns):
    data = frames()
    data[place] = data[place][:0] if columns else pd.DataFrame()
    left = {key for key in EXPECTED if not key.startswith(prefixes)}
    assert {claim.key for claim in claims(*data, TITLES)} == left


def test_what_was_not_run_or_measured_leaves_its_claim_out():
    data = frames()
    data[0] = data[0].drop(columns="en_to_es")
    data[1] = data[1][data[1]["method"] != "MGCA"]
    left = EXPECTED.keys() - {"text-translations", "text-ctr-translations", "spanish-vs-mgca"}
    assert {claim.key for claim in claims(*data, TITLES)} == left


def test_seeds_are_paired():
    data = frames()
    data[1] = data[1][(data[1]["method"] != "ConVIRT") | (data[1]["seed"] != 1)].sample(frac=1, random_state=0)
    found = {claim.key: claim for claim in claims(*data, TITLES)}
    assert found["spanish-vs-convirt"].effects == pytest.approx([5.0, 5.0])
    assert found["spanish-vs-mgca"].effects == pytest.approx([10.0] * 3)


def test_the_notebook_calls_its_methods_as_the_claims_do():
    """A method under another title would silently leave its claims out."""
    source = (NOTEBOOKS / "med_unic.ipynb").read_text(encoding="utf-8")
    for title in (OURS, *ABLATIONS, *RIVALS):
        assert f'\\"{title}\\"' in source, title
    for layers in (0, 9, 12):
        assert f"depth({layers})" in source

"""MGCA's claims (Wang et al., NeurIPS 2022)."""

from collections.abc import Iterable

import pandas as pd

from nbcore.results import Claim, judge


def claims(
    probes: pd.DataFrame,
    ablation: pd.DataFrame,
    localized: pd.DataFrame,
    pointing: pd.DataFrame,
    agreement: Iterable[float],
) -> list[Claim]:
    """The claims whose numbers are there. "Few labels" are the smallest fraction of each task, 1 % in the paper.

    Args:
        probes: a row a probe: method, seed, dataset, fraction in (0, 1], score (AUC or accuracy) in [0, 1].
        ablation: the same, of the methods of Table 4 on one backbone.
        localized: a row a decoder: method, seed, dataset, task, fraction, dice and map in [0, 1].
        pointing: a row a run of MGCA and data set: seed, dataset, hits and chance in [0, 1].
        agreement: of prototypes and findings, adjusted mutual information, one a seed.
    """
    score, full = _few(probes, "score"), _few(ablation, "score")
    found = [
        judge(
            "full-vs-ita",
            "With few labels, all three alignments classify better than instance alignment alone.",
            "Sect. 4.4, Table 4",
            100 * (full["MGCA"] - full["ITA"]),
            unit="points",
        ),
        judge(
            "prototypes-agree",
            "Prototypes group pictures by finding better than chance (adjusted mutual information).",
            "Sect. 4.4, Fig. 4",
            agreement,
            unit="of 1",
        ),
    ]
    if len(pointing):
        hits = pointing.groupby("seed")[["hits", "chance"]].mean()
        found.append(
            judge(
                "words-point",
                "A finding's word looks inside that finding more often than inside those of other pictures.",
                "Sect. 4.4, Fig. 3",
                100 * (hits["hits"] - hits["chance"]),
                unit="% of the pictures",
            )
        )
    return found + (_localized_claims(score, localized) if len(localized) else [])


def _localized_claims(score: pd.DataFrame, localized: pd.DataFrame) -> list[Claim]:
    """Those on segmentation and detection; `score` as of `_few`."""
    tasks = localized["task"]
    dice, precision = _few(localized[tasks == "segmentation"], "dice"), _few(localized[tasks == "detection"], "map")
    average = (score + dice + precision) / 3
    return [
        judge(
            "cta-vs-cpa",
            "With few labels, adding token alignment helps segmentation more than adding prototype alignment.",
            "Sect. 4.4, Table 4",
            100 * (dice["ITA + CTA"] - dice["ITA + CPA"]),
            unit="Dice points",
        ),
        *(
            judge(
                f"mgca-vs-{rival.lower()}",
                f"With few labels, MGCA beats {rival} on the average of classification, segmentation and detection.",
                "Sect. 4.3, Tables 1 to 3",
                100 * (average["MGCA"] - average[rival]),
                unit="points",
            )
            for rival in ("ConVIRT", "GLoRIA-MIMIC")
        ),
    ]


def _few(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean of a value over the data sets at the smallest label fraction, a row a seed and a column a method."""
    chosen = rows[rows["fraction"] == rows["fraction"].min()]
    return chosen.pivot_table(index="seed", columns="method", values=value, aggfunc="mean")

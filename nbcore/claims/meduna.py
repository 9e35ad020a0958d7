"""MedUnA's claims (Rahman et al., ISBI 2025). Accuracies are those of the last epoch: no label has chosen it."""

import pandas as pd
from scipy.stats import kendalltau

from nbcore.results import Claim, judge

MARGIN = 1.0  # points by which a rival may be better where the claim is "at least as good"
COLLAPSED = 0.95  # share of test pictures in one predicted class from which a run counts as collapsed


def claims(
    accuracies: pd.DataFrame, texts: pd.DataFrame, separation: pd.DataFrame, shares: pd.DataFrame
) -> list[Claim]:
    """The claims whose numbers are there.

    Args:
        accuracies: a row a run: backbone, method, dataset, seed, accuracy in [0, 1].
        texts: a row a run of MedUnA: source (the description set), dataset, seed, and `text` and `final`, the
            accuracies of the text classifier and of the adapted model.
        separation: a row a run of MedUnA: backbone, dataset, seed, and `before` and `after`, the silhouettes of the
            classes.
        shares: a row a run: method ("MedUnA", or "official entropy" for the same with that term), dataset, seed, and
            `commonest`, the share of the test pictures that were given the commonest class.
    """
    found = [
        claim for backbone, runs in accuracies.groupby("backbone", sort=False) for claim in _rivals(backbone, runs)
    ]
    found += _backbone_claims(_average(accuracies[accuracies["method"] == "MedUnA"], "backbone"))
    if texts["source"].nunique() > 2:
        found.append(
            judge(
                "texts-rank",
                "The better a description set trains the text classifier, the better the adapted model: rank "
                "correlation (Kendall) over the sets, on the average of the data sets.",
                "Sect. 3.2, Fig. 2, Table 3",
                [_agreement(runs) for _, runs in texts.groupby("seed")],
                unit="of 1",
            )
        )
    means = separation.groupby("seed")[["before", "after"]].mean()
    found.append(
        judge(
            "separation",
            "Stage 2 separates the classes in feature space: the silhouette of the test pictures rises.",
            "Sect. 3.2, Fig. 5 (Q4)",
            means["after"] - means["before"],
            unit="of 1",
        )
    )
    return found + _collapse_claims(shares)


def _backbone_claims(average: pd.DataFrame) -> list[Claim]:
    """MedUnA on its two backbones, where both are there; `average` as of `_average`."""
    if not {"CLIP ViT-B/32", "MedCLIP-Swin"} <= set(average):
        return []
    return [
        judge(
            "medclip-over-clip",
            "MedUnA is more accurate with MedCLIP than with CLIP, on the average of the data sets.",
            "Sect. 3.2, Table 1 (Q3)",
            100 * (average["MedCLIP-Swin"] - average["CLIP ViT-B/32"]),
            unit="points",
        )
    ]


def _collapse_claims(shares: pd.DataFrame) -> list[Claim]:
    """The two entropy terms, where the control with the official one is there."""
    if "official entropy" not in set(shares["method"]):
        return []
    collapsed = _average(shares.assign(accuracy=shares["commonest"] >= COLLAPSED), "method")
    return [
        judge(
            "official-entropy-collapses",
            f"The official entropy term ends more often with one class for at least {COLLAPSED:.0%} of the test "
            "pictures than the paper's per-sample entropy does.",
            "Eq. 3 against the code",
            100 * (collapsed["official entropy"] - collapsed["MedUnA"]),
            unit="% of the data sets",
        )
    ]


def _rivals(backbone: str, runs: pd.DataFrame) -> list[Claim]:
    """MedUnA against each rival on one backbone."""
    average = _average(runs, "method")
    wording = {
        "Zero-shot": (0.0, "is more accurate than zero-shot"),
        "LaFTer": (-MARGIN, f"is at least as accurate as LaFTer, to within {MARGIN:g} point"),
        "TPT": (-MARGIN, f"is at least as accurate as TPT, to within {MARGIN:g} point"),
    }
    return [
        judge(
            f"vs-{rival.lower()}: {backbone}",
            f"With {backbone}, MedUnA {told}, on the average of the data sets.",
            "Sect. 3.2, Table 1 (Q1)",
            100 * (average["MedUnA"] - average[rival]),
            unit="points",
            threshold=threshold,
        )
        for rival, (threshold, told) in wording.items()
        if rival in average
    ]


def _average(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean accuracy over the data sets, a row a seed and a column a value of `column`."""
    return runs.pivot_table(index="seed", columns=column, values="accuracy", aggfunc="mean")


def _agreement(runs: pd.DataFrame) -> float:
    """Mean over the data sets of the rank correlation of the two accuracies over the description sets; 0 where one of
    them is the same for all sets."""
    found = [kendalltau(own["text"], own["final"]).statistic for _, own in runs.groupby("dataset")]
    return float(pd.Series(found).fillna(0).mean())

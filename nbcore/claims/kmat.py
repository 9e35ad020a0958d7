"""K-MaT's claims (Zeng & Albarqouni, 2026). Effects are paired by seed; averages are taken over the pairs."""

import pandas as pd

from nbcore.results import Claim, judge

ZERO_SHOT = "zero-shot"
_WITH_AND_WITHOUT = (("without anchoring", "row 3", "row 5"), ("with anchoring", "row 4", "row 8"))
MARGIN = 1.0  # points by which a rival may be better where the claim is "at least as good"


def claims(
    runs: pd.DataFrame, ablation: pd.DataFrame, structure: pd.DataFrame, zero_shot: str = "BiomedCLIP"
) -> list[Claim]:
    """The claims whose numbers are there.

    Args:
        runs: a row a run and setting: method (as Table 2 has it), dataset (the pair), seed, setting (Hi, Lo, H), and
            accuracy, f1 in [0, 1].
        ablation: the same for the rows of Table 3, and `commonest`, the share of the commonest answer.
        structure: a row a run of Table 3: method, dataset, seed, and `correlation` of the two modalities' geometries;
            may be empty.
        zero_shot: what `runs` calls zero-shot classification, the backbone's name.
    """
    runs = runs.replace({"method": {zero_shot: ZERO_SHOT}})
    found = _rivals(runs) + _forgetting(runs)
    if {"row 3", "row 4", "row 5", "row 8"} <= set(ablation["method"]):
        found += _parts(ablation) + _relations(ablation, structure)
    return found


def _rivals(runs: pd.DataFrame) -> list[Claim]:
    """K-MaT against each rival, by the harmonic mean of both accuracies, and of both F1."""
    wording = {
        "CoOp": (0.0, "above CoOp's"),
        "KgCoOp": (0.0, "above KgCoOp's"),
        "CoCoOp": (0.0, "above CoCoOp's"),
        "BiomedCoOp": (-MARGIN, f"at least BiomedCoOp's, to within {MARGIN:g} point"),
        ZERO_SHOT: (0.0, "above that of zero-shot classification"),
    }
    found = []
    for column, told in {"accuracy": "accuracies", "f1": "macro F1 scores"}.items():
        average = _average(runs[runs["setting"] == "H"], column)
        found += [
            judge(
                f"vs-{rival.lower()}: {column}",
                f"K-MaT's harmonic mean of high-end and low-end {told} is {relation}, on the average of the pairs.",
                "Sect. 3.2, Table 2",
                100 * (average["K-MaT"] - average[rival]),
                unit="points",
                threshold=threshold,
            )
            for rival, (threshold, relation) in wording.items()
            if rival in average
        ]
    return found


def _forgetting(runs: pd.DataFrame) -> list[Claim]:
    """Whether prompts learnt on the high end lose the low end, and whether K-MaT loses less."""
    low = runs[runs["setting"] == "Lo"].pivot_table(index=["dataset", "seed"], columns="method", values="accuracy")
    if not {"CoOp", ZERO_SHOT} <= set(low):
        return []
    average, source = low.groupby("seed").mean(), "Sect. 3.2, Table 2"
    found = [
        judge(
            f"coop-forgets: {pair}",
            f"CoOp forgets the low end: its accuracy there is below that of zero-shot classification on {pair}.",
            source,
            100 * (own[ZERO_SHOT] - own["CoOp"]),
            unit="points",
        )
        for pair, own in low.groupby("dataset", sort=False)
    ]
    kept = judge(
        "kmat-keeps-the-low-end",
        "K-MaT keeps more low-end accuracy than CoOp, on the average of the pairs.",
        source,
        100 * (average["K-MaT"] - average["CoOp"]),
        unit="points",
    )
    return [*found, kept]


def _parts(ablation: pd.DataFrame) -> list[Claim]:
    """What anchoring and transport add to class- and modality-specific contexts (rows 3, 4, 5 and 8)."""
    mean = _average(ablation[ablation["setting"] == "H"], "accuracy")
    source = "Sect. 3.3, Table 3"
    effects = {
        "anchoring-helps": (
            "Anchoring alone raises the harmonic mean of the accuracies.",
            mean["row 4"] - mean["row 3"],
        ),
        "transport-helps": (
            "Transport alone raises the harmonic mean of the accuracies.",
            mean["row 5"] - mean["row 3"],
        ),
        "together-most": (
            "Anchoring and transport together raise it more than the better of the two alone.",
            mean["row 8"] - mean[["row 4", "row 5"]].max(axis=1),
        ),
    }
    if "row 1" in mean:
        effects["over-baseline"] = (
            "The whole of K-MaT raises it above plain contexts learnt by cross-entropy alone.",
            mean["row 8"] - mean["row 1"],
        )
    return [judge(key, told, source, 100 * effect, unit="points") for key, (told, effect) in effects.items()]


def _relations(ablation: pd.DataFrame, structure: pd.DataFrame) -> list[Claim]:
    """What transport does to the low-end prompts, without anchoring (as in Figure 2) and with it."""
    commonest = _average(ablation[ablation["setting"] == "Lo"], "commonest")
    correlation = _average(structure, "correlation")
    found = []
    for told, without, with_transport in _WITH_AND_WITHOUT:
        if len(structure):
            found.append(
                judge(
                    f"structure: {told}",
                    "Transport makes the low-end prompts mirror the relations of the high-end ones: the distances of "
                    f"the classes correlate more, {told}.",
                    "Sect. 3.3, Fig. 2(a)",
                    correlation[with_transport] - correlation[without],
                    unit="of 1",
                )
            )
        found.append(
            judge(
                f"spread: {told}",
                "Transport keeps the low-end answers from collapsing into a single class: the commonest answer is "
                f"given less often, {told}.",
                "Sect. 3.3, Fig. 2(b)",
                100 * (commonest[without] - commonest[with_transport]),
                unit="% of the pictures",
            )
        )
    return found


def _average(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean over the pairs, a row a seed and a column a method."""
    return runs.pivot_table(index="seed", columns="method", values=column, aggfunc="mean")

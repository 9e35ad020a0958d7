"""M-FLAG's claims (Liu et al., MICCAI 2023)."""

import pandas as pd

from nbcore.results import Claim, judge

LOW = 0.01  # the paper's ablations are read at 1 % of the labels


def claims(
    probes: pd.DataFrame, ranks: pd.DataFrame, trainable: int, trainable_with_language_model: int
) -> list[Claim]:
    """All claims of the notebook.

    Args:
        probes: a row a probe: method, seed, dataset, fraction in (0, 1], score (AUC) in [0, 1].
        ranks: a row an encoder: method, seed, effective_rank of its test features.
        trainable: parameters that M-FLAG trains at the paper's size.
        trainable_with_language_model: the same with the language model trained as well.
    """
    unfrozen = sorted(method for method in probes["method"].unique() if method.startswith("Unfreeze"))
    low, rank = _auc(probes, LOW), ranks.pivot(index="seed", columns="method", values="effective_rank")
    return [
        judge(
            "orthogonality-rank",
            "The orthogonality loss raises the effective rank of the image features over alignment alone.",
            "Sect. 2.2 and 3.4, Fig. 1",
            rank["M-FLAG"] - rank["only L_align"],
            unit="dimensions",
        ),
        _better(
            "full-vs-align",
            "With 1 % of the labels, both losses together classify better than alignment alone.",
            "Sect. 3.5, Table 4",
            low["M-FLAG"] - low["only L_align"],
        ),
        _better(
            "full-vs-orth",
            "With 1 % of the labels, both losses together classify better than orthogonality alone.",
            "Sect. 3.5, Table 4",
            low["M-FLAG"] - low["only L_orth"],
        ),
        _better(
            "frozen-vs-unfrozen",
            "With 1 % of the labels, the frozen language model serves better than the mean of its unfrozen variants.",
            "Sect. 3.5, Table 5",
            low["M-FLAG"] - low[unfrozen].mean(axis=1),
        ),
        *(_better_than_random(probes, fraction) for fraction in (LOW, 0.1)),
        judge(
            "fewer-parameters",
            "Freezing the language model saves at least 70 % of the trainable parameters (at the paper's size).",
            "Abstract: 78 %",
            [100 * (1 - trainable / trainable_with_language_model)],
            unit="% of the parameters",
            threshold=70,
            exact=True,
        ),
    ]


def _better(key: str, sentence: str, source: str, difference: pd.Series) -> Claim:
    """A claim on a difference of AUCs, one a seed, told in points."""
    return judge(key, sentence, source, 100 * difference, unit="AUC points")


def _better_than_random(probes: pd.DataFrame, fraction: float) -> Claim:
    auc = _auc(probes, fraction)
    sentence = f"With {fraction:.0%} of the labels, pre-trained features classify better than random ones."
    return _better(f"pretraining-{fraction:.0%}", sentence, "Sect. 3.3, Table 2", auc["M-FLAG"] - auc["Random"])


def _auc(probes: pd.DataFrame, fraction: float) -> pd.DataFrame:
    """Mean AUC over the data sets at one label fraction, a row a seed and a column a method."""
    chosen = probes[probes["fraction"] == fraction]
    return chosen.pivot_table(index="seed", columns="method", values="score", aggfunc="mean")

"""Med-UniC's claims (Wan et al., NeurIPS 2023).

The paper shows community bias on t-SNE pictures; here a probe, a silhouette and the retrieval of translations measure
it. Every difference is paired by seed, and positive where the paper is right.
"""

import pandas as pd

from nbcore.results import Claim, judge

OURS = "Med-UniC"
WITHOUT_CTR = "SSV + CVL + MLM"
ABLATIONS = {  # Table 4
    "CVL + MLM": "vision-language alignment with masked language modelling",
    WITHOUT_CTR: "training without the regularisation of texts",
    "SSV + CVL + CTR": "training without masked language modelling",
}
RIVALS = ("ConVIRT", "GLoRIA-MIMIC", "MGCA")  # pre-trained on English alone
MARGIN = 1.0  # points; "comparable": in Table 6, 9 frozen layers are within -0.6 and +1.3 of none


def claims(
    bias: pd.DataFrame,
    zero_shot: pd.DataFrame,
    probes: pd.DataFrame,
    frozen: pd.DataFrame,
    localized: pd.DataFrame,
    pointing: pd.DataFrame,
    agreement: pd.DataFrame,
    frozen_titles: tuple[str, str, str],
) -> list[Claim]:
    """The claims whose numbers are there; empty frames and methods that were not run leave theirs out.

    Further columns and rows of other methods are not read. "Few labels" are the smallest fraction, 1 % in the paper.

    Args:
        bias: a row an encoder, modality and seed: embedding ("MLM", "SSV + CVL + MLM", "Med-UniC"), modality ("text",
            by language, or "image", by hospital), seed, probe (`community_probe`, in [0, 1]), silhouette
            (`community_silhouette`, in [-1, 1]) and, of texts where translations are at hand, en_to_es (the recall at 1
            of `translated_retrieval`, in [0, 1]). Texts of all encoders are the same layer of the language model; "MLM"
            repeats its one language model for every seed.
        zero_shot: a row a run, data set and language of the prompts: method (ours, the ablations, the rivals), seed,
            dataset, language ("en" or "es"), auc in [0, 1].
        probes: a row a probe of ours, the ablations and the rivals: method, seed, dataset, fraction in (0, 1], score in
            [0, 1].
        frozen: the same of the runs of Table 6, of all fractions that count.
        localized: a row a decoder of ours and the rivals: method, seed, dataset, task, fraction, dice and map in
            [0, 1].
        pointing: a row a run of ours, data set and language of the term: seed, dataset, language, hits and chance in
            [0, 1].
        agreement: a row a run of ours and data set: seed, dataset, agreement (mean correlation of a picture's maps for
            the term in both languages) and mismatched (the same of different pictures), in [-1, 1].
        frozen_titles: the methods of `frozen` with no, all but the last, and all layers of the language model frozen.
    """
    return [
        *_bias_claims(bias),
        *_zero_shot_claims(zero_shot),
        *_objective_claims(probes, zero_shot),
        *_rival_claims(probes, localized),
        *_frozen_claims(frozen, frozen_titles),
        *_heat_claims(pointing, agreement),
    ]


def _bias_claims(bias: pd.DataFrame) -> list[Claim]:
    source = "Sect. 4.4, Fig. 1"
    probe, silhouette = (_mean(bias, "embedding", value, modality="text") for value in ("probe", "silhouette"))
    recall = _mean(bias, "embedding", "en_to_es", modality="text") if "en_to_es" in bias else pd.DataFrame()
    found = []
    for key, rival, words in (
        ("text", "MLM", "than after masked language modelling alone"),
        ("text-ctr", WITHOUT_CTR, "than after the same pre-training without CTR"),
    ):
        found += [
            *_judged(
                f"{key}-probe",
                f"After Med-UniC, a linear probe tells a report's language from its embedding less well {words}.",
                source,
                100 * _difference(probe, rival, OURS),
            ),
            *_judged(
                f"{key}-silhouette",
                f"After Med-UniC, the embeddings of the two languages lie nearer, by their silhouette, {words}.",
                source,
                _difference(silhouette, rival, OURS),
                unit="of 1",
            ),
            *_judged(
                f"{key}-translations",
                f"After Med-UniC, an English report is nearest to its own Spanish translation more often {words}.",
                source,
                100 * _difference(recall, OURS, rival),
                unit="% of the reports",
            ),
        ]
    source = "Sect. 4.4, Fig. 4"
    probe, silhouette = (_mean(bias, "embedding", value, modality="image") for value in ("probe", "silhouette"))
    return [
        *found,
        *_judged(
            "image-probe",
            "CTR makes the hospital of a picture harder to tell from its embedding, by a linear probe.",
            source,
            100 * _difference(probe, WITHOUT_CTR, OURS),
        ),
        *_judged(
            "image-silhouette",
            "CTR brings the two hospitals' pictures nearer, by the silhouette of their embeddings.",
            source,
            _difference(silhouette, WITHOUT_CTR, OURS),
            unit="of 1",
        ),
    ]


def _zero_shot_claims(zero_shot: pd.DataFrame) -> list[Claim]:
    english, spanish = (_mean(zero_shot, "method", "auc", language=language) for language in ("en", "es"))
    found = _judged(
        "spanish-loses-less",
        "Zero-shot classification loses less from English to Spanish prompts with CTR than without.",
        "Sect. 4.4, Table 4",
        100 * _difference(english - spanish, WITHOUT_CTR, OURS),
        unit="AUC points",
    )
    for rival in RIVALS:
        found += _judged(
            f"spanish-vs-{rival.lower()}",
            f"With Spanish prompts, Med-UniC classifies better without labels than {rival}.",
            "Sect. 4.3, Table 1",
            100 * _difference(spanish, OURS, rival),
            unit="AUC points",
        )
    return found


def _objective_claims(probes: pd.DataFrame, zero_shot: pd.DataFrame) -> list[Claim]:
    score = _mean(probes, "method", "score", fraction=probes["fraction"].min()) if len(probes) else probes
    # Table 4 heads its zero-shot columns F1, but Med-UniC's numbers in them are the AUCs of Table 1
    auc = _mean(zero_shot, "method", "auc")
    found = []
    for ablation, words in ABLATIONS.items():
        key = "full-vs-" + ablation.lower().replace(" + ", "-")
        found += _judged(
            f"{key}-probes",
            f"With few labels, all four objectives classify better than {words}.",
            "Sect. 4.4, Table 4",
            100 * _difference(score, OURS, ablation),
        )
        found += _judged(
            f"{key}-zero-shot",
            f"Without labels, on average over both languages, all four objectives classify better than {words}.",
            "Sect. 4.4, Table 4",
            100 * _difference(auc, OURS, ablation),
            unit="AUC points",
        )
    return found


def _rival_claims(probes: pd.DataFrame, localized: pd.DataFrame) -> list[Claim]:
    """With the smallest fraction of the labels, each task as good as the others: Dice of masks, mAP of boxes."""
    score = _mean(probes, "method", "score", fraction=probes["fraction"].min()) if len(probes) else probes
    found = []
    for rival in RIVALS:
        found += _judged(
            f"few-labels-vs-{rival.lower()}",
            f"With few labels, Med-UniC classifies better than {rival}.",
            "Sect. 4.3, Table 2",
            100 * _difference(score, OURS, rival),
        )
    if localized.empty:
        return found
    few = localized[localized["fraction"] == localized["fraction"].min()]
    dice, precision = (
        _mean(few, "method", value, task=task) for task, value in (("segmentation", "dice"), ("detection", "map"))
    )
    for rival in RIVALS:
        found += _judged(
            f"localizes-vs-{rival.lower()}",
            f"With few labels, Med-UniC segments and detects better than {rival}, on the average.",
            "Sect. 4.3, Table 3",
            50 * (_difference(dice, OURS, rival) + _difference(precision, OURS, rival)).dropna(),
        )
    return found


def _frozen_claims(frozen: pd.DataFrame, titles: tuple[str, str, str]) -> list[Claim]:
    score, (none, ours, whole) = _mean(frozen, "method", "score"), titles
    return [
        *_judged(
            "frozen-vs-none",
            f"Updating only the last layers of the language model costs less than {MARGIN:g} point against updating "
            "all.",
            "Sect. 4.5, Table 6",
            100 * _difference(score, ours, none),
            threshold=-MARGIN,
        ),
        *_judged(
            "frozen-vs-all",
            "Updating the last layers of the language model classifies better than freezing it.",
            "Sect. 4.5, Table 6",
            100 * _difference(score, ours, whole),
        ),
    ]


def _heat_claims(pointing: pd.DataFrame, agreement: pd.DataFrame) -> list[Claim]:
    found = []
    for language, name in (("en", "English"), ("es", "Spanish")):
        shares = _mean(pointing, None, ["hits", "chance"], language=language)
        found += _judged(
            f"heat-{language}",
            f"The heat of a finding's {name} name is largest inside the finding more often than chance.",
            "Sect. 4.5, Fig. 5",
            100 * _difference(shares, "hits", "chance"),
            unit="% of the pictures",
        )
    return found + _judged(
        "heat-agrees",
        "A picture's heat for a finding agrees across the languages more than the heat of different pictures.",
        "Sect. 4.5, Fig. 5",
        _difference(_mean(agreement, None, ["agreement", "mismatched"]), "agreement", "mismatched"),
        unit="of 1 (correlation)",
    )


def _judged(
    key: str, sentence: str, source: str, effects: pd.Series, *, unit: str = "points", threshold: float = 0.0
) -> list[Claim]:
    """The claim on effects, one a seed; none where there are no effects."""
    return [judge(key, sentence, source, effects, unit=unit, threshold=threshold)] if len(effects) else []


def _difference(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    """One column less another, for the seeds that have both; empty where a column is not there."""
    if not {first, second} <= set(table.columns):
        return pd.Series(dtype=float)
    return (table[first] - table[second]).dropna()


def _mean(rows: pd.DataFrame, column: str | None, value: str | list[str], **only: str | float) -> pd.DataFrame:
    """Mean of a value over all else in the rows with `only` these entries: a row a seed.

    The columns are the entries of `column`, or, where that is None, the values.
    """
    for name, entry in only.items():
        rows = rows[rows[name] == entry] if len(rows) else rows
    if rows.empty:
        return pd.DataFrame()
    return rows.pivot_table(index="seed", columns=column, values=value, aggfunc="mean")

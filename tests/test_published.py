"""The papers' tables as typed: complete and tidy, with a note wherever the printed numbers contradict each other."""

import re
from functools import cache
from statistics import fmean, harmonic_mean

import pytest

from nbcore.paths import PUBLISHED
from nbcore.results import KEYS, published

FRACTIONS = ["1%", "10%", "100%"]
CELLS = {  # rows x columns of each table as printed, less the dashes
    "mflag": {"Table 1": 6 * 3, "Table 2": 6 * 10, "Table 3": 6 * 9, "Table 4": 3 * 5, "Table 5": 7 * 6, "text": 5},
    "mgca": {
        "Table 1": 12 * 9 - 2 * 3 - 3 * 6,
        "Table 2": 6 * 6 - 6,
        "Table 3": 6 * 6,
        "Table 4": 4 * 9,
        "Table 5": 2 * 6,
        "Table 6": 3 * 3,
        "text": 5,
    },
    "kmat": {"Table 1": 8 * 4, "Table 2": 15 * 6 * 2, "Table 3": 8 * 8, "text": 3},
    "meduna": {"Table 1": 6 * 8, "Table 2": 2 * 5, "Table 3": 6 * 3, "text": 6},
    "med_unic": {
        "Table 1": 7 * 8,
        "Table 2": 12 * 9,
        "Table 3": 8 * 12 - 7,
        "Table 4": 4 * 13,
        "Table 5": 3 * 6,
        "Table 6": 4 * 4,
        "Table 7": 3 * 3,
        "Table 10": 9 * 3 - 2 * 2,
        "Table 11": 3 * 6,
        "Table 12": 3 * 9 - 1,
        "Table 13": 6 * 9 - 4,
        "Table 14": 3 * 9,
        "text": 2,
    },
}
ABSENT = {  # tables without a result; the appendix of MGCA and the supplement of M-FLAG are not in our copies
    "med_unic": {
        "Table 8": "hyper-parameters of the language stage",
        "Table 9": "hyper-parameters of the pre-training",
    },
}
TOTALS = {  # images of each data set as its owner counts them; M-FLAG has frontal ones alone
    "mflag": {"MIMIC": 243_324, "CheXpert": 191_212, "NIH": 112_120, "RSNA": 26_684, "SIIM": 12_047},
    "med_unic": {"RSNA": 26_684, "SIIM": 12_047, "COVIDx": 30_386, "Object-CXR": 9_000},
    "kmat": {"Derm7pt": 2 * 1_011, "ChestXray": 6_432, "DMID": 510, "BUSI": 780},
}
SPELLINGS = {  # of methods and tasks; what is in brackets, after "w/o" or a sum of losses is left out
    *("Random", "ImageNet", "ConVIRT", "GLoRIA", "GLoRIA-MIMIC", "MGCA", "M-FLAG", "Med-UniC", "MedKLIP", "MRM"),
    *("DSVE", "VSE++", "Caption-Transformer", "Caption-LSTM", "Contrastive-Binary", "BLIP", "DINOv2"),
    *("Zero-shot", "LaFTer", "TPT", "MedUnA"),
    *("BiomedCLIP", "CoOp", "KgCoOp", "CoCoOp", "BiomedCoOp", "K-MaT"),
    *("ITA", "CVL", "SSV", "only L_align", "only L_orth", "Unfreeze", "row"),
    *("Classification", "Segmentation", "Detection", "Zero-shot classification"),
    *("Skin I", "Skin II", "Chest", "Breast"),
}
RANGES = {
    "AUC (%)": (40, 100),
    "ACC (%)": (5, 100),
    "Dice (%)": (5, 100),
    "mAP (%)": (0.4, 40),
    "F1 (%)": (2, 80),
    "relative gain in ACC (%)": (-20, 20),
    "relative gain in F1 (%)": (-20, 20),
    "relative gain in ACC on Zero-shot (%)": (0, 240),
    "ACC of the text classifier (%)": (5, 100),
    "share of the other methods' trainable parameters (%)": (0, 100),
    "fewer trainable parameters (%)": (0, 100),
    "trainable parameters in multiples of M-FLAG's": (1, 10),
    "images": (50, 250_000),
    "classes": (2, 7),
    "trainable parameters (M)": (20, 120),
}
GAIN = re.compile(r"(relative )?gain in (\w+) on (.*) \((?:%|points)\)")
Key = tuple[str, str, str, str, str]
papers = pytest.mark.parametrize("paper", sorted(path.stem for path in PUBLISHED.glob("*.csv")))


@cache
def cells(paper: str) -> dict[Key, float]:
    """Values by table, method, dataset, setting and metric."""
    return published(paper).set_index(KEYS)["value"].to_dict()


def noted(paper: str, pattern: str) -> dict[Key, str]:
    """Cells whose note matches, each with the pattern's first group."""
    notes = published(paper).set_index(KEYS)["note"]
    return {key: match[1] for key, note in notes.items() if (match := re.search(pattern, note))}


def moved(key: Key, **changes: str) -> Key:
    """The key with some of its parts changed."""
    return tuple(changes.get(name, part) for name, part in zip(KEYS, key))


def wrong_means(values: dict[Key, float]) -> dict[Key, float]:
    """Averages that lie more than 0.05 from the mean of their row: that mean."""
    found = {}
    for key, value in values.items():
        parts = [v for k, v in values.items() if k != key and moved(k, dataset="Average") == key]
        if key[2] == "Average" and parts and abs(fmean(parts) - value) > 0.05 + 1e-9:
            found[key] = fmean(parts)
    return found


def wrong_harmonic_means(values: dict[Key, float]) -> dict[Key, float]:
    """H that lie more than 0.05 from the harmonic mean of Hi and Lo: that mean."""
    found = {}
    for key, value in values.items():
        if key[3] == "H" and key[4] in ("ACC (%)", "F1 (%)"):
            mean = harmonic_mean([values[moved(key, setting=setting)] for setting in ("Hi", "Lo")])
            if abs(mean - value) > 0.05 + 1e-9:
                found[key] = mean
    return found


def hurt_by_labels(values: dict[Key, float]) -> dict[Key, str]:
    """Cells below those of the next smaller share of labels: that share."""
    found = {}
    for key, value in values.items():
        fewer = FRACTIONS[: FRACTIONS.index(key[3])] if key[3] in FRACTIONS else []
        printed = [share for share in fewer if moved(key, setting=share) in values]
        if printed and value < values[moved(key, setting=printed[-1])]:
            found[key] = printed[-1]
    return found


@papers
def test_every_cell_of_every_table_is_there(paper):
    assert published(paper)["table"].value_counts().to_dict() == CELLS[paper]


@papers
def test_no_table_is_passed_over(paper):
    """Tables are numbered from 1 on; one that is not there is absent for a reason."""
    numbers = sorted(int(name.split()[1]) for name in {*CELLS[paper], *ABSENT.get(paper, {})} - {"text"})
    assert numbers == [*range(1, numbers[-1] + 1)]
    assert not CELLS[paper].keys() & ABSENT.get(paper, {}).keys()


@papers
def test_rows_are_tidy(paper):
    table = published(paper)
    assert [*table] == [*KEYS, "value", "std", "note"]
    assert not table.duplicated(KEYS).any()
    assert table["value"].notna().all()
    for column in [*KEYS, "note"]:
        assert (table[column] == table[column].str.strip()).all()
    for name in table["metric"].unique():
        low, high = (0, 30) if name.endswith("(points)") else RANGES[name]
        assert table.loc[table["metric"] == name, "value"].between(low, high).all(), name


@papers
def test_methods_have_one_spelling(paper):
    stems = published(paper)["method"].str.replace(r" \(.*\)| w/o .*| \+ .*|[ _]\d$", "", regex=True)
    assert set(stems) <= SPELLINGS


def test_only_error_bars_have_deviations():
    tables = {paper: {*published(paper).dropna(subset="std")["table"]} for paper in CELLS}
    assert tables == {"mgca": {"Table 6"}, "med_unic": {"Table 7"}, "mflag": set(), "kmat": set(), "meduna": set()}


@pytest.mark.parametrize("paper", ["kmat", "meduna"])
def test_wrong_averages_are_noted(paper):
    notes = noted(paper, r"(?<!harmonic )mean of the printed values: ([\d.]+)")
    assert notes == {key: f"{mean:.2f}" for key, mean in wrong_means(cells(paper)).items()}
    assert len(notes) == {"kmat": 2, "meduna": 4}[paper]


def test_wrong_harmonic_means_are_noted():
    notes = noted("kmat", r"harmonic mean of the printed values: ([\d.]+)")
    assert notes == {key: f"{mean:.2f}" for key, mean in wrong_harmonic_means(cells("kmat")).items()}
    beyond_rounding = {key[1:3] for key in notes if key not in noted("kmat", r"\((rounding|H is averaged)")}
    assert beyond_rounding == {("BiomedCLIP", "Skin I"), ("K-MaT", "Skin I"), ("K-MaT", "Chest")}


def test_relative_gains_follow_from_their_rows():
    values = cells("kmat")
    gains = [key for key in values if key[4].startswith("relative")]
    assert len(gains) == 8 * 2
    for key in gains:
        score = moved(key, metric=key[4].removeprefix("relative gain in "))
        gain = 100 * (values[score] / values[moved(score, method="row 1")] - 1)
        assert values[key] == pytest.approx(gain, abs=0.01)


@pytest.mark.parametrize(("paper", "name"), [(paper, name) for paper, names in TOTALS.items() for name in names])
def test_splits_add_up_to_their_data_set(paper, name):
    sums = {}
    for key, value in cells(paper).items():
        if key[2] == name and key[4] == "images":
            task = key[1]
            sums[task] = sums.get(task, 0) + value
    assert sums
    assert {*sums.values()} == {TOTALS[paper][name]}


def of_the_gain(paper: str, key: Key) -> tuple[float, float]:
    """A method's own score and the mean of those that a gain in the text is over, from the tables."""
    metric, rival = f"{GAIN.fullmatch(key[4])[2]} (%)", GAIN.fullmatch(key[4])[3]
    table = {"mflag": "Table 5", "kmat": "Table 2", "mgca": "Table 3" if "Dice" in metric else "Table 1"}
    scores = {}
    for other, value in cells(paper).items():
        # Med-UniC's average is over both data sets of its Table 1
        same_data = other[2] == key[2] or (paper == "med_unic" and key[2] == "Average")
        if other[0] == table.get(paper, "Table 1") and same_data and other[3:] == (key[3], metric):
            scores.setdefault(other[1], []).append(value)
    rivals = [name for name in scores if name == rival or (rival.startswith("the mean of") and name != key[1])]
    return fmean(scores[key[1]]), fmean(value for name in rivals for value in scores[name])


@papers
def test_gains_in_the_text_follow_from_the_tables_or_are_noted(paper):
    notes = published(paper).set_index(KEYS)["note"]
    gains = {key: value for key, value in cells(paper).items() if key[0] == "text" and GAIN.fullmatch(key[4])}
    assert len(gains) == {"mflag": 2, "mgca": 5, "kmat": 2, "meduna": 4, "med_unic": 2}[paper]
    for key, value in gains.items():
        own, rivals = of_the_gain(paper, key)
        gain = 100 * (own / rivals - 1) if GAIN.fullmatch(key[4])[1] else own - rivals
        decimals = len(f"{value:g}".partition(".")[2])
        if re.search('"(over|more than)', notes[key]):
            assert gain > value
        elif match := re.search(r"the printed values give ([\d.]+)", notes[key]):
            assert f"{gain:.{len(match[1].partition('.')[2])}f}" == match[1]
            assert round(gain, decimals) != value
        else:
            assert gain == pytest.approx(value, abs=0.5 * 10**-decimals + 1e-9)


def test_sizes_in_the_text_of_mflag_are_noted():
    values = cells("mflag")
    sizes = {
        key[1]: value for key, value in values.items() if key[4] == "trainable parameters (M)" and key[0] == "Table 2"
    }
    share = 100 * sizes["M-FLAG"] / fmean(sizes[name] for name in ("ConVIRT", "GLoRIA", "MGCA"))
    given = {key[4]: float(given) for key, given in noted("mflag", r"the printed values give ([\d.]+)").items()}
    assert given["share of the other methods' trainable parameters (%)"] == round(share)
    assert given["fewer trainable parameters (%)"] == round(100 - share)
    assert given["trainable parameters in multiples of M-FLAG's"] == round(sizes["MGCA"] / sizes["M-FLAG"], 1)


@pytest.mark.parametrize("paper", ["mgca", "med_unic"])
def test_scores_that_fall_with_more_labels_are_noted(paper):
    assert noted(paper, r"below the value with (\d+%) of the labels") == hurt_by_labels(cells(paper))


@pytest.mark.parametrize("paper", ["mgca", "med_unic"])
def test_dashes_are_noted_beside_their_gap(paper):
    """A dash among the mAP is a score below 1 %, no missing one; the next cell says so."""
    values = cells(paper)
    gaps = {key for key in values if key[3:] == ("10%", "mAP (%)") and moved(key, setting="1%") not in values}
    assert gaps == {*noted(paper, "(1% cell is a dash)")}


def test_harmonic_means_that_beat_k_mat_are_noted():
    values = {key: value for key, value in cells("kmat").items() if key[0] == "Table 2" and key[3] == "H"}
    best = {moved(key, method="K-MaT"): "K-MaT" for key in values}
    for key in best:
        best[key] = max((k for k in values if moved(k, method="K-MaT") == key), key=values.get)[1]
    others = {key: method for key, method in best.items() if method != "K-MaT"}
    assert noted("kmat", r"(\w+) has [\d.]+, while the text says that K-MaT") == others
    assert len(others) == 4


def test_accuracies_of_meduna_are_counts_of_test_images():
    """All but those noted are k of n: the sizes of the official test sets, or those that the other numbers imply."""
    sizes = {"S-TB": 133, "M-TB": 29, "Kermany": 624, "IDRID": 103, "ISIC": 1512}
    odd = set()
    for key, value in cells("meduna").items():
        size = sizes.get(key[2])
        if key[4] == "ACC (%)" and size and abs(100 * round(value * size / 100) / size - value) > 0.0051:
            odd.add(key)
    assert odd == {*noted("meduna", r"(test images|whole data set)")}


def test_error_bars_of_mgca_that_differ_from_table_1_are_noted():
    values = cells("mgca")
    printed = {k: values[moved(k, table="Table 1", method="MGCA (ViT-B/16)")] for k in values if k[0] == "Table 6"}
    differ = {key: f"{other}" for key, other in printed.items() if abs(other - values[key]) > 0.0501}
    assert noted("mgca", r"Table 1 has ([\d.]+)") == differ


@pytest.mark.parametrize(
    ("paper", "table", "method", "sources", "count"),
    [
        ("mgca", "Table 4", "MGCA", {"Table 1": "MGCA (ViT-B/16)", "Table 3": "MGCA"}, 9),
        ("mgca", "Table 5", "MGCA", {"Table 1": "MGCA (ViT-B/16)"}, 6),
        ("med_unic", "Table 4", "Med-UniC", {"Table 2": "Med-UniC (ResNet-50)", "Table 3": "Med-UniC"}, 9),
        ("med_unic", "Table 5", "Med-UniC (ViT-B/16)", {"Table 2": "Med-UniC (ViT-B/16)"}, 6),
        ("med_unic", "Table 5", "Med-UniC (ViT-L/32)", {"Table 2": "Med-UniC (ViT-L/32)"}, 6),
        ("med_unic", "Table 6", "Med-UniC (9 layers frozen)", {"Table 3": "Med-UniC"}, 2),
        ("med_unic", "Table 7", "Med-UniC", {"Table 2": "Med-UniC (ResNet-50)", "Table 3": "Med-UniC"}, 9),
        ("med_unic", "Table 11", "Med-UniC (ResNet-50)", {"Table 3": "Med-UniC"}, 6),
        ("med_unic", "Table 12", "Med-UniC", {"Table 2": "Med-UniC (ResNet-50)", "Table 3": "Med-UniC"}, 9),
        ("med_unic", "Table 13", "Med-UniC", {"Table 2": "Med-UniC (ResNet-50)", "Table 3": "Med-UniC"}, 9),
        ("med_unic", "Table 14", "Med-UniC (dimension 1024)", {"Table 12": "Med-UniC"}, 9),
    ],
)
def test_a_models_numbers_are_the_same_in_every_table(paper, table, method, sources, count):
    values = cells(paper)
    twice = [
        (value, values[other])
        for key, value in values.items()
        for other in (moved(key, table=source, method=name) for source, name in sources.items())
        if key[:2] == (table, method) and other in values
    ]
    assert len(twice) == count
    for value, other in twice:
        assert value == pytest.approx(other, abs=0.0501)


@pytest.mark.parametrize(
    ("paper", "tables", "names", "count"),
    [
        ("med_unic", {"Table 1": "Table 2", "Table 2": "Table 3", "Table 3": "Table 3"}, {}, 7 * 9 + 30 + 36),
        # what M-FLAG calls GLoRIA is GLoRIA-MIMIC
        ("mflag", {"Table 2": "Table 3", "Table 3": "Table 3"}, {"GLoRIA": "-", "GLoRIA-MIMIC": "GLoRIA"}, 5 * 9),
    ],
)
def test_later_papers_quote_mgca_as_printed(paper, tables, names, count):
    values, quoted = cells(paper), 0
    for key, value in cells("mgca").items():
        other = moved(key, table=tables.get(key[0], ""), method=names.get(key[1], key[1]))
        if other in values:
            assert value == pytest.approx(values[other], abs=0.0101)  # 0.49 became 0.5
            quoted += 1
    assert quoted == count


def test_swapped_labels_are_noted():
    """Table 13 of Med-UniC gives three baselines another method's accuracy on COVIDx."""
    values = cells("med_unic")
    rows = {"ConVIRT": "GLoRIA", "MGCA": "MedKLIP", "MedKLIP": "MGCA (ResNet-50)"}
    notes = noted("med_unic", r"([\w ()-]+)'s value in Table 2")
    assert {key[1]: owner for key, owner in notes.items()} == rows
    assert len(notes) == 3 * len(FRACTIONS)
    for key, owner in notes.items():
        assert values[key] == values[moved(key, table="Table 2", method=owner)]


def test_mislabelled_metrics_are_noted():
    """They repeat numbers of another metric: AUC as F1 (Table 4), accuracy as AUC (Table 6)."""
    values = cells("med_unic")
    notes = noted("med_unic", r"labelled (\w+), yet")
    assert len(notes) == 16 + 8
    for key in notes:
        if key[1] == "Med-UniC":
            assert values[key] == values[moved(key, table="Table 1", metric="AUC (%)")]
        if key[1] == "Med-UniC (9 layers frozen)":
            accuracy = moved(key, table="Table 2", method="Med-UniC (ResNet-50)", metric="ACC (%)")
            assert values[key] == values[accuracy]

"""Splits: whole patients, exact counts, nested fractions, published lists."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.manifest import load_manifest
from nbcore.data.samples import Samples
from nbcore.data.splits import assert_disjoint, assign_splits, label_fraction, patient_order, patient_split
from nbcore.data.tables import tidy
from nbcore.errors import UsageError, UserError

patient_lists = st.lists(st.integers(1, 5), min_size=12, max_size=60).map(
    lambda sizes: np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
)


def _splits_of(patients: np.ndarray, split: np.ndarray) -> pd.Series:
    return pd.Series(split).groupby(patients).nunique()


names = st.lists(st.text(max_size=6), min_size=3, max_size=40, unique=True)


@settings(max_examples=60, deadline=None)
@given(names, st.integers(0, 99), st.data())
def test_the_order_of_two_patients_depends_on_nobody_else(names: list[str], seed: int, data: st.DataObject) -> None:
    patients = np.array(names, dtype=object)
    some = data.draw(st.lists(st.sampled_from(names), min_size=1))
    complete, partial = patient_order(patients, seed).tolist(), patient_order(np.array(some, dtype=object), seed)
    assert [patient for patient in complete if patient in set(partial)] == partial.tolist()


def test_the_order_is_the_same_everywhere() -> None:
    """Pinned, as a published split must not move with a platform or a library."""
    patients = [f"patient{i:05d}" for i in range(8)]
    assert [patient[-1] for patient in patient_order(np.array(patients), 0)] == list("75106432")
    assert [patient[-1] for patient in patient_order(np.array(patients), 12)] == list("73261450")


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 60), st.integers(0, 9), st.data())
def test_removing_others_leaves_the_held_out_patients(n: int, seed: int, data: st.DataObject) -> None:
    """Only the number held out, a share of the images that are there, moves the cut."""
    patients = np.arange(n)
    held = patient_split(patients, {"test": 4, "valid": 3}, seed)
    others = patients[held == "train"].tolist()
    gone = data.draw(st.lists(st.sampled_from(others), unique=True, max_size=len(others) - 1))
    left = ~np.isin(patients, gone)
    assert (patient_split(patients[left], {"test": 4, "valid": 3}, seed) == held[left]).all()


@settings(max_examples=40, deadline=None)
@given(patient_lists, st.integers(0, 9))
def test_no_patient_crosses_and_no_split_overflows(patients: np.ndarray, seed: int) -> None:
    split = patient_split(patients, {"valid": 5, "test": 0.2}, seed)
    assert _splits_of(patients, split).max() == 1
    assert 0 < (split == "valid").sum() <= 5
    assert 0 < (split == "test").sum() <= max(5, round(0.2 * len(patients)))
    assert (split == "train").any()


def test_counts_are_met_exactly_where_patients_are_small() -> None:
    patients = np.repeat(np.arange(3000), np.tile([1, 2, 3], 1000))
    split = patient_split(patients, {"test": 1000, "valid": 0.05}, seed=1)
    assert (split == "test").sum() == 1000
    assert (split == "valid").sum() == 300


def test_the_split_depends_on_the_seed_only_and_not_on_the_order() -> None:
    patients = np.repeat([f"p{i}" for i in range(40)], 3)
    split = patient_split(patients, {"test": 0.3}, 0)
    order = np.random.default_rng(0).permutation(len(patients))
    assert (patient_split(patients[order], {"test": 0.3}, 0) == split[order]).all()
    assert (patient_split(patients, {"test": 0.3}, 1) != split).any()


def test_one_huge_patient_fills_a_split_rather_than_leaving_it_empty() -> None:
    patients = np.array(["a"] * 9 + ["b"] * 9)
    assert sorted({(p, s) for p, s in zip(patients, patient_split(patients, {"test": 2}, 0))})[0][0] == "a"
    assert set(patient_split(patients, {"test": 2}, 0)) == {"train", "test"}


@pytest.mark.parametrize("held_out", [{"test": 1.0}, {"test": 30}, {"train": 0.5}, {"valid": 0.5, "test": 0.5}])
def test_something_must_remain_to_train_on(held_out: dict) -> None:
    with pytest.raises(UsageError, match="cannot hold out"):
        patient_split(np.arange(30), held_out, 0)


def _samples(patients: np.ndarray, split: str = "train") -> Samples:
    table = tidy(
        len(patients), image=[f"{i}.png" for i in range(len(patients))], patient=patients, study="s", split=split
    )
    table["label:x"] = np.float32(0)
    return Samples("toy", Path(), ("x",), "real", 0, table)


@settings(max_examples=30, deadline=None)
@given(patient_lists, st.integers(0, 5))
def test_label_fractions_are_nested_and_patient_aware(patients: np.ndarray, seed: int) -> None:
    samples = _samples(patients)
    smaller, larger = (label_fraction(samples, fraction, seed).table for fraction in (0.1, 0.4))
    assert set(smaller["image"]) <= set(larger["image"])
    assert abs(len(larger) - 0.4 * len(samples)) <= 2.5  # half a patient of at most five images
    for part in (smaller, larger):
        whole = samples.table["patient"].isin(part["patient"])
        assert whole.sum() == len(part)
    assert len(label_fraction(samples, 1.0, seed)) == len(samples)


def test_label_fraction_takes_from_train_only_and_checks_its_range() -> None:
    samples = _samples(np.arange(20).astype(str))
    samples.table.loc[10:, "split"] = "test"
    assert set(label_fraction(samples, 0.5, 0).table["split"]) == {"train"}
    with pytest.raises(UsageError, match="fraction"):
        label_fraction(samples, 0.0, 0)


@settings(max_examples=30, deadline=None)
@given(patient_lists, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_label_fraction_does_not_depend_on_the_order_of_the_rows(patients: np.ndarray, seed: int, random) -> None:
    rows = list(range(len(patients)))
    random.shuffle(rows)
    samples = _samples(patients)
    chosen, again = label_fraction(samples, 0.3, seed), label_fraction(samples.subset(rows), 0.3, seed)
    assert set(chosen.table["image"]) == set(again.table["image"])


def test_a_fixed_split_stands_instead_of_a_draw() -> None:
    """A patient has the split of the first known image; who is not known is for training; official sets stay."""
    patients = pd.Series(list("aabcde"))
    fixed = pd.Series([None, "valid", "test", "train", None, "train"])
    split = assign_splits(patients, pd.Series(["train"] * 6), load_manifest("shenzhen-tb"), Path("no"), fixed=fixed)
    assert split.tolist() == ["valid", "valid", "test", "train", "train", "train"]
    official = pd.Series(["train"] * 5 + ["test"])
    split = assign_splits(patients, official, load_manifest("idrid"), Path("no"), fixed=fixed)
    assert split.tolist() == ["valid", "valid", "train", "train", "train", "test"]


def test_a_patient_in_two_splits_is_named() -> None:
    table = pd.DataFrame({"patient": ["a", "b", "b"], "split": ["train", "train", "test"]})
    with pytest.raises(UserError, match=r"patient 'b' is in two splits \(test and train\)"):
        assert_disjoint(table)
    assert_disjoint(table.iloc[:2])


@pytest.mark.parametrize("heading", ["", "subject_id\n"])
def test_a_published_test_list_wins_and_validation_is_drawn(tmp_path: Path, heading: str) -> None:
    """CheXclusion's lists repeat bare numbers, where CheXpert's paths say patient00003."""
    patients = pd.Series([f"patient{i:05d}" for i in np.repeat(np.arange(1, 101), 2)])
    (tmp_path / "testSet_SubjID.csv").write_text(heading + "3\n3\n7\n7\n")
    official = pd.Series(np.where(patients == "patient00009", "test", "train"))
    split = assign_splits(patients, official, load_manifest("chexpert"), tmp_path)
    assert set(patients[split == "test"]) == {"patient00003", "patient00007"}
    assert (split == "valid").sum() == 20  # a tenth of the 196 others, whole patients


def test_a_list_of_another_data_set_or_without_its_column_is_refused(tmp_path: Path) -> None:
    chexpert = load_manifest("chexpert")
    patients, official = pd.Series(["patient00001"] * 9), pd.Series(["train"] * 9)
    (tmp_path / "testSet_SubjID.csv").write_text("10002559\n")
    with pytest.raises(UserError, match="names no patient of this data set"):
        assign_splits(patients, official, chexpert, tmp_path)
    rule = chexpert.split.model_copy(
        update={"test_list": chexpert.split.test_list.model_copy(update={"column": "subject_id"})}
    )
    with pytest.raises(UserError, match="has no column 'subject_id'"):
        assign_splits(patients, official, chexpert.model_copy(update={"split": rule}), tmp_path)
    (tmp_path / "testSet_SubjID.csv").write_text("")
    with pytest.raises(UserError, match="is empty"):
        assign_splits(patients, official, chexpert, tmp_path)


@pytest.mark.parametrize(
    ("text", "tested"),
    [
        (",PatientID\n0,9\n1,10\n2,8\n", "8 9 10"),
        ("Age,Patient ID\n3,9\n4,10\n", "9 10"),
        ("9,\n10,\n", "9 10"),
        ("PatientID,\n9,\n", "9"),
        ("0,9\n1,10\n", ""),
        ("Age,Number\n3,9\n4,10\n", ""),
        ("subject_id,PatientID\n3,9\n", ""),
    ],
)
def test_a_list_of_several_columns_says_which_is_the_patient_s(text: str, tested: str, tmp_path: Path) -> None:
    patients = pd.Series([f"patient{i:05d}" for i in range(100)])
    (tmp_path / "testSet_SubjID.csv").write_text(text)
    given = patients, patients.map(lambda _: "train"), load_manifest("chexpert"), tmp_path
    if tested:
        split = assign_splits(*given)
        assert patients[split == "test"].str[7:].astype(int).tolist() == [int(number) for number in tested.split()]
    else:
        with pytest.raises(UserError, match=r"has 2 columns, of which (none|2) is called as patients are"):
            assign_splits(*given)


@pytest.mark.parametrize("change", [str.upper, lambda word: {"test": "testing"}.get(word, word), lambda word: ""])
def test_an_unknown_split_is_no_split(change: Callable[[str], str], damaged: Callable[[str], Path]) -> None:
    root = damaged("mimic-cxr")
    (path,) = root.glob("mimic-cxr-2.0.0-split.csv.gz")
    table = pd.read_csv(path, dtype=str)
    table.assign(split=table["split"].map(change)).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"mimic-cxr: the split of files/.* which is none: fetch the table"):
        load("mimic-cxr", root)
    assert check("mimic-cxr", root, quick=True).verdict == "broken"


def test_the_seeded_split_of_a_large_table_is_quick_and_exact() -> None:
    """M-FLAG's NIH counts come out whatever the patients are, as long as the test list does."""
    random = np.random.default_rng(0)
    patients = pd.Series(random.integers(0, 29_000, 105_747).astype(str))
    official = pd.Series(["train"] * len(patients))
    official[:100] = "train"
    rule = load_manifest("nih-chestxray14")
    split = assign_splits(patients, official, rule, Path("nowhere"))
    assert (split == "valid").sum() == 5000
    assert (split == "test").sum() == round(0.2 * 105_747)

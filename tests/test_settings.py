"""Parameters are strict: a misspelt name or a wrong value is one clear sentence."""

import shlex

import pytest

from nbcore.errors import UsageError
from nbcore.settings import load_settings, parse_assignments, settings_table, tell_assignments


def test_profile_then_user():
    smoke = load_settings("mflag", "smoke", {})
    assert (smoke.epochs, smoke.vision) == (1, "tiny_resnet")
    assert load_settings("mflag", "smoke", {"epochs": 7}).epochs == 7


def test_paper_profile_changes_nothing():
    paper = load_settings("mflag", "paper", {})
    assert (paper.epochs, paper.batch_size, paper.processes) == (100, 128, 8)
    table = settings_table(paper)
    assert (table["this run"].map(repr) == table["default"].map(repr)).all()


def test_variants_through_the_command_line():
    settings = load_settings("mflag", "paper", {"variant": "paper"})
    assert (settings.optimizer, settings.projector, settings.off_diagonal) == ("lars", "linear", 1.0)


@pytest.mark.parametrize(
    ("profile", "overrides", "message"),
    [
        ("smoke", {"epoch": 3}, r"unknown parameter 'epoch' \(did you mean 'epochs'\?\)"),
        ("smoke", {"epochs": -1}, "parameter epochs: input should be greater than 0, not -1"),
        ("smoke", {"epochs": "many"}, "parameter epochs: .*'many'"),
        ("smoke", {"variant": "mine"}, "parameter variant: .*'mine'"),
        ("smok", {}, r"unknown profile 'smok' \(did you mean 'smoke'\?\)"),
    ],
)
def test_mistakes_are_one_sentence(profile, overrides, message):
    with pytest.raises(UsageError, match=message) as error:
        load_settings("mflag", profile, overrides)
    assert "\n" not in str(error.value)


def test_unknown_notebook():
    with pytest.raises(UsageError, match=r"no notebook 'mflg' \(did you mean 'mflag'\?\)"):
        load_settings("mflg", "smoke", {})


def test_assignments_are_yaml():
    assert parse_assignments(["epochs=3", "fractions=[0.01, 1.0]", "vision_weights=null", "text_model=a/b@c"]) == {
        "epochs": 3,
        "fractions": [0.01, 1.0],
        "vision_weights": None,
        "text_model": "a/b@c",
    }
    for wrong in ("epochs", "=3", "x=[1"):
        with pytest.raises(UsageError, match="-p "):
            parse_assignments([wrong])


def test_settings_table_shows_changes_first():
    table = settings_table(load_settings("mflag", "smoke", {}))
    changed = (table["this run"].map(repr) != table["default"].map(repr)).to_list()
    assert changed == sorted(changed, reverse=True)
    assert table["source of the default"].notna().mean() > 0.7


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 3, "fractions": [0.01, 1.0], "vision_weights": None, "text_model": "a/b@c", "frozen": True},
        {"baselines": {"siglip": {"scale": 5, "name": "it's"}}, "empty": "", "looks": "3", "colon": "a: b"},
    ],
)
def test_a_command_repeats_the_settings_it_tells(values):
    words = shlex.split(" ".join(tell_assignments(values)))
    assert words[::2] == ["-p"] * len(values)
    assert parse_assignments(words[1::2]) == values


def test_plain_settings_are_told_plainly():
    assert tell_assignments({"solver": "exact", "shots": 8}) == ["-p solver=exact", "-p shots=8"]

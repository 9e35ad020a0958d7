"""Controls are turned in Python: what is chosen is drawn; where nobody is, the first of all choices is shown."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from nbcore.errors import UsageError, UserError
from nbcore.widgets import Browser, browse, first_values, is_interactive


@pytest.fixture
def drawn():
    """What `draw` was asked for, in turn."""
    return []


@pytest.fixture
def draw(drawn):
    def draw(**chosen) -> Figure:
        drawn.append(chosen)
        if chosen.get("word") == "wrong":
            raise UserError("there is no such word <here>.")
        figure = plt.figure(figsize=(1, 1))
        figure.text(0.5, 0.5, repr(chosen))
        return figure

    yield draw
    assert not plt.get_fignums()  # every figure is closed again


def parts_of(data_set):
    return ["train", "test"] if data_set == "busi" else ["test"]


def numbers_of(data_set, part):
    return range(3, 3 + {"train": 10, "test": 2}[part] + len(data_set))


def test_controls_are_of_their_kind_and_begin_with_the_first(draw, drawn):
    browser = Browser(draw, data_set={"BUSI": "busi", "DMID": "dmid"}, word="lung", seed=range(5), outlines=True)
    assert drawn == [{"data_set": "busi", "word": "lung", "seed": 0, "outlines": True}]
    assert [type(control).__name__ for control in browser.controls.values()] == [
        *("Dropdown", "Text", "IntSlider", "Checkbox")
    ]
    assert [told for told, _ in browser.controls["data_set"].options] == ["BUSI", "DMID"]
    assert (browser.controls["seed"].min, browser.controls["seed"].max) == (0, 4)
    assert browser.controls["data_set"].description == "data set"


def test_a_turned_control_draws_once_and_other_pixels(draw, drawn):
    browser = Browser(draw, word="lung", outlines=True)
    before = bytes(browser.picture.value)
    assert before.startswith(b"\x89PNG")
    browser.controls["outlines"].value = False
    assert drawn[1:] == [{"word": "lung", "outlines": False}]
    after = bytes(browser.picture.value)
    assert after.startswith(b"\x89PNG") and after != before


def test_choices_follow_those_before_them(draw, drawn):
    browser = Browser(draw, data_set=["busi", "dmid-x"], part=parts_of, number=numbers_of)
    number = browser.controls["number"]
    assert (number.min, number.max, number.value) == (3, 16, 3)
    number.value = 8
    browser.controls["data_set"].value = "dmid-x"
    assert len(drawn) == 3  # one drawing, though three controls changed
    assert drawn[-1] == {"data_set": "dmid-x", "part": "test", "number": 8}  # still one of them, so it stays
    assert (number.min, number.max) == (3, 10)
    browser.controls["data_set"].value = "busi"
    assert drawn[-1]["part"] == "test"
    assert [value for _, value in browser.controls["part"].options] == ["train", "test"]
    number.value = 3
    browser.controls["part"].value = "train"
    number.value = 16
    browser.controls["part"].value = "test"
    assert drawn[-1]["number"] == 3


def test_what_cannot_be_drawn_is_told(draw):
    browser = Browser(draw, word="lung")
    browser.controls["word"].value = "wrong"
    assert browser.message.value == "there is no such word &lt;here&gt;."
    assert not len(browser.picture.value)
    browser.controls["word"].value = "heart"
    assert browser.message.value == "" and len(browser.picture.value)


def test_without_a_person_the_first_view_is_shown(draw, drawn, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    assert not is_interactive()
    browse(draw, data_set={"BUSI": "busi"}, part=parts_of, number=numbers_of, outlines=True)
    assert drawn == [{"data_set": "busi", "part": "train", "number": 3, "outlines": True}]
    assert [type(each) for each in shown] == [Figure]


@pytest.mark.parametrize(
    ("asked", "headless", "expected"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_kernel_is_interactive_where_it_may_ask(monkeypatch, asked, headless, expected):
    class Kernel:
        def get_parent(self, channel):
            return {"content": {"allow_stdin": asked}}

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr("IPython.get_ipython", Shell)
    monkeypatch.delenv("NBCORE_HEADLESS", raising=False)
    if headless:
        monkeypatch.setenv("NBCORE_HEADLESS", "1")
    assert is_interactive() is expected


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"word": []}, "nothing to choose from for 'word'"),
        ({"number": range(0)}, "nothing to choose from for 'number'"),
        ({"number": 3}, "the choice 'number' is 3: give"),
        ({"part": parts_of, "data_set": ["busi"]}, "'part' depends on 'data_set': name that one before it"),
    ],
)
def test_mistakes_are_one_sentence(draw, choices, message):
    with pytest.raises(UsageError, match=message):
        first_values(choices)
    with pytest.raises(UsageError, match=message):
        Browser(draw, **choices)

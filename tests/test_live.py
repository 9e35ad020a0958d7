"""The loss curve of a run: drawn where somebody watches, now and then, and gone at the end."""

import sys

import IPython.display
import numpy as np
import pytest
import tiny_training
from PIL import Image

from nbcore import live
from nbcore.launch import Job


class Screen:
    """In place of IPython's display: what is shown, in turn."""

    def __init__(self):
        self.shown = []

    def display(self, picture, *, display_id):
        assert display_id is True
        self.shown.append(picture)
        return self

    def update(self, picture, raw=False):
        self.shown.append(picture if not raw else dict(picture))


@pytest.fixture
def screen(monkeypatch):
    """A kernel that somebody watches, whose clock goes on by half a second each time it is read."""
    found, clock = Screen(), iter(np.arange(0, 1e4, 0.5))
    monkeypatch.setattr(live, "_is_watched", lambda: True)
    monkeypatch.setattr(live, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(IPython.display, "display", found.display)
    return found


def test_it_is_drawn_every_two_seconds_in_one_place_and_taken_away(screen):
    values = {"total": [], "lr": []}
    with live.loss_curve(values) as draw:
        for step in range(20):
            values["total"].append(1 / (step + 1))
            values["lr"].append(0.1)
            draw()
    *pictures, end = screen.shown
    assert 4 <= len(pictures) <= 6
    assert all(picture.data.startswith(b"\x89PNG") for picture in pictures)
    assert len({picture.data for picture in pictures}) == len(pictures)
    assert end == {}


def test_it_is_taken_away_after_a_failure_and_leaves_nothing_where_it_was_never_drawn(screen):
    with pytest.raises(RuntimeError), live.loss_curve({"total": [1.0]}) as draw:
        for _ in range(9):
            draw()
        raise RuntimeError
    assert screen.shown[-1] == {}
    screen.shown.clear()
    with live.loss_curve({"total": [1.0]}) as draw:
        draw()
    assert screen.shown == []


@pytest.mark.parametrize("enabled", [True, False])
def test_nobody_watches_a_script_or_a_worker(enabled, monkeypatch):
    monkeypatch.setattr(live, "_png", None)  # would fail
    if not enabled:
        monkeypatch.setattr(live, "_is_watched", lambda: True)
    with live.loss_curve({"total": [1.0]}, enabled) as draw:
        draw()
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert not live._is_watched()


def test_long_runs_are_drawn_as_means():
    steps, means = live._thinned(list(range(1001)))
    assert steps[:2] == [3, 6]
    assert steps[-1] == 1001
    assert means[:2] == [1.0, 4.0]
    assert means[-1] == 999.5
    assert live._thinned([5.0]) == ([1], [5.0])


def test_each_loss_has_a_line(tmp_path):
    def colours(values):
        (tmp_path / "curve.png").write_bytes(live._png(values))
        pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB"))
        return len(np.unique(pixels.reshape(-1, 3), axis=0))

    one = {"total": [3.0, 2.0, 1.0], "lr": [0.1] * 3}
    assert colours({**one, "error": [1.0, 3.0, 2.0]}) > colours(one)


def test_training_calls_it_after_each_step_and_is_not_moved_by_it(screen, tmp_path):
    histories = []
    for watched in (True, False):
        arguments = tiny_training.method(), tiny_training.Images(), tiny_training.config(), 3
        with pytest.MonkeyPatch.context() as patch:
            if not watched:
                patch.setattr(live, "_is_watched", lambda: False)
            histories.append(Job(*arguments, tmp_path / str(watched), tiny_training.jitter).fit())
    assert len(screen.shown) > 2
    assert screen.shown[-1] == {}
    assert histories[0] == histories[1]

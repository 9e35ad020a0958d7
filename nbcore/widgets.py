"""Pictures to browse in a notebook: controls beside a figure, or the figure alone where nobody is there to turn them.

    browse(draw, data_set=["busi", "dmid"], split=splits_of, index=rows_of, outlines=True)

draws `draw(data_set="busi", split=..., index=..., outlines=True)` and again whenever a control is changed.
"""

import html
import io
import os
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from nbcore.errors import UsageError, UserError
from nbcore.recorder import HEADLESS

if TYPE_CHECKING:
    from ipywidgets import Widget

Choice = bool | str | range | Sequence | Mapping | Callable[..., "Choice"]
_WIDE = "320px"


def browse(draw: Callable[..., Figure], **choices: Choice) -> None:
    """Show `draw` of the first of all choices, with a control for each where a person can turn it.

    Args:
        draw: takes a value of each choice by its name and gives a new figure.
        choices: True or False (a box to tick), text (a field to fill), a range (a slider), a sequence (a menu) or a
            mapping of what a menu tells to its values; or a function of choices before it, taken by their names, that
            gives one of these.

    Raises:
        UsageError: a choice of another kind or of nothing, or one that depends on a choice that does not precede it.
    """
    from IPython.display import display

    if is_interactive():
        display(Browser(draw, **choices).widget)
        return
    figure = draw(**first_values(choices))
    display(figure)
    plt.close(figure)


def is_interactive() -> bool:
    """Whether a person sits at this kernel: not in a script, under `nbcore run`, papermill, nbconvert or nbmake.

    Those tell the kernel that there is nobody to answer a question.
    """
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or HEADLESS in os.environ:
        return False
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin"))


def first_values(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """The value of each choice before any control is turned. Raises what `browse` raises."""
    values: dict[str, Any] = {}
    for name in choices:
        values[name] = _values(name, _resolved(name, choices, values))[0]
    return values


class Browser:
    """Controls and the picture they choose.

    Attributes:
        controls: name of a choice -> its control, whose `value` may be set.
        picture: the figure as PNG.
        message: what is wrong, where a choice cannot be drawn.
        widget: all of them, to display.
    """

    def __init__(self, draw: Callable[..., Figure], **choices: Choice) -> None:
        import ipywidgets

        self._draw, self._choices, self._settling = draw, choices, True
        self.controls: dict[str, Widget] = {}
        for name in choices:
            self.controls[name] = _control(name, _resolved(name, choices, self.values))
        for control in self.controls.values():
            control.observe(self._turned, "value")
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.message = ipywidgets.HTML()
        box = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([box, self.message, self.picture])
        self._settling = False
        self._redraw()

    @property
    def values(self) -> dict[str, Any]:
        """What is chosen now."""
        return {name: control.value for name, control in self.controls.items()}

    def _turned(self, change: Mapping[str, Any]) -> None:
        if self._settling:  # by ourselves: one drawing is enough
            return
        self._settling = True
        try:
            turned = next(name for name, control in self.controls.items() if control is change["owner"])
            for name in list(self.controls)[list(self.controls).index(turned) + 1 :]:
                if callable(self._choices[name]):
                    _offer(self.controls[name], name, _resolved(name, self._choices, self.values))
        finally:
            self._settling = False
        self._redraw()

    def _redraw(self) -> None:
        try:
            figure = self._draw(**self.values)
        except UserError as error:
            self.message.value, self.picture.value = html.escape(str(error)), b""
            return
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", bbox_inches="tight", dpi=110)
        plt.close(figure)
        self.message.value, self.picture.value = "", pixels.getvalue()


def _resolved(name: str, choices: Mapping[str, Choice], before: Mapping[str, Any]) -> Choice:
    """A choice as it stands after those `before` it."""
    choice = choices[name]
    if not callable(choice):
        return choice
    needed = list(signature(choice).parameters)
    if late := [other for other in needed if other not in before or other == name]:
        raise UsageError(f"the choice {name!r} depends on {late[0]!r}: name that one before it")
    return choice(**{other: before[other] for other in needed})


def _values(name: str, choice: Choice) -> list[Any]:
    """The values there are, the first one first; of a box or a field, what it begins with."""
    if isinstance(choice, bool | str):
        return [choice]
    if not isinstance(choice, Sequence | Mapping):
        raise UsageError(f"the choice {name!r} is {choice!r}: give True or False, text, a range, a list or a mapping")
    if not len(choice):
        raise UsageError(f"there is nothing to choose from for {name!r}")
    return list(choice.values() if isinstance(choice, Mapping) else choice)


def _control(name: str, choice: Choice) -> "Widget":
    """A control of its kind, at the first value."""
    import ipywidgets

    first, told = _values(name, choice)[0], name.replace("_", " ")
    if isinstance(choice, bool):
        return ipywidgets.Checkbox(first, description=told)
    if isinstance(choice, str):
        return ipywidgets.Text(first, description=told, continuous_update=False)
    if isinstance(choice, range):
        bounds = {"min": choice[0], "max": choice[-1], "step": choice.step}
        return ipywidgets.IntSlider(first, description=told, continuous_update=False, **bounds)
    return ipywidgets.Dropdown(options=_options(choice), value=first, description=told, layout={"width": _WIDE})


def _offer(control: "Widget", name: str, choice: Choice) -> None:
    """Give a control new values; it stays where it was if that is still one of them, else goes to the first."""
    values, before = _values(name, choice), control.value
    if isinstance(choice, range):
        control.min, control.max = min(control.min, choice[0]), max(control.max, choice[-1])  # never crossing
        control.value = before if before in choice else values[0]
        control.min, control.max, control.step = choice[0], choice[-1], choice.step
    elif isinstance(choice, bool | str):
        control.value = choice
    else:
        control.options = _options(choice)
        control.value = before if before in values else values[0]


def _options(choice: Sequence | Mapping) -> list[tuple[str, Any]]:
    pairs = choice.items() if isinstance(choice, Mapping) else ((value, value) for value in choice)
    return [(str(told), value) for told, value in pairs]

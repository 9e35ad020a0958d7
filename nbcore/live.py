"""A loss curve that grows below a notebook's cell while a method learns; nothing of it stays.

Where nobody watches (a script, `nbcore run`, papermill, a worker process) there is none, and it costs nothing.
"""

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic

_EVERY = 2.0  # seconds between two drawings
_POINTS = 400  # of a line; of more steps the means of equally many are drawn


@contextmanager
def loss_curve(values: Mapping[str, Sequence[float]], enabled: bool = True) -> Iterator[Callable[[], None]]:
    """Draw `values` while the block runs, at most every two seconds, whenever the function given is called.

    Args:
        values: loss -> its value of every step so far, >= 1 step by the first call; read anew for each drawing. "lr" is
            left out.
        enabled: off for all processes but the main one.
    """
    if not (enabled and _is_watched()):
        yield _nothing
        return
    from IPython.display import Image, display

    handle, drawn_at = None, monotonic()

    def draw() -> None:
        nonlocal handle, drawn_at
        if monotonic() - drawn_at < _EVERY:
            return
        picture = Image(_png(values))
        if handle is None:
            handle = display(picture, display_id=True)
        else:
            handle.update(picture)
        drawn_at = monotonic()

    try:
        yield draw
    finally:
        if handle is not None:
            handle.update({}, raw=True)


def _is_watched() -> bool:
    if "ipykernel" not in sys.modules:  # a worker need not import what it cannot be
        return False
    from nbcore.widgets import is_interactive

    return is_interactive()


def _nothing() -> None:
    pass


def _png(values: Mapping[str, Sequence[float]]) -> bytes:
    """The losses by step in one panel, whose axis is logarithmic where they are far apart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")  # none of pyplot's, which the cell would show at its end
    axis = figure.add_subplot(xlabel="step", ylabel="loss")
    lines = {name: _thinned(own) for name, own in values.items() if name != "lr"}
    for name, (steps, own) in lines.items():
        axis.plot(steps, own, label=name, linewidth=1.2, marker="." if len(own) == 1 else None)
    every = [value for _, own in lines.values() for value in own]
    axis.set_yscale("log" if 0 < 20 * min(every) < max(every) else "linear")
    axis.legend(fontsize=8, loc="upper right")
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=100)
    return pixels.getvalue()


def _thinned(values: Sequence[float]) -> tuple[list[int], list[float]]:
    """The last step of each group of equally many, from 1, and the mean of the group."""
    size = math.ceil(len(values) / _POINTS)
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    return [min((i + 1) * size, len(values)) for i in range(len(groups))], [math.fsum(own) / len(own) for own in groups]

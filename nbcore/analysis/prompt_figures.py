"""Figures of prompts carried from a high-end to a low-end modality (K-MaT): how, where to, and with what success.

Shapes: N classes, S seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", ":", "-.")


def coupling_matrices(couplings: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """N times each coupling, a panel each: 1 where a whole class goes to one other, 1/N everywhere if it is uniform.

    Args:
        couplings: title -> coupling (N, N), sum 1, rows high-end and columns low-end classes; the title is continued by
            the mass on the diagonal, in [0, 1].
        classes: names, N of them.
    """
    names = _readable(classes)
    side, longest = 0.7 + 0.42 * len(names), 0.08 * max(map(len, names))  # inches
    size = (len(couplings) * max(side + 0.1, 1.9) + longest + 1.3, side + 0.7 * longest + 1.1)
    fig, axes = plt.subplots(1, len(couplings), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, (title, coupling) in zip(axes.flat, couplings.items()):
        image = axis.imshow(len(names) * coupling, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(names)), labels=names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(names)), labels=names, fontsize=7)
        axis.set_xlabel("low-end class", fontsize=8)
        axis.set_title(f"{title}\ndiagonal mass {np.trace(coupling):.2f}", fontsize=9)
        axis.grid(visible=False)
    axes[0, 0].set_ylabel("high-end class", fontsize=8)
    bar = fig.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("N × coupling", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return fig


@dataclass(frozen=True)
class Transport:
    """A coupling and the costs it was found for.

    Attributes:
        high, low: distances within the high-end and the low-end classes, (N, N).
        between: squared distances of high-end (rows) and low-end classes, (N, N).
        coupling: (N, N), sum 1.
        classes: names, N of them.
    """

    high: np.ndarray
    low: np.ndarray
    between: np.ndarray
    coupling: np.ndarray
    classes: Sequence[str]


def transport_view(solve: Callable[..., Transport], **chosen: Any) -> Figure:
    """What `solve` makes of what is chosen: the costs, each from 0 to its largest value, and N times the coupling."""
    found = solve(**chosen)
    names = _readable(found.classes)
    panels = {
        "structure, high end": found.high,
        "structure, low end": found.low,
        "between the ends": found.between,
        f"coupling, diagonal mass {np.trace(found.coupling):.2f}": len(names) * found.coupling,
    }
    side, longest = 1.3 + 0.36 * len(names), 0.08 * max(map(len, names))  # inches
    size = (4 * max(side, 2.3) + longest, side + 0.7 * longest + 0.9)
    fig, axes = plt.subplots(1, 4, figsize=size, sharey=True, layout="constrained")
    for axis, (title, values) in zip(axes, panels.items()):
        is_coupling = values is panels[list(panels)[-1]]
        top = 1.0 if is_coupling else max(values.max(), np.finfo(float).tiny)
        image = axis.imshow(values, cmap="Blues" if is_coupling else "Oranges", vmin=0, vmax=top)
        axis.set_xticks(range(len(names)), labels=names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(names)), labels=names, fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.grid(visible=False)
        fig.colorbar(image, ax=axis, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)
    return fig


def coupling_trace(traces: Mapping[str, Sequence[float]], classes: Mapping[str, int]) -> Figure:
    """Mass on the diagonal of the coupling after each epoch, a line a run.

    Dashed: 1, each class goes to its own counterpart; and in the run's colour 1/N, the uniform coupling, which pulls
    every low-end class to the mean of the high-end ones.

    Args:
        traces: run -> mass in [0, 1] after epochs 1, 2, ...
        classes: run -> N.
    """
    fig, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    for colour, (name, values) in zip(sns.color_palette("colorblind", len(traces)), traces.items()):
        axis.plot(np.arange(1, len(values) + 1), values, label=name, color=colour, marker=".", linewidth=1.4)
        axis.axhline(1 / classes[name], color=colour, linestyle="--", linewidth=0.8)
    axis.axhline(1.0, color="0.4", linestyle="--", linewidth=1)
    uniform = {count: f"uniform, N = {count}" for count in sorted(set(classes.values()))}
    for height, told in {1.0: "identity", **{1 / count: told for count, told in uniform.items()}}.items():
        below = height == min(1 / count for count in classes.values()) and len(uniform) > 1
        look = {"ha": "right", "va": "top" if below else "bottom", "fontsize": 7, "color": "0.4"}
        axis.text(0.99, height, told, transform=axis.get_yaxis_transform(), **look)
    axis.set(xlabel="epoch", ylabel="diagonal mass of the coupling", ylim=(0, 1.09))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(loc="outside lower center", ncols=min(len(traces), 4), fontsize=8, frameon=False)
    return fig


def coupling_by_closeness(table: pd.DataFrame, classes: int) -> Figure:
    """Mass on the diagonal of the coupling against how close the classes of a modality lie, a line a solver.

    Dashed: 1/N, the uniform coupling.

    Args:
        table: solver, cosine in [-1, 1] (mean between two classes), diagonal in [0, 1].
        classes: N.
    """
    fig, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    solvers = list(dict.fromkeys(table["solver"]))
    for number, (colour, solver) in enumerate(zip(sns.color_palette("colorblind", len(solvers)), solvers)):
        own = table[table["solver"] == solver]
        style = {"color": colour, "marker": _MARKERS[number % len(_MARKERS)], "markersize": 4, "linewidth": 1.2}
        axis.plot(own["cosine"], own["diagonal"], label=solver, **style)
    axis.axhline(1 / classes, color="0.4", linestyle="--", linewidth=1)
    axis.set(xlabel="mean cosine between the classes of a modality", ylabel="diagonal mass", ylim=(0, 1.09))
    fig.legend(loc="outside lower center", ncols=min(len(solvers), 4), fontsize=8, frameon=False)
    return fig


def prompt_map(points: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Prompts of several sets in one plane (Fig. 2a): colour by class, marker by set, each set joined to a polygon.

    Polygons of one shape mean that the classes of the two sets are related alike, wherever in the plane the sets lie.

    Args:
        points: set, such as "low-end, with transport" -> its classes' places, (N, 2).
        classes: names, N of them.
    """
    colours = sns.color_palette("colorblind", len(classes))
    fig, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    handles = []
    for number, (name, plane) in enumerate(points.items()):
        marker, line = _MARKERS[number % len(_MARKERS)], _LINES[number % len(_LINES)]
        ring = np.concatenate([plane, plane[:1]])
        axis.plot(*ring.T, color="0.6", linestyle=line, linewidth=0.9, zorder=1)
        axis.scatter(*plane.T, c=colours, marker=marker, s=60, edgecolors="0.2", linewidths=0.6, zorder=2)
        look = {"color": "0.6", "markerfacecolor": "white", "markeredgecolor": "0.2", "linewidth": 0.9}
        handles.append(Line2D([], [], marker=marker, linestyle=line, label=name, **look))
    axis.set(xticks=[], yticks=[])
    axis.margins(0.08)
    for name, colour in zip(_readable(classes), colours):
        handles.append(Line2D([], [], color=colour, marker="o", linestyle="", label=name))
    fig.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False, handlelength=2.6)
    return fig


def class_recalls(found: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Share of each class's images that are recognised, bars side by side (Fig. 2b).

    Args:
        found: method -> recalls in [0, 1], (N,), or (S, N) for several seeds: then their mean and standard deviation.
        classes: names, N of them.
    """
    names, width = _readable(classes), 0.8 / len(found)
    fig, axis = plt.subplots(figsize=(2.2 + 0.9 * len(names), 3.3), layout="constrained")
    colours = sns.color_palette("colorblind", len(found))
    for number, (method, recalls) in enumerate(found.items()):
        seeds = 100 * np.atleast_2d(recalls)  # (S, N)
        spread = seeds.std(axis=0, ddof=1) if len(seeds) > 1 else None
        places = np.arange(len(names)) + (number - (len(found) - 1) / 2) * width
        error = {"elinewidth": 1, "capsize": 2}
        axis.bar(places, seeds.mean(axis=0), width, yerr=spread, error_kw=error, color=colours[number], label=method)
    axis.set_xticks(range(len(names)), labels=names, fontsize=8)
    axis.set(ylim=(0, 105), ylabel="recall (%)")
    axis.grid(visible=False, axis="x")
    fig.legend(loc="outside lower center", ncols=min(len(found), 4), fontsize=8, frameon=False)
    return fig


def high_low(table: pd.DataFrame) -> Figure:
    """Accuracy on the high-end against that on the low-end modality, a panel a pair, over harmonic means.

    A small point is a seed, a large one the mean of a method's; a grey line joins equal harmonic means.

    Args:
        table: a row a run: method, dataset (the pair), seed, high and low (accuracy in %).
    """
    pairs, methods = (list(dict.fromkeys(table[key])) for key in ("dataset", "method"))
    colours = dict(zip(methods, sns.color_palette("colorblind", len(methods))))
    size = (2.7 * len(pairs) + 0.4, 3.5)
    fig, axes = plt.subplots(1, len(pairs), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained")
    limits = [(max(table[key].min() - 6, 0), min(table[key].max() + 6, 100)) for key in ("high", "low")]
    grid = np.meshgrid(*(np.linspace(*ends, 101)[1:] for ends in limits))  # 0, 0 has no harmonic mean
    harmonic = 2 * grid[0] * grid[1] / (grid[0] + grid[1])
    for axis, pair in zip(axes.flat, pairs):
        lines = axis.contour(*grid, harmonic, levels=np.arange(10, 100, 10), colors="0.75", linewidths=0.8, zorder=1)
        axis.clabel(lines, fmt="%d", fontsize=7)
        for method, runs in table[table["dataset"] == pair].groupby("method", sort=False):
            look = {"color": colours[method], "marker": _MARKERS[methods.index(method) % len(_MARKERS)]}
            axis.scatter(runs["high"], runs["low"], s=12, alpha=0.5, linewidths=0, zorder=2, **look)
            high, low = runs[["high", "low"]].mean()
            axis.scatter(high, low, s=55, edgecolors="0.2", linewidths=0.6, zorder=3, **look)
        axis.set(xlim=limits[0], ylim=limits[1])
        axis.set_title(pair, fontsize=9)
        axis.set_xlabel("high-end accuracy (%)", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(visible=False)
    axes[0, 0].set_ylabel("low-end accuracy (%)", fontsize=8)
    handles = [
        Line2D([], [], color=colours[name], marker=_MARKERS[number % len(_MARKERS)], linestyle="", label=name)
        for number, name in enumerate(methods)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(methods), 6), fontsize=8, frameon=False)
    return fig


def _readable(classes: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in classes]

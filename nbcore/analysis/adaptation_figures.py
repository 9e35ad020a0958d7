"""Figures of classifiers adapted without labels (MedUnA): what they answer, and what they learn from descriptions.

Shapes: n points, C classes.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nbcore.tasks.text_image import Alignment

_NUMBERED = 7  # classes up to which a confusion matrix has room for numbers


def confusion_matrices(panels: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Shares of each class's images by what they are predicted to be, a panel each.

    Args:
        panels: title -> numbers of images by class (row) and prediction (column), (C, C).
        classes: names, C of them; up to 7 are few enough for the shares to be written into the cells, in %.
    """
    names = [name.replace("_", " ") for name in classes]
    side, longest = 0.7 + 0.42 * len(names), 0.08 * max(map(len, names))  # inches
    size = (len(panels) * (side + 0.1) + longest + 1.3, side + 0.7 * longest + 0.9)
    fig, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, (title, counts) in zip(axes.flat, panels.items()):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(names)), labels=names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(names)), labels=names, fontsize=7)
        axis.set_xlabel("predicted", fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.grid(visible=False)
        if len(names) <= _NUMBERED:
            for (row, column), value in np.ndenumerate(share):
                color = "white" if value > 0.55 else "black"
                axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=color)
    axes[0, 0].set_ylabel("class", fontsize=8)
    bar = fig.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("share of the class", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return fig


def text_vs_final(table: pd.DataFrame) -> Figure:
    """Accuracy of the text classifier on descriptions it has not seen, and what becomes of it on images (Fig. 2).

    Args:
        table: a row a run: dataset, descriptions (the set they come from), text and final (accuracy in %, of the text
            classifier and of the adapted model). The left panel has mean and standard deviation of `text` over the
            runs, the right one the means of both.
    """
    sets, datasets = (list(dict.fromkeys(table[key])) for key in ("descriptions", "dataset"))
    colours = dict(zip(sets, sns.color_palette("colorblind", len(sets))))
    fig, (bars, plane) = plt.subplots(1, 2, figsize=(9.2, 3.6), width_ratios=(1.5, 1), layout="constrained")
    look = {"hue": "descriptions", "palette": colours, "hue_order": sets}
    spread = {"errorbar": "sd", "capsize": 0.15, "err_kws": {"linewidth": 1}}
    sns.barplot(table, x="dataset", y="text", saturation=1, ax=bars, **spread, **look)
    bars.set(xlabel="", ylabel="accuracy on descriptions (%)", ylim=(0, 105), title="text classifier")
    bars.get_legend().remove()
    fig.legend(bars.containers[: len(sets)], sets, loc="outside lower left", ncols=len(sets), fontsize=8, frameon=False)
    means = table.groupby(["dataset", "descriptions"], as_index=False)[["text", "final"]].mean()
    order = {"style": "dataset", "style_order": datasets}
    sns.scatterplot(means, x="text", y="final", s=60, ax=plane, **look, **order)
    plane.set(xlabel="accuracy on descriptions (%)", ylabel="accuracy on images (%)", title="text and final")
    handles, labels = plane.get_legend_handles_labels()
    shown = slice(labels.index("dataset") + 1, None)  # the colours have the figure's legend
    plane.legend(handles[shown], labels[shown], fontsize=7)
    return fig


def alignment_curves(alignments: Mapping[str, Alignment]) -> Figure:
    """Hit rate and precision of the k descriptions nearest to an image, a line a set of descriptions (Fig. 4).

    Dashed, in the same colour: what a random ranking has in expectation.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    titles = {"hit": "own class among the k", "precision": "share of the k of the own class"}
    for axis, (key, title) in zip(axes, titles.items()):
        colours = sns.color_palette("colorblind", len(alignments))
        for colour, (name, found) in zip(colours, alignments.items()):
            axis.plot(found.ks, getattr(found, key), label=name, color=colour, marker=".", linewidth=1.4)
            axis.plot(found.ks, getattr(found, f"chance_{key}"), color=colour, linestyle="--", linewidth=1)
        axis.set_title(title, fontsize=9)
        axis.set(xlabel="k, nearest descriptions", ylabel=f"{key}@k")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(0, 1.03 if key == "hit" else None)
    axes[0].plot([], [], color="0.4", linestyle="--", linewidth=1, label="chance")
    axes[0].legend(fontsize=7)
    return fig


def prediction_shares(shares: Mapping[str, np.ndarray], truth: np.ndarray, classes: Sequence[str]) -> Figure:
    """How the answers of each method are divided among the classes, below the truth: one colour alone is a collapse.

    Args:
        shares: method -> shares (C,), sum 1.
        truth: shares of the labels, (C,).
        classes: names, C of them.
    """
    rows = {"labels": truth, **shares}
    fig, axis = plt.subplots(figsize=(7.2, 0.9 + 0.36 * len(rows)), layout="constrained")
    start = np.zeros(len(rows))
    for name, colour, values in zip(classes, _class_colours(classes), np.stack(list(rows.values()), axis=1)):
        bars = axis.barh(list(rows), values, left=start, color=colour, label=name.replace("_", " "), height=0.75)
        axis.bar_label(bars, [f"{100 * v:.0f}" if v >= 0.04 else "" for v in values], label_type="center", fontsize=7)
        start += values
    axis.axhline(0.5, color="black", linewidth=0.8)
    axis.set(xlim=(0, 1), xlabel="share of the predictions")
    axis.invert_yaxis()
    axis.grid(visible=False)
    fig.legend(loc="outside lower center", ncols=min(len(classes), 5), fontsize=7, frameon=False)
    return fig


def before_after(points: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """The same images in several planes, coloured by class: zero-shot and adapted features by t-SNE (Fig. 5).

    Args:
        points: title -> (n, 2).
        labels: of the images, classes 0 ... C - 1, (n,).
        classes: names, C of them.
    """
    colours = np.array(_class_colours(classes))
    size = (3.4 * len(points), 4.0)
    fig, axes = plt.subplots(1, len(points), figsize=size, squeeze=False, layout="constrained")
    order = np.random.default_rng(0).permutation(len(labels))  # or the last class would cover the others
    for axis, (title, plane) in zip(axes.flat, points.items()):
        axis.scatter(*plane[order].T, s=9, c=colours[labels[order]], alpha=0.75, linewidths=0)
        axis.set(xticks=[], yticks=[], box_aspect=1)
        axis.set_title(title, fontsize=9)
    for name, colour in zip(classes, colours):
        axes[0, 0].scatter([], [], s=20, color=colour, label=name.replace("_", " "))
    fig.legend(loc="outside lower center", ncols=min(len(classes), 4), fontsize=7, frameon=False)
    return fig


def _class_colours(classes: Sequence[str]) -> list[tuple[float, float, float]]:
    return sns.color_palette("colorblind" if len(classes) <= 10 else "husl", len(classes))


def accuracy_by_epoch(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Accuracy after each epoch, a panel a data set and a line a method; dashed, a method without epochs.

    Args:
        curves: data set -> method -> accuracies in [0, 1], (E,) or (1,).
    """
    fig, axes = plt.subplots(1, len(curves), figsize=(2.6 * len(curves), 2.9), squeeze=False, layout="constrained")
    methods = list(dict.fromkeys(method for own in curves.values() for method in own))
    colours = dict(zip(methods, sns.color_palette("colorblind", len(methods))))
    for axis, (title, own) in zip(axes.flat, curves.items()):
        for method, values in own.items():
            if len(values) > 1:
                axis.plot(np.arange(1, len(values) + 1), 100 * values, color=colours[method], marker=".", label=method)
            else:
                axis.axhline(100 * values[0], color=colours[method], linestyle="--", linewidth=1.2, label=method)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("accuracy (%)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    return fig


def opinions(picture: np.ndarray, held: Mapping[str, np.ndarray], classes: Sequence[str], truth: str) -> Figure:
    """A picture under its class, and what each method holds for probable, a panel a method; what it answers is dark.

    Args:
        picture: uint8 (H, W, 3).
        held: method -> probability of each class, (C,); nothing gives the picture alone.
        classes: names, C of them.
        truth: what stands above the picture.
    """
    names = [name.replace("_", " ") for name in classes]
    size = (3.0 + 2.2 * len(held), max(2.9, 0.9 + 0.28 * len(names)))
    fig, axes = plt.subplots(1, 1 + len(held), figsize=size, squeeze=False, layout="constrained")
    shown, *axes = axes[0]
    shown.imshow(picture)
    shown.set_axis_off()
    shown.set_title(truth.replace("_", " "), fontsize=9)
    for axis, (method, share) in zip(axes, held.items()):
        colours = np.where(np.arange(len(names)) == share.argmax(), "tab:blue", "lightsteelblue")
        bars = axis.barh(range(len(names)), 100 * share, color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
        axis.set_yticks(range(len(names)), labels=names if axis is axes[0] else [], fontsize=8)
        axis.set(xlim=(0, 118), xlabel="probability (%)")
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
        axis.set_title(method, fontsize=9)
        if truth in classes:
            axis.axhspan(*(classes.index(truth) + np.array([-0.5, 0.5])), color="0.93", zorder=0)
    return fig

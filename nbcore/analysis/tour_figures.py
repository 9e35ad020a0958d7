"""What data sets look like: pictures with labels and outlines, reports, class balance.

Pictures are drawn in the coordinates of the stored image, whatever size they are shown at.
Shapes: H, W the stored image; h, w as shown.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nbcore.analysis.lettering import two_lines

SPLIT_COLOURS = dict(zip(("train", "valid", "test"), sns.color_palette("colorblind")))
DPI = 112  # enough for sheets of many pictures: the report, which holds them all, stays small
_PLACE, _FILLED = 1.3, 0.96  # inches of a picture's place on a sheet, and how much of it the picture fills
PIXELS = round(DPI * _PLACE * _FILLED)  # of the longer side of a picture on a sheet
_OUTLINE, _DENIED, _SAID = "#00e5ff", "#8a94a0", "#1c2128"
# words by which a sentence denies a finding, in the languages of the reports
_DENIES = re.compile(r"\b(no|not|without|free of|negative for|sin|ni|ausencia|ausenci|niega)\b", re.IGNORECASE)
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")


@dataclass(frozen=True)
class Picture:
    """An image to show and what is known of it.

    Attributes:
        pixels: uint8 (h, w, 3).
        size: (H, W).
        title: its positive labels.
        mask: bool, of any shape with the proportions of the image; None: not outlined.
        boxes: x, y, width, height in pixels of the stored image.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    title: str = ""
    mask: np.ndarray | None = None
    boxes: tuple[tuple[float, ...], ...] = ()


def draw(
    axis: Axes,
    picture: Picture,
    outlines: bool = True,
    place: tuple[float, float, float] | None = None,
    width: int = 24,
    fontsize: float = 6.3,
) -> None:
    """One picture below its title, which has at most two lines of `width` characters.

    It fills the axis, or where several share one, lies in the middle of the square of left, top and side in `place`.
    """
    height, wide = picture.size
    left, top, side = place or (0, 0, 1)
    scale = side / max(height, wide)
    x, y = left + (side - scale * wide) / 2, top + (side - scale * height) / 2
    extent = (x, x + scale * wide, y + scale * height, y)
    axis.imshow(picture.pixels, extent=extent, interpolation="none")  # SVG keeps the pixels as they are: quick
    told = two_lines(picture.title, width)
    axis.text(left + side / 2, y - 0.02 * side, told, ha="center", va="bottom", fontsize=fontsize, linespacing=1.05)
    if place is None:
        axis.set(xlim=(left, left + side), ylim=(y + scale * height, y), aspect="equal")
        axis.set_axis_off()
    if outlines and picture.mask is not None and picture.mask.any():
        rows, columns = picture.mask.shape
        across = x + (np.arange(columns) + 0.5) * scale * wide / columns
        down = y + (np.arange(rows) + 0.5) * scale * height / rows
        axis.contour(across, down, picture.mask, [0.5], colors=_OUTLINE, linewidths=1.2)
    for box in picture.boxes if outlines else ():
        corner, *sides = (x + scale * box[0], y + scale * box[1]), scale * box[2], scale * box[3]
        axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=_OUTLINE, linewidth=1.2))


def _sheet(wide: float, high: float) -> tuple[Figure, Axes]:
    """An axis to lay pictures on: in units of their places, from the top left corner, to the right and down."""
    fig = plt.figure(figsize=(wide * _PLACE, high * _PLACE))
    axis = fig.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    return fig, axis


def _bound(axis: Axes, wide: float, high: float) -> None:
    """Pictures set the limits of their axis; these are the sheet's again."""
    axis.set(xlim=(0, wide), ylim=(high, 0), aspect="auto")


def gallery(rows: Mapping[str, Sequence[Picture]], title: str = "", outlines: bool = False) -> Figure:
    """A row a data set, its name in front of it, some of its pictures beside each other."""
    names, line, head = 1.0, 1.27, 0.3 if title else 0.0
    wide, high = names + max(map(len, rows.values())), head + line * len(rows)
    fig, axis = _sheet(wide, high)
    axis.text(0, 0.05, title, fontsize=12, fontweight="bold", va="top")
    for i, (name, pictures) in enumerate(rows.items()):
        top = head + line * i + line - 1
        for column, picture in enumerate(pictures):
            draw(axis, picture, outlines, (names + column + 0.02, top, _FILLED))
        told = textwrap.fill(name.replace("/", "/ "), 15, break_long_words=False)
        axis.text(names - 0.08, top + 0.48, told, fontsize=8.5, ha="right", va="center")
    _bound(axis, wide, high)
    return fig


def class_balance(table: pd.DataFrame, columns: int = 4) -> Figure:
    """Share of the images of each split that are positive of each class, a panel a data set, most classes first.

    Args:
        table: columns dataset, class, split, share (%).
        columns: panels beside each other.
    """
    classes = {name: list(dict.fromkeys(own["class"])) for name, own in table.groupby("dataset", sort=False)}
    names = sorted(classes, key=lambda name: -len(classes[name]))  # panels of a line are about as high
    lines = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [0.16 * max(len(classes[name]) for name in line) + 0.75 for line in lines]
    high = sum(heights) + 0.7  # legend and label
    fig, axes = plt.subplots(
        *(len(lines), columns), figsize=(3.2 * columns, high), height_ratios=heights, squeeze=False
    )
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names):
        own, place = table[table["dataset"] == name], {label: i for i, label in enumerate(classes[name])}
        for split, colour in SPLIT_COLOURS.items():
            shown = own[own["split"] == split]
            axis.scatter(shown["share"], shown["class"].map(place), s=16, color=colour, alpha=0.85, linewidths=0)
        told = [label.replace("_", " ") for label in place]
        axis.set(yticks=range(len(place)), yticklabels=told, ylim=(len(place) - 0.4, -0.6))
        axis.set_title(name, fontsize=9)
        axis.set_xlim(left=-0.03 * max(own["share"].max(), 1))
        axis.tick_params(labelsize=6.5, pad=1)
        axis.grid(axis="y", linewidth=0.5)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for colour in SPLIT_COLOURS.values()]
    fig.legend(handles, SPLIT_COLOURS, loc="upper center", ncols=3, fontsize=9, frameon=False)
    fig.text(0.5, 0.05 / high, "images that are positive of the class (% of the split)", ha="center", fontsize=9)
    fig.tight_layout(rect=(0, 0.3 / high, 1, 1 - 0.35 / high))
    return fig


def reports(pages: Mapping[str, Sequence[tuple[Picture, str]]], lines: int = 15) -> Figure:
    """Images beside their reports, a column a language or data set; sentences that deny something are grey.

    Args:
        pages: what a column tells -> image and report, a sentence a line.
        lines: of a report, at most.
    """
    count = max(map(len, pages.values()))
    fig, axes = plt.subplots(
        *(count, 2 * len(pages)), figsize=(6.8 * len(pages), 3.0 * count), width_ratios=[1, 1.55] * len(pages)
    )
    axes = np.reshape(axes, (count, -1))
    for axis in axes.flat:
        axis.set_axis_off()
    fig.tight_layout(w_pad=0.4, h_pad=1.6, rect=(0, 0, 1, 1 - 0.35 / (3.0 * count)))
    for column, (name, found) in enumerate(pages.items()):
        for row, (picture, report) in enumerate(found):
            draw(axes[row, 2 * column], picture, width=44, fontsize=7)
            write(axes[row, 2 * column + 1], report, lines)
        left = axes[0, 2 * column].get_position().x0
        fig.text(left, 1 - 0.05 / count, name, fontsize=12, fontweight="bold", va="top")
    return fig


def write(axis: Axes, report: str, lines: int = 15, width: int = 54, top: float = 1.0, fontsize: float = 7.5) -> None:
    """A report on an axis, a sentence a line or more; sentences that deny something are grey."""
    told = []
    for sentence in report.splitlines():
        parts = textwrap.wrap(sentence, width, subsequent_indent="   ")
        told += [(part, _DENIED if denies(sentence) else _SAID) for part in parts]
    if len(told) > lines:
        told = [*told[: lines - 1], ("...", _SAID)]
    for i, (line, colour) in enumerate(told):
        place = (0, top - i * top / lines)
        axis.text(*place, line, color=colour, fontsize=fontsize, va="top", transform=axis.transAxes)


def denies(sentence: str) -> bool:
    """Whether a sentence has a word that denies: English or Spanish, plain or stemmed."""
    return _DENIES.search(sentence) is not None


def report_lengths(lengths: Mapping[str, Sequence[int]]) -> Figure:
    """Words a report, a curve a data set."""
    fig, axis = plt.subplots(figsize=(7, 2.8))
    longest = max(np.quantile(own, 0.995) for own in lengths.values())
    bins = np.linspace(0, longest + 1, min(30, int(longest) + 2))
    for name, own in lengths.items():
        share = np.histogram(own, bins)[0] * 100 / len(own)
        axis.stairs(share, bins, label=f"{name} (median {np.median(own):.0f})", linewidth=1.5)
    axis.set(xlabel="words a report", ylabel="% of the reports", ylim=(0, None), xlim=(0, None))
    axis.legend(fontsize=8)
    fig.tight_layout()
    return fig


def frequent_words(texts: Mapping[str, Sequence[str]], count: int = 18) -> Figure:
    """In how many of the reports the commonest words of four letters and more are, a panel a language."""
    fig, axes = plt.subplots(1, len(texts), figsize=(4.6 * len(texts), 0.19 * count + 0.8), squeeze=False)
    for axis, (name, own), colour in zip(axes.flat, texts.items(), sns.color_palette("colorblind")):
        found = Counter(word for text in own for word in set(_LONG_WORD.findall(text.lower())))
        words, seen = zip(*found.most_common(count))
        axis.barh(words, 100 * np.array(seen) / len(own), color=colour, alpha=0.85, linewidth=0)
        axis.invert_yaxis()
        axis.set_title(f"{name}, {len(own):,} reports", fontsize=9)
        axis.set_xlabel("% of the reports", fontsize=8)
        axis.tick_params(labelsize=7.5)
        axis.grid(visible=False, axis="y")
    fig.tight_layout()
    return fig


def pair(sides: Mapping[str, Mapping[str, Sequence[Picture]]], title: str = "") -> Figure:
    """The same classes in two modalities: a row a modality, the classes from left to right."""
    names, line, head, gap = 1.0, 1.03, 0.6, 0.12
    classes = list(next(iter(sides.values())))
    each = max(1, *(len(own) for found in sides.values() for own in found.values()))
    wide, high = names + len(classes) * (each + gap), head + line * len(sides)
    fig, axis = _sheet(wide, high)
    axis.text(0, 0.05, title, fontsize=12, fontweight="bold", va="top")
    for column, label in enumerate(classes):
        left = names + column * (each + gap)
        axis.text(left + each / 2, head - 0.06, label.replace("_", " "), fontsize=9, ha="center", va="bottom")
        for row, found in enumerate(sides.values()):
            for i, picture in enumerate(found[label]):
                draw(axis, picture, place=(left + i, head + row * line, _FILLED))
    for row, name in enumerate(sides):
        told = textwrap.fill(name.replace("/", "/ "), 15, break_long_words=False)
        axis.text(names - 0.08, head + row * line + 0.48, told, fontsize=8.5, ha="right", va="center")
    _bound(axis, wide, high)
    return fig


def view(picture: Picture, facts: Mapping[str, str], report: str, outlines: bool) -> Figure:
    """One image, large, beside what is known of it and its report."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), width_ratios=[1, 1.15])
    draw(left, picture, outlines, width=60, fontsize=9)
    right.set_axis_off()
    top = 1.0
    for name, value in facts.items():
        lines = textwrap.wrap(value, 58) or [""]
        right.text(0, top, name, fontsize=8.5, color=_DENIED, va="top", transform=right.transAxes)
        right.text(0.2, top, "\n".join(lines), fontsize=8.5, color=_SAID, va="top", transform=right.transAxes)
        top -= 0.052 * len(lines)
    write(right, report, lines=max(1, int((top - 0.03) / 0.048)), width=72, top=top - 0.03, fontsize=8.5)
    fig.tight_layout()
    return fig

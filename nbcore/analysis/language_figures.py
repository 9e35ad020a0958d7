"""Figures of languages and the communities that speak them (Med-UniC).

Shapes: n points, reports or pictures, H side of a picture.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from nbcore.analysis.figures import draw_outlined

_BLUE, _ORANGE, *_OTHERS = sns.color_palette("colorblind")
_LANGUAGES = {"English": _ORANGE, "en": _ORANGE, "Spanish": _BLUE, "es": _BLUE}  # the paper's colours
_COLUMNS, _TYPE = 110, 8.0  # of `tokenisation_figure`: characters of a line, size in points
_ADVANCE = 0.602  # width of a character of DejaVu Sans Mono, of its size


def community_colours(communities: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each community, sorted by name: Spanish blue, English orange, any other from the same palette."""
    others = iter(_OTHERS)
    return {name: _LANGUAGES.get(name) or next(others) for name in sorted(set(communities))}


def community_scatter(panels: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> Figure:
    """Planes of embeddings, a panel each, coloured by community with one legend (Med-UniC, Fig. 1 and 4).

    Args:
        panels: title -> points (n, 2), and the community of each.
    """
    colours = community_colours([name for _, communities in panels.values() for name in communities])
    fig, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 3.6), squeeze=False)
    for axis, (title, (points, communities)) in zip(axes.flat, panels.items()):
        order = np.random.default_rng(0).permutation(len(points))  # or the last community would cover the others
        axis.scatter(*points[order].T, s=9, c=[colours[communities[i]] for i in order], alpha=0.7, linewidths=0)
        axis.set(xticks=[], yticks=[], box_aspect=1)
        axis.set_title(title, fontsize=9)
    handles = [Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in colours.items()]
    fig.legend(handles=handles, loc="lower center", ncols=len(colours), fontsize=8, frameon=False)
    fig.tight_layout(rect=(0, 0.07, 1, 1))
    return fig


def similarity_matrix(similarity: np.ndarray, sizes: Mapping[str, int]) -> Figure:
    """Cosines (n, n) of reports sorted by language, with a line between languages (Med-UniC, Fig. 2).

    Args:
        similarity: in [-1, 1]; the colours span what occurs.
        sizes: language -> number of its reports, in the rows' order.
    """
    fig, axis = plt.subplots(figsize=(4.8, 4.0))
    image = axis.imshow(similarity, cmap="Blues")
    ends = np.cumsum(list(sizes.values()))
    for end in ends[:-1] - 0.5:
        axis.axhline(end, color="black", linewidth=1)
        axis.axvline(end, color="black", linewidth=1)
    centres = ends - np.array(list(sizes.values())) / 2 - 0.5
    axis.set_xticks(centres, labels=sizes)
    axis.set_yticks(centres, labels=sizes, rotation=90, va="center")
    axis.tick_params(length=0)
    axis.grid(visible=False)
    fig.colorbar(image, label="cosine", fraction=0.046, pad=0.04)
    fig.tight_layout()
    return fig


def similarity_maps_figure(
    pictures: np.ndarray, outlines: np.ndarray, maps: Mapping[str, np.ndarray], side: float = 1.9
) -> Figure:
    """A row a picture: what is to be found in it outlined, then where each term's similarity lies (Med-UniC, Fig. 5).

    Args:
        pictures: uint8 (n, H, H).
        outlines: bool (n, H, H).
        maps: term -> maps (n, H, H), >= 0, each drawn relative to its largest value.
        side: of a panel, in inches.
    """
    columns = 1 + len(maps)
    size = (side * columns, (side + 0.05) * len(pictures) + 0.3)
    fig, axes = plt.subplots(len(pictures), columns, figsize=size, squeeze=False)
    for row, picture, outline, *heats in zip(axes, pictures, outlines, *maps.values()):
        for axis, heat in zip(row, [None, *heats]):
            draw_outlined(axis, picture, outline, heat)
            axis.set_axis_off()
    for axis, title in zip(axes[0], ["picture", *maps]):
        axis.set_title(title, fontsize=9)
    fig.tight_layout(pad=0.4)
    return fig


def zero_shot_pipeline(picture: np.ndarray, scores: Sequence[tuple[str, str, float, str, float]]) -> Figure:
    """A picture and, language by language, its cosines with a finding's prompts: the larger decides (Med-UniC, Fig. 8).

    Args:
        picture: uint8 (H, H).
        scores: language, positive prompt and its cosine, negative prompt and its cosine; none gives a blank page.
    """
    if not scores:
        return plt.figure(figsize=(4, 0.5))
    fig = plt.figure(figsize=(8.0, max(2.4, 1.3 * len(scores) + 0.3)), layout="constrained")
    grid = fig.add_gridspec(len(scores), 2, width_ratios=(1, 1.9))
    shown = fig.add_subplot(grid[:, 0])
    shown.imshow(picture, cmap="gray", vmin=0, vmax=255)
    shown.set_axis_off()
    colours = community_colours([language for language, *_ in scores])
    panels = grid[:, 1].subgridspec(len(scores), 1).subplots(sharex=True, squeeze=False)[:, 0]
    for axis, (language, positive, agrees, negative, denies) in zip(panels, scores):
        wins = [agrees > denies, agrees <= denies]
        bars = axis.barh([0, 1], [agrees, denies], color=colours[language], height=0.65)
        for bar, label, winner in zip(bars, axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8), wins):
            bar.set_alpha(1.0 if winner else 0.35)
            label.set_fontweight("bold" if winner else "normal")
        axis.set_yticks([0, 1], labels=[positive, negative], fontsize=8)
        axis.invert_yaxis()
        axis.axvline(0, color="black", linewidth=0.8)
        axis.margins(x=0.15)
        axis.grid(visible=False, axis="y")
        axis.set_title(f"{language}: {'positive' if wins[0] else 'negative'}", fontsize=9, loc="left")
    panels[-1].xaxis.set_major_locator(MaxNLocator(5))
    panels[-1].set_xlabel("cosine of picture and prompt", fontsize=8)
    return fig


def tokenisation_figure(before: Sequence[str], after: Sequence[str], is_new: Sequence[bool]) -> Figure:
    """The word pieces of one report before and after a vocabulary is extended, new words blue (Med-UniC, Fig. 9).

    Args:
        before, after: word pieces; one that continues a word begins with "##" and is drawn touching the last one.
        is_new: which of `after` the extension brought.

    Nothing gives a blank page.
    """
    if not before:
        return plt.figure(figsize=(4, 0.5))
    new = f", {sum(is_new)} of them new words" if any(is_new) else ""
    parts = [
        (f"before the extension: {len(before)} word pieces", before, [False] * len(before)),
        (f"after the extension: {len(after)} word pieces{new}", after, is_new),
    ]
    titles, boxes, lines = [], [], 0
    for title, pieces, blue in parts:
        titles.append((lines, title))
        places = _flow(pieces)
        boxes += [(x, lines + 1 + line, piece, b) for (x, line), piece, b in zip(places, pieces, blue)]
        lines += places[-1][1] + 3  # the title's, and an empty one
    fig = plt.figure(figsize=((_COLUMNS + 2) * _TYPE * _ADVANCE / 72, (lines - 1) * 2.4 * _TYPE / 72))
    axis = fig.add_axes((0, 0, 1, 1), xlim=(-1, _COLUMNS + 1), ylim=(lines - 1.5, -0.5))
    axis.set_axis_off()
    for line, title in titles:
        axis.text(0, line, title, fontsize=_TYPE + 1, fontweight="bold", va="center")
    look = {"fontsize": _TYPE, "family": "DejaVu Sans Mono", "ha": "center"}
    for x, line, piece, b in boxes:
        fill = _BLUE if b else "0.92"
        axis.add_patch(Rectangle((x, line - 0.35), len(piece) + 1, 0.7, facecolor=fill, edgecolor="0.6", linewidth=0.6))
        axis.text(x + (len(piece) + 1) / 2, line + 0.13, piece, color="white" if b else "black", **look)
    return fig


def _flow(pieces: Sequence[str]) -> list[tuple[float, int]]:
    """Where each piece's box begins, in characters, and on which line of `_COLUMNS` characters: words stay whole."""
    words: list[list[str]] = []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1].append(piece)
        else:
            words.append([piece])
    places, x, line = [], 0.0, 0
    for word in words:
        widths = [len(piece) + 1 for piece in word]  # half a character of margin on either side
        if x > 0 and x + sum(widths) > _COLUMNS:
            x, line = 0.0, line + 1
        for width in widths:
            places.append((x, line))
            x += width
        x += 1
    return places

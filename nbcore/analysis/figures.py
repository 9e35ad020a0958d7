"""The figures' common look, and those that more than one notebook draws."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbcore.analysis.geometry import Geometry
from nbcore.analysis.lettering import two_lines

_TITLE = 25  # characters of a line above a picture of 1.9 inches


def set_style(dpi: int = 160) -> None:
    """One look for all figures: white, small sans-serif type, colour-blind-safe, lettering kept as text in SVG."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": dpi, "svg.fonttype": "none", "svg.hashsalt": "nbcore"})


def image_grid(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 6, side: float = 1.9) -> Figure:
    """Grey images (h, w) in rows, each under its title, of which as much is told as two lines hold."""
    rows = max(1, -(-len(images) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(side * columns, (side + 0.35) * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(two_lines(title, round(_TITLE * side / 1.9)), fontsize=8)
    fig.tight_layout()
    return fig


def training_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Each loss by epoch, a panel a loss and a line a run, in one colour throughout; a wide range is logarithmic."""
    losses = sorted({key for history in histories.values() for key in history if key != "lr"})
    columns = min(3, len(losses))
    rows = -(-len(losses) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(losses) :]:
        axis.set_axis_off()
    for axis, key in zip(axes.flat, losses):
        for color, (name, history) in zip(sns.color_palette(n_colors=len(histories)), histories.items()):
            if key in history:
                epochs = range(1, len(history[key]) + 1)
                axis.plot(epochs, history[key], label=name, color=color, linewidth=1.2, marker=".")
        low, high = np.abs(axis.dataLim.intervaly)
        axis.set(title=key, xlabel="epoch", yscale="log" if high > 10 * low > 0 else "linear")
    axes.flat[losses.index("total") if "total" in losses else -1].legend(fontsize=7)  # every method has a total
    fig.tight_layout()
    return fig


def collapse_scatter(clouds: Mapping[str, Geometry], reference: str) -> Figure:
    """First three principal components, a panel a method: `reference` green, the others red (M-FLAG, Fig. 1 and 2).

    Axes are scaled by the first component's spread, so that a flat or thin cloud is a collapsed one.
    """
    columns = min(4, len(clouds))
    rows = -(-len(clouds) // columns)
    fig = plt.figure(figsize=(3.0 * columns, 3.1 * rows))
    for place, (name, cloud) in enumerate(clouds.items(), start=1):
        axis = fig.add_subplot(rows, columns, place, projection="3d")
        points = cloud.components / cloud.components[:, 0].std()
        axis.scatter(*points.T, s=7, alpha=0.6, color="tab:green" if name == reference else "tab:red", linewidths=0)
        axis.set(xlim=(-3, 3), ylim=(-3, 3), zlim=(-3, 3), xticklabels=[], yticklabels=[], zticklabels=[])
        axis.set_title(f"{name}\neffective rank {cloud.effective_rank:.1f}", fontsize=9)
    fig.subplots_adjust(wspace=0.05, hspace=0.15)
    return fig


def turned_cloud(cloud: Geometry, groups: Mapping[str, np.ndarray], title: str, turned: float) -> Figure:
    """One panel of `collapse_scatter`, larger, seen from a side of one's choice and coloured by group.

    Args:
        cloud: of n images.
        groups: name -> which images are in it, bool (n,).
        turned: degrees about the third component.
    """
    fig = plt.figure(figsize=(5.4, 4.6))
    axis = fig.add_subplot(projection="3d", azim=turned - 60, elev=25)
    points = cloud.components / cloud.components[:, 0].std()
    for color, (name, rows) in zip(sns.color_palette("colorblind"), groups.items()):
        axis.scatter(*points[rows].T, s=12, alpha=0.7, color=color, label=f"{name} ({rows.sum():,})", linewidths=0)
    axis.set(xlim=(-3, 3), ylim=(-3, 3), zlim=(-3, 3), xticklabels=[], yticklabels=[], zticklabels=[])
    shares = " + ".join(f"{100 * share:.0f}" for share in cloud.explained)
    told = f"effective rank {cloud.effective_rank:.1f}; {shares} % of the variance"
    axis.set_title(f"{title}\n{told}", fontsize=9)
    axis.legend(fontsize=8)
    return fig


def spectra(clouds: Mapping[str, Geometry]) -> Figure:
    """Singular values of the features' covariance, each relative to its largest, on a logarithmic axis."""
    fig, axis = plt.subplots(figsize=(6.4, 3.6))
    for name, cloud in clouds.items():
        relative = cloud.spectrum / cloud.spectrum[0]
        axis.semilogy(1 + np.arange(len(relative)), relative, label=f"{name} ({cloud.effective_rank:.1f})")
    axis.set(xlabel="singular value", ylabel="relative to the largest", ylim=(1e-8, 2))
    axis.legend(title="method (effective rank)", fontsize=7, title_fontsize=8)
    fig.tight_layout()
    return fig


def outlined(
    pictures: np.ndarray,
    outlines: np.ndarray,
    titles: Sequence[str],
    heat: np.ndarray | None = None,
    columns: int = 6,
) -> Figure:
    """Pictures (n, H, H), each with what is to be found in it outlined, dashed.

    `heat` (n, H, H) is laid over them, relative to its largest value in each: where a word looks (MGCA, Fig. 3).
    """
    rows = max(1, -(-len(pictures) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, 2.2 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, title) in enumerate(zip(axes.flat, titles)):
        draw_outlined(axis, pictures[i], outlines[i], None if heat is None else heat[i])
        axis.set_title(title, fontsize=8)
    fig.tight_layout()
    return fig


def draw_outlined(axis: Axes, picture: np.ndarray, outline: np.ndarray, heat: np.ndarray | None = None) -> None:
    """One picture (H, H) of `outlined`, on `axis`."""
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    if heat is not None:
        axis.imshow(heat / (heat.max() or 1), cmap="inferno", alpha=0.45, vmin=0, vmax=1)
    if outline.any():
        axis.contour(outline, levels=[0.5], colors="cyan", linewidths=1.2, linestyles="dashed")


def embedding_scatter(points: np.ndarray, groups: Mapping[str, Sequence[str]]) -> Figure:
    """A plane of embeddings (n, 2), once for each way of grouping them by colour (MGCA, Fig. 4)."""
    fig, axes = plt.subplots(1, len(groups), figsize=(5.2 * len(groups), 4.2), squeeze=False)
    for axis, (title, names) in zip(axes.flat, groups.items()):
        names = np.asarray(names)
        found = list(dict.fromkeys(sorted(names)))
        colors = sns.color_palette(None if len(found) <= 10 else "husl", len(found))
        for name, color in zip(found, colors):
            axis.scatter(*points[names == name].T, s=9, color=color, label=name, alpha=0.75, linewidths=0)
        if len(found) <= 10:
            axis.legend(fontsize=7, markerscale=1.8)
        axis.set(title=title, xticks=[], yticks=[])
    fig.tight_layout()
    return fig

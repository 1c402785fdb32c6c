"""Pictures and latent maps on the same axes, in pixels of the picture: what the figures with maps are made of.

A `cell` is the height and width of a position in pixels of the picture, `Trace.geometry.cell`; the last positions may
reach beyond the picture's edge, where they are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lic_lab.figures.style import MAP, PAGE, StyledFigure, new

Array = NDArray[Any]
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def size(pixels: Array) -> tuple[int, int]:
    """Height and width of a picture (H, W, 3) or a map (h, w)."""
    return pixels.shape[0], pixels.shape[1]


def picture(ax: Axes, pixels: Array, grey: bool = False) -> None:
    """Draw uint8 (H, W, 3), in grey when a map will lie on it: then hue means value and nothing else."""
    H, W = pixels.shape[:2]
    if grey:
        ax.imshow(pixels @ np.array(_LUMA), cmap="gray", vmin=0, vmax=255, extent=(0, W, H, 0))
    else:
        ax.imshow(pixels, extent=(0, W, H, 0), interpolation="antialiased")
    axes_in_pixels(ax, H, W)


def latent_map(
    ax: Axes,
    values: Array,
    pixels: tuple[int, int],
    cell: tuple[float, float],
    low: float | None = None,
    high: float | None = None,
    colours: str = MAP,
    opacity: float = 1.0,
) -> AxesImage:
    """Draw a map (h, w) where its positions lie in a picture of `pixels` (H, W); NaN stays clear."""
    h, w = values.shape
    tall, wide = cell
    image = ax.imshow(
        np.ma.masked_invalid(values),
        extent=(0, w * wide, h * tall, 0),
        vmin=low,
        vmax=high,
        cmap=colours,
        alpha=opacity,
    )
    axes_in_pixels(ax, *pixels)
    return image


def colour_bar(ax: Axes, image: AxesImage, label: str) -> None:
    """A colour bar right of the last panel of `row` and exactly as high, with a label that names the unit.

    It ends in an arrow where values that are seen lie beyond its end.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes of our figures have one
    box, inch = ax.get_position(), 1 / figure.get_figwidth()
    cax = figure.add_axes((box.x1 + 0.08 * inch, box.y0, 0.12 * inch, box.height))
    bar = figure.colorbar(image, cax=cax, label=label, extend=beyond(image))
    bar.outline.set_linewidth(0.6)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()


def beyond(*images: AxesImage) -> str:
    """Whether values that the axes show lie beyond the colours of the first image, as matplotlib's ``extend``."""
    low, high = images[0].get_clim()
    seen = np.concatenate([_seen(image) for image in images])
    below, above = bool((seen < low).any()), bool((seen > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _seen(image: AxesImage) -> Array:
    """Values of an image in the part of it that its axes show."""
    values = np.ma.masked_invalid(np.ma.asarray(image.get_array()))
    left, right, bottom, top = image.get_extent()
    (x0, x1), (y0, y1) = sorted(image.axes.get_xlim()), sorted(image.axes.get_ylim())
    columns, rows = np.linspace(left, right, values.shape[1] + 1), np.linspace(top, bottom, values.shape[0] + 1)
    across = (columns[:-1] < x1) & (columns[1:] > x0)
    down = (rows[:-1] < y1) & (rows[1:] > y0)
    found: Array = values[down][:, across].compressed()
    return found


def mark(ax: Axes, position: tuple[int, int], cell: tuple[float, float]) -> None:
    """Outline a latent position: white within black, so that it shows on any ground."""
    tall, wide = cell
    corner = (position[1] * wide, position[0] * tall)
    for width, colour in ((2.6, "black"), (1.2, "white")):
        ax.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=width, zorder=5))


def hatch(ax: Axes, hidden: Array, cell: tuple[float, float], opacity: float = 0.35) -> None:
    """Hatch the positions (h, w) that a mask hides: one path, however many they are."""
    tall, wide = cell
    i, j = np.nonzero(hidden)
    if not len(i):
        return
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], float)
    vertices = (np.stack([j, i], 1)[:, None, :] + corners) * (wide, tall)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(i)).astype(Path.code_type)
    path = Path(vertices.reshape(-1, 2), codes)
    ax.add_patch(PathPatch(path, facecolor=(1, 1, 1, opacity), edgecolor="none", linewidth=0))
    ax.add_patch(PathPatch(path, facecolor="none", edgecolor=(0.45, 0.45, 0.45), hatch="////", linewidth=0))


def label_first(axes: Sequence[Axes]) -> None:
    """Panels with the same rows: only the first says so."""
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


def axes_in_pixels(ax: Axes, H: int, W: int) -> None:
    """Show the picture alone, not what a latent covers beyond it, with few ticks and no frame line missing."""
    ax.set(xlim=(0, W), ylim=(H, 0), aspect="equal", xlabel="column (pixels)", ylabel="row (pixels)")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    for spine in ax.spines.values():
        spine.set_visible(True)


def row(
    pixels: tuple[int, int], width: float, panels: int, gap: float = 0.12, top: float = 0.26
) -> tuple[StyledFigure, list[Axes]]:
    """A figure with panels of the picture's proportions side by side, and room for a colour bar after the last.

    matplotlib's layout engines do not settle when axes keep their proportions; with the margins in inches, every map
    has the height of the picture, whatever its labels.

    Parameters
    ----------
    pixels : (int, int)
        Height and width of the picture.
    width : float
        Of the figure in inches; its height follows.
    panels : int
    gap : float
        Between panels in inches.
    top : float
        Room above them for a title in inches; two lines need 0.4.
    """
    left, right, bottom = 0.52, 0.78, 0.42
    wide = (width - left - right - (panels - 1) * gap) / panels
    if wide < 0.5:
        raise ValueError(f"width is {width} inches, too little for {panels} panels; give {PAGE} (a page) or more")
    tall = wide * pixels[0] / pixels[1]
    height = bottom + tall + top
    figure = new(width, height)
    figure.set_layout_engine("none")
    axes = [
        figure.add_axes(((left + k * (wide + gap)) / width, bottom / height, wide / width, tall / height))
        for k in range(panels)
    ]
    return figure, axes


def grid(
    pixels: tuple[int, int], width: float, rows: int, columns: int, left: float = 0.52, top: float = 0.3
) -> tuple[StyledFigure, list[list[Axes]]]:
    """A figure of `rows` x `columns` panels of the picture's proportions, with room for colour bars below.

    Parameters
    ----------
    pixels : (int, int)
        Height and width of the picture.
    width : float
        Of the figure in inches; its height follows.
    rows, columns : int
    left, top : float
        Room left of the first column and above the first row, in inches.
    """
    right, bottom, gap, between = 0.1, 1.0, 0.1, 0.24
    wide = (width - left - right - (columns - 1) * gap) / columns
    if wide < 0.5:
        raise ValueError(f"width is {width} inches, too little for {columns} panels; give {PAGE} (a page) or more")
    tall = wide * pixels[0] / pixels[1]
    height = bottom + rows * tall + (rows - 1) * between + top
    figure = new(width, height)
    figure.set_layout_engine("none")
    return figure, [
        [
            figure.add_axes(
                (
                    (left + j * (wide + gap)) / width,
                    (bottom + (rows - 1 - i) * (tall + between)) / height,
                    wide / width,
                    tall / height,
                )
            )
            for j in range(columns)
        ]
        for i in range(rows)
    ]


def few_ticks(axes: Sequence[Axes]) -> None:
    """Fewer columns' ticks, none at the right edge, where the next panel's 0 stands."""
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 2.5, 5, 10], prune="upper"))


def colour_bar_below(first: Axes, last: Axes, images: Sequence[AxesImage], label: str) -> None:
    """A colour bar below the panels from `first` to `last` of the lowest row of a `grid`, for images of one scale.

    It ends in an arrow where values that are seen lie beyond its end.
    """
    figure = first.get_figure(root=True)
    assert figure is not None
    left, right, inch = first.get_position(), last.get_position(), 1 / figure.get_figheight()
    edge = 0.1 / figure.get_figwidth()  # numbers at its ends are wider than the bar
    cax = figure.add_axes((left.x0 + edge, left.y0 - 0.54 * inch, right.x1 - left.x0 - 2 * edge, 0.09 * inch))
    bar = figure.colorbar(images[0], cax=cax, orientation="horizontal", extend=beyond(*images))
    bar.set_label(label, fontsize=7, labelpad=2)
    bar.outline.set_linewidth(0.6)
    bar.locator = MaxNLocator(4 if first is last else 6)
    bar.update_ticks()

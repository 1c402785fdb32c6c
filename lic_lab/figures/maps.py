"""Pictures and latent maps on the same axes, in pixels of the picture: what the figures with maps are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lic_lab.analysis.grid import cell_sides
from lic_lab.figures.style import MAP

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
    low: float | None = None,
    high: float | None = None,
    colours: str = MAP,
    opacity: float = 1.0,
) -> AxesImage:
    """Draw a map (h, w) where its positions lie in a picture of `pixels` (H, W); NaN stays clear."""
    h, w = values.shape
    tall, wide = cell_sides(pixels, (h, w))
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


def colour_bar(ax: Axes, image: AxesImage, label: str, **options: Any) -> None:
    """A colour bar right of the map and exactly as high, with a label that names the unit."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes of our figures have one
    H, W = abs(np.subtract(*ax.get_ylim())), abs(np.subtract(*ax.get_xlim()))
    # As wide on the page beside a tall picture as beside a wide one.
    width = 0.045 * max(1.0, (H / W) ** 0.5)
    cax = ax.inset_axes((1.03, 0, width, 1))
    bar = figure.colorbar(image, cax=cax, label=label, **options)
    bar.outline.set_linewidth(0.6)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()


def mark(ax: Axes, position: tuple[int, int], pixels: tuple[int, int], positions: tuple[int, int]) -> None:
    """Outline a latent position: white within black, so that it shows on any ground."""
    tall, wide = cell_sides(pixels, positions)
    corner = (position[1] * wide, position[0] * tall)
    for width, colour in ((2.6, "black"), (1.2, "white")):
        ax.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=width, zorder=5))


def hatch(ax: Axes, hidden: Array, pixels: tuple[int, int], opacity: float = 0.35) -> None:
    """Hatch the positions (h, w) that a mask hides: one path, however many they are."""
    tall, wide = cell_sides(pixels, (hidden.shape[0], hidden.shape[1]))
    i, j = np.nonzero(hidden)
    if not len(i):
        return
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], float)
    vertices = (np.stack([j, i], 1)[:, None, :] + corners) * (wide, tall)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(i)).astype(Path.code_type)
    path = Path(vertices.reshape(-1, 2), codes)
    ax.add_patch(PathPatch(path, facecolor=(1, 1, 1, opacity), edgecolor="none", linewidth=0))
    ax.add_patch(PathPatch(path, facecolor="none", edgecolor=(0.45, 0.45, 0.45), hatch="////", linewidth=0))


def axes_in_pixels(ax: Axes, H: int, W: int) -> None:
    """Show the picture alone, without the padding of the latent, with few ticks and no frame line missing."""
    ax.set(xlim=(0, W), ylim=(H, 0), aspect="equal", xlabel="column (pixels)", ylabel="row (pixels)")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    for spine in ax.spines.values():
        spine.set_visible(True)


def height_of_row(pixels: tuple[int, int], width: float, panels: int, spare: float = 0.0, extra: float = 0.55) -> float:
    """Height in inches for `panels` pictures side by side in `width`, of which `spare` inches go to colour bars."""
    H, W = pixels
    return max(1.3, (width - 0.55 - spare) / panels * H / W + extra)

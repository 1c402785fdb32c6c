"""Where a query looks, and where its mask does not let it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures import maps
from lic_lab.figures.style import MAP, PAGE, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace
    from lic_lab.tracing.attention import Attention


@styled
def attention(
    trace: Trace,
    component: str,
    slice: int,
    position: tuple[int, int],
    head: int | None = None,
    width: float = PAGE,
) -> Figure:
    """The attention map of one position over the picture, with its mask hatched (MLIC, Figure 13).

    The titles say whether anything is masked, and which position is shown when the one asked for asks nothing.

    Parameters
    ----------
    trace : Trace
        Made with the component on and its maps kept.
    component : str
        One of `Trace.attentions`, such as "local", "intra" or "inter".
    slice : int
        The slice that is being coded.
    position : (int, int)
        Row and column of the symbol, in latent positions. Where it asks nothing, its nearest neighbour that
        does is shown and marked, and the title says so. See `Trace.attention` for finer grids.
    head : int, optional
        One head; by default their mean.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For a component, slice, position or head that is not there.
    """
    found = trace.attention(component, slice, position)
    weights = 100 * analysis.head_mean(found.weights, head)
    pixels = H, W = maps.size(trace.x)
    (tall, wide), (query_tall, query_wide) = (
        (side * trace.geometry.cell[0], side * trace.geometry.cell[1]) for side in (found.side, found.query_side)
    )
    y, x = found.centre
    top, bottom, first, last = analysis.surroundings(found.visible, found.under)
    zoomed = (bottom - top) * (last - first) < 0.25 * found.visible.size
    figure, (left, right) = maps.row(pixels, width, 2, gap=0.4 if zoomed else 0.12)
    maps.picture(left, trace.x)
    asked, shown = ("({:g}, {:g})".format(*at) for at in (position, found.position))
    left.set_title(f"image: {asked} asks nothing, {shown} marked" if moved(found, position) else "image, query marked")
    maps.picture(right, trace.x, grey=True)
    seen = weights[np.isfinite(weights)]
    # A few keys can hold most of the weight: they clip, so that the rest can be told apart.
    high = float(np.percentile(seen, 99.5) if seen.size > 200 else seen.max(initial=0)) or 1.0
    drawn = maps.latent_map(right, weights, pixels, (tall, wide), 0, high, MAP, opacity=0.9)
    maps.hatch(right, ~found.visible, (tall, wide))
    for ax in (left, right):
        maps.mark(ax, found.position, (query_tall, query_wide))
    if zoomed:
        # Keep the panel's proportions: a local window is shown with the picture around it.
        scale = min(max((bottom - top) * tall / H, (last - first) * wide / W), 1)
        y, x = (y + 0.5) * tall, (x + 0.5) * wide
        y0 = min(max(y - scale * H / 2, 0), H * (1 - scale))
        x0 = min(max(x - scale * W / 2, 0), W * (1 - scale))
        right.set(xlim=(x0, x0 + scale * W), ylim=(y0 + scale * H, y0))
        right.set_ylabel("")
    else:
        maps.label_first((left, right))
    which = "" if head is None else f", head {head}"
    hatched = " (masked: hatched)" if _seen(right, ~found.visible, (tall, wide)) else ""
    right.set_title(f"{component}, slice {slice}{which}{hatched}")
    maps.colour_bar(right, drawn, "attention weight (%)")
    return figure


def moved(found: Attention, position: tuple[float, float]) -> bool:
    """Whether a map is of another query than the one at `position`, in latent positions, which asks nothing."""
    return found.position != tuple(int((at + 0.5) // found.query_side) for at in position)


def _seen(ax: Axes, positions: NDArray[np.bool_], cell: tuple[float, float]) -> bool:
    """Whether any of some positions (h, w) lies within what the axes show."""
    (x0, x1), (y1, y0) = ax.get_xlim(), ax.get_ylim()
    i, j = np.nonzero(positions)
    tall, wide = cell
    return bool(((j * wide < x1) & ((j + 1) * wide > x0) & (i * tall < y1) & ((i + 1) * tall > y0)).any())

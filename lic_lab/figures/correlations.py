"""How alike positions are: before the entropy model (cosine similarity), and after it (spatial correlation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures import maps
from lic_lab.figures.style import COLUMN, PAGE, SIGNED, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace

SCALE = 0.1  # correlation of the strongest colours: of Kodak's pictures, what trained models leave is mostly below


@styled
def cosine_similarity(
    trace: Trace,
    position: tuple[int, int],
    slice: int | Sequence[int] | None = None,
    width: float | None = None,
    weighting: str = "normalised",
) -> Figure:
    """Spatial cosine similarity of y_hat with one position (MLIC, Figure 2), whole or by slice (Figure 8).

    MLIC's figures show plain vectors, which one channel may rule; each title says how channels are weighted.

    Parameters
    ----------
    trace : Trace
    position : (int, int)
        Row and column of the reference, in latent positions.
    slice : int or sequence of int, optional
        One panel each; by default all channels together.
    width : float, optional
        Of the figure in inches.
    weighting : {"normalised", "rest", "plain"}
        Each channel divided by its deviation, the channels but the one with most energy, or the vectors as they are:
        see `analysis.vectors`.

    Raises
    ------
    ValueError
        For a position, slice or weighting that is not there.
    """
    panels: list[int | None] = (
        [None] if slice is None else [int(slice)] if isinstance(slice, int | np.integer) else [*slice]
    )
    for i in panels:
        if i is not None and not 0 <= i < len(trace.slices):
            raise ValueError(f"slice is {i}; this trace has slices 0 to {len(trace.slices) - 1}")
    if not panels:
        raise ValueError("no slice was given; give one, several, or None for all channels")
    pixels = maps.size(trace.x)
    width = width or PAGE
    figure, axes = maps.row(pixels, width, len(panels) + 1, top=0.4)
    maps.picture(axes[0], trace.x)
    axes[0].set_title("image")
    for ax, i in zip(axes[1:], panels, strict=True):
        latent, _ = _latent(trace, i)
        similarity = analysis.cosine_similarity_map(analysis.vectors(latent, weighting), position)
        drawn = maps.latent_map(ax, similarity, pixels, trace.geometry.cell, -1, 1, SIGNED)
        which = "all channels" if i is None else f"slice {i}"
        size = 8 if len(panels) < 3 else 5.8  # the second line is long
        ax.set_title(f"{which}\n{weighting_words(trace, i, weighting)}", fontsize=size)
    maps.label_first(axes)
    maps.colour_bar(axes[-1], drawn, "cosine similarity (\N{MINUS SIGN}1 to 1)")
    for ax in axes:
        maps.mark(ax, position, trace.geometry.cell)
    return figure


def weighting_words(trace: Trace, slice: int | None, weighting: str) -> str:
    """How channels are weighted, in words: "normalised", "without channel 0" or "plain: 56 % is channel 0"."""
    if weighting == "normalised":
        return weighting
    chosen, start = _latent(trace, slice)
    channel, share = analysis.strongest(chosen)
    if weighting == "rest":
        return f"without channel {start + channel}"
    return f"plain: {100 * share:.0f} % is channel {start + channel}"


def _latent(trace: Trace, slice: int | None) -> tuple[NDArray[Any], int]:
    """y_hat on the picture, whole or of a slice, and its first channel."""
    y_hat = trace.on_picture(trace.told("y_hat"))
    return (y_hat, 0) if slice is None else (y_hat[trace.channels(slice)], trace.channels(slice).start)


@styled
def spatial_correlation(trace: Trace, reach: int = 4, limit: float = SCALE, width: float = COLUMN) -> Figure:
    """Correlation of the standardised symbols between positions at an offset: what is left for a context to find.

    AICT's Figure 10 has (y_hat - mu) / sigma here. Rounded symbols correlate by that measure even if the model is
    perfect, so they are measured by their own mean and deviation instead: `Trace.standardised`. The title says how much
    of it is noise: what as many independent symbols would show, `analysis.noise_floor`.

    Parameters
    ----------
    trace : Trace
    reach : int
        Largest offset in latent positions; smaller on a small latent.
    limit : float
        Correlation of the strongest colours, 0 to 1. It does not follow the data, so that figures can be compared; what
        is beyond has the last colour, and the colour bar ends in an arrow. The centre is always 1, and black.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For a latent of a single row or column, which has no offsets, a reach below 1, or a limit that is none.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}; give the correlation of the strongest colours, above 0 and at most 1")
    standardised = trace.on_picture(trace.standardised)
    reach = min(reach, *(n - 1 for n in standardised.shape[1:]))
    if reach < 1:
        h, w = standardised.shape[1:]
        raise ValueError(
            f"the latent has {h} x {w} positions, and offsets need two rows and two columns: trace a larger picture, "
            "and give a reach of at least 1"
        )
    rho = 100 * analysis.spatial_correlation(standardised, reach)
    noise = 100 * analysis.noise_floor(standardised, reach)
    limit *= 100
    hidden = np.zeros(rho.shape, bool)
    hidden[reach, reach] = True
    around: np.ma.MaskedArray[Any, Any] = np.ma.masked_array(rho, hidden)
    figure, (ax,) = maps.row((1, 1), width, 1)
    ax.set_facecolor("black")
    edge = reach + 0.5
    drawn = ax.imshow(around, cmap=SIGNED, vmin=-limit, vmax=limit, extent=(-edge, edge, edge, -edge))
    ax.set(xlabel="column offset (latent positions)", ylabel="row offset (latent positions)")
    ax.set(xticks=range(-reach, reach + 1), yticks=range(-reach, reach + 1))
    if reach <= 4:
        size = 6.5 if reach <= 3 else 5
        for i, j in np.ndindex(rho.shape):
            text = f"{rho[i, j]:.1f}".replace("-", "\N{MINUS SIGN}") if (i, j) != (reach, reach) else "100"
            colour = "white" if abs(rho[i, j]) > 0.6 * limit else "black"
            ax.text(j - reach, i - reach, text, ha="center", va="center", fontsize=size, color=colour)
    around_centre = np.s_[reach - 1 : reach + 2, reach - 1 : reach + 2]
    near, chance = np.abs(rho[around_centre]).sum() - 100, noise[around_centre].sum()  # both without the centre
    title = f"mean |\N{GREEK SMALL LETTER RHO}| of the 8 neighbours: {near / 8:.2f} %, by chance {chance / 8:.2f} %"
    ax.set_title(title, fontsize=7)
    maps.colour_bar(ax, drawn, "correlation (%)")
    return figure

"""The bits of each channel, and what the dearest channels look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures.style import CYCLE, OTHER, PAGE, SIGNED, new, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace


@styled
def channel_entropy(trace: Trace, thumbnails: int = 6, width: float = PAGE) -> Figure:
    """Bits of every channel, sorted, coloured by slice, with the symbols of the channels that cost most.

    Parameters
    ----------
    trace : Trace
    thumbnails : int
        Channels to show as pictures (MLIC, Figure 1), 0 for none. Of a model of others whose symbols aren't known there
        are none, and the title says so.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For less than 0 thumbnails, or more than there are channels.
    """
    M = len(trace.bits)
    if not 0 <= thumbnails <= M:
        raise ValueError(f"thumbnails is {thumbnails}; the latent has {M} channels, so it must lie in 0 to {M}")
    total = analysis.channel_bits(trace.bits)
    order = analysis.highest_channels(trace.bits)
    thumbnails = 0 if trace.symbols is None else thumbnails
    shown = trace.on_picture(trace.told("symbols")[order[:thumbnails]]) if thumbnails else trace.bits[:0]
    strip = 0.0
    if thumbnails:
        strip = min(1.6, (width - 0.4) / thumbnails * shown.shape[1] / shown.shape[2]) + 0.5
    figure = new(width, 2.1 + strip)
    heights = [2.1, strip] if thumbnails else [2.1]
    above, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    ax = above.subplots()
    slice_of = np.repeat(np.arange(len(trace.slices)), trace.slices)[order]
    colours = _slice_colours(len(trace.slices))
    ax.bar(np.arange(M) + 1, total[order], width=1.0, color=colours[slice_of], linewidth=0)
    most = analysis.channels_holding(trace.bits, 0.9)
    ax.set(xlabel="rank of the channel", ylabel="bits per channel", xlim=(0.5, M + 0.5), ylim=(0, None))
    unknown = "; its symbols are unknown" if trace.symbols is None else ""
    ax.set_title(f"{most} of {M} channels hold 90 % of the bits of y ({trace.codec}{unknown})")
    if len(trace.slices) > 1:
        handles = [Patch(color=c, label=f"slice {i}") for i, c in enumerate(colours)]
        ax.legend(handles=handles, ncols=1 if len(handles) <= 6 else 2, loc="upper right")
    for strip_figure in below:
        axes = np.atleast_1d(strip_figure.subplots(1, thumbnails))
        for ax, channel, symbols in zip(axes, order[:thumbnails], shown, strict=True):
            limit = float(np.abs(symbols).max()) or 1.0
            ax.imshow(symbols, cmap=SIGNED, vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            share = 100 * total[channel] / (total.sum() or 1)
            ax.set_title(f"channel {channel}: {share:.1f} %", fontsize=7, pad=3)
            ax.set_xlabel(f"symbols \N{PLUS-MINUS SIGN}{limit:.0f}", fontsize=7, labelpad=2)
            for spine in ax.spines.values():
                spine.set_visible(True)
    return figure


def _slice_colours(n: int) -> NDArray[np.float64]:
    """One colour a slice: distinct ones while there are enough, then a sequence."""
    if n <= len(CYCLE):
        return to_rgba_array(CYCLE[:n])
    return np.asarray(colormaps[OTHER](np.linspace(0, 0.95, n)))

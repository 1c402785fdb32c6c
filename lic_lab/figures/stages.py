"""What each stage of a progressive entropy model predicts, and what it is worth (Qian et al., ICLR 2021, Figure 9)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lic_lab import analysis
from lic_lab.figures import maps
from lic_lab.figures.style import MAP, PAGE, SIGNED, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace

_MINUS = "\N{MINUS SIGN}"


@styled
def progressive_stages(trace: Trace, channel: int | None = None, width: float = PAGE) -> Figure:
    """Symbols, prediction, error and bits of one channel under each stage, and what each stage adds (Figure 9).

    All stages see the same symbols. The bits of a stage are those the symbols would cost if it coded them; the last one
    does. Titles count the channel's bits; the rates above them are of the whole stream. The hyperprior's own bits (z)
    aren't in the maps: they belong to no position and no channel.

    Parameters
    ----------
    trace : Trace
        Of a progressive entropy model.
    channel : int, optional
        By default the one that costs most.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For a trace without stages, or a channel that is not there.
    """
    stages = trace.stages
    if not stages:
        raise ValueError(
            f"this trace of {trace.codec!r} has no stages; trace a progressive entropy model, as of the codec "
            "global-reference"
        )
    M, pixels, cell = len(trace.bits), maps.size(trace.x), trace.geometry.cell
    if channel is None:
        channel = int(analysis.highest_channels(trace.bits, 1)[0])
    if not 0 <= channel < M:
        raise ValueError(f"channel is {channel}; the latent has channels 0 to {M - 1}")
    figure, rows = maps.grid(pixels, width, len(stages), 5, left=0.62, top=0.42)
    symbols = trace.told("symbols")[channel]
    limit = float(np.abs(symbols).max()) or 1.0
    bits = [stage.bits[channel] for stage in stages]
    change = [analysis.difference(a, b) for a, b in pairwise(bits)]
    total = [float(of.sum()) for of in bits]
    # A few positions would leave the rest one colour, such as the first, which has no past.
    most, step = (
        max((float(np.percentile(np.abs(of), 99.5)) for of in several), default=0.0) or 1.0
        for several in (bits, change)
    )
    values, costs, steps = [], [], []  # images of one scale each
    for i, (stage, axes) in enumerate(zip(stages, rows, strict=True)):
        mu = stage.mu[channel]
        error = symbols - mu
        for ax, of in zip(axes, (symbols, mu, error), strict=False):
            values.append(maps.latent_map(ax, of, pixels, cell, -limit, limit, SIGNED))
        costs.append(maps.latent_map(axes[3], bits[i], pixels, cell, 0, most, MAP))
        axes[0].set_title("symbols \u0177" if i == 0 else "\u0177", fontsize=7, pad=3)
        mean = f"\N{GREEK SMALL LETTER MU}$_{i + 1}$"
        off_by = float(np.abs(error).mean())
        axes[1].set_title(f"predicted mean {mean}", fontsize=7, pad=3)
        axes[2].set_title(f"\u0177 {_MINUS} {mean}: off by {off_by:.2f}", fontsize=7, pad=3)
        axes[3].set_title(f"{total[i]:.0f} bits", fontsize=7, pad=3)
        if i:
            off = change[i - 1]
            steps.append(maps.latent_map(axes[4], off, pixels, cell, -step, step, SIGNED))
            less = total[i] - total[i - 1]
            part = 100 * less / (total[i - 1] or 1)
            axes[4].set_title(f"{less:+.0f} bits, {part:+.1f} %".replace("-", _MINUS), fontsize=7, pad=3)
        else:
            axes[4].set_visible(False)
        maps.label_first(axes)
        maps.few_ticks(axes)
        axes[0].set_ylabel(f"{stage.name}\nrow (pixels)")
        if i < len(stages) - 1:
            for ax in axes:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
    last = rows[-1]
    maps.colour_bar_below(last[0], last[2], values, f"symbols and prediction of channel {channel} (quantiser steps)")
    maps.colour_bar_below(last[3], last[3], costs, "bits per position")
    if change:
        maps.colour_bar_below(last[4], last[4], steps, "change (bits per position):\nblue saves, red costs")
    share = 100 * total[-1] / (float(trace.bits.sum()) or 1)
    spent = ", ".join(f"{stage.name} {stage.bits.sum() / trace.pixels:.3f}" for stage in stages)
    figure.suptitle(
        f"channel {channel}, {share:.1f} % of y's bits; the whole stream, in bpp: {spent}; z {trace.bpp['z']:.3f}",
        x=0.5,
        y=1 - 0.06 / figure.get_figheight(),
        va="top",
        fontsize=7.5,
    )
    return figure

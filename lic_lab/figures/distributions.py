"""How the latents of two transforms are distributed over a set of images (Qian et al., ICLR 2021, Figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures.style import CYCLE, GREY, PAGE, new, styled

Array = NDArray[Any]


@styled
def latent_histograms(
    first: Sequence[Array],
    second: Sequence[Array],
    names: tuple[str, str] = ("GDN", "GSDN"),
    channels: Sequence[int] | None = None,
    width: float = PAGE,
) -> Figure:
    """Histograms of the channels of highest entropy under two transforms, with their means (Figure 11).

    The latents are compared channel by channel, as when the second transform was trained on from the first.

    Parameters
    ----------
    first, second : sequence of array
        y of each image, (M, h, w), before rounding; in steps of the quantiser.
    names : (str, str)
        Of the two transforms.
    channels : sequence of int, optional
        By default the four of the highest `analysis.symbol_entropy`, taken as the mean of both transforms.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For latents with different channels, a channel that is not there, or one name for both.
    """
    if names[0] == names[1]:
        raise ValueError(f"both transforms are called {names[0]!r}; give two names")
    values = [analysis.pooled(of) for of in (first, second)]
    M = len(values[0])
    if len(values[1]) != M:
        raise ValueError(
            f"{names[0]} has {M} channels and {names[1]} {len(values[1])}; give two transforms with the same channels"
        )
    if channels is None:
        entropy = analysis.symbol_entropy(first) + analysis.symbol_entropy(second)
        channels = np.argsort(-entropy, kind="stable")[:4].tolist()
    if not channels or not all(0 <= c < M for c in channels):
        raise ValueError(f"channels are {list(channels)}; give one or more of 0 to {M - 1}")
    means, deviations = zip(*(analysis.mean_shift(of) for of in (first, second)), strict=True)
    figure = new(width, 2.1)
    axes = np.atleast_1d(figure.subplots(1, len(channels)))
    for ax, channel in zip(axes, channels, strict=True):
        both = [of[channel] for of in values]
        # The tails have few symbols, and would leave the rest a line.
        low, high = (np.percentile(np.concatenate(both), q) for q in (0.5, 99.5))
        edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1)
        if len(edges) < 12:
            edges = np.linspace(edges[0], edges[-1], 4 * (len(edges) - 1) + 1)
        lines = []
        for of, mean, deviation, name, colour in zip(both, means, deviations, names, CYCLE, strict=False):
            share = 100 * np.histogram(of, edges)[0] / len(of)
            if name == names[0]:  # a fill and an outline: both are seen where they are the same
                ax.stairs(share, edges, color=colour, fill=True, alpha=0.4, linewidth=0)
            else:
                ax.stairs(share, edges, color=colour, linewidth=1.1)
            ax.axvline(mean[channel], color=colour, linestyle="--", linewidth=1)
            ratio = abs(mean[channel]) / (deviation[channel] or 1)
            text = f"{name}: {mean[channel]:+.2f} ({ratio:.2f} \N{GREEK SMALL LETTER SIGMA})"
            lines.append(text.replace("-", "\N{MINUS SIGN}"))
        ax.axvline(0, color="black", linewidth=0.5, zorder=0)
        ax.set(ylim=(0, 1.08 * ax.get_ylim()[1]), xlim=(edges[0], edges[-1]))
        ax.set_title(f"channel {channel}, mean\n" + "\n".join(lines), fontsize=6.5)
    for ax in axes:
        ax.set_xlabel("y (quantiser steps)")
    axes[0].set_ylabel("share of positions (%)")
    shifts = [
        f"{name}: mean |mean| of {M} channels {np.abs(m).mean():.3f}" for name, m in zip(names, means, strict=True)
    ]
    handles: list[Artist] = [
        Patch(color=CYCLE[0], alpha=0.4, linewidth=0, label=shifts[0]),
        Line2D([], [], color=CYCLE[1], label=shifts[1]),
        Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="mean of the channel"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure

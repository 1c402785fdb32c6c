"""Rate saved over an anchor at each quality (Qian et al., ICLR 2021, Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lic_lab import analysis
from lic_lab.figures.style import COLUMN, CYCLE, GREY, new, styled

_MARKS = ("o", "s", "^", "D", "v", "P", "X")


@styled
def rate_savings(
    anchor: tuple[ArrayLike, ArrayLike],
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    name: str = "anchor",
    width: float = COLUMN,
) -> Figure:
    """Rate that each curve saves over the anchor at the same PSNR, in percent, over the range both cover (Figure 7).

    Markers are measured points, lines `analysis.rate_saving`'s interpolation between them. Points outside the anchor's
    range have nothing to be compared with and are left out.

    Parameters
    ----------
    anchor : (array, array)
        Bits per pixel and PSNR in dB.
    curves : mapping
        Name to (bpp, PSNR), as the anchor; up to seven.
    name : str
        Of the anchor.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        Without curves, for more than seven, or for one that shares no PSNR with the anchor.
    """
    if not 1 <= len(curves) <= len(_MARKS):
        raise ValueError(f"there are {len(curves)} curves; give 1 to {len(_MARKS)}")
    figure = new(width, 0.78 * width)
    ax = figure.subplots()
    for (label, curve), colour, mark in zip(curves.items(), CYCLE, _MARKS, strict=False):
        quality, saving = analysis.rate_saving(anchor, curve)
        ax.plot(quality, saving, color=colour)
        points = np.atleast_1d(np.asarray(curve[1], dtype=float))
        known = points[(points >= quality[0]) & (points <= quality[-1])]
        at, value = analysis.rate_saving(anchor, curve, at=known) if known.size else (quality[:0], saving[:0])
        ax.plot(at, value, mark, color=colour, markersize=4.5)
        ax.plot([], [], color=colour, marker=mark, markersize=4.5, label=label)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.margins(x=0.06, y=0.14)
    low, high = ax.dataLim.intervaly
    below = high > -low  # the name stands where fewer curves are
    ax.annotate(
        name,
        (1, 0),
        (-2, -2 if below else 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        color=GREY,
    )
    ax.set(xlabel="PSNR (dB)", ylabel=f"rate saved over {name} (%)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1 if len(curves) < 4 else 2)
    return figure

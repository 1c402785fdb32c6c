"""Rate saved over an anchor at each quality (Qian et al., ICLR 2021, Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lic_lab import analysis
from lic_lab.figures.curves import METRICS, Array, Curve, add_legend, check, labels, looks, ranked
from lic_lab.figures.style import COLUMN, GREY, new, styled


@styled
def rate_savings(
    anchor: tuple[ArrayLike, ArrayLike] | Curve,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]] | Sequence[Curve],
    name: str = "anchor",
    width: float = COLUMN,
    metric: str = "psnr",
    lowest: float = -100.0,
) -> Figure:
    """Rate that each curve saves over the anchor at the same quality, in percent, over the range both cover (Figure 7).

    Markers are the curves' points, lines `analysis.rate_saving`'s interpolation between them. Points outside the
    anchor's range have nothing to be compared with and are left out. A curve with the anchor's name is not drawn, so
    that the curves of `rd_curves` can be given as they are, and look as they do there.

    Parameters
    ----------
    anchor : (array, array), or Curve
        Bits per pixel and quality in dB.
    curves : mapping, or sequence of Curve
        Name to (bpp, quality), as the anchor.
    name : str
        Of the anchor; a Curve brings its own.
    width : float
        Of the figure in inches.
    metric : {"psnr", "ms_ssim"}
        What the quality is.
    lowest : float
        Where the axis ends at most, in percent; -100 is twice the anchor's rate. A curve that lies beyond with most of
        its range is left out, as is a classical one beyond half of that beside learned ones, since it would leave them
        a narrow band. The legend names them. If all are beyond, all are drawn.

    Raises
    ------
    ValueError
        Without curves, for more than can be told apart, or for one that shares no quality with the anchor.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    if isinstance(anchor, Curve):
        name, anchor = anchor.name, anchor.points
    drawn = [Curve(label, *points) for label, points in curves.items()] if isinstance(curves, Mapping) else curves
    check(drawn)
    every = list(zip(drawn, looks(drawn), labels(drawn), strict=True))
    kept = [every[i] for i in ranked(drawn) if drawn[i].name != name]
    if not kept:
        raise ValueError(f"the only curve is the anchor, {name}; give another")
    savings = [_saving(anchor, curve, name) for curve, *_ in kept]
    bounds = _bounds([curve for curve, *_ in kept], lowest)
    beyond = [float(np.median(saving)) < bound for (_, saving), bound in zip(savings, bounds, strict=True)]
    note = ""
    if any(beyond) and not all(beyond):
        missing = [label for (*_, label), far in zip(kept, beyond, strict=True) if far]
        limit = max(bound for bound, far in zip(bounds, beyond, strict=True) if far)
        note = f"below {limit:g} %, not drawn: {', '.join(missing)}".replace("-", "\N{MINUS SIGN}", 1)
        kept = [of for of, far in zip(kept, beyond, strict=True) if not far]
        savings = [of for of, far in zip(savings, beyond, strict=True) if not far]
    figure = new(width, (0.5 if width > 1.5 * COLUMN else 0.68) * width)
    ax = figure.subplots()
    for (curve, look, _), (quality, saving) in zip(kept, savings, strict=True):
        line = {key: look[key] for key in ("color", "linewidth", "linestyle")}
        ax.plot(quality, saving, **line)
        points = curve.points[1]
        known = points[(points >= quality[0]) & (points <= quality[-1])]
        at, value = analysis.rate_saving(anchor, curve.points, at=known) if known.size else (quality[:0], saving[:0])
        ax.plot(at, value, **{**look, "linestyle": "none"})
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.margins(x=0.06, y=0.14)
    if ax.get_ylim()[0] < lowest <= min(0, max(saving.max() for _, saving in savings)):
        top = max(0.0, float(ax.dataLim.y1))
        ax.set_ylim(lowest, top + 0.14 * (top - lowest))
    low, high = max(float(ax.dataLim.y0), lowest), float(ax.dataLim.y1)
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
    ax.set(xlabel=METRICS[metric], ylabel=f"rate saved over {name} (%)")
    add_legend(figure, [of for of, *_ in kept], [look for _, look, _ in kept], [label for *_, label in kept], note)
    return figure


def _bounds(curves: Sequence[Curve], lowest: float) -> list[float]:
    """Below which saving each curve is left out."""
    classical = [curve.family == "classical" for curve in curves]
    return [lowest / 2 if of and not all(classical) else lowest for of in classical]


def _saving(anchor: tuple[ArrayLike, ArrayLike], curve: Curve, name: str) -> tuple[Array, Array]:
    try:
        return analysis.rate_saving(anchor, curve.points)
    except ValueError as error:
        raise ValueError(f"{curve.name} can't be set against {name}: {error}") from None

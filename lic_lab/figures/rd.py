"""Rate-distortion curves: quality over bits per pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lic_lab.figures.curves import METRICS, Curve, add_legend, check, labels, looks, ranked
from lic_lab.figures.style import COLUMN, new, styled


@styled
def rd_curves(
    curves: Sequence[Curve],
    metric: str = "psnr",
    width: float = COLUMN,
    rates: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Quality against bits per pixel; the legend lists the curves from the best to the worst.

    It also names those that lie outside of `rates`.

    Parameters
    ----------
    curves : sequence of Curve
        Up to `curves.MOST`.
    metric : {"psnr", "ms_ssim"}
        What the curves' quality is; both in dB.
    width : float
        Of the figure in inches.
    rates : (float, float), optional
        Bits per pixel from and to; by default up to where the learned codecs end, since classical ones go on.
    title : str
        Above the axes; the images, for example.

    Raises
    ------
    ValueError
        Without curves, for more than can be told apart, two of one name, an unknown metric or a range without points.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    check(curves)
    low, high = rates or _rates(curves)
    seen = [curve for curve in curves if _within(curve, low, high)]
    if not (low < high and seen):
        raise ValueError(f"rates is ({low:g}, {high:g}); no curve has a point from the first to the second")
    figure = new(width, (0.55 if width > 1.5 * COLUMN else 0.74) * width)
    ax = figure.subplots()
    drawn = [of for of in zip(curves, looks(curves), labels(curves), strict=True) if of[0] in seen]
    for curve, look, _ in drawn:
        ax.plot(*curve.points, **look, zorder=3 if curve.family == "ours" else 2)
    values = np.concatenate([_within(curve, low, high) for curve in seen])
    gap = 0.06 * max(float(np.ptp(values)), 0.1)
    ax.set_xlim(low, high)
    ax.set_ylim(values.min() - gap, values.max() + gap)
    ax.grid(color="0.92", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.set(xlabel="rate (bpp)", ylabel=METRICS[metric], title=title)
    missing = [name for curve, name in zip(curves, labels(curves), strict=True) if curve not in seen]
    note = f"not from {low:g} to {high:.3g} bpp: {', '.join(missing)}" if missing else ""
    best = [drawn[i] for i in ranked(seen)]
    add_legend(figure, [of for of, *_ in best], [look for _, look, _ in best], [label for *_, label in best], note)
    return figure


def _rates(curves: Sequence[Curve]) -> tuple[float, float]:
    """From zero to a little beyond the last point of the learned codecs, or of all where there is none."""
    learned = [curve for curve in curves if curve.family != "classical"] or curves
    return 0.0, 1.05 * max(float(curve.points[0][-1]) for curve in learned)


def _within(curve: Curve, low: float, high: float) -> list[float]:
    """Qualities of a curve from `low` to `high` bpp, those where it enters and leaves included."""
    bpp, quality = curve.points
    inside = quality[(bpp >= low) & (bpp <= high)].tolist()
    cuts = [edge for edge in (low, high) if bpp[0] < edge < bpp[-1]]
    return inside + np.interp(cuts, bpp, quality).tolist()

"""What a saving costs: BD-rate against complexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lic_lab.figures.curves import below
from lic_lab.figures.placement import place_names
from lic_lab.figures.style import COLUMN, CYCLE, GREY, new, styled

COSTS = {
    "kmacs_per_pixel": "kMACs per pixel, encoder and decoder",
    "decoder_kmacs_per_pixel": "kMACs per pixel, decoder",
    "decode_seconds": "decoding one image (s)",
}
_KEYS = ("codec", "bd_rate_percent", "parameters")
_MEASURED, _PUBLISHED = (CYCLE[5], (CYCLE[5], 0.6)), (CYCLE[0], (CYCLE[0], 0.15))  # edge and face of a circle
_LARGEST = 11.0  # points: radius of the circle with most parameters


@styled
def bd_rate_complexity(
    rows: Sequence[Mapping[str, Any]],
    anchor: str,
    cost: str = "decoder_kmacs_per_pixel",
    width: float = COLUMN,
    dataset: str = "",
) -> Figure:
    """BD-rate over `anchor` against what a codec costs; a circle's area is the number of its parameters.

    Parameters
    ----------
    rows : sequence of mapping
        ``codec`` (its name), ``bd_rate_percent``, ``parameters``, the cost's name, and ``source`` (of published
        points; absent or empty when measured here).
    anchor : str
        Name of what the BD-rate is over.
    cost : {"decoder_kmacs_per_pixel", "kmacs_per_pixel", "decode_seconds"}
    width : float
        Of the figure in inches.
    dataset : str
        The images of the BD-rates, for the axis.

    Raises
    ------
    ValueError
        Without rows, for an unknown cost, or for rows that lack a value or have one that is no number.
    """
    if cost not in COSTS:
        raise ValueError(f"cost is {cost!r}; it must be one of {', '.join(COSTS)}")
    if not rows:
        raise ValueError("there are no rows; give one a codec, with its BD-rate, its cost and its parameters")
    for row in rows:
        if missing := [key for key in (*_KEYS, cost) if row.get(key) is None]:
            raise ValueError(f"a row lacks {', '.join(missing)}; rows need {', '.join((*_KEYS, cost))}")
        if not (np.isfinite(float(row["bd_rate_percent"])) and 0 < float(row[cost]) < np.inf and row["parameters"] > 0):
            raise ValueError(
                f"{row['codec']} has BD-rate {row['bd_rate_percent']} %, {cost} {row[cost]} and {row['parameters']} "
                "parameters; give a finite BD-rate, the others above 0"
            )
    x = [float(row[cost]) for row in rows]
    y = [float(row["bd_rate_percent"]) for row in rows]
    parameters = np.array([float(row["parameters"]) for row in rows])
    radii = _LARGEST * np.sqrt(parameters / parameters.max())

    figure = new(width, (0.5 if width > 1.5 * COLUMN else 0.68) * width)
    ax = figure.subplots()
    for row, left, up, radius in zip(rows, x, y, radii, strict=True):
        edge, face = _PUBLISHED if row.get("source") else _MEASURED
        ax.plot(left, up, "o", markersize=2 * radius, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=0.9)
        ax.plot(left, up, "o", markersize=1.2, color=edge)
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.margins(x=0.3, y=0.25)
    ax.annotate(
        anchor, (0, 0), (2, 2), xycoords=("axes fraction", "data"), textcoords="offset points", color=GREY, va="bottom"
    )
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(color="0.92", linewidth=0.5)
    ax.set_axisbelow(True)
    on = f" on {dataset}" if dataset else ""
    ax.set(xlabel=COSTS[cost], ylabel=f"BD-rate over {anchor}{on} (%)")
    _size_legend(figure, rows, parameters, radii)
    place_names(ax, x, y, radii.tolist(), [str(row["codec"]) for row in rows])
    return figure


def _size_legend(figure: Figure, rows: Sequence[Mapping[str, Any]], parameters: Any, radii: Any) -> None:
    """Circles of round numbers of parameters, and what pale ones mean."""
    top = 10 ** np.floor(np.log10(parameters.max()))
    top *= max(step for step in (0.5, 1, 2) if 2 * step * top <= parameters.max())  # half the largest, or less
    scale = radii.max() / np.sqrt(parameters.max())
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0.7}
    grey = {**look, "markeredgecolor": GREY, "markerfacecolor": "white"}
    handles = [
        Line2D([], [], markersize=2 * scale * np.sqrt(n), label=f"{n / 1e6:g} M", **grey) for n in (top / 10, top)
    ]
    handles[-1].set_label(f"{top / 1e6:g} M parameters")
    published = [bool(row.get("source")) for row in rows]
    for (edge, face), label, shown in (
        (_PUBLISHED, "published", any(published)),
        (_MEASURED, "measured here", not all(published)),
    ):
        if shown:
            handles.append(
                Line2D([], [], markersize=7, markeredgecolor=edge, markerfacecolor=face, label=label, **look)
            )
    wide = scale * np.sqrt(top)
    below(figure, handles, handlelength=2 * wide / 7, handletextpad=0.7, labelspacing=max(0.5, 2 * wide / 7 - 0.8))

"""Names beside circles, none on another, on a circle, or on the line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from lic_lab.figures.style import GREY

Array = NDArray[np.float64]

_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_GAPS = (2, 6, 12, 20, 30, 42)  # points between circle and name; from the third on a line joins them


def place_names(ax: Axes, x: Sequence[float], y: Sequence[float], radii: Sequence[float], names: Sequence[str]) -> None:
    """Write each name at the nearest free place around its circle, the largest circles first.

    Parameters
    ----------
    ax : Axes
        With its limits set; the figure's layout is made here.
    x, y : sequence of float
        Centres, in data coordinates.
    radii : sequence of float
        In points.
    names : sequence of str
    """
    figure = ax.figure
    canvas = FigureCanvasAgg(figure)  # type: ignore[arg-type]  # sizes of letters and axes are known once drawn
    canvas.draw()
    renderer, pixels = canvas.get_renderer(), figure.dpi / 72
    centres = ax.transData.transform(np.column_stack([x, y]))
    reach = np.asarray(radii) * pixels
    zero = float(ax.transData.transform((x[0], 0))[1])
    taken = [Bbox([[ax.bbox.x0, zero - pixels], [ax.bbox.x1, zero + pixels]])]  # the anchor's line
    taken += [text.get_window_extent(renderer) for text in ax.texts]
    for i in np.argsort(-reach, kind="stable"):
        text = ax.text(0, 0, names[i], fontsize=7, transform=None, ha="center", va="center")
        size = text.get_window_extent(renderer)
        best = None
        for gap, direction in product(_GAPS, _DIRECTIONS):
            away = np.array(direction) / np.hypot(*direction)
            half = np.array([size.width, size.height]) / 2
            middle = centres[i] + away * (reach[i] + gap * pixels) + np.sign(direction) * half
            box = Bbox([middle - half - pixels, middle + half + pixels])
            score = _overlap(box, taken, centres, reach, ax.bbox)
            if gap > _GAPS[1]:  # the joining line would cross another circle
                score += sum(
                    reach[crossed] ** 2 for crossed in _crossed(centres[i], middle, centres, reach) if crossed != i
                )
            if best is None or score < best[0]:
                best = (score, middle, box, gap, away)
            if score == 0:
                break
        assert best is not None
        _, middle, box, gap, away = best
        taken.append(box)
        at = (middle - centres[i]) / pixels
        text.remove()
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": float(radii[i])}
        ax.annotate(
            names[i],
            (x[i], y[i]),
            (float(at[0]), float(at[1])),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            arrowprops=line if gap > _GAPS[1] else None,
        )


def _crossed(start: Array, end: Array, centres: Array, reach: Array) -> list[int]:
    """Indices of the circles that a straight line meets."""
    along = np.clip(((centres - start) @ (end - start)) / ((end - start) @ (end - start)), 0, 1)
    distance = np.hypot(*(start + along[:, None] * (end - start) - centres).T)
    return np.flatnonzero(distance < reach).tolist()


def _overlap(box: Bbox, taken: Sequence[Bbox], centres: Array, reach: Array, page: Bbox) -> float:
    """What a box covers of names and circles, and how much of it is off the axes; in pixels squared."""

    def shared(other: Bbox) -> float:
        found = Bbox.intersection(box, other)
        return 0.0 if found is None else float(found.width * found.height)

    circles = sum(
        shared(Bbox([centre - radius, centre + radius])) for centre, radius in zip(centres, reach, strict=True)
    )
    return float(sum(map(shared, taken)) + circles + 4 * (box.width * box.height - shared(page)))

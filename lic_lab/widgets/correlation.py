"""Spatial correlation of the standardised symbols: what the entropy model left for a context to find."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from lic_lab.analysis.correlation import spatial_correlation
from lic_lab.figures.png import DIFFERENCE, heatmap_png
from lic_lab.tracing import Trace
from lic_lab.widgets.map import Map, legend
from lic_lab.widgets.panel import ALL, Panel, menu, row
from lic_lab.widgets.view import Array, Scene

WORDS = (
    "<p class='lab-words'>The mean correlation of the standardised symbols, (symbol - its mean) / its deviation, with "
    "themselves some positions away. Mean and deviation are those of the rounded symbol as it is coded: of a perfect "
    "model nothing but the noise of the sample is left off the centre. The number to compare is the mean magnitude "
    "there.</p>"
)
TOO_SMALL = "The picture has a single row or column of latent positions, so there are no offsets to look at."


class Correlation(Panel):
    """A small matrix of correlations by offset; A's beside it when a run is pinned."""

    title, tooltip = "Correlation", "Spatial correlation left in the standardised symbols"

    def __init__(self) -> None:
        self.slice = menu("Channels", [("all", ALL)], "All channels of the latent, or those of one slice")
        self.reach = menu("Reach", [(f"{r} positions", r) for r in (2, 3, 4, 6)], "Largest offset shown", value=3)
        for control in (self.slice, self.reach):
            control.observe(self.redraw, "value")
        self.table = widgets.HTML()
        self.map = Map(name="correlation", title="This run")
        self.map_a = Map(name="correlation-a", title="A, pinned")
        side = widgets.VBox([self.slice, self.reach, widgets.HTML(WORDS), self.table])
        side.add_class("lab-side")
        super().__init__([row(row(self.map, self.map_a, kind="lab-squares"), side, kind="lab-map-side")])

    def draw(self, scene: Scene) -> None:
        options = [("all", ALL)] + [(f"slice {i}", i) for i in range(len(scene.run.trace.slices))]
        if list(self.slice.options) != options:
            self.slice.options = options
        run, a = scene.run, scene.pinned
        alike = a is not None and (self.slice.value == ALL or a.trace.slices == run.trace.slices)
        found, other = self.values(run.trace), self.values(a.trace) if a is not None and alike else None
        for map_, values in ((self.map, found), (self.map_a, other)):
            map_.layout.display = "none" if values is None else ""
        if found is None:
            self.table.value = f"<p class='lab-words'>{TOO_SMALL}</p>"
            return
        limit = max(off_centre(m).max() for m in (found, other) if m is not None) or 1.0
        _draw(self.map, found, limit, scene.count)
        words = f"mean magnitude off the centre: <b>{off_centre(found).mean():.4f}</b>"
        if other is not None:
            _draw(self.map_a, other, limit, scene.count)
            words += f" (A: <b>{off_centre(other).mean():.4f}</b>)"
        elif a is not None and not alike:
            words += ". A has other slices, so it is compared over all channels only"
        self.table.value = f"<p class='lab-words'>{words}</p>" + _table(found)

    def values(self, trace: Trace) -> Array | None:
        """Correlations by offset, of the chosen channels; a small picture has fewer offsets, or none."""
        chosen = slice(None) if self.slice.value == ALL else trace.channels(self.slice.value)
        standardised = trace.standardised[chosen]
        reach = min(self.reach.value, *(n - 1 for n in standardised.shape[1:]))
        return spatial_correlation(standardised, reach) if reach else None


def off_centre(values: Array) -> Array:
    """Magnitudes of all entries but the middle one, which is 1 by definition."""
    flat = np.abs(values).ravel()
    return np.delete(flat, flat.size // 2)


def _draw(map_: Map, values: Array, limit: float, count: int) -> None:
    side = 40 * len(values)
    middle = len(values) // 2
    hidden = np.zeros(values.shape, bool)
    hidden[middle, middle] = True
    png = heatmap_png(values, size=(side, side), low=-limit, high=limit, colours=DIFFERENCE, hidden=hidden)
    map_.show(
        png,
        run=count,
        description=f"Correlation by offset, {len(values)} x {len(values)}; off the centre up to {limit:.3f}",
        legend=legend(-limit, limit, "", DIFFERENCE),
    )


def _table(values: Array) -> str:
    """The matrix in figures."""
    reach = len(values) // 2
    head = "".join(f"<th scope='col'>{d:+d}</th>" for d in range(-reach, reach + 1))
    body = "".join(
        f"<tr><th scope='row'>{d:+d}</th>{''.join(f'<td>{v:.3f}</td>' for v in line)}</tr>"
        for d, line in zip(range(-reach, reach + 1), values, strict=True)
    )
    return (
        "<table class='lab-table lab-small'><caption>This run, by rows down and columns across</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    )

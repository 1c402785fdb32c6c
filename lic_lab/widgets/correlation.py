"""Spatial correlation of the standardised symbols: what the entropy model left for a context to find."""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
import numpy as np

from lic_lab.analysis.correlation import noise_floor, spatial_correlation
from lic_lab.figures.bits import unlike
from lic_lab.figures.correlations import SCALE
from lic_lab.figures.png import DIFFERENCE, heatmap_png
from lic_lab.tracing import Trace
from lic_lab.widgets.map import Map, legend
from lic_lab.widgets.panel import ALL, Panel, menu, row
from lic_lab.widgets.view import Array, Scene

WORDS = (
    "<p class='lab-words'>The mean correlation of the standardised symbols, (symbol - its mean) / its deviation, with "
    "themselves some positions away. Mean and deviation are those of the rounded symbol as it is coded: of a perfect "
    "model nothing but the noise of the sample is left off the centre. The number to compare is the mean magnitude "
    "there, beside what chance alone would give: of n products the standard error is 1/√n (Bartlett, 1946), here "
    "estimated from the products themselves (Taylor, 1984), and √(2/π) of it the mean magnitude.</p>"
)
SCALES = [(f"± {limit:g}", limit) for limit in (0.05, SCALE, 0.2, 0.5, 1.0)]
TOO_SMALL = "The picture has a single row or column of latent positions, so there are no offsets to look at."


class Correlation(Panel):
    """A small matrix of correlations by offset; A's beside it when a run is pinned."""

    title, tooltip = "Correlation", "Spatial correlation left in the standardised symbols"

    def __init__(self) -> None:
        self.slice = menu("Channels", [("all", ALL)], "All channels of the latent, or those of one slice")
        self.reach = menu("Reach", [(f"{r} positions", r) for r in (2, 3, 4, 6)], "Largest offset shown", value=3)
        self.scale = menu(
            "Scale",
            SCALES,
            "Correlation of the strongest colours; it stays from run to run, and is A's too",
            value=SCALE,
        )
        for control in (self.slice, self.reach, self.scale):
            control.observe(self.redraw, "value")
        self.table = widgets.HTML()
        self.map = Map(name="correlation", title="This run")
        self.map_a = Map(name="correlation-a", title="A, pinned")
        side = widgets.VBox([self.slice, self.reach, self.scale, self.table, widgets.HTML(WORDS)])
        side.add_class("lab-side")
        super().__init__([row(row(self.map, self.map_a, kind="lab-squares"), side, kind="lab-map-side")])

    def draw(self, scene: Scene) -> None:
        options = [("all", ALL)] + [(f"slice {i}", i) for i in range(len(scene.run.trace.slices))]
        if list(self.slice.options) != options:
            self.slice.options = options
        run, a = scene.run, scene.pinned
        alike = a is not None and (self.slice.value == ALL or a.trace.slices == run.trace.slices)
        alike = a is not None and (self.slice.value == ALL or a.trace.slices == run.trace.slices)
        found, other = self.values(run.trace), self.values(a.trace) if a is not None and alike else None
        for map_, values in ((self.map, found), (self.map_a, other)):
            map_.layout.display = "none" if values is None else ""
        if found is None:
            self.table.value = f"<p class='lab-words'>{TOO_SMALL}</p>"
            return
        _draw(self.map, found, self.scale.value, scene.count)
        words = (
            f"Mean magnitude off the centre: <b>{off_centre(found).mean():.4f}</b>, by chance {self.chance(run.trace)}"
        )
        if a is not None and other is not None:
            _draw(self.map_a, other, self.scale.value, scene.count)
            words += f" (A: <b>{off_centre(other).mean():.4f}</b>, by chance {self.chance(a.trace)})"
            words += f". A and B differ in the {escape(apart)}" if (apart := unlike(a.trace, run.trace)) else ""
        elif a is not None and not alike:
            words += ". A has other slices, so it is compared over all channels only"
        self.table.value = f"<p class='lab-words'>{words}.</p>" + _table(found)

    def values(self, trace: Trace) -> Array | None:
        """Correlations by offset, of the chosen channels; a small picture has fewer offsets, or none."""
        symbols, reach = self._chosen(trace)
        return spatial_correlation(symbols, reach) if reach else None

    def chance(self, trace: Trace) -> str:
        """The mean magnitude off the centre that independent symbols would have."""
        return f"{off_centre(noise_floor(*self._chosen(trace))).mean():.4f}"

    def _chosen(self, trace: Trace) -> tuple[Array, int]:
        """Standardised symbols of the chosen channels, and the largest offset."""
        chosen = slice(None) if self.slice.value == ALL else trace.channels(self.slice.value)
        symbols = trace.on_picture(trace.standardised[chosen])
        return symbols, min(self.reach.value, *(n - 1 for n in symbols.shape[1:]))


def off_centre(values: Array) -> Array:
    """Magnitudes of all entries but the middle one, which says nothing."""
    flat = np.abs(values).ravel()
    return np.delete(flat, flat.size // 2)


def _draw(map_: Map, values: Array, limit: float, count: int) -> None:
    side = 40 * len(values)
    middle = len(values) // 2
    hidden = np.zeros(values.shape, bool)
    hidden[middle, middle] = True
    png = heatmap_png(values, size=(side, side), low=-limit, high=limit, colours=DIFFERENCE, hidden=hidden)
    most = off_centre(values).max()
    map_.show(
        png,
        run=count,
        readout=f"up to {most:.3f}" + (", beyond the scale" if most > limit else ""),
        description=f"Correlation by offset, {len(values)} x {len(values)}; off the centre up to {most:.3f}",
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

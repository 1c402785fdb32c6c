"""Where an attention component looks for the symbol at the cursor, with its mask drawn."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import numpy as np

from lic_lab import analysis
from lic_lab.figures.attention_maps import moved
from lic_lab.tracing import Trace
from lic_lab.widgets.errors import in_words
from lic_lab.widgets.map import Map
from lic_lab.widgets.panel import ALL, Panel, menu, row
from lic_lab.widgets.session import Run
from lic_lab.widgets.view import Scene

NAMES = {  # of components that are known; others go by their own
    "local": "local: window of anchors",
    "intra": "intra-slice, masked",
    "intra-unmasked": "intra-slice, unmasked",
    "inter": "inter-slice",
    "reference": "global reference",
}
INVITE = (
    "None of the components in use attends to anything in this picture. Choose <b>local: checkerboard attention</b> "
    "or a <b>global</b> context."
)
WORDS = "<p class='lab-words'><b>Click a position</b> to see where the component looks for its symbol.{}</p>"
MASKED = " Hatched positions are masked: not decoded yet, or hidden from this component."


class AttentionMaps(Panel):
    """The row of an attention map that belongs to the cursor."""

    title, tooltip = "Attention", "Where an attention component looks for the symbol at the cursor"

    def __init__(self) -> None:
        self.component = menu("Component", [], "Components in use that attend")
        self.slice = menu("Slice", [], "Slice of the symbol that is predicted")
        self.head = menu("Head", [], "One head, or the mean of all")
        self.ground = menu("Show", [("over the picture", True), ("map alone", False)], "Ground of the map")
        self.map = Map(name="attention", title="Attention", tooltip="Click to ask for another position")
        self.words = widgets.HTML(WORDS.format(""))
        self._kept: tuple[Run, str, Trace] | None = None  # maps are large: only the last component's are kept
        self._filling = False
        for control in (self.component, self.slice, self.head, self.ground):
            control.observe(self.redraw, "value")
        side = widgets.VBox([self.component, self.slice, self.head, self.ground, self.words])
        side.add_class("lab-side")
        super().__init__([row(self.map, side, kind="lab-map-side")])

    def redraw(self, change: object = None) -> None:
        if not self._filling:
            super().redraw(change)

    def draw(self, scene: Scene) -> None:
        names = scene.run.trace.attending
        self._fill(self.component, [(NAMES.get(name, name), name) for name in names])
        controls = (self.map, self.component, self.slice, self.head, self.ground)
        for widget in controls:
            widget.layout.display = "" if names else "none"
        if not names:
            self._kept = None
            self.words.value = f"<p class='lab-words'>{INVITE}</p>"
            return
        name = self.component.value
        try:
            trace = self._trace(scene, name)
            self._fill(self.slice, [(str(i), i) for i in trace.attentions[name]])
            found = trace.attention(name, self.slice.value, scene.position)
        except (ValueError, MemoryError) as error:
            self._kept = None
            self.map.layout.display = "none"
            self.words.value = f"<p class='lab-words lab-error'>{escape(in_words(error))}</p>"
            return
        heads = [("mean of all", ALL)] + [(str(k), k) for k in range(len(found.weights))]
        self._fill(self.head, heads)
        weights = analysis.head_mean(found.weights, None if self.head.value == ALL else self.head.value)
        query = "row {}, column {}".format(*found.position)
        nearest = (
            ""
            if not moved(found, scene.position)
            else (
                f"<p class='lab-words'>The symbol at the cursor asks nothing of this component. Shown is the nearest "
                f"that does, at {query} (outlined).</p>"
            )
        )
        visible = int(found.visible.sum())
        facts = f"{query} sees <b>{visible}</b> of {weights.size} positions"
        if visible:
            top = np.unravel_index(int(np.nanargmax(weights)), weights.shape)
            far = found.side * analysis.mean_distance(weights, found.centre)
            facts += (
                f"; most weight, <b>{np.nanmax(weights):.4f}</b>, at row {top[0]}, column {top[1]}; mean distance "
                f"<b>{far:.1f}</b> positions"
            )
        facts = f"<p class='lab-words'>{facts}.</p>"
        self.words.value = WORDS.format("" if found.visible.all() else MASKED) + facts + nearest
        self.map.title = f"Attention of {NAMES.get(name, name)}, slice {self.slice.value}"
        self.map.readout = scene.name_position(weights, "", found.side)
        self.map.description = f"Attention weights of {query}: {visible} of {weights.size} positions are visible"
        scene.heatmap(
            self.map,
            weights,
            unit="weight",
            low=0.0,
            over=scene.run.trace.x if self.ground.value else None,
            side=found.side,
            mark=found.under,
        )

    def move(self, scene: Scene) -> None:
        self.show(scene)

    def _trace(self, scene: Scene, name: str) -> Trace:
        if self._kept is None or self._kept[0] is not scene.run or self._kept[1] != name:
            self._kept = None  # before the next maps are made
            self._kept = (scene.run, name, scene.session.attention(scene.run, name))
        return self._kept[2]

    def _fill(self, control: widgets.Dropdown, options: Sequence[tuple[str, object]]) -> None:
        """New options without a redraw, keeping the value where it is still there."""
        if list(control.options) == options:
            return
        self._filling = True
        try:
            value = control.value
            control.options = options
            kept = value in [option[1] for option in options]
            control.value = value if kept else options[0][1] if options else None
        finally:
            self._filling = False

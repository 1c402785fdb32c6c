"""Cosine similarity of the latent at the cursor to the latent everywhere else."""

from __future__ import annotations

import ipywidgets as widgets

from lic_lab.analysis.correlation import cosine_similarity_map
from lic_lab.figures.png import DIFFERENCE
from lic_lab.widgets.map import Map
from lic_lab.widgets.panel import ALL, Panel, menu, row
from lic_lab.widgets.view import Array, Scene

WORDS = (
    "<p class='lab-words'><b>Click a position</b> (or walk with the arrow keys) to make it the reference. The map "
    "shows the cosine of the angle between its channels and those of every other position: red is alike, blue "
    "opposite. What is alike and far away is what a global context can use.</p>"
)


class Similarity(Panel):
    """A heatmap that follows the cursor, of all channels or of one slice."""

    title, tooltip = "Similarity", "Cosine similarity of every position to the one at the cursor"

    def __init__(self) -> None:
        self.slice = menu("Channels", [("all", ALL)], "All channels of the latent, or those of one slice")
        self.ground = menu("Show", [("map alone", False), ("over the picture", True)], "Ground of the map")
        self.map = Map(name="similarity", title="Cosine similarity to the cursor", tooltip="Click to set the reference")
        self.values: Array | None = None
        for control in (self.slice, self.ground):
            control.observe(self.redraw, "value")
        side = widgets.VBox([self.slice, self.ground, widgets.HTML(WORDS)])
        side.add_class("lab-side")
        super().__init__([row(self.map, side, kind="lab-map-side")])

    def draw(self, scene: Scene) -> None:
        trace = scene.run.trace
        options = [("all", ALL)] + [(f"slice {i}", i) for i in range(len(trace.slices))]
        if list(self.slice.options) != options:
            self.slice.options = options
        chosen = slice(None) if self.slice.value == ALL else trace.channels(self.slice.value)
        self.values = cosine_similarity_map(trace.y_hat[chosen], scene.position)
        self.map.readout = scene.name_position(self.values, "")
        self.map.description = "Cosine similarity of each latent position to row {}, column {}".format(*scene.position)
        over = trace.x if self.ground.value else None
        scene.heatmap(self.map, self.values, unit="cosine", low=-1, high=1, colours=DIFFERENCE, over=over)

    def move(self, scene: Scene) -> None:
        self.show(scene)

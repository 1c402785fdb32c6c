"""The pinned run A against the run B: a table and where the bits went."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np

from lic_lab import analysis
from lic_lab.figures.bits import same_picture, same_positions
from lic_lab.figures.png import DIFFERENCE
from lic_lab.widgets.map import Map
from lic_lab.widgets.numbers import comparison_html
from lic_lab.widgets.panel import Panel, menu, row
from lic_lab.widgets.view import Scene

INVITE = (
    "<p class='lab-words'>Press <b>Pin as A</b> to keep this run, then change a component: the two are compared "
    "here, in numbers and position by position.</p>"
)
APART = "The latent positions of A and B are not the same parts of the picture, so there is no difference map."


class Compare(Panel):
    """Table A against B and the difference of their bit maps."""

    title, tooltip = "A against B", "The pinned run against this one: table and difference map"

    def __init__(self) -> None:
        self.table = widgets.HTML(INVITE)
        self.map = Map(
            name="difference", title="Bits of B minus bits of A", tooltip="Click, or arrow keys, to move the cursor"
        )
        self.ground = menu("Show", [("map alone", False), ("over the picture", True)], "Ground of the difference map")
        self.ground.observe(self.redraw, "value")
        self.words = widgets.HTML()
        super().__init__([row(self.table, widgets.VBox([self.ground, self.map, self.words]), kind="lab-halves")])

    def draw(self, scene: Scene) -> None:
        a, b = scene.pinned, scene.run
        self.map.layout.display = self.ground.layout.display = "none"
        self.words.value = ""
        if a is None:
            self.table.value = INVITE
            return
        self.table.value = comparison_html(a, b)
        if not self._mapped(scene):
            if same_picture(a.trace, b.trace):
                self.words.value = f"<p class='lab-words'>{APART}</p>"
            return
        values = analysis.difference(a.trace.bit_map, b.trace.bit_map)
        limit = float(np.abs(values).max()) or 1.0
        over = b.trace.x if self.ground.value else None
        self.map.layout.display = self.ground.layout.display = ""
        self.map.readout = scene.name_position(values, "bits")
        self.map.description = f"Difference of the bits per latent position, from {-limit:.3g} to {limit:.3g} bits"
        scene.heatmap(
            self.map, values, unit="bits: blue, B is cheaper", low=-limit, high=limit, colours=DIFFERENCE, over=over
        )

    def move(self, scene: Scene) -> None:
        super().move(scene)
        if scene.pinned is not None and self._mapped(scene):
            self.map.position = list(scene.position)
            self.map.readout = scene.name_position(scene.run.trace.bit_map - scene.pinned.trace.bit_map, "bits")

    @staticmethod
    def _mapped(scene: Scene) -> bool:
        """Whether positions of A and B can be set against each other."""
        a, b = scene.pinned, scene.run.trace
        return a is not None and same_picture(a.trace, b) and same_positions(a.trace, b)

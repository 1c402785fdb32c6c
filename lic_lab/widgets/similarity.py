"""Cosine similarity of the latent at the cursor to the latent everywhere else."""

from __future__ import annotations

import ipywidgets as widgets

from lic_lab import analysis
from lic_lab.figures.correlations import weighting_words
from lic_lab.figures.png import DIFFERENCE
from lic_lab.widgets.map import Map
from lic_lab.widgets.panel import ALL, Panel, menu, row
from lic_lab.widgets.view import Array, Scene

WORDS = (
    "<p class='lab-words'><b>Click a position</b> (or walk with the arrow keys) to make it the reference. The map "
    "shows the cosine of the angle between its channels and those of every other position: red is alike, blue "
    "opposite. What is alike and far away is what a global context can use.</p>"
)
WEIGHTINGS = [
    ("normalised", "normalised"),
    ("without the strongest", "rest"),
    ("plain, as in MLIC", "plain"),
]
SAID = {
    "normalised": "Each channel is less its mean and divided by its deviation, so that all of them count. Plain, "
    "{} % of the energy would be that of channel {}.",
    "rest": "The strongest channel, {1}, is left out. It holds {0} % of the energy.",
    "plain": "The vectors are as they are, and {} % of their energy is that of channel {}.",
}


class Similarity(Panel):
    """A heatmap that follows the cursor, of all channels or of one slice."""

    title, tooltip = "Similarity", "Cosine similarity of every position to the one at the cursor"

    def __init__(self) -> None:
        self.slice = menu("Channels", [("all", ALL)], "All channels of the latent, or those of one slice")
        self.weighting = menu(
            "Weighting", WEIGHTINGS, "How much each channel counts; plain, the strongest may hide all others"
        )
        self.ground = menu("Show", [("map alone", False), ("over the picture", True)], "Ground of the map")
        self.map = Map(name="similarity", title="Cosine similarity to the cursor", tooltip="Click to set the reference")
        self.words = widgets.HTML()
        self.values: Array | None = None
        self._vectors: Array | None = (
            None  # of the run, slice and weighting shown: the cursor asks them again and again
        )
        self._how = ""
        for control in (self.slice, self.weighting, self.ground):
            control.observe(self.redraw, "value")
        side = widgets.VBox([self.slice, self.weighting, self.ground, widgets.HTML(WORDS), self.words])
        side.add_class("lab-side")
        super().__init__([row(self.map, side, kind="lab-map-side")])

    def draw(self, scene: Scene) -> None:
        trace, self._vectors = scene.run.trace, None
        options = [("all", ALL)] + [(f"slice {i}", i) for i in range(len(trace.slices))]
        if list(self.slice.options) != options:
            self.slice.options = options
        i = None if self.slice.value == ALL else self.slice.value
        chosen = trace.told("y_hat") if i is None else trace.told("y_hat")[trace.channels(i)]
        channel, share = analysis.strongest(chosen)
        channel += 0 if i is None else trace.channels(i).start
        said = SAID[self.weighting.value].format(f"{100 * share:.0f}", channel)
        self.words.value = f"<p class='lab-words'>{said}</p>"
        self._how = weighting_words(trace, i, self.weighting.value)
        self.map.title = f"Cosine similarity, {self._how.partition(':')[0]}"
        self._vectors = analysis.vectors(chosen, self.weighting.value)
        self._liken(scene, self._vectors)

    def move(self, scene: Scene) -> None:
        super().move(scene)
        if self._vectors is None:
            self.show(scene)
        else:
            self._liken(scene, self._vectors)

    def _liken(self, scene: Scene, vectors: Array) -> None:
        """Draw the similarity to the position at the cursor."""
        self.values = analysis.cosine_similarity_map(vectors, scene.position)
        self.map.readout = scene.name_position(self.values, "")
        where = "row {}, column {}".format(*scene.position)
        self.map.description = f"Cosine similarity of each latent position to {where}, {self._how}"
        over = scene.run.trace.x if self.ground.value else None
        scene.heatmap(self.map, self.values, unit="cosine", low=-1, high=1, colours=DIFFERENCE, over=over)

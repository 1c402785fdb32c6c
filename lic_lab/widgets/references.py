"""A click on the picture shows which decoded position the global reference found for the one clicked."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
from PIL import Image

from lic_lab import analysis
from lic_lab.figures.png import boxes_png
from lic_lab.figures.references import REFERENCE, TARGET
from lic_lab.tracing import Trace
from lic_lab.widgets.map import Map
from lic_lab.widgets.page import Page
from lic_lab.widgets.panel import menu, row
from lic_lab.widgets.still import Still
from lic_lab.widgets.view import WIDEST

CLICK = "<b>Click a position</b> (or walk with the arrow keys) to make it the target. "
IN_RASTER = (
    "The reference is the position, of all decoded before, whose surroundings (left and above) are most like its own."
)
ON_A_CHECKERBOARD = (
    "The reference is the anchor whose surroundings are most like its own: the anchors around it, and all channels of "
    "the slices before. Anchors are coded first and have no reference."
)


class ReferenceExplorer(Page):
    """The picture with the target at the cursor and its reference, S, U, and the target's bits at each stage.

    Everything comes from one trace, so a click costs a picture and no run.

    Parameters
    ----------
    trace : Trace
        Of a codec with a global reference.
    slice : int
        Of the symbols, for codecs with several.
    position : (int, int), optional
        Row and column of the first target; by default the one whose far reference is most similar.

    Attributes
    ----------
    map : Map
        `Map.position` is the target.
    window : Dropdown
        What the boxes surround: 1 for the latent position, 3 for the window that is compared.
    row, column : BoundedIntText
        The target, in numbers.
    table : HTML
        S, U, where the reference is, and the bits.

    Raises
    ------
    ValueError
        For a trace without references.
    """

    def __init__(self, trace: Trace, slice: int = 0, position: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.trace, self.found = trace, trace.references(slice)
        self._anchors = trace.parts.get("anchor")  # none in raster order
        self._channels = trace.channels(slice)
        height, width = trace.x.shape[:2]
        self._far = analysis.distances(self.found.source)
        self._tall, self._wide = trace.geometry.cell
        rows, columns = trace.geometry.latent
        self._scale = -(-max(height, width) // WIDEST)
        self._pixels = np.asarray(Image.fromarray(trace.x).reduce(self._scale)) if self._scale > 1 else trace.x
        self._quiet = False

        self.map = Map(name="reference-picture", title="Target and reference", tooltip="Click to choose the target")
        self.window = menu(
            "Boxes",
            [("window that is compared", 3), ("latent position", 1)],
            "What the boxes surround: one position, or the 3 x 3 positions that the search compares",
        )
        self.row, self.column = (
            widgets.BoundedIntText(description=name, min=0, max=count - 1, tooltip=f"{name} of the target")
            for name, count in (("Row", rows), ("Column", columns))
        )
        for field in (self.row, self.column):
            field.add_class("lab-number-field")
        self.table = widgets.HTML()
        which = IN_RASTER if self._anchors is None else ON_A_CHECKERBOARD
        words = widgets.HTML(f"<p class='lab-words'>{CLICK}{which}</p>")
        fields = row(self.row, self.column, kind="lab-cursor-fields")
        side = widgets.VBox([words, self.window, fields, self.table])
        for kind in ("lab-side", "lab-panel"):
            side.add_class(kind)
        self.fill(self.message, row(self.map, side, kind="lab-map-side"))
        self.map.grid, self.map.cell = [rows, columns], [self._tall / height, self._wide / width]
        self.map.clickable = True
        self.map.tips = {c.description: c.tooltip for c in (self.window, self.row, self.column)}
        self.listen(self.map, lambda change: self.show(*change["new"]), "position")
        self.listen(self.window, lambda change: self.show(*self.map.position))
        for field in (self.row, self.column):
            self.listen(field, lambda change: self.show(self.row.value, self.column.value))
        self.show(*(position if position is not None else self._first(rows, columns)))

    def show(self, i: int, j: int) -> None:
        """Make the position at row `i` and column `j` the target; one beyond the latent becomes the nearest on it."""
        if self._quiet:
            return
        rows, columns = self.map.grid
        i, j = min(max(int(i), 0), rows - 1), min(max(int(j), 0), columns - 1)
        self._quiet = True
        try:
            self.map.position, self.row.value, self.column.value = [i, j], i, j
        finally:
            self._quiet = False
        source = self._source(i, j)
        boxes = [self._box((i, j), TARGET)] + ([self._box(source, REFERENCE)] if source else [])
        count = self.map.run + 1
        picture = boxes_png(self._pixels, boxes, joined=True)
        similarity = self.found.similarity[i, j]
        where = "nothing to refer to" if source is None else "reference at row {}, column {}".format(*source)
        self.map.show(
            picture,
            run=count,
            readout=f"row {i}, column {j}: " + (where if source is None else f"S {similarity:.3f}"),
            description=f"The picture with the target at row {i}, column {j}; {where}",
        )
        self.table.value = self._words(i, j, source)

    def still(self) -> Still:
        pictures = [(self.map.readout, self.map.value)]
        return Still(f"Target and reference: {self.trace.picture.name}", [], pictures, "")

    def _first(self, rows: int, columns: int) -> tuple[int, int]:
        """The target to begin with."""
        best = analysis.pick_pairs(self.found.source, self.found.similarity, n=1, margin=1)
        return (int(best[0, 0]), int(best[0, 1])) if len(best) else (rows // 2, columns // 2)

    def _source(self, i: int, j: int) -> tuple[int, int] | None:
        """The reference of a position, if it has one."""
        source = self.found.source[i, j]
        return None if source[0] < 0 else (int(source[0]), int(source[1]))

    def _box(self, position: tuple[int, int], colour: str) -> tuple[tuple[float, float, float, float], str]:
        """The box around a position, in pixels of the picture shown."""
        reach = self.window.value // 2
        tall, wide = self._tall / self._scale, self._wide / self._scale
        top, bottom = (position[0] - reach) * tall, (position[0] + reach + 1) * tall
        return (top, bottom, (position[1] - reach) * wide, (position[1] + reach + 1) * wide), colour

    def _words(self, i: int, j: int, source: tuple[int, int] | None) -> str:
        """What is known of a target, as tables."""
        facts: list[tuple[str, str]] = [(_swatch(TARGET) + "target", f"row {i}, column {j}")]
        if source is None:
            anchor = self._anchors is not None and self._anchors[i, j]
            why = "anchors have none, they are the past" if anchor else "nothing alike was decoded before"
            facts.append((_swatch(REFERENCE) + "reference", f"none: {why}"))
        else:
            s, u = float(self.found.similarity[i, j]), float(self.found.confidence[i, j])
            facts += [
                (_swatch(REFERENCE) + "reference", "row {}, column {}".format(*source)),
                ("distance", f"{self._far[i, j]:.1f} positions"),
                ("similarity S", f"{s:.4f}"),
                ("confidence U", f"{u:.4f}"),
                ("weight S U", f"{min(max(s, 0), 1) * u:.4f}"),
            ]
        lines = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in facts)
        stages = self.trace.stages
        bits = [(stage.name, float(stage.bits[:, i, j].sum())) for stage in stages]
        bits = bits or [("this slice", float(self.trace.bits[self._channels, i, j].sum()))]
        before = [None, *(b for _, b in bits)]
        costs = "".join(
            f"<tr data-stage='{name}'><th scope='row'>{name}</th><td>{b:.2f}</td>"
            f"<td>{'' if a is None else f'{b - a:+.2f}'.replace('-', chr(0x2212))}</td></tr>"
            for (name, b), a in zip(bits, before, strict=False)
        )
        return (
            f"<table class='lab-table lab-small'><tbody>{lines}</tbody></table>"
            "<table class='lab-table lab-small' style='margin-top:10px'><caption>Bits of the target's symbols</caption>"
            "<thead><tr><th></th><th scope='col'>bits</th><th scope='col'>change</th></tr></thead>"
            f"<tbody>{costs}</tbody></table>"
        )


def _swatch(colour: str) -> str:
    style = f"display:inline-block;width:9px;height:9px;margin-right:5px;background:{colour};outline:1px solid #000"
    return f"<i style='{style}'></i>"

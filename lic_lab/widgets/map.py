"""A picture or a map of latent positions, to be clicked or walked over with the arrow keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from lic_lab.figures.png import COLOURS, palette

HERE = Path(__file__).parent


class Map(anywidget.AnyWidget):
    """A PNG with caption, colour bar and a cursor on a grid of positions.

    Attributes
    ----------
    value : bytes
        PNG.
    run : int
        Counts runs; the page shows it once the picture is on the screen.
    position : [int, int]
        Row and column of the cursor; a click or an arrow key changes it.
    grid : [int, int]
        Rows and columns; [0, 0] hides the cursor.
    cell : [float, float]
        Height and width of a position as a fraction of the picture's.
    title, readout, description, tooltip : str
        Caption, the value at the cursor, the alternative text, the tooltip.
    tips : dict
        Tooltips of the labelled menus and fields around, by label: ipywidgets has them and does not show them.
    legend : dict
        ``low``, ``high``, ``unit``, ``stops`` (see `legend`); empty for none.
    """

    _esm = (HERE / "map.js").read_text()
    _css = (HERE / "style.css").read_text()
    value = traitlets.Bytes(b"").tag(sync=True)
    run = traitlets.Int(0).tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)
    position = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    grid = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    cell = traitlets.List(traitlets.Float(), [1.0, 1.0]).tag(sync=True)
    clickable = traitlets.Bool(False).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    readout = traitlets.Unicode("").tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    tips = traitlets.Dict().tag(sync=True)
    legend = traitlets.Dict().tag(sync=True)

    def show(self, value: bytes, **traits: Any) -> None:
        """Set the picture and other traits in one message to the page."""
        with self.hold_sync():
            for name, content in traits.items():
                setattr(self, name, content)
            self.value = value


def legend(low: float, high: float, unit: str, colours: str = "viridis") -> dict[str, str]:
    """Traits of a colour bar from `low` to `high`."""
    table = palette(colours)[np.linspace(0, COLOURS - 1, 13).round().astype(int)]  # both ends, and the middle
    stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in table.tolist())
    return {"low": figure(low), "high": figure(high), "unit": unit, "stops": stops}


def figure(value: float) -> str:
    """Three significant digits, and no exponent for large numbers.

    >>> figure(1098.4), figure(0.01234)
    ('1,098', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

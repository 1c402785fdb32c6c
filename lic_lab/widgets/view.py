"""How a run's pictures and maps are laid on the screen: all at one size, positions where they belong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lic_lab.figures.png import heatmap_png
from lic_lab.widgets.map import Map, figure, legend
from lic_lab.widgets.session import Run, Session

Array = NDArray[Any]
WIDEST = 1536  # pixels a side sent to the page; larger pictures are shown reduced


@dataclass
class Scene:
    """What there is to show.

    Attributes
    ----------
    session : Session
    run : Run
    pinned : Run or None
        A, to which the run is B.
    position : (int, int)
        Row and column of the cursor.
    count : int
        Number of the run; it marks what belongs to it on the page.
    """

    session: Session
    run: Run
    pinned: Run | None
    position: tuple[int, int]
    count: int

    @property
    def scale(self) -> int:
        """Pixels of the picture per pixel shown."""
        return -(-max(self.run.trace.x.shape[:2]) // WIDEST)

    def reduced(self, pixels: Array) -> Array:
        """A picture at the size shown."""
        if self.scale == 1:
            return pixels
        return _reduced(_Hashable(pixels), self.scale)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width shown."""
        height, width = self.run.trace.x.shape[:2]
        return -(-height // self.scale), -(-width // self.scale)

    def place(self, map_: Map, clickable: bool = True) -> None:
        """Give a map the grid of this run and the cursor."""
        of = self.run.trace.geometry
        map_.grid, map_.position = list(of.latent), list(self.position)
        map_.cell, map_.clickable, map_.run = [of.cell[0] / of.height, of.cell[1] / of.width], clickable, self.count

    def heatmap(
        self,
        map_: Map,
        values: Array,
        *,
        unit: str,
        low: float | None = None,
        high: float | None = None,
        colours: str = "viridis",
        over: Array | None = None,
        clickable: bool = True,
        side: float = 1.0,
        **options: Any,
    ) -> None:
        """Draw `values` (h, w) in `map_`, over the picture `over` if there is one, with colour bar and readout.

        `side` is that of a position of `values` in latent positions.
        """
        known = values[np.isfinite(values)]
        low = float(known.min(initial=np.inf) if known.size else 0) if low is None else low
        high = float(known.max(initial=-np.inf) if known.size else 1) if high is None else high
        base = None if over is None else self.reduced(over)
        tall, wide = (side * cell / self.scale for cell in self.run.trace.geometry.cell)
        png = heatmap_png(
            values, size=self.size, low=low, high=high, colours=colours, over=base, cell=(tall, wide), **options
        )
        with map_.hold_sync():
            self.place(map_, clickable)
            map_.show(png, legend=legend(low, high, unit, colours))

    def name_position(self, values: Array, unit: str, side: float = 1.0) -> str:
        """The value at the cursor, in words; `side` as for `heatmap`."""
        i, j = self.position
        value = values[int((i + 0.5) // side), int((j + 0.5) // side)]
        words = "masked" if np.isnan(value) else f"{figure(value)} {unit}".rstrip()
        return f"row {i}, column {j}: {words}"


class _Hashable:
    """An array as a key of the cache, by identity."""

    def __init__(self, array: Array):
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and other.array is self.array


@lru_cache(maxsize=4)
def _reduced(key: _Hashable, scale: int) -> Array:
    return np.asarray(Image.fromarray(key.array).reduce(scale))

"""Attention maps of one query, read from what any component's tap says of its weights (`lic_lab.layers.places`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lic_lab.layers.places import Places
from lic_lab.tracing.taps import Record

Array = NDArray[Any]
LARGER = "trace a larger picture to see attention"


@dataclass
class Attention:
    """Where one query looks.

    Attributes
    ----------
    weights : array
        (heads, rows, columns), NaN where the mask hides a position or no key is.
    visible : array
        Boolean (rows, columns): the mask.
    position : (int, int)
        The query, row and column; it may be a neighbour of the position asked for.
    side, query_side : float
        Of a key's and of the query's position, in positions of y: 1 in the entropy model.
    """

    weights: Array
    visible: Array
    position: tuple[int, int]
    side: float = 1.0
    query_side: float = 1.0

    @property
    def centre(self) -> tuple[float, float]:
        """The query on the keys' grid, where whole numbers are the middles of positions."""
        ratio = self.query_side / self.side
        return (self.position[0] + 0.5) * ratio - 0.5, (self.position[1] + 0.5) * ratio - 0.5

    @property
    def under(self) -> tuple[int, int]:
        """Row and column of the key's position that the query lies on."""
        return int(self.centre[0] + 0.5), int(self.centre[1] + 0.5)


@dataclass(frozen=True)
class _Query:
    """One of the candidates: where it asks, and in which of a record's windows."""

    record: Record
    window: int
    at: int


def look(records: Sequence[Record], position: tuple[float, float]) -> Attention:
    """The map of the query at `position`, in positions of y, or of the nearest that there is.

    Of equally near ones it is the first that looks at `position`, so that a patched map stays in its patch.

    Raises
    ------
    ValueError
        When there is no query at all.
    """
    query = min(_nearest(records, position), key=lambda of: (not _looks_at(of, position), of.at), default=None)
    if query is None:
        raise ValueError(f"nothing asks here: no position of the latent has another to look at; {LARGER}")
    places: Places = query.record.where["places"]
    among = places.among or places.grid
    asking = _windows(places.queries)[query.window] == query.at
    keys = _windows(places.keys)[query.window]
    seen = _unmasked(places, query, asking) & (keys >= 0)
    visible = np.zeros(among.rows * among.columns, bool)
    visible[keys[seen]] = True
    if places.times is not None:
        visible |= places.times.numpy() < places.times.numpy()[query.at]
    weights = _of_window(query.record.value, query.window)[:, asking][:, :, seen].mean(1)  # (heads, seen)
    out = np.where(visible, 0.0, np.nan)[None].repeat(len(weights), 0)
    np.add.at(out.T, keys[seen], weights.T)
    shape = among.rows, among.columns
    at = divmod(query.at, places.grid.columns)
    return Attention(out.reshape(-1, *shape), visible.reshape(shape), at, among.side, places.grid.side)


def _nearest(records: Sequence[Record], position: tuple[float, float]) -> list[_Query]:
    """The queries nearest to `position`."""
    found: list[_Query] = []
    least = np.inf
    for record in records:
        places: Places = record.where["places"]
        queries = _windows(places.queries)
        i, j = _on(places.grid.side, position)
        rows, columns = np.divmod(queries, places.grid.columns)
        distance = np.where(queries < 0, np.inf, np.abs(rows - i) + np.abs(columns - j))
        nearest = distance.min(initial=np.inf)
        if nearest < least:
            found, least = [], nearest
        if nearest == least < np.inf:
            windows, at = (distance == nearest).nonzero()
            there = dict.fromkeys(zip(windows.tolist(), queries[windows, at].tolist(), strict=True))
            found += [_Query(record, *of) for of in there]
    return found


def _looks_at(query: _Query, position: tuple[float, float]) -> bool:
    """Whether one of the query's keys lies at `position`; of a search all that came before are keys."""
    places: Places = query.record.where["places"]
    if places.times is not None:
        return True
    among = places.among or places.grid
    i, j = _on(among.side, position)
    return bool((_windows(places.keys)[query.window] == i * among.columns + j).any())


def _on(side: float, position: tuple[float, float]) -> tuple[int, int]:
    """The position of y on a grid whose positions have this side."""
    return int((position[0] + 0.5) // side), int((position[1] + 0.5) // side)


def _windows(positions: Any) -> Array:
    """(..., n) as an array (windows, n)."""
    found: Array = positions.reshape(-1, positions.shape[-1]).numpy()
    return found


def _of_window(values: Array, window: int) -> Array:
    """Of (..., heads, Q, K), one window's, without a copy of the others."""
    found: Array = values[np.unravel_index(window, values.shape[:-3])] if values.ndim > 3 else values
    return found


def _unmasked(places: Places, query: _Query, asking: Array) -> Array:
    """Which keys (K,) the softmax's mask left to the window's queries `asking`."""
    shape = query.record.value.shape
    if places.hidden is None:
        return np.ones(shape[-1], bool)
    bias, sighted = (
        None if of is None else _of_window(np.broadcast_to(of.numpy(), shape), query.window)[0, asking]
        for of in places.hidden
    )
    return ((bias == 0) if sighted is None else (bias == 0) & sighted).any(0)

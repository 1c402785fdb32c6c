"""What an attention tap says, so that its map can be drawn by those who know nothing of the component.

    tap_attention("local", weights, lambda: Places(queries, keys, Grid(H, W)), slice=i)

The weights are the softmax's as they are, (B, ..., heads, Q, K), with windows or nothing in the middle. `Places` says
where each query and each key lies. So a map needs no word of the component: a window may be a local one around each
symbol, a patch of the latent, a shifted window of Swin's or a chunk of tokens, and its keys may lie on a coarser map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lic_lab.layers.attention import Mask
from lic_lab.layers.tap import tap

SUFFIX = ".attention"


class Grid(NamedTuple):
    """Positions of a feature map.

    Attributes
    ----------
    rows, columns : int
    side : float
        Of a position, in positions of y along each axis: 1 in the entropy model, 1/4 two stages before the end of g_a.
    """

    rows: int
    columns: int
    side: float = 1.0


@dataclass(frozen=True, eq=False)
class Places:
    """Where the queries and keys of attention weights (B, ..., heads, Q, K) lie; ``...`` may be empty.

    Positions are flat indices into a grid, row by row, and -1 for a query that asks for nothing or a key that is not
    there, as in padding. Queries of a window that ask for the same position count together, as their mean; weights of
    keys at the same position, as of several chunks of channels, add up.

    Attributes
    ----------
    queries : Tensor
        (..., Q), the position for which each query asks.
    keys : Tensor
        (..., K), the position that each key tells of.
    grid : Grid
        Of the queries.
    among : Grid or None
        Of the keys, where it is another one, as of a coarser map.
    hidden : Mask or None
        What the softmax was given; it broadcasts to the weights of one image.
    times : Tensor or None
        For a search, which hands on the best of all keys and leaves no weights of the others: when each position of
        the grid is decoded, (rows * columns,). A query could have chosen whatever was decoded before its position.
    """

    queries: Tensor
    keys: Tensor
    grid: Grid
    among: Grid | None = None
    hidden: Mask | None = None
    times: Tensor | None = None


def tap_attention(component: str, weights: Tensor, places: Callable[[], Places], slice: int = 0) -> Tensor:
    """Return `weights` unchanged; show them to the active recorder, if there is one, as ``component.attention``.

    Parameters
    ----------
    component : str
        As the map is to be called, ``"intra"``.
    weights : Tensor
        (B, ..., heads, Q, K).
    places : callable
        Makes the `Places`; it is called at once by a recorder that keeps the weights, and else never.
    slice : int
        Of the symbols that are predicted.
    """
    return tap(component + SUFFIX, weights, slice=slice, places=places)

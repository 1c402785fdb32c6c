"""Attention maps and their masks, made ready to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def head_mean(weights: Array, head: int | None = None) -> Array:
    """One head's weights, or the mean of all: (h, w) of `weights` (heads, h, w). NaN (hidden) stays NaN.

    Raises
    ------
    ValueError
        For weights without three axes, or a head that is not there.
    """
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 3:
        raise ValueError(f"weights have shape {weights.shape}; give (heads, h, w)")
    if head is None:
        found: Array = weights.mean(0)
        return found
    if not 0 <= head < len(weights):
        raise ValueError(f"head is {head}; this component has heads 0 to {len(weights) - 1}")
    return weights[head]


def mean_distance(weights: Array, position: tuple[float, float]) -> float:
    """How far a query looks on average, in positions: the weighted mean Euclidean distance of its keys.

    Parameters
    ----------
    weights : array
        (h, w), NaN where hidden; they need not sum to 1.
    position : (float, float)
        The query, row and column.

    Returns
    -------
    float
        NaN when nothing has weight.
    """
    i, j = np.indices(weights.shape)
    distance = np.hypot(i - position[0], j - position[1])
    seen = np.nan_to_num(np.asarray(weights, dtype=float))
    return float((seen * distance).sum() / seen.sum()) if seen.sum() > 0 else float("nan")


def outline(mask: Array) -> Array:
    """The border of a mask as line segments, to draw it without covering anything.

    Parameters
    ----------
    mask : array
        Boolean (h, w).

    Returns
    -------
    array
        (n, 2, 2): the segments' two ends as (x, y), in units of positions with (0, 0) the upper left corner of the
        first position. There is one segment for each side between a position in
        the mask and one outside it (or the edge of the latent).

    >>> len(outline(np.ones((2, 3), bool)))
    10
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 2:
        raise ValueError(f"the mask has shape {mask.shape}; give (h, w)")
    framed = np.pad(mask, 1)
    i, j = np.nonzero(framed[1:, 1:-1] != framed[:-1, 1:-1])
    lying = np.stack([np.stack([j, i], 1), np.stack([j + 1, i], 1)], 1)
    i, j = np.nonzero(framed[1:-1, 1:] != framed[1:-1, :-1])
    standing = np.stack([np.stack([j, i], 1), np.stack([j, i + 1], 1)], 1)
    return np.concatenate([lying, standing]).astype(float)


def surroundings(mask: Array, position: tuple[int, int], margin: int = 2) -> tuple[int, int, int, int]:
    """The box (top, bottom, left, right) around a mask and the query, `margin` positions wider, within the latent.

    Ends are exclusive. A local window is a few positions of thousands: draw this box to see it.
    """
    i, j = np.nonzero(mask)
    i, j = np.append(i, position[0]), np.append(j, position[1])
    h, w = mask.shape
    return (
        max(int(i.min()) - margin, 0),
        min(int(i.max()) + margin + 1, h),
        max(int(j.min()) - margin, 0),
        min(int(j.max()) + margin + 1, w),
    )

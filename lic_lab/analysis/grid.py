"""Latent positions and the pixels they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def upsample(values: Array, pixels: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Repeat each position of `values` (..., h, w) over its pixels: (..., H, W).

    Nothing is interpolated: a picture of a latent should show its positions. What lies beyond the picture is cut off.

    Parameters
    ----------
    values : array
    pixels : (int, int)
        Height and width of the picture.
    cell : (float, float)
        Height and width of a position in pixels, `Trace.geometry.cell`.

    Raises
    ------
    ValueError
        When a size is not above 0, or the positions do not reach the picture's end.

    >>> upsample(np.array([[1, 2]]), (1, 3), (2.0, 2.0))
    array([[1, 1, 2]])
    """
    if min(*pixels, *cell) <= 0:
        raise ValueError(f"the picture is {pixels} pixels and a position {cell}; all must be above 0")
    rows, columns = ((np.arange(n) + 0.5) // side for n, side in zip(pixels, cell, strict=True))
    h, w = values.shape[-2:]
    if rows[-1] >= h or columns[-1] >= w:
        raise ValueError(f"{h} x {w} positions of {cell} pixels do not cover a picture of {pixels} pixels")
    return values[..., rows.astype(int)[:, None], columns.astype(int)]

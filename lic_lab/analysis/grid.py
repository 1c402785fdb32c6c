"""Latent positions and the pixels they stand for."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
STRIDE = 16  # pixels per latent position of every codec here: four stages that halve
PADDING = 64  # pictures are padded below and to the right to multiples of this


def cell_sides(pixels: tuple[int, int], positions: tuple[int, int], stride: int = STRIDE) -> tuple[float, float]:
    """Height and width in pixels of one latent position.

    Parameters
    ----------
    pixels : (int, int)
        Height and width of the picture, without padding.
    positions : (int, int)
        Rows and columns of the latent.
    stride : int
        Of the transform.

    Returns
    -------
    (float, float)
        The stride when the latent covers the picture and less than `PADDING` pixels of padding. Otherwise the codec
        has resized the picture, and the latent is taken to span it.

    >>> cell_sides((500, 750), (32, 48))
    (16.0, 16.0)
    >>> cell_sides((500, 750), (16, 24))
    (31.25, 31.25)
    """
    if min(*pixels, *positions) < 1:
        raise ValueError(f"the picture is {pixels} pixels and the latent {positions} positions; all must be at least 1")
    padding = [p * stride - n for p, n in zip(positions, pixels, strict=True)]
    if all(0 <= n < PADDING for n in padding):
        return float(stride), float(stride)
    return pixels[0] / positions[0], pixels[1] / positions[1]


def inside(latent: Array, pixels: tuple[int, int]) -> Array:
    """The positions (..., h', w') of `latent` (..., h, w) that show some of the picture, not padding alone."""
    h, w = latent.shape[-2:]
    tall, wide = cell_sides(pixels, (h, w))
    return latent[..., : ceil(pixels[0] / tall - 1e-9), : ceil(pixels[1] / wide - 1e-9)]


def upsample(values: Array, pixels: tuple[int, int]) -> Array:
    """Repeat each position of `values` (..., h, w) over its pixels: (..., H, W), without the padding.

    Nothing is interpolated: a picture of a latent should show its positions.
    """
    sides = cell_sides(pixels, (values.shape[-2], values.shape[-1]))
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) // side, count - 1).astype(int)
        for n, side, count in zip(pixels, sides, values.shape[-2:], strict=True)
    )
    return values[..., rows[:, None], columns]

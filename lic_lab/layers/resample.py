"""Resizing of images by bicubic interpolation, the same on every machine.

Along one axis after the other, a pixel of the result is a weighted sum of some pixels of the source, with Catmull-Rom's
kernel (Keys 1981, a = -0.5). Its weights are multiples of 2^-12 that sum to one exactly, so they are exact arithmetic's
own numbers (`layers.exact`), and a uniform image stays as it is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KERNELS = ("antialiased", "released")
UNIT = 4096  # of the weights
LEVELS = 256.0  # pixels are summed in units of 1/256, so that exact arithmetic's grid is fine beside them


def resample(x: Tensor, size: tuple[int, int], kernel: str = "antialiased") -> Tensor:
    """Images (B, C, H, W) resized to (B, C, *size).

    Parameters
    ----------
    x : Tensor
        Any floating-point images.
    size : tuple of int
        Height and width of the result.
    kernel : {"antialiased", "released"}
        Half-pixel centres, and a kernel that widens when the image shrinks, as Pillow's and
        ``interpolate(mode="bicubic", antialias=True)``'s; or, as the released code of AICT, four taps whatever the
        factor, on a grid that begins at the centre of the first pixel.

    Raises
    ------
    ValueError
        For an unknown kernel, or a size without pixels.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}; it must be one of {', '.join(KERNELS)}")
    if min(size) < 1:
        raise ValueError(f"size is {size}; an image has at least one pixel a side")
    if size == tuple(x.shape[2:]):
        return x
    return _along(_along(x * LEVELS, 2, size[0], kernel), 3, size[1], kernel) * (1 / LEVELS)


def _along(x: Tensor, axis: int, length: int, kernel: str) -> Tensor:
    if x.shape[axis] == length:
        return x
    at, weights = taps(x.shape[axis], length, kernel)
    shape = [length if axis == d else 1 for d in range(x.dim())]
    found: Tensor | None = None
    for source, weight in zip(torch.from_numpy(at.T.copy()), torch.from_numpy(weights.T / UNIT), strict=True):
        term = x.index_select(axis, source.to(x.device)) * weight.to(x).view(shape)
        found = term if found is None else found + term
    assert found is not None
    return found


@lru_cache(maxsize=64)
def taps(source: int, length: int, kernel: str = "antialiased") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of which pixels, and with what weights, each pixel of the result is made: (length, n) each; weights in 1/4096.

    >>> at, weights = taps(4, 2)
    >>> weights.sum(1).tolist()
    [4096, 4096]
    >>> taps(3, 6, "released")[0][2].tolist()
    [0, 1, 2, 2]
    """
    ratio = source / length
    if kernel == "released":
        where = np.arange(length) * ratio
        first, reach = np.floor(where).astype(np.int64) - 1, 1.0
        at = first[:, None] + np.arange(4)
        weights = _catmull_rom(at - where[:, None])
        at = at.clip(0, source - 1)
    else:
        reach = max(ratio, 1.0)
        where = (np.arange(length) + 0.5) * ratio - 0.5  # of the centres, in pixels of the source
        first = np.floor(where - 2 * reach).astype(np.int64) + 1
        at = first[:, None] + np.arange(int(np.ceil(4 * reach)) + 1)
        weights = _catmull_rom((at - where[:, None]) / reach)
        weights[(at < 0) | (at >= source)] = 0.0  # beyond the edge nothing is read, and what is there counts more
        at = at.clip(0, source - 1)
    total = np.zeros(length)
    for column in weights.T:  # in this order on every machine
        total = total + column
    whole = np.rint(weights / total[:, None] * UNIT).astype(np.int64)
    whole[np.arange(length), whole.argmax(1)] += UNIT - whole.sum(1)
    return at, whole


def _catmull_rom(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -0.5."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))

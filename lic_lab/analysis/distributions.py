"""How the values of a latent are distributed over a set of images, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def pooled(latents: Sequence[Array]) -> Array:
    """Latents (M, h, w) of several images, whose sizes may differ, as one array (M, positions).

    Raises
    ------
    ValueError
        Without latents, or when they are no latents of one codec.
    """
    shapes = [np.shape(latent) for latent in latents]
    if not shapes or any(len(s) != 3 or not all(s) for s in shapes) or len({s[0] for s in shapes}) != 1:
        raise ValueError(f"the latents have shapes {shapes}; give one or more (M, h, w) with the same channels M")
    return np.concatenate([np.asarray(a, dtype=float).reshape(len(a), -1) for a in latents], 1)


def symbol_entropy(latents: Sequence[Array]) -> Array:
    """Entropy of each channel's rounded values over all images, in bits per symbol: (M,).

    It is what coding the channel costs with one table of its own frequencies and no context.

    Parameters
    ----------
    latents : sequence of array
        (M, h, w) each.

    >>> symbol_entropy([np.array([[[0.2, 1.1, 1.9, 3.0]], [[0.1, -0.3, 0.2, 0.0]]])]).tolist()
    [2.0, 0.0]
    """
    found = np.zeros(len(latents[0]) if len(latents) else 0)
    for channel, values in enumerate(np.rint(pooled(latents))):
        counts = np.unique(values, return_counts=True)[1]
        p = counts / counts.sum()
        found[channel] = max(0.0, -float((p * np.log2(p)).sum()))
    return found


def mean_shift(latents: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel over all images (Qian et al., ICLR 2021, Figure 11).

    A density that is zero-mean by definition fits the first when it is 0.

    Parameters
    ----------
    latents : sequence of array
        (M, h, w) each.

    Returns
    -------
    mean, deviation : array
        (M,) each, in steps of the quantiser. Each position counts once, so larger images count more.
    """
    values = pooled(latents)
    return values.mean(1), values.std(1)

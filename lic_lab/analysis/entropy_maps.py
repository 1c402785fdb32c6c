"""Where the bits go: over positions, over channels, over the parts of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def bit_map(bits: Array) -> Array:
    """Bits per latent position (h, w) of `bits` (M, h, w)."""
    found: Array = _check(bits).sum(0)
    return found


def channel_bits(bits: Array) -> Array:
    """Bits of each channel (M,) of `bits` (M, h, w)."""
    found: Array = _check(bits).sum((1, 2))
    return found


def highest_channels(bits: Array, n: int | None = None) -> Array:
    """Indices of the `n` channels with most bits, falling (all by default; equal ones in order of index).

    >>> highest_channels(np.array([1.0, 5.0, 3.0]).reshape(3, 1, 1), 2).tolist()
    [1, 2]
    """
    total = channel_bits(bits)
    if n is not None and n < 0:
        raise ValueError(f"n is {n}; give the number of channels, 0 to {len(total)}")
    return np.argsort(-total, kind="stable")[:n]


def channels_holding(bits: Array, share: float = 0.9) -> int:
    """The least number of channels that hold `share` (0 to 1) of the bits (M, h, w)."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in 0 to 1")
    total = np.sort(channel_bits(bits))[::-1]
    if not total.sum():
        return 0
    # Summing rounds: the last partial sum must count as all there is.
    reached = np.cumsum(total) / total.sum() >= share - 1e-12
    return 0 if share == 0 else int(reached.argmax()) + 1


def split(bits: Array, parts: Mapping[str, Array], slices: Sequence[int]) -> Array:
    """Bits of each slice in each part.

    Parameters
    ----------
    bits : array
        (M, h, w).
    parts : mapping
        Boolean (h, w) for each part of the spatial pattern, as `Trace.parts`.
    slices : sequence of int
        Channels of each slice; they sum to M.

    Returns
    -------
    array
        (slices, parts). When the parts cover every position once, as a coding order's do, it sums to all bits.

    Raises
    ------
    ValueError
        When slices or parts do not fit the bits.
    """
    bits = _check(bits)
    if sum(slices) != len(bits) or min(slices, default=0) < 1:
        raise ValueError(f"slices have {tuple(slices)} channels; they must sum to the {len(bits)} channels of bits")
    for name, mask in parts.items():
        if mask.shape != bits.shape[1:]:
            raise ValueError(
                f"part {name!r} has shape {mask.shape}, the latent {bits.shape[1:]}; they must be the same"
            )
    ends = np.cumsum(slices)[:-1]
    return np.array([[of_slice[:, mask].sum() for mask in parts.values()] for of_slice in np.split(bits, ends)])


def part_table(
    bits: Array, z_bits: Array, parts: Mapping[str, Array], slices: Sequence[int], pixels: int
) -> list[dict[str, Any]]:
    """What each part of the stream costs: total, z, y, each part of the pattern, each slice.

    Parameters
    ----------
    bits, z_bits : array
        (M, h, w) and the side information's, of any shape.
    parts, slices
        As in `split`.
    pixels : int
        Of the image.

    Returns
    -------
    list of dict
        ``part`` (as the keys of `Trace.bpp`), ``bits``, ``bpp`` (bits per pixel) and ``percent`` of the total.

    Raises
    ------
    ValueError
        As `split`, and when there are no pixels.
    """
    if pixels < 1:
        raise ValueError(f"pixels is {pixels}; give the number of pixels of the image")
    matrix = split(bits, parts, slices)
    y, z = float(bits.sum()), float(z_bits.sum())
    found = {"total": z + y, "z": z, "y": y}
    found |= dict(zip(parts, matrix.sum(0).tolist(), strict=True))
    found |= {f"slice {i}": value for i, value in enumerate(matrix.sum(1).tolist())}
    whole = (z + y) or 1.0  # nothing is 0 % of nothing
    return [
        {"part": name, "bits": value, "bpp": value / pixels, "percent": 100 * value / whole}
        for name, value in found.items()
    ]


def difference(a: Array, b: Array) -> Array:
    """`b` - `a`, position by position: negative where `b` needs fewer bits.

    Raises
    ------
    ValueError
        When the maps have different shapes, as of two images.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"the maps are {a.shape} and {b.shape}; only runs on the same image with the same positions can be compared"
        )
    return np.asarray(b, dtype=float) - a


def _check(bits: Array) -> Array:
    bits = np.asarray(bits, dtype=np.float64)
    if bits.ndim != 3 or not bits.size:
        raise ValueError(f"bits have shape {bits.shape}; give (M, h, w): channels, rows, columns")
    return bits

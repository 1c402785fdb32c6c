"""What a global reference found, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lic_lab.tracing.taps import Record

Array = NDArray[Any]


@dataclass
class References:
    """What the global reference found for each latent position; NaN and -1 where it found or asked nothing.

    Attributes
    ----------
    source : array
        (h, w, 2), row and column of the reference.
    similarity, confidence : array
        S and U, (h, w).
    """

    source: Array
    similarity: Array
    confidence: Array


def found(records: Sequence[Record], slice: int, h: int, w: int) -> References:
    """From the taps ``reference.found``, of which there is one for each step that asked.

    Raises
    ------
    ValueError
        When there are none of this slice.
    """
    have = sorted({record.where.get("slice", 0) for record in records})
    if slice not in have:
        raise ValueError(
            f"this trace has no references of slice {slice}; it has those of {have or 'none'}. They come with the "
            "codec global-reference, or with global_='reference' on the shared latent"
        )
    out = np.full((3, h * w), np.nan)  # position of the reference, S, U
    for _, where, values in records:
        if where.get("slice", 0) == slice:
            out[:, where["positions"]] = np.where(values[1] > 0, values, np.nan)
    source = np.where(np.isnan(out[0]), -1, out[0]).astype(int)
    rows_columns = np.where(source[:, None] < 0, -1, np.stack((source // w, source % w), 1))
    return References(rows_columns.reshape(h, w, 2), out[1].reshape(h, w), out[2].reshape(h, w))

"""Masks of the checkerboard world: which positions are anchors, and which pairs may attend to each other.

All functions return boolean tensors in which True means "may be seen". They are the drawings of
MLIC's Figures 7 and 10 as code; the tests compare them with loops over positions.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PARITIES = ("even", "odd")


@lru_cache(maxsize=64)
def checkerboard(height: int, width: int, parity: str = "odd") -> Tensor:
    """Anchor positions of a checkerboard.

    Parameters
    ----------
    height, width : int
        Size of the latent in positions.
    parity : {"odd", "even"}
        Whether anchors are where ``i + j`` is odd [released code of MLIC++] or even [CompressAI].

    Returns
    -------
    Tensor
        Boolean (H, W), True at anchors.

    >>> checkerboard(2, 4).int().tolist()
    [[0, 1, 0, 1], [1, 0, 1, 0]]
    """
    if parity not in PARITIES:
        raise ValueError(f"parity is {parity!r}; it must be one of {PARITIES}")
    i = torch.arange(height)[:, None]
    j = torch.arange(width)[None, :]
    return (i + j) % 2 == (1 if parity == "odd" else 0)


@lru_cache(maxsize=8)
def window_pairs(kernel: int) -> Tensor:
    """Pairs inside a K x K window that may interact when its centre is a non-anchor (MLIC, Fig. 7).

    Anchors of such a window are the positions at odd city-block distance from the centre, whatever the parity
    of the board. Both the query and the key must be an anchor: no interaction between anchors
    and non-anchors, none among non-anchors.

    Returns
    -------
    Tensor
        Boolean (K*K, K*K), rows are queries and columns keys.
    """
    anchor = window_anchors(kernel)
    return anchor[:, None] & anchor[None, :]


@lru_cache(maxsize=8)
def window_anchors(kernel: int) -> Tensor:
    """Anchors, flattened (K*K,), of a K x K window centred on a non-anchor."""
    if kernel % 2 == 0:
        raise ValueError(f"kernel is {kernel}; a window needs a centre, so use an odd size")
    centre = kernel // 2
    i = torch.arange(kernel)[:, None]
    j = torch.arange(kernel)[None, :]
    return (((i - centre) + (j - centre)) % 2 == 1).flatten()


@lru_cache(maxsize=16)
def beyond_window(height: int, width: int, kernel: int) -> Tensor:
    """Pairs of positions further apart than the local receptive field (MLIC, Fig. 10).

    Returns
    -------
    Tensor
        Boolean (H*W, H*W): True where ``max(|di|, |dj|) > kernel // 2``. The global context must
        not see what the K x K local context covers, or it degrades to a local one (section 3.5.1).
    """
    i = torch.arange(height).repeat_interleave(width)
    j = torch.arange(width).repeat(height)
    reach = kernel // 2
    near = ((i[:, None] - i[None, :]).abs() <= reach) & ((j[:, None] - j[None, :]).abs() <= reach)
    return ~near

"""Masked attention in which a query may have nothing to look at."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last dimension of `scores` among `visible` entries; all zeros where none is.

    Parameters
    ----------
    scores : Tensor
        (..., n_queries, n_keys).
    visible : Tensor
        Boolean, broadcastable to `scores`: the additive mask of 0 and minus infinity of MLIC's Eq. 6, 9 and 12.
    """
    any_visible = visible.any(-1, keepdim=True)
    masked = scores.masked_fill(~visible & any_visible, -torch.inf)
    return masked.softmax(-1) * any_visible

"""Masked attention in which a query may have nothing to look at."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax over the last dimension of `scores` among `visible` entries; all zeros where none is.

    Parameters
    ----------
    scores : Tensor
        (..., n_queries, n_keys).
    visible : Tensor or None
        Boolean, broadcastable to `scores`: the additive mask of 0 and minus infinity of MLIC's Eq. 6, 9 and 12. None
        where all is visible.
    """
    if visible is None:
        return scores.softmax(-1)
    sighted = visible.any(-1, keepdim=True)  # a blind query would divide zero by zero
    bias = torch.zeros(visible.shape, dtype=scores.dtype, device=scores.device)
    weights = (scores + bias.masked_fill_(~visible & sighted, -torch.inf)).softmax(-1)
    return weights if sighted.all() else weights * sighted

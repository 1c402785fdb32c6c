"""Masked attention in which a query may have nothing to look at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.overrides import wrap_torch_function


class Mask(NamedTuple):
    """The additive mask of MLIC's Eq. 6, 9 and 12, made once for many calls.

    Attributes
    ----------
    bias : Tensor
        0 where visible, minus infinity where not; all 0 in the row of a query that sees nothing.
    sighted : Tensor or None
        Boolean (..., n_queries, 1), whether a query sees anything; None when all do.
    """

    bias: Tensor
    sighted: Tensor | None


def mask(visible: Tensor) -> Mask:
    """The mask of a boolean (..., n_queries, n_keys) that says which pairs may meet."""
    sighted = visible.any(-1, keepdim=True)  # a blind query would divide zero by zero
    bias = torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible & sighted, -torch.inf)
    return Mask(bias, None if sighted.all() else sighted)


def masked_softmax(scores: Tensor, hidden: Mask | None) -> Tensor:
    """Softmax over the last dimension of `scores` (..., n_queries, n_keys); zeros for a query that sees nothing.

    `scores` is overwritten.
    """
    if hidden is None:
        return scores.softmax(-1)
    weights = scores.add_(hidden.bias).softmax(-1)
    return weights if hidden.sighted is None else torch.where(hidden.sighted, weights, torch.zeros_like(weights[:1]))


@wrap_torch_function(lambda weights, values: (weights, values))
def attend(weights: Tensor, values: Tensor) -> Tensor:
    """``weights @ values``, for weights (..., n_queries, n_keys) >= 0 that sum to at most one for each query.

    It has a name of its own, because `layers.exact` computes it more finely than a product of any two matrices.
    """
    return weights @ values

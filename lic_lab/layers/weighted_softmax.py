"""Softmax with factors: the weights of a mixture some of whose components are trusted less."""

from __future__ import annotations

from torch import Tensor
from torch.overrides import wrap_torch_function


@wrap_torch_function(lambda logit, factor: (logit, factor))
def weighted_softmax(logit: Tensor, factor: Tensor) -> Tensor:
    """f_k e^l_k / sum_j f_j e^l_j over the last dimension, that is softmax(l + log f).

    One operation, because `layers.exact` has no logarithm, and rounds what softmax returns to another grid.

    Parameters
    ----------
    logit : Tensor
        (..., K).
    factor : Tensor
        Above zero, of a shape that broadcasts to the logits'.
    """
    weight = logit.softmax(-1) * factor
    found: Tensor = weight / weight.sum(-1, keepdim=True)
    return found

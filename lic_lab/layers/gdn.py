"""Generalized divisive normalization (Balle et al., ICLR 2016), CompressAI's layer with a form in exact arithmetic.

    GDN     w_i = u_i / (beta_i + sum_j gamma_ij u_j^2)^(1/2)
    IGDN    u_i = w_i (beta_i + sum_j gamma_ij w_j^2)^(1/2)

beta and gamma are CompressAI's parameters, kept non-negative by its reparametrisation. `layers.exact` knows the two
functions here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN as CompressAIsGDN
from torch import Tensor, nn
from torch.overrides import wrap_torch_function


@wrap_torch_function(lambda reparametrise, raw: (raw,))
def reparametrised(reparametrise: nn.Module, raw: Tensor) -> Tensor:
    """The non-negative parameter behind `raw`.

    A few operations on float32, element by element; as a function of its own because `layers.exact` would round each
    to its grid, which is meant for activations.
    """
    found: Tensor = reparametrise(raw)
    return found


@wrap_torch_function(lambda v, x, beta, gamma, inverse: (v, x, beta, gamma))
def normalised(v: Tensor, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
    """`v` over, or with `inverse` times, the root of each position's pool, beta_i + sum_j gamma_ij x_j^2.

    Parameters
    ----------
    v, x : Tensor
        (B, C, H, W).
    beta, gamma : Tensor
        (C,) and (C, C), not negative.
    inverse : bool
        As CompressAI's GDN has it: true to multiply.
    """
    pool = F.conv2d(x**2, gamma[:, :, None, None], beta)
    return v * (torch.sqrt(pool) if inverse else torch.rsqrt(pool))


class GDN(CompressAIsGDN):
    """CompressAI's layer, to the last bit, with an exact form; its inverse with ``inverse=True``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.by_pool(x, x)

    def by_pool(self, v: Tensor, x: Tensor) -> Tensor:
        """`v` normalised by the pool of `x`, both (B, C, H, W)."""
        beta = reparametrised(self.beta_reparam, self.beta)
        return normalised(v, x, beta, reparametrised(self.gamma_reparam, self.gamma), self.inverse)

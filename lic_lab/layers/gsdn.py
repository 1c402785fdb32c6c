"""Generalized subtractive and divisive normalization (Qian et al., ICLR 2021, section 4).

    GSDN    w_i = (u_i - (nu_i + sum_j tau_ij u_j)) / (beta_i + sum_j gamma_ij u_j^2)^(1/2)           Eq. 5
    IGSDN   u_i = w_i (beta_i + sum_j gamma_ij w_j^2)^(1/2) + (nu_i + sum_j tau_ij w_j)               Eq. 6

With nu = tau = 0 they are GDN and its inverse, so a trained GDN model becomes a GSDN model that computes the same, and
goes on learning: the paper's two-stage training (section 5.3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN as CompressAIsGDN
from torch import Tensor, nn

from lic_lab.layers.gdn import GDN


class GSDN(GDN):
    """Eq. 5, of u (B, C, H, W); Eq. 6 with ``inverse=True``.

    nu (C,) and tau (C, C) are free, and zero at first.
    """

    def __init__(self, in_channels: int, inverse: bool = False):
        super().__init__(in_channels, inverse=inverse)
        self.nu = nn.Parameter(torch.zeros(in_channels))
        self.tau = nn.Parameter(torch.zeros(in_channels, in_channels))

    def forward(self, x: Tensor) -> Tensor:
        shift = F.conv2d(x, self.tau[:, :, None, None], self.nu)  # (B, C, H, W)
        # GDN's denominator is that of u, not of the shifted u: Eq. 5 divides the difference by it.
        return self.by_pool(x, x) + shift if self.inverse else self.by_pool(x - shift, x)

    @classmethod
    def from_gdn(cls, gdn: CompressAIsGDN) -> GSDN:
        """The GSDN that computes what `gdn` does, with its parameters and nu = tau = 0."""
        found = cls(len(gdn.beta), inverse=bool(gdn.inverse))
        found.beta, found.gamma = gdn.beta, gdn.gamma
        return found


class IGSDN(GSDN):
    """Eq. 6."""

    def __init__(self, in_channels: int):
        super().__init__(in_channels, inverse=True)


def to_gsdn(module: nn.Module) -> int:
    """Replace every GDN inside `module`, in place, by the GSDN that computes the same; returns how many there were."""
    count = 0
    for name, child in module.named_children():
        if type(child) in (GDN, CompressAIsGDN):
            setattr(module, name, GSDN.from_gdn(child))
            count += 1
        else:
            count += to_gsdn(child)
    return count

"""h_a and h_s of MLIC: 3 x 3 convolutions and sub-pixel stages, GELU [released code of MLIC++]."""

from __future__ import annotations

from typing import Any

import torch
from compressai.layers import conv3x3, subpel_conv3x3
from torch import Tensor, nn


class HyperAnalysis(nn.Sequential):
    """h_a: y (B, M, h, w) to z (B, N_z, h/4, w/4); MLIC has N_z = N."""

    def __init__(self, M: int, N: int, z_channels: int):
        super().__init__(
            conv3x3(M, N),
            nn.GELU(),
            conv3x3(N, N),
            nn.GELU(),
            conv3x3(N, N, stride=2),
            nn.GELU(),
            conv3x3(N, N),
            nn.GELU(),
            conv3x3(N, z_channels, stride=2),
        )

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        """Divide the weights that read the latent by its `scale` (M,), so that training starts at unit spread."""
        first: Any = self[0]
        first.weight /= scale[:, None, None]


class HyperSynthesis(nn.Module):
    """h_s: z_hat (B, N_z, h/4, w/4) to Phi_h (B, out, h, w), `out` = 2M in MLIC."""

    def __init__(self, z_channels: int, N: int, out_channels: int):
        super().__init__()
        self.net = nn.Sequential(
            conv3x3(z_channels, N),
            nn.GELU(),
            subpel_conv3x3(N, N, 2),
            nn.GELU(),
            conv3x3(N, N * 3 // 2),
            nn.GELU(),
            subpel_conv3x3(N * 3 // 2, N * 3 // 2, 2),
            nn.GELU(),
            conv3x3(N * 3 // 2, out_channels),
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        hyper: Tensor = self.net(z_hat)
        return hyper

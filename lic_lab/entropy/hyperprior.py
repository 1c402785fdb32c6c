"""The hyperprior: side information z and the features Phi_h it gives to every symbol (Balle et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lic_lab.entropy.factorized import decoded
from lic_lab.layers.exact import exact
from lic_lab.layers.tap import tap


@dataclass
class Side:
    """What the hyperprior has coded.

    Attributes
    ----------
    hyper : Tensor
        Phi_h, (B, C_h, H/16, W/16).
    likelihoods : Tensor or None
        Of z, (B, N, H/64, W/64); None without a hyperprior.
    """

    hyper: Tensor
    likelihoods: Tensor | None = None


class Hyperprior(nn.Module):
    """y -> h_a -> z -> z_hat -> h_s -> Phi_h, with CompressAI's factorised entropy bottleneck for z.

    Parameters
    ----------
    h_a, h_s : Module
    N : int
        Channels of z.
    """

    def __init__(self, h_a: nn.Module, h_s: nn.Module, N: int):
        super().__init__()
        self.h_a, self.h_s = h_a, h_s
        self.bottleneck = EntropyBottleneck(N)

    def forward(self, y: Tensor) -> Side:
        """Estimate: noise for the rate in training, rounded z for everything else."""
        z = self.h_a(y)
        z_noisy, likelihoods = self.bottleneck(z)
        medians = self.bottleneck._get_medians().reshape(1, -1, 1, 1)
        z_hat = torch.round(z - medians) + medians
        if self.training:
            z_hat = z + (z_hat - z).detach()
        tap("z", z_hat)
        tap("z.likelihoods", likelihoods)
        return Side(self.h_s(z_hat), likelihoods)

    def compress(self, y: Tensor) -> tuple[list[bytes], tuple[int, int]]:
        """z's strings, one per image, and its size, which the decoder needs."""
        z = self.h_a(y)
        return self.bottleneck.compress(z), (z.shape[2], z.shape[3])

    def decompress(self, strings: list[bytes], size: tuple[int, int]) -> Tensor:
        """Phi_h, in exact arithmetic, from z's strings."""
        z_hat = decoded(self.bottleneck, strings, size)
        with exact():
            hyper: Tensor = self.h_s(z_hat.double())
        return hyper

"""The hyperprior: side information z and the features Phi_h it gives to every symbol (Balle et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
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
        Phi_h, (B, C_h, h, w).
    likelihoods : Tensor or None
        Of z, (B, N, ceil(h/4), ceil(w/4)); None without a hyperprior.
    """

    hyper: Tensor
    likelihoods: Tensor | None = None


class Hyperprior(nn.Module):
    """y -> h_a -> z -> z_hat -> h_s -> Phi_h, with CompressAI's factorised entropy bottleneck for z.

    z covers y of any size h x w with ceil(h/4) x ceil(w/4) positions; what h_s gives beyond y is cut off.

    Parameters
    ----------
    h_a, h_s : Module
    N : int
        Channels of z.
    filters : sequence of int
        Widths of the network that gives z's distributions.
    """

    stride = 4  # positions of y to a position of z, along each side

    def __init__(self, h_a: nn.Module, h_s: nn.Module, N: int, filters: Sequence[int] = (3, 3, 3, 3)):
        super().__init__()
        self.h_a, self.h_s = h_a, h_s
        self.bottleneck = EntropyBottleneck(N, filters=tuple(filters))

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
        return Side(self.features(z_hat, (y.shape[2], y.shape[3])), likelihoods)

    def features(self, z_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """Phi_h (B, C_h, *size) for a y of this size."""
        hyper: Tensor = self.h_s(z_hat)[:, :, : size[0], : size[1]]
        return hyper

    def compress(self, y: Tensor) -> list[bytes]:
        """z's strings, one per image."""
        strings: list[bytes] = self.bottleneck.compress(self.h_a(y))
        return strings

    def decompress(self, strings: list[bytes], size: tuple[int, int]) -> Tensor:
        """Phi_h (B, C_h, *size), in exact arithmetic, from z's strings and the size of y."""
        z_hat = decoded(self.bottleneck, strings, (-(-size[0] // self.stride), -(-size[1] // self.stride)))
        with exact():
            return self.features(z_hat.double(), size)

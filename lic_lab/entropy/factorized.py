"""The factorized entropy model: all symbols of a channel share one learned distribution (Balle et al. 2018, 6.1)."""

from __future__ import annotations

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.model import Coded
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.rans import bounded
from lic_lab.layers.tap import recording, tap


class FactorizedEntropy(nn.Module):
    """CompressAI's entropy bottleneck in the place of an `EntropyModel`: one step, no context.

    `hyper` is (B, 0, H, W): there is no side information, it tells the size.

    Parameters
    ----------
    M : int
        Channels of the latent.
    """

    def __init__(self, M: int):
        super().__init__()
        self.bottleneck = EntropyBottleneck(M)
        self.order = CodingOrder((M,))
        self.selection: dict[str, str] = {}

    def active(self) -> dict[str, Context]:
        """The contexts in use: none."""
        return {}

    def forward(self, y: Tensor, hyper: Tensor) -> Coded:
        """Estimate: likelihood of every symbol of `y` (B, M, H, W), noisy in training, exact in evaluation."""
        _, likelihoods = self.bottleneck(y)
        medians = self.bottleneck._get_medians().reshape(1, -1, 1, 1)
        y_hat = torch.round(y - medians) + medians
        if recording():
            for name, of in zip(("coded.mean", "coded.deviation"), coded_moments(self.bottleneck), strict=True):
                tap(name, of.reshape(1, -1, 1, 1).expand_as(y))
            tap("symbols", y_hat)
        return Coded(y + (y_hat - y).detach() if torch.is_grad_enabled() else y_hat, likelihoods)

    def compress(self, y: Tensor, hyper: Tensor) -> tuple[list[bytes], Tensor]:
        """Code `y`: one string per image, and y_hat."""
        strings = self.bottleneck.compress(y)
        return strings, self.decompress(strings, hyper)

    def decompress(self, strings: list[bytes], hyper: Tensor) -> Tensor:
        """y_hat (B, M, H, W) from the strings."""
        return decoded(self.bottleneck, strings, (hyper.shape[2], hyper.shape[3]))


@torch.no_grad()
def coded_moments(bottleneck: EntropyBottleneck) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel's symbols, (M,) each, summed over where its mass is."""
    low, median, high = bottleneck.quantiles[:, 0].unbind(1)
    reach = int(torch.maximum(high - median, median - low).max().ceil())
    k = torch.arange(-reach, reach + 1, device=median.device) + median[:, None]  # (M, values)
    p = bottleneck._likelihood(k[:, None])[0][:, 0]
    p = p / p.sum(1, keepdim=True)
    mean = (p * k).sum(1)
    return mean, (p * (k - mean[:, None]) ** 2).sum(1).sqrt()


def decoded(bottleneck: EntropyBottleneck, strings: list[bytes], size: tuple[int, int]) -> Tensor:
    """Symbols (B, N, *size) of a bottleneck's strings, whatever bytes they are."""
    symbols = bottleneck.channels * size[0] * size[1]
    found: Tensor = bottleneck.decompress([bounded(string, symbols) for string in strings], size)
    return found

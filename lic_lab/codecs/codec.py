"""A codec: transform, hyperprior and entropy model behind CompressAI's interface.

    x --g_a--> y --h_a--> z --EB--> z_hat --h_s--> Phi_h
               |                                     |
               +------------- entropy model ---------+--> y_hat --g_s--> x_hat
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from compressai.models import CompressionModel
from torch import Tensor, nn

from lic_lab.entropy.hyperprior import Hyperprior, Side
from lic_lab.entropy.model import Coded, EntropyModel
from lic_lab.layers.tap import tap


class Codec(CompressionModel):
    """A learned image codec made of swappable parts.

    Parameters
    ----------
    g_a, g_s : Module
        Analysis and synthesis transform.
    hyperprior : Hyperprior
    entropy : EntropyModel
    name, size : str
        As in the registry.
    """

    stride = 64  # images are padded to multiples of this

    def __init__(
        self, g_a: nn.Module, g_s: nn.Module, hyperprior: Hyperprior, entropy: EntropyModel, name: str, size: str
    ):
        super().__init__()
        self.g_a, self.g_s, self.hyperprior, self.entropy = g_a, g_s, hyperprior, entropy
        self.name, self.size = name, size

    @property
    def downsampling_factor(self) -> int:
        """Multiple to which CompressAI's tools pad an image."""
        return self.stride

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Estimate for images (B, 3, H, W) in [0, 1], H and W multiples of 64.

        Returns
        -------
        dict
            ``x_hat`` (B, 3, H, W), not clipped, and ``likelihoods`` with ``y`` (B, M, H/16, W/16) and ``z``.
        """
        y = tap("y", self.g_a(self._checked(x)))
        side = self.side(y)
        coded = self.entropy(y, side.hyper)
        tap("y_hat", coded.y_hat)
        return {"x_hat": self.g_s(coded.y_hat), "likelihoods": {"y": coded.likelihoods, "z": side.likelihoods}}

    def side(self, y: Tensor) -> Side:
        """What the hyperprior tells about `y` (B, M, H/16, W/16), estimated."""
        found: Side = self.hyperprior(y)
        return found

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Code images: ``strings`` [y strings, z strings], one of each per image, and ``shape`` of z."""
        x = self._checked(x)
        with torch.no_grad():
            y = self.g_a(x)
            side, size = self.hyperprior.compress(y)
            strings, _ = self.entropy.compress(y, side.hyper)
        return {"strings": [strings, side.strings], "shape": size}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """``x_hat`` (B, 3, H, W) in [0, 1] from what `compress` returned."""
        with torch.no_grad():
            hyper = self.hyperprior.decompress(strings[1], tuple(shape))
            y_hat = self.entropy.decompress(strings[0], hyper)
            return {"x_hat": self.g_s(y_hat).clamp(0, 1)}

    def swap(self, **choice: str) -> Codec:
        """The same codec with other components: ``codec.swap(local="attention")``. Weights are shared, not copied."""
        return self._with(self.entropy.select(**choice))

    def _with(self, entropy: EntropyModel) -> Codec:
        other = copy.copy(self)
        other._modules = {**self._modules, "entropy": entropy}
        return other

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(x.shape)}; give (B, 3, H, W) in [0, 1]")
        H, W = x.shape[2:]
        if H % self.stride or W % self.stride or not H or not W:
            raise ValueError(
                f"image is {H} x {W}; both sides must be multiples of {self.stride}: pad it, or use lab.trace, which pads"
            )
        return x.contiguous()  # channels-last input corrupts the heap inside torch 2.15's CPU convolutions


__all__ = ["Coded", "Codec", "Side"]

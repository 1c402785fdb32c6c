"""A codec: transform, hyperprior and entropy model behind CompressAI's interface.

    x --g_a--> y --h_a--> z --EB--> z_hat --h_s--> Phi_h
               |                                     |
               +------------- entropy model ---------+--> y_hat --g_s--> x_hat

Without a hyperprior the middle is empty and only y is coded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import CompressionModel
from torch import Tensor, nn

from lic_lab.entropy.factorized import FactorizedEntropy
from lic_lab.entropy.hyperprior import Hyperprior, Side
from lic_lab.entropy.model import Coded, EntropyModel
from lic_lab.layers.memory import kept
from lic_lab.layers.tap import tap


class Codec(CompressionModel):
    """A learned image codec made of swappable parts.

    A published system is a subclass whose constructor takes its dimensions and builds the parts; it names its sizes
    in `SIZES` and reads the dimensions off a state dict in `dimensions`.

    Parameters
    ----------
    g_a, g_s : Module
        Analysis and synthesis transform.
    hyperprior : Hyperprior or None
    entropy : EntropyModel or FactorizedEntropy
    name, size : str
        As in the registry.
    """

    stride = 64  # images are padded to multiples of this
    SIZES: ClassVar[dict[str, dict[str, int]]] = {}  # size -> keyword arguments of the class

    def __init__(
        self,
        g_a: nn.Module,
        g_s: nn.Module,
        hyperprior: Hyperprior | None,
        entropy: EntropyModel | FactorizedEntropy,
        name: str,
        size: str,
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
        likelihoods = {"y": coded.likelihoods}
        if side.likelihoods is not None:
            likelihoods["z"] = side.likelihoods
        return {"x_hat": self.g_s(coded.y_hat), "likelihoods": likelihoods}

    def side(self, y: Tensor) -> Side:
        """What the hyperprior tells about `y` (B, M, H/16, W/16), estimated; no channels without a hyperprior."""
        side: Side = Side(y[:, :0]) if self.hyperprior is None else self.hyperprior(y)
        return side

    @kept()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Code images: ``strings`` [y strings, z strings], one of each per image, and ``shape`` of z (else of y).

        Raises
        ------
        RuntimeError
            When the coder's tables are missing, because `update` has not run.
        """
        coded = [self.encode(image) for image in self._checked(x).split(1)]
        return {
            "strings": [list(of_kind) for of_kind in zip(*(c.strings for c in coded), strict=True)],
            "shape": coded[0].shape,
        }

    @kept()
    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """``x_hat`` (B, 3, H, W) in [0, 1] from what `compress` returned.

        Raises
        ------
        RuntimeError
            When the coder's tables are missing, because `update` has not run.
        """
        pictures = [self.picture(self.decode(of_image, shape)) for of_image in zip(*strings, strict=True)]
        return {"x_hat": torch.cat(pictures)}

    @kept()
    @torch.no_grad()
    def encode(self, x: Tensor) -> CodedImage:
        """Code one image (1, 3, H, W).

        Everything that a decoder repeats is computed in exact arithmetic, so that it decodes the same symbols on any
        machine (see `lic_lab.layers.exact`). What only the encoder does, g_a and h_a, is not.
        """
        self._check_updated()
        y = self.g_a(self._checked(x))
        if self.hyperprior is None:
            strings, y_hat = self.entropy.compress(y, y[:, :0])
            return CodedImage((strings[0],), (y.shape[2], y.shape[3]), y_hat)
        z_strings, shape = self.hyperprior.compress(y)
        y_strings, y_hat = self.entropy.compress(y, self._hyper(z_strings[0], shape))
        return CodedImage((y_strings[0], z_strings[0]), shape, y_hat)

    @kept()
    @torch.no_grad()
    def decode(self, strings: Sequence[bytes], shape: tuple[int, int]) -> Tensor:
        """The refined latent y_hat (1, M, H/16, W/16), bit by bit the encoder's, from the strings of one image."""
        self._check_updated()
        if self.hyperprior is None:
            weight = next(self.parameters())
            return self.entropy.decompress([strings[0]], weight.new_empty(1, 0, *shape))
        return self.entropy.decompress([strings[0]], self._hyper(strings[1], shape))

    @kept()
    @torch.no_grad()
    def picture(self, y_hat: Tensor) -> Tensor:
        """x_hat (B, 3, H, W) in [0, 1] from y_hat (B, M, H/16, W/16)."""
        x_hat: Tensor = self.g_s(y_hat.float()).clamp(0, 1)
        return x_hat

    def _hyper(self, string: bytes, shape: tuple[int, int]) -> Tensor:
        """Phi_h (1, C_h, H/16, W/16) from z's string, in exact arithmetic."""
        assert self.hyperprior is not None
        return self.hyperprior.decompress([string], (int(shape[0]), int(shape[1])))

    @classmethod
    def build(cls, size: str) -> Codec:
        """One of the class's `SIZES`, with random weights."""
        make: Callable[..., Codec] = cls
        return make(**cls.SIZES[size])

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> Codec:
        """The codec whose size fits `state_dict`, with these weights."""
        make: Callable[..., Codec] = cls
        codec = make(**cls.dimensions(state_dict))
        codec.load_state_dict(state_dict)
        return codec

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        """Keyword arguments of the class that make a codec for these weights."""
        return {}

    @classmethod
    def size_name(cls, **dimensions: int) -> str:
        """The size with these dimensions, or "custom"."""
        return next((name for name, size in cls.SIZES.items() if size == dimensions), "custom")

    def swap(self, **choice: str) -> Self:
        """The same codec with other components: ``codec.swap(local="attention")``. Weights are shared, not copied.

        Raises
        ------
        ValueError
            For a component the codec does not have, or has no weights for.
        """
        if not isinstance(self.entropy, EntropyModel):
            raise ValueError(f"{self.name} has no components to swap: its entropy model looks at nothing")
        other = copy.copy(self)
        other._modules = {**self._modules, "entropy": self.entropy.select(**choice)}
        return other

    def _check_updated(self) -> None:
        if any(m.offset.numel() == 0 for m in self.modules() if isinstance(m, EntropyBottleneck)):
            raise RuntimeError(
                f"{self.name} can't code yet: its tables are missing. Call codec.update() once, after training or "
                "loading weights and before compress or decompress"
            )

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(x.shape)}; give (B, 3, H, W) in [0, 1]")
        H, W = x.shape[2:]
        if H % self.stride or W % self.stride or not H or not W:
            raise ValueError(
                f"image is {H} x {W}; both sides must be multiples of {self.stride}: pad it with lic_lab.image.pad, "
                "or use lab.trace, which pads"
            )
        return x.contiguous()  # channels-last input corrupts the heap inside torch 2.15's CPU convolutions


@dataclass(frozen=True)
class CodedImage:
    """One image as coded.

    Attributes
    ----------
    strings : tuple of bytes
        Of y and, with a hyperprior, of z.
    shape : tuple of int
        Rows and columns of z (of y without a hyperprior).
    y_hat : Tensor
        (1, M, H/16, W/16), refined: what the decoder will have.
    """

    strings: tuple[bytes, ...]
    shape: tuple[int, int]
    y_hat: Tensor


__all__ = ["Coded", "CodedImage", "Codec", "Side"]

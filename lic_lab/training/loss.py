"""The rate-distortion loss of CompressAI's models, L = lambda 255^2 MSE + bpp (MLIC, Eq. 1), and its two halves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lic_lab.codecs.codec import Codec


def bits(likelihoods: Tensor) -> Tensor:
    """Sum of -log2 of the likelihoods."""
    return torch.log(likelihoods).sum() / -math.log(2)


def bits_per_pixel(likelihoods: Tensor, x: Tensor) -> Tensor:
    """Bits of what has these likelihoods, per pixel of images (B, 3, H, W)."""
    return bits(likelihoods) / (x.shape[0] * x.shape[2] * x.shape[3])


def rate(likelihoods: Mapping[str, Tensor | None], x: Tensor) -> dict[str, Tensor]:
    """``loss``, which is ``bpp``, and ``bpp_z`` for a codec's likelihoods ``y`` and ``z`` of images `x`."""
    rates = {name: bits_per_pixel(p, x) for name, p in likelihoods.items() if p is not None}
    bpp = torch.stack(list(rates.values())).sum()
    return {"loss": bpp, "bpp": bpp, "bpp_z": rates.get("z", bpp * 0)}


def latent_rate(codec: Codec, y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """`rate` of the latents `y` of images `x`: what trains an entropy model alone."""
    side = codec.side(y)
    return rate({"y": codec.entropy(y, side.hyper).likelihoods, "z": side.likelihoods}, x)


def distortion(x_hat: Tensor, x: Tensor, lmbda: float) -> dict[str, Tensor]:
    """``loss`` and ``mse`` (of values in [0, 1]) of decoded images."""
    mse = torch.nn.functional.mse_loss(x_hat, x)
    return {"loss": lmbda * 255**2 * mse, "mse": mse}


def rate_distortion(out: dict[str, Any], x: Tensor, lmbda: float) -> dict[str, Tensor]:
    """``loss``, ``bpp``, ``bpp_z`` and ``mse`` of a codec's output for images `x`."""
    r, d = rate(out["likelihoods"], x), distortion(out["x_hat"], x, lmbda)
    return r | d | {"loss": d["loss"] + r["loss"]}

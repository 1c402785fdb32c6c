"""The rate-distortion loss of CompressAI's models: L = lambda 255^2 MSE + bpp (MLIC, Eq. 1)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)  # for MSE [paper, section 4.1]


def bits(likelihoods: Tensor) -> Tensor:
    """Sum of -log2 of the likelihoods."""
    return torch.log(likelihoods).sum() / -math.log(2)


def rate_distortion(out: dict[str, Any], x: Tensor, lmbda: float) -> dict[str, Tensor]:
    """``loss``, ``bpp``, ``bpp_z`` and ``mse`` (of values in [0, 1]) of a codec's output for images `x`."""
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    rates = {name: bits(p) / pixels for name, p in out["likelihoods"].items() if p is not None}
    mse = torch.nn.functional.mse_loss(out["x_hat"], x)
    bpp = torch.stack(list(rates.values())).sum()
    return {"loss": lmbda * 255**2 * mse + bpp, "bpp": bpp, "bpp_z": rates.get("z", bpp * 0), "mse": mse}

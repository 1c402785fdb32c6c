"""Feed-forward network of a transformer block, with its shortcut."""

from __future__ import annotations

from torch import Tensor, nn


class FeedForward(nn.Module):
    """x + W2 GELU(W1 x) over the last dimension, expanding `ratio` times (2 [released code of MLIC++])."""

    def __init__(self, dim: int, ratio: int = 2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)

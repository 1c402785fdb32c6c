"""Adaptive resolution of AICT (Ghorbel et al. 2023, section III-B): the parts around a codec.

    x --filter--> --resample--> x_d  ...codec...  x_hat_d --resample--> --filter--> x_hat
    x --ResizeNetwork--> s

The network has three residual blocks and ends in the mean over positions and channels (after Chen et al. 2022). The
filters are ConvNeXt blocks, whose layer scale starts at nothing [released code]. The network reads the picture in
[0, 1], as Chen et al.'s, where the released code has 0 to 255, and starts with torch's weights; how s follows is ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LEAST = 0.25  # of s [ours]: the released code has no bound, so that 0 gives an infinite picture
START = 0.98  # of s, before training [ours]
LAYER_SCALE = 1e-6  # [released code]


class _Block(nn.Module):
    """Two 3 x 3 convolutions with BN and ReLU beside one without, then the maximum of each 2 x 2."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )
        self.beside = nn.Conv2d(channels, out, 3, padding=1)
        self.pool = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.main(x) + self.beside(x))
        return out


class ResizeNetwork(nn.Module):
    """r_s: images (B, 3, H, W) in [0, 1] to s (B,), above `LEAST` and at most `START`.

    The mean m >= 0 of the last block goes through LEAST + (1 - LEAST) sigmoid(m_0 - m) [ours]; the paper has a ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_Block(3, 16), _Block(16, 32), _Block(32, 64))
        share = (START - LEAST) / (1 - LEAST)
        self.register_buffer("start", torch.tensor(math.log(share / (1 - share))))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.blocks(x).mean((1, 2, 3))  # (B,)
        return LEAST + (1 - LEAST) * torch.sigmoid(self.start - mean)


class _ConvNeXt(nn.Module):
    """x + scale W2 GELU(W1 LN(depthwise 7 x 7 x)), at the resolution of the picture (Liu et al. 2022)."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)  # its weights stay fine in `exact`
        nn.init.constant_(self.scale.weight, LAYER_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        found = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        out: Tensor = x + self.scale(found)
        return out


class Filter(nn.Sequential):
    """a_d before a picture is made small, a_u after it is made large again: three ConvNeXt blocks on (B, 3, H, W).

    Their result is added to the picture [released code]; the paper's text says concatenated.
    """

    def __init__(self) -> None:
        super().__init__(*(_ConvNeXt(3) for _ in range(3)))


class Resizing(nn.Module):
    """The three parts together, as `codecs.codec.Codec` takes them: `network`, `before` and `after`."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.before, self.after = ResizeNetwork(), Filter(), Filter()

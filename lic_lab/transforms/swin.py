"""Swin transforms of Zhu et al. 2022 (SwinT-ChARM), as Ghorbel et al. 2023 (ICT) have them.

    x (B, 3, H, W)                                             x_hat (B, 3, H, W)
      2 x 2 convolution /2 3->C0,   2 blocks                      2 blocks,   split x2 C0->3
      merge /2 C0->C1,              2 blocks                      2 blocks,   split x2 C1->C0
      merge /2 C1->C2,              6 blocks                      6 blocks,   split x2 C2->C1
      merge /2 C2->C3,              2 blocks                      2 blocks,   split x2 C3->C2
    y (B, C3, H/16, W/16)                                      y_hat (B, C3, H/16, W/16)

Windows of 8 in g_a and g_s, of 4 in h_a and h_s; heads have 32 channels; blocks in turn plain and shifted; merging and
splitting [released code]. Linear layers of the blocks start as there, others as torch's. The maps are (B, H, W, C)
between the stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lic_lab.layers.swin import PatchMerging, PatchSplitting, blocks

WINDOW, HYPER_WINDOW, HEAD = 8, 4, 32  # positions a side, channels of a head [released code]


class _Stages(nn.Sequential):
    """Layers on (B, H, W, C) between maps (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2).contiguous()


class Embedding(nn.Conv2d):
    """2 x 2 positions become one: (B, C, H, W) to (B, out, ceil(H/2), ceil(W/2)), zeros behind an odd last row."""

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)))


class Analysis(nn.Sequential):
    """g_a: image (B, 3, H, W) in [0, 1] to latent y (B, widths[-1], H/16, W/16).

    Parameters
    ----------
    widths, depths : sequence of four int
        Channels and blocks of the stages, at strides 2, 4, 8 and 16.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]):
        layers = blocks(widths[0], widths[0] // HEAD, WINDOW, depths[0])
        for (before, dim), depth in zip(pairwise(widths), depths[1:], strict=True):
            layers += [PatchMerging(before, dim), *blocks(dim, dim // HEAD, WINDOW, depth)]
        super().__init__(Embedding(3, widths[0]), _Stages(*layers))


class Synthesis(_Stages):
    """g_s: latent y_hat (B, widths[-1], H/16, W/16) to image (B, 3, H, W), not clipped. See `Analysis`."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]):
        layers: list[nn.Module] = []
        for (after, dim), depth in zip(pairwise(widths), depths[1:], strict=True):
            layers = [*blocks(dim, dim // HEAD, WINDOW, depth), PatchSplitting(dim, after), *layers]
        layers += [*blocks(widths[0], widths[0] // HEAD, WINDOW, depths[0]), PatchSplitting(widths[0], 3, "none")]
        super().__init__(*layers)


class HyperAnalysis(nn.Sequential):
    """h_a: y (B, M, h, w) to z (B, N, ceil(h/4), ceil(w/4)).

    Parameters
    ----------
    M, N : int
    depths : sequence of two int
        Blocks at strides 2 and 4.
    """

    def __init__(self, M: int, N: int, depths: Sequence[int] = (5, 1)):
        fine, coarse = (blocks(N, N // HEAD, HYPER_WINDOW, depth) for depth in depths)
        super().__init__(Embedding(M, N), _Stages(*fine, PatchMerging(N, N), *coarse))


class HyperSynthesis(_Stages):
    """h_s: z_hat (B, N, h/4, w/4) to Phi_h (B, out, h, w). See `HyperAnalysis`."""

    def __init__(self, N: int, out: int, depths: Sequence[int] = (5, 1)):
        fine, coarse = (blocks(N, N // HEAD, HYPER_WINDOW, depth) for depth in depths)
        super().__init__(*coarse, PatchSplitting(N, N), *fine, PatchSplitting(N, out, "none"))

"""Winograd's minimal filtering F(2x2, 3x3) on integers: a 3 x 3 convolution with 4 products an output instead of 9.

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016: a tile d of 4 x 4 inputs gives 2 x 2
outputs A^T [(G g G^T) * (B^T d B)] A. In floating point that loses digits; on integers whose sums stay below 2^53
nothing is rounded, so it is the convolution itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 2  # bits: G has halves; doubled it keeps integers, and results are four times the convolution's
GROWTH = 2  # bits by which B^T d B may exceed d: each of its entries adds up four of d's
BAND = 16  # rows of tiles at a time, which bounds the memory


def transformed(g: Tensor) -> Tensor:
    """4 G g G^T of integer kernels `g` (O, C, 3, 3): (16, O, C) of the same type."""
    for dim in (2, 3):  # G g, then (G g) G^T: (O, C, 4, 4) in the end
        g0, g1, g2 = g.unbind(dim)
        g = torch.stack((2 * g0, g0 + g1 + g2, g0 - g1 + g2, 2 * g2), dim)
    return g.flatten(2).permute(2, 0, 1).contiguous()


def largest_sum(kernels: Tensor) -> int:
    """Largest sum of absolute weights behind one output, for integer `kernels` (16, O, C) of `transformed`."""
    cells = kernels.abs().sum(2).view(4, 4, -1)
    for _ in range(2):  # A^T adds up three of four
        cells = torch.stack((cells[:3].sum(0), cells[1:].sum(0)), 1)
    return int(cells.max())


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Four times the convolution of integer `x` (B, C, H, W), zeros around it, by `transformed` kernels (16, O, C).

    (B, O, H, W).
    """
    B, C, H, W = x.shape
    O = kernels.shape[1]  # noqa: E741
    tiles, across = (H + 1) // 2, (W + 1) // 2
    x = F.pad(x.transpose(0, 1), (1, 1 + W % 2, 1, 1 + H % 2))  # (C, B, 2 tiles + 2, 2 across + 2)
    out = x.new_empty(O, B, 2 * tiles, 2 * across)
    for top in range(0, tiles, BAND):
        n = min(BAND, tiles - top)
        d = x[:, :, 2 * top : 2 * (top + n) + 2]
        half = x.new_empty(4, C, B, n, 2 * across + 2)
        v = x.new_empty(4, 4, C, B, n, across)
        even, odd = d[:, :, 0::2], d[:, :, 1::2]
        _differences(even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:], half)  # B^T d
        even, odd = half[..., 0::2], half[..., 1::2]
        _differences(even[..., :-1], odd[..., :-1], even[..., 1:], odd[..., 1:], v.transpose(0, 1))  # (B^T d) B
        m = torch.bmm(kernels, v.view(16, C, -1)).view(4, 4, O, B, n, across)
        rows = torch.stack(_sums(m))  # (2, 4, O, B, n, across)
        for column, y in enumerate(_sums(rows.transpose(0, 1))):  # (2, O, B, n, across)
            for row in range(2):
                out[:, :, 2 * top + row : 2 * (top + n) : 2, column::2] = y[row]
    return out[:, :, :H, :W].transpose(0, 1)


def _differences(d0: Tensor, d1: Tensor, d2: Tensor, d3: Tensor, out: Tensor) -> None:
    """B^T d into `out` (4, ...)."""
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])


def _sums(m: Tensor) -> tuple[Tensor, Tensor]:
    """A^T m, of m (4, ...)."""
    return (m[1] + m[2]).add_(m[0]), (m[1] - m[2]).sub_(m[3])

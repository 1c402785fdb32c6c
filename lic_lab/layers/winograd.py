"""Winograd's minimal filtering F(2x2, 3x3) on fixed-point numbers: 3 x 3 convolution with 4 products an output, not 9.

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016: a tile d of 4 x 4 inputs gives 2 x 2
outputs A^T [(G g G^T) * (B^T d B)] A. In floating point that loses digits; on fixed-point numbers whose sums stay below
2^53 steps nothing is rounded, so it is the convolution itself.

The picture is computed in bands, so that what is between input and output stays in the processor's cache. Columns come
apart by parity at once, so that each step but the first and the last goes through memory in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lic_lab.layers.fixed_point import operand, to_grid_
from lic_lab.layers.threads import side_by_side

SCALE = 2  # bits: G has halves; four times G g G^T is whole
GROWTH = 2  # bits by which B^T d B may exceed d: each of its entries adds up four of d's
BAND = 2**20  # entries of B^T d B, or of what comes of them, at a time: 8 MB
WORTH_THREADS = 2**26  # products


def transformed(g: Tensor) -> Tensor:
    """4 G g G^T of kernels `g` (O, C, 3, 3): (16, O, C) of the same type."""
    for dim in (2, 3):  # G g, then (G g) G^T: (O, C, 4, 4) in the end
        g0, g1, g2 = g.unbind(dim)
        g = torch.stack((2 * g0, g0 + g1 + g2, g0 - g1 + g2, 2 * g2), dim)
    return g.flatten(2).permute(2, 0, 1).contiguous()


def sums(kernels: Tensor) -> Tensor:
    """Sums of absolute weights behind each output, of `kernels` (16, O, C) of `transformed`."""
    cells = kernels.abs().sum(2).view(4, 4, -1)
    for _ in range(2):  # A^T adds up three of four
        cells = torch.stack((cells[:3].sum(0), cells[1:].sum(0)), 1)
    return cells


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of `x` (B, C, H, W) with zeros around it, both rounded to the grid: (B, O, H, W), float64.

    Parameters
    ----------
    kernels : Tensor
        G g G^T (16, O, C).
    bias : Tensor or None
        (O,).
    """
    (B, C, H, W), O = x.shape, kernels.shape[1]  # noqa: E741
    down, across = (H + 1) // 2, (W + 1) // 2  # tiles
    out = torch.empty(B, O, H, W, dtype=torch.float64, device=x.device)
    band = max(1, BAND // (16 * max(C, O) * across))
    if worthwhile := 16 * C * O * down * across >= WORTH_THREADS:
        band = min(band, -(-down // torch.get_num_threads()))

    def compute(at: tuple[int, int]) -> None:
        b, top = at
        n = min(band, down - top)
        odd, even = _columns(x[b], 2 * top - 1, 2 * n + 2, across + 1)
        d = _differences(odd[..., :-1], even[..., :-1], odd[..., 1:], even[..., 1:])  # d B (4, C, 2n + 2, across)
        even, odd = d[:, :, 0::2], d[:, :, 1::2]
        d = _differences(even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:])  # (4, 4, C, n, across)
        m = torch.bmm(kernels, d.view(16, C, n * across)).view(4, 4, O, n, across)
        for row, of_row in enumerate(_sums(m)):
            for column, y in enumerate(_sums(of_row)):  # (O, n, across)
                y = to_grid_(y if bias is None else y.add_(bias[:, None, None]))
                pixels = out[b, :, 2 * top + row : 2 * (top + n) : 2, column::2]
                pixels.copy_(y[:, : pixels.shape[1], : pixels.shape[2]])

    side_by_side(compute, [(b, top) for b in range(B) for top in range(0, down, band)], x.device, worthwhile)
    return out


def _columns(x: Tensor, top: int, rows: int, n: int) -> Tensor:
    """Columns -1, 1, 3 ... and 0, 2, 4 ... of `rows` from `top` of `x` (C, H, W), zeros around: (2, C, rows, n)."""
    C, H, W = x.shape
    d = torch.zeros(2, C, rows, n, dtype=torch.float64, device=x.device)
    inside = slice(max(0, -top), min(rows, H - top))
    x = x[:, max(0, top) : top + rows]
    operand(x[..., 1::2], out=d[0, :, inside, 1 : 1 + W // 2])
    operand(x[..., 0::2], out=d[1, :, inside, : (W + 1) // 2])
    return d


def _differences(d0: Tensor, d1: Tensor, d2: Tensor, d3: Tensor) -> Tensor:
    """B^T d, (4, ...)."""
    out = d0.new_empty(4, *d0.shape)
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])
    return out


def _sums(m: Tensor) -> tuple[Tensor, Tensor]:
    """A^T m, of m (4, ...)."""
    return (m[1] + m[2]).add_(m[0]), (m[1] - m[2]).sub_(m[3])

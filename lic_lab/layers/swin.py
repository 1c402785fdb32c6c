"""Swin Transformer blocks (Liu et al. 2021) for maps of any size, and patch merging and splitting between stages.

    z = x + W-MSA(LN x)         windows of w x w positions, cut at multiples of w, or of w plus a shift
    out = z + MLP(LN z)

Maps are (B, H, W, C). A map is padded to whole windows; padding is no key, so that the result for a position does not
depend on it. A shifted partition is a rolled map whose last window has both ends in it, which may not meet. Along an
axis with a single window nothing is shifted.

Few windows differ in what may meet: the last one or two of each axis. Windows that are alike share a mask and go
through `scaled_dot_product_attention` together, so masks take next to no memory, and all else is linear in the map.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_lab.layers.attention import Mask, attend, mask, masked_softmax
from lic_lab.layers.places import Grid, Places, tap_attention
from lic_lab.layers.tap import recording

PADDING = -1


class Run(NamedTuple):
    """Neighbouring windows of an axis, from `start` to `stop`, in which the same positions may meet.

    `labels` (w,) are of a window's positions: those with equal labels may meet, `PADDING` is met by nobody.
    """

    start: int
    stop: int
    labels: tuple[int, ...]


@lru_cache(maxsize=256)
def runs(length: int, window: int, shift: int) -> tuple[Run, ...]:
    """The windows of an axis of `length` positions, rolled by `shift` after padding.

    >>> runs(12, 4, 2)
    (Run(start=0, stop=2, labels=(0, 0, 0, 0)), Run(start=2, stop=3, labels=(0, 0, 1, 1)))
    >>> runs(6, 4, 0)
    (Run(start=0, stop=1, labels=(0, 0, 0, 0)), Run(start=1, stop=2, labels=(0, 0, -1, -1)))
    """
    count = -(-length // window)
    at = [(position + shift) % (count * window) for position in range(count * window)]
    labels = [PADDING if position >= length else int(position < shift) for position in at]
    windows = [tuple(labels[k * window : (k + 1) * window]) for k in range(count)]
    found, start = [], 0
    for alike, group in groupby(windows):
        stop = start + len(list(group))
        found.append(Run(start, stop, alike))
        start = stop
    return tuple(found)


@lru_cache(maxsize=256)
def meeting(rows: tuple[int, ...], columns: tuple[int, ...], device: str) -> Mask | None:
    """Which positions of a window with these labels meet: mask (w w, w w); None where all do."""
    down, across = torch.tensor(rows), torch.tensor(columns)
    label = (down[:, None] * (max(columns) + 2) + across).flatten()
    there = ((down != PADDING)[:, None] & (across != PADDING)).flatten()
    if there.all() and len(label.unique()) == 1:
        return None
    # What padding asks for is cut off. It sees everything, so that no row is empty.
    visible = (label[:, None] == label) & there | ~there[:, None]
    return mask(visible.to(device))


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with relative position bias: softmax(q k^T / sqrt(d) + b) v.

    Parameters
    ----------
    dim, heads : int
        Channels, and heads that share them.
    window : int
        Positions a side.
    shift : int
        By which the cuts are moved, 0 for none.
    name : str or None
        What its attention is called when it is tapped; None if it is not.
    slice : int
        Of the symbols that it serves.
    """

    index: Tensor

    def __init__(self, dim: int, heads: int, window: int, shift: int = 0, name: str | None = None, slice: int = 0):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels can't be shared by {heads} heads")
        if not 0 <= shift < window:
            raise ValueError(f"shift is {shift}; it must be below the window's side, {window}, and not below 0")
        self.heads, self.window, self.shift, self.name, self.slice = heads, window, shift, name, slice
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = at[:, None] - at + window - 1  # (n, n, 2), 0 to 2 w - 2 along each axis
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        H, W = x.shape[1:3]
        rows, columns = self._runs(H), self._runs(W)
        windows = self._windows(self.qkv(x))  # (B, rows, columns, n, 3 C)
        bias = self.table[self.index].permute(2, 0, 1)[None]  # (1, heads, n, n); torch has no fused kernel for three
        out = torch.cat(
            [torch.cat([self._attend(windows, bias, r, c, (H, W)) for c in columns], 2) for r in rows], 1
        )  # (B, rows, columns, n, C)
        whole: Tensor = self.proj(self._map(out, H, W))
        return whole

    def _runs(self, length: int) -> tuple[Run, ...]:
        return runs(length, self.window, self._shift(length))

    def _shift(self, length: int) -> int:
        return self.shift if length > self.window else 0

    def _windows(self, x: Tensor, padding: float = 0.0) -> Tensor:
        """(B, H, W, C) to (B, rows, columns, n, C)."""
        B, H, W, C = x.shape
        w = self.window
        x = F.pad(x, (0, 0, 0, -W % w, 0, -H % w), value=padding)
        if self._shift(H) or self._shift(W):
            x = x.roll((-self._shift(H), -self._shift(W)), (1, 2))
        x = x.view(B, x.shape[1] // w, w, x.shape[2] // w, w, C)
        return x.transpose(2, 3).flatten(3, 4)

    def _map(self, windows: Tensor, H: int, W: int) -> Tensor:
        """The inverse of `_windows`."""
        B, rows, columns, _, C = windows.shape
        w = self.window
        x = windows.view(B, rows, columns, w, w, C).transpose(2, 3).reshape(B, rows * w, columns * w, C)
        if self._shift(H) or self._shift(W):
            x = x.roll((self._shift(H), self._shift(W)), (1, 2))
        return x[:, :H, :W]

    def _attend(self, windows: Tensor, bias: Tensor, row: Run, column: Run, size: tuple[int, int]) -> Tensor:
        """Of the windows of two runs: (B, their rows, their columns, n, C)."""
        some = windows[:, row.start : row.stop, column.start : column.stop]
        B, down, across, n, channels = some.shape
        q, k, v = some.reshape(-1, n, 3, self.heads, channels // (3 * self.heads)).permute(2, 0, 3, 1, 4)
        hidden = meeting(row.labels, column.labels, str(windows.device))
        if self.name is not None and recording():
            scores = (q * (1 / math.sqrt(q.shape[3]))) @ k.mT + bias
            weights = masked_softmax(scores, hidden)  # (B windows, heads, n, n)
            of_images = weights.view(B, -1, *weights.shape[1:])
            tap_attention(self.name, of_images, lambda: self._places(size, row, column, hidden), slice=self.slice)
            out = attend(weights, v)
        else:
            out = F.scaled_dot_product_attention(q, k, v, bias if hidden is None else bias + hidden.bias)
        return out.transpose(1, 2).reshape(B, down, across, n, -1)

    def _places(self, size: tuple[int, int], row: Run, column: Run, hidden: Mask | None) -> Places:
        at = torch.arange(size[0] * size[1], dtype=torch.float64).view(1, *size, 1)
        of_windows = self._windows(at, PADDING)[0, row.start : row.stop, column.start : column.stop]
        places = of_windows.flatten(0, 1).squeeze(-1).long()  # (windows, n)
        return Places(places, places, Grid(*size), hidden=hidden)


class SwinBlock(nn.Module):
    """Pre-norm block: attention within windows, then an MLP, each with a shortcut.

    Parameters
    ----------
    dim, heads, window, shift, name, slice
        See `WindowAttention`.
    ratio : int
        By which the MLP is wider: 4 [Liu et al. 2021].
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        shift: int = 0,
        ratio: int = 4,
        name: str | None = None,
        slice: int = 0,
    ):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window, shift, name, slice)
        wide, narrow = nn.Linear(dim, ratio * dim), nn.Linear(ratio * dim, dim)
        self.mlp = nn.Sequential(wide, nn.GELU(), narrow)
        for layer in (self.attention.qkv, self.attention.proj, wide, narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def blocks(dim: int, heads: int, window: int, depth: int) -> list[nn.Module]:
    """A stage: plain blocks and blocks shifted by half a window, in turn."""
    return [SwinBlock(dim, heads, window, window // 2 * (k % 2)) for k in range(depth)]


class PatchMerging(nn.Module):
    """Four neighbours become one position of `out` channels: LN of the four together, then a linear layer.

    Behind an odd last row or column there are zeros.
    """

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, ceil(H/2), ceil(W/2), out)."""
        B, H, W, C = x.shape
        x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
        x = x.view(B, x.shape[1] // 2, 2, x.shape[2] // 2, 2, C).transpose(2, 3).flatten(3)
        out: Tensor = self.linear(self.norm(x))
        return out


class PatchSplitting(nn.Module):
    """One position becomes four of `out` channels.

    Parameters
    ----------
    dim, out : int
    norm : {"after", "before", "none"}
        LN of the linear layer's output [Ghorbel et al. 2023, released code], of its input [STF, released code], or
        none, with a bias, as at the end of a transform.
    """

    def __init__(self, dim: int, out: int, norm: str = "after"):
        super().__init__()
        if norm not in ("after", "before", "none"):
            raise ValueError(f"norm is {norm!r}; it must be after, before or none")
        self.linear = nn.Linear(dim, 4 * out, bias=norm == "none")
        self.before = nn.LayerNorm(dim) if norm == "before" else nn.Identity()
        self.after = nn.LayerNorm(4 * out) if norm == "after" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, 2 H, 2 W, out)."""
        x = self.after(self.linear(self.before(x)))
        B, H, W, C = x.shape
        return x.view(B, H, W, 2, 2, C // 4).transpose(2, 3).reshape(B, 2 * H, 2 * W, C // 4)

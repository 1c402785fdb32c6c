"""Local spatial contexts: checkerboard, stacked checkerboard, checkerboard attention, masked raster."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen
from lic_lab.layers.attention import attend, mask, masked_softmax
from lic_lab.layers.ffn import FeedForward
from lic_lab.layers.masks import window_anchors, window_pairs
from lic_lab.layers.places import Grid, Places, tap_attention


class CheckerboardContext(Context):
    """Plain checkerboard context of He et al. 2021: one K x K convolution from anchors to non-anchors.

    The convolution sees zeros at the non-anchors, which is the checkerboard mask: at a non-anchor, every other
    position of the window is an anchor. Each slice has its own (MLIC, section 3.4).
    """

    pattern = "checkerboard"
    kinds = ("second",)

    def __init__(self, order: CodingOrder, kernel: int = 5, expand: int = 2):
        super().__init__()
        self.order, self.expand = order, expand
        self.convs = nn.ModuleList(nn.Conv2d(S, expand * S, kernel, padding=kernel // 2) for S in order.slices)

    def width(self, i: int) -> int:
        return self.expand * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        return step.take(self.convs[i](seen.anchors(i)))

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for conv, own in zip(self.convs, scale[:, None, None].split(self.order.slices), strict=True):
            conv.weight /= own


class StackedCheckerboardContext(Context):
    """g_lc,stk: J stacked K x K convolutions that alternate sides of the board (MLIC, section 3.4.1, Fig. 5).

    Odd convolutions carry information from anchors to non-anchors, even ones back, so J is odd. After each one only
    the side it carries to is kept.

    Parameters
    ----------
    J, kernel : int
        J = 3, K = 5 [paper].
    """

    pattern = "checkerboard"
    kinds = ("second",)

    def __init__(self, order: CodingOrder, J: int = 3, kernel: int = 5, expand: int = 2):
        super().__init__()
        if J % 2 == 0:
            raise ValueError(f"J is {J}; an even number of convolutions ends on the anchors, so use an odd one")
        self.order, self.expand, self.J = order, expand, J
        self.stacks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(S, expand * S if j == J - 1 else S, kernel, padding=kernel // 2) for j in range(J))
            for S in order.slices
        )

    def width(self, i: int) -> int:
        return self.expand * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        anchors = seen.anchor_mask()
        x = seen.anchors(i)
        for j, conv in enumerate(self.stacks[i]):  # type: ignore[arg-type, var-annotated]
            x = conv(x)
            if j < self.J - 1:
                x = F.gelu(x) * (anchors if j % 2 else ~anchors)
        return step.take(x)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for stack, own in zip(self.stacks, scale[:, None, None].split(self.order.slices), strict=True):
            stack[0].weight /= own


class AttentionContext(Context):
    """g_lc,attn: shifted-window checkerboard attention (MLIC+, section 3.4.2, Eq. 6-8, Fig. 6 and 7).

    Every non-anchor is the centre of a K x K window ("H x W overlapped windows"). In it the anchors attend to each
    other (Eq. 6, with a relative position bias [released code]); a K x K convolution fuses the window into its
    centre (Eq. 7); a feed-forward network with shortcut follows (Eq. 8).

    Parameters
    ----------
    kernel : int
        K = 5 [paper].
    heads : int
        2 [released code].
    """

    pattern = "checkerboard"
    kinds = ("second",)
    cells: Tensor

    def __init__(self, order: CodingOrder, kernel: int = 5, heads: int = 2, expand: int = 2):
        super().__init__()
        self.order, self.kernel, self.heads, self.expand = order, kernel, heads, expand
        anchor = window_anchors(kernel).nonzero().squeeze(1)  # only anchors are queries and keys
        self.register_buffer("cells", anchor, persistent=False)
        ij = torch.stack((anchor // kernel, anchor % kernel))  # (2, A)
        relative = ij[:, :, None] - ij[:, None, :] + kernel - 1
        self.register_buffer("relative", relative[0] * (2 * kernel - 1) + relative[1], persistent=False)
        self.embed = nn.ModuleList(nn.Conv2d(S, 3 * S, 1) for S in order.slices)
        self.bias = nn.ParameterList(torch.zeros(heads, (2 * kernel - 1) ** 2) for _ in order.slices)
        self.fuse = nn.ModuleList(nn.Linear(len(anchor) * S, expand * S) for S in order.slices)
        self.ffn = nn.ModuleList(FeedForward(expand * S) for S in order.slices)

    def width(self, i: int) -> int:
        return self.expand * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        y_a = seen.anchors(i)
        B, S, H, W = y_a.shape
        h = self.heads
        at = torch.arange(H * W, device=y_a.device) if step.positions is None else step.positions
        n = len(at)
        cells, valid = _window(
            at, self.cells, self.kernel, H, W
        )  # (n, A) rows of the table, and whether they lie in the image
        table = self.embed[i](y_a).flatten(2).mT  # (B, H W, 3S): a row for each position, so that gathering is fast
        windows = table.index_select(1, cells.flatten()).view(B, n, -1, 3, h, S // h)
        q, k, v = windows.permute(3, 0, 1, 4, 2, 5)  # each (B, n, h, A, S/h)
        scores = q * (1 / math.sqrt(S // h)) @ k.mT + self.bias[i][:, self.relative]  # (B, n, h, A, A)
        weights = masked_softmax(scores, mask(valid[:, None, None, :]))
        tap_attention(  # all of a window's anchors ask for its centre
            "local",
            weights,
            lambda: Places(torch.where(valid, at[:, None], -1), torch.where(valid, cells, -1), Grid(H, W)),
            slice=i,
        )
        attended = (attend(weights, v) * valid[:, None, :, None]).transpose(2, 3)  # Eq. 6: (B, n, A, h, S/h)
        fused = self.fuse[i](attended.reshape(B, n, -1))  # Eq. 7: the K x K convolution, at the windows' centres
        return self.ffn[i](fused).mT  # Eq. 8: (B, 2S, n)

    def mask(self) -> Tensor:
        """The mask of Figure 7: boolean (K*K, K*K), True where query and key may interact."""
        return window_pairs(self.kernel)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for conv, own in zip(self.embed, scale[:, None, None].split(self.order.slices), strict=True):
            conv.weight /= own


CHUNK = 4096  # positions whose windows are gathered at once: 75 MB for M = 384 and 12 cells


class RasterContext(Context):
    """Masked K x K convolution over the raster past (Minnen et al. 2018), computed only where a step needs it.

    Parameters
    ----------
    out_channels : int
        2M = 384 [paper].
    """

    pattern = "wavefront"
    kinds = ("raster",)
    cells: Tensor

    def __init__(self, order: CodingOrder, out_channels: int, kernel: int = 5):
        super().__init__()
        if order.pattern == "wavefront" and order.kernel != kernel:
            raise ValueError(f"the order's wavefront is for kernel {order.kernel}, the context has {kernel}")
        self.kernel, self.out_channels = kernel, out_channels
        past = kernel * (kernel // 2) + kernel // 2  # cells above, and left of the centre
        self.register_buffer("cells", torch.arange(past), persistent=False)
        self.linear = nn.Linear(order.M * past, out_channels)

    def width(self, i: int) -> int:
        return self.out_channels

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        H, W = seen.y_hat.shape[-2:]
        at = torch.arange(H * W, device=seen.y_hat.device) if step.positions is None else step.positions
        found = [  # (B, n, M, past) -> (B, n, out)
            self.linear(window(seen.y_hat, some, self.cells, self.kernel).flatten(2)) for some in at.split(CHUNK)
        ]
        return torch.cat(found, 1).mT  # (B, out, n)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        self.linear.weight /= scale.repeat_interleave(len(self.cells))


def window(grid: Tensor, at: Tensor, cells: Tensor, kernel: int) -> Tensor:
    """The `cells` (c,) of K x K windows centred at flat positions `at` (n,) of `grid` (B, C, H, W): (B, n, C, c).

    Zero outside the grid.
    """
    B, C, H, W = grid.shape
    where, inside = _window(at, cells, kernel, H, W)  # (n, c)
    found = grid.flatten(2).index_select(2, where.flatten()).view(B, C, len(at), -1)
    return torch.where(inside, found, torch.zeros_like(found[:1, :1, :1, :1])).permute(0, 2, 1, 3)


def _window(at: Tensor, cells: Tensor, kernel: int, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Flat positions (n, c) of the `cells` (c,) of K x K windows centred `at` (n,), and whether each is inside."""
    rows = (at // W)[:, None] + cells // kernel - kernel // 2
    columns = (at % W)[:, None] + cells % kernel - kernel // 2
    valid = (rows >= 0) & (rows < H) & (columns >= 0) & (columns < W)
    return torch.where(valid, rows * W + columns, 0), valid

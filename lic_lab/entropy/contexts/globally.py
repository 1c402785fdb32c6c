"""Global spatial contexts of MLIC: intra-slice (Eq. 9-11) and inter-slice (Eq. 12-14).

Both attend over the whole latent, which is quadratic in its positions. Above `patch` positions a side the
latent is cut into non-overlapping patches that attend within themselves (section 4.3.4): memory then grows
linearly. The K x K convolution that follows runs over the stitched latent, so it bridges the cuts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen
from lic_lab.layers.attention import Mask, attend, mask, masked_softmax
from lic_lab.layers.ffn import FeedForward
from lic_lab.layers.masks import beyond_window, checkerboard
from lic_lab.layers.places import Grid, Places, tap_attention

PATCH = 64  # positions a side (1024 pixels) [ours]


def patches(height: int, width: int, patch: int) -> Iterator[tuple[slice, slice]]:
    """Cut a latent into patches of at most `patch` positions a side, of like size, at even positions.

    >>> [(r.start, r.stop, c.start, c.stop) for r, c in patches(4, 10, 6)]
    [(0, 4, 0, 6), (0, 4, 6, 10)]
    """
    if patch < 2 or patch % 2:
        raise ValueError(f"patch is {patch} positions; use an even number, so that patches keep the checkerboard")

    def cuts(length: int) -> list[slice]:
        size = math.ceil(length / math.ceil(length / patch) / 2) * 2
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

    for rows in cuts(height):
        for columns in cuts(width):
            yield rows, columns


@dataclass(frozen=True)
class Pairs:
    """Which positions ask, which answer, and which of these pairs may meet.

    Attributes
    ----------
    queries, keys : {"anchor", "nonanchor", "all"}
    beyond : int or None
        Size of the local receptive field that is masked around each query (Fig. 10); None for no mask.
    """

    queries: str
    keys: str
    beyond: int | None = None

    @lru_cache(maxsize=16)  # noqa: B019 - three instances in all, which live as long as the module
    def of(self, height: int, width: int, parity: str, device: str) -> tuple[Tensor, Tensor, Mask | None]:
        """(flat positions of the queries, of the keys, mask (queries, keys) or None for all pairs)."""
        anchors = checkerboard(height, width, parity)
        sides = {"anchor": anchors, "nonanchor": ~anchors, "all": torch.ones_like(anchors)}
        at, to = (sides[name].flatten().nonzero().squeeze(1) for name in (self.queries, self.keys))
        hidden = None
        if self.beyond is not None:
            hidden = mask(beyond_window(height, width, self.beyond)[at][:, to].to(device))
        return at.to(device), to.to(device), hidden


def _heads(grid: Tensor, positions: Tensor, heads: int) -> Tensor:
    """Values of `grid` (B, S, h, w) at flat `positions` (n,), by head: (B, heads, S / heads, n)."""
    values = grid.flatten(2).index_select(2, positions)
    return values.view(len(grid), heads, -1, len(positions))


def beside(grid: Tensor) -> Tensor:
    """Each position's neighbour in the pair of columns 2k and 2k + 1; at the end of an odd row the one before it.

    On a checkerboard every non-anchor gets the anchor beside it. MLIC++'s released code pairs them so when it squeezes
    anchors and non-anchors to half the width. Where the latent is one column wide there is none: zeros.

    >>> beside(torch.arange(5.0).view(1, 1, 1, 5)).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0, 3.0]
    """
    B, S, H, W = grid.shape
    if W % 2:
        grid = torch.cat((grid, grid[..., W - 2 : W - 1] if W > 1 else torch.zeros_like(grid)), 3)
    return grid.view(B, S, H, -1, 2).flip(4).reshape(B, S, H, -1)[..., :W]


def _places(at: Tensor, to: Tensor, hidden: Mask | None, rows: slice, columns: slice, grid: Grid) -> Places:
    """Where the queries `at` and the keys `to` of a patch lie in the latent."""
    width = columns.stop - columns.start
    queries, keys = ((rows.start + p // width) * grid.columns + columns.start + p % width for p in (at, to))
    return Places(queries, keys, grid, hidden=hidden)


class GlobalContext(Context):
    """What the intra- and the inter-slice context share: patches, refinement and feed-forward.

    A linear layer takes the S channels of Eq. 10 and 13 to the 2S of the other contexts before Eq. 11 and 14 [ours]:
    the paper's FFN has as many channels as it adds to.
    """

    pattern = "checkerboard"
    in_turn = True
    kinds = ("second",)

    def __init__(self, order: CodingOrder, kernel: int = 5, heads: int = 2, expand: int = 2, patch: int = PATCH):
        super().__init__()
        self.order, self.kernel, self.heads, self.expand, self.patch = order, kernel, heads, expand, patch
        later = order.slices[1:]
        self.refine = nn.ModuleList(nn.Conv2d(S, S, kernel, padding=kernel // 2) for S in later)
        self.widen = nn.ModuleList(nn.Linear(S, expand * S) for S in later)
        self.ffn = nn.ModuleList(FeedForward(expand * S) for S in later)

    def width(self, i: int) -> int:
        return 0 if i == 0 else self.expand * self.order.slices[i]

    def patched(self, height: int, width: int) -> bool:
        """Whether a latent of this size is processed in patches."""
        return height > self.patch or width > self.patch

    def _attend(self, name: str, i: int, q: Tensor, k: Tensor, v: Tensor, pairs: Pairs) -> Tensor:
        """softmax(q k^T / sqrt(S / heads) + mask) v of Eq. 9 and 12, patch by patch; two heads are ours, not Eq. 9's.

        `q`, `k`, `v` are grids (B, S, H, W); the result too, zero where there is no query.
        """
        B, S, H, W = v.shape
        out = torch.zeros_like(v)
        for r, c in patches(H, W, self.patch):
            h, w = r.stop - r.start, c.stop - c.start
            at, to, hidden = pairs.of(h, w, self.order.parity, str(v.device))
            if not len(at) or not len(to):
                continue
            qp = _heads(q[:, :, r, c], at, self.heads)
            kp = _heads(k[:, :, r, c], to, self.heads)
            vp = _heads(v[:, :, r, c], to, self.heads)
            weights = masked_softmax((qp * (1 / math.sqrt(qp.shape[2]))).mT @ kp, hidden)  # (B, heads, queries, keys)
            tap_attention(name, weights, partial(_places, at, to, hidden, r, c, Grid(H, W)), slice=i)
            attended = attend(weights, vp.mT).mT.reshape(B, S, -1)
            patch = attended.new_zeros(B, S, h * w).index_copy(2, at, attended)
            out[:, :, r, c] = patch.view(B, S, h, w)
        return out

    def _finish(self, i: int, attended: Tensor, shortcut: Tensor, step: Step) -> Tensor:
        """Eq. 10 and 11 (13 and 14): refine with the K x K convolution, add the values, feed forward."""
        conv = self.refine[i - 1](attended) + shortcut  # (B, S, H, W)
        return self.ffn[i - 1](self.widen[i - 1](step.take(conv).mT)).mT  # (B, 2S, n)


class IntraSliceContext(GlobalContext):
    """g_gc,intra: the previous slice's attention map, applied to the current slice's anchors (Eq. 9-11).

    Queries are the non-anchors of slice i-1, keys its anchors, values the anchors of slice i. Pairs inside the local
    receptive field are masked (Fig. 10) unless ``mask=False``, the ablation of Table 5. That field is K x K here
    whatever the local context [ours]: a stack of three reaches 13 x 13, checkerboard attention 9 x 9.

    Eq. 10 adds the values, which lie at anchors, to what was attended, which lies at non-anchors: each non-anchor gets
    the value `beside` it.
    """

    def __init__(
        self,
        order: CodingOrder,
        kernel: int = 5,
        heads: int = 2,
        expand: int = 2,
        patch: int = PATCH,
        mask: bool = True,
    ):
        super().__init__(order, kernel, heads, expand, patch)
        self.mask = mask
        self.pairs = Pairs("nonanchor", "anchor", kernel if mask else None)
        pairs = list(zip(order.slices[:-1], order.slices[1:], strict=True))
        self.embed_qk = nn.ModuleList(nn.Conv2d(previous, 2 * S, 1) for previous, S in pairs)
        self.embed_v = nn.ModuleList(nn.Conv2d(S, S, 1) for _, S in pairs)

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        anchors = seen.anchor_mask()
        q, k = self.embed_qk[i - 1](seen.slice(i - 1)).chunk(2, 1)
        v = self.embed_v[i - 1](seen.anchors(i)) * anchors  # its bias is nothing at non-anchors
        name = "intra" if self.mask else "intra-unmasked"
        attended = self._attend(name, i, q, k, v, self.pairs)
        return self._finish(i, attended, beside(v), step)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        slices = scale[:, None, None].split(self.order.slices)
        for qk, v, previous, own in zip(self.embed_qk, self.embed_v, slices[:-1], slices[1:], strict=True):
            qk.weight /= previous
            v.weight /= own


class InterSliceContext(GlobalContext):
    """g_gc,inter: the current slice's anchors ask the whole previous slice (Eq. 12-14).

    The anchors stand in for the non-anchors, which are not decoded yet; the mask keeps non-anchors from
    asking, and the K x K convolution carries what the anchors found to them.
    """

    def __init__(self, order: CodingOrder, kernel: int = 5, heads: int = 2, expand: int = 2, patch: int = PATCH):
        super().__init__(order, kernel, heads, expand, patch)
        pairs = list(zip(order.slices[:-1], order.slices[1:], strict=True))
        self.embed_q = nn.ModuleList(nn.Conv2d(S, S, 1) for _, S in pairs)
        self.embed_kv = nn.ModuleList(nn.Conv2d(previous, 2 * S, 1) for previous, S in pairs)

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        q = self.embed_q[i - 1](seen.anchors(i))
        k, v = self.embed_kv[i - 1](seen.slice(i - 1)).chunk(2, 1)
        attended = self._attend("inter", i, q, k, v, Pairs("anchor", "all"))
        return self._finish(i, attended, v, step)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        slices = scale[:, None, None].split(self.order.slices)
        for q, kv, previous, own in zip(self.embed_q, self.embed_kv, slices[:-1], slices[1:], strict=True):
            q.weight /= own
            kv.weight /= previous

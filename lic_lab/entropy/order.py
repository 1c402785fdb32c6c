"""Coding orders: which symbols (channels x positions) are coded in which step.

An order is two choices multiplied. Channels are coded in `slices`, all at once or in turn; the positions
of a slice are coded in the parts of a pattern:

    name                     slices     pattern         steps
    single                   at once    whole           1
    channel-slices           in turn    whole           L
    checkerboard             at once    checkerboard    2
    slices-x-checkerboard    in turn    checkerboard    2 L      (MLIC, Fig. 4)
    raster                   at once    wavefront       W + 3 (H - 1) for a 5 x 5 kernel
    patches                  at once    zigzag          P, the number of patches
    chunks                   in turn    zigzag          P L      (Shen and Liu, Fig. 4)

Of a checkerboard all parts of a slice come before the next slice; of a zigzag all slices of a patch before the next
patch ("channel first"). The zigzag over the patches is JPEG's: from the upper left, first to the right, then along the
diagonals, up and down in turn [ours: the paper's Fig. 4 leaves the direction open].

Raster order is coded in wavefronts: position (i, j) depends on rows above up to ``j + K // 2`` and on its own
row before j, so all positions with equal ``j + (K // 2 + 1) i`` are independent of each other and are
coded together. The symbols, their probabilities and their dependence are those of the raster scan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, product

import torch
from torch import Tensor

from lic_lab.layers.masks import PARITIES, checkerboard

PATTERNS = ("whole", "checkerboard", "wavefront", "zigzag")
KINDS = ("first", "second", "raster", "chunk")


@dataclass(frozen=True, eq=False)
class Part:
    """Positions that are coded together: one part of a pattern.

    Attributes
    ----------
    name : {"all", "anchor", "nonanchor", "wavefront", "patch"}
        What a reader calls it; all wavefronts, and all patches, are one name.
    kind : {"first", "second", "raster", "chunk"}
        What a symbol may know of its own slice: nothing, the anchors, the raster past, the patches before. Components
        and networks that serve one kind of step go by it.
    index : int
        Place in the pattern.
    last : bool
        Whether a slice is complete with it.
    positions : Tensor or None
        Flat indices (n,) into H*W; None for every position.
    mask : Tensor or None
        The same as a boolean (H, W).
    """

    name: str
    kind: str
    index: int = 0
    last: bool = True
    positions: Tensor | None = field(default=None, repr=False)
    mask: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Step:
    """The symbols coded together: some channel slices at some positions.

    Attributes
    ----------
    slices : tuple of int
        Indices of the channel slices.
    part : Part
        The positions.
    index : int
        Place in the order.
    """

    slices: tuple[int, ...]
    part: Part
    index: int = 0

    @property
    def kind(self) -> str:
        """See `Part.kind`."""
        return self.part.kind

    @property
    def positions(self) -> Tensor | None:
        """See `Part.positions`."""
        return self.part.positions

    @property
    def mask(self) -> Tensor | None:
        """See `Part.mask`."""
        return self.part.mask

    def take(self, grid: Tensor) -> Tensor:
        """Values of `grid` (B, C, H, W) at the step's positions: (B, C, n)."""
        flat = grid.flatten(2)
        return flat if self.positions is None else flat.index_select(2, self.positions)

    def stream(self, values: Tensor) -> Tensor:
        """(B, c, n) or (B, c, n, ...) with c and n in the order in which the stream has them, and back.

        Channel by channel, but a wavefront position by position: so its stream is that of coding them one at a time.
        """
        return values.transpose(1, 2) if self.kind == "raster" else values

    def put(self, grid: Tensor, channels: slice, values: Tensor) -> Tensor:
        """`grid` (B, M, H, W) with `values` (B, c, n) at the step's positions of `channels`.

        In place, unless gradients are on: a wavefront has a hundred steps, each of which would copy the whole grid.
        """
        B, _, H, W = grid.shape
        if torch.is_grad_enabled():
            grid = grid.clone()
        if self.positions is None:
            grid[:, channels] = values.reshape(B, -1, H, W)
        else:
            grid[:, channels].view(B, -1, H * W).index_copy_(2, self.positions, values)
        return grid


@dataclass(frozen=True)
class CodingOrder:
    """The list of steps, see the module's table.

    Parameters
    ----------
    slices : tuple of int
        Channels of each slice; they sum to M.
    in_turn : bool
        Whether slices are coded one after the other, so that later ones may see earlier ones.
    pattern : {"whole", "checkerboard", "wavefront", "zigzag"}
    parity : {"odd", "even"}
        Where the anchors of the checkerboard are.
    kernel : int
        Size of the raster context, which sets the slope of the wavefront.
    patch : int
        Positions a side of a zigzag's patches; those at the right and below may be smaller.
    """

    slices: tuple[int, ...]
    in_turn: bool = False
    pattern: str = "whole"
    parity: str = "odd"
    kernel: int = 5
    patch: int = 8

    def __post_init__(self) -> None:
        if not self.slices or min(self.slices) < 1:
            raise ValueError(f"slices are {self.slices}; give the channels of each slice, all at least 1")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern is {self.pattern!r}; it must be one of {PATTERNS}")
        if self.parity not in PARITIES:
            raise ValueError(f"parity is {self.parity!r}; it must be one of {PARITIES}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; a context needs a centre, so use an odd size")
        if self.patch < 1:
            raise ValueError(f"patch is {self.patch}; a patch has at least one position a side")

    @property
    def M(self) -> int:
        """Channels of the latent."""
        return sum(self.slices)

    @property
    def name(self) -> str:
        """Name as in the module's table."""
        if self.pattern == "wavefront":
            return "raster"
        names = {
            ("whole", False): "single",
            ("whole", True): "channel-slices",
            ("checkerboard", False): "checkerboard",
            ("checkerboard", True): "slices-x-checkerboard",
            ("zigzag", False): "patches",
            ("zigzag", True): "chunks",
        }
        return names[self.pattern, self.in_turn and len(self.slices) > 1]

    def channels(self, i: int) -> slice:
        """Channels of slice `i` in the latent."""
        start = (0, *accumulate(self.slices))[i]
        return slice(start, start + self.slices[i])

    def step_channels(self, step: Step) -> slice:
        """Channels of all slices of a step (they are always neighbours)."""
        return slice(self.channels(step.slices[0]).start, self.channels(step.slices[-1]).stop)

    def steps(self, height: int, width: int, device: torch.device | str = "cpu") -> list[Step]:
        """The steps for a latent of `height` x `width` positions."""
        if height < 1 or width < 1:
            raise ValueError(f"latent is {height} x {width} positions; both must be at least 1")
        everything = tuple(range(len(self.slices)))
        groups: list[tuple[int, ...]] = [(i,) for i in everything] if self.in_turn else [everything]
        parts = _parts(self, height, width, str(device))
        pairs = list(product(groups, parts))
        if self.pattern == "zigzag":
            pairs = [(group, part) for part, group in product(parts, groups)]
        return [Step(group, part, t) for t, (group, part) in enumerate(pairs)]

    def at_once(self) -> Step:
        """A raster's symbols as one step, to estimate them when all are known beforehand (teacher forcing)."""
        return Step(tuple(range(len(self.slices))), Part("wavefront", "raster"))

    def step_map(self, height: int, width: int) -> Tensor:
        """Index of the step that codes each symbol: int (M, H, W)."""
        out = torch.full((self.M, height * width), -1)
        for t, step in enumerate(self.steps(height, width)):
            where = slice(None) if step.positions is None else step.positions
            out[self.step_channels(step), where] = t
        return out.reshape(self.M, height, width)


@lru_cache(maxsize=64)
def _parts(order: CodingOrder, height: int, width: int, device: str) -> list[Part]:
    """The pattern's parts in coding order; those without a position are left out."""
    if order.pattern == "whole":
        return [Part("all", "first")]
    if order.pattern == "checkerboard":
        anchors = checkerboard(height, width, order.parity)
        masks = [("anchor", "first", anchors), ("nonanchor", "second", ~anchors)]
    elif order.pattern == "wavefront":
        front = torch.arange(width)[None, :] + (order.kernel // 2 + 1) * torch.arange(height)[:, None]
        masks = [("wavefront", "raster", front == t) for t in range(int(front.max()) + 1)]
    else:
        row, column = (torch.arange(side) // order.patch for side in (height, width))
        grid = zigzag(int(row[-1]) + 1, int(column[-1]) + 1)
        masks = [("patch", "chunk", (row == i)[:, None] & (column == j)[None, :]) for i, j in grid]
    found = [
        (name, kind, mask.flatten().nonzero().squeeze(1).to(device), mask.to(device)) for name, kind, mask in masks
    ]
    found = [of for of in found if len(of[2])]
    return [
        Part(name, kind, t, t == len(found) - 1, positions, mask)
        for t, (name, kind, positions, mask) in enumerate(found)
    ]


def zigzag(rows: int, columns: int) -> list[tuple[int, int]]:
    """Cells of a grid in JPEG's zigzag order.

    >>> zigzag(3, 3)
    [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 1), (2, 2)]
    """
    cells = product(range(rows), range(columns))
    # along diagonal i + j: downwards where it is odd, upwards where it is even
    return sorted(cells, key=lambda ij: (sum(ij), ij[0] if sum(ij) % 2 else ij[1]))

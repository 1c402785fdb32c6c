"""Coding orders: which symbols (channels x positions) are coded in which step.

An order is two choices multiplied. Channels are coded in `slices`, all at once or in turn; the positions
of a slice are coded in the `Pattern`'s parts:

    name                     slices     pattern         steps
    single                   at once    whole           1
    channel-slices           in turn    whole           L
    checkerboard             at once    checkerboard    2
    slices-x-checkerboard    in turn    checkerboard    2 L      (MLIC, Fig. 4)
    raster                   at once    wavefront       W + 3 (H - 1) for a 5 x 5 kernel

Raster order is coded in wavefronts: position (i, j) depends on rows above up to ``j + K // 2`` and on its own
row before j, so all positions with equal ``j + (K // 2 + 1) i`` are independent of each other and are
coded together. The symbols, their probabilities and their dependence are those of the raster scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from lic_lab.layers.masks import PARITIES, checkerboard

PATTERNS = ("whole", "checkerboard", "wavefront")


@dataclass(frozen=True, eq=False)
class Step:
    """The symbols coded together: some channel slices at some positions.

    Attributes
    ----------
    slices : tuple of int
        Indices of the channel slices.
    part : {"all", "anchor", "nonanchor", "wavefront"}
        Which part of the pattern the positions are.
    positions : Tensor or None
        Flat indices (n,) into H*W; None for every position.
    mask : Tensor or None
        The same as a boolean (H, W).
    """

    slices: tuple[int, ...]
    part: str
    positions: Tensor | None = None
    mask: Tensor | None = field(default=None, repr=False)

    @property
    def last(self) -> bool:
        """Whether the slices are complete once this step is decoded."""
        return self.part in ("all", "nonanchor")

    def take(self, grid: Tensor) -> Tensor:
        """Values of `grid` (B, C, H, W) at the step's positions: (B, C, n)."""
        flat = grid.flatten(2)
        return flat if self.positions is None else flat.index_select(2, self.positions)

    def stream(self, values: Tensor) -> Tensor:
        """(B, c, n) or (B, c, n, ...) with c and n in the order in which the stream has them, and back.

        Channel by channel, but a wavefront position by position: so its stream is that of coding them one at a time.
        """
        return values.transpose(1, 2) if self.part == "wavefront" else values

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
    pattern : {"whole", "checkerboard", "wavefront"}
    parity : {"odd", "even"}
        Where the anchors of the checkerboard are.
    kernel : int
        Size of the raster context, which sets the slope of the wavefront.
    """

    slices: tuple[int, ...]
    in_turn: bool = False
    pattern: str = "whole"
    parity: str = "odd"
    kernel: int = 5

    def __post_init__(self) -> None:
        if not self.slices or min(self.slices) < 1:
            raise ValueError(f"slices are {self.slices}; give the channels of each slice, all at least 1")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern is {self.pattern!r}; it must be one of {PATTERNS}")
        if self.parity not in PARITIES:
            raise ValueError(f"parity is {self.parity!r}; it must be one of {PARITIES}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; a context needs a centre, so use an odd size")

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
        groups: Sequence[tuple[int, ...]]
        everything = tuple(range(len(self.slices)))
        groups = [(i,) for i in everything] if self.in_turn else [everything]
        parts = _parts(self.pattern, height, width, self.parity, self.kernel, str(device))
        return [Step(group, part, positions, mask) for group in groups for part, positions, mask in parts]

    def step_map(self, height: int, width: int) -> Tensor:
        """Index of the step that codes each symbol: int (M, H, W)."""
        out = torch.full((self.M, height * width), -1)
        for t, step in enumerate(self.steps(height, width)):
            where = slice(None) if step.positions is None else step.positions
            out[self.step_channels(step), where] = t
        return out.reshape(self.M, height, width)


@lru_cache(maxsize=64)
def _parts(
    pattern: str, height: int, width: int, parity: str, kernel: int, device: str
) -> list[tuple[str, Tensor | None, Tensor | None]]:
    """The pattern's parts in coding order: (name, flat positions, mask)."""
    if pattern == "whole":
        return [("all", None, None)]
    if pattern == "checkerboard":
        anchors = checkerboard(height, width, parity)
        masks = [("anchor", anchors), ("nonanchor", ~anchors)]
    else:
        front = torch.arange(width)[None, :] + (kernel // 2 + 1) * torch.arange(height)[:, None]
        masks = [("wavefront", front == t) for t in range(int(front.max()) + 1)]
    found = [(name, mask.flatten().nonzero().squeeze(1).to(device), mask.to(device)) for name, mask in masks]
    return [(name, positions, mask) for name, positions, mask in found if len(positions)]

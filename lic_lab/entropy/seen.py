"""What a context component may see: decoded symbols and the hyperprior, nothing else.

The loop in `entropy.model` keeps one canvas of decoded symbols. Undecoded places hold `fill`: zero in use, NaN in
the poison test, so a component that reads an undecoded symbol is caught.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.layers.masks import checkerboard

T = TypeVar("T")


@dataclass
class Seen:
    """The decoder's knowledge before a step.

    Attributes
    ----------
    order : CodingOrder
    y_hat : Tensor
        (B, M, H, W): decoded symbols, `fill` where nothing is decoded yet.
    hyper : Tensor
        Phi_h, (B, C_h, H, W).
    """

    order: CodingOrder
    y_hat: Tensor
    hyper: Tensor
    _kept: dict[tuple[int, int], tuple[list[int], Any]] = field(default_factory=dict)
    _hyper: dict[int, Tensor] = field(default_factory=dict)
    _grown: list[int] = field(init=False)  # how many steps have added to each slice
    _memories: dict[int, dict[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._grown = [0] * len(self.order.slices)

    def before(self, i: int) -> Tensor:
        """Slices 0 to i-1: (B, sum of their channels, H, W)."""
        return self.y_hat[:, : self.order.channels(i).start]

    def slice(self, i: int) -> Tensor:
        """Slice i as far as it is decoded: (B, S, H, W)."""
        return self.y_hat[:, self.order.channels(i)]

    def anchors(self, i: int) -> Tensor:
        """Slice i with zeros at the non-anchors: (B, S, H, W). Anchors must be decoded."""
        current = self.slice(i)
        return torch.where(self.anchor_mask(), current, torch.zeros_like(current))

    def anchor_mask(self) -> Tensor:
        """Boolean (H, W), True at anchors."""
        H, W = self.y_hat.shape[-2:]
        return checkerboard(H, W, self.order.parity).to(self.y_hat.device)

    def hyper_at(self, step: Step) -> Tensor:
        """Phi_h at the step's positions, (B, C_h, n); slices share it, since they are coded at the same positions."""
        if not self.order.in_turn:  # no part comes twice
            return step.take(self.hyper)
        if step.part.index not in self._hyper:
            self._hyper[step.part.index] = step.take(self.hyper)
        return self._hyper[step.part.index]

    def once_per_slice(self, owner: object, i: int, compute: Callable[[], T]) -> T:
        """`compute()`, kept for later steps of slice i until an earlier slice grows.

        For features that no part of slice i enters.
        """
        key, grown = (id(owner), i), self._grown[:i]
        if key not in self._kept or self._kept[key][0] != grown:
            self._kept[key] = grown, compute()
        found: T = self._kept[key][1]
        return found

    def memory(self, owner: object) -> dict[Any, Any]:
        """What `owner` has noted of this run; empty at first."""
        return self._memories.setdefault(id(owner), {})

    def decode(self, step: Step, channels: builtins.slice, values: Tensor) -> None:
        """Add decoded `values` (B, c, n) to the canvas."""
        self.y_hat = step.put(self.y_hat, channels, values)
        for i in step.slices:
            self._grown[i] += 1

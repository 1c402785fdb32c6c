"""Functions looked up in tables that hold every argument on the grid; see `layers.exact`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from lic_lab.layers.fixed_point import FINE, GRID

# What is looked up: the function, where it has become constant, and the bits after the point of an entry.
FUNCTIONS: dict[str, tuple[Callable[[float], float], float, int]] = {
    "exp": (lambda t: math.exp(-t), 16.0, FINE),  # softmax: exp(-(max - x))
    "gelu": (lambda a: a * 0.5 * math.erfc(a / math.sqrt(2)), 5.0, GRID),  # max(x, 0) - GELU(x), an even function
    "tanh": (math.tanh, 6.0, GRID),
}


@lru_cache(maxsize=16)
def table(name: str, device: str = "cpu") -> Tensor:
    """The function at every number of the grid from zero to where it is constant, float64 (n,)."""
    function, end, bits = FUNCTIONS[name]
    entries = [round(function(i * 2.0**-GRID) * 2.0**bits) for i in range(int(end * 2**GRID) + 1)]
    return torch.tensor(entries, dtype=torch.float64).to(device) * 2.0**-bits


def looked_up(name: str, x: Tensor) -> Tensor:
    """The table's function at `x` >= 0 on the grid, infinity included; some entry where `x` is NaN."""
    entries = table(name, str(x.device))
    last = len(entries) - 1
    index = (x * 2.0**GRID).clamp_(max=last).long()
    return entries.take(index.clamp_(min=0))  # what integer a NaN becomes is left to the processor

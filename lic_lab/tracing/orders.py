"""The name of a coding order, told by the step of each symbol: for models whose order isn't ours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lic_lab.entropy.order import CodingOrder
from lic_lab.layers.masks import PARITIES
from lic_lab.tracing.result import parts_of

Array = NDArray[Any]
UNKNOWN = "unknown"
MOST_PASSES = 16  # of a pattern that has no name; beyond, its passes aren't told apart
KERNELS = (3, 5, 7)  # of raster contexts, which set a wavefront's slope


@dataclass(frozen=True)
class Order:
    """A coding order, as a `Trace` has it.

    Attributes
    ----------
    name : str
        As `CodingOrder.name`; "passes" and "slices-x-passes" for patterns without a name.
    step : array
        (M, h, w), 0 to the number of steps - 1.
    slices : tuple of int
    parts : dict
        Boolean (h, w).
    """

    name: str
    step: Array
    slices: tuple[int, ...]
    parts: dict[str, Array]


def named(step: Array) -> Order:
    """The order in which symbols are coded in these steps (M, h, w), of which only the order matters."""
    M, h, w = step.shape
    step = _ranks(step)
    ends = [*((step[1:] != step[:-1]).any((1, 2)).nonzero()[0] + 1).tolist(), M]
    slices = tuple(np.diff([0, *ends]).tolist())
    patterns = [_ranks(step[end - 1]) for end in ends]
    if any((pattern != patterns[0]).any() for pattern in patterns):
        return Order("slices-x-passes", step, slices, {"all": np.ones((h, w), bool)})
    pattern = patterns[0]
    for order in _candidates(slices):
        if np.array_equal(_ranks(order.step_map(h, w)[0].numpy()), pattern):
            in_a_row = order.pattern == "whole" or _in_a_row([step[end - 1] for end in ends])
            return Order(order.name if in_a_row else "slices-x-passes", step, slices, parts_of(order, h, w))
    passes = int(pattern.max()) + 1
    if passes == h * w and (np.diff(pattern.ravel()) > 0).all() and len(slices) == 1:
        return Order("raster", step, slices, {"wavefront": np.ones((h, w), bool)})
    parts = {f"pass {i + 1}": pattern == i for i in range(passes)}
    if passes > MOST_PASSES:
        parts = {"all": np.ones((h, w), bool)}
    return Order("passes" if len(slices) == 1 else "slices-x-passes", step, slices, parts)


def unknown(M: int, h: int, w: int) -> Order:
    """That of a model that does not tell its order."""
    return Order(UNKNOWN, np.zeros((M, h, w), int), (M,), {"all": np.ones((h, w), bool)})


def _candidates(slices: tuple[int, ...]) -> list[CodingOrder]:
    found = [CodingOrder(slices, in_turn=True)]
    found += [CodingOrder(slices, in_turn=True, pattern="checkerboard", parity=parity) for parity in PARITIES]
    return found + [CodingOrder(slices, pattern="wavefront", kernel=kernel) for kernel in KERNELS if len(slices) == 1]


def _in_a_row(steps: list[Array]) -> bool:
    """Whether each slice is finished before the next begins, in whatever order they come."""
    spans = sorted((int(of.min()), int(of.max())) for of in steps)
    return all(one[1] < two[0] for one, two in pairwise(spans))


def _ranks(values: Array) -> Array:
    found: Array = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    return found

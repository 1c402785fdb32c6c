"""Fixed-point numbers in float64, and weights with which no sum of products is rounded; see `layers.exact`.

A tensor's numbers are multiples of 2^-12, and where they are multiplied they are below 2^10: 22 bits. Weights are
multiples of a power of two of their own, as fine as keeps every partial sum below 2^53 steps. float64 holds these sums
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

DIGITS = 53  # bits of a float64's mantissa
GRID = 12  # bits of a tensor after the point
BITS = 22  # of an operand in a sum of products; larger numbers, from 2^10, are clipped there
FINE = 22  # bits after the point of softmax's output, which lies in [0, 1]
FINEST = 30  # the most bits after the point of a weight


def to_grid(x: Tensor, fraction: int = GRID, out: Tensor | None = None) -> Tensor:
    """`x` rounded to multiples of ``2^-fraction``, half to even, float64; infinities and NaN stay.

    The sum with a large number has no room for the bits behind: IEEE 754 rounds it there.
    """
    large = 1.5 * 2.0 ** (DIGITS - 1 - fraction)
    return torch.add(x.double(), large, out=out).sub_(large)


def to_grid_(x: Tensor, fraction: int = GRID) -> Tensor:
    """`to_grid` in place, of float64."""
    return to_grid(x, fraction, out=x)


def operand(x: Tensor, bits: int = BITS, fraction: int = GRID, out: Tensor | None = None) -> Tensor:
    """`x` on the grid of ``2^-fraction``, clipped to below ``2^bits`` of its steps."""
    largest = (2.0**bits - 1) * 2.0**-fraction
    return to_grid(x, fraction, out).clamp_(-largest, largest)


def root_(x: Tensor) -> Tensor:
    """Square roots in place, rounded as IEEE 754 says.

    On the CPU NumPy's, which are the processor's. torch's there come from a vector library: one in eighty is off by one
    in the last place.
    """
    if x.device.type != "cpu":
        return x.sqrt_()
    np.sqrt(x.numpy(), out=x.numpy())
    return x


def power_below(peak: Tensor) -> Tensor:
    """1 / 2^e, e the least for which `peak` > 0 is below 2^e: a scale that costs no digit."""
    return peak.frexp().mantissa / peak


def finest(weight: Tensor, sums: Callable[[Tensor], Tensor], bits: int = BITS) -> Tensor:
    """`weight` on the finest grid on which no sum of products with operands of `bits` leaves 53 bits, float64.

    `sums` gives, of weights as int64, whose sums are not rounded either, all sums of absolute weights behind an output.
    """
    longest = int(sums(torch.round(weight.double() * 2.0**FINEST).long()).max())
    return to_grid(weight, min(FINEST, FINEST + DIGITS - bits - 1 - longest.bit_length()))


_prepared: WeakIdKeyDictionary = WeakIdKeyDictionary()
_compared: ContextVar[set[Any] | None] = ContextVar("lic_lab_compared", default=None)


@contextmanager
def weights_stay() -> Iterator[None]:
    """Within the outermost block no weight changes: each is compared once with what it was when it was prepared."""
    if _compared.get() is not None:
        yield
        return
    token = _compared.set(set())
    try:
        yield
    finally:
        _compared.reset(token)


def prepared(weight: Tensor, prepare: Callable[[Tensor], Tensor], name: str) -> Tensor:
    """``prepare(weight)``, kept by `name` while the weight's tensor lives and has the numbers that it had.

    They are compared, since torch's count of changes misses some: a fused optimizer's step, `.data`, NumPy's.
    """
    owner = weight if weight._base is None else weight._base  # each call has a view of its own
    key = (name, tuple(weight.shape), weight.stride(), weight.storage_offset())
    kept, compared = _prepared.setdefault(owner, {}), _compared.get()
    if key in kept and compared is not None and (id(owner), key) in compared:
        return kept[key][1]
    if key not in kept or not _same(kept[key][0], weight):
        kept[key] = weight.detach().clone(), prepare(weight)
    if compared is not None:
        compared.add((id(owner), key))
    found: Tensor = kept[key][1]
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)

"""Exact arithmetic: the same bits from every machine, device, thread count and batch.

A decoder must address the same probability tables as the encoder did, to the last bit. Floating-point sums depend
on their order, and libraries choose the order by machine and shape; exponentials differ between libraries. Inside

    with exact():
        mu, log_sigma = network(features.double())

tensors are fixed-point numbers held in float64. Every operation first rounds what it is given to the grid (multiples of
2^-12) and rounds what it returns, and is one of three kinds; any other is refused:

1. *Moves*: indexing, reshaping, concatenating. Nothing is computed.
2. *Element by element*: + - * /, rounding, maxima. IEEE 754 prescribes each result bit by bit.
3. *Sums of products*: convolutions, matrix products, sums. Activations below 2^10 on the grid have 22 bits, and weights
   get as many bits as keep every partial sum an integer below 2^53 (times a power of two). float64 holds
   these exactly, so neither the order of summation matters nor the algorithm (`layers.winograd`). GELU, tanh and
   softmax's exponential are looked up in tables that hold every argument on the grid.

By induction every tensor is the same everywhere. And since each operation rounds its input, noise of float32's relative
size (2^-24) on any tensor on the way is less than half a grid step and leaves no trace. `tests/test_exact.py` tests
both; docs/bitstream.md says what is guaranteed, and what it costs in time and bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from lic_lab.layers import nearest, winograd

DIGITS = 53  # bits of a float64's mantissa
GRID = 12  # bits of a tensor after the point
BITS = 22  # of an operand in a sum of products; larger numbers, from 2^10, are clipped there
FINE = 22  # bits after the point of softmax's output, which lies in [0, 1]
SQUARE = 16  # bits after the point of a square in GDN's pool; before it there are twice as many as an operand has


class InexactError(RuntimeError):
    """An operation that `exact` can't vouch for."""


@contextmanager
def exact() -> Iterator[None]:
    """Context in which tensors are computed exactly; see the module. Use it under ``torch.no_grad()``.

    Autocast is off inside: float64 does not heed it, but what `layers.nearest` sorts out in float32 would.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _Exact():
        yield


class _Exact(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "?")
        if name in _MOVES:
            return func(*args, **(kwargs or {}))
        if name in _OF_SUMS:
            return _OF_SUMS[name](*args, **(kwargs or {}))
        if name in _ELEMENTWISE:
            out = func(*map(_rounded, args), **{key: _rounded(value) for key, value in (kwargs or {}).items()})
            return tuple(map(_rounded, out)) if isinstance(out, tuple) else _rounded(out)
        raise InexactError(
            f"{name} is not exact: its result may differ between machines, and a stream coded with it would not "
            "decode there. Use another operation in the entropy model, or give it a fixed-point form in "
            "lic_lab/layers/exact.py"
        )


def to_grid(x: Tensor, fraction: int = GRID) -> Tensor:
    """`x` rounded to multiples of ``2^-fraction``, float64."""
    return torch.round(x.double() * 2.0**fraction).mul_(2.0**-fraction)


def _rounded(x: Any) -> Any:
    """On the grid, if it is a tensor of floats."""
    return to_grid(x) if isinstance(x, Tensor) and x.is_floating_point() else x


def _integers(x: Tensor, bits: int = BITS, fraction: int = GRID) -> Tensor:
    """`x` in units of ``2^-fraction``, clipped to below ``2^bits``: integers as float64."""
    largest = float(2**bits - 1)
    return torch.round(x.double() * 2.0**fraction).clamp_(-largest, largest)


_weights: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _weights_as_integers(
    weight: Tensor, reduced: tuple[int, ...], tiled: bool = False, bits: int = BITS
) -> tuple[Tensor, int]:
    """(weights in units of 2^-fraction, fraction), the finest for which no sum of products leaves 53 bits.

    `reduced` are the dimensions summed over, and `bits` those of the other operand; `tiled` transforms the weights for
    `winograd`, which needs more. The result is kept while the weight's tensor lives.
    """
    owner = weight if weight._base is None else weight._base
    key = (owner._version, tuple(weight.shape), weight.storage_offset(), str(weight.device))
    kept = _weights.setdefault(owner, {})
    if key not in kept:
        kept.clear()
        whole = torch.round(weight.double() * 2.0**30).long()  # int64 sums have no rounding either
        # largest sum of |w| behind an output, in units of 2^-30
        longest = winograd.largest_sum(winograd.transformed(whole)) if tiled else int(whole.abs().sum(reduced).max())
        room = DIGITS - bits - 1 - (winograd.GROWTH if tiled else 0)  # bits that the sum of |w| may take
        fraction = min(30, 30 + room - longest.bit_length())
        units = torch.round(weight.double() * 2.0**fraction)
        kept[key] = (winograd.transformed(units) if tiled else units, fraction)
    found: tuple[Tensor, int] = kept[key]
    return found


def _settled(total: Tensor, fraction: int, bias: Tensor | None = None) -> Tensor:
    """From units of 2^-fraction back to numbers on the grid, the bias added."""
    out = total.mul_(2.0**-fraction)
    return to_grid(out if bias is None else out.add_(bias.double()))


def _convolution(
    convolve: Callable[..., Tensor], reduced: tuple[int, ...], x: Tensor, weight: Tensor, *args: Any
) -> Tensor:
    bias, *rest = args or (None,)
    bias = None if bias is None else bias[:, None, None]
    if convolve is F.conv2d and tuple(weight.shape[2:]) == (3, 3) and tuple(rest[:2]) == ((1, 1), (1, 1)):
        if tuple(rest[2:]) in ((), ((1, 1),), ((1, 1), 1)):  # neither dilated nor grouped
            w, fraction = _weights_as_integers(weight, reduced, tiled=True)
            return _settled(winograd.convolve(_integers(x), w), GRID + fraction + winograd.SCALE, bias)
    w, fraction = _weights_as_integers(weight, reduced)
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN may choose an algorithm that is no plain sum
        total = convolve(_integers(x), w, None, *rest)
    return _settled(total, GRID + fraction, bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    w, fraction = _weights_as_integers(weight, (1,))
    return _settled(F.linear(_integers(x), w), GRID + fraction, bias)


def _normalised(v: Tensor, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
    """GDN: squares have too many bits for a convolution, but none of theirs is a sign, and the root halves errors."""
    bits = 2 * (BITS - GRID) + SQUARE
    largest = 2.0 ** (BITS - GRID) - 2.0**-GRID
    squares = _integers(to_grid(x).clamp_(-largest, largest).square_(), bits, SQUARE)
    w, fraction = _weights_as_integers(gamma[:, :, None, None], (1, 2, 3), bits=bits)
    pool = F.conv2d(squares, w).mul_(2.0 ** -(SQUARE + fraction)).add_(beta.double()[:, None, None])
    root = pool.sqrt_()
    return to_grid(to_grid(v) * root if inverse else to_grid(v) / root)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Both operands are activations: they share the bits that the sum's length leaves."""
    bits = min(BITS, (DIGITS - a.shape[-1].bit_length()) // 2)
    return _settled(_integers(a, bits) @ _integers(b, bits), 2 * GRID)


def _attend(weights: Tensor, values: Tensor) -> Tensor:
    """The weights sum to one, so they can be fine however many there are."""
    return _settled(_integers(weights, FINE + 1, FINE) @ _integers(values), FINE + GRID)


def _store(vectors: Tensor, reciprocals: Tensor, given: Tensor) -> None:
    nearest.store(vectors, reciprocals, _for_dot_products(given))


def _most_similar(queries: Tensor, *known: Tensor) -> tuple[Tensor, Tensor]:
    similarity, index = nearest.most_similar(_for_dot_products(queries), *known)
    return to_grid(similarity), index


def _for_dot_products(x: Tensor) -> Tensor:
    """In units of 1/16, and so short that float32 holds it and no dot product leaves 53 bits; cosines do not mind."""
    return _integers(x, min(24, (DIGITS - x.shape[-1].bit_length()) // 2), 4)


def _softmax(x: Tensor, dim: int) -> Tensor:
    x = to_grid(x)
    e = _looked_up("exp", x.amax(dim, keepdim=True) - x)
    return to_grid(e / e.sum(dim, keepdim=True), FINE)  # the sum of up to 2^30 is exact


def _weighted_softmax(x: Tensor, factor: Tensor) -> Tensor:
    x = to_grid(x)
    e = _looked_up("exp", x.amax(-1, keepdim=True) - x) * to_grid(factor)  # 34 bits after the point
    return to_grid(e / e.sum(-1, keepdim=True))


def _sum(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if not x.is_floating_point():
        return torch.sum(x, *args, **kwargs)
    return _settled(_integers(x).sum(*args, **kwargs), GRID)  # of up to 2^30 numbers


def _mean(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    total = _sum(x, *args, **kwargs)
    return _divide(total, x.numel() // max(1, total.numel()))


def _divide(a: Tensor, b: Tensor | float) -> Tensor:
    """CUDA multiplies by the reciprocal of a number, which rounds twice; by a tensor it divides."""
    return to_grid(to_grid(a) / (to_grid(b) if isinstance(b, Tensor) else torch.full_like(a[..., :1], b).double()))


def _add(a: Tensor, b: Tensor | float) -> Tensor:
    """Takes no `alpha`: a machine may round a + alpha b once or twice."""
    return _rounded(_rounded(a) + _rounded(b))


def _add_in_place(a: Tensor, b: Tensor | float) -> Tensor:
    return a.copy_(_add(a, b))


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise InexactError(f"GELU's approximation {approximate!r} has no exact form; use the plain GELU")
    x = to_grid(x)
    return x.clamp(min=0) - _looked_up("gelu", x.abs())


def _tanh(x: Tensor) -> Tensor:
    x = to_grid(x)
    return torch.sign(x) * _looked_up("tanh", x.abs())


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
    return torch.tensor(entries, dtype=torch.float64, device=device) * 2.0**-bits


def _looked_up(name: str, x: Tensor) -> Tensor:
    """The table's function at `x` >= 0 on the grid."""
    entries = table(name, str(x.device))
    index = (x * 2.0**GRID).clamp_(max=len(entries) - 1).long()
    return entries.take(index)


_OF_SUMS: dict[str, Callable[..., Any]] = {
    "conv2d": partial(_convolution, F.conv2d, (1, 2, 3)),
    "conv_transpose2d": partial(_convolution, F.conv_transpose2d, (0, 2, 3)),
    "linear": _linear,
    "matmul": _matmul,
    "__matmul__": _matmul,
    "attend": _attend,
    "normalised": _normalised,
    "store": _store,
    "most_similar": _most_similar,
    "softmax": _softmax,
    "weighted_softmax": _weighted_softmax,
    "gelu": _gelu,
    "tanh": _tanh,
    "sum": _sum,
    "mean": _mean,
    "add": _add,
    "__add__": _add,
    "__radd__": _add,
    "add_": _add_in_place,
    "__iadd__": _add_in_place,
    "div": _divide,
    "__truediv__": _divide,
}
_MOVES = frozenset(
    """
    __get__ __getitem__ __setitem__ __len__ __bool__ __int__ __index__ __invert__ __and__ __or__ __iter__ __hash__
    arange new_zeros new_empty new_full new_ones zeros zeros_like ones_like empty empty_like full full_like tensor
    view reshape flatten unflatten permute transpose t squeeze unsqueeze expand expand_as contiguous clone detach copy_
    cat stack split chunk unbind index_select index_copy index_copy_ gather take where masked_fill masked_fill_ fill_
    roll flip repeat repeat_interleave pad pixel_shuffle pixel_unshuffle unfold to double float bool cpu cuda numpy
    item tolist numel size stride dim any all nonzero unique is_floating_point logical_and logical_or logical_not equal
    storage_offset data_ptr get_device is_contiguous reparametrised
    """.split()
)
_ELEMENTWISE = frozenset(
    """
    sub __sub__ __rsub__ mul __mul__ __rmul__ neg __neg__ abs sign round floor ceil clamp clamp_min minimum maximum
    amax amin max min relu leaky_relu threshold __mod__ remainder __floordiv__ int long
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__
    """.split()
)

"""Exact arithmetic: the same bits from every machine, device, thread count and batch.

A decoder must address the same probability tables as the encoder did, to the last bit, and show the same picture.
Floating-point sums depend on their order, and libraries choose the order by machine and shape; exponentials differ
between libraries. Inside

    with exact():
        mu, log_sigma = network(features.double())

tensors are fixed-point numbers held in float64. Every operation first rounds what it is given to the grid (multiples of
2^-12) and rounds what it returns, and is one of three kinds; any other is refused:

1. *Moves*: indexing, reshaping, concatenating. Nothing is computed.
2. *Element by element*: + - * /, square root, rounding, maxima. IEEE 754 prescribes each result bit by bit.
3. *Sums of products*: convolutions, matrix products, sums. Activations below 2^10 on the grid have 22 bits, and weights
   get as many bits as keep every partial sum an integer below 2^53 (times a power of two). float64 holds
   these exactly, so neither the order of summation matters nor the algorithm (`layers.winograd`). GELU, tanh and
   softmax's exponential are looked up in tables that hold every argument on the grid (`layers.tables`).

By induction every tensor is the same everywhere. And since each operation rounds its input, noise of float32's relative
size (2^-24) on any tensor on the way is less than half a grid step and leaves no trace. `tests/test_exact.py` tests
both; docs/bitstream.md says what is guaranteed, and what it costs in time and bits.

Tensors count as activations. Parameters keep their bits where they are known as such: weights and biases of
convolutions, linear layers and normalisations. The operations are in `layers.exact_forms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lic_lab.layers.exact_forms import FORMS, InexactError, on_grid
from lic_lab.layers.fixed_point import weights_stay


@contextmanager
def exact() -> Iterator[None]:
    """Context in which tensors are computed exactly; see the module. Use it under ``torch.no_grad()``.

    Autocast is off inside: float64 does not heed it, but what `layers.nearest` sorts out in float32 would.

    Raises
    ------
    InexactError
        At an operation without an exact form, or with arguments for which it has none.
    """
    with weights_stay(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _Exact():
        yield


class _Exact(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", "?"), kwargs or {}
        if name in MOVES:
            return _moved(func, args, kwargs)
        if name in COMPARISONS and "out" not in kwargs:
            return func(*map(on_grid, args), **{key: on_grid(value) for key, value in kwargs.items()})
        plain, in_place = _plain(name)
        if plain not in FORMS:
            raise InexactError(
                f"{name} is not exact: its result may differ between machines, and a stream coded with it would not "
                "decode there. Use another operation, or give it a fixed-point form in lic_lab/layers/exact_forms.py"
            )
        form = FORMS[plain]
        kwargs = {**kwargs, "into": args[0]} if in_place else kwargs
        try:
            return form(*args, **kwargs)
        except TypeError as error:
            if refused := _refused(form, args, kwargs):
                raise InexactError(f"{name} has no exact form with these arguments: {refused}") from error
            raise


def _plain(name: str) -> tuple[str, bool]:
    """The operation's name without underscores, and whether they say that it works in place: add_ and __iadd__ do."""
    plain = name.strip("_")
    if name.startswith("__"):
        return (plain[1:], True) if plain[:1] == "i" and plain[1:] in FORMS else (plain, False)
    return plain, name.endswith("_")


def _refused(form: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Which argument the form does not take, in Python's words."""
    try:
        signature(form).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


def _moved(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`func` as it is, but for moves between kinds of numbers."""
    name, first = func.__name__, args[0] if args else None
    if isinstance(first, Tensor) and not first.is_floating_point():
        args = (first, *map(on_grid, args[1:]))  # whole numbers are cut off, and noise must not turn 3 into 2
    if name == "arange" and any(isinstance(x, float) and not x.is_integer() for x in (*args, *kwargs.values())):
        raise InexactError("arange of fractions is not exact: multiply an arange of whole numbers")
    out = func(*args, **kwargs)
    if (name != "to" and "dtype" not in kwargs) or not isinstance(out, Tensor):
        return out
    if out.is_floating_point() and out.element_size() < 4:
        raise InexactError(f"{out.dtype} holds too few bits, and machines differ in how they round to it: use float64")
    if name == "to" and not out.is_floating_point():
        return func(on_grid(first), *args[1:], **kwargs)
    return out


MOVES = frozenset(
    """
    __get__ __getitem__ __setitem__ __len__ __index__ __invert__ __and__ __or__ __iter__ __hash__ __repr__ arange
    new_zeros new_empty new_full new_ones zeros zeros_like ones ones_like empty empty_like full full_like tensor view
    view_as reshape flatten unflatten permute transpose movedim t squeeze unsqueeze expand expand_as contiguous clone
    detach copy_ cat stack split chunk unbind narrow select meshgrid index_select index_copy index_copy_ gather take
    where masked_fill masked_fill_ fill_ zero_ roll flip repeat repeat_interleave pad pixel_shuffle pixel_unshuffle
    unfold to double float cpu cuda numpy numel size stride dim is_floating_point isnan isfinite storage_offset
    data_ptr get_device is_contiguous reparametrised _set_grad_enabled
    """.split()
)
# What these return was there before, or is whole, or leaves for Python.
COMPARISONS = frozenset(
    """
    amax amin max min equal unique int long bool item tolist __int__ __float__ __bool__ any all nonzero logical_and
    logical_or logical_not
    """.split()
)

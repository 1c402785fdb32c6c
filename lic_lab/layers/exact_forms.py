"""Exact forms of torch's operations: the same functions of numbers on the grid; `layers.exact` calls them.

A form takes the arguments of torch's operation by torch's names. What it does not take changes the result, and is
refused. Those that work element by element can write `into` a tensor, for the operation in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lic_lab.layers import nearest, winograd
from lic_lab.layers.fixed_point import (
    BITS,
    DIGITS,
    FINE,
    FINEST,
    GRID,
    finest,
    operand,
    power_below,
    prepared,
    root_,
    to_grid,
    to_grid_,
)
from lic_lab.layers.tables import looked_up
from lic_lab.layers.threads import side_by_side

SQUARE = 24  # bits of a square in GDN's pool, which leaves as many to the weights
LARGE = 2**20  # numbers, from which on a tensor is computed in blocks, side by side
BLOCK = 2**17  # numbers: a megabyte, which stays in the processor's cache

Sides = int | Sequence[int]


class InexactError(RuntimeError):
    """An operation that `exact` can't vouch for.

    No TypeError: after one, Python would try ``v = v * 2`` for ``v *= 2``, and leave what `v` is a view of as it was.
    """


def on_grid(x: Any) -> Any:
    """`x` rounded to the grid, if it is a tensor of floats."""
    return to_grid(x) if isinstance(x, Tensor) and x.is_floating_point() else x


def _settled(total: Tensor, bias: Tensor | None = None, dim: int = -1) -> Tensor:
    """A sum of products, the bias of its channels in `dim` added, on the grid; `total` is overwritten."""
    if bias is not None:
        total.add_(bias.double().view(-1, *[1] * (-1 - dim)))
    return to_grid_(total)


# --- Convolutions and matrix products ---


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sides = 1,
    padding: Sides | str = 0,
    dilation: Sides = 1,
    groups: int = 1,
) -> Tensor:
    if _is(weight, 3, input, groups) and all(_pair(side) == (1, 1) for side in (stride, padding, dilation)):
        return winograd.convolve(input, prepared(weight, _tiled, "tiled"), bias)
    w = prepared(weight, lambda w: finest(w, lambda w: w.abs().sum((1, 2, 3))), "convolution")
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN may choose an algorithm that is no plain sum
        total = F.conv2d(operand(input.contiguous()), w, None, stride, padding, dilation, groups)
    return _settled(total, bias, -3)


def _conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sides = 1,
    padding: Sides = 0,
    output_padding: Sides = 0,
    groups: int = 1,
    dilation: Sides = 1,
) -> Tensor:
    sides = [_pair(side) for side in (stride, padding, output_padding, dilation)]
    if _is(weight, 5, input, groups) and sides == [(2, 2), (2, 2), (1, 1), (1, 1)]:
        kernels = prepared(weight, lambda w: _tiled(_of_phases(w)), "phases")
        phases = winograd.convolve(input, kernels, None if bias is None else bias.repeat_interleave(4))
        return F.pixel_shuffle(phases, 2)
    w = prepared(weight, lambda w: finest(w, lambda w: w.abs().sum((0, 2, 3))), "transposed convolution")
    x = operand(input.contiguous())
    with torch.backends.cudnn.flags(enabled=False):
        total = F.conv_transpose2d(x, w, None, stride, padding, output_padding, groups, dilation)
    return _settled(total, bias, -3)


def _pair(side: Any) -> Any:
    """What stands for both sides: 2 is (2, 2)."""
    return (side, side) if isinstance(side, int) else tuple(side)


def _is(weight: Tensor, side: int, input: Tensor, groups: int) -> bool:
    return tuple(weight.shape[2:]) == (side, side) and input.dim() == 4 and groups == 1


def _tiled(weight: Tensor) -> Tensor:
    """Winograd's kernels (16, O, C) of (O, C, 3, 3)."""
    w = finest(weight, lambda w: winograd.sums(winograd.transformed(w)), BITS + winograd.GROWTH)
    return winograd.transformed(w) * 2.0**-winograd.SCALE


def _of_phases(weight: Tensor) -> Tensor:
    """A transposed convolution (C, O, 5, 5) of stride 2 as (4 O, C, 3, 3) before a pixel shuffle.

    Output 2 j + a is the sum of x_i w_k over 2 i + k - 2 = 2 j + a: w_a, w_(2 + a) and w_(4 + a) meet x_(j + 1),
    x_j and x_(j - 1). There is no w_5.
    """
    C, O = weight.shape[:2]  # noqa: E741
    taps = F.pad(weight, (0, 1, 0, 1)).view(C, O, 3, 2, 3, 2).flip(2, 4)
    return taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * O, C, 3, 3)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    w = prepared(weight, lambda w: finest(w, lambda w: w.abs().sum(1)), "linear")
    return _settled(F.linear(operand(input), w), bias)


def _matmul(input: Tensor, other: Tensor) -> Tensor:
    """Both operands are activations: they share the bits that the sum's length leaves."""
    bits = min(BITS, (DIGITS - input.shape[-1].bit_length()) // 2)
    return _settled(operand(input, bits) @ operand(other, bits))


def _attend(weights: Tensor, values: Tensor) -> Tensor:
    """The weights sum to one, so they can be fine however many there are."""
    return _settled(operand(weights, FINE + 1, FINE) @ operand(values))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `attend` makes of softmax's weights, some (batch) of all (batch, heads, queries, keys) at a time."""
    if dropout_p or is_causal or enable_gqa or (attn_mask is not None and not attn_mask.is_floating_point()):
        raise InexactError("attention has an exact form with a mask of floats and no other option")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    of_all = (*query.shape[:-1], key.shape[-2])
    some = max(1, LARGE // math.prod(of_all[1:]))
    masks = repeat(None) if attn_mask is None else attn_mask.expand(of_all).split(some)
    out = []
    for q, k, v, hidden in zip(query.split(some), key.split(some), value.split(some), masks, strict=False):
        scores = _matmul(_elementwise(torch.mul, q, scale), k.mT)
        if hidden is not None:
            scores = _elementwise(torch.add, scores, hidden)
        out.append(_attend(_softmax(scores, -1), v))
    return torch.cat(out)


# --- Search (`layers.nearest`) ---


def _store(vectors: Tensor, reciprocals: Tensor, given: Tensor) -> None:
    nearest.store(vectors, reciprocals, _for_dot_products(given))


def _most_similar(queries: Tensor, *known: Tensor) -> tuple[Tensor, Tensor]:
    similarity, index = nearest.most_similar(_for_dot_products(queries), *known)
    return to_grid(similarity), index


def _for_dot_products(x: Tensor) -> Tensor:
    """In units of 1/16, and so short that float32 holds it and no dot product leaves 53 bits; cosines do not mind."""
    return operand(x, min(24, (DIGITS - x.shape[-1].bit_length()) // 2), 4).mul_(2.0**4)


# --- Normalisations ---


def _normalised(v: Tensor, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
    """GDN (`layers.gdn`). A power of two makes the squares at each position fill their bits, whatever their size."""
    w, beta = finest(gamma, lambda w: w.abs().sum(1), SQUARE + 1), beta.double()[:, None]
    out = torch.empty(v.shape, dtype=torch.float64, device=v.device)

    def compute(piece: tuple[Tensor, Tensor, Tensor]) -> None:
        v, x, out = piece  # (C, n)
        x = to_grid(x)
        scale = power_below(x.abs().amax(0).clamp_(min=2.0**-GRID))  # (n,)
        squares = to_grid_(x.mul_(scale).square_(), SQUARE)
        root = root_((w @ squares).div_(scale.square_()).add_(beta))
        out.copy_(to_grid_(to_grid(v).mul_(root) if inverse else to_grid(v).div_(root)))

    n = max(1, BLOCK // v.shape[1])
    images = zip(*(t.contiguous().flatten(2) for t in (v, x, out)), strict=True)
    pieces = [piece for image in images for piece in zip(*(t.split(n, 1) for t in image), strict=True)]
    side_by_side(compute, pieces, v.device, v.numel() >= LARGE)
    return out


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean and variance from exact sums; a power of two makes each row's deviations fill their bits."""
    n = math.prod(normalized_shape)
    x = operand(input, DIGITS - n.bit_length()).flatten(-len(normalized_shape))
    x = x.sub_(_quotient(x.sum(-1, keepdim=True), n))
    scale = power_below(x.abs().amax(-1, keepdim=True).clamp_(min=2.0**-FINEST))
    x = to_grid_(x.mul_(scale), (DIGITS - n.bit_length()) // 2)
    variance = _quotient((x * x).sum(-1, keepdim=True), n)
    out = x.div_(root_(variance.add_(scale.square_().mul_(eps)))).view(input.shape)
    if weight is not None:
        out.mul_(weight.double())
    return to_grid_(out if bias is None else out.add_(bias.double()))


def _softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: None = None) -> Tensor:
    if dim is None or dtype is not None or not isinstance(_stacklevel, int):  # torch.softmax has dtype in its place
        raise InexactError(f"softmax over dim {dim} to another dtype has no exact form: give dim and no dtype")
    shares = _shares(input, dim)
    coarse, half = to_grid(shares), 2.0 ** -(GRID + 1) - 2.0**-FINE
    # none in the middle between two numbers of the grid, where noise would decide to which of them others round it
    return to_grid_(shares.sub_(coarse).clamp_(-half, half), FINE).add_(coarse)


def _weighted_softmax(logit: Tensor, factor: Tensor) -> Tensor:
    return to_grid_(_shares(logit, -1, to_grid(factor)))


def _shares(x: Tensor, dim: int, factor: Tensor | None = None) -> Tensor:
    """f e^x over its sum in `dim`, not rounded; NaN for minus infinities alone, or infinity or NaN, as in torch."""
    x = to_grid(x)
    peak = x.amax(dim, keepdim=True)
    e = looked_up("exp", peak - x)
    if factor is not None:
        e = e * factor  # 34 bits after the point
    return e.div_(e.sum(dim, keepdim=True)).masked_fill_(~peak.isfinite(), torch.nan)  # the sum of up to 2^19 is exact


# --- Sums ---


def _sum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    if not input.is_floating_point():
        return torch.sum(input, dim, keepdim)
    return _settled(operand(input, DIGITS - _terms(input, dim).bit_length()).sum(dim, keepdim))


def _mean(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return to_grid_(_quotient(_sum(input, dim, keepdim), _terms(input, dim)))


def _terms(input: Tensor, dim: Any) -> int:
    """How many numbers each sum has."""
    dims = range(input.dim()) if dim is None or dim == () else (dim,) if isinstance(dim, int) else dim
    return math.prod(input.shape[d] for d in dims)


def _quotient(a: Tensor, b: Tensor | float) -> Tensor:
    """CUDA multiplies by the reciprocal of a number, which rounds twice; by a tensor it divides."""
    b = b if isinstance(b, Tensor) else torch.full((), b, dtype=torch.float64, device=a.device)
    return a.double() / b.double()


# --- Element by element ---


def _elementwise(compute: Callable[..., Tensor], *operands: Any, into: Tensor | None = None) -> Tensor:
    """`compute` of operands on the grid, its result too, where they are floats; in new memory or `into` the first."""

    def computed(*operands: Any) -> Tensor:
        out = compute(*map(on_grid, operands))
        return to_grid_(out) if out.dtype == torch.float64 else on_grid(out)

    x, *others = (t for t in operands if isinstance(t, Tensor))
    alike = all(t.is_floating_point() and t.shape == x.shape and t.is_contiguous() for t in (x, *others))
    apart = into is None or all(t.untyped_storage().data_ptr() != into.untyped_storage().data_ptr() for t in others)
    if x.numel() >= LARGE and alike and apart:
        out = torch.empty_like(x, dtype=torch.float64) if into is None else into
        blocks = [t.view(-1).split(BLOCK) if isinstance(t, Tensor) else repeat(t) for t in (out, *operands)]
        side_by_side(lambda block: block[0].copy_(computed(*block[1:])), list(zip(*blocks, strict=False)), x.device)
        return out
    out = computed(*operands)
    if into is None:
        return out
    if not torch.can_cast(out.dtype, into.dtype):
        raise InexactError(f"{out.dtype} can't be written into {into.dtype}: compute it out of place")
    return into.copy_(out)


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def form(input: Tensor, *, into: Tensor | None = None) -> Tensor:
        return _elementwise(compute, input, into=into)

    return form


def _binary(compute: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    def form(input: Tensor, other: Any, *, into: Tensor | None = None) -> Tensor:
        return _elementwise(compute, input, other, into=into)

    return form


def _whole(compute: Callable[[Any, Any], Tensor], name: str) -> Callable[..., Tensor]:
    """Of whole numbers; of others torch's own has several roundings."""

    def form(input: Tensor, other: Any, *, into: Tensor | None = None) -> Tensor:
        if any(t.is_floating_point() if isinstance(t, Tensor) else isinstance(t, float) for t in (input, other)):
            raise InexactError(f"{name} of floats has no exact form: use floor and the four operations")
        return _elementwise(compute, input, other, into=into)

    return form


def _pow(input: Tensor, exponent: Any, *, into: Tensor | None = None) -> Tensor:
    if isinstance(exponent, Tensor) or exponent != 2:
        raise InexactError(f"the power {exponent} has no exact form; the exponent 2 has")
    return _elementwise(torch.square, input, into=into)


def _clamp(input: Tensor, min: Any = None, max: Any = None, *, into: Tensor | None = None) -> Tensor:
    return _elementwise(torch.clamp, input, min, max, into=into)


def _relu(input: Tensor, inplace: bool = False, *, into: Tensor | None = None) -> Tensor:
    return _elementwise(torch.relu, input, into=input if inplace else into)


def _leaky_relu(
    input: Tensor, negative_slope: float = 0.01, inplace: bool = False, *, into: Tensor | None = None
) -> Tensor:
    return _elementwise(lambda x: F.leaky_relu_(x, negative_slope), input, into=input if inplace else into)


def _threshold(
    input: Tensor, threshold: float, value: float, inplace: bool = False, *, into: Tensor | None = None
) -> Tensor:
    return _elementwise(lambda x: F.threshold(x, threshold, value), input, into=input if inplace else into)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if training and p:
        raise InexactError("dropout draws at random: put the module into evaluation with eval()")
    return input


def _gelu(input: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise InexactError(f"GELU's approximation {approximate!r} has no exact form; use the plain GELU")
    return _elementwise(lambda x: x.clamp(min=0).sub_(looked_up("gelu", x.abs())), input)


def _hyperbolic_tangent(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, torch.sign(x).mul_(looked_up("tanh", x.abs())))


FORMS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "matmul": _matmul,
    "attend": _attend,
    "scaled_dot_product_attention": _attention,
    "store": _store,
    "most_similar": _most_similar,
    "normalised": _normalised,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "weighted_softmax": _weighted_softmax,
    "sum": _sum,
    "mean": _mean,
    "pow": _pow,
    "clamp": _clamp,
    "clamp_min": lambda input, min, *, into=None: _clamp(input, min, into=into),
    "clamp_max": lambda input, max, *, into=None: _clamp(input, max=max, into=into),
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "threshold": _threshold,
    "dropout": _dropout,
    "gelu": _gelu,
    "tanh": _unary(_hyperbolic_tangent),
    "div": _binary(_quotient),
    "rdiv": _binary(lambda a, b: _quotient(torch.full((), b, dtype=torch.float64, device=a.device), a)),
    "remainder": _whole(torch.remainder, "the remainder"),
    "floor_divide": _whole(torch.floor_divide, "the quotient rounded down"),
    **{name: _unary(getattr(torch, name)) for name in ("neg", "abs", "sign", "round", "floor", "ceil", "square")},
    **{name: _binary(getattr(torch, name)) for name in ("add", "sub", "rsub", "mul", "minimum", "maximum")},
    **{name: _binary(getattr(torch, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
SYNONYMS = {  # as torch's functions and Python's operators have it, without underscores
    "radd": "add",
    "rmul": "mul",
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "subtract": "sub",
    "multiply": "mul",
    "negative": "neg",
    "absolute": "abs",
    "clip": "clamp",
}
FORMS |= {synonym: FORMS[name] for synonym, name in SYNONYMS.items()}

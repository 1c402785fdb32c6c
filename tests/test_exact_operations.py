"""Torch's operations inside `exact`: right however spelled, or refused in words; see lic_lab/layers/exact.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from laws import number_of_threads
from test_exact import noise, small_pieces
from torch import Tensor, nn

from lic_lab.layers import exact_forms
from lic_lab.layers.exact import exact
from lic_lab.layers.exact_forms import SQUARE, InexactError
from lic_lab.layers.fixed_point import GRID, finest, power_below, root_, to_grid
from lic_lab.layers.gdn import GDN


def grid(*shape: int, seed: int = 0) -> Tensor:
    return to_grid(2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


X, Y = grid(4, 6, 5, 7), grid(4, 6, 5, 7, seed=1)
W, B = grid(8, 6, 3, 3, seed=2) / 8, grid(8, seed=3)
SPELLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": lambda x, y: x + y,
    "1 + x": lambda x, y: 1 + x,
    "x - 0.3": lambda x, y: x - 0.3,
    "1 - x": lambda x, y: 1 - x,
    "torch.rsub(x, y)": lambda x, y: torch.rsub(x, y),
    "x * y": lambda x, y: x * y,
    "0.3 * x": lambda x, y: 0.3 * x,
    "x / y": lambda x, y: x / (y.abs() + 1),
    "x / 3": lambda x, y: x / 3,
    "2 / y": lambda x, y: 2 / (y.abs() + 1),
    "-x": lambda x, y: -x,
    "x ** 2": lambda x, y: x**2,
    "x.pow(2.0)": lambda x, y: x.pow(2.0),
    "torch.pow(input=, exponent=)": lambda x, y: torch.pow(input=x, exponent=2),
    "x.square()": lambda x, y: x.square(),
    "torch.add(input=, other=)": lambda x, y: torch.add(input=x, other=y),
    "torch.subtract": lambda x, y: torch.subtract(input=x, other=y),
    "torch.multiply": lambda x, y: torch.multiply(input=x, other=y),
    "torch.divide": lambda x, y: torch.divide(input=x, other=y.abs() + 1),
    "x.clamp(min=)": lambda x, y: x.clamp(min=0.11),
    "torch.clip(input=, max=)": lambda x, y: torch.clip(input=x, max=0.11),
    "clamp_min": lambda x, y: x.clamp_min(min=-1),
    "x.max(1)": lambda x, y: x.max(1).values,
    "torch.max(x, y)": lambda x, y: torch.max(input=x, other=y),
    "torch.amax(dim=, keepdim=)": lambda x, y: torch.amax(input=x, dim=(2, 3), keepdim=True),
    "sum": lambda x, y: torch.sum(input=x, dim=(2, 3), keepdim=True),
    "x.sum()": lambda x, y: x.sum(),
    "sum of large numbers": lambda x, y: (1e5 * x).sum((1, -1)),
    "mean of large numbers": lambda x, y: (1e5 * x).mean(-1),
    "mean": lambda x, y: x.mean(dim=1, keepdim=True),
    "relu": lambda x, y: F.relu(input=x, inplace=False),
    "nn.LeakyReLU": lambda x, y: nn.LeakyReLU(0.3)(x),
    "nn.Threshold": lambda x, y: nn.Threshold(0.5, -0.25)(x),
    "nn.GELU": lambda x, y: nn.GELU()(x),
    "nn.Tanh": lambda x, y: nn.Tanh()(x),
    "nn.Softmax": lambda x, y: nn.Softmax(1)(x),
    "F.softmax(input=, dim=)": lambda x, y: F.softmax(input=x, dim=2),
    "torch.softmax": lambda x, y: torch.softmax(input=x, dim=-1),
    "x.softmax": lambda x, y: x.softmax(dim=0),
    "matmul": lambda x, y: torch.matmul(input=x, other=y.mT),
    "x @ y": lambda x, y: x @ y.mT,
    "linear": lambda x, y: F.linear(input=x.movedim(1, -1), weight=W[:, :, 0, 0], bias=B),
    "conv2d": lambda x, y: F.conv2d(input=x, weight=W, bias=B, stride=(2, 1), padding=1, dilation=1, groups=1),
    "conv2d, tiled": lambda x, y: F.conv2d(x, W, B, padding=(1, 1)),
    "conv2d, one image": lambda x, y: F.conv2d(x[0], W, B, padding=1),
    "conv2d, same": lambda x, y: F.conv2d(x, W, B, padding="same"),
    "conv2d, valid": lambda x, y: F.conv2d(x, W, padding="valid"),
    "nn.Conv2d, reflect": lambda x, y: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), W, B),
    "conv_transpose2d": lambda x, y: F.conv_transpose2d(input=x, weight=W.transpose(0, 1), bias=B, stride=2),
    "F.pad(value=)": lambda x, y: F.pad(x, (1, 2), value=0.3) * 2,
    "layer_norm": lambda x, y: F.layer_norm(input=x, normalized_shape=(5, 7), weight=y[0, 0], bias=y[0, 1], eps=1e-3),
    "nn.LayerNorm": lambda x, y: nn.LayerNorm(7, elementwise_affine=False)(x),
    "nn.Dropout": lambda x, y: nn.Dropout(0.5).eval()(x),
    "arange": lambda x, y: torch.arange(7) * 0.25 + x,
    "to float32": lambda x, y: x.to(torch.float32) + y.float(),
    "roll": lambda x, y: torch.roll(input=x, shifts=(1, -2), dims=(2, 3)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_operation_is_right_however_it_is_spelled(spelling: str) -> None:
    compute = SPELLINGS[spelling]
    with torch.no_grad():
        with exact():
            found = compute(X.clone(), Y.clone())
        with exact(), small_pieces():
            assert torch.equal(compute(X.clone(), Y.clone()), found)
        torch.testing.assert_close(found.double(), compute(X, Y).double(), atol=2.0**-GRID, rtol=2.0**-11)


IN_PLACE: dict[str, Callable[[Tensor, Tensor], object]] = {
    "v += w": lambda v, w: v.__iadd__(w),
    "v -= w": lambda v, w: v.__isub__(w),
    "v *= 2": lambda v, w: v.__imul__(2),
    "v /= 3": lambda v, w: v.__itruediv__(3),
    "v **= 2": lambda v, w: v.__ipow__(2),
    "add_": lambda v, w: v.add_(w),
    "sub_": lambda v, w: v.sub_(other=0.3),
    "mul_": lambda v, w: v.mul_(w),
    "div_": lambda v, w: v.div_(4),
    "pow_": lambda v, w: v.pow_(2),
    "neg_": lambda v, w: v.neg_(),
    "abs_": lambda v, w: torch.abs_(v),
    "clamp_": lambda v, w: v.clamp_(min=-1, max=0.25),
    "round_": lambda v, w: v.round_(),
    "tanh_": lambda v, w: v.tanh_(),
    "F.relu(inplace)": lambda v, w: F.relu(v, inplace=True),
    "relu_": lambda v, w: F.relu_(v),
    "F.leaky_relu(inplace)": lambda v, w: F.leaky_relu(v, 0.2, True),
    "threshold(inplace)": lambda v, w: F.threshold(v, 0.5, 0.0, inplace=True),
    "copy_": lambda v, w: v.copy_(w),
    "itself": lambda v, w: v.add_(v),
    "the row before": lambda v, w: v[1:].add_(v[:-1].clone()),
}


@pytest.mark.parametrize("pieces", [nullcontext, small_pieces], ids=["whole", "in blocks"])
@pytest.mark.parametrize("spelling", IN_PLACE)
def test_an_operation_in_place_writes_to_what_the_tensor_is_a_view_of(
    spelling: str, pieces: Callable[[], AbstractContextManager[None]]
) -> None:
    change, other = IN_PLACE[spelling], grid(6, 8, seed=1)
    before, found, expected = (grid(3, 6, 8) for _ in range(3))
    with torch.no_grad():
        with exact(), pieces():
            change(found[1], other)
            change(found[2, :, ::2], other[:, ::2])
        change(expected[1], other)
        change(expected[2, :, ::2], other[:, ::2])
    assert [torch.equal(*pair) for pair in zip(before, expected, strict=True)] == [True, False, False]
    torch.testing.assert_close(found, expected, atol=2.0**-GRID, rtol=2.0**-11)


def test_an_operation_in_place_reads_before_it_writes() -> None:
    """Of a tensor that shares memory with the one it writes to, torch itself refuses."""
    found, before = grid(9, 4), grid(9, 4)
    with torch.no_grad(), exact(), small_pieces():
        found[1:].add_(found[:-1])
    assert torch.equal(found[1:], before[1:] + before[:-1])


def test_operators_in_place_reach_the_base() -> None:
    """As statements, in which Python falls back to ``v = v * 2`` after a TypeError."""
    base = grid(4, 5)
    expected = base.clone()
    expected[1] = (expected[1] * 2 - 1) / 4
    with torch.no_grad(), exact():
        v = base[1]
        v *= 2
        v -= 1
        v /= 4
    assert torch.equal(base, to_grid(expected))
    with torch.no_grad(), exact(), pytest.raises(InexactError):
        v **= 3


def test_autograd_can_be_switched_inside() -> None:
    layer = nn.Linear(7, 3)
    with exact(), torch.no_grad():
        found = layer(X)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with torch.no_grad(), exact():
        assert torch.equal(layer(X), found)


def test_whole_numbers_stay_whole() -> None:
    """Indices are computed as they are; what is cut off to whole numbers is rounded to the grid before."""
    at, nearly = torch.arange(10), torch.tensor([2.0, 3.0]).double() * (1 - 2.0**-24)
    with torch.no_grad(), exact():
        assert torch.equal(at * 3 // 4 % 5 - 1, torch.arange(10) * 3 // 4 % 5 - 1)
        at += 2
        assert torch.equal(at, torch.arange(2, 12))
        for cut in (nearly.long(), nearly.int(), nearly.to(torch.int64), nearly.to(dtype=torch.int8)):
            assert cut.tolist() == [2, 3]
        assert torch.zeros(2, dtype=torch.long).copy_(nearly).tolist() == [2, 3]
        at[:2] = nearly
        assert at[:2].tolist() == [2, 3]
        with pytest.raises(InexactError, match="can't be written into torch.int64"):
            at += 0.5


REFUSED: dict[str, tuple[Callable[[Tensor], object], str]] = {
    **{
        name: (compute, f"{name} is not exact")
        for name, compute in {
            "exp": torch.exp,
            "sigmoid": torch.sigmoid,
            "cumsum": lambda x: x.cumsum(1),
            "var": lambda x: x.var(),
            "rsqrt": torch.rsqrt,
            "reciprocal": torch.reciprocal,
            "log_softmax": lambda x: F.log_softmax(x, 1),
            "normalize": F.normalize,
            "addmm": lambda x: torch.addmm(x[0, 0], x[0, 0], x[0, 0].mT, alpha=2),
            "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3),
            "baddbmm": lambda x: torch.baddbmm(x[0], x[0], x[0]),
            "lerp": lambda x: torch.lerp(x, x, 0.3),
            "einsum": lambda x: torch.einsum("bchw,bchw->b", x, x),
            "__rpow__": lambda x: 2**x,
            "batch_norm": nn.BatchNorm2d(6).eval(),
            "group_norm": lambda x: F.group_norm(x, 2),
            "interpolate": lambda x: F.interpolate(x, scale_factor=2),
            "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
            "half": lambda x: x.half(),
        }.items()
    },
    **{
        f"scaled_dot_product_attention({name})": (
            lambda x, option=option: F.scaled_dot_product_attention(x, x, x, **option),
            "attention has an exact form",
        )
        for name, option in {
            "is_causal": {"is_causal": True},
            "dropout_p": {"dropout_p": 0.1},
            "enable_gqa": {"enable_gqa": True},
            "boolean mask": {"attn_mask": torch.ones(5, 5, dtype=torch.bool)},
        }.items()
    },
    "add(alpha)": (lambda x: torch.add(x, x, alpha=0.3), "add .*'alpha'"),
    "x.add(alpha)": (lambda x: x.add(x, alpha=0.3), "add .*'alpha'"),
    "add_(alpha)": (lambda x: x.add_(x, alpha=0.3), "add_ .*'alpha'"),
    "sub(alpha)": (lambda x: torch.sub(x, x, alpha=2), "sub .*'alpha'"),
    "x.sub_(alpha)": (lambda x: x.sub_(x, alpha=2), "sub_ .*'alpha'"),
    "rsub(alpha)": (lambda x: torch.rsub(x, x, alpha=2), "rsub .*'alpha'"),
    "subtract(alpha)": (lambda x: torch.subtract(x, x, alpha=2), "subtract .*'alpha'"),
    "div(rounding_mode)": (lambda x: x.div(2, rounding_mode="floor"), "div .*'rounding_mode'"),
    "round(decimals)": (lambda x: torch.round(x, decimals=2), "round .*'decimals'"),
    "add(out)": (lambda x: torch.add(x, x, out=torch.empty_like(x)), "add .*'out'"),
    "amax(out)": (lambda x: torch.amax(x, 1, out=torch.empty_like(x[:, 0])), "amax"),
    "matmul(out)": (lambda x: torch.matmul(x, x.mT, out=torch.empty(4, 6, 5, 5).double()), "matmul .*'out'"),
    "sum(dtype)": (lambda x: x.sum(1, dtype=torch.float32), "sum .*'dtype'"),
    "mean(dtype)": (lambda x: torch.mean(x, 1, dtype=torch.float32), "mean .*'dtype'"),
    "softmax(dtype)": (lambda x: F.softmax(x, 1, dtype=torch.float32), "dtype"),
    "x.softmax(dtype)": (lambda x: x.softmax(1, torch.float32), "dtype"),
    "softmax()": (F.softmax, "give dim"),
    "gelu(approximate)": (lambda x: F.gelu(x, approximate="tanh"), "approximation 'tanh'"),
    "x ** 3": (lambda x: x**3, "power 3"),
    "x ** 0.5": (lambda x: x**0.5, "power 0.5"),
    "x ** x": (lambda x: x**x, "power tensor"),
    "x % 0.3": (lambda x: x % 0.3, "remainder"),
    "x // 2": (lambda x: x // 2, "rounded down"),
    "dropout": (nn.Dropout(0.5).train(), r"eval\(\)"),
    "to half": (lambda x: x.to(torch.float16), "too few bits"),
    "zeros of bfloat16": (lambda x: torch.zeros(3, dtype=torch.bfloat16), "too few bits"),
    "arange of fractions": (lambda x: torch.arange(0, 1, 0.1), "fractions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exact_is_refused_in_words(name: str) -> None:
    compute, words = REFUSED[name]
    x = X.clone()
    with torch.no_grad(), exact(), pytest.raises(InexactError, match=words):
        compute(x)
    assert torch.equal(x, X)


@pytest.mark.parametrize("layout", ["together", "one by one", "apart"])
def test_roots_quotients_and_powers_are_those_of_ieee_754(layout: str) -> None:
    """By exact fractions. A vector's end, and numbers apart in memory, may have code of their own."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2000, generator=g, dtype=torch.float64) * 2.0 ** torch.randint(-60, 60, (2000,), generator=g)
    y = 1 + torch.rand(2000, generator=g, dtype=torch.float64)
    if layout == "apart":
        x = torch.stack((x, y), 1)[:, 0]
    pieces = list(zip(*(t.split(1 if layout == "one by one" else 2000) for t in (x, y)), strict=True))
    results = (
        torch.cat([root_(a.clone(memory_format=torch.preserve_format)) for a, _ in pieces]),
        torch.cat([a / b for a, b in pieces]),
        torch.cat([power_below(a) for a, _ in pieces]),
    )
    for a, b, root, quotient, power in zip(*(t.tolist() for t in (x, y, *results)), strict=True):
        half = Fraction(math.ulp(root)) / 2
        assert (Fraction(root) - half) ** 2 < Fraction(a) < (Fraction(root) + half) ** 2
        assert abs(Fraction(a) / Fraction(b) - Fraction(quotient)) <= Fraction(math.ulp(quotient)) / 2
        assert math.frexp(power)[0] == 0.5
        assert 0.5 <= a * power < 1


@pytest.mark.parametrize("size", [2.0**-12, 1.0, 2.0**10, 2.0**15])
@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_exact_at_any_scale(inverse: bool, size: float) -> None:
    """Near float64's, whatever the size of the numbers; and the same with its channels in another order."""
    torch.manual_seed(0)
    C = 96
    layer, shuffled, p = GDN(C, inverse=inverse), GDN(C, inverse=inverse), torch.randperm(C)
    with torch.no_grad():
        layer.gamma.copy_(layer.gamma_reparam.init(torch.rand(C, C)))
        shuffled.beta.copy_(layer.beta[p])
        shuffled.gamma.copy_(layer.gamma[p][:, p])
        x = to_grid(size * torch.randn(2, C, 2, 3))
        with exact():
            found = layer(x)
            assert torch.equal(shuffled(x[:, p]), found[:, p])
        torch.testing.assert_close(found, layer.double()(x), atol=2.0**-GRID, rtol=2.0**-20)


def test_gdn_s_sums_stay_within_53_bits() -> None:
    """The largest squares and positive weights that all add up; and no digit is wasted."""
    gamma = 0.5 + torch.rand(192, 192)
    w = finest(gamma, lambda w: w.sum(1), SQUARE + 1)
    fraction = next(f for f in range(60) if torch.equal(w, to_grid(w, f)))
    assert 2**50 < int((w * 2.0**fraction).long().sum(1).max()) * 2**SQUARE < 2**53


def test_softmax_over_what_is_hidden() -> None:
    """Minus infinity and -100 count as nothing; where nothing is left NaN says so, and nowhere else."""
    x = grid(3, 5)
    x[0, 1:3] = -torch.inf
    x[0, 3] = -100
    x[1] = -torch.inf
    with torch.no_grad(), exact():
        found = x.softmax(1)
    assert found[0, 1:4].tolist() == [0, 0, 0]
    torch.testing.assert_close(found[[0, 2]], x[[0, 2]].softmax(1), atol=1e-3, rtol=1e-3)
    assert found[1].isnan().all()
    for bad in (torch.inf, torch.nan):
        x[2, 2] = bad
        with torch.no_grad(), exact():
            assert x.softmax(1)[2].isnan().all()
            assert torch.equal(x.softmax(1)[0], found[0])


def test_infinity_and_nan_pass_through_the_tables() -> None:
    x = torch.tensor([-torch.inf, torch.inf, torch.nan]).double()
    with torch.no_grad(), exact():
        assert F.gelu(x)[:2].tolist() == [0, torch.inf]
        assert torch.tanh(x)[:2].tolist() == [-1, 1]
        assert F.gelu(x)[2].isnan() and torch.tanh(x)[2].isnan()


@pytest.mark.parametrize("scale", [2.0**-10, 1.0, 3000.0])
@pytest.mark.parametrize("shape", [(24,), (5, 24)])
def test_layer_norm_is_exact_at_any_scale(shape: tuple[int, ...], scale: float) -> None:
    """Near float64's, whatever the size of the numbers; and the same in another order of summation."""
    x = to_grid(scale * (grid(4, *shape) + 1))
    p = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    layer = nn.LayerNorm(shape)
    with torch.no_grad():
        layer.weight.copy_(1 + grid(*shape, seed=1) / 4)
        layer.bias.copy_(grid(*shape, seed=2))
        shuffled = nn.LayerNorm(shape)
        shuffled.weight.copy_(layer.weight[..., p])
        shuffled.bias.copy_(layer.bias[..., p])
        with exact():
            found = layer(x)
            assert torch.equal(shuffled(x[..., p]), found[..., p])
            assert torch.equal(torch.cat([layer(row) for row in x.split(1)]), found)
        torch.testing.assert_close(found, layer.double()(x), atol=2.0**-GRID, rtol=1e-5)


def test_layer_norm_s_sums_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the largest numbers and of any: by exact fractions."""
    sums: list[Tensor] = []
    quotient = exact_forms._quotient
    monkeypatch.setattr(exact_forms, "_quotient", lambda a, n: sums.append(a.clone()) or quotient(a, n))
    x = torch.cat((grid(4, 96), 2.0**33 - grid(4, 96), -(2.0**33) * torch.ones(1, 96)))
    with torch.no_grad(), exact():
        F.layer_norm(x, (96,))
    for row, total in zip(x.tolist(), sums[0].flatten().tolist(), strict=True):
        assert Fraction(total) == sum(map(Fraction, row))
    bits = (53 - (96).bit_length()) // 2
    squares = sums[1] * 2.0 ** (2 * bits)  # in steps, of which a number has less than 2^bits
    assert torch.equal(squares, squares.round())
    assert 2**45 < squares.max() < 2**53


def test_layer_norm_of_equal_numbers_is_the_bias() -> None:
    layer = nn.LayerNorm(7)
    with torch.no_grad():
        layer.bias.copy_(grid(7))
        with exact():
            found = layer(torch.full((2, 7), 1 / 3).double())
    assert torch.equal(found, to_grid(layer.bias.detach()).expand(2, 7))


class SwinBlock(nn.Module):
    """Liu et al. 2021 by torch's modules: pre-norm, windows plain or shifted, relative position bias, GELU between."""

    def __init__(self, dim: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * dim, dim))
        self.softmax = nn.Softmax(dim=-1)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = at[:, :, None] - at[:, None, :] + window - 1
        self.register_buffer("index", relative[0] * (2 * window - 1) + relative[1])  # (n, n)

    def windows(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B windows, n, C)."""
        B, H, W, C = x.shape
        w = self.window
        x = x.view(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).contiguous()
        return x.view(-1, w * w, C)

    def mask(self, H: int, W: int, hidden: float) -> Tensor:
        """0 within what was together before the shift, `hidden` between: (windows, n, n)."""
        regions = torch.zeros(1, H, W, 1)
        cuts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for k, (rows, columns) in enumerate((rows, columns) for rows in cuts for columns in cuts):
            regions[:, rows, columns] = k
        regions = self.windows(regions).squeeze(-1)
        apart = regions.unsqueeze(1) - regions.unsqueeze(2)
        return torch.zeros_like(apart).masked_fill(apart != 0, hidden)

    def forward(self, x: Tensor, hidden: float = -100.0) -> Tensor:
        B, H, W, C = x.shape
        shortcut, x = x, self.norm1(x)
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        x = self.windows(x)
        n = x.shape[1]
        q, k, v = self.qkv(x).reshape(-1, n, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q * (C // self.heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        scores = scores + bias.unsqueeze(0)
        if self.shift:
            mask = self.mask(H, W, hidden)
            scores = scores.view(B, -1, self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, n, n)
        x = self.proj((self.softmax(scores) @ v).transpose(1, 2).reshape(-1, n, C))
        w = self.window
        x = x.view(B, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        if self.shift:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        x = shortcut + x
        x += self.mlp(self.norm2(x))
        return x


@pytest.fixture(params=[0, 2], ids=["plain", "shifted"])
def swin(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    block = SwinBlock(24, 3, 4, request.param).eval()
    with torch.no_grad():
        for norm in (block.norm1, block.norm2):
            norm.weight.normal_(1, 0.3)
            norm.bias.normal_()
    return block


def exactly(module: nn.Module, *args: object) -> Tensor:
    with torch.no_grad(), exact():
        out: Tensor = module(*args)
    return out


def test_a_swin_block_is_near_what_float64_gives(swin: nn.Module) -> None:
    x = grid(2, 8, 12, 24)
    for hidden in (-100.0, -torch.inf):
        found = exactly(swin, x, hidden)
        with torch.no_grad():
            expected = swin.double()(x, hidden)
        swin.float()
        assert torch.equal(found, to_grid(found))
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_a_swin_block_is_the_same_under_every_condition(swin: nn.Module) -> None:
    """Threads, libraries, alone or in a batch, windows in another order, and heads' channels in another order."""
    x = grid(2, 8, 12, 24)
    expected = exactly(swin, x)
    for threads in (1, 2):
        with number_of_threads(threads), torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(exactly(swin, x), expected)
    assert torch.equal(torch.cat([exactly(swin, image) for image in x.split(1)]), expected)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for norm in (swin.norm1, swin.norm2):  # the channels between: all sums in another order
            norm.weight.copy_(norm.weight[order])
            norm.bias.copy_(norm.bias[order])
        swin.qkv.weight.copy_(swin.qkv.weight[:, order])
        swin.mlp[0].weight.copy_(swin.mlp[0].weight[:, order])
        for last in (swin.proj, swin.mlp[3]):
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order])
    assert torch.equal(exactly(swin, x[..., order]), expected[..., order])


def test_float32_s_noise_leaves_no_trace_in_a_swin_block(swin: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    x = grid(2, 8, 12, 24)
    expected = exactly(swin, x)
    for relative, traceless in ((2.0**-24, True), (2.0**-12, False)):
        with noise(relative, monkeypatch):
            assert torch.equal(to_grid(exactly(swin, x)), expected) == traceless

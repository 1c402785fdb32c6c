"""Components against loops over positions, written from MLIC's equations in float64 NumPy.

The loops take the components' weights. Numbering is the paper's (Jiang et al., ACM MM 2023). Multi-head attention
scales by the width of a head where Eq. 6, 9 and 12 write S, the width of a slice; with one head they agree.
"""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor, nn

from lic_lab.codecs.registry import create
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.channel import ChannelContext
from lic_lab.entropy.contexts.globally import GlobalContext, InterSliceContext, IntraSliceContext, patches
from lic_lab.entropy.contexts.local import (
    AttentionContext,
    CheckerboardContext,
    RasterContext,
    StackedCheckerboardContext,
)
from lic_lab.entropy.contexts.reference import CheckerboardReference
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder, Part, Step, zigzag
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.refinement import LatentResidualPrediction
from lic_lab.entropy.seen import Seen
from lic_lab.layers.masks import beyond_window, checkerboard, window_anchors, window_pairs
from lic_lab.layers.tap import record

Array = NDArray[np.float64]
S, H, W, K = 4, 6, 7, 5
ORDERS = {parity: CodingOrder((S, S, S), True, "checkerboard", parity) for parity in ("odd", "even")}


# ------------------------------------------------------------------ the loops' vocabulary


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def weights(layer: nn.Module) -> tuple[Array, Array]:
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def convolve(x: Array, layer: nn.Conv2d) -> Array:
    """out[o, i, j] = b[o] + sum over c, di, dj of w[o, c, di, dj] x[c, i + di - r, j + dj - r]."""
    w, b = weights(layer)
    r = w.shape[2] // 2
    height, width = x.shape[1:]
    out = np.zeros((len(w), height, width)) + b[:, None, None]
    for i, j, di, dj in product(range(height), range(width), range(w.shape[2]), range(w.shape[3])):
        a, c = i + di - r, j + dj - r
        if 0 <= a < height and 0 <= c < width:
            out[:, i, j] += w[:, :, di, dj] @ x[:, a, c]
    return out


def linear(x: Array, layer: nn.Linear) -> Array:
    w, b = weights(layer)
    return w @ x + b


def ffn(x: Array, layer: nn.Module) -> Array:
    """FFN(x) + x, Eq. 8, 11 and 14."""
    return x + linear(gelu(linear(x, layer.net[0])), layer.net[2])


def attend(q: Array, keys: list[Array], values: list[Array], heads: int, bias: Array | None = None) -> Array:
    """Attention of one query over lists of keys and values; `bias` is (heads, keys)."""
    out, d = np.zeros(len(q)), len(q) // heads
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        scores = np.array([q[part] @ k[part] / math.sqrt(d) for k in keys])
        scores = np.exp(scores if bias is None else scores + bias[h])
        out[part] = sum(p * v[part] for p, v in zip(scores / scores.sum(), values, strict=True))
    return out


def is_anchor(i: int, j: int, parity: str) -> bool:
    return (i + j) % 2 == (1 if parity == "odd" else 0)


def only(x: Array, anchors: bool, parity: str) -> Array:
    """x with zeros where it is not anchors (or not non-anchors)."""
    out = np.zeros_like(x)
    for i, j in product(range(x.shape[1]), range(x.shape[2])):
        if is_anchor(i, j, parity) == anchors:
            out[:, i, j] = x[:, i, j]
    return out


def nonanchor_case(parity: str, i: int, seed: int = 0) -> tuple[Seen, Step, Array]:
    """What is known before the non-anchors of slice `i`, the step, and the full latent (3S, H, W)."""
    order = ORDERS[parity]
    y = torch.randn(1, order.M, H, W, generator=torch.Generator().manual_seed(seed))
    step = next(s for s in order.steps(H, W) if s.slices == (i,) and s.kind == "second")
    canvas = torch.full_like(y, torch.nan)
    canvas[:, : i * S] = y[:, : i * S]
    anchors = ~step.mask
    canvas[:, i * S : (i + 1) * S, anchors] = y[:, i * S : (i + 1) * S, anchors]
    return Seen(order, canvas, torch.randn(1, 2, H, W)), step, y[0].double().numpy()


def nonanchors(parity: str) -> list[tuple[int, int]]:
    return [(i, j) for i, j in product(range(H), range(W)) if not is_anchor(i, j, parity)]


def agree(context: nn.Module, seen: Seen, i: int, step: Step, expected: Array) -> None:
    with torch.no_grad():
        found = context(seen, i, step)[0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


# ------------------------------------------------------------------ local contexts


@pytest.mark.parametrize("parity", ["odd", "even"])
def test_checkerboard_convolution(parity: str) -> None:
    torch.manual_seed(1)
    context = CheckerboardContext(ORDERS[parity], K)
    seen, step, y = nonanchor_case(parity, 1)
    out = convolve(only(y[S : 2 * S], True, parity), context.convs[1])
    agree(context, seen, 1, step, np.stack([out[:, i, j] for i, j in nonanchors(parity)], 1))


@pytest.mark.parametrize("parity", ["odd", "even"])
@pytest.mark.parametrize("J", [1, 3, 5])
def test_stacked_checkerboard_alternates_sides(parity: str, J: int) -> None:
    """Section 3.4.1: odd convolutions carry from anchors to non-anchors, even ones back."""
    torch.manual_seed(2)
    context = StackedCheckerboardContext(ORDERS[parity], J, K)
    seen, step, y = nonanchor_case(parity, 2)
    x = only(y[2 * S :], True, parity)
    for number, layer in enumerate(context.stacks[2], start=1):
        x = convolve(x, layer)
        if number < J:
            x = only(gelu(x), anchors=number % 2 == 0, parity=parity)
    agree(context, seen, 2, step, np.stack([x[:, i, j] for i, j in nonanchors(parity)], 1))


def test_a_stack_of_even_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        StackedCheckerboardContext(ORDERS["odd"], J=2)


@pytest.mark.parametrize("parity", ["odd", "even"])
def test_checkerboard_attention_is_equations_6_to_8(parity: str) -> None:
    torch.manual_seed(3)
    context = AttentionContext(ORDERS[parity], K, heads=2)
    for bias in context.bias:
        nn.init.normal_(bias)
    seen, step, y = nonanchor_case(parity, 1)
    embedded = convolve(y[S : 2 * S], context.embed[1])
    q, k, v = embedded[:S], embedded[S : 2 * S], embedded[2 * S :]
    table = context.bias[1].detach().double().numpy().reshape(2, 2 * K - 1, 2 * K - 1)
    cells = [(a, b) for a, b in product(range(-(K // 2), K // 2 + 1), repeat=2) if (a + b) % 2]
    columns = []
    for i, j in nonanchors(parity):
        inside = [(a, b) for a, b in cells if 0 <= i + a < H and 0 <= j + b < W]
        assert all(is_anchor(i + a, j + b, parity) for a, b in inside)
        window = np.zeros((len(cells), S))
        for a, b in inside:
            bias = np.array([table[:, a - c + K - 1, b - d + K - 1] for c, d in inside]).T
            keys = [k[:, i + c, j + d] for c, d in inside]
            values = [v[:, i + c, j + d] for c, d in inside]
            window[cells.index((a, b))] = attend(q[:, i + a, j + b], keys, values, 2, bias)  # Eq. 6
        columns.append(ffn(linear(window.ravel(), context.fuse[1]), context.ffn[1]))  # Eq. 7 and 8
    agree(context, seen, 1, step, np.stack(columns, 1))


# ------------------------------------------------------------------ global contexts


def refined(context: GlobalContext, i: int, attended: Array, shortcut: Array, parity: str) -> Array:
    """Eq. 10 and 11, or 13 and 14, at the non-anchors."""
    conv = convolve(attended, context.refine[i - 1]) + shortcut
    found = [ffn(linear(conv[:, a, b], context.widen[i - 1]), context.ffn[i - 1]) for a, b in nonanchors(parity)]
    return np.stack(found, 1)


@pytest.mark.parametrize("parity", ["odd", "even"])
@pytest.mark.parametrize("mask", [True, False])
def test_intra_slice_context_is_equations_9_to_11(parity: str, mask: bool) -> None:
    torch.manual_seed(4)
    context = IntraSliceContext(ORDERS[parity], K, heads=2, mask=mask)
    seen, step, y = nonanchor_case(parity, 2)
    embedded = convolve(y[S : 2 * S], context.embed_qk[1])
    q, k = embedded[:S], embedded[S:]
    v = only(convolve(only(y[2 * S :], True, parity), context.embed_v[1]), True, parity)
    anchors = [(i, j) for i, j in product(range(H), range(W)) if is_anchor(i, j, parity)]
    attended = np.zeros((S, H, W))
    for i, j in nonanchors(parity):
        far = [(a, b) for a, b in anchors if not mask or max(abs(a - i), abs(b - j)) > K // 2]
        if far:
            attended[:, i, j] = attend(q[:, i, j], [k[:, a, b] for a, b in far], [v[:, a, b] for a, b in far], 2)
    beside = np.zeros((S, H, W))  # Eq. 10's values: of the anchor in the same pair of columns, or else the one before
    for i, j in nonanchors(parity):
        pair = j + 1 if j % 2 == 0 and j + 1 < W else j - 1
        assert is_anchor(i, pair, parity)
        beside[:, i, j] = v[:, i, pair]
    agree(context, seen, 2, step, refined(context, 2, attended, beside, parity))


@pytest.mark.parametrize("parity", ["odd", "even"])
def test_inter_slice_context_is_equations_12_to_14(parity: str) -> None:
    torch.manual_seed(5)
    context = InterSliceContext(ORDERS[parity], K, heads=2)
    seen, step, y = nonanchor_case(parity, 1)
    q = convolve(only(y[S : 2 * S], True, parity), context.embed_q[0])
    embedded = convolve(y[:S], context.embed_kv[0])
    k, v = embedded[:S], embedded[S:]
    everywhere = list(product(range(H), range(W)))
    attended = np.zeros((S, H, W))
    for i, j in everywhere:
        if is_anchor(i, j, parity):
            keys, values = [k[:, a, b] for a, b in everywhere], [v[:, a, b] for a, b in everywhere]
            attended[:, i, j] = attend(q[:, i, j], keys, values, 2)
    agree(context, seen, 1, step, refined(context, 1, attended, v, parity))


@pytest.mark.parametrize("kind", [IntraSliceContext, InterSliceContext])
def test_one_patch_is_the_whole(kind: type[GlobalContext]) -> None:
    torch.manual_seed(6)
    context = kind(ORDERS["odd"], K, patch=8)
    seen, step, _ = nonanchor_case("odd", 1)
    with torch.no_grad():
        one = context(seen, 1, step)
        context.patch = 64
        assert torch.equal(one, context(seen, 1, step))
    assert not context.patched(64, 64)
    assert context.patched(64, 65)


@pytest.mark.parametrize("kind", [IntraSliceContext, InterSliceContext])
def test_patches_do_not_leak(kind: type[GlobalContext]) -> None:
    """Attention weights of a patch, and what it attends to, are those of the patch cut out."""
    torch.manual_seed(7)
    order = CodingOrder((S, S), True, "checkerboard")
    context = kind(order, K, patch=6)
    y = torch.randn(1, 2 * S, 12, 10)
    whole: list[Tensor] = []
    attended: list[Tensor] = []
    context.refine[0].register_forward_pre_hook(lambda module, args: attended.append(args[0]))
    with torch.no_grad(), record(lambda name, value, where: whole.append(value)):
        step = order.steps(12, 10)[-1]
        context(Seen(order, y, y), 1, step)
    cut: list[Tensor] = []
    for rows, columns in patches(12, 10, 6):
        part = y[:, :, rows, columns].contiguous()
        with torch.no_grad(), record(lambda name, value, where: cut.append(value)):
            context(Seen(order, part, part), 1, order.steps(*part.shape[2:])[-1])
        torch.testing.assert_close(attended[0][:, :, rows, columns], attended[-1], atol=1e-6, rtol=0)
    assert len(whole) == len(cut) == 4
    for a, b in zip(whole, cut, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_patches_cover_once_and_keep_the_parity() -> None:
    for height, width, patch in [(1, 1, 2), (7, 6, 4), (33, 48, 16), (65, 64, 64), (129, 3, 64)]:
        count = np.zeros((height, width), int)
        for rows, columns in patches(height, width, patch):
            count[rows, columns] += 1
            assert rows.start % 2 == columns.start % 2 == 0
            assert max(rows.stop - rows.start, columns.stop - columns.start) <= patch
        assert (count == 1).all()
    with pytest.raises(ValueError, match="even"):
        list(patches(4, 4, 3))


def test_memory_of_patched_attention_is_linear() -> None:
    """Twice the positions, twice the attention weights; without patches four times."""

    def weights_of(height: int, patch: int) -> int:
        order = CodingOrder((S, S), True, "checkerboard")
        context = IntraSliceContext(order, K, patch=patch)
        y = torch.randn(1, 2 * S, height, 16)
        sizes: list[int] = []
        with torch.no_grad(), record(lambda name, value, where: sizes.append(value.numel())):
            context(Seen(order, y, y), 1, order.steps(height, 16)[-1])
        return sum(sizes)

    assert weights_of(32, 16) == 2 * weights_of(16, 16)
    assert weights_of(64, 16) == 4 * weights_of(16, 16)
    assert weights_of(32, 64) == 4 * weights_of(16, 64)


# ------------------------------------------------------------------ channel context, refinement, raster


def test_channel_context_is_three_convolutions_over_the_slices_before() -> None:
    torch.manual_seed(8)
    context = ChannelContext(ORDERS["odd"], hidden=(6, 5), expand=2)
    seen, step, y = nonanchor_case("odd", 2)
    net = context.nets[1]
    x = convolve(gelu(convolve(gelu(convolve(y[: 2 * S], net[0])), net[2])), net[4])
    agree(context, seen, 2, step, np.stack([x[:, i, j] for i, j in nonanchors("odd")], 1))
    assert context.width(0) == 0


@pytest.mark.parametrize("part", ["anchor", "nonanchor"])
def test_split_refinement_refines_its_half(part: str) -> None:
    torch.manual_seed(9)
    seen, _, y = nonanchor_case("odd", 1)
    if part == "nonanchor":
        seen.y_hat = torch.from_numpy(y[None]).float()
    step = next(s for s in seen.order.steps(H, W) if s.slices == (1,) and s.part.name == part)
    lrp = LatentResidualPrediction(seen.order, 2, hidden=(6, 5), split=True)
    current = only(y[S : 2 * S], True, "odd") if part == "anchor" else y[S : 2 * S]
    net = lrp.nets["first" if part == "anchor" else "second"][1]
    x = np.concatenate((seen.hyper[0].double().numpy(), y[:S], current))
    x = 0.5 * np.tanh(convolve(gelu(convolve(gelu(convolve(x, net[0])), net[2])), net[4]))
    with torch.no_grad():
        found = lrp(seen, 1, step)[0].double().numpy()
    np.testing.assert_allclose(found, only(x, part == "anchor", "odd"), atol=2e-5)


def test_raster_context_is_a_masked_convolution() -> None:
    """Minnen 2018: the 5 x 5 window's cells above, and left in the same row."""
    torch.manual_seed(10)
    order = CodingOrder((3,), pattern="wavefront")
    context = RasterContext(order, 6)
    y = torch.randn(1, 3, H, W)
    w, b = weights(context.linear)
    kernel = np.zeros((6, 3, K, K))
    kernel.reshape(6, 3, K * K)[:, :, : K * K // 2] = w.reshape(6, 3, -1)
    expected = np.zeros((6, H, W))
    for i, j, di, dj in product(range(H), range(W), range(K), range(K)):
        a, c = i + di - 2, j + dj - 2
        if 0 <= a < H and 0 <= c < W and (di < 2 or (di == 2 and dj < 2)):
            expected[:, i, j] += kernel[:, :, di, dj] @ y[0, :, a, c].double().numpy()
    expected += b[:, None, None]
    with torch.no_grad():
        found = context(Seen(order, y, y), 0, order.at_once())[0]
    np.testing.assert_allclose(found.double().numpy(), expected.reshape(6, -1), atol=2e-5)


def test_wavefronts_are_the_raster_scan_position_by_position() -> None:
    """mu and sigma of the wavefront loop, of a scan one position at a time, and of the parallel estimate."""
    torch.manual_seed(11)
    entropy = create("joint-autoregressive", "small").entropy.eval()
    height, width = 5, 7
    hyper, y = torch.randn(1, 192, height, width), 2 * torch.randn(1, 96, height, width)

    def visited(steps: list[Step] | None) -> Tensor:
        maps = torch.zeros(2, 96, height, width)

        def visit(step: Step, mu: Tensor, log_sigma: Tensor) -> Tensor:
            nonlocal maps
            maps = step.put(maps, slice(0, 96), torch.cat((mu, entropy.gaussian.sigma(log_sigma))))
            return torch.round(step.take(y))

        with torch.no_grad():
            assert torch.equal(entropy.run(hyper, visit, steps), torch.round(y))
        return maps

    scan = [Step((0,), Part("wavefront", "raster", positions=torch.tensor([p]))) for p in range(height * width)]
    raster = visited(scan)
    torch.testing.assert_close(visited(None), raster, atol=1e-5, rtol=1e-5)
    parallel: dict[str, Tensor] = {}
    with torch.no_grad(), record(lambda name, value, where: parallel.update({name: value})):
        entropy(y, hyper)
    torch.testing.assert_close(torch.cat((parallel["mu"], parallel["sigma"])), raster, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------ masks and orders


def test_parity_of_the_checkerboard() -> None:
    odd, even = checkerboard(3, 4, "odd"), checkerboard(3, 4, "even")
    assert not odd[0, 0]
    assert even[0, 0]
    assert torch.equal(odd, ~even)
    for i, j in product(range(3), range(4)):
        assert bool(odd[i, j]) == is_anchor(i, j, "odd")
        assert bool(even[i, j]) == is_anchor(i, j, "even")


def test_window_mask_is_figure_7() -> None:
    """Neither anchors with non-anchors nor non-anchors among themselves; the window's centre is a non-anchor."""
    pairs, anchors = window_pairs(K), window_anchors(K)
    assert not anchors[K * K // 2]
    assert int(anchors.sum()) == (K * K - 1) // 2
    for query, key in product(range(K * K), repeat=2):
        at = [(cell // K + cell % K) % 2 == 1 for cell in (query, key)]  # K // 2 + K // 2 is even
        assert bool(pairs[query, key]) == all(at)


def test_global_mask_is_figure_10() -> None:
    """The local context's receptive field is masked, for a position inside and at the border alike."""
    visible = beyond_window(H, W, K).reshape(H, W, H, W)
    for i, j, a, b in product(range(H), range(W), range(H), range(W)):
        assert bool(visible[i, j, a, b]) == (abs(i - a) > 2 or abs(j - b) > 2)


@pytest.mark.parametrize(
    "order",
    [
        CodingOrder((6,)),
        CodingOrder((2, 1, 3), in_turn=True),
        CodingOrder((6,), pattern="checkerboard", parity="even"),
        CodingOrder((2, 1, 3), in_turn=True, pattern="checkerboard"),
        CodingOrder((6,), pattern="wavefront"),
        CodingOrder((6,), pattern="wavefront", kernel=3),
        CodingOrder((6,), pattern="zigzag", patch=3),
        CodingOrder((2, 1, 3), in_turn=True, pattern="zigzag", patch=2),
    ],
    ids=lambda order: order.name,
)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 7)])
def test_orders_cover_each_symbol_exactly_once(order: CodingOrder, size: tuple[int, int]) -> None:
    count = torch.zeros(1, order.M, *size)
    for step in order.steps(*size):
        channels = order.step_channels(step)
        count = step.put(count, channels, step.take(count[:, channels]) + 1)
    assert (count == 1).all()
    assert (order.step_map(*size) >= 0).all()


def test_chunks_come_channel_first_then_in_zigzag() -> None:
    """Shen and Liu, Fig. 4: three slices, 3 x 3 patches, by hand; the last row and column of patches are cut."""
    order = CodingOrder((1, 2, 1), in_turn=True, pattern="zigzag", patch=2)
    patches = ["00", "01", "10", "20", "11", "02", "12", "21", "22"]
    expected = [(i, patch) for patch in patches for i in range(3)]
    corner = {f"{a}{b}": (2 * a) * 5 + 2 * b for a, b in product(range(3), repeat=2)}  # its first position of 5 x 5
    size = {f"{a}{b}": (1 if a == 2 else 2) * (1 if b == 2 else 2) for a, b in product(range(3), repeat=2)}
    steps = order.steps(5, 5)
    assert [step.index for step in steps] == list(range(27))
    for step, (i, patch) in zip(steps, expected, strict=True):
        assert step.slices == (i,)
        assert step.kind == "chunk"
        assert int(step.positions[0]) == corner[patch]
        assert len(step.positions) == size[patch] == int(step.mask.sum())
    assert order.name == "chunks"
    assert CodingOrder((3,), pattern="zigzag", patch=9).steps(5, 5)[0].part.last  # one patch is the whole


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 4)])
def test_zigzag_walks_to_a_neighbour_each_time(size: tuple[int, int]) -> None:
    cells = zigzag(*size)
    assert sorted(cells) == list(product(*map(range, size)))
    for (a, b), (c, d) in pairwise(cells):
        assert c + d - (a + b) in (0, 1)
        assert max(abs(c - a), abs(d - b)) == 1


class ChunkContext(Context):
    """What earlier slices have at the positions, and the mean of the patch before in the slice itself."""

    pattern = "zigzag"
    in_turn = True
    kinds = ("chunk",)

    def __init__(self, order: CodingOrder):
        super().__init__()
        self.order = order
        self.nets = torch.nn.ModuleList(
            torch.nn.Linear(sum(order.slices[: i + 1]), 8) for i in range(len(order.slices))
        )

    def width(self, i: int) -> int:
        return 8

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        before = step.take(seen.once_per_slice(self, i, lambda: seen.before(i) * 1.0))  # (B, channels, n), a copy
        own = step.take(seen.slice(i)).new_zeros(1, self.order.slices[i], 1)
        if step.part.index:
            last = seen.order.steps(*seen.y_hat.shape[2:])[step.index - len(self.order.slices)]
            own = last.take(seen.slice(i)).mean(2, keepdim=True)
        both = torch.cat((before, own.expand(-1, -1, before.shape[2])), 1)
        return self.nets[i](both.mT).mT


@pytest.mark.parametrize("size", [(5, 8), (1, 1), (2, 3)])
def test_chunks_code_and_decode_and_see_only_the_past(size: tuple[int, int]) -> None:
    """A component for chunks needs nothing but the contract: kept features are renewed when an earlier slice grows."""
    torch.manual_seed(12)
    order = CodingOrder((2, 3), in_turn=True, pattern="zigzag", patch=3)
    context = ChunkContext(order)
    g_ep = Parameters(order, {"chunk": {"hyper": (4, 4), "local": (8, 8)}}, hidden=(16,))
    entropy = EntropyModel(order, {"local": {"chunk": context}}, g_ep, gaussian=Gaussian("plain")).eval()
    hyper, y = torch.randn(1, 4, *size), 3 * torch.randn(1, 5, *size)
    with torch.no_grad():
        strings, y_hat = entropy.compress(y, hyper)
        assert torch.equal(entropy.decompress(strings, hyper), y_hat)
        assert torch.equal(y_hat.float(), torch.round(y))
        estimate = -entropy(y, hyper).likelihoods.log2().sum() / 8
        assert abs(len(strings[0]) - estimate) < 0.005 * estimate + 64

        def visit(step: Step, mu: Tensor, log_sigma: Tensor) -> Tensor:
            assert mu.isfinite().all()
            assert log_sigma.isfinite().all()
            return step.take(torch.round(y[:, order.step_channels(step)]))

        assert torch.equal(entropy.run(hyper, visit, fill=torch.nan), torch.round(y))


def test_what_is_kept_for_a_slice_is_the_last_only() -> None:
    """A slice comes back in each patch: what was kept of it before is replaced, so that memory does not grow."""
    order = CodingOrder((1, 1), in_turn=True, pattern="zigzag", patch=1)
    seen, made = Seen(order, torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3)), []
    for step in order.steps(3, 3):
        (i,) = step.slices
        for _ in range(2):  # asked twice, made once
            seen.once_per_slice(order, i, lambda i=i: made.append(i))
        seen.decode(step, order.step_channels(step), torch.ones(1, 1, 1))
    assert made == [0, *[1] * 9]  # before slice 0 nothing grows
    assert len(seen._kept) == 2


def test_components_that_an_order_can_not_serve_are_refused() -> None:
    at_once = CodingOrder((2, 2), pattern="checkerboard")
    g_ep = Parameters(at_once, {kind: {"hyper": (4, 4)} for kind in ("first", "second")}, hidden=(4,))
    with pytest.raises(ValueError, match="make the order in_turn"):
        EntropyModel(at_once, {"channel": {"conv": ChannelContext(at_once)}}, g_ep)
    with pytest.raises(ValueError, match="make the order in_turn"):
        EntropyModel(at_once, {}, g_ep, {"lrp": LatentResidualPrediction(at_once, 4, split=True)})
    references = {name: {"on": CheckerboardReference(at_once)} for name in ("one", "other")}
    with pytest.raises(ValueError, match="only one can"):
        EntropyModel(at_once, references, g_ep)


def test_refinement_by_slices_is_refused_where_slices_are_never_whole() -> None:
    for pattern in ("wavefront", "zigzag"):
        order = CodingOrder((4,), pattern=pattern, patch=2)
        y = torch.zeros(1, 4, 4, 4)
        with pytest.raises(ValueError, match="no meaning in"):
            LatentResidualPrediction(order, 2)(Seen(order, y, y[:, :2]), 0, order.steps(4, 4)[0])


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_wavefronts_come_after_everything_they_read(kernel: int) -> None:
    height, width, r = 6, 9, kernel // 2
    step = CodingOrder((1,), pattern="wavefront", kernel=kernel).step_map(height, width)[0]
    assert int(step.max()) + 1 == width + (r + 1) * (height - 1)
    for i, j, di, dj in product(range(height), range(width), range(-r, 1), range(-r, r + 1)):
        a, b = i + di, j + dj
        if (di < 0 or dj < 0) and 0 <= a < height and 0 <= b < width:
            assert step[a, b] < step[i, j]


def test_bad_orders_are_refused() -> None:
    for wrong in (
        {"slices": ()},
        {"slices": (0,)},
        {"slices": (1,), "pattern": "spiral"},
        {"slices": (1,), "kernel": 4},
        {"slices": (1,), "patch": 0},
    ):
        with pytest.raises(ValueError, match="is|are"):
            CodingOrder(**wrong)
    with pytest.raises(ValueError, match="parity"):
        CodingOrder((1,), parity="both")

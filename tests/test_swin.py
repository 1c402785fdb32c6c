"""Swin blocks against loops written from the equations; the codecs made of them against the published sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lic_lab.codecs import registry
from lic_lab.entropy.contexts.channel import SliceTransforms, convolutions
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.seen import Seen
from lic_lab.evaluation.complexity import complexity
from lic_lab.layers import exact_forms
from lic_lab.layers.exact import exact
from lic_lab.layers.swin import PatchMerging, PatchSplitting, SwinBlock, WindowAttention
from lic_lab.layers.tap import record
from lic_lab.transforms.swin import Analysis, HyperAnalysis, HyperSynthesis, Synthesis


def attention(window: int, shift: int) -> WindowAttention:
    """Two heads of four channels, with a bias that is not zero."""
    torch.manual_seed(window + shift)
    found = WindowAttention(8, 2, window, shift, name="t").double()
    nn.init.normal_(found.table)
    return found.requires_grad_(False)


def by_loop(of: WindowAttention, x: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + b) v for one position after another, written from the definition.

    Windows are cut at shift + k w along an axis that is longer than one; nothing wraps around, nothing is padded.
    """
    B, H, W, C = x.shape
    d, w = C // of.heads, of.window
    q, k, v = of.qkv(x).chunk(3, -1)

    def window(i: int, j: int) -> tuple[int, int]:
        return tuple((at - (of.shift if length > w else 0)) // w for at, length in ((i, H), (j, W)))  # type: ignore

    out = torch.zeros_like(x)
    for i in range(H):
        for j in range(W):
            keys = [(a, c) for a in range(H) for c in range(W) if window(a, c) == window(i, j)]
            for head in range(of.heads):
                own = slice(head * d, (head + 1) * d)
                for b in range(B):
                    scores = [
                        float(q[b, i, j, own] @ k[b, a, c, own]) / math.sqrt(d)
                        + float(of.table[(i - a + w - 1) * (2 * w - 1) + (j - c + w - 1), head])
                        for a, c in keys
                    ]
                    weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
                    out[b, i, j, own] = sum(p * v[b, a, c, own] for p, (a, c) in zip(weights, keys, strict=True))
    return of.proj(out)


SIZES = [
    (8, 8, 4, 0),
    (8, 8, 4, 2),
    (9, 7, 4, 2),
    (3, 5, 4, 2),
    (5, 1, 4, 1),
    (1, 1, 4, 2),
    (12, 9, 8, 4),
    (10, 6, 4, 3),
]


@pytest.mark.parametrize(("H", "W", "window", "shift"), SIZES)
def test_attention_within_windows_is_its_definition_at_any_size(H: int, W: int, window: int, shift: int) -> None:
    of, x = attention(window, shift), torch.randn(2, H, W, 8, dtype=torch.float64)
    torch.testing.assert_close(of(x), by_loop(of, x))


@pytest.mark.parametrize(("H", "W", "window", "shift"), SIZES)
def test_what_is_tapped_is_what_was_attended(H: int, W: int, window: int, shift: int) -> None:
    """With weights tapped the result is the same; each query's weights sum to one, over keys of the picture alone."""
    of, x = attention(window, shift), torch.randn(1, H, W, 8, dtype=torch.float64)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(name: str, weights: Tensor, where: dict) -> None:
        places = where["places"]()
        seen.append((weights[0], places.queries, places.keys))

    with record(keep):
        tapped = of(x)
    torch.testing.assert_close(tapped, of(x))
    asked = []
    for weights, queries, keys in seen:  # (windows, heads, n, n), (windows, n) twice
        there = queries >= 0
        within = (weights * (keys >= 0)[:, None, None]).sum(-1).transpose(1, 2)[there]
        torch.testing.assert_close(within, torch.ones_like(within))
        asked.append(queries[there])
    assert torch.cat(asked).sort().values.tolist() == list(range(H * W))


@pytest.mark.parametrize("shift", [0, 2])
def test_a_position_depends_on_its_own_window_alone(shift: int) -> None:
    of, x = attention(4, shift), torch.randn(1, 10, 9, 8, dtype=torch.float64)
    poisoned = x.clone()
    poisoned[:, 4 + shift :] = torch.nan
    found = of(poisoned)
    assert torch.equal(found[:, : 4 + shift], of(x)[:, : 4 + shift])
    assert found[:, 4 + shift :].isnan().all()


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("shift", [0, 2])
def test_a_block_is_its_equations(shift: int) -> None:
    """z = x + W-MSA(LN x), z + MLP(LN z), with the norm written out."""
    torch.manual_seed(1)
    block = SwinBlock(8, 2, 4, shift).double().requires_grad_(False)
    for p in (block.attention.table, block.norm1.weight, block.norm1.bias, block.norm2.weight, block.norm2.bias):
        nn.init.normal_(p)

    def norm(x: Tensor, of: nn.LayerNorm) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * of.weight + of.bias

    x = torch.randn(1, 6, 7, 8, dtype=torch.float64)
    z = x + by_loop(block.attention, norm(x, block.norm1))
    wide, _, narrow = block.mlp
    expected = z + gelu(norm(z, block.norm2) @ wide.weight.T + wide.bias) @ narrow.weight.T + narrow.bias
    torch.testing.assert_close(block(x), expected)


def test_blocks_are_plain_and_shifted_in_turn() -> None:
    def shifts(module: nn.Module) -> list[tuple[int, int]]:
        return [(m.window, m.shift) for m in module.modules() if isinstance(m, WindowAttention)]

    plain_and_shifted = {8: [(8, 0), (8, 4)], 4: [(4, 0), (4, 2)]}
    codec = registry.create("ict", "small")
    for transform in (codec.g_a, codec.g_s):
        assert shifts(transform) == plain_and_shifted[8] * 6  # 2, 2, 6 and 2 blocks
    five_and_one = [*plain_and_shifted[4] * 2, (4, 0), (4, 0)]
    assert shifts(codec.hyperprior.h_a) == five_and_one
    assert shifts(codec.hyperprior.h_s) == five_and_one[::-1][:1] + five_and_one[:5]
    for net in codec.entropy.contexts["channel"]["transforms"].mean:
        assert shifts(net) == plain_and_shifted[4]


def test_the_fused_kernel_attends() -> None:
    """Of the transforms, where gradients are off: the plain one keeps the scores of all windows at once."""
    of = WindowAttention(64, 2, 8, 4).requires_grad_(False)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        of(torch.randn(1, 20, 20, 64))
    names = {event.key for event in seen.key_averages()}
    assert any("flash" in name for name in names)
    assert not any("attention_math" in name for name in names)


@pytest.mark.parametrize("network", ["own channels", "all channels"])
def test_a_slice_is_predicted_from_the_hyperprior_and_the_first_slices(network: str) -> None:
    """log sigma from the scales' half of Phi_h, mu from the means', each with y_hat of the first two slices of four."""
    torch.manual_seed(2)
    S, M = 4, 16
    order = CodingOrder((S,) * 4, in_turn=True)
    hyper = None if network == "own channels" else 2 * M
    context = SliceTransforms(order, convolutions((6, 5), (3, 3, 3)), hyper, support=2).requires_grad_(False)
    seen = Seen(order, torch.randn(1, M, 5, 6), torch.randn(1, 2 * M, 5, 6))
    scales, means = seen.hyper[:, :M], seen.hyper[:, M:]
    for i in range(4):
        own = slice(i * S, (i + 1) * S) if hyper is None else slice(None)
        before = seen.y_hat[:, : min(i, 2) * S]
        expected = torch.cat(
            (
                context.scale[i](torch.cat((scales[:, own], before), 1)),
                context.mean[i](torch.cat((means[:, own], before), 1)),
            ),
            1,
        )
        step = order.steps(5, 6)[i]
        torch.testing.assert_close(context(seen, i, step), step.take(expected))


@pytest.mark.parametrize("shift", [0, 4])
def test_a_block_is_exact_inside_exact(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid's numbers, near float64's; tapped or not, in pieces or not, in a batch or alone, the same bits."""
    torch.manual_seed(0)
    block = SwinBlock(16, 4, 8, shift, name="t").requires_grad_(False)
    nn.init.normal_(block.attention.table)
    x = torch.round(torch.randn(2, 11, 19, 16, dtype=torch.float64) * 4096) / 4096
    with exact():
        found = block(x)
        alone = torch.cat([block(one) for one in x.split(1)])
        with record(lambda name, value, where: None):
            tapped = block(x)
        monkeypatch.setattr(exact_forms, "LARGE", 1)
        assert torch.equal(block(x), found)
    assert torch.equal(found * 4096, torch.round(found * 4096))
    assert torch.equal(found, alone)
    assert torch.equal(found, tapped)
    torch.testing.assert_close(found, block.double()(x), atol=5e-3, rtol=0)


def test_merging_puts_four_neighbours_together_and_splitting_takes_them_apart() -> None:
    x = torch.randn(2, 3, 5, 4)
    merging = PatchMerging(4, 6).requires_grad_(False)
    found = merging(x)
    assert found.shape == (2, 2, 3, 6)
    zeros = torch.zeros(4)
    together = torch.cat((x[1, 2, 4], zeros, zeros, zeros))  # beyond an odd row and an odd column
    torch.testing.assert_close(found[1, 1, 2], merging.linear(merging.norm(together)))
    together = torch.cat((x[1, 0, 2], x[1, 0, 3], x[1, 1, 2], x[1, 1, 3]))
    torch.testing.assert_close(found[1, 0, 1], merging.linear(merging.norm(together)))
    for norm in ("after", "before", "none"):
        splitting = PatchSplitting(4, 3, norm).requires_grad_(False)
        for layer in (splitting.before, splitting.after):
            if isinstance(layer, nn.LayerNorm):
                nn.init.normal_(layer.weight)
        assert isinstance(splitting.before, nn.LayerNorm) == (norm == "before")
        assert isinstance(splitting.after, nn.LayerNorm) == (norm == "after")
        four = splitting.after(splitting.linear(splitting.before(x[1, 2, 3]))).view(2, 2, 3)
        torch.testing.assert_close(splitting(x)[1, 4:6, 6:8], four)
        assert (splitting.linear.bias is not None) == (norm == "none")
    with pytest.raises(ValueError, match="after, before or none"):
        PatchSplitting(4, 3, "both")


def test_windows_and_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="can't be shared by 3 heads"):
        WindowAttention(8, 3, 4)
    with pytest.raises(ValueError, match="below the window's side"):
        WindowAttention(8, 2, 4, shift=4)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_and_products_are_the_published_ones() -> None:
    """Table IV of Ghorbel et al., and what ../shared/papers/FACTS.md measured on their released configuration.

    The published counts leave out the quantiles of z's distributions, which are none of the network's.
    """
    widths, depths = (128, 192, 256, 320), (2, 2, 6, 2)
    parts = [Analysis(widths, depths), Synthesis(widths, depths), HyperAnalysis(320, 192), HyperSynthesis(192, 640)]
    assert [round(count(part) / 1e6, 4) for part in parts] == [9.1394, 9.1393, 3.0659, 3.3140]
    published = {"swint-charm": (31_329_936, 556.3), "ict": (37_132_424, 579.4)}
    for name, (parameters, products) in published.items():
        codec = registry.create(name)
        assert count(codec) - codec.hyperprior.bottleneck.quantiles.numel() == parameters
        macs = sum(row["macs_per_pixel"] for row in complexity(codec, 256, 256)) / 1e3
        assert macs == pytest.approx(products, rel=2e-3)
    zhu = registry.create("swint-charm", "zhu2022")
    assert round(count(zhu) / 1e6, 1) == 32.6  # their paper's
    sound = registry.create("conv-charm")  # FACTS.md: "h_s 640 channels (52.59 M plain)"
    assert round((count(sound) - sound.hyperprior.bottleneck.quantiles.numel()) / 1e6, 2) == 52.59

"""What is counted is what is computed, and it is what Qian et al. (ICLR 2021) published, by their conventions."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from laws import lively
from torch.utils.flop_counter import FlopCounterMode

from lic_lab.codecs import registry
from lic_lab.codecs.shared import SharedLatent
from lic_lab.entropy.model import EntropyModel
from lic_lab.evaluation import reference_complexity as qian
from lic_lab.evaluation.complexity import complexity, parts, products

M, N, HIDDEN, POSITIONS = 384, 192, 1152, 1536  # of the paper's size, at 512 x 768
REFERENCE = "entropy.contexts.reference.raster"


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("name", registry.names())
def test_it_counts_what_torch_counts_while_it_computes(name, size):
    """The same loop with real numbers, under FlopCounterMode; and no product is outside the rows."""
    torch.manual_seed(0)
    codec = registry.create(name, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y = codec.g_a(torch.rand(1, 3, 80, 128))  # five rows of y, two of z
        hyper = y[:, :0] if codec.hyperprior is None else codec.hyperprior.h_s(codec.hyperprior.h_a(y))[:, :, :5]
        if isinstance(codec.entropy, EntropyModel):
            y = codec.entropy.run(hyper, lambda step, mu, *_: torch.randn(mu.shape[:3]))
        codec.g_s(y)
        if codec.resizing is not None:  # for the picture itself, whose rows and columns are not filled up
            for part in codec.resizing.children():
                part(torch.rand(1, 3, 70, 121))
    rows = complexity(codec, 70, 121)  # covered by the same positions
    assert sum(row["macs"] for row in rows) == counter.get_total_flops() / 2 > 0
    assert all(row["macs_per_pixel"] == row["macs"] / (70 * 121) for row in rows)
    assert sum(row["parameters"] for row in rows) == registry.parameters(name, size)


def test_the_rows_are_the_components_in_use():
    codec = SharedLatent()
    names = ["g_a", "h_a", "bottleneck", "h_s", "g_ep", "g_s"]
    bare = codec.swap(channel="none", local="none", global_="none", refinement="none")
    full = codec.swap(channel="conv", local="attention", global_="intra+inter", refinement="lrp")
    assert [row["module"] for row in complexity(bare, 64, 64)] == names
    rows = complexity(full, 64, 64)
    expected = [*names[:4], "channel", "local", "intra", "inter", "g_ep", "refinement", "g_s"]
    assert [row["module"] for row in rows] == expected
    assert all(row["macs"] > 0 for row in rows if row["module"] != "bottleneck")
    assert parts(full)["local"] == "entropy.contexts.local.attention"
    assert [row["module"] for row in complexity(registry.create("factorized"), 64, 64)] == ["g_a", "bottleneck", "g_s"]


@pytest.mark.parametrize(
    ("swap", "times"),
    [
        ({"channel": "conv", "local": "attention", "global_": "intra+inter"}, 1),
        ({"channel": "conv", "local": "attention", "global_": "reference"}, 1),  # the anchors' prior is what codes them
        ({"channel": "none", "local": "none", "global_": "reference"}, 1),
        ({"channel": "none", "local": "raster", "global_": "none", "refinement": "none"}, 1),
        ({"channel": "none", "local": "raster", "global_": "reference", "refinement": "none"}, 2),  # and without it
    ],
)
def test_no_distribution_is_computed_twice(swap, times):
    """g_ep's products are its matrices' at each position: once, or once with what an informed context found and once
    without, where it asks how likely the symbols were."""
    codec = lively("shared").swap(**swap)
    found = products(codec, 64, 96)
    for name, network in codec.entropy.g_ep.nets.named_children():
        nets = [sum(p.numel() for p in net.parameters() if p.dim() > 1) for net in network]
        macs = sum(n for path, n in found.items() if path.startswith(f"entropy.g_ep.nets.{name}."))
        share = {"first": 1, "second": 0} if codec.entropy.order.pattern == "whole" else {"first": 0.5, "second": 0.5}
        raster = codec.entropy.order.pattern == "wavefront"
        expected = (name == "raster") if raster else share.get(name, 0)
        assert macs == times * expected * 24 * sum(nets), name


def test_convolutions_grow_with_the_pixels_and_attention_faster():
    codec = registry.create("mlic", "small")
    one, four = ({row["module"]: row["macs"] for row in complexity(codec, side, side)} for side in (128, 256))
    for module in ("g_a", "h_a", "h_s", "channel", "g_ep", "g_s"):
        assert four[module] == 4 * one[module], module
    assert four["intra"] > 4 * one["intra"]


def test_it_has_no_numbers_in_memory():
    """An image of 6e13 pixels, whose float32 pixels would take a petabyte."""
    codec = registry.create("mean-scale", "small")
    one, large = ({row["module"]: row["macs_per_pixel"] for row in complexity(codec, s, s)} for s in (64, 2**23))
    assert large == one


def test_it_leaves_the_codec_as_it_was():
    codec = lively("global-reference")
    x = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        before = codec.compress(x)
        complexity(codec, 64, 128)
        with pytest.raises(ValueError, match="it must be one of"):
            complexity(codec, 64, 128, "both")
        assert codec.compress(x) == before
    for module in codec.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "inform" not in vars(module)


def test_what_it_can_not_count_is_refused():
    codec = registry.create("mean-scale", "small")
    with pytest.raises(ValueError, match="it must be one of"):
        complexity(codec, 64, 64, deconvolutions="both")
    with pytest.raises(ValueError, match="holds no pixel"):
        complexity(codec, 512, 0)


@pytest.mark.parametrize("module", qian.TABLE_2)
def test_table_2_of_qian(module):
    """The counts of our code, turned into the paper's by its conventions."""
    assert qian.as_published()[module] == pytest.approx(qian.TABLE_2[module][1], rel=0.005)


@pytest.mark.parametrize("size", qian.TABLE_3)
def test_table_3_of_qian(size):
    published, percent, (height, width) = qian.TABLE_3[size]
    found, found_percent = qian.entropy_model_as_published(height, width)
    assert found == pytest.approx(published, rel=0.01)
    assert found_percent == pytest.approx(percent, rel=0.01)


def test_the_transforms_are_convolutions_and_gsdn_s_two_matrices():
    """At 512 x 768, with its conventions: Minnen's columns are those without tau, 4.756 GMAC."""
    found = qian.counts()
    pixels = [256 * 384, 128 * 192, 64 * 96]
    matrices = sum(n * N * N for n in pixels)
    assert 2e-9 * matrices == pytest.approx(84.12 - 74.63, rel=0.005)
    assert 2e-9 * matrices == pytest.approx(279.47 - 269.98, rel=0.005)
    of = {
        kind: Counter({name.split(".")[1]: n for name, n in found.items() if name.startswith(f"{kind}.")})
        for kind in ("g_a", "g_s")
    }
    for kind in of:
        assert sum(of[kind][i] for i in "135") == 2 * matrices  # gamma and tau
    assert sum(of["g_a"][i] for i in "0246") == 25 * (
        pixels[0] * 3 * N + (pixels[1] + pixels[2]) * N * N + 1536 * N * M
    )
    assert of["g_s"]["6"] == 25 * 512 * 768 * N * 3  # at the output


def test_deconvolutions_are_counted_at_the_input_or_the_output():
    """Four times the products, for stride 2; convolutions count the same."""
    codec = registry.create("mean-scale", "paper")
    least, most = (products(codec, 64, 128, at) for at in ("input", "output"))
    assert least.keys() == most.keys()
    deconvolutions = {name for name, m in codec.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)}
    assert len(deconvolutions) == 6
    for name in least:
        assert most[name] == least[name] * (4 if name in deconvolutions else 1), name


def test_contexts_compute_what_the_past_has():
    """The masked convolutions' past cells; the search's pairs of which one is decoded in an earlier wavefront."""
    found = qian.counts()
    assert found["entropy.contexts.local.raster.linear"] == POSITIONS * 12 * M * M
    assert found[f"{REFERENCE}.linear"] == (POSITIONS - 1) * 5 * M * M  # the first position has no reference
    row, column = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    fronts = (column + 3 * row).flatten()
    pairs = int((fronts[None, :] < fronts[:, None]).sum())
    assert found[REFERENCE] == pairs * 4 * M
    assert 2 * pairs == pytest.approx(POSITIONS**2, rel=0.01)  # the paper's count of all


def test_our_parameter_networks_are_wider_than_those_the_paper_counts():
    """24.46 is three networks of M inputs. Ours see all features so far and the last prediction, as its text says."""
    found = qian.counts()
    networks = [sum(n for name, n in found.items() if name.startswith(f"entropy.g_ep.nets.{k}.")) for k in range(3)]
    once = POSITIONS * (M * HIDDEN + HIDDEN**2 + HIDDEN * 2 * M)
    assert once == qian.first_network()
    assert 2e-9 * 3 * once == pytest.approx(24.46, rel=0.001)
    assert networks[0] == once  # the reference's prior is the first network's output, not computed again
    inputs = [M + M + 2 * M, M + M + 2 * M + 2 * M]  # local, reference, hyper; mu and log sigma
    for network, width in zip(networks[1:], inputs, strict=True):
        assert network - once == POSITIONS * (width - M) * HIDDEN


@pytest.mark.slow
def test_the_tables_have_a_row_for_each_number():
    rows = qian.table_2()
    assert [row["module"] for row in rows] == list(qian.TABLE_2)
    for row in rows:
        assert row["as_published"] == qian.as_published()[row["module"]]
        assert row["gflops"] == pytest.approx(row["published"], rel=0.005) or row["module"] not in (
            "Encoder",
            "Hyper Encoder",
        )
    (row,) = qian.table_3(["240p"])
    assert row["gflops"] > row["published"]  # its networks are wider
    assert 0 < row["percent"] < row["published_percent"]

"""The fast convolution of exact arithmetic is the convolution, to the last bit; and memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lic_lab.layers import exact_forms, memory, winograd
from lic_lab.layers.exact import exact
from lic_lab.layers.fixed_point import BITS, GRID, to_grid


@settings(max_examples=40)
@given(*[st.integers(1, n) for n in (2, 9, 6, 40, 7)], st.integers(0, 99), st.sampled_from([1, 2**21]))
def test_it_is_the_convolution(B, C, O, H, W, seed, band):  # noqa: E741
    """Of numbers on the grid and weights of 10 bits, in bands of one row of tiles or all at once."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(-(2**20), 2**20, (B, C, H, W), generator=g).double() * 2.0**-GRID
    w = torch.randint(-(2**10), 2**10, (O, C, 3, 3), generator=g).double() * 2.0**-8
    bias = torch.randn(O, generator=g)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "BAND", band)
        found = winograd.convolve(x, winograd.transformed(w) * 2.0**-winograd.SCALE, bias)
    assert torch.equal(found, to_grid(F.conv2d(x, w, padding=1) + bias.double()[:, None, None]))


def test_no_sum_on_the_way_leaves_53_bits():
    """The largest operands there are, with the signs that add up worst; the reference has Python's integers."""
    torch.manual_seed(0)
    C, O = 64, 4  # noqa: E741
    weight = torch.randn(O, C, 3, 3).sign() * (0.5 + torch.rand(O, C, 3, 3))
    weight *= torch.tensor([1.0, 1e-3, 7.0, 900.0])[:, None, None, None]
    kernels = exact_forms._tiled(weight)
    fraction = next(f for f in range(60) if torch.equal(kernels, to_grid(kernels, f))) - winograd.SCALE
    largest = 2**BITS - 1
    x = torch.where(weight[3].repeat(1, 2, 2)[None] > 0, largest, -largest).double() * 2.0**-GRID
    found = winograd.convolve(x, kernels)
    w = (to_grid(weight, fraction) * 2.0**fraction).long().numpy().astype(object)
    padded = np.pad((x[0] * 2**GRID).long().numpy().astype(object), ((0, 0), (1, 1), (1, 1)))
    for o in range(O):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                total = int((w[o] * padded[:, i : i + 3, j : j + 3]).sum())
                assert int(found[0, o, i, j] * 2**GRID) == round(Fraction(total, 2**fraction))  # half to even
    assert int(np.abs(w).sum((1, 2, 3)).max()) > 2**24  # the weights still have many digits
    steps = winograd.sums(kernels * 2.0 ** (fraction + winograd.SCALE))
    assert 2**50 < steps.max() * 4 * 2.0**BITS < 2**53  # B^T d B adds up four of d's


def test_a_transposed_convolution_of_stride_2_is_a_convolution_of_four_phases(monkeypatch):
    torch.manual_seed(1)
    layer = torch.nn.ConvTranspose2d(6, 5, 5, stride=2, padding=2, output_padding=1)
    x = torch.randn(2, 6, 7, 4).double()
    used = []
    monkeypatch.setattr(winograd, "convolve", lambda *a, real=winograd.convolve: used.append(1) or real(*a))
    with torch.no_grad(), exact():
        found = layer(x)
    with torch.no_grad():
        expected = layer.double()(to_grid(x))
    torch.testing.assert_close(found, expected, atol=2.0**-GRID, rtol=0)
    assert used


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 4}, {"padding": 0}, {}])
def test_exact_takes_it_where_it_applies_and_is_right_everywhere(options, monkeypatch):
    torch.manual_seed(1)
    conv = torch.nn.Conv2d(32, 16, 3, **{"padding": 1} | options)
    x = torch.randn(1, 32, 10, 13).double()
    used = []
    monkeypatch.setattr(winograd, "convolve", lambda *a, real=winograd.convolve: used.append(1) or real(*a))
    with torch.no_grad(), exact():
        found = conv(x)
    with torch.no_grad():
        expected = conv.double()(to_grid(x))
    torch.testing.assert_close(found, expected, atol=2.0**-GRID, rtol=0)
    assert bool(used) == (not options)


RESIDENT = """
import torch
from lic_lab.layers import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = resident()
with memory.kept():
    with memory.kept():
        torch.ones(2**26)
    kept = resident() - before
print(kept / 2**28, (resident() - before) / 2**28)
"""


@pytest.mark.skipif(memory._glibc() is None, reason="only glibc is told to keep memory")
def test_memory_is_kept_inside_and_given_back_after():
    found = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    kept, after = map(float, found.stdout.split())
    assert kept > 0.9
    assert after < 0.2

"""The fast convolution of exact arithmetic is the convolution, to the last bit; and memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lic_lab.layers import exact as module
from lic_lab.layers import memory, winograd
from lic_lab.layers.exact import BITS, GRID, exact


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, n) for n in (2, 9, 6, 40, 7)], st.integers(0, 99))
def test_it_is_four_times_the_convolution(B, C, O, H, W, seed):  # noqa: E741
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(-(2**20), 2**20, (B, C, H, W), generator=g).double()
    w = torch.randint(-(2**10), 2**10, (O, C, 3, 3), generator=g).double()
    assert torch.equal(winograd.convolve(x, winograd.transformed(w)), 4 * F.conv2d(x, w, padding=1))


def test_no_sum_on_the_way_leaves_53_bits():
    """The largest operands there are, with the signs that add up worst; the reference has Python's integers."""
    torch.manual_seed(0)
    C, O = 64, 4  # noqa: E741
    conv = torch.nn.Conv2d(C, O, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(
            torch.where(torch.rand(O, C, 3, 3) < 0.5, -1.0, 1.0)
            * torch.tensor([1.0, 1e-3, 7.0, 900.0])[:, None, None, None]
        )
        kernels, fraction = module._weights_as_integers(conv.weight, (1, 2, 3), tiled=True)
        largest = 2**BITS - 1
        x = torch.where(conv.weight[3, :, :, :].repeat(1, 2, 2)[None] > 0, largest, -largest).double()
        found = winograd.convolve(x, kernels)
    w = torch.round(conv.weight.double() * 2.0**fraction).long().numpy().astype(object)
    padded = np.pad(x[0].long().numpy().astype(object), ((0, 0), (1, 1), (1, 1)))
    for o in range(O):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                assert int(found[0, o, i, j]) == 4 * int((w[o] * padded[:, i : i + 3, j : j + 3]).sum())
    assert int(np.abs(w).sum((1, 2, 3)).max()) > 2**24  # the weights still have many digits
    assert winograd.largest_sum(kernels) * 2.0 ** (BITS + winograd.GROWTH) < 2**53


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
        expected = conv.double()(torch.round(x * 2**GRID) / 2**GRID)
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

"""The example in CONTRIBUTING.md does what the page says."""

import re
from pathlib import Path

import pytest
import torch
from test_causality import poisoned

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def example():
    torch.manual_seed(0)
    names = {"__name__": "example"}
    exec("\n".join(BLOCKS), names)
    return names


def test_the_component_has_the_length_that_the_title_says():
    lines = [line for line in BLOCKS[0].split("class CrossContext")[1].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_it_is_in_the_trace_and_sees_no_undecoded_symbol(example):
    codec = example["codec"]
    assert {"total", "z", "y", "anchor", "nonanchor", "slice 0", "slice 1"} == set(example["trace"].bpp)
    assert example["means"][0].shape == (96, 8, 8)  # row and column means of one slice's 48 channels
    for size in [(5, 7), (4, 8), (1, 1), (1, 6)]:
        hyper = torch.randn(1, 192, *size)
        assert not poisoned(codec.entropy, hyper)


def test_its_features_matter_and_are_those_of_a_loop(example):
    from lic_lab.entropy.seen import Seen

    order, cross = example["order"], example["cross"]
    y = torch.randn(1, order.M, 4, 5)
    seen = Seen(order, y, torch.zeros(1, 192, 4, 5))
    (step,) = [s for s in order.steps(4, 5) if s.kind == "second"]
    found = cross(seen, 1, step)
    for n, position in enumerate(step.positions.tolist()):
        i, j = divmod(position, 5)
        row = sum(y[0, 48:, i, k] for k in range(5) if (i + k) % 2 == 1) / 5
        column = sum((y[0, 48:, k, j] for k in range(4) if (k + j) % 2 == 1), torch.zeros(48)) / 4
        linear = cross.embed[1]
        expected = linear.weight[:, :, 0, 0] @ torch.cat((row, column)) + linear.bias
        torch.testing.assert_close(found[0, :, n], expected, atol=1e-5, rtol=1e-5)


def test_its_stream_decodes_to_the_estimate(example):
    codec, trace = example["codec"], example["trace"]
    x = torch.from_numpy(trace.x.copy()).permute(2, 0, 1)[None].contiguous() / 255
    coded = codec.compress(x)
    with torch.no_grad():
        expected = codec(x)["x_hat"].clamp(0, 1)
    torch.testing.assert_close(codec.decompress(**coded)["x_hat"], expected, atol=1e-3, rtol=0)
    size = 8 * sum(len(group[0]) for group in coded["strings"])
    assert abs(size - trace.bpp["total"] * trace.pixels) <= 0.005 * size + 8 * 64

"""Resizing against torch's, Pillow's, and a loop written from the released code's description."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import photograph
from PIL import Image

from lic_lab.layers.exact import exact
from lic_lab.layers.resample import KERNELS, UNIT, resample, taps
from lic_lab.transforms.resize import LEAST, Resizing

SIZES = [(61, 45), (30, 93), (17, 12), (199, 140), (60, 91), (1, 1)]  # height, width


@pytest.mark.parametrize("size", SIZES)
def test_antialiased_is_torch_s_and_pillow_s(size: tuple[int, int]) -> None:
    """Within what weights of 12 bits leave. Pillow in floats: with bytes it cuts overshoot off between the axes."""
    x = photograph("coffee", 60, 91)
    found = resample(x, size)
    theirs = torch.nn.functional.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(found, theirs, atol=1e-3, rtol=0)
    for channel, plane in zip(found[0].numpy(), x[0].numpy(), strict=True):
        image = Image.fromarray(plane, mode="F").resize((size[1], size[0]), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(channel, np.asarray(image), atol=1e-3)


def test_released_has_four_taps_from_the_centre_of_the_first_pixel() -> None:
    """x_src = x_dst / s with a = -0.5, edges replicated (../shared/papers/FACTS.md, "Kernel")."""

    def weight(d: float) -> float:
        d = abs(d)
        return 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0

    x = photograph("chelsea", 9, 14)[0, 0].double()
    for length in (5, 9, 21):
        found = resample(x[None, None], (length, 14), "released")[0, 0]
        for i in range(length):
            where = i * 9 / length
            rows = range(math.floor(where) - 1, math.floor(where) + 3)
            expected = sum(weight(row - where) * x[min(max(row, 0), 8)] for row in rows)
            torch.testing.assert_close(found[i], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
@given(source=st.integers(1, 300), length=st.integers(1, 300))
def test_weights_sum_to_one_and_read_what_there_is(kernel: str, source: int, length: int) -> None:
    at, weights = taps(source, length, kernel)
    assert at.shape == weights.shape
    assert (weights.sum(1) == UNIT).all()
    assert at.min() >= 0
    assert at.max() < source


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_is_exact_inside_exact(kernel: str) -> None:
    """The same bits for each image alone and after float32's noise; near float32's result."""
    x = photograph("astronaut", 40, 31)
    x = torch.cat((x, x.flip(3)))
    for size in ((23, 64), (80, 11)):
        with exact():
            found = resample(x.double(), size, kernel)
            alone = torch.cat([resample(image.double(), size, kernel) for image in x.split(1)])
            noisy = resample(x.double() * (1 + 2.0**-26), size, kernel)
        assert torch.equal(found, alone)
        assert torch.equal(found, noisy)
        assert torch.equal(found * 4096, torch.round(found * 4096))
        torch.testing.assert_close(found.float(), resample(x, size, kernel), atol=5e-4, rtol=0)


def test_a_size_or_kernel_that_there_is_not_is_refused() -> None:
    x = torch.zeros(1, 3, 4, 4)
    assert resample(x, (4, 4)) is x
    with pytest.raises(ValueError, match="antialiased, released"):
        resample(x, (2, 2), "bilinear")
    with pytest.raises(ValueError, match="at least one pixel"):
        resample(x, (0, 2))


def test_the_parts_of_adaptive_resolution_have_the_published_parameters() -> None:
    """Table IV, and FACTS.md: ICT's 37,132,424 and these are AICT's 37,230,442, without layer scales."""
    parts = Resizing()

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    moving = sum(
        buffer.numel() for name, buffer in parts.named_buffers() if "running" in name
    )  # TensorFlow counts them
    assert count(parts.network) + moving == 96_560
    assert count(parts.before) == count(parts.after) == 738
    assert 37_132_424 + count(parts) + moving - 18 == 37_230_442


def test_before_training_a_picture_stays_as_it_is() -> None:
    parts = Resizing().eval()
    x = photograph("coffee", 33, 47)
    with torch.no_grad():
        assert LEAST < float(parts.network(x)) < 1
        for filtered in (parts.before(x), parts.after(x)):
            torch.testing.assert_close(filtered, x, atol=1e-4, rtol=0)
        with exact():
            parts.after(x.double())


@torch.no_grad()
def test_the_network_and_the_filters_are_their_equations() -> None:
    """../shared/papers/FACTS.md: RPN block, and ConvNeXt's; BN in evaluation mode, LN over the three channels."""
    parts = Resizing().eval()
    x = photograph("coffee", 13, 18)
    for module in parts.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    found = x
    for block in parts.network.blocks:
        conv1, norm1, _, conv2, norm2, _ = block.main
        main = norm2(conv2(norm1(conv1(found)).relu())).relu()
        total = main + block.beside(found)
        H, W = total.shape[2:]
        pooled = torch.stack(
            [
                torch.stack([total[:, :, i : i + 2, j : j + 2].amax((2, 3)) for j in range(0, W, 2)], -1)
                for i in range(0, H, 2)
            ],
            -2,
        )
        found = pooled.relu()
    m = found.mean()
    share = torch.sigmoid(parts.network.start - m)
    torch.testing.assert_close(parts.network(x)[0], LEAST + (1 - LEAST) * share)

    filtered = x
    for block in parts.after:
        block.scale.weight.normal_()
        wide = block.depthwise(filtered)
        centred = wide - wide.mean(1, keepdim=True)
        unit = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        hidden = torch.einsum("bchw,dc->bdhw", unit, block.mlp[0].weight) + block.mlp[0].bias[:, None, None]
        out = torch.einsum("bdhw,cd->bchw", torch.nn.functional.gelu(hidden), block.mlp[2].weight)
        out = out + block.mlp[2].bias[:, None, None]
        filtered = filtered + block.scale.weight.view(3, 1, 1) * out
    torch.testing.assert_close(parts.after(x), filtered, atol=1e-5, rtol=1e-4)
    with exact():
        close = parts.after(x.double())
    torch.testing.assert_close(close.float(), filtered, atol=2e-2, rtol=0)

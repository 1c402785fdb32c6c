"""Traces: they agree with forward, sum up, and CompressAI's own models are traced as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from compressai.models import (
    Cheng2020Anchor,
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from laws import lively
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

import lic_lab as lab
from lic_lab.image import pad, read_image
from lic_lab.tracing import latent, trace

PHOTO = data.astronaut()[:90, :141]


def test_a_trace_is_what_forward_computes() -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter")
    found = lab.trace(codec, PHOTO)
    with torch.no_grad():
        out = codec(pad(read_image(PHOTO))[0])
    bits = sum(-p.double().log2().sum().item() for p in out["likelihoods"].values())
    assert found.bpp["total"] == pytest.approx(bits / (90 * 141), rel=1e-6)
    shown = (out["x_hat"][0, :, :90, :141].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found.x_hat, shown)
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(PHOTO, shown), rel=1e-9)


def test_parts_and_slices_each_sum_to_the_whole() -> None:
    bpp = lab.trace(lively("shared").swap(channel="conv", local="stacked", global_="none"), PHOTO).bpp
    assert bpp["z"] + bpp["y"] == pytest.approx(bpp["total"])
    assert bpp["anchor"] + bpp["nonanchor"] == pytest.approx(bpp["y"])
    assert sum(v for k, v in bpp.items() if k.startswith("slice")) == pytest.approx(bpp["y"])


def test_a_latent_serves_every_combination() -> None:
    codec = lively("shared")
    found = latent(codec, PHOTO)
    one = trace(codec.swap(channel="none", local="none", global_="none"), found)
    rich = codec.swap(channel="conv", local="attention", global_="intra")
    other = trace(rich, found)
    np.testing.assert_array_equal(one.symbols, other.symbols)  # swapping changes the bits and nothing else
    np.testing.assert_array_equal(one.x_hat, other.x_hat)
    assert not np.array_equal(one.bits, other.bits)
    np.testing.assert_array_equal(
        other.bits, lab.trace(codec.swap(channel="conv", local="attention", global_="intra"), PHOTO).bits
    )


@pytest.mark.parametrize("component", ["local", "intra", "inter"])
def test_attention_weights_sum_to_one_where_visible(component: str) -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter")
    found = lab.trace(codec, data.astronaut()[:192, :256])
    seen = found.attention(component, 2, (5, 8))
    assert seen.weights.shape[1:] == found.bits.shape[1:]
    np.testing.assert_allclose(np.nansum(seen.weights, axis=(1, 2)), 1, rtol=1e-5)
    assert abs(seen.position[0] - 5) + abs(seen.position[1] - 8) <= 1
    if component == "intra":  # MLIC, Fig. 10: anchors outside the 5 x 5 receptive field
        i, j = np.nonzero(seen.visible)
        assert ((i + j) % 2 == 1).all()
        assert (np.maximum(abs(i - seen.position[0]), abs(j - seen.position[1])) > 2).all()
    with pytest.raises(ValueError, match="no attention map"):
        found.attention("reference", 2, (5, 8))
    with pytest.raises(ValueError, match="rows are 0 to"):
        found.attention(component, 2, (500, 8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FactorizedPrior(16, 24),
        lambda: ScaleHyperprior(16, 24),
        lambda: MeanScaleHyperprior(16, 24),
        lambda: JointAutoregressiveHierarchicalPriors(24, 24),
        lambda: Cheng2020Anchor(24),
    ],
    ids=["factorized", "hyperprior", "mean-scale", "joint-autoregressive", "cheng2020"],
)
def test_compressai_models_are_traced_as_they_are(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = make().eval()
    found = lab.trace(model, PHOTO)
    with torch.no_grad():
        out = model(pad(read_image(PHOTO))[0])
    bits = sum(-p.double().log2().sum().item() for p in out["likelihoods"].values())
    assert found.bpp["total"] == pytest.approx(bits / (90 * 141), rel=1e-6)
    assert found.x_hat.shape == PHOTO.shape
    assert found.bits.shape == found.mu.shape == found.sigma.shape == found.step.shape
    assert math.isfinite(found.psnr)
    assert not any(m._forward_hooks for m in model.modules())  # the model is left as it was


def test_what_is_no_codec_is_refused() -> None:
    with pytest.raises(TypeError, match=r"lab\.load"):
        lab.trace(torch.nn.Conv2d(3, 3, 1), PHOTO)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="belongs to a lic_lab codec"):
        lab.trace(FactorizedPrior(16, 24), latent(lively("shared"), PHOTO))

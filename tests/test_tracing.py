"""Traces: they agree with forward, sum up, and CompressAI's own models are traced as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import (
    Cheng2020Anchor,
    CompressionModel,
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from laws import lively
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

import lic_lab as lab
from lic_lab import figures
from lic_lab.codecs.geometry import WHOLE, Geometry
from lic_lab.codecs.mean_scale import MeanScale
from lic_lab.image import pad, read_image
from lic_lab.tracing import latent, trace

PHOTO = data.astronaut()[:90, :141]


def test_a_trace_is_what_forward_computes() -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter")
    found = lab.trace(codec, PHOTO)
    with torch.no_grad():
        out = codec(read_image(PHOTO))
    bits = sum(-p.double().log2().sum().item() for p in out["likelihoods"].values())
    assert found.bpp["total"] == pytest.approx(bits / (90 * 141), rel=1e-6)
    shown = (out["x_hat"][0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
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


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (333, 517)], ids=str)
def test_any_size_is_traced_and_its_latent_covers_the_picture_and_no_more(size: tuple[int, int]) -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter", refinement="lrp")
    picture = np.tile(data.astronaut(), (1, 2, 1))[: size[0], : size[1]]
    found = lab.trace(codec, picture)
    assert found.geometry == Geometry(*size, 16) and found.pixels == size[0] * size[1]
    assert found.bits.shape[1:] == (-(-size[0] // 16), -(-size[1] // 16)) == found.geometry.latent
    assert found.z_bits.shape[1:] == tuple(-(-n // 4) for n in found.geometry.latent)
    assert found.x_hat is not None and found.x_hat.shape == picture.shape
    assert found.on_picture(found.bits).shape == found.bits.shape
    with torch.no_grad():
        likelihoods = codec(read_image(picture))["likelihoods"].values()
    bits = sum(-p.double().log2().sum().item() for p in likelihoods)
    assert found.bpp["total"] == pytest.approx(bits / found.pixels, rel=1e-6)


class Halved(MeanScale):
    """Codes pictures at half their size, as a codec with adaptive resolution may."""

    def geometry(self, height: int, width: int, scale: int = WHOLE // 2) -> Geometry:
        return Geometry(height, width, self.stride, scale)

    def analyse(self, x: Tensor) -> tuple[Tensor, Geometry]:
        geometry = self.geometry(x.shape[2], x.shape[3])
        small = torch.nn.functional.interpolate(x, geometry.coded, mode="area")
        return self.g_a(pad(small, geometry.covered)), geometry

    def synthesise(self, y_hat: Tensor, geometry: Geometry) -> Tensor:
        small = self.g_s(y_hat)[:, :, : geometry.coded[0], : geometry.coded[1]]
        return torch.nn.functional.interpolate(small, (geometry.height, geometry.width))


def test_a_codec_that_shrinks_its_picture_is_traced_as_it_codes() -> None:
    codec = Halved(16, 24).eval()
    found = lab.trace(codec, data.coffee()[:333, :517])
    assert found.geometry.cell == (16 * 333 / 167, 16 * 517 / 259) and found.bits.shape[1:] == (11, 17)
    assert found.x_hat is not None and found.x_hat.shape == (333, 517, 3)
    (drawn,) = figures.bit_map(found).axes[1].images
    assert drawn.get_extent() == pytest.approx([0, 17 * 16 * 517 / 259, 11 * 16 * 333 / 167, 0])
    even = lab.trace(codec, data.coffee()[:400, :500])  # 250 columns at half size: 16 positions of 32, not of 31.25
    (drawn,) = figures.bit_map(even).axes[1].images
    assert even.geometry.cell == (32, 32) and drawn.get_extent() == [0, 16 * 32, 13 * 32, 0]


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
    multiple = model.downsampling_factor
    padded = -(-90 // multiple) * multiple, -(-141 // multiple) * multiple
    with torch.no_grad():
        out = model(pad(read_image(PHOTO), padded))
    bits = sum(-p.double().log2().sum().item() for p in out["likelihoods"].values())
    assert found.bpp["total"] == pytest.approx(bits / (90 * 141), rel=1e-6)
    assert found.x_hat.shape == PHOTO.shape
    assert found.geometry.cell == (16, 16) and found.geometry.latent == found.bits.shape[1:]
    assert found.geometry.covered == padded and found.on_picture(found.bits).shape[1:] == (6, 9)
    assert found.bits.shape == found.mu.shape == found.sigma.shape == found.step.shape
    assert math.isfinite(found.psnr)
    assert not any(m._forward_hooks for m in model.modules())  # the model is left as it was


class Other(CompressionModel):
    """A model of someone's own: y of `stride` pixels, its conditional called once or more."""

    def __init__(self, stride: int, calls: int = 1):
        super().__init__()
        self.g_a, self.g_s = torch.nn.Conv2d(3, 4, stride, stride), torch.nn.ConvTranspose2d(4, 3, stride, stride)
        self.entropy_bottleneck, self.gaussian_conditional = EntropyBottleneck(4), GaussianConditional(None)
        self.calls = calls

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = 40 * self.g_a(x)
        _, z_likelihoods = self.entropy_bottleneck(y[:, :, ::4, ::4])
        parts = [self.gaussian_conditional(part, torch.ones_like(part)) for part in y.chunk(self.calls, 1)]
        y_hat, likelihoods = (torch.cat(of, 1) for of in zip(*parts, strict=True))
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": likelihoods, "z": z_likelihoods}}


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (90, 141)], ids=str)
def test_the_stride_of_a_foreign_model_is_told_by_its_latent(size: tuple[int, int]) -> None:
    found = lab.trace(Other(8).eval(), PHOTO[: size[0], : size[1]])
    assert found.geometry == Geometry(*size, 8, multiple=8)  # padded to 64, for it does not say
    assert found.bits.shape[1:] == found.geometry.latent == tuple(-(-n // 64) * 8 for n in size)
    seen = found.on_picture(found.bits)
    assert seen.shape[1:] == tuple(-(-n // 8) for n in size)
    ax = figures.bit_map(found).axes[1]
    assert ax.images[0].get_extent() == [0, 8 * found.bits.shape[2], 8 * found.bits.shape[1], 0]
    assert ax.get_xlim() == (0, size[1])


def test_what_lies_in_the_padding_of_a_foreign_model_is_counted_and_not_drawn() -> None:
    """A black picture with a grey border, which the padding repeats: nothing seen costs as much."""
    picture = np.zeros((88, 136, 3), np.uint8)
    picture[-1] = picture[:, -1] = 30
    model = Other(8).eval()
    with torch.no_grad():  # y is the mean brightness
        model.g_a.weight.fill_(1 / 192)
        model.g_a.bias.zero_()
    found = lab.trace(model, picture)
    bits, seen = found.bit_map, found.on_picture(found.bit_map)
    assert bits.max() > 1.5 * seen.max() and found.bpp["y"] * found.pixels == pytest.approx(bits.sum())
    (drawn,) = figures.bit_map(found).axes[1].images
    assert drawn.get_clim() == (0, pytest.approx(seen.max()))  # colours are for what is seen
    (difference,) = figures.bit_map_difference(found, replace(found, bits=2 * found.bits)).axes[1].images
    assert difference.get_clim()[1] == pytest.approx(seen.max())
    with pytest.raises(ValueError, match="1 x 17 positions"):
        figures.spatial_correlation(lab.trace(model, picture[:8]))


def test_a_foreign_model_that_is_not_understood_is_refused_with_the_reason() -> None:
    model = Other(8, calls=2).train()
    with pytest.raises(TypeError, match="calls Gaussian conditionals 2 times a picture"):
        lab.trace(model, PHOTO)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    with pytest.raises(TypeError, match="squares of whole pixels"):
        lab.trace(Other(48), PHOTO)


def test_what_is_no_codec_is_refused() -> None:
    with pytest.raises(TypeError, match=r"lab\.load"):
        lab.trace(torch.nn.Conv2d(3, 3, 1), PHOTO)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="belongs to a lic_lab codec"):
        lab.trace(FactorizedPrior(16, 24), latent(lively("shared"), PHOTO))

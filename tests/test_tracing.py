"""Traces: they agree with forward, sum up, and depend on nothing but the codec and the picture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from compressai.models import FactorizedPrior, JointAutoregressiveHierarchicalPriors
from laws import lively
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

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


def test_what_is_no_codec_is_refused() -> None:
    with pytest.raises(TypeError, match=r"lab\.load"):
        lab.trace(torch.nn.Conv2d(3, 3, 1), PHOTO)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="belongs to a lic_lab codec"):
        lab.trace(FactorizedPrior(16, 24), latent(lively("shared"), PHOTO))
    with pytest.raises(TypeError, match="for codecs of lic_lab"):
        latent(FactorizedPrior(16, 24), PHOTO)  # type: ignore[arg-type]


def test_a_codec_without_mu_says_so_in_words() -> None:
    found = lab.trace(lively("factorized"), PHOTO[:64, :64])
    assert found.mu is None and found.sigma is None
    with pytest.raises(ValueError, match="factorized has no mu: a factorized model has one learned distribution"):
        _ = found.normalised
    assert np.isfinite(found.standardised).all() and repr(found).startswith("Trace of factorized on array: ")


# -- what a trace does not depend on, and leaves as it is --------------------------------------------------------------


class Restless(nn.Module):
    """What depends on the mode, counts its calls and draws random numbers."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(channels), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.times, self.last = 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.times, self.last, self.new = self.times + 1, x, x
        return self.drop(self.norm(x)) + torch.zeros(x.shape[1:]).to(x) + 0.3 * torch.randn_like(x)


def restless(of: nn.Module) -> nn.Module:
    of.g_a = nn.Sequential(of.g_a, Restless(24))
    return of.eval()


def ours() -> nn.Module:
    torch.manual_seed(1)
    return restless(MeanScale(8, 24))


def theirs() -> nn.Module:
    torch.manual_seed(2)
    return restless(JointAutoregressiveHierarchicalPriors(8, 24))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    model.train()
    model.g_s.eval()  # frozen, as in a finetuning
    model.g_s.requires_grad_(False)
    yield
    modes = {name: module.training for name, module in model.named_modules()}
    assert not any(mode for name, mode in modes.items() if name.startswith("g_s"))
    assert all(mode for name, mode in modes.items() if not name.startswith("g_s"))
    assert {p.requires_grad for p in model.g_s.parameters()} == {False}
    assert {p.requires_grad for p in model.g_a.parameters()} == {True}


STATES: dict[str, Callable[[nn.Module], Any]] = {
    "training": training,
    "bf16 autocast": lambda model: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": lambda model: default_dtype(torch.float64),
    "inference mode": lambda model: torch.inference_mode(),
    "no gradients": lambda model: torch.no_grad(),
    "another seed": lambda model: torch.random.fork_rng(),
}


@pytest.mark.parametrize("make", [ours, theirs])
@pytest.mark.parametrize("state", STATES)
def test_a_trace_is_the_same_in_whatever_state_torch_and_the_model_are(make: Callable, state: str) -> None:  # type: ignore[type-arg]
    model = make()
    expected = lab.trace(model, PHOTO[:64, :64])
    with STATES[state](model):
        torch.manual_seed(3)
        before = {name: of.clone() for name, of in model.state_dict().items()}
        places = {name: of.data_ptr() for name, of in model.state_dict().items()}
        rng, dtype, grad = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
        found = lab.trace(model, PHOTO[:64, :64])
        assert torch.equal(torch.get_rng_state(), rng)
        assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (dtype, grad)
        for name, of in model.state_dict().items():
            assert torch.equal(of, before[name]) and of.data_ptr() == places[name], name
    for name in ("symbols", "y_hat", "mu", "sigma", "bits", "z_bits", "x_hat"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert (model.g_a[1].times, model.g_a[1].last) == (0, None) and not hasattr(model.g_a[1], "new")


@pytest.mark.parametrize("name", ["shared", "joint-autoregressive", "factorized"])
def test_forward_is_the_same_inside_of_autocast_and_learns_there(name: str) -> None:
    codec, x = copy.deepcopy(lively(name)), read_image(PHOTO[:32, :32])
    expected = codec(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = codec.train()(x)
        (found["x_hat"].square().mean() - found["likelihoods"]["y"].log2().mean()).backward()
        found = codec.eval()(x)
    assert all(torch.isfinite(p.grad).all() for p in codec.parameters() if p.grad is not None)
    for key in ("y", "x_hat"):
        torch.testing.assert_close(*({**of, **of["likelihoods"]}[key] for of in (found, expected)), rtol=0, atol=0)


def test_the_state_comes_back_when_a_trace_fails() -> None:
    for model in (ours().train(), theirs().train()):
        model.g_a[0][2].register_forward_hook(lambda *_: [][0])
        with pytest.raises((IndexError, TypeError)):
            lab.trace(model, PHOTO[:64, :64])
        assert all(m.training for m in model.modules())
        assert sum(len(m._forward_hooks) for m in model.modules()) == 1


def test_a_latent_made_in_inference_mode_is_traced_outside_and_with_gradients_on() -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="none", refinement="lrp")
    with torch.inference_mode():
        found = latent(codec, PHOTO)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = trace(codec, found, reconstruct=False)
        shown = lab.tracing.reconstruct(codec, found, run)
    expected = lab.trace(codec, PHOTO)
    np.testing.assert_array_equal(shown.bits, expected.bits)
    np.testing.assert_array_equal(shown.x_hat, expected.x_hat)


@pytest.mark.parametrize("make", [ours, theirs])
def test_a_wrapped_or_compiled_model_is_the_model(make: Callable) -> None:  # type: ignore[type-arg]
    model = make()
    expected = lab.trace(model, PHOTO[:64, :64])
    inside = copy.deepcopy(model)
    inside.g_a = torch.compile(inside.g_a, backend="eager")
    in_place = copy.deepcopy(model)
    in_place.compile(backend="eager")
    for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model), inside, in_place):
        found = lab.trace(wrapped, PHOTO[:64, :64])
        for name in ("bits", "mu", "step", "y_hat"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.order == expected.order


@pytest.mark.parametrize("part", ["g_a", "hyperprior"])
def test_weights_that_are_not_finite_are_refused_in_words(part: str) -> None:
    codec = MeanScale(8, 24)
    with torch.no_grad():
        next(getattr(codec, part).parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="weights that are not finite; its training has diverged"):
        lab.trace(codec, PHOTO[:32, :32])


def test_a_latent_that_is_not_finite_is_refused_in_words() -> None:
    codec = MeanScale(8, 24)
    with torch.no_grad():
        codec.g_a[-1].weight.fill_(3e38)
        codec.g_a[-1].bias.fill_(3e38)
    with pytest.raises(ValueError, match="numbers of this picture that are not finite"):
        lab.trace(codec, PHOTO[:32, :32])


def test_weights_in_other_numbers_are_refused_in_words() -> None:
    codec = MeanScale(8, 24)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(ValueError, match=r"mean-scale has weights in .*float.*codec\.float\(\)"):
            lab.trace(codec.to(dtype), PHOTO)

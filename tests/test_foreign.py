"""Models of others: what a trace says is what the model's own likelihoods say, in total and of each symbol."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional, GaussianMixtureConditional
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    EntropyBottleneckLatentCodec,
    GainHyperLatentCodec,
    GainHyperpriorLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
    RasterScanLatentCodec,
)
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from compressai.models import CompressionModel, MeanScaleHyperprior, SimpleVAECompressionModel
from compressai.registry import MODELS
from skimage import data
from torch import Tensor, nn

import lic_lab as lab
from lic_lab import analysis, figures
from lic_lab.codecs.geometry import Geometry
from lic_lab.image import pad, read_image
from lic_lab.layers.masks import checkerboard
from lic_lab.tracing import Trace
from lic_lab.tracing.orders import named

PHOTO = data.astronaut()[:90, :141]
SMALL = PHOTO[:64, :64]


def own(model: nn.Module, picture: np.ndarray) -> dict[str, Any]:
    """What the model's own forward returns for the picture, padded as it wants."""
    multiple = getattr(model, "downsampling_factor", 64)
    x = pad(read_image(picture), tuple(-(-n // multiple) * multiple for n in picture.shape[:2]))
    with torch.no_grad():
        return model(x.to(next(model.parameters()).dtype))


def check(model: nn.Module, picture: np.ndarray = PHOTO, y: str | None = "y") -> Trace:
    """The law; and that what the trace shows of each symbol explains its bits."""
    model.eval()
    found = lab.trace(model, picture)
    out = own(model, picture)
    bits = {name: -p.double().log2().numpy() for name, p in out["likelihoods"].items()}
    assert found.bpp["total"] == pytest.approx(sum(of.sum() for of in bits.values()) / found.pixels, abs=1e-6)
    if y is not None:
        np.testing.assert_allclose(found.bits, bits[y][0], atol=1e-6)
        assert found.bpp["z"] == pytest.approx(
            sum(of.sum() for k, of in bits.items() if k != y) / found.pixels, abs=1e-6
        )
    assert sum(v for k, v in found.bpp.items() if k.startswith("slice")) == pytest.approx(found.bpp["y"])
    assert sum(found.bpp[part] for part in found.parts) == pytest.approx(found.bpp["y"])
    assert found.step.shape == found.bits.shape and sorted(set(found.step.flat)) == list(range(found.step.max() + 1))
    if found.mu is not None:
        gauss = torch.distributions.Normal(*(torch.from_numpy(of).double() for of in (found.mu, found.sigma)))
        at = torch.from_numpy(found.told("symbols")).double()
        explained = -(gauss.cdf(at + 0.5) - gauss.cdf(at - 0.5)).clamp(min=1e-9).log2().numpy()
        likely = found.bits < 10  # beyond, differences of float32 numbers have few digits
        np.testing.assert_allclose(explained[likely], found.bits[likely], rtol=0.02, atol=1e-4)
        assert likely.mean() > 0.4 and found.bits[likely].std() > 0.1
    return found


# -- all that CompressAI has -------------------------------------------------------------------------------------------

IMAGE_MODELS = sorted(name for name in MODELS if "pcc" not in name and name != "ssf2020")  # neither points nor films
GROUPS = [2, 4, 6, 12]
RASTER = ("mbt2018", "cheng2020-anchor", "cheng2020-attn")


def build(name: str, **options: Any) -> CompressionModel:
    """Small and untrained, its latent large enough to cost something."""
    torch.manual_seed(0)
    if name.startswith("cheng2020"):
        model = MODELS[name](8)
    elif name.startswith("elic"):
        model = MODELS[name](8, 24, GROUPS)
    else:
        model = MODELS[name](8, 12, **options)
    gain = 7 if name.endswith("vbr") else 1  # what a step size of 0.14, which forward takes, divides by
    weight = [p for p in model.g_a.parameters() if p.dim() == 4][-1]
    with torch.no_grad():
        predicting = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        predicting += [m for m in getattr(model, "h_s", nn.Identity()).modules() if isinstance(m, nn.Conv2d)][-1:]
        for module in predicting:  # what differs from channel to channel
            module.bias.uniform_(0.2, 1).mul_(gain)
        y = model.g_a(pad(read_image(SMALL), (64, 64)))
        weight *= 0.7 * gain / y.std()
    return model


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_every_image_model_of_compressai_is_traced_as_it_is(name: str) -> None:
    model = build(name)
    found = check(model)
    assert found.geometry.cell == (16, 16) and found.geometry.latent == found.bits.shape[1:]
    assert found.on_picture(found.bits).shape[1:] == (6, 9) and found.x_hat.shape == PHOTO.shape
    assert math.isfinite(found.psnr)
    steps, slices, parts = found.step, found.slices, tuple(found.parts)
    h, w = steps.shape[1:]
    i, j = np.indices((h, w))
    if name == "mbt2018-vbr":
        np.testing.assert_array_equal(steps[3], w * i + j)
    elif name in RASTER:
        np.testing.assert_array_equal(steps[3], 3 * i + j)
    elif name == "cheng2020-anchor-checkerboard":
        np.testing.assert_array_equal(steps[5], (i + j) % 2)
        assert (found.order, parts) == ("checkerboard", ("anchor", "nonanchor"))
    elif name.startswith("elic"):
        assert (found.order, slices, parts) == ("slices-x-checkerboard", tuple(GROUPS), ("anchor", "nonanchor"))
        for k in range(len(GROUPS)):
            assert (steps[found.channels(k)] == 2 * k + (i + j) % 2).all()
    else:
        assert not steps.any() and (found.order, parts) == ("single", ("all",))
    assert (found.order == "raster") == (name in (*RASTER, "mbt2018-vbr"))
    assert (found.mu is None) == ("factorized" in name)
    assert np.isfinite(found.standardised).all()


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_y_hat_is_what_g_s_is_given_and_symbols_what_is_coded(name: str) -> None:
    model = build(name).eval()
    found = lab.trace(model, SMALL)
    given: list[Tensor] = []
    model.g_s.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    own(model, SMALL)
    np.testing.assert_array_equal(found.y_hat, given[0][0].numpy())
    away = float(np.abs(found.y_hat - found.symbols).max())
    if name in RASTER:
        assert 0 < away < 1 and any("round y without mu in forward" in note for note in found.notes)
    elif name.endswith("vbr"):
        assert any("units of its step size" in note for note in found.notes)
    else:
        assert away < 1e-5 and (not found.notes or "factorized" in name)


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr"])
def test_z_may_have_a_step_size_of_its_own(name: str) -> None:
    check(build(name, vr_entbttlnck=True))


# -- models that call their conditionals as they like ------------------------------------------------------------------


class Model(CompressionModel):
    """A researcher's own: `code` is given the model, y, and what h_s says."""

    def __init__(self, code: Callable[..., Any], conditional: nn.Module | None = None, M: int = 12):
        super().__init__()
        torch.manual_seed(0)
        self.g_a, self.g_s = nn.Conv2d(3, M, 16, 16), nn.ConvTranspose2d(M, 3, 16, 16)
        self.h_a, self.h_s = nn.Conv2d(M, 4, 4, 4), nn.ConvTranspose2d(4, 2 * M, 4, 4)
        self.entropy_bottleneck = EntropyBottleneck(4)
        self.gaussian_conditional = conditional or GaussianConditional(None)
        self.several = nn.ModuleList(GaussianConditional(None) for _ in range(4))
        self.code = code
        nn.init.normal_(self.g_a.weight, std=0.03)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = 3 * self.g_a(x - x.mean())
        z_hat, z = self.entropy_bottleneck(self.h_a(y))
        scales, means = self.h_s(z_hat).chunk(2, 1)
        y_hat, likelihoods = self.code(self, y, scales.abs() + 0.5, 2 * means)
        found = likelihoods if isinstance(likelihoods, dict) else {"y": likelihoods}
        return {"x_hat": self.g_s(y_hat).sigmoid(), "likelihoods": found | {"z": z}}


SLICES = (2, 1, 4, 5)


def together(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    y_hat, likelihoods = (torch.cat(of, 1) for of in zip(*parts, strict=True))
    return y_hat, likelihoods


def per_slice(model: Model, *of: Tensor) -> Any:
    pieces = zip(*(t.split(SLICES, 1) for t in of), strict=True)
    return together([model.gaussian_conditional(y, s, means=m) for y, s, m in pieces])


def several(model: Model, *of: Tensor) -> Any:
    pieces = zip(model.several, *(t.split(SLICES, 1) for t in of), strict=True)
    return together([conditional(y, s, means=m) for conditional, y, s, m in pieces])


def backwards(model: Model, *of: Tensor) -> Any:
    pieces = [
        model.gaussian_conditional(*args)
        for args in reversed(list(zip(*(t.split(SLICES, 1) for t in of), strict=True)))
    ]
    return together(pieces[::-1])


def even_and_odd_channels(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    y_hat, p = torch.empty_like(y), torch.empty_like(y)
    for k in range(2):
        y_hat[:, k::2], p[:, k::2] = model.gaussian_conditional(y[:, k::2], scales[:, k::2], means[:, k::2])
    return y_hat, p


def added_passes(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    """Non-anchors at odd positions; each pass estimates all positions and keeps its own."""
    anchors = checkerboard(*y.shape[2:], "even").to(y)
    found = [model.gaussian_conditional(y, s, means) for s in (scales, scales + 1)]
    return tuple(a * anchors + b * (1 - anchors) for a, b in zip(*found, strict=True))


def squeezed_passes(model: Model, *of: Tensor) -> Any:
    """Each slice in two calls, on the positions of a pass in one row."""
    anchors = checkerboard(*of[0].shape[2:], "odd")
    out = torch.zeros(2, *of[0].shape)
    for y, s, m, place in zip(*(t.split(SLICES, 1) for t in of), out.split(SLICES, 2), strict=True):
        for mask in (anchors, ~anchors):
            found = model.gaussian_conditional(
                y[..., mask][:, :, None], s[..., mask][:, :, None], m[..., mask][:, :, None]
            )
            place[..., mask] = torch.stack(found)[:, :, :, 0]
    return out[0], out[1]


def four_quarters(model: Model, *of: Tensor) -> Any:
    out = torch.zeros(2, *of[0].shape)
    for k in range(4):
        cut = (..., slice(k // 2, None, 2), slice(k % 2, None, 2))
        out[cut] = torch.stack(model.gaussian_conditional(*(t[cut] for t in of)))
    return out[0], out[1]


def passes_of_some(model: Model, *of: Tensor) -> Any:
    """The first slice at once, the others in passes."""
    first = model.gaussian_conditional(*(t[:, :2] for t in of))
    return together([first, added_passes(model, *(t[:, 2:] for t in of))])


def twice(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    """Calls that nothing comes of, and outputs that are written into."""
    y_hat, _ = model.gaussian_conditional(y, scales + 3, means)
    y_hat.zero_()
    y_hat, p = model.gaussian_conditional(y, scales, means)
    kept = y_hat.clone()
    y_hat.zero_()
    return kept, p


def padded(model: Model, *of: Tensor) -> Any:
    """Coded on a larger grid, positions before channels, and cut out of it."""
    h, w = of[0].shape[2:]
    rows = [nn.functional.pad(t, (1, 2, 0, 3), value=1).flatten(2).mT for t in of]
    found = model.gaussian_conditional(*rows)
    return tuple(t.mT.unflatten(2, (h + 3, w + 3))[:, :, :h, 1 : w + 1] for t in found)


def by_name(model: Model, *of: Tensor) -> Any:
    pieces = zip(*(t.split(SLICES, 1) for t in of), strict=True)
    found = [model.gaussian_conditional(y, s, means=m) for y, s, m in pieces]
    return torch.cat([y for y, _ in found], 1), {f"y_{k}": p for k, (_, p) in enumerate(found)}


def without_means(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    return model.gaussian_conditional(y, scales)


WAYS = {
    per_slice: ("channel-slices", SLICES, 4),
    several: ("channel-slices", SLICES, 4),
    backwards: ("channel-slices", SLICES, 4),
    even_and_odd_channels: ("channel-slices", (1,) * 12, 2),
    added_passes: ("checkerboard", (12,), 2),
    squeezed_passes: ("slices-x-checkerboard", SLICES, 8),
    four_quarters: ("passes", (12,), 4),
    passes_of_some: ("slices-x-passes", (2, 10), 3),
    twice: ("single", (12,), 1),
    padded: ("single", (12,), 1),
    without_means: ("single", (12,), 1),
}


@pytest.mark.parametrize("code", WAYS, ids=lambda code: code.__name__)
def test_whatever_calls_make_up_y_are_put_where_they_belong(code: Callable[..., Any]) -> None:
    model = Model(code)
    found = check(model)
    order, slices, steps = WAYS[code]
    assert (found.order, found.slices, found.step.max() + 1) == (order, slices, steps)
    assert found.mu is not None and found.y_hat is not None and not found.unknown
    if code is not without_means:
        with torch.no_grad():
            x = pad(read_image(PHOTO), (128, 192))
            z_hat, _ = model.entropy_bottleneck(model.h_a(3 * model.g_a(x - x.mean())))
            mu = 2 * model.h_s(z_hat).chunk(2, 1)[1][0]
        np.testing.assert_allclose(found.mu, mu.numpy(), atol=1e-5)
    if code is backwards:
        assert [found.step[found.channels(k)].max() for k in range(4)] == [3, 2, 1, 0]
    assert "no" not in repr(found).split("note")[0].split()


def test_y_may_be_given_in_pieces_with_names_of_their_own() -> None:
    model = Model(by_name)
    found = check(model, y=None)
    expected = check(Model(per_slice))
    np.testing.assert_array_equal(found.bits, expected.bits)
    np.testing.assert_array_equal(found.step, expected.step)
    np.testing.assert_array_equal(found.z_bits, expected.z_bits)


@pytest.mark.parametrize(("least", "order"), [(1e-8, "channel-slices"), (0.2, "unknown")])
def test_likelihoods_that_the_model_bounds_are_followed_where_the_bound_leaves_them(least: float, order: str) -> None:
    def bounded(model: Model, *of: Tensor) -> Any:
        y_hat, p = per_slice(model, *of)
        return y_hat, p.clamp(least, 1)

    assert check(Model(bounded)).order == order


def half_factorized(model: Model, *of: Tensor) -> Any:
    return together([model.bottleneck(of[0][:, :6]), model.gaussian_conditional(*(t[:, 6:] for t in of))])


def test_of_a_part_of_y_less_may_be_known() -> None:
    model = Model(half_factorized)
    model.bottleneck = EntropyBottleneck(6)
    found = check(model)
    assert found.order == "channel-slices" and found.mu is None and np.isfinite(found.standardised).all()
    assert "of a part of y, a factorized model has one learned distribution" in found.unknown


class Coder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gaussian_conditional = GaussianConditional(None)

    def forward(self, y: Tensor, scales: Tensor, means: Tensor) -> Any:
        pieces = zip(*(t.split(SLICES, 1) for t in (y, scales, means)), strict=True)
        return together([self.gaussian_conditional(*args) for args in pieces])


def test_calls_inside_of_what_was_compiled_and_has_run_are_seen() -> None:
    model = Model(lambda model, *of: model.coder(*of)).eval()
    model.coder = Coder().eval()
    own(model, SMALL)
    model.coder.compile(backend="eager")
    own(model, SMALL)  # the code is there, without hooks
    found = check(model, SMALL)
    assert (found.order, found.slices) == ("channel-slices", SLICES) and found.mu is not None


def test_more_symbols_than_a_float_has_integers_are_followed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lic_lab.tracing.calls.EPS", 2.0**-4)
    assert check(Model(squeezed_passes)).order == "slices-x-checkerboard"


def test_a_mixture_of_gaussians_has_a_mean_and_a_deviation() -> None:
    def mixed(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
        weights = torch.cat([torch.full_like(y, w) for w in (0.5, 0.3, 0.2)], 1)
        spread = torch.cat([scales, scales, scales], 1)
        return model.gaussian_conditional(y, spread, torch.cat([means - 1, means, means + 1], 1), weights)

    model = Model(mixed, GaussianMixtureConditional(3)).eval()
    found, single = lab.trace(model, PHOTO), lab.trace(Model(without_means).eval(), PHOTO)
    np.testing.assert_allclose(found.bits, -own(model, PHOTO)["likelihoods"]["y"][0].double().log2(), atol=1e-6)
    np.testing.assert_allclose(found.sigma**2, single.sigma**2 + 0.5 + 0.2 - 0.09, rtol=1e-4)
    assert found.symbols is not None and abs(found.standardised.mean()) < 1


# -- made of CompressAI's latent codecs --------------------------------------------------------------------------------


def simple(latent_codec: nn.Module, M: int = 12) -> SimpleVAECompressionModel:
    torch.manual_seed(0)
    model = SimpleVAECompressionModel()
    model.g_a, model.g_s = nn.Conv2d(3, M, 16, 16), nn.ConvTranspose2d(M, 3, 16, 16)
    nn.init.normal_(model.g_a.weight, std=0.06)
    model.latent_codec = latent_codec
    return model


def hyper() -> HyperLatentCodec:
    h_s = nn.Sequential(nn.ConvTranspose2d(4, 24, 4, 4), nn.Softplus())
    return HyperLatentCodec(
        entropy_bottleneck=EntropyBottleneck(4), h_a=nn.Conv2d(12, 4, 4, 4), h_s=h_s, quantizer="ste"
    )


def test_models_of_latent_codecs_are_traced() -> None:
    gaussian = GaussianConditionalLatentCodec
    found = check(simple(HyperpriorLatentCodec({"y": gaussian(), "hyper": hyper()})))
    assert found.order == "single" and found.mu is not None

    context = {"y1": nn.Conv2d(4, 16, 1)}
    groups = ChannelGroupsLatentCodec(
        {
            "y0": gaussian(entropy_parameters=nn.Conv2d(24, 8, 1)),
            "y1": gaussian(entropy_parameters=nn.Conv2d(40, 16, 1)),
        },
        context,
        groups=[4, 8],
    )
    found = check(simple(HyperpriorLatentCodec({"y": groups, "hyper": hyper()})))
    assert (found.order, found.slices) == ("channel-slices", (4, 8))

    raster = RasterScanLatentCodec(GaussianConditional(None), nn.Conv2d(48, 24, 1), MaskedConv2d(12, 24, 5, padding=2))
    found = check(simple(HyperpriorLatentCodec({"y": raster, "hyper": hyper()})))
    assert found.order == "raster" and any("without mu in forward" in note for note in found.notes)

    found = check(simple(EntropyBottleneckLatentCodec(EntropyBottleneck(12))))
    assert found.mu is None and found.z_bits.size == 0


class Gained(CompressionModel):
    """Asymmetric gain: y is scaled before it is coded and back afterwards."""

    def __init__(self) -> None:
        super().__init__()
        side = hyper()
        self.inner = simple(
            GainHyperpriorLatentCodec(
                {
                    "y": GaussianConditionalLatentCodec(quantizer="ste"),
                    "hyper": GainHyperLatentCodec(side.entropy_bottleneck, side.h_a, side.h_s),
                }
            )
        )

    def forward(self, x: Tensor) -> dict[str, Any]:
        gain = torch.linspace(0.5, 3, 12)[None, :, None, None]
        y = self.inner.latent_codec(self.inner.g_a(x), gain, torch.ones(1), 1 / gain, torch.ones(1))
        return {"x_hat": self.inner.g_s(y["y_hat"]), "likelihoods": y["likelihoods"]}


def test_a_gain_is_between_the_symbols_and_what_g_s_is_given() -> None:
    found = check(Gained())
    gain = np.linspace(0.5, 3, 12)[:, None, None]
    np.testing.assert_allclose(found.y_hat * gain, found.symbols, atol=1e-4)
    assert any("g_s is given other values" in note for note in found.notes)


# -- models of which less is known -------------------------------------------------------------------------------------


class Laplacian(GaussianConditional):
    def _likelihood(self, inputs: Tensor, scales: Tensor, means: Tensor | None = None) -> Tensor:
        of = torch.distributions.Laplace(0 if means is None else means, self.lower_bound_scale(scales))
        return of.cdf(inputs + 0.5) - of.cdf(inputs - 0.5)


def test_a_distribution_that_is_not_the_gaussian_of_its_arguments_is_not_shown_as_one() -> None:
    found = check(Model(per_slice, Laplacian(None)))
    assert found.mu is None and found.order == "channel-slices" and found.symbols is not None
    with pytest.raises(
        ValueError, match="no coded_mean: the likelihoods of its Laplacian aren't those of the Gaussian"
    ):
        _ = found.standardised


def by_hand(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    y_hat = y.round()
    return y_hat, torch.distributions.Normal(means, scales).cdf(y_hat + 0.5).clamp(min=1e-9)


def halved(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    y_hat, p = model.gaussian_conditional(y, scales, means)
    return y_hat, p / 2


def repeatedly(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
    """What is coded second depends on the likelihoods of the first: numbers in their place change it."""
    first = model.gaussian_conditional(y[:, :6], scales[:, :6], means[:, :6])
    sure = first[1].mean((1, 2, 3), keepdim=True)
    second = model.gaussian_conditional(y[:, 6:] * sure, scales[:, 6:], means[:, 6:])
    return together([first, second])


@pytest.mark.parametrize("code", [by_hand, halved, repeatedly], ids=lambda code: code.__name__)
def test_of_an_unknown_structure_the_bits_are_shown_and_the_rest_is_unknown_in_words(code: Callable[..., Any]) -> None:
    found = check(Model(code))
    assert found.symbols is None and found.mu is None and found.sigma is None and found.order == "unknown"
    assert found.y_hat is not None and any("can't be followed" in note for note in found.notes)
    assert "can't be followed" in repr(found)
    figures.bit_map(found)
    figures.cosine_similarity(found, (1, 2))
    bars = figures.channel_entropy(found).axes
    assert len(bars) == 1 and bars[0].get_title().endswith("(Model; its symbols are unknown)")
    assert sum(bar.get_height() for bar in bars[0].patches) == pytest.approx(analysis.channel_bits(found.bits).sum())
    with pytest.raises(ValueError, match="this trace of Model has no symbols: .*can't be followed"):
        figures.spatial_correlation(found)


@pytest.mark.parametrize(
    ("shapes", "y"),
    [
        ({"latent": (8, 4, 4), "hyper": (8, 1, 1)}, (8, 4, 4)),
        ({"hyper": (4, 4, 4), "latent": (8, 4, 4)}, (8, 4, 4)),
        ({"a": (3, 4, 4), "b": (3, 4, 4), "c": (9, 2, 2), "d": (7,)}, (6, 4, 4)),
        ({"y": (2, 4, 4), "z": (9, 4, 4), "z2": (3, 1, 1)}, (2, 4, 4)),
    ],
    ids=str,
)
def test_y_is_what_has_the_finest_grid_and_the_most_channels_unless_it_is_called_so(
    shapes: dict[str, tuple[int, ...]], y: tuple[int, ...]
) -> None:
    class Bare(CompressionModel):
        def forward(self, x: Tensor) -> dict[str, Any]:
            likelihoods = {name: torch.full((1, *shape), 0.5) for name, shape in shapes.items()}
            return {"x_hat": x, "likelihoods": likelihoods}

    found = lab.trace(Bare(), SMALL)
    assert found.bits.shape == y and (found.bits == 1).all()
    assert found.z_bits.size == sum(int(np.prod(shape)) for shape in shapes.values()) - int(np.prod(y))
    assert found.bpp["total"] == pytest.approx(sum(int(np.prod(s)) for s in shapes.values()) / 64**2)
    with pytest.raises(ValueError, match="no y_hat: .*no module of it makes a picture"):
        figures.cosine_similarity(found, (1, 2))


def test_a_checkerboard_whose_anchors_nobody_tells_is_noted() -> None:
    def merged(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
        context = model.context(y.round())
        anchors = checkerboard(*y.shape[2:], "odd").to(y)
        return model.gaussian_conditional(y, scales + 0.1 * context.abs() * (1 - anchors), means)

    model = Model(merged)
    model.context = CheckerboardMaskedConv2d(12, 12, 5, padding=2)
    assert any("which positions are its anchors" in note for note in check(model).notes)


def test_models_in_other_numbers_are_traced_in_theirs() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = Model(per_slice).eval().to(dtype)
        found = lab.trace(model, SMALL)
        expected = -own(model, SMALL)["likelihoods"]["y"][0].double().log2().numpy()
        np.testing.assert_allclose(found.bits, expected, rtol=1e-12)
        assert (found.order, found.slices) == ("channel-slices", SLICES) and found.psnr > 0
        assert found.mu is not None
    wild = Model(lambda model, y, *of: per_slice(model, 9 * y, *of))
    assert lab.trace(wild.eval().double(), SMALL).mu is not None  # bounds are reached
    with pytest.raises(TypeError, match="float16 from 0 to .*call model.float"):
        lab.trace(wild.half(), SMALL)


def test_a_module_of_no_known_kind_is_traced_by_what_its_forward_returns() -> None:
    """As of a repository that has its own copy of CompressAI."""

    class Copied(nn.Module):
        lower_bound_scale = staticmethod(lambda scales: scales.clamp(min=0.11))

        def _likelihood(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            of = torch.distributions.Normal(means, scales)
            return (of.cdf(y + 0.5) - of.cdf(y - 0.5)).clamp(min=1e-9)

        def forward(self, y: Tensor, scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
            y = torch.round(y - means) + means
            return y, self._likelihood(y, self.lower_bound_scale(scales), means)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Model(added_passes, Copied())

        def forward(self, x: Tensor) -> dict[str, Any]:
            return self.inner(x)

    found = check(Plain())
    assert found.order == "checkerboard" and found.mu is not None


def test_a_model_that_draws_random_numbers_is_traced_the_same_each_time() -> None:
    def noisy(model: Model, y: Tensor, scales: Tensor, means: Tensor) -> Any:
        return per_slice(model, y + torch.rand_like(y), scales, means)

    model = Model(noisy).eval()
    one, two = lab.trace(model, SMALL), lab.trace(model, SMALL)
    np.testing.assert_array_equal(one.bits, two.bits)
    assert one.order == "channel-slices"


# -- where y lies on the picture ---------------------------------------------------------------------------------------


class Other(CompressionModel):
    """A model of someone's own: y of `stride` pixels."""

    def __init__(self, stride: int):
        super().__init__()
        self.g_a, self.g_s = torch.nn.Conv2d(3, 4, stride, stride), torch.nn.ConvTranspose2d(4, 3, stride, stride)
        self.entropy_bottleneck, self.gaussian_conditional = EntropyBottleneck(4), GaussianConditional(None)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = 40 * self.g_a(x)
        _, z_likelihoods = self.entropy_bottleneck(y[:, :, ::4, ::4])
        y_hat, likelihoods = self.gaussian_conditional(y, torch.ones_like(y))
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


# -- refused -----------------------------------------------------------------------------------------------------------


def returning(out: Callable[[Tensor], Any]) -> CompressionModel:
    class Returning(CompressionModel):
        def forward(self, x: Tensor) -> Any:
            return out(x)

    return Returning()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (lambda x: x, "returns no likelihoods"),
        (lambda x: {"x_hat": x}, "returns no likelihoods"),
        (lambda x: {"likelihoods": {}}, "returns no likelihoods"),
        (lambda x: {"likelihoods": {"y": torch.zeros(1, 2, 4, 4)}}, "'y' of Returning are torch.float32 from 0 to 0"),
        (lambda x: {"likelihoods": {"y": torch.full((1, 2, 4, 4), 3.0)}}, "above 0 and at most 1"),
        (lambda x: {"likelihoods": {"y": torch.full((1, 2, 4, 4), torch.nan)}}, "from nan to nan"),
        (lambda x: {"likelihoods": {"y": torch.ones(2, 2, 4, 4)}}, r"y \(2, 2, 4, 4\); those of y have to be"),
        (lambda x: {"likelihoods": {"y": torch.ones(1, 7)}}, "those of y have to be"),
        (lambda x: {"likelihoods": {"y": torch.ones(1, 2, 3, 5)}}, "3 x 5 positions .* squares of whole pixels"),
        (
            lambda x: x.view(7, 7),
            "does not run on a picture of 64 x 64 pixels alone.*RuntimeError.*downsampling_factor",
        ),
    ],
)
def test_a_model_that_cannot_be_traced_is_refused_with_the_reason(out: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        lab.trace(returning(out), SMALL)


def test_a_forward_that_asks_for_more_is_refused_with_the_reason() -> None:
    class Asking(CompressionModel):
        def forward(self, x: Tensor, rate: float) -> Any:
            return {}

    with pytest.raises(
        TypeError, match="missing 1 required positional argument: 'rate'.*a `forward` that fills them in"
    ):
        lab.trace(Asking(), SMALL)
    with pytest.raises(TypeError, match="squares of whole pixels"):
        lab.trace(Other(48), PHOTO)


# -- names of orders ---------------------------------------------------------------------------------------------------


def test_an_order_that_has_no_name_shows_its_passes_while_they_are_few() -> None:
    i, j = np.indices((6, 10))
    found = named(np.broadcast_to(7 * ((i + 2 * j) % 3), (4, 6, 10)))
    assert found.name == "passes" and list(found.parts) == ["pass 1", "pass 2", "pass 3"] and found.step.max() == 2
    many = named(np.broadcast_to((i + 4 * j) % 20, (4, 6, 10)))
    assert list(many.parts) == ["all"] and many.step.max() == 19
    board = (i + j) % 2
    for steps, name in (
        ((2, 0), "slices-x-checkerboard"),
        ((0, 5), "slices-x-checkerboard"),
        ((0, 0.5), "slices-x-passes"),
    ):
        found = named(np.concatenate([np.broadcast_to(board + first, (2, 6, 10)) for first in steps]))
        assert (found.name, list(found.parts)) == (name, ["anchor", "nonanchor"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * torch.nan, "not finite"),
        (lambda x: torch.where(x > x.mean(), torch.inf, x), "not finite"),
        (lambda x: 255 * x.abs().clamp(0.5, 1), "reaches"),
        (lambda x: (255 * x.clamp(0, 1)).to(torch.uint8), "uint8"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x[:, :, :8], "picture's size"),
    ],
)
def test_an_x_hat_that_is_no_picture_is_said_and_has_no_psnr(change, words: str) -> None:
    class Other(MeanScaleHyperprior):
        def forward(self, x):
            out = super().forward(x)
            return {**out, "x_hat": change(out["x_hat"])}

    torch.manual_seed(0)
    found = lab.trace(Other(8, 12), np.full((40, 48, 3), 90, np.uint8))
    assert found.x_hat is None and math.isnan(found.psnr)
    assert any(words in note for note in found.notes)

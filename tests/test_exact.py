"""Law 3: what a decoder repeats is the same on every machine, bit by bit; see lic_lab/layers/exact.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import CODED, lively, number_of_threads, photograph
from torch import Tensor, nn

from lic_lab.codecs import registry
from lic_lab.codecs.codec import Codec
from lic_lab.entropy import gaussian
from lic_lab.entropy.order import Part, Step
from lic_lab.entropy.rans import Encoder
from lic_lab.layers import exact as module
from lic_lab.layers import exact_forms, winograd
from lic_lab.layers.attention import attend
from lic_lab.layers.exact import exact
from lic_lab.layers.fixed_point import BITS, GRID, finest, to_grid
from lic_lab.layers.gdn import GDN
from lic_lab.layers.gsdn import GSDN, to_gsdn
from lic_lab.layers.nearest import Past
from lic_lab.layers.tables import FUNCTIONS, table
from lic_lab.transforms import conv, residual, swin

LAYERS: dict[str, nn.Module] = {
    "conv": nn.Conv2d(24, 17, 5, padding=2, stride=2),
    "deconv": nn.ConvTranspose2d(24, 9, 5, stride=2, padding=2, output_padding=1),
    "tiled": nn.Conv2d(24, 17, 3, padding=1),
    "grouped": nn.Conv2d(24, 24, 3, padding=1, groups=24),
    "linear": nn.Sequential(nn.Flatten(2), nn.Linear(63, 40)),
    "gelu": nn.GELU(),
}
FUNCTIONS_OF_TENSORS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "softmax": lambda x: (3 * x).softmax(1),
    "product": lambda x: x.flatten(2).mT @ x.flatten(2) * 0.2,
    "attend": lambda x: attend(x.flatten(2).mT.softmax(2), x.flatten(2)),
    "sum": lambda x: x.sum((2, 3)),
    "mean": lambda x: x.mean(1),
    "divide": lambda x: x / 3,
    "add": lambda x: 1 + x.clone().add_(x) + 3,
}


def grid(seed: int = 0) -> Tensor:
    return 3 * torch.randn(2, 24, 7, 9, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("way", [*LAYERS, *FUNCTIONS_OF_TENSORS])
def test_it_is_near_what_float64_gives(way: str) -> None:
    x = grid()
    compute = FUNCTIONS_OF_TENSORS[way] if way in FUNCTIONS_OF_TENSORS else deepcopy(LAYERS[way])
    with torch.no_grad(), exact():
        found = compute(x)
    with torch.no_grad():
        expected = (compute.double() if isinstance(compute, nn.Module) else compute)(x)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=5e-4)
    if way != "softmax":
        assert torch.equal(found, to_grid(found))


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], tuple[int, ...], int, int]] = {
    "conv": (F.conv2d, (1, 400, 9, 9), (5, 400, 3, 3), 1, 1),
    "tiled": (lambda x, w: F.conv2d(x, w, None, (1, 1), (1, 1)), (1, 400, 9, 9), (5, 400, 3, 3), 1, 1),
    "deconv": (F.conv_transpose2d, (1, 400, 9, 9), (400, 5, 3, 3), 1, 0),
    "linear": (F.linear, (7, 4000), (5, 4000), 1, 1),
    "product": (torch.matmul, (7, 4000), (4000, 5), 1, 0),
    "attend": (lambda a, b: attend(a.abs() / a.abs().sum(1, keepdim=True), b), (7, 4000), (4000, 5), 1, 0),
    "sum": (lambda a, b: a.sum(1)[:5] + b.sum(0), (7, 4000), (4000, 5), 1, 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_order_of_summation_does_not_matter(name: str) -> None:
    """Terms in another order, with two threads, without MKL-DNN, channels-last; floating point does change."""
    product, left, right, i, j = PRODUCTS[name]
    torch.manual_seed(0)
    a, b = 5 * torch.randn(left), torch.randn(right)
    p = torch.randperm(left[i])
    with torch.no_grad():
        assert not torch.equal(product(a, b), product(a.index_select(i, p), b.index_select(j, p)))
        with exact():
            expected = product(a, b)
            assert torch.equal(product(a.index_select(i, p), b.index_select(j, p)), expected)
            for threads in (1, 2):
                with number_of_threads(threads), torch.backends.mkldnn.flags(enabled=False):
                    assert torch.equal(product(a, b), expected)
            if a.dim() == 4:
                assert torch.equal(product(a.contiguous(memory_format=torch.channels_last), b), expected)
                assert torch.equal(product(torch.cat((a, -a)), b)[:1], expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_numbers_too_large_count_as_the_largest(name: str) -> None:
    """Then no sum grows too large for them."""
    product, left, right, _, _ = PRODUCTS[name]
    torch.manual_seed(0)
    a, b = torch.randn(left), torch.randn(right)
    if name == "attend":  # whose weights are never large
        a, b = a.abs() / a.abs().sum(1, keepdim=True), 1e12 * b.sign()
        larger = a, 10 * b
    else:
        a = 1e12 * a.sign()
        larger = 10 * a, b
    with torch.no_grad(), exact():
        assert torch.equal(product(*larger), product(a, b))


def test_partial_sums_stay_within_53_bits() -> None:
    """The largest activations against the largest weights: still an exact integer, and no digit is wasted."""
    torch.manual_seed(0)
    for layer in (nn.Conv2d(300, 4, 5), nn.Linear(7500, 4)):
        with torch.no_grad():
            layer.weight.mul_(1e3)
        reduced = tuple(range(1, layer.weight.dim()))
        w = finest(layer.weight.detach(), lambda w, reduced=reduced: w.abs().sum(reduced))
        fraction = next(f for f in range(-60, 60) if torch.equal(w, to_grid(w, f)))
        largest = int((w * 2.0**fraction).long().abs().sum(reduced).max()) * (2**BITS - 1)
        assert 2**50 < largest < 2**53
        torch.testing.assert_close(w, layer.weight.double(), atol=2.0 ** -(fraction + 1), rtol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_good_mathematical_library_makes_the_same_table(name: str) -> None:
    """Against 30 digits of mpmath: every entry right, and none so near a boundary that a last digit would turn it."""
    precise = {
        "exp": lambda t: mpmath.exp(-t),
        "gelu": lambda a: a * mpmath.erfc(a / mpmath.sqrt(2)) / 2,
        "tanh": mpmath.tanh,
    }[name]
    entries, bits = table(name), FUNCTIONS[name][2]
    with mpmath.workdps(30):
        scaled = [precise(mpmath.mpf(i) / 2**GRID) * 2**bits for i in range(len(entries))]
        margin = min(abs(value - mpmath.floor(value) - 0.5) for value in scaled)
        nearest = [int(mpmath.nint(value)) for value in scaled]
    assert margin * 2.0**-bits > 1e-13
    assert torch.equal(entries, torch.tensor(nearest).double() * 2.0**-bits)
    assert abs(FUNCTIONS[name][0](len(entries) / 2**GRID) - float(entries[-1])) < 2.0**-bits  # constant beyond


def test_any_good_mathematical_library_makes_the_same_frequencies() -> None:
    """No probability of the Gaussian's tables is so near a rounding boundary that its last digits matter."""
    from scipy.special import ndtr

    nearest = 1.0
    halves = gaussian._halves().int().tolist()
    scales = gaussian.SCALE_MIN * np.exp(np.arange(gaussian.SCALES) * gaussian._LOG_STEP)
    for scale, half in zip(scales, halves, strict=True):
        k = np.arange(-half, half + 1)
        for phase in (np.arange(gaussian.PHASES) - gaussian.PHASES // 2) / gaussian.PHASES:
            d = np.abs(k - phase)
            scaled = (ndtr((0.5 - d) / scale) - ndtr((-0.5 - d) / scale)) * 2**gaussian.PRECISION
            nearest = min(nearest, np.abs(scaled - np.floor(scaled) - 0.5).min())
    assert nearest > 1e-9


def test_weights_that_change_are_rounded_anew() -> None:
    layer = nn.Linear(63, 5)
    x = grid().flatten(2)
    with torch.no_grad(), exact():
        before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        with exact():
            after = layer(x)
        torch.testing.assert_close(after, 2 * before, atol=1e-3, rtol=1e-3)


@contextmanager
def float32_products_in(precision: str) -> Iterator[None]:
    of_matrices = torch.backends.mkldnn.matmul
    before = of_matrices.fp32_precision
    of_matrices.fp32_precision = precision
    try:
        yield
    finally:
        of_matrices.fp32_precision = before


CONDITIONS = {
    "two threads": lambda: number_of_threads(2),
    "no MKL-DNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float32 in bfloat16": lambda: float32_products_in("bf16"),
}


@pytest.mark.parametrize("name", registry.names())
def test_a_stream_decodes_under_every_condition(name: str) -> None:
    """Threads, libraries and torch's leave to compute with fewer bits: the same latent, to the last bit."""
    codec, x = lively(name), photograph("chelsea", 120, 190)
    with number_of_threads(1):
        coded = codec.encode(x)
        for words, condition in CONDITIONS.items():
            with condition():
                assert torch.equal(codec.decode(coded.strings, coded.geometry), coded.y_hat), words


@pytest.mark.parametrize("condition", ["autocast", "float32 in bfloat16"])
def test_a_search_among_like_vectors_is_the_same_under_every_condition(condition: str) -> None:
    """Some are so alike that bfloat16 can't tell them apart."""
    g = torch.Generator().manual_seed(0)
    kinds, kind = torch.randint(-50, 51, (1, 40, 64), generator=g), torch.randint(40, (200,), generator=g)
    vectors = (kinds[:, kind] + torch.randint(-2, 3, (1, 200, 64), generator=g)).double()

    def found() -> tuple[Tensor, Tensor]:
        with torch.no_grad(), exact():
            past = Past(vectors, 200, 64)
            past.add(vectors, torch.arange(200))
            return past.most_similar(vectors, torch.arange(200))

    expected = found()
    with CONDITIONS[condition]():
        assert all(map(torch.equal, found(), expected))


def test_wavefronts_give_the_stream_of_coding_position_by_position() -> None:
    """The raster's positions coded one at a time, in the wavefronts' order and in the scan's."""
    codec, x = lively("joint-autoregressive"), photograph("chelsea", 120, 190)
    entropy = codec.entropy
    with torch.no_grad():
        y, geometry = codec.analyse(x)
        hyper = codec.hyperprior.decompress(codec.hyperprior.compress(y), geometry.latent)
        fronts = entropy.order.steps(*hyper.shape[2:])

        def coded(positions: list[int]) -> tuple[bytes, Tensor]:
            encoder = Encoder(entropy.gaussian)

            def visit(step: Step, mu: Tensor, log_sigma: Tensor) -> Tensor:
                y_hat = entropy.gaussian.quantise(step.take(y), mu)
                encoder.add(*entropy.gaussian.symbols(y_hat, mu, log_sigma))
                return y_hat

            steps = [
                Step((0,), Part("wavefront", "raster", positions=torch.tensor([position]))) for position in positions
            ]
            with exact():
                y_hat = entropy.run(hyper, visit, steps)
            return encoder.finish(), y_hat

        (string,), y_hat = entropy.compress(y, hyper)
        alone = coded([position for front in fronts for position in sorted(front.positions.tolist())])
        scan = coded(list(range(y.shape[2] * y.shape[3])))
    assert torch.equal(alone[1], y_hat)
    assert alone[0] == string
    assert torch.equal(scan[1], y_hat)
    assert abs(len(scan[0]) - len(string)) <= 8
    assert len(fronts) < y.shape[2] * y.shape[3] / 2


class Noise:
    """Relative noise, uniform between both signs, on a tensor of floats."""

    def __init__(self, relative: float):
        self.relative, self.generator, self.perturbed = relative, torch.Generator().manual_seed(0), 0

    def __call__(self, out: Tensor) -> Tensor:
        if not (
            isinstance(out, Tensor) and out.dtype == torch.float64 and out.numel()
        ):  # float32: weights, never changed
            return out
        self.perturbed += 1
        return out * (1 + self.relative * (2 * torch.rand(out.shape, generator=self.generator).double() - 1))


@contextmanager
def noise(relative: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, exact arithmetic's every intermediate tensor is perturbed."""
    noisy, compute = Noise(relative), module._Exact.__torch_function__

    def perturbed(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = compute(self, func, types, args, kwargs)
        name = getattr(func, "__name__", "")
        return out if name in module.MOVES else noisy(out)  # a move may be a view to write to

    with monkeypatch.context() as patch:
        patch.setattr(module._Exact, "__torch_function__", perturbed)
        yield
    assert noisy.perturbed > 5


def decoded_under_noise(codec: Codec, relative: float, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(y_hat as coded) - (y_hat decoded while every intermediate tensor is perturbed)."""
    coded = codec.encode(photograph("chelsea", 120, 190))
    with noise(relative, monkeypatch):
        found = codec.decode(coded.strings, coded.geometry)
    return to_grid(found) - coded.y_hat


@pytest.mark.parametrize("name", CODED)
def test_float32_s_noise_on_every_tensor_leaves_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not decoded_under_noise(lively(name), 2.0**-24, monkeypatch).any()


@pytest.mark.parametrize("name", ["mean-scale", "mlic+"])
def test_that_test_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of 2^-12, float16's, is more than the grid absorbs."""
    assert decoded_under_noise(lively(name), 2.0**-12, monkeypatch).any()


def with_gsdn(g_s: nn.Module) -> nn.Module:
    assert to_gsdn(g_s) == 3
    return g_s


SYNTHESES: dict[str, Callable[[], nn.Module]] = {  # each kind of g_s
    "conv": lambda: conv.Synthesis(12, 20),
    "conv, GSDN": lambda: conv.Synthesis(12, 20, GSDN),
    "residual": lambda: residual.Synthesis((8, 12, 16), 20, linear_path=True),
    "residual, GSDN": lambda: with_gsdn(residual.Synthesis((8, 12, 16), 20, linear_path=True)),
    "swin": lambda: nn.Sequential(nn.Conv2d(20, 32, 1), swin.Synthesis((32, 32, 32, 32), (0, 0, 0, 2))),
}


def synthesis(name: str) -> tuple[nn.Module, Tensor]:
    """(g_s with all parameters away from where they start, two latents of symbols on the grid)."""
    torch.manual_seed(0)
    g_s = SYNTHESES[name]()
    with torch.no_grad():
        for layer in g_s.modules():
            if isinstance(layer, GDN):
                layer.beta.mul_(0.5 + torch.rand(layer.beta.shape))
                layer.gamma.add_(0.3 * torch.rand(layer.gamma.shape))
            if isinstance(layer, GSDN):
                layer.nu.normal_()
                layer.tau.normal_().mul_(0.1)
    return g_s, to_grid(3 * torch.randn(2, 20, 5, 7))


def picture(g_s: nn.Module, y_hat: Tensor) -> Tensor:
    with torch.no_grad(), exact():
        x_hat: Tensor = g_s(y_hat)
    return x_hat


@pytest.mark.parametrize("name", SYNTHESES)
def test_the_picture_is_near_what_float64_gives(name: str) -> None:
    g_s, y_hat = synthesis(name)
    found = picture(g_s, y_hat)
    with torch.no_grad():
        expected = g_s.double()(y_hat)
    assert torch.equal(found, to_grid(found))
    torch.testing.assert_close(found, expected, atol=2e-3 * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def reordered(g_s: nn.Module, order: Tensor) -> nn.Module:
    """`g_s` for a latent whose channels are in another order: so are the terms of the sums over them."""
    g_s = deepcopy(g_s)
    if isinstance(g_s, conv.Synthesis) or type(g_s) is nn.Sequential:
        inputs, outputs = [g_s[0]], []
    else:
        first, second = g_s.network[0], g_s.network[1]  # `first` adds the latent to its last convolution
        inputs, outputs = [first.conv1, second.subpel_conv[0], second.upsample[0], g_s.linear_path], [first.conv2]
    for layer in inputs:
        layer.weight.copy_(layer.weight.index_select(0 if isinstance(layer, nn.ConvTranspose2d) else 1, order))
    for layer in outputs:
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
    return g_s


@contextmanager
def small_pieces() -> Iterator[None]:
    """Convolutions in bands of one row of tiles, the rest in blocks of seven numbers, all by two threads."""
    with pytest.MonkeyPatch.context() as patch, number_of_threads(2):
        for module, name, number in (
            (winograd, "BAND", 1),
            (winograd, "WORTH_THREADS", 0),
            (exact_forms, "LARGE", 1),
            (exact_forms, "BLOCK", 7),
        ):
            assert hasattr(module, name)
            patch.setattr(module, name, number)
        yield


@pytest.mark.parametrize("name", SYNTHESES)
def test_the_picture_is_the_same_under_every_condition(name: str) -> None:
    """Threads, libraries, pieces, layouts, alone or in a batch, and with the latent's channels in another order."""
    g_s, y_hat = synthesis(name)
    with number_of_threads(1):
        expected = picture(g_s, y_hat)
    for words, condition in {**CONDITIONS, "small pieces": small_pieces}.items():
        with condition():
            assert torch.equal(picture(g_s, y_hat), expected), words
    order = torch.randperm(y_hat.shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(picture(reordered(g_s, order), y_hat[:, order]), expected)
    assert torch.equal(picture(g_s, y_hat.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(picture(g_s.to(memory_format=torch.channels_last), y_hat), expected)
    assert torch.equal(torch.cat([picture(g_s, image) for image in y_hat.split(1)]), expected)


@pytest.mark.parametrize("name", SYNTHESES)
def test_float32_s_noise_leaves_no_trace_in_the_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g_s, y_hat = synthesis(name)
    expected = picture(g_s, y_hat)
    for relative, traceless in ((2.0**-24, True), (2.0**-12, False)):
        with noise(relative, monkeypatch):
            assert torch.equal(to_grid(picture(g_s, y_hat)), expected) == traceless


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", CODED)
def test_a_stream_and_its_picture_cross_from_cpu_to_gpu_and_back(name: str) -> None:
    codec, x = lively(name), photograph("chelsea", 120, 190)
    there = deepcopy(codec).cuda()
    coded = codec.encode(x)
    assert torch.equal(there.decode(coded.strings, coded.geometry).cpu(), coded.y_hat)
    back = there.encode(x.cuda())
    assert torch.equal(codec.decode(back.strings, back.geometry), back.y_hat.cpu())
    expected = codec.picture(coded.y_hat, coded.geometry)
    assert torch.equal(there.picture(coded.y_hat.cuda(), coded.geometry).cpu(), expected)

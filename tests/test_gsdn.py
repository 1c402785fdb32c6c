"""GSDN is Eq. 5 and 6 of Qian et al. (ICLR 2021), and goes on from a trained GDN without a change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from compressai.layers import GDN
from laws import photograph
from torch import Tensor, nn

from lic_lab.codecs.weights import WeightsError, load
from lic_lab.layers.gsdn import GSDN, IGSDN, to_gsdn
from lic_lab.transforms import conv, residual

C = 5
N, M, GDNS = 8, 12, 3  # each of the transforms has three
IMAGE, LATENT = (1, 3, 64, 64), (1, M, 4, 4)
TRANSFORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv.Analysis": (lambda: conv.Analysis(N, M), IMAGE),
    "conv.Synthesis": (lambda: conv.Synthesis(N, M), LATENT),
    "residual.Analysis": (lambda: residual.Analysis((N, N, N), M, linear_path=True), IMAGE),
    "residual.Synthesis": (lambda: residual.Synthesis((N, N, N), M, linear_path=True), LATENT),
}


@torch.no_grad()
def trained(module: nn.Module) -> nn.Module:
    """Parameters moved away from where they start, as training moves them; GDN's stay above their bounds."""
    g = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, GDN):
            layer.beta.mul_(0.5 + torch.rand(layer.beta.shape, generator=g))
            layer.gamma.add_(0.3 * torch.rand(layer.gamma.shape, generator=g))
        if isinstance(layer, GSDN):
            layer.nu.normal_(generator=g)
            layer.tau.normal_(generator=g).mul_(0.3)
    return module


def by_loops(layer: GSDN, x: Tensor) -> Tensor:
    """Eq. 5 or 6, position by position and channel by channel."""
    beta, gamma = layer.beta_reparam(layer.beta).double(), layer.gamma_reparam(layer.gamma).double()
    nu, tau, x = layer.nu.double(), layer.tau.double(), x.double()
    out = torch.empty_like(x)
    B, _, H, W = x.shape
    for b, h, w in torch.cartesian_prod(torch.arange(B), torch.arange(H), torch.arange(W)).tolist():
        u = x[b, :, h, w]
        for i in range(C):
            shift = nu[i] + sum(tau[i, j] * u[j] for j in range(C))
            scale = (beta[i] + sum(gamma[i, j] * u[j] ** 2 for j in range(C))) ** 0.5
            out[b, i, h, w] = u[i] * scale + shift if layer.inverse else (u[i] - shift) / scale
    return out


def some(*shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [GSDN, IGSDN])
def test_it_is_the_equation(make: type[GSDN]) -> None:
    layer = trained(make(C))
    assert isinstance(layer, GSDN)
    assert layer.inverse == (make is IGSDN)
    x = some(2, C, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), by_loops(layer, x), atol=1e-5, rtol=1e-5)


def test_it_subtracts_before_it_divides() -> None:
    """beta = 4, gamma = 0: (u - nu) / 2, and 2 w + nu."""
    for layer, expected in ((GSDN(1), (5 - 1) / 2), (IGSDN(1), 5 * 2 + 1)):
        with torch.no_grad():
            layer.beta.copy_(layer.beta_reparam.init(torch.tensor([4.0])))
            layer.gamma.copy_(layer.gamma_reparam.init(torch.zeros(1, 1)))
            layer.nu.fill_(1)
            found = layer(torch.full((1, 1, 1, 1), 5.0))
        assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
def test_it_starts_as_gdn(inverse: bool) -> None:
    gdn = trained(GDN(C, inverse=inverse))
    assert isinstance(gdn, GDN)
    x = some(2, C, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(GSDN.from_gdn(gdn)(x), gdn(x), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(GSDN(C, inverse)(x), GDN(C, inverse=inverse)(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_gdn_of_a_transform_is_replaced_and_its_output_stays(name: str) -> None:
    make, shape = TRANSFORMS[name]
    torch.manual_seed(0)
    transform = trained(make())
    x = some(*shape)
    with torch.no_grad():
        before = transform(x)
        parameters = sum(p.numel() for p in transform.parameters())
        assert to_gsdn(transform) == GDNS
        torch.testing.assert_close(transform(x), before, atol=1e-5 * float(before.abs().max()), rtol=1e-5)
    layers = [layer for layer in transform.modules() if isinstance(layer, GDN)]
    assert len(layers) == GDNS
    assert all(type(layer) is GSDN and layer.inverse == ("Synthesis" in name) for layer in layers)
    assert sum(p.numel() for p in transform.parameters()) == parameters + GDNS * (N + N**2)
    assert to_gsdn(transform) == 0


def test_compressai_s_gdn_is_replaced_too() -> None:
    found = nn.Sequential(GDN(C), nn.Sequential(nn.ReLU(), GDN(C, inverse=True)))
    assert to_gsdn(found) == 2
    assert type(found[0]) is type(found[1][1]) is GSDN


def test_a_trained_codec_gives_the_same_picture() -> None:
    """The first stage of the global reference's training: the shared latent's weights, if they are there."""
    try:
        codec = load("shared")
    except WeightsError as error:
        pytest.skip(str(error))
    g_a, g_s = deepcopy(codec.g_a), deepcopy(codec.g_s)
    x = photograph("chelsea", 128, 128)
    with torch.no_grad():
        y = g_a(x)
        x_hat = g_s(y)
        assert to_gsdn(g_a) == to_gsdn(g_s) == GDNS
        torch.testing.assert_close(g_a(x), y, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(g_s(y), x_hat, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [GSDN, IGSDN])
def test_gradients_reach_every_parameter(make: type[GSDN]) -> None:
    """And are the equation's: against finite differences in float64."""
    layer = trained(make(C)).double()
    assert isinstance(layer, GSDN)
    x = some(1, C, 2, 2).double().requires_grad_()
    layer(x).square().sum().backward()
    for name in ("nu", "tau", "beta", "gamma"):
        assert getattr(layer, name).grad.abs().min() > 0, name
    assert torch.autograd.gradcheck(
        lambda nu, tau, x: torch.func.functional_call(layer, {"nu": nu, "tau": tau}, (x,)),
        (layer.nu.detach().requires_grad_(), layer.tau.detach().requires_grad_(), x.detach().requires_grad_()),
    )


def test_a_gsdn_codec_starts_from_gdn_s_weights() -> None:
    """Only nu and tau are new, at the same indices as CompressAI's layers."""
    old, new = conv.Analysis(N, M), conv.Analysis(N, M, GSDN)
    missing = new.load_state_dict(old.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert sorted(missing.missing_keys) == [f"{i}.{name}" for i in (1, 3, 5) for name in ("nu", "tau")]
    x = some(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x), atol=1e-6, rtol=1e-5)

"""The conditional Gaussian against SciPy, its tables against itself, and the coder fed with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from lic_lab.entropy.gaussian import (
    PHASES,
    PRECISION,
    ROUNDINGS,
    SCALE_MAX,
    SCALE_MIN,
    SCALES,
    Gaussian,
    gaussian_tables,
    likelihood,
    lower_bound,
)
from lic_lab.entropy.rans import Decoder, Encoder

SIGMAS = (0.11, 0.3, 1.0, 7.5, 256.0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_likelihood_is_that_of_scipy(sigma: float) -> None:
    d = np.linspace(-8 * sigma - 1, 8 * sigma + 1, 201)
    a = np.abs(d)
    expected = norm.sf((a - 0.5) / sigma) - norm.sf((a + 0.5) / sigma)
    found = likelihood(torch.from_numpy(d), torch.tensor(sigma, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-300)
    single = likelihood(torch.from_numpy(d).float(), torch.tensor(sigma)).double().numpy()
    np.testing.assert_allclose(single, expected, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("mean", [0.0, 0.3, -0.5])
def test_likelihood_sums_to_one(sigma: float, mean: float) -> None:
    k = torch.arange(-3000, 3001, dtype=torch.float64)
    assert float(likelihood(k - mean, torch.tensor(sigma, dtype=torch.float64)).sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_tables_code_at_the_entropy(rounding: str) -> None:
    """Mean length under each table exceeds the entropy by less than 0.2 % or 0.002 bit; no frequency is zero."""
    cdfs, sizes, offsets = gaussian_tables(rounding)
    phases = 1 if rounding == "centred" else PHASES
    assert len(cdfs) == len(sizes) == len(offsets) == SCALES * phases
    for index, (cdf, size, offset) in enumerate(zip(cdfs, sizes, offsets, strict=True)):
        assert len(cdf) == size
        assert cdf[0] == 0
        assert cdf[-1] == 1 << PRECISION
        q = np.diff(cdf)[:-1] / 2**PRECISION  # the last entry is the escape
        assert (q > 0).all()
        sigma = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** (index // phases / (SCALES - 1))
        mean = 0.0 if rounding == "centred" else (index % phases - PHASES // 2) / PHASES
        k = torch.arange(offset, offset + len(q), dtype=torch.float64)
        p = likelihood(k - mean, torch.tensor(sigma, dtype=torch.float64)).numpy().clip(1e-300)
        entropy, length = -(p * np.log2(p)).sum(), -(p * np.log2(q)).sum()
        assert length - entropy < max(0.002 * entropy, 0.002), (sigma, mean)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_symbols_and_values_are_inverse(rounding: str) -> None:
    torch.manual_seed(0)
    gaussian = Gaussian(rounding).eval()
    mu = 40 * torch.randn(2, 5, 300)
    y = mu + 30 * torch.randn(2, 5, 300)
    log_sigma = 2 * torch.randn(2, 5, 300)
    with torch.no_grad():
        y_hat = gaussian.quantise(y, mu)
        symbols, index = gaussian.symbols(y_hat, mu, log_sigma)
        again, centre = gaussian.tables(mu, log_sigma)
    assert torch.equal(index, again)
    assert int(index.min()) >= 0
    assert int(index.max()) < len(gaussian_tables(rounding)[0])
    assert torch.equal(symbols + centre, y_hat)
    assert float((y_hat - y).abs().max()) <= 0.5 + 1e-4


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_estimate_is_that_of_the_table(rounding: str) -> None:
    """-log2 of the estimated likelihood is the table's code length, for likely symbols one by one, for all in sum."""
    torch.manual_seed(1)
    gaussian = Gaussian(rounding).eval()
    mu, log_sigma = 3 * torch.randn(1, 4, 500), torch.randn(1, 4, 500)
    y = mu + gaussian.sigma(log_sigma) * torch.randn(1, 4, 500)
    with torch.no_grad():
        y_hat = gaussian.quantise(y, mu)
        p = gaussian.bits_likelihood(y, y_hat, mu, log_sigma).flatten().double().numpy()
        symbols, index = (t.flatten().tolist() for t in gaussian.symbols(y_hat, mu, log_sigma))
    cdfs, _, offsets = gaussian_tables(rounding)
    q = np.array([np.diff(cdfs[t])[s - offsets[t]] for s, t in zip(symbols, index, strict=True)]) / 2**PRECISION
    common = q > 1e-3
    assert common.mean() > 0.9
    np.testing.assert_allclose(p[common], q[common], rtol=0.03)
    assert -np.log2(p).sum() == pytest.approx(-np.log2(q).sum(), rel=2e-3)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_coder_returns_what_it_was_given_escapes_included(rounding: str) -> None:
    torch.manual_seed(2)
    gaussian = Gaussian(rounding)
    mu, log_sigma = 5 * torch.randn(3, 400), torch.randn(3, 400)
    index, _ = gaussian.tables(mu, log_sigma)
    symbols = (4 * torch.randn(3, 400)).round().int()
    symbols[:, ::50] *= 1000  # far outside every table
    encoder = Encoder(gaussian)
    for s, t in zip(symbols, index, strict=True):
        encoder.add(s, t)
    decoder = Decoder(gaussian, encoder.finish(), symbols.numel())
    assert torch.equal(torch.stack([decoder.next(t, t.shape) for t in index]), symbols)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("wrong", [1.0, 3.0, 20.0, 1000.0])
def test_the_estimate_is_the_stream_for_a_model_that_is_wrong(rounding: str, wrong: float) -> None:
    """Symbols `wrong` times as wide as sigma says: outliers and escapes on both sides."""
    torch.manual_seed(2)
    gaussian = Gaussian(rounding).eval()
    mu, log_sigma = 3 * torch.randn(1, 4, 2000), torch.randn(1, 4, 2000)
    y = mu + wrong * gaussian.sigma(log_sigma) * torch.randn(1, 4, 2000)
    with torch.no_grad():
        y_hat = gaussian.quantise(y, mu)
        estimate = float(-gaussian.bits_likelihood(y, y_hat, mu, log_sigma).double().log2().sum()) / 8
        encoder = Encoder(gaussian)
        encoder.add(*gaussian.symbols(y_hat, mu, log_sigma))
    assert len(encoder.finish()) == pytest.approx(estimate, rel=0.002, abs=8)


def test_sigma_is_bounded_and_its_gradient_leads_back() -> None:
    log_sigma = torch.tensor([-50.0, 0.0, 50.0], requires_grad=True)
    sigma = Gaussian().sigma(log_sigma)
    torch.testing.assert_close(sigma.detach(), torch.tensor([SCALE_MIN, 1.0, SCALE_MAX]))
    (-sigma).sum().backward()  # wants larger sigmas: the first must be free to rise
    assert log_sigma.grad[0] < 0
    assert log_sigma.grad[1] == -1


@pytest.mark.parametrize(
    ("x", "upstream", "expected"),
    [(2.0, 1.0, 1.0), (2.0, -1.0, -1.0), (0.5, 1.0, 0.0), (0.5, -1.0, -1.0), (1.0, 1.0, 1.0)],
)
def test_lower_bound_lets_gradients_through_that_raise(x: float, upstream: float, expected: float) -> None:
    t = torch.tensor(x, requires_grad=True)
    out = lower_bound(t, 1.0)
    assert float(out.detach()) == max(x, 1.0)
    out.backward(torch.tensor(upstream))
    assert float(t.grad) == expected


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounding_is_straight_through(rounding: str) -> None:
    y = torch.tensor([0.2, 1.7, -3.4], requires_grad=True)
    y_hat = Gaussian(rounding).quantise(y, torch.tensor([0.4, 0.4, 0.4]))
    y_hat.sum().backward()
    assert torch.equal(y.grad, torch.ones(3))
    expected = [0.4, 1.4, -3.6] if rounding == "centred" else [0.0, 2.0, -3.0]
    torch.testing.assert_close(y_hat.detach(), torch.tensor(expected))


def test_training_estimates_on_noise_around_the_same_mean() -> None:
    torch.manual_seed(3)
    gaussian = Gaussian().train()
    y, mu, log_sigma = torch.zeros(20000), torch.zeros(20000), torch.zeros(20000)
    p = gaussian.bits_likelihood(y, y, mu, log_sigma)
    u = np.linspace(-0.5, 0.5, 10001)
    expected = (norm.cdf(u + 0.5) - norm.cdf(u - 0.5)).mean()
    assert float(p.mean()) == pytest.approx(expected, abs=1e-3)
    assert float(p.std()) > 0.01


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match="rounding"):
        Gaussian("floor")


def test_scales_are_those_of_compressai() -> None:
    from compressai.models.base import get_scale_table

    ours = SCALE_MIN * np.exp(np.arange(SCALES) * math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1))
    np.testing.assert_allclose(get_scale_table().numpy(), ours, rtol=1e-5)

"""The mixture against SciPy, its integers against the formula by loops, and the coder fed with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import hyper_like, latent_like
from scipy.stats import norm

from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.entropy import mixture
from lic_lab.entropy.gaussian import PRECISION, Gaussian, gaussian_tables
from lic_lab.entropy.mixture import ONE, REACHES, TOTAL, GaussianMixture
from lic_lab.entropy.parameters import TRUST_MIN, Progressive
from lic_lab.entropy.rans import Decoder, Encoder

Parameters = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def parameters(n: int, seed: int = 0, apart: float = 4.0) -> Parameters:
    """mu, log sigma and weights of three components for symbols (1, 4, n), some of them with a weight of zero."""
    torch.manual_seed(seed)
    weight = torch.randn(1, 4, n, 3).mul(3).softmax(-1)
    return apart * torch.randn(1, 4, n, 3), 1.5 * torch.randn(1, 4, n, 3), weight


def drawn(mu: torch.Tensor, log_sigma: torch.Tensor, weight: torch.Tensor, wide: float = 1.0) -> torch.Tensor:
    """Integers from the mixture, with `wide` times its deviations: (1, 4, n)."""
    k = torch.multinomial(weight.flatten(0, -2), 1).view(weight.shape[:-1])[..., None]
    of = [t.gather(-1, k)[..., 0] for t in (mu, Gaussian("plain").sigma(log_sigma))]
    return torch.round(of[0] + wide * of[1] * torch.randn_like(of[0]))


def probability(y: torch.Tensor, mu: torch.Tensor, log_sigma: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    """Of the unit interval around y, by SciPy."""
    sigma = np.clip(np.exp(log_sigma.double().numpy()), 0.11, 256)
    d = np.abs(y.double().numpy()[..., None] - mu.double().numpy())
    return (weight.double().numpy() * (norm.sf((d - 0.5) / sigma) - norm.sf((d + 0.5) / sigma))).sum(-1)


def test_the_training_likelihood_is_that_of_scipy(monkeypatch):
    mu, log_sigma, weight = parameters(300)
    y = drawn(mu, log_sigma, weight)
    monkeypatch.setattr(torch, "rand_like", lambda t: torch.full_like(t, 0.5))  # the noise left out
    found = GaussianMixture().train().bits_likelihood(y, y, mu, log_sigma, weight).double().numpy()
    np.testing.assert_allclose(found, probability(y, mu, log_sigma, weight), rtol=5e-3, atol=2e-7)


def test_the_moments_are_those_of_a_million_samples():
    mu, log_sigma, weight = (t[:, :1, :1] for t in parameters(1, seed=3))
    mean, deviation = GaussianMixture().moments(mu, log_sigma, weight)
    k = torch.multinomial(weight.flatten(), 1_000_000, replacement=True)
    sample = mu.flatten()[k] + log_sigma.exp().flatten()[k] * torch.randn(1_000_000)
    assert float(mean) == pytest.approx(float(sample.mean()), abs=0.02)
    assert float(deviation) == pytest.approx(float(sample.std()), rel=0.01)


@pytest.mark.parametrize("apart", [0.0, 4.0, 300.0, 5000.0])
def test_the_frequencies_are_the_formula_by_loops(apart):
    """F(k) of the module's text, C_j the components' own tables."""
    gaussian = GaussianMixture()
    tables, _ = gaussian.tables(*parameters(6, seed=1, apart=apart))
    own, _, offsets = gaussian_tables("plain")
    rows = tables.flatten(0, -2)
    _, cdfs, sizes, lows = gaussian.cdfs(rows)
    for row, cdf, size, low in zip(rows.tolist(), cdfs, sizes, lows, strict=True):
        index, centre, units = row[:3], row[3:6], row[6:]
        cumulative = np.round(np.cumsum(units) * ONE / sum(units) + 1e-9).astype(int)
        weight = np.diff(cumulative, prepend=0).tolist()
        assert sum(weight) == ONE
        assert len(cdf) == size
        n = size - 2
        assert (n - 1) // 2 in REACHES
        assert cdf[-1] == TOTAL
        end = sum(w * own[t][-2] for w, t in zip(weight, index, strict=True))
        for i in range(0, n + 1, max(1, n // 50)):
            mixed = 0
            for t, c, w in zip(index, centre, weight, strict=True):
                first, at = (min(max(k - c - offsets[t], 0), len(own[t]) - 2) for k in (low, low + i))
                mixed += w * (own[t][at] - own[t][first])
            assert cdf[i] == i + (TOTAL - 1 - n) * mixed // end
        assert min(np.diff(cdf)) >= 1


@pytest.mark.parametrize("apart", [0.0, 4.0, 300.0, 5000.0])
def test_encoder_and_decoder_agree_escapes_included(apart):
    gaussian = GaussianMixture()
    values = parameters(150, seed=2, apart=apart)
    y = drawn(*values)
    y[..., ::20] *= -50  # outside of most windows
    symbols, tables = gaussian.symbols(y, *values)
    encoder = Encoder(gaussian)
    for s, t in zip(symbols[0], tables[0], strict=True):
        encoder.add(s, t)
    decoder = Decoder(gaussian, encoder.finish(), symbols.numel())
    found = torch.stack([decoder.next(t, s.shape) for s, t in zip(symbols[0], tables[0], strict=True)])
    assert torch.equal(found, symbols[0])
    assert torch.equal(found.float(), y[0])


@pytest.mark.parametrize("wide", [1.0, 3.0, 20.0, 1000.0])
def test_the_estimate_is_the_stream(wide):
    """For symbols `wide` times as far out as the model says, too: outliers and escapes on both sides."""
    gaussian = GaussianMixture().eval()
    values = parameters(1000, seed=4)
    y = drawn(*values, wide)
    with torch.no_grad():
        estimate = float(-gaussian.bits_likelihood(y, y, *values).double().log2().sum()) / 8
    encoder = Encoder(gaussian)
    encoder.add(*gaussian.symbols(y, *values))
    assert len(encoder.finish()) == pytest.approx(estimate, rel=1e-3, abs=8)


def test_the_code_is_as_short_as_the_distribution_allows():
    """Snapped scales, means and weights, and frequencies kept above zero, cost less than 0.5 % over the mixture."""
    gaussian = GaussianMixture().eval()
    values = parameters(5000, seed=5)
    y = drawn(*values)
    with torch.no_grad():
        bits = float(-gaussian.bits_likelihood(y, y, *values).double().log2().sum())
    assert bits == pytest.approx(-np.log2(probability(y, *values)).sum(), rel=5e-3)


def test_one_component_is_the_gaussian():
    gaussian, values = GaussianMixture().eval(), parameters(500, seed=6)
    mu, log_sigma = values[0][..., 0], values[1][..., 0]
    alone = torch.tensor([1.0, 0, 0]).expand_as(values[2])
    y = torch.round(mu + 0.7 * torch.randn_like(mu))
    single = Gaussian("plain").eval().bits_likelihood(y, y, mu, log_sigma)
    assert torch.equal(gaussian.bits_likelihood(y, y, mu, log_sigma), single)
    torch.testing.assert_close(gaussian.moments(*values[:2], alone), Gaussian("plain").moments(mu, log_sigma))
    mixed = gaussian.bits_likelihood(y, y, *values[:2], alone)
    common = single > 1e-2
    torch.testing.assert_close(mixed[common], single[common], rtol=0.03, atol=2 * 2.0**-PRECISION)


def test_the_stream_does_not_grow_memory_for_far_components():
    """Windows stay within 4095 symbols, whatever a damaged stream makes of mu."""
    gaussian = GaussianMixture()
    mu = torch.tensor([-1e9, 0.0, 1e9]).expand(1, 2, 3, 3)
    tables, _ = gaussian.tables(mu, torch.zeros_like(mu), torch.full_like(mu, 1 / 3))
    _, cdfs, _, _ = gaussian.cdfs(tables.flatten(0, -2))
    assert max(map(len, cdfs)) <= 2 * REACHES[-1] + 3
    assert all(cdf[0] == 0 and cdf[-1] == TOTAL for cdf in cdfs)


def features(M: int, n: int, trust: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    widths = {"local": M, "reference": M, "hyper": 2 * M}
    return {slot: torch.randn(2, w, n) for slot, w in widths.items()} | {"trust": torch.full((2, 1, n), trust)}


@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_the_weights_are_the_softmax_with_log_s_and_log_u_added_to_the_second(trust):
    M, n = 5, 9
    torch.manual_seed(8)
    g_ep = Progressive({"local": M, "reference": M, "hyper": 2 * M}, M, (16, 16), mixture=True)
    given = features(M, n, trust)
    logits, stage = [], torch.zeros(2, 3 * M, n)
    with torch.no_grad():
        for k, net in enumerate(g_ep.nets):
            seen = [given[slot] for slot in ("local", "reference", "hyper")[: k + 1]]
            stage = stage + net(torch.cat((*seen, stage) if k else seen, 1))
            logits.append(stage[:, 2 * M :])
        mu, log_sigma, weight = g_ep("raster", 0, given, given["trust"])
    assert mu.shape == log_sigma.shape == weight.shape == (2, M, n, 3)
    logits[1] = logits[1] + np.log(max(trust, TRUST_MIN))
    torch.testing.assert_close(weight, torch.stack(logits, -1).softmax(-1))
    torch.testing.assert_close(g_ep.prior("raster", 0, given)[0], mu[..., 0])


@pytest.mark.parametrize("mixed", [True, False])
def test_both_ways_of_coding_make_streams_that_decode(mixed):
    torch.manual_seed(9)
    codec = GlobalReference(N=8, M=12, hidden=16, mixture=mixed, residual_transform=False).eval()
    assert isinstance(codec.entropy.gaussian, GaussianMixture) == mixed
    assert type(codec).dimensions(codec.state_dict())["mixture"] == mixed
    y, hyper = latent_like(codec.entropy, 8, 8), hyper_like(codec, 8, 8)
    with torch.no_grad():
        estimate = float(-codec.entropy(y, hyper).likelihoods.double().log2().sum()) / 8
        strings, y_hat = codec.entropy.compress(y, hyper)
        assert torch.equal(codec.entropy.decompress(strings, hyper), y_hat)
    assert len(strings[0]) == pytest.approx(estimate, rel=5e-3, abs=64)


def test_the_largest_sum_stays_within_64_bits():
    row, _, _ = mixture._tables()
    assert ONE * int(row.max()) * TOTAL < 2**62

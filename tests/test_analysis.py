"""Laws of lic_lab.analysis, against loops written from the formulas, numpy.corrcoef and scikit-image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.segmentation import find_boundaries

from lic_lab import analysis
from lic_lab.analysis.correlation import (
    channel_correlation,
    cosine_similarity_map,
    noise_floor,
    spatial_correlation,
    strongest,
    vectors,
)
from lic_lab.codecs.geometry import WHOLE, Geometry
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.mixture import GaussianMixture

SHAPE = (5, 6, 7)
latents = arrays(np.float64, SHAPE, elements=st.integers(-20, 20).map(float))


@pytest.fixture
def latent() -> np.ndarray:
    return np.random.default_rng(1).normal(size=SHAPE)


# --- cosine similarity -------------------------------------------------------------------------------------------


@given(latents, st.integers(0, 5), st.integers(0, 6))
def test_cosine_similarity_is_the_angle_of_two_vectors(y: np.ndarray, i: int, j: int) -> None:
    found = cosine_similarity_map(y, (i, j))
    for p in np.ndindex(6, 7):
        a, b = y[:, i, j], y[:, *p]
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        assert found[p] == pytest.approx(a @ b / norm if norm else 0.0, abs=1e-12)
    assert np.abs(found).max() <= 1


def test_cosine_similarity_is_symmetric_and_blind_to_scale_and_order_of_channels(latent: np.ndarray) -> None:
    here = cosine_similarity_map(latent, (1, 2))
    assert here[1, 2] == pytest.approx(1)
    assert here[4, 5] == pytest.approx(cosine_similarity_map(latent, (4, 5))[1, 2])
    scales = np.random.default_rng(2).uniform(0.1, 9, size=SHAPE[1:])
    np.testing.assert_allclose(cosine_similarity_map(latent[::-1] * scales, (1, 2)), here)


def test_cosine_similarity_of_a_zero_vector_is_zero(latent: np.ndarray) -> None:
    latent[:, 3, 3] = 0
    assert cosine_similarity_map(latent, (1, 1))[3, 3] == 0
    assert not cosine_similarity_map(latent, (3, 3)).any()


@pytest.mark.parametrize("reference", [(6, 0), (0, 7), (-1, 0)])
def test_cosine_similarity_names_the_positions_there_are(latent: np.ndarray, reference: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="rows are 0 to 5, columns 0 to 6"):
        cosine_similarity_map(latent, reference)


# --- what a cosine similarity is taken of ------------------------------------------------------------------------


@settings(max_examples=25)
@given(latents, st.integers(0, 4), st.floats(1, 50), st.floats(-100, 100))
def test_normalised_vectors_are_blind_to_scale_and_mean(y: np.ndarray, c: int, scale: float, mean: float) -> None:
    y[:, 0, 0] = 21  # every channel deviates by more than a step
    y[:, 0, 1] = -21
    other = y.copy()
    other[c] = scale * y[c] + mean
    found = vectors(y)
    np.testing.assert_allclose(vectors(other), found, atol=1e-9)
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(found.std((1, 2)), 1)


def test_normalising_lets_no_channel_rule_and_raises_none_without_symbols(latent: np.ndarray) -> None:
    latent[2] *= 1e3
    latent[4] *= 1e-6  # never a symbol
    plain, found = cosine_similarity_map(latent, (1, 1)), cosine_similarity_map(vectors(latent), (1, 1))
    alone = np.sign(latent[2] * latent[2, 1, 1])
    assert np.median(np.abs(plain - alone)) < 1e-3  # one channel is all that it shows
    without = cosine_similarity_map(vectors(latent[:4]), (1, 1))
    np.testing.assert_allclose(found, without, atol=1e-6)
    assert np.abs(found - alone).max() > 0.5


def test_the_rest_is_all_but_the_strongest_channel(latent: np.ndarray) -> None:
    latent[3] -= 5
    channel, share = strongest(latent)
    assert channel == 3 and share == pytest.approx((latent[3] ** 2).sum() / (latent**2).sum())
    np.testing.assert_array_equal(vectors(latent, "rest"), latent[[0, 1, 2, 4]])
    np.testing.assert_array_equal(vectors(latent, "plain"), latent)
    assert strongest(np.zeros(SHAPE)) == (0, 0)


def test_vectors_that_are_not_there_are_said(latent: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'best'; it must be one of normalised, rest, plain"):
        vectors(latent, "best")
    with pytest.raises(ValueError, match="a single channel"):
        vectors(latent[:1], "rest")


# --- spatial correlation -----------------------------------------------------------------------------------------


@given(latents)
def test_spatial_correlation_is_its_formula(u: np.ndarray) -> None:
    found = spatial_correlation(u, reach=2)
    u = u - u.mean((1, 2), keepdims=True)
    for di in range(-2, 3):
        for dj in range(-2, 3):
            product = here = there = 0.0
            for i in range(6):
                for j in range(7):
                    if 0 <= i + di < 6 and 0 <= j + dj < 7:
                        a, b = u[:, i, j], u[:, i + di, j + dj]
                        product, here, there = product + a @ b, here + a @ a, there + b @ b
            want = 1 if (di, dj) == (0, 0) else product / np.sqrt(here * there) if here * there > 1e-20 else 0
            assert found[2 + di, 2 + dj] == pytest.approx(want, abs=1e-9)


def test_spatial_correlation_is_symmetric_with_a_centre_of_one(latent: np.ndarray) -> None:
    found = spatial_correlation(latent, 3)
    assert found[3, 3] == 1 and np.abs(found).max() <= 1
    np.testing.assert_array_equal(found, found[::-1, ::-1])
    np.testing.assert_allclose(spatial_correlation(7 * latent + 3, 3), found, atol=1e-12)


def test_spatial_correlation_does_not_see_dead_channels(latent: np.ndarray) -> None:
    i, _ = np.indices(SHAPE[1:])
    nearly_constant = 5 + 1e-6 * i  # perfectly correlated from row to row, and of no importance
    with_dead = np.concatenate([latent, np.full((3, *SHAPE[1:]), 2.5), nearly_constant[None]])
    np.testing.assert_allclose(spatial_correlation(with_dead), spatial_correlation(latent), atol=1e-9)


def test_spatial_correlation_of_a_moving_average_is_known() -> None:
    noise = np.random.default_rng(3).normal(size=(8, 120, 121))
    found = spatial_correlation(noise[:, :, 1:] + noise[:, :, :-1], 2)  # correlation 1/2 at one column, else 0
    want = np.zeros((5, 5))
    want[2] = 0, 0.5, 1, 0.5, 0
    np.testing.assert_allclose(found, want, atol=0.02)


def test_spatial_correlation_of_nothing_is_nothing() -> None:
    found = spatial_correlation(np.zeros(SHAPE), 1)
    assert found.sum() == 1 and found[1, 1] == 1


@pytest.mark.parametrize("function", [spatial_correlation, noise_floor])
@pytest.mark.parametrize("reach", [-1, 6])
def test_spatial_correlation_names_the_reach_there_is(latent: np.ndarray, reach: int, function: Callable) -> None:
    with pytest.raises(ValueError, match="0 to 5"):
        function(latent, reach)


@pytest.mark.parametrize("kind", ["normal", "rare and large", "some channels louder", "some places louder"])
def test_the_noise_floor_is_what_independent_values_show(kind: str) -> None:
    random = np.random.default_rng(11)
    shown, floor = [], []
    for _ in range(12):
        u = random.normal(size=(24, 24, 30))
        if kind == "rare and large":  # as symbols are, of which most are zero
            u *= random.uniform(size=u.shape) < 0.05
        elif kind == "some channels louder":
            u *= np.geomspace(0.01, 3, 24)[:, None, None]
        elif kind == "some places louder":
            u[:, :8] *= 6
        shown.append(np.abs(spatial_correlation(u, 5)).sum() - 1)  # without the centre
        floor.append(noise_floor(u, 5).sum())
    assert np.mean(floor) == pytest.approx(np.mean(shown), rel=0.08)
    assert noise_floor(u, 0).tolist() == [[0]]


def test_the_noise_floor_falls_with_the_root_of_the_sample() -> None:
    u = np.random.default_rng(12).choice([-1.0, 1.0], (32, 40, 40))
    few, many = noise_floor(u[:2], 1), noise_floor(u, 1)
    assert few[0, 0] / many[0, 0] == pytest.approx(4, rel=0.05)
    assert many[0, 0] == pytest.approx(np.sqrt(2 / np.pi) / np.sqrt(32 * 39 * 39), rel=0.02)
    assert not noise_floor(np.zeros(SHAPE), 1).any()


@pytest.mark.parametrize("of", ["plain", "centred", "mixture"])
def test_symbols_drawn_from_the_coder_s_tables_leave_nothing_but_the_noise_of_the_sample(of: str) -> None:
    """That is a perfect model. Measured by mu and sigma, plainly rounded symbols correlate even so."""
    random = np.random.default_rng(5)
    shape = (4, 64, 64)
    smooth = [gaussian_filter(random.normal(size=shape), (0, 3, 3)) for _ in range(2)]
    mu = torch.from_numpy(2 * smooth[0])[None]
    log_sigma = torch.from_numpy(np.log(0.2) + smooth[1])[None]
    gaussian, parameters = Gaussian("plain" if of == "plain" else "centred"), (mu, log_sigma)
    if of == "mixture":
        weight = torch.tensor([0.7, 0.3], dtype=torch.float64).expand(*mu.shape, 2)
        gaussian, parameters = (
            GaussianMixture(),
            (torch.stack((mu, mu + 1), -1), log_sigma[..., None] + 0 * weight, weight),
        )
    tables, centre = gaussian.tables(*parameters)
    index, cdfs, sizes, offsets = gaussian.cdfs(tables.flatten(0, 3) if of == "mixture" else tables.flatten())
    u = random.uniform(size=mu.numel())
    k = [np.searchsorted(cdfs[i][:-1], u[n] * cdfs[i][-2], side="right") - 1 + offsets[i] for n, i in enumerate(index)]
    symbols = torch.tensor(k).view(mu.shape) + centre.view(mu.shape)
    mean, deviation = gaussian.coded_moments(*parameters)
    for n in random.integers(0, mu.numel(), 200):  # of the table itself
        p = np.diff(cdfs[index[n]][:-1]) / cdfs[index[n]][-2]
        values = np.arange(len(p)) + offsets[index[n]] + float(centre.flatten()[n])
        assert float(mean.flatten()[n]) == pytest.approx(p @ values, abs=1e-6)
        assert float(deviation.flatten()[n]) ** 2 == pytest.approx(p @ (values - p @ values) ** 2, abs=1e-6)
    standardised = ((symbols - mean) / deviation)[0].numpy()
    assert abs(standardised.mean()) < 5 / np.sqrt(u.size)
    kurtosis = (standardised**4).mean()
    assert abs(standardised.var() - 1) < 5 * np.sqrt(kurtosis / u.size)
    noise = 5 / np.sqrt(u.size)
    assert np.delete(np.abs(spatial_correlation(standardised, 2)).ravel(), 12).max() < noise
    if of == "plain":
        normalised = ((symbols - mu) / gaussian.sigma(log_sigma))[0].numpy()
        assert spatial_correlation(normalised, 1)[1, 2] > 3 * noise


# --- channel correlation -----------------------------------------------------------------------------------------


def test_channel_correlation_is_numpys(latent: np.ndarray) -> None:
    np.testing.assert_allclose(channel_correlation(latent), np.corrcoef(latent.reshape(5, -1)), atol=1e-12)


def test_channel_correlation_of_a_constant_channel_is_zero(latent: np.ndarray) -> None:
    latent[2] = 0.1
    found = channel_correlation(latent)
    assert not found[2].any() and not found[:, 2].any()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("function", [channel_correlation, spatial_correlation, vectors])
def test_what_is_no_latent_is_refused(function: object, latent: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(6, 7\); give \(M, h, w\)"):
        function(latent[0])  # type: ignore[operator]
    latent[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        function(latent)  # type: ignore[operator]


# --- bits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bits() -> np.ndarray:
    return np.random.default_rng(4).gamma(0.5, 2, size=SHAPE)


def test_bits_are_kept_however_they_are_summed(bits: np.ndarray) -> None:
    assert analysis.bit_map(bits).sum() == pytest.approx(bits.sum())
    assert analysis.channel_bits(bits).sum() == pytest.approx(bits.sum())
    assert analysis.bit_map(bits)[2, 3] == pytest.approx(sum(bits[c, 2, 3] for c in range(5)))
    assert analysis.channel_bits(bits)[4] == pytest.approx(sum(bits[4, i, j] for i, j in np.ndindex(6, 7)))


def test_highest_channels_fall_and_are_stable(bits: np.ndarray) -> None:
    order = analysis.highest_channels(bits)
    assert sorted(order) == list(range(5))
    assert (np.diff(analysis.channel_bits(bits)[order]) <= 0).all()
    assert analysis.highest_channels(np.ones(SHAPE), 3).tolist() == [0, 1, 2]


@given(st.integers(0, 16).map(lambda n: n / 16))
def test_channels_holding_is_the_least_number(share: float) -> None:
    bits = np.array([8.0, 1, 0, 4, 3]).reshape(5, 1, 1)
    falling = [8, 4, 3, 1, 0]
    want = next(n for n in range(6) if sum(falling[:n]) / 16 >= share)
    assert analysis.channels_holding(bits, share) == want


def test_split_and_table_add_up(bits: np.ndarray) -> None:
    i, j = np.indices(SHAPE[1:])
    parts = {"anchor": (i + j) % 2 == 1, "nonanchor": (i + j) % 2 == 0}
    matrix = analysis.split(bits, parts, (2, 3))
    assert matrix.shape == (2, 2) and matrix.sum() == pytest.approx(bits.sum())
    assert matrix[1, 0] == pytest.approx(
        sum(bits[c, a, b] for c in (2, 3, 4) for a, b in zip(*np.nonzero(parts["anchor"]), strict=True))
    )
    z_bits = np.full((2, 2, 2), 0.5)
    table = {row["part"]: row for row in analysis.part_table(bits, z_bits, parts, (2, 3), pixels=1000)}
    assert list(table) == ["total", "z", "y", "anchor", "nonanchor", "slice 0", "slice 1"]
    for names in (("z", "y"), ("z", "anchor", "nonanchor"), ("z", "slice 0", "slice 1")):
        for key in ("bits", "bpp", "percent"):
            assert sum(table[n][key] for n in names) == pytest.approx(table["total"][key])
    assert table["total"]["percent"] == pytest.approx(100)
    assert table["z"]["bpp"] == pytest.approx(0.004)


def test_a_table_that_does_not_fit_is_refused(bits: np.ndarray) -> None:
    everywhere = {"all": np.ones(SHAPE[1:], bool)}
    with pytest.raises(ValueError, match="sum to the 5 channels"):
        analysis.split(bits, everywhere, (2, 2))
    with pytest.raises(ValueError, match="part 'all'"):
        analysis.split(bits, {"all": np.ones((2, 2), bool)}, (5,))
    with pytest.raises(ValueError, match="pixels is 0"):
        analysis.part_table(bits, bits, everywhere, (5,), pixels=0)


def test_difference_is_b_less_a(bits: np.ndarray) -> None:
    a, b = analysis.bit_map(bits), analysis.bit_map(2 * bits)
    np.testing.assert_allclose(analysis.difference(a, b), a)
    with pytest.raises(ValueError, match="same image"):
        analysis.difference(a, b[1:])


# --- the grid ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, WHOLE), st.sampled_from([8, 16]))
def test_positions_cover_the_picture_and_none_lies_beyond(H: int, W: int, scale: int, stride: int) -> None:
    of = Geometry(H, W, stride, scale)
    for n, count, cell in zip((H, W), of.latent, of.cell, strict=True):
        assert (count - 1) * cell < n <= count * cell * (1 + 1e-12)
    values = np.arange(float(np.prod(of.latent))).reshape(of.latent)
    found = analysis.upsample(values, (H, W), of.cell)
    assert found.shape == (H, W) and np.unique(found).size <= values.size and (np.diff(found, axis=1) >= 0).all()
    if scale == WHOLE:
        np.testing.assert_array_equal(found, np.kron(values, np.ones((stride, stride)))[:H, :W])


def test_a_position_of_a_picture_coded_at_half_its_size_has_twice_the_pixels() -> None:
    assert Geometry(500, 750, 16, WHOLE // 2).cell == (32, 32)  # 16 x 24 positions, which do not span it evenly
    odd = Geometry(333, 517, 16, WHOLE // 2)
    assert odd.coded == (167, 259) and odd.cell == (16 * 333 / 167, 16 * 517 / 259)
    values = np.arange(16.0 * 24).reshape(16, 24)
    found = analysis.upsample(values, (500, 750), (32, 32))
    np.testing.assert_array_equal(found, np.kron(values, np.ones((32, 32)))[:500, :750])


def test_positions_that_do_not_reach_the_picture_s_end_are_refused() -> None:
    with pytest.raises(ValueError, match="do not cover"):
        analysis.upsample(np.zeros((2, 2)), (33, 32), (16, 16))
    with pytest.raises(ValueError, match="above 0"):
        analysis.upsample(np.zeros((2, 2)), (32, 32), (16, 0))


def test_positions_in_the_padding_of_a_foreign_model_are_told_from_the_others() -> None:
    of = Geometry(90, 141, 16, multiple=4)
    assert of.latent == (8, 12) and of.on_picture == (6, 9) and of.covered == (128, 192) and of.cell == (16, 16)
    assert Geometry(90, 141, 16).latent == Geometry(90, 141, 16).on_picture == (6, 9)


# --- attention ---------------------------------------------------------------------------------------------------


def test_head_mean_keeps_what_is_hidden() -> None:
    weights = np.random.default_rng(5).uniform(size=(3, 4, 4))
    weights[:, 1, 2] = np.nan
    mean = analysis.head_mean(weights)
    assert np.isnan(mean[1, 2]) and np.isnan(mean).sum() == 1
    assert mean[0, 0] == pytest.approx((weights[0, 0, 0] + weights[1, 0, 0] + weights[2, 0, 0]) / 3)
    np.testing.assert_array_equal(analysis.head_mean(weights, 2), weights[2])
    with pytest.raises(ValueError, match="heads 0 to 2"):
        analysis.head_mean(weights, 3)


def test_mean_distance_of_one_key_is_its_distance() -> None:
    weights = np.full((5, 6), np.nan)
    weights[4, 3] = 0.2
    assert analysis.mean_distance(weights, (0, 0)) == pytest.approx(5)
    assert np.isnan(analysis.mean_distance(np.full((5, 6), np.nan), (0, 0)))


@given(arrays(bool, (5, 6)))
def test_outline_runs_where_the_mask_changes(mask: np.ndarray) -> None:
    segments = analysis.outline(mask)
    framed = np.pad(mask, 1)
    sides = sum(int(np.sum(np.diff(framed.astype(int), axis=axis) != 0)) for axis in (0, 1))
    assert len(segments) == sides
    assert np.allclose(np.abs(np.diff(segments, axis=1)).sum((1, 2)), 1)
    # scikit-image's boundaries between subpixels mark the same sides: odd indices are the lines between positions.
    lines = find_boundaries(framed.astype(int), mode="subpixel", background=9)
    middles = {tuple(m) for m in (segments.mean(1)[:, ::-1] * 2 + 1).astype(int)}
    crossing = {(i, j) for i, j in zip(*np.nonzero(lines), strict=True) if (i % 2) + (j % 2) == 1}
    assert middles == crossing


def test_surroundings_hold_mask_and_query_within_the_latent() -> None:
    mask = np.zeros((10, 12), bool)
    mask[4:6, 7:9] = True
    assert analysis.surroundings(mask, (5, 3), margin=1) == (3, 7, 2, 10)
    assert analysis.surroundings(mask, (0, 0), margin=9) == (0, 10, 0, 12)

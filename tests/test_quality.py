"""Metrics of 8-bit images beside scikit-image's and beside the papers' formulas, written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import correlate1d
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from lic_lab.evaluation import quality

SMALL = arrays(np.uint8, (3, 4, 3))


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A photograph of odd sizes and the same with noise."""
    x = np.ascontiguousarray(skimage.data.chelsea()[:181, :203])
    noise = np.random.default_rng(0).normal(0, 9, x.shape)
    return x, np.clip(x + noise.round(), 0, 255).astype(np.uint8)


def test_mse_and_psnr_are_those_of_scikit_image(pair) -> None:
    x, x_hat = pair
    assert quality.mse(x, x_hat) == pytest.approx(mean_squared_error(x, x_hat), rel=1e-12)
    assert quality.psnr(x, x_hat) == pytest.approx(peak_signal_noise_ratio(x, x_hat, data_range=255), rel=1e-12)


@given(SMALL, SMALL)
def test_mse_is_its_formula(x: np.ndarray, x_hat: np.ndarray) -> None:
    """In Python's integers: uint8 differences would wrap around."""
    total = sum((int(a) - int(b)) ** 2 for a, b in zip(x.flat, x_hat.flat, strict=True))
    assert quality.mse(x, x_hat) == pytest.approx(total / x.size)
    assert quality.psnr(x, x_hat) == pytest.approx(
        20 * math.log10(255 / math.sqrt(total / x.size)) if total else math.inf
    )


def test_ms_ssim_is_the_papers(pair) -> None:
    """Wang et al. 2003: five scales, Gaussian window of 11 with sigma 1.5, product of the channels' means."""
    x, x_hat = pair
    assert quality.ms_ssim(x, x_hat) == pytest.approx(_ms_ssim(x, x_hat), abs=2e-6)
    assert quality.ms_ssim(x, x) == 1.0


def test_ms_ssim_of_flat_images_is_below_one() -> None:
    """Their variances are differences of large numbers, of which float32 makes 1.00006."""
    x, x_hat = (np.full((200, 200, 3), value, np.uint8) for value in (255, 254))
    assert quality.ms_ssim(x, x_hat) == pytest.approx(_ms_ssim(x, x_hat), abs=1e-8)
    assert quality.ms_ssim(x, x_hat) < 1


def _ms_ssim(x: np.ndarray, x_hat: np.ndarray) -> float:
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(a: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(a, window, 0), window, 1)[5:-5, 5:-5]

    channels = []
    for channel in range(3):
        a, b = (image[..., channel].astype(float) for image in (x, x_hat))
        product = 1.0
        for scale, weight in enumerate(weights):
            mean_a, mean_b = blur(a), blur(b)
            var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
            structure = (2 * (blur(a * b) - mean_a * mean_b) + (0.03 * 255) ** 2) / (var_a + var_b + (0.03 * 255) ** 2)
            luminance = (2 * mean_a * mean_b + (0.01 * 255) ** 2) / (mean_a**2 + mean_b**2 + (0.01 * 255) ** 2)
            last = scale == len(weights) - 1
            product *= max((structure * luminance if last else structure).mean(), 0) ** weight
            a, b = _halved(a), _halved(b)
        channels.append(product)
    return float(np.mean(channels))


def _halved(a: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, with a row and column of zeros on both sides of an odd length, as the library pads."""
    a = np.pad(a, [(side % 2, side % 2) for side in a.shape])
    h, w = a.shape[0] // 2, a.shape[1] // 2
    return a[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean((1, 3))


@pytest.mark.parametrize(("height", "width", "defined"), [(161, 161, True), (160, 400, False), (400, 160, False)])
def test_ms_ssim_of_a_small_image_is_not_a_number(height: int, width: int, defined: bool) -> None:
    x = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert math.isnan(quality.ms_ssim(x, x)) is not defined


@given(st.floats(0, 0.999999))
def test_ms_ssim_db_has_its_inverse(value: float) -> None:
    assert 1 - 10 ** (-quality.ms_ssim_db(value) / 10) == pytest.approx(value, abs=1e-12)


def test_ms_ssim_db_at_the_ends() -> None:
    found = quality.ms_ssim_db([0.0, 0.9, 1.0, np.nan])
    assert found[:3].tolist() == pytest.approx([0, 10, math.inf])
    assert math.isnan(found[3])
    with pytest.raises(ValueError, match="at most 1"):
        quality.ms_ssim_db([13.6])


def test_averages_keep_the_two_psnrs_apart(pair) -> None:
    x, x_hat = pair
    pairs = [(x, x_hat), (x[:170], np.zeros_like(x[:170]))]
    found = quality.averages(pairs)
    errors = [mean_squared_error(*p) for p in pairs]
    ratios = [peak_signal_noise_ratio(*p, data_range=255) for p in pairs]
    assert found["images"] == 2
    assert found["mse"] == pytest.approx(np.mean(errors))
    assert found["psnr"] == pytest.approx(np.mean(ratios))
    assert found["psnr_of_mean_mse"] == pytest.approx(10 * math.log10(255**2 / np.mean(errors)))
    assert found["ms_ssim"] == pytest.approx(np.mean([_ms_ssim(*p) for p in pairs]), abs=2e-6)
    assert found["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - found["ms_ssim"]))


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9))
def test_the_psnr_of_the_mean_mse_is_the_lower_one(errors: list[float]) -> None:
    mean_of_psnrs = np.mean([quality.psnr_of_mean_mse([error]) for error in errors])
    assert quality.psnr_of_mean_mse(errors) <= mean_of_psnrs + 1e-9


def test_averages_over_a_small_image_have_no_ms_ssim(pair) -> None:
    x, x_hat = pair
    found = quality.averages([(x, x_hat), (x[:100], x_hat[:100])])
    assert math.isnan(found["ms_ssim"])
    assert math.isnan(found["ms_ssim_db"])
    assert math.isfinite(found["psnr"])


GOOD = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize("metric", [quality.mse, quality.psnr, quality.ms_ssim])
@pytest.mark.parametrize(
    ("x", "x_hat", "match"),
    [
        (GOOD, GOOD.astype(np.float32), "x_hat is float32"),
        (GOOD / 255, GOOD, "x is float64"),
        (GOOD[..., 0], GOOD[..., 0], r"\(4, 5\)"),
        (GOOD.transpose(2, 0, 1), GOOD, r"\(3, 4, 5\)"),
        (GOOD[:0], GOOD[:0], r"\(0, 5, 3\)"),
        (GOOD, GOOD[:2], "same size"),
        (GOOD.tolist(), GOOD, "x is list"),
    ],
)
def test_other_pixels_are_refused(metric, x, x_hat, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        metric(x, x_hat)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        quality.averages([])
    for errors in ([], [-1.0], [[1.0]]):
        with pytest.raises(ValueError, match="none below zero"):
            quality.psnr_of_mean_mse(errors)

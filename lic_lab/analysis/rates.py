"""Rate-distortion curves compared: what one codec saves over another at the same quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def rate_saving(
    anchor: tuple[ArrayLike, ArrayLike],
    curve: tuple[ArrayLike, ArrayLike],
    at: ArrayLike | None = None,
    points: int = 101,
) -> tuple[Array, Array]:
    """Rate that `curve` saves over `anchor` at the same quality, in percent (Qian et al., ICLR 2021, Figure 7).

    Both curves are interpolated, the logarithm of the rate over quality, by a cubic that keeps a rising curve rising
    (Fritsch and Carlson, 1980); with two points it is a line. Nothing is extrapolated.

    Parameters
    ----------
    anchor, curve : (array, array)
        Bits per pixel, and PSNR in dB (or any quality that rises with the rate), of one operating point each, in any
        order. `curve` may have a single point.
    at : array, optional
        Qualities to compare at; by default `points` evenly spaced ones over the range that both curves cover.
    points : int
        1 or more; of no effect with `at`.

    Returns
    -------
    quality, saving : array
        (n,) each, quality rising by default, and 100 (1 - R / R_anchor): positive where `curve` needs fewer bits.

    Raises
    ------
    ValueError
        When the curves share no range of quality, `at` lies outside of it, or a curve does not rise.

    Examples
    --------
    >>> quality, saving = rate_saving(([0.1, 0.4], [28, 32]), ([0.05, 0.2, 0.8], [27, 31, 35]))
    >>> float(quality[0]), float(quality[-1])
    (28.0, 32.0)
    >>> rate_saving(([0.1, 0.4], [28, 32]), ([0.09], [28]))[1].round(6).tolist()
    [10.0]
    """
    rate_a, quality_a = check_curve("the anchor", *anchor)
    rate_c, quality_c = check_curve("the curve", *curve)
    low, high = max(quality_a[0], quality_c[0]), min(quality_a[-1], quality_c[-1])
    if low > high:
        raise ValueError(
            f"the anchor covers {quality_a[0]:.2f} to {quality_a[-1]:.2f} dB and the curve {quality_c[0]:.2f} to "
            f"{quality_c[-1]:.2f} dB, so there is no quality at which both are known; measure the anchor at settings "
            "that reach the curve's quality"
        )
    if at is None:
        if points < 1:
            raise ValueError(f"points is {points}; give the number of qualities, at least 1")
        quality = np.linspace(low, high, points if high > low else 1)
    else:
        quality = np.atleast_1d(np.asarray(at, dtype=float))
        if not ((quality >= low) & (quality <= high)).all():
            raise ValueError(
                f"at holds {quality.min():.2f} to {quality.max():.2f} dB; both curves are known from {low:.2f} to "
                f"{high:.2f} dB, and nothing is extrapolated"
            )
    ratio = _log_rate(quality, rate_c, quality_c) - _log_rate(quality, rate_a, quality_a)
    return quality, -100 * np.expm1(ratio)


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[Array, Array]:
    """Mean rate and mean quality over images, setting by setting.

    Parameters
    ----------
    curves : sequence
        For each image its (bpp, PSNR) at the same settings in the same order.

    Returns
    -------
    bpp, psnr : array
        (settings,) each.

    Raises
    ------
    ValueError
        Without images, or when they were measured at different numbers of settings.
    """
    if not curves or len({len(curve) for curve in curves}) != 1:
        raise ValueError(
            f"there are {len(curves)} images with {sorted({len(c) for c in curves})} points; give at least one image, "
            "all measured at the same settings"
        )
    bpp, psnr = np.asarray(curves, dtype=float).mean(0).T
    return bpp, psnr


def _log_rate(quality: Array, rate: Array, known: Array) -> Array:
    if len(rate) == 1:  # `quality` is that one
        return np.full(len(quality), np.log(rate[0]))
    from scipy.interpolate import PchipInterpolator  # half a second, which the rest of the analysis need not wait for

    found: Array = PchipInterpolator(known, np.log(rate))(quality)
    return found


def check_curve(name: str, rate: ArrayLike, quality: ArrayLike) -> tuple[Array, Array]:
    """Rate and quality as float64, by rising quality."""
    r, q = (np.atleast_1d(np.asarray(a, dtype=float)) for a in (rate, quality))
    if r.shape != q.shape or r.ndim != 1 or not r.size:
        raise ValueError(f"{name} has {r.shape} rates and {q.shape} qualities; give as many of both, (n,)")
    if not (np.isfinite(r).all() and np.isfinite(q).all() and (r > 0).all()):
        raise ValueError(f"{name} has rates or qualities that are no numbers, or no rate; give finite ones, rates > 0")
    order = np.argsort(q)
    r, q = r[order], q[order]
    if (np.diff(q) <= 0).any() or (np.diff(r) <= 0).any():
        raise ValueError(
            f"{name} does not rise: rates {r.round(4).tolist()} for {q.round(3).tolist()} dB; each point must "
            "have more rate and more quality than the one before, so leave out those that do not"
        )
    return r, q

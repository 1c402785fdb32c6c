"""Bjontegaard's delta: how much rate, or quality, one codec saves over another on average, through `bjontegaard`.

Each codec is a curve through a few points: the logarithm of the rate over quality. BD-rate is the mean difference of
the two curves over the qualities that both cover, as a percentage; BD-PSNR is the mean difference of quality over the
logarithm of the rate. What is between the points depends on the interpolation:

- "pchip", piecewise cubics that rise where the points rise (Fritsch and Carlson, 1980). It is the default because it
  passes through every point, invents no overshoot, and takes any number of points, so that one method serves all.
- "akima", piecewise too, and the most accurate for many metrics in the tests of `bjontegaard`'s authors
  (Herglotz et al., 2022, arXiv:2202.12565).
- "cubic", Bjontegaard's own (VCEG-M33, 2001): one polynomial of degree 3. It was made for four points, and with more it
  is a least-squares fit that passes through none.

Where quality saturates, or points lie close together, the last two fall and rise again between points that rise, and
the mean then is of a curve that no codec has (140,000 % of four points near 100 dB). Such curves are refused.

Papers on learned codecs seldom say which one they took. docs/published.md shows what the choice does to a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lic_lab.analysis.rates import check_curve

Curve = tuple[ArrayLike, ArrayLike]
MINIMUM = {"pchip": 2, "akima": 3, "cubic": 4}  # points; with two, pchip is a line
METHODS = tuple(MINIMUM)
SAMPLES = 2001  # of an interpolated curve, where it is looked at whether it rises
ROUNDING = 1e-9  # of logarithms of rates, and of dB


@dataclass(frozen=True)
class Delta:
    """A mean difference between two curves, and what it was taken over.

    Attributes
    ----------
    value : float
        Percent of the anchor's rate, negative where the test needs less; or dB, positive where it is better.
    method : str
        Interpolation, one of `METHODS`.
    low, high : float
        Where both curves are known and were compared: qualities in dB for BD-rate, bits per pixel for BD-PSNR.
    overlap : float
        That range as a fraction of the one that either curve covers, above 0 and up to 1, as `bjontegaard` defines it:
        of the qualities, or of the logarithms of the rates. An anchor measured far beyond the test makes it small.
    points : (int, int)
        Number of the anchor's points, and of the test's, all of which shape the curves.
    """

    value: float
    method: str
    low: float
    high: float
    overlap: float
    points: tuple[int, int]


def bd_rate(anchor: Curve, test: Curve, method: str = "pchip") -> Delta:
    """Mean difference in rate at equal quality, in percent of the anchor's.

    Parameters
    ----------
    anchor, test : (array, array)
        Bits per pixel, and PSNR or MS-SSIM in dB, (n,) each, of one operating point each, in any order. The two may
        have different numbers of points. MS-SSIM has to be in dB (`quality.ms_ssim_db`), as it saturates.
    method : {"pchip", "akima", "cubic"}
        How to interpolate; see the module.

    Returns
    -------
    Delta
        In percent: -10 says that the test needs 10 % fewer bits. Nothing is extrapolated.

    Raises
    ------
    ValueError
        When the curves share no range of quality, one has too few points for the method or does not rise, as points or
        as the method interpolates them, or the method is unknown.

    Examples
    --------
    >>> anchor = [0.1, 0.2, 0.4, 0.8], [28, 31, 34, 37]
    >>> test = [0.09, 0.18, 0.36, 0.72], [28, 31, 34, 37]
    >>> delta = bd_rate(anchor, test)
    >>> round(delta.value, 9), delta.low, delta.high, delta.overlap
    (-10.0, 28.0, 37.0, 1.0)
    """
    (rate_a, quality_a), (rate_t, quality_t) = _checked(anchor, test, method)
    low, high, overlap = _overlap(quality_a, quality_t, "{} dB", float)
    value = _delta("bd_rate", (rate_a, quality_a), (rate_t, quality_t), method, (low, high), "dB")
    return Delta(value, method, low, high, overlap, (len(rate_a), len(rate_t)))


def bd_psnr(anchor: Curve, test: Curve, method: str = "pchip") -> Delta:
    """Mean difference in quality at equal rate, in dB: PSNR, or MS-SSIM if the curves hold that.

    Parameters and errors are those of `bd_rate`; the range that both cover is one of rates, in bits per pixel.

    Examples
    --------
    >>> anchor = [0.1, 0.2, 0.4, 0.8], [28, 31, 34, 37]
    >>> round(bd_psnr(anchor, ([0.1, 0.2, 0.4, 0.8], [28.5, 31.5, 34.5, 37.5])).value, 9)
    0.5
    """
    (rate_a, quality_a), (rate_t, quality_t) = _checked(anchor, test, method)
    low, high, overlap = _overlap(rate_a, rate_t, "{} bpp", np.log10)
    value = _delta("bd_psnr", (rate_a, quality_a), (rate_t, quality_t), method, (low, high), "bpp")
    return Delta(value, method, low, high, overlap, (len(rate_a), len(rate_t)))


def _checked(anchor: Curve, test: Curve, method: str) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    if method not in MINIMUM:
        raise ValueError(f"the method is {method!r}; it must be one of {', '.join(METHODS)}")
    found = []
    for name, curve in (("the anchor", anchor), ("the test", test)):
        rate, quality = check_curve(name, *curve)
        if len(rate) < MINIMUM[method]:
            few = f"{len(rate)} point{'s' if len(rate) > 1 else ''}"
            raise ValueError(f"{name} has {few}, and {method} needs at least {MINIMUM[method]}; measure more of them")
        found.append((rate, quality))
    return found


def _overlap(a: NDArray[Any], b: NDArray[Any], what: str, scale: Callable[[Any], Any]) -> tuple[float, float, float]:
    """Range of both `a` and `b`, each rising, and its share of the range of either on `scale`."""
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    if low >= high:
        of_a, of_b = (what.format(f"{curve[0]:.4g} to {curve[-1]:.4g}") for curve in (a, b))
        raise ValueError(
            f"the anchor covers {of_a} and the test {of_b}: they share no range, and nothing is extrapolated; measure "
            "points that reach into the other's range"
        )
    union = scale(max(a[-1], b[-1])) - scale(min(a[0], b[0]))
    return float(low), float(high), float((scale(high) - scale(low)) / union)


def _delta(name: str, anchor: Any, test: Any, method: str, range_: tuple[float, float], unit: str) -> float:
    """Different numbers of points are fine, and the overlap is told by `Delta` rather than by a warning."""
    import bjontegaard  # and pyplot with it, for which reading published points need not wait

    delta = getattr(bjontegaard, name)
    options = {"require_matching_points": False, "min_overlap": 0, "interpolators": True}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of points that a polynomial can't be fitted to; it is refused below
        value, *curves = delta(*anchor, *test, method=method, **options)
    low, high = range_ if unit == "dB" else np.log10(range_)
    at = np.linspace(low, high, SAMPLES)
    for whose, curve in zip(("the anchor", "the test"), curves, strict=True):
        if method != "pchip" and not (np.diff(curve(at)) > -ROUNDING).all():
            raise ValueError(
                f"{method} does not rise between {whose}'s points, from {range_[0]:.4g} to {range_[1]:.4g} {unit}, as "
                "they do: they saturate or lie too unevenly for it; pchip rises wherever points rise"
            )
    if not np.isfinite(value):
        raise ValueError(f"the curves are too far apart for a number: {value}; look at their points")
    return float(value)

"""Quality of a decoded 8-bit image beside its original, and rate and quality of a codec over images.

PSNR is that of the three RGB channels together. Over several images two numbers go by the name: the mean of the images'
PSNRs, which papers and CompressAI's tools report (``psnr``), and the PSNR of the images' mean MSE, as video coding
averages (``psnr_of_mean_mse``). The second is never higher, for -log is convex.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # torch takes seconds to import, and most of this needs none
    from compressai.models import CompressionModel

    from lic_lab.image import Source

PEAK = 255
SMALLEST = 161  # pixels a side that MS-SSIM needs: its window of 11 still fits after four halvings


def bits_per_pixel(strings: Iterable[bytes], pixels: NDArray[np.uint8]) -> float:
    """bpp of the strings that an image (H, W, 3) was coded to."""
    return 8 * sum(map(len, strings)) / (pixels.shape[0] * pixels.shape[1])


def mse(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Mean squared error over pixels and channels, in squared 8-bit steps.

    Parameters
    ----------
    x, x_hat : array
        uint8 (H, W, 3) each, the original and what was decoded.

    Raises
    ------
    ValueError
        For other types or shapes, or two different shapes.
    """
    _check(x, x_hat)
    return float(np.mean((x.astype(np.float64) - x_hat) ** 2))


def psnr(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """PSNR in dB of uint8 (H, W, 3) RGB, infinite for equal images; errors as for `mse`."""
    return psnr_of_mean_mse([mse(x, x_hat)])


def psnr_of_mean_mse(errors: ArrayLike) -> float:
    """PSNR in dB of the mean of several images' MSEs, (n,); infinite when all are zero.

    Examples
    --------
    >>> round(psnr_of_mean_mse([6.5025]), 6), psnr_of_mean_mse([0])
    (40.0, inf)
    """
    found = np.asarray(errors, dtype=float)
    if found.ndim != 1 or not found.size or (found < 0).any():
        raise ValueError(f"the MSEs have shape {found.shape}; give one or more, (n,), none below zero")
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(PEAK**2 / found.mean()))


def ms_ssim(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    """Multi-scale SSIM (Wang et al., 2003) of RGB, the mean of the channels', through pytorch-msssim as CompressAI.

    Parameters
    ----------
    x, x_hat : array
        uint8 (H, W, 3) each.

    Returns
    -------
    float
        Up to 1. NaN for an image with a side below `SMALLEST` pixels: MS-SSIM is not defined for it.

    Raises
    ------
    ValueError
        As for `mse`.
    """
    _check(x, x_hat)
    if min(x.shape[:2]) < SMALLEST:
        return float("nan")
    import torch
    from pytorch_msssim import ms_ssim as similarity

    for precision in (np.float32, np.float64):  # as CompressAI; float64 takes seven times as long
        pair = [torch.from_numpy(a.transpose(2, 0, 1)[None].astype(precision)) for a in (x, x_hat)]
        found = float(similarity(*pair, data_range=PEAK))
        if found <= 1:  # in flat images the variances cancel, and float32 may find more
            break
    return min(found, 1.0)


def ms_ssim_db(value: ArrayLike) -> Any:
    """MS-SSIM on a scale that does not saturate, -10 log10(1 - value), in dB: a float, or an array of value's shape.

    Infinite at 1, and NaN stays NaN.

    Examples
    --------
    >>> round(ms_ssim_db(0.99), 6)
    20.0
    """
    found = np.asarray(value, dtype=float)
    if (found > 1).any():
        raise ValueError(f"an MS-SSIM is {np.nanmax(found):g}; it is at most 1, so these may be dB already")
    with np.errstate(divide="ignore"):
        db = -10 * np.log10(1 - found)
    return float(db) if found.ndim == 0 else db


def averages(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> dict[str, float]:
    """Quality over a set of images, which are looked at one by one.

    Parameters
    ----------
    pairs : iterable
        (x, x_hat), uint8 (H, W, 3) each; one image may be larger than another.

    Returns
    -------
    dict
        ``images``, ``mse`` (mean), ``psnr`` (mean of the images' in dB), ``psnr_of_mean_mse`` (dB), ``ms_ssim`` (mean)
        and ``ms_ssim_db`` (of that mean). The last two are NaN if an image is too small for MS-SSIM: a mean over the
        others would be one of another set.

    Raises
    ------
    ValueError
        Without images, and as for `mse`.
    """
    rows = [(mse(x, x_hat), psnr(x, x_hat), ms_ssim(x, x_hat)) for x, x_hat in pairs]
    if not rows:
        raise ValueError("there are no images; give at least one pair (x, x_hat)")
    errors, ratios, similarities = np.transpose(rows)
    similarity = float(similarities.mean())
    return {
        "images": len(rows),
        "mse": float(errors.mean()),
        "psnr": float(ratios.mean()),
        "psnr_of_mean_mse": psnr_of_mean_mse(errors),
        "ms_ssim": similarity,
        "ms_ssim_db": ms_ssim_db(similarity),
    }


def measure(codec: CompressionModel, images: Iterable[Source], progress: bool = True) -> dict[str, float]:
    """Means over the images: ``bpp``, ``psnr`` (dB, RGB, of 8-bit pixels), ``ms_ssim``.

    bpp is the estimate, which the stream meets within 0.5 % + 64 bytes (`tests/test_streams.py`).
    """
    from tqdm import tqdm

    from lic_lab.tracing import trace

    rows = []
    for image in tqdm(list(images), desc="images", disable=not progress):
        run = trace(codec, image, keep=lambda name: False)
        assert run.x_hat is not None
        rows.append((run.bpp["total"], run.psnr, ms_ssim(run.x, run.x_hat)))
    bpp, ratio, similarity = np.mean(rows, axis=0)
    return {"bpp": float(bpp), "psnr": float(ratio), "ms_ssim": float(similarity)}


def _check(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> None:
    """Both must be the same size of RGB image, 8 bits a channel."""
    for name, a in (("x", x), ("x_hat", x_hat)):
        if not isinstance(a, np.ndarray) or a.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3 or not a.size:
            have = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
            raise ValueError(f"{name} is {have}; give uint8 pixels (H, W, 3), RGB, rounded and clipped to 0 to 255")
    if x.shape != x_hat.shape:
        raise ValueError(f"x is {x.shape} and x_hat is {x_hat.shape}; they must be of the same size")

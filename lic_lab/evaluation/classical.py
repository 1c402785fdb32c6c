"""Classical codecs run here through Pillow, for a picture at the same rate."""

from __future__ import annotations

import bisect
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# "mct" is JPEG 2000's colour transform: without it Pillow codes R, G and B apart, which costs 4 dB.
SETTINGS: dict[str, list[dict[str, Any]]] = {  # by rising rate
    "jpeg": [{"format": "JPEG", "quality": q, "optimize": True} for q in (*range(2, 30, 2), *range(30, 96, 5))],
    "jpeg2000": [
        {"format": "JPEG2000", "quality_mode": "rates", "quality_layers": [24 / b], "irreversible": True, "mct": 1}
        for b in (0.06, 0.09, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0)
    ],
    "webp": [{"format": "WEBP", "quality": q, "method": 6} for q in (*range(0, 30, 3), *range(30, 96, 5))],
}


def encode(pixels: NDArray[np.uint8], settings: dict[str, Any]) -> tuple[int, NDArray[np.uint8]]:
    """Bytes and reconstruction of uint8 (H, W, 3) under Pillow's `settings`."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **settings)
    return stream.tell(), np.asarray(Image.open(stream).convert("RGB"))


def curve(pixels: NDArray[np.uint8], codec: str) -> list[tuple[float, float]]:
    """(bpp, PSNR in dB) of each of the codec's settings on one image, by rising bpp.

    Raises
    ------
    ValueError
        For a codec that is not in `SETTINGS`.
    """
    return sorted(point(pixels, settings) for settings in _settings(codec))


def point(pixels: NDArray[np.uint8], settings: dict[str, Any]) -> tuple[float, float]:
    """(bpp, PSNR in dB) of one setting on one image."""
    size, decoded = encode(pixels, settings)
    mse = np.mean((pixels.astype(np.float64) - decoded) ** 2)
    return 8 * size / (pixels.shape[0] * pixels.shape[1]), float(10 * np.log10(255**2 / mse))


def _settings(codec: str) -> list[dict[str, Any]]:
    if codec not in SETTINGS:
        raise ValueError(f"codec is {codec!r}; it must be one of {', '.join(SETTINGS)}")
    return SETTINGS[codec]


def psnr_at(pixels: NDArray[np.uint8], codec: str, bpp: float) -> float:
    """PSNR in dB of `codec` on one image at `bpp`, interpolated linearly in log rate between its two nearest settings.

    NaN when the codec does not reach that rate.
    """
    settings = _settings(codec)
    found: dict[int, tuple[float, float]] = {}

    def rate(k: int) -> float:
        if k not in found:
            found[k] = point(pixels, settings[k])
        return found[k][0]

    above = bisect.bisect_left(range(len(settings)), bpp, key=rate)
    if above == len(settings) or (above == 0 and rate(0) > bpp):
        return float("nan")
    if above == 0:
        return found[0][1]
    rate(above - 1)
    (low, below), (high, top) = found[above - 1], found[above]
    return float(np.interp(np.log(bpp), np.log((low, high)), (below, top)))

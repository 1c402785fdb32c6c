"""JPEG, JPEG 2000, WebP and AVIF through Pillow, each with what gives it its best PSNR at a rate.

JPEG and WebP are 4:2:0, as published curves have them: WebP knows no other, and JPEG gains by it at low rates.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

AVIF_SPEED = 4  # of 0 to 10. 6, the default, loses 0.4 dB; 2 takes three times as long for another 0.1 dB


@dataclass(frozen=True)
class Format:
    """An image format that Pillow writes and reads.

    Attributes
    ----------
    name : str
        Pillow's.
    settings : callable
        The codec's setting to what Pillow's `save` takes.
    libraries : callable
        The libraries within Pillow that code, with their versions.
    """

    name: str
    settings: Callable[[float], dict[str, Any]]
    libraries: Callable[[], str]

    def encode(self, pixels: NDArray[np.uint8], value: float) -> list[bytes]:
        """The file of an image (H, W, 3)."""
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, self.name, **self.settings(value))
        return [stream.getvalue()]

    def decode(self, strings: list[bytes]) -> NDArray[np.uint8]:
        """RGB (H, W, 3) of a file in this format."""
        return np.asarray(Image.open(io.BytesIO(b"".join(strings)), formats=[self.name]).convert("RGB"))

    def version(self) -> str:
        """Versions of Pillow and the libraries within it."""
        return f"Pillow {PIL.__version__}, {self.libraries()}"

    def missing(self) -> None:
        """Pillow's wheels have them all."""


def _avif_libraries() -> str:
    from PIL import _avif

    aom = re.search(r"aom \[[^]]*\]:([^\s,]+)", _avif.codec_versions())
    return f"libavif {features.version_module('avif')}, aom {aom[1] if aom else 'unknown'}, speed {AVIF_SPEED}"


JPEG = Format(  # with Huffman tables of its own
    "JPEG",
    lambda quality: {"quality": int(quality), "optimize": True},
    lambda: f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}",
)
JPEG_2000 = Format(  # "mct" is the colour transform: without it Pillow codes R, G and B apart, which costs 4 dB
    "JPEG2000",
    lambda bpp: {"quality_mode": "rates", "quality_layers": [24 / bpp], "irreversible": True, "mct": 1},
    lambda: f"OpenJPEG {features.version_codec('jpg_2000')}",
)
WEBP = Format(
    "WEBP",
    lambda quality: {"quality": int(quality), "method": 6},
    lambda: f"libwebp {features.version_module('webp')}",
)
AVIF = Format(  # tuned for PSNR, as what it is compared with: libavif's own choice is made for the eye and loses 0.7 dB
    "AVIF",
    lambda quality: {
        "quality": int(quality),
        "subsampling": "4:4:4",
        "speed": AVIF_SPEED,
        "codec": "aom",
        "advanced": {"tune": "psnr"},
        "max_threads": 1,
    },
    _avif_libraries,
)

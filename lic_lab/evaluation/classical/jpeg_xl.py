"""JPEG XL by libjxl: through imagecodecs, or where that was built without it through the programs cjxl and djxl."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lic_lab.evaluation.classical.executables import Program

EFFORT = 7  # libjxl's default. 9 takes five times as long and gains nothing in PSNR at a rate
TOOLS = Program(("cjxl",), ("djxl",), "install libjxl's tools, for example apt-get install libjxl-tools")


def encode(pixels: NDArray[np.uint8], distance: float) -> list[bytes]:
    """A JPEG XL codestream; the Butteraugli distance, 0.01 to 25, is 1 where a loss begins to be seen."""
    if _built_in():
        import imagecodecs

        data = imagecodecs.jpegxl_encode(pixels, distance=distance, effort=EFFORT, lossless=False, numthreads=1)
        return [bytes(data)]
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    options = ("-d", f"{distance:g}", "-e", str(EFFORT), "--num_threads=0")
    return [TOOLS.convert(TOOLS.encoder, picture.getvalue(), "{in}.png", "{out}.jxl", *options)]


def decode(strings: list[bytes]) -> NDArray[np.uint8]:
    """RGB, uint8 (H, W, 3), of a JPEG XL file."""
    data = b"".join(strings)
    if _built_in():
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))
    decoded = TOOLS.convert(TOOLS.decoder, data, "{in}.jxl", "{out}.png", "--num_threads=0")
    return np.asarray(Image.open(io.BytesIO(decoded)).convert("RGB"))


def version() -> str:
    """Versions of imagecodecs and libjxl, or of cjxl."""
    if _built_in():
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__}, {imagecodecs.jpegxl_version()}, effort {EFFORT}"
    return f"{TOOLS.version()}, effort {EFFORT}"


def missing() -> str | None:
    """What is not installed, and what to do, or None."""
    reason = TOOLS.missing()
    return None if _built_in() or reason is None else f"imagecodecs has no JPEG XL, and {reason}"


def _built_in() -> bool:
    import imagecodecs

    return bool(imagecodecs.JPEGXL.available)

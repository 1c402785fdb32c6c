"""BPG, an intra frame of HEVC in a file of its own, through libbpg's programs."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lic_lab.evaluation.classical.executables import Program

LIBBPG = Program(("bpgenc",), ("bpgdec",), "build libbpg with x265 from https://bellard.org/bpg")
missing, version = LIBBPG.missing, LIBBPG.version


def encode(pixels: NDArray[np.uint8], qp: float) -> list[bytes]:
    """A BPG file by x265, 8 bits 4:4:4; it converts colours itself, by BT.601's matrix. `qp` is whole, 0 to 51."""
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    options = ("-q", f"{qp:g}", "-f", "444", "-e", "x265", "-c", "ycbcr", "-b", "8")
    return [LIBBPG.convert(LIBBPG.encoder, picture.getvalue(), "-o", "{out}.bpg", *options, "{in}.png")]


def decode(strings: list[bytes]) -> NDArray[np.uint8]:
    """RGB, uint8 (H, W, 3)."""
    decoded = LIBBPG.convert(LIBBPG.decoder, b"".join(strings), "-o", "{out}.png", "{in}.bpg")
    return np.asarray(Image.open(io.BytesIO(decoded)).convert("RGB"))

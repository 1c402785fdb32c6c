"""HM and VTM, the reference software of HEVC and VVC: one frame, 4:4:4, by the user's own all-intra configuration.

VVenC is left out: it codes 4:2:0 alone.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lic_lab.evaluation.classical.executables import Program
from lic_lab.evaluation.classical.ycbcr import planes, to_rgb, to_ycbcr

SIZE = struct.Struct("<HH")  # height and width
LARGEST = 65535  # pixels a side that fit


@dataclass(frozen=True)
class ReferenceSoftware(Program):
    """The options of HM's programs are VTM's too."""

    def encode(self, pixels: NDArray[np.uint8], qp: float) -> list[bytes]:
        """The stream, and 4 bytes for the size, which the decoder does not tell: 0.00008 bpp of a Kodak image."""
        height, width = pixels.shape[:2]
        if max(height, width) > LARGEST:
            raise ValueError(f"at most {LARGEST} pixels a side can be coded")
        options = ["-c", str(self.configuration), "-wdt", str(width), "-hgt", str(height), "-q", f"{qp:g}"]
        options += ["-f", "1", "-fr", "1", "--InputChromaFormat=444", "--InputBitDepth=8"]
        options += ["--ConformanceWindowMode=1", "-o", os.devnull]  # any size: padded, and cropped by the decoder
        coded = self.convert(self.encoder, to_ycbcr(pixels).tobytes(), "-i", "{in}.yuv", "-b", "{out}.bin", *options)
        return [coded, SIZE.pack(height, width)]

    def decode(self, strings: list[bytes]) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3)."""
        coded, size = strings
        decoded = self.convert(self.decoder, coded, "-b", "{in}.bin", "-o", "{out}.yuv", "-d", "8")
        return to_rgb(planes(decoded, *SIZE.unpack(size)))


HM = ReferenceSoftware(
    ("TAppEncoder", "TAppEncoderStatic"),
    ("TAppDecoder", "TAppDecoderStatic"),
    "build HM from https://vcgit.hhi.fraunhofer.de/jvet/HM",
    "LIC_LAB_HM_CFG",
    "cfg/encoder_intra_main_rext.cfg",
)
VTM = ReferenceSoftware(
    ("EncoderApp", "EncoderAppStatic"),
    ("DecoderApp", "DecoderAppStatic"),
    "build VTM from https://vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM",
    "LIC_LAB_VTM_CFG",
    "cfg/encoder_intra_vtm.cfg",
)

"""HEVC intra: one frame, 8 bits 4:4:4, by ffmpeg's x265 at a constant QP."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lic_lab.evaluation.classical.executables import Program, run, version_line
from lic_lab.evaluation.classical.ycbcr import planes, to_rgb, to_ycbcr

FFMPEG = Program(("ffmpeg",), ("ffmpeg",), "install ffmpeg with libx265, for example apt-get install ffmpeg")
CODING_UNITS = (64, 32, 16)  # pixels a side; a picture has at least one
# One thread for the same stream on every machine, and no room in it for x265 to introduce itself.
X265 = "range=full:colormatrix=bt709:keyint=1:info=0:wpp=0:pools=none:frame-threads=1:log-level=error"


def encode(pixels: NDArray[np.uint8], qp: float) -> list[bytes]:
    """A raw HEVC stream, which says that its colours are BT.709 in full range; `qp` is a whole number from 0 to 51."""
    height, width = pixels.shape[:2]
    unit = next((side for side in CODING_UNITS if side <= min(height, width)), None)
    if unit is None:
        raise ValueError(f"x265 needs at least {CODING_UNITS[-1]} pixels a side")
    command = ["-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", f"{width}x{height}", "-i", "pipe:0", "-frames:v", "1"]
    command += ["-c:v", "libx265", "-preset", "veryslow", "-tune", "psnr", "-profile:v", "main444-intra"]
    command += ["-x265-params", f"qp={qp:g}:ctu={unit}:{X265}", "-f", "hevc", "pipe:1"]
    return [_ffmpeg(command, to_ycbcr(pixels).tobytes())]


def decode(strings: list[bytes]) -> NDArray[np.uint8]:
    """RGB, uint8 (H, W, 3), of the first frame; as YUV4MPEG2, in which ffmpeg tells the size and converts nothing."""
    command = ["-f", "hevc", "-i", "pipe:0", "-frames:v", "1", "-f", "yuv4mpegpipe", "pipe:1"]
    header, _, rest = _ffmpeg(command, b"".join(strings)).partition(b"\n")
    tags = {tag[0]: tag[1:] for tag in header.decode("ascii", "replace").split()[1:]}
    if tags.get("C") != "444":
        raise ValueError(f"ffmpeg decoded no 8-bit 4:4:4 picture but {header[:80]!r}")
    return to_rgb(planes(rest.partition(b"\n")[2], int(tags["H"]), int(tags["W"])))


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    program = FFMPEG.find(FFMPEG.encoder)
    return run([program, "-hide_banner", "-loglevel", "error", "-threads", "1", *arguments], data)


def version() -> str:
    """Versions of ffmpeg and x265."""
    return _version(FFMPEG.find(FFMPEG.encoder))


def missing() -> str | None:
    """What is not installed, and what to do, or None."""
    if (reason := FFMPEG.missing()) is None and not version():
        return f"the ffmpeg on the PATH has no libx265; {FFMPEG.install}"
    return reason


@lru_cache
def _version(ffmpeg: str) -> str:
    """Empty for an ffmpeg without libx265. Only a run tells x265's version."""
    command = [ffmpeg, "-hide_banner", "-f", "lavfi", "-i", "color=size=64x64", "-frames:v", "1"]
    done = subprocess.run([*command, "-c:v", "libx265", "-f", "null", "-"], capture_output=True)
    found = re.search(rb"HEVC encoder version (\S+)", done.stderr)
    if done.returncode or not found:
        return ""
    return f"{' '.join(version_line(ffmpeg).split()[:3])}, x265 {found[1].decode()}"

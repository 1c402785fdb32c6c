"""Classical codecs run here: the anchors that a learned codec is measured against.

Each is a name and a grid of settings by rising rate. JPEG, JPEG 2000, WebP and AVIF come with Pillow, JPEG XL with
imagecodecs; HEVC needs ffmpeg with libx265 on the PATH, and BPG, HM and VTM their own programs, which nothing here
installs. `available` says what is missing. Encoders are held to one thread, so that a file is the same everywhere.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lic_lab.evaluation.classical import bpg, hevc, jpeg_xl, pillow, reference_software
from lic_lab.evaluation.quality import bits_per_pixel, psnr


class Library(Protocol):
    """What codes and decodes: an object or a module."""

    def encode(self, pixels: NDArray[np.uint8], value: float, /) -> list[bytes]:
        """The strings of an image (H, W, 3) at a setting."""
        ...

    def decode(self, strings: list[bytes], /) -> NDArray[np.uint8]:
        """The image (H, W, 3)."""
        ...

    def version(self) -> str:
        """What decides about the result besides the setting: names and versions of libraries or programs."""
        ...

    def missing(self) -> str | None:
        """What is not installed, and what to do, or None."""
        ...


@dataclass(frozen=True)
class Method:
    """How a classical codec is run here.

    Attributes
    ----------
    title : str
        As a legend names it.
    setting : str
        What its configurations set, as in "quality=30".
    grid : tuple of numbers
        Its settings by rising rate. All are whole where the setting takes no others.
    limits : tuple of two numbers
        The least and the greatest that it takes.
    library : Library
        What codes and decodes.
    """

    title: str
    setting: str
    grid: tuple[float, ...]
    limits: tuple[float, float]
    library: Library

    def value(self, configuration: str) -> float:
        """The number in a configuration; ValueError for one that can't be read or is outside the limits."""
        setting, _, text = configuration.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        whole = all(isinstance(point, int) for point in self.grid)
        low, high = self.limits
        if setting != self.setting or not low <= value <= high or (whole and value != int(value)):
            raise ValueError(
                f"a configuration of {self.title} is {configuration!r}; write {self.setting}= and a "
                f"{'whole ' if whole else ''}number from {low:g} to {high:g}: {self.setting}={self.grid[0]:g}"
            )
        return int(value) if whole else value


JPEG = (*range(2, 30, 2), *range(30, 96, 5))
JPEG_2000 = (0.06, 0.09, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0)
WEBP = (*range(0, 30, 3), *range(30, 96, 5))
AVIF = (2, 5, 8, 12, 16, 20, 25, 30, 36, 43, 50, 58, 66, 75, 85)
JPEG_XL = (25.0, 20.0, 15.0, 12.0, 9.0, 7.0, 5.5, 4.5, 3.5, 2.8, 2.2, 1.7, 1.3, 1.0, 0.8, 0.65)
QPS = (50, 47, 45, 42, 40, 37, 35, 32, 30, 27, 25, 22)  # the usual ones, 5 apart, and those between
FEW_QPS = QPS[1::2]  # for encoders that take minutes a picture

CLASSICAL: Mapping[str, Method] = MappingProxyType(
    {
        "jpeg": Method("JPEG", "quality", JPEG, (1, 95), pillow.JPEG),
        "jpeg2000": Method("JPEG 2000", "bpp", JPEG_2000, (0.01, 24), pillow.JPEG_2000),
        "webp": Method("WebP", "quality", WEBP, (0, 100), pillow.WEBP),
        "avif": Method("AVIF", "quality", AVIF, (0, 100), pillow.AVIF),
        "jpeg-xl": Method("JPEG XL", "distance", JPEG_XL, (0.01, 25), jpeg_xl),
        "hevc": Method("HEVC (x265)", "qp", QPS, (0, 51), hevc),
        "bpg": Method("BPG", "qp", QPS, (0, 51), bpg),
        "hm": Method("HM", "qp", FEW_QPS, (0, 51), reference_software.HM),
        "vtm": Method("VTM", "qp", FEW_QPS, (0, 63), reference_software.VTM),
    }
)


@dataclass(frozen=True)
class Classical:
    """A classical codec at one of its settings; see `lic_lab.evaluation.coders.Coder`. `classical` makes one."""

    name: str
    value: float

    @property
    def configuration(self) -> str:
        """What `classical` takes: "quality=30"."""
        return f"{CLASSICAL[self.name].setting}={self.value:g}"

    @property
    def digest(self) -> str:
        """Names and versions of what codes."""
        return CLASSICAL[self.name].library.version()

    def encode(self, pixels: NDArray[np.uint8]) -> list[bytes]:
        """The file of an image, uint8 (H, W, 3).

        Raises
        ------
        ValueError
            For other pixels, a size that the codec does not take, or a program that fails; says which.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"the pixels are {pixels.dtype} {pixels.shape}; give uint8 (H, W, 3), RGB")
        try:
            return CLASSICAL[self.name].library.encode(np.ascontiguousarray(pixels), self.value)
        except (OSError, RuntimeError, ValueError) as error:
            height, width = pixels.shape[:2]
            raise ValueError(f"{self.name} can't code these {height} x {width} pixels: {error}") from error

    def decode(self, strings: list[bytes]) -> NDArray[np.uint8]:
        """The image, uint8 (H, W, 3), from what `encode` returned.

        Raises
        ------
        ValueError
            For other strings, or a program that fails; says which.
        """
        try:
            return CLASSICAL[self.name].library.decode(strings)
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.name} can't decode these strings: {error}") from error


def available(name: str) -> str | None:
    """None if the codec runs on this machine; else what is missing, and what to do.

    Raises
    ------
    ValueError
        For a name that is not in `CLASSICAL`.
    """
    if name not in CLASSICAL:
        raise ValueError(f"no classical codec is called {name!r}; there are {', '.join(CLASSICAL)}")
    return CLASSICAL[name].library.missing()


def classical(name: str, configuration: str) -> Classical:
    """A classical codec at one setting, on its grid or not.

    >>> classical("jpeg", "quality=30").configuration
    'quality=30'

    Raises
    ------
    ValueError
        For an unknown name or configuration, or a codec that this machine lacks; says what to do.
    """
    _need(name)
    return Classical(name, CLASSICAL[name].value(configuration))


def rate_points(name: str) -> list[Classical]:
    """The codec at each of its settings, by rising rate; errors as for `classical`."""
    _need(name)
    return [Classical(name, value) for value in CLASSICAL[name].grid]


def _need(name: str) -> None:
    if reason := available(name):
        raise ValueError(f"{name} does not run here: {reason}")


def point(pixels: NDArray[np.uint8], coder: Classical) -> tuple[float, float]:
    """(bpp of the file, PSNR in dB) of one setting on one image, uint8 (H, W, 3)."""
    strings = coder.encode(pixels)
    return bits_per_pixel(strings, pixels), psnr(pixels, coder.decode(strings))


def psnr_at(pixels: NDArray[np.uint8], name: str, bpp: float) -> float:
    """PSNR in dB of a codec on one image at `bpp`, interpolated linearly in log rate between its two nearest settings.

    NaN when the codec does not reach that rate. Errors as for `classical`.
    """
    coders = rate_points(name)
    found: dict[int, tuple[float, float]] = {}

    def rate(k: int) -> float:
        if k not in found:
            found[k] = point(pixels, coders[k])
        return found[k][0]

    above = bisect.bisect_left(range(len(coders)), bpp, key=rate)
    if above == len(coders) or (above == 0 and rate(0) > bpp):
        return math.nan
    if above == 0:
        return found[0][1]
    rate(above - 1)
    (low, below), (high, top) = found[above - 1], found[above]
    return float(np.interp(np.log(bpp), np.log((low, high)), (below, top)))

"""Images through coders, with the decoded pictures kept for showing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from lic_lab.evaluation.classical import CLASSICAL
from lic_lab.evaluation.coders import Coder, Learned
from lic_lab.evaluation.quality import bits_per_pixel, ms_ssim, psnr
from lic_lab.figures.operating_points import subject
from lic_lab.figures.png import image_png
from lic_lab.image import Picture, Source, read, to_uint8

WIDEST = 768  # pixels a side of a picture that is kept


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """One image through one coder.

    Attributes
    ----------
    picture : Picture
        The image.
    codec, configuration : str
        What `evaluation.coders.coder` takes.
    bpp, psnr, ms_ssim : float
        Of the real stream and the 8-bit picture; PSNR in dB, MS-SSIM up to 1 and NaN for a small image.
    png : bytes
        What was decoded, at display size.
    opens : (int, dict) or None
        Quality and components with which the workbench shows this; None for codecs that it can't open.
    """

    picture: Picture
    codec: str
    configuration: str
    bpp: float
    psnr: float
    ms_ssim: float
    png: bytes
    opens: tuple[int, dict[str, str]] | None

    @property
    def subject(self) -> str:
        """Name of the curve that this is a point of."""
        return subject(self.codec, self.configuration)

    @property
    def family(self) -> str:
        """As of `figures.Curve`."""
        return "classical" if self.codec in CLASSICAL else "ours"


def measure(images: Mapping[str, Source], coders: Iterable[Coder], progress: bool = True) -> list[OperatingPoint]:
    """Code and decode every image with every coder.

    Parameters
    ----------
    images : mapping
        Names to what `lic_lab.read_image` takes.
    coders : iterable of Coder
        See `evaluation.coders.coder`.
    progress : bool
        Show a bar.

    Returns
    -------
    list of OperatingPoint
        Image by image, in the order of the coders.
    """
    pictures, coders = [read(source, name=name) for name, source in images.items()], list(coders)
    jobs = [(picture, coder) for picture in pictures for coder in coders]
    found = []
    for picture, coder in tqdm(jobs, desc="coding and decoding", unit="picture", disable=not progress):
        pixels = to_uint8(picture.x)
        strings = coder.encode(pixels)
        decoded = coder.decode(strings)
        found.append(
            OperatingPoint(
                picture=picture,
                codec=coder.name,
                configuration=coder.configuration,
                bpp=bits_per_pixel(strings, pixels),
                psnr=psnr(pixels, decoded),
                ms_ssim=ms_ssim(pixels, decoded),
                png=display_png(decoded),
                opens=_opens(coder),
            )
        )
    return found


def display_png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as PNG, reduced to at most `WIDEST` pixels a side."""
    scale = -(-max(pixels.shape[:2]) // WIDEST)
    return image_png(pixels if scale == 1 else np.asarray(Image.fromarray(pixels).reduce(scale)))


def _opens(coder: Coder) -> tuple[int, dict[str, str]] | None:
    """The workbench shows the shared latent's codecs."""
    from lic_lab.codecs.shared import SharedLatent

    if not (isinstance(coder, Learned) and isinstance(coder.codec, SharedLatent) and coder.codec.quality is not None):
        return None
    return coder.codec.quality, dict(coder.codec.combination)

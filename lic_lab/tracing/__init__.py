"""Trace: everything one run of a codec saw, by name.

    trace = lab.trace(codec, "photo.png")
    trace.bpp["total"], trace.psnr, trace.bits.sum(0)       # bits per latent position
    trace.attention("intra", slice=2, position=(10, 12))

A trace comes from the same loop that codes. CompressAI's own image models are traced too, through hooks on their
entropy models.

    result       Trace, what is handed over; it reads attention and references from the records that were kept
    taps         records of taps, and the names of those that were not kept
    latents      g_a and the hyperprior, once for all entropy models; pictures already made
    ours         runs of our codecs
    foreign      runs of CompressAI's models
"""

from __future__ import annotations

import lic_lab.layers  # noqa: F401  # before CompressAI

# isort: split
from compressai.models import CompressionModel

from lic_lab.codecs.codec import Codec
from lic_lab.image import Picture, Source, read
from lic_lab.tracing.attention import Attention
from lic_lab.tracing.foreign import trace_foreign
from lic_lab.tracing.latents import Latent, latent
from lic_lab.tracing.ours import reconstruct, trace_codec
from lic_lab.tracing.references import References
from lic_lab.tracing.result import Stage, Trace
from lic_lab.tracing.taps import Keep, Record


def trace(
    codec: CompressionModel,
    image: Source | Picture | Latent,
    reconstruct: bool = True,
    keep: Keep | None = None,
) -> Trace:
    """Run `codec` on an image and keep everything it saw.

    Parameters
    ----------
    codec : Codec or CompressionModel
        One of ours, or an image model of CompressAI (from its zoo or with your own weights).
    image : path, PIL image, array, tensor, Picture or Latent
        Any size. A `Latent` (ours only) skips the transform.
    reconstruct : bool
        False for the bits alone, which is several times faster.
    keep : callable, optional
        Which taps to keep, by name. By default all for latents of up to 6144 positions, else none. A `Latent` has kept
        what it was asked for; for anything else that its transform can show, the transform runs again.

    Raises
    ------
    ImageError
        When the image can't be used.
    TypeError
        When `codec` is no compression model.
    """
    if isinstance(codec, Codec):
        found = image if isinstance(image, Latent) else latent(codec, image, keep)
        return trace_codec(codec, found, reconstruct, keep)
    if isinstance(codec, CompressionModel):
        if isinstance(image, Latent):
            raise TypeError("a Latent belongs to a lic_lab codec; give CompressAI's models an image")
        return trace_foreign(codec, image if isinstance(image, Picture) else read(image))
    raise TypeError(f"codec is a {type(codec).__name__}; give a codec from lab.load, lab.create or a CompressAI model")


__all__ = ["Attention", "Latent", "Record", "References", "Stage", "Trace", "latent", "reconstruct", "trace"]

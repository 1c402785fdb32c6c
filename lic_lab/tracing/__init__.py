"""Trace: everything one run of a codec saw, by name.

    trace = lab.trace(codec, "photo.png")
    trace.bpp["total"], trace.psnr, trace.bits.sum(0)       # bits per latent position
    trace.attention("intra", slice=2, position=(10, 12))

A trace comes from the same loop that codes. Models of others are traced too, if their `forward` returns what
CompressAI's do: their own likelihoods, and what hooks on their entropy models show.

    result       Trace, what is handed over; it reads attention and references from the records that were kept
    taps         records of taps, and the names of those that were not kept
    latents      g_a and the hyperprior, once for all entropy models; pictures already made
    ours         runs of our codecs
    foreign      runs of other models: their likelihoods, and what can be told of them
    calls        which call of which entropy model gave each likelihood
    orders       the name of an order that isn't one of ours
    guard        what all of it runs under
"""

from __future__ import annotations

import lic_lab.layers  # noqa: F401  # before CompressAI

# isort: split
from torch import nn

from lic_lab.codecs.codec import Codec, unwrapped
from lic_lab.image import Picture, Source, read
from lic_lab.tracing.attention import Attention
from lic_lab.tracing.foreign import trace_foreign
from lic_lab.tracing.latents import Latent, latent
from lic_lab.tracing.ours import reconstruct, trace_codec
from lic_lab.tracing.references import References
from lic_lab.tracing.result import Stage, Trace
from lic_lab.tracing.taps import Keep, Record


def trace(
    codec: nn.Module,
    image: Source | Picture | Latent,
    reconstruct: bool = True,
    keep: Keep | None = None,
) -> Trace:
    """Run `codec` on an image and keep everything it saw.

    Parameters
    ----------
    codec : Codec or Module
        One of ours, or a model of CompressAI's kind: of its zoo, or your own, as it is or wrapped by torch.compile or
        DataParallel. In whatever mode it and torch are, a trace is that of evaluation, and changes neither.
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
        When `codec` is no compression model, or one that can't be traced: why, in words.
    ValueError
        When the weights of one of our codecs aren't float32.
    """
    model = unwrapped(codec)
    if isinstance(model, Codec):
        found = image if isinstance(image, Latent) else latent(model, image, keep)
        return trace_codec(model, found, reconstruct, keep)
    if isinstance(model, nn.Module):
        if isinstance(image, Latent):
            raise TypeError("a Latent belongs to a lic_lab codec; give CompressAI's models an image")
        return trace_foreign(model, image if isinstance(image, Picture) else read(image))
    raise TypeError(
        f"codec is a {type(model).__name__}; give a codec from lab.load or lab.create, or a CompressAI model"
    )


__all__ = ["Attention", "Latent", "Record", "References", "Stage", "Trace", "latent", "reconstruct", "trace"]

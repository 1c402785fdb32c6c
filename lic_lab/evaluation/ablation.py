"""What each component of the entropy model is worth, on a shared latent: MLIC's Table 5 as a measurement."""

from __future__ import annotations

from collections.abc import Iterable
from operator import length_hint
from typing import Any

import numpy as np
from tqdm import tqdm

from lic_lab.codecs.shared import combinations
from lic_lab.codecs.weights import load
from lic_lab.image import Source
from lic_lab.tracing import latent, trace

TABLE_5 = (  # rows of the paper's Table 5, in its order, preceded by the base itself
    ("none", "none", "none"),
    ("none", "checkerboard", "none"),
    ("none", "stacked", "none"),
    ("none", "attention", "none"),
    ("conv", "none", "none"),
    ("conv", "checkerboard", "none"),
    ("conv", "stacked", "none"),
    ("conv", "attention", "none"),
    ("conv", "none", "intra"),
    ("conv", "none", "intra-unmasked"),
    ("conv", "stacked", "intra"),
    ("conv", "attention", "intra"),
    ("conv", "attention", "intra+inter"),
)
REFERENCE = (  # the global reference of Qian et al. 2021, beside what it is added to
    ("none", "raster", "none"),
    ("none", "raster", "reference"),
    ("none", "none", "reference"),
    ("none", "checkerboard", "reference"),
    ("conv", "checkerboard", "reference"),
    ("conv", "attention", "reference"),
)


def ablation(
    quality: int | None, images: Iterable[Source], everything: bool = False, progress: bool = True
) -> list[dict[str, Any]]:
    """Mean bits per pixel of each combination on the same symbols, and the saving over the hyperprior alone.

    Parameters
    ----------
    quality : int or None
        Rate point of the shared latent; None for the lowest there is.
    images : iterable
        What `lic_lab.image.read` takes.
    everything : bool
        All meaningful combinations without refinement (which changes no bits), not only the rows of Table 5 and
        those of the global reference.

    Returns
    -------
    list of dict
        ``channel``, ``local``, ``global``, ``refinement``, ``bpp`` (mean over the images) and
        ``bits_vs_base_percent`` (of the summed bits).

    Raises
    ------
    ValueError
        Without images.
    """
    codec = load("shared", quality)
    rows = (
        [tuple(c.values())[:3] for c in combinations() if c["refinement"] == "none"]
        if everything
        else [*TABLE_5, *REFERENCE]
    )
    bpp: dict[tuple[str, ...], list[float]] = {row: [] for row in rows}
    pixels = []
    for image in tqdm(images, desc="images", total=length_hint(images) or None, disable=not progress):
        found = latent(codec, image)
        pixels.append(found.picture.x.shape[2] * found.picture.x.shape[3])
        for channel, local, global_ in rows:
            variant = codec.swap(channel=channel, local=local, global_=global_, refinement="none")
            run = trace(variant, found, reconstruct=False, keep=lambda name: False)
            bpp[channel, local, global_].append(run.bpp["total"])
    if not pixels:
        raise ValueError("there is no image to measure; give one that can be read")
    base = np.dot(bpp[rows[0]], pixels)
    return [
        {
            "channel": channel,
            "local": local,
            "global": global_,
            "refinement": "none",
            "bpp": float(np.mean(found)),
            "bits_vs_base_percent": float(100 * (np.dot(found, pixels) / base - 1)),
        }
        for (channel, local, global_), found in bpp.items()
    ]

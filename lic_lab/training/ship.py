"""From a checkpoint to shipped weights: settle the bottleneck, round to float16, measure on Kodak, write the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lic_lab.codecs import shared
from lic_lab.codecs.weights import QUALITIES, SERVES, half_precision, save
from lic_lab.evaluation.quality import measure
from lic_lab.image import Source


def ship(
    checkpoint: Path, quality: int, recipe: Sequence[dict[str, Any]], images: Sequence[Source], to: Path | None = None
) -> Path:
    """Write ``shared-q{quality}.safetensors`` and its card.

    Parameters
    ----------
    checkpoint : path
        Of the last stage.
    quality : int
        CompressAI's quality; its lambda is the one trained for.
    recipe : sequence of dict
        The stages in order, as they were run: stage, lambda, steps, crops, seconds, seed, ...
    images : sequence
        Kodak's images, for the card's figures.
    """
    codec = shared.SharedLatent()
    codec.load_state_dict(torch.load(checkpoint, weights_only=True)["modules"])
    codec.eval().requires_grad_(False)
    half_precision(codec)
    codec.hyperprior.bottleneck.update(force=True, update_quantiles=True)
    figures = {
        name: measure(codec.swap(**combination), images)
        for name, combination in {
            "everything on": SERVES["shared"],
            "hyperprior only": dict.fromkeys(shared.MENU, "none"),
        }.items()
    }
    card = {
        "codec": "shared",
        "serves": list(SERVES),
        "quality": quality,
        "lambda": QUALITIES[quality],
        "config": {"M": shared.M, "slices": shared.SLICES, "N": shared.N, "z": shared.Z, "widths": shared.WIDTHS},
        "parameters": sum(p.numel() for p in codec.parameters()),
        "recipe": list(recipe),
        "kodak": figures,
    }
    return save(codec, f"shared-q{quality}", card, to)

"""From a checkpoint to shipped weights: settle the bottleneck, round to float16, measure on Kodak, write the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lic_lab.codecs import shared
from lic_lab.codecs.weights import QUALITIES, SERVES, half_precision, save, untrained
from lic_lab.evaluation.quality import measure
from lic_lab.image import Source
from lic_lab.training.starts import weights

SHARED = {"M": shared.M, "slices": shared.SLICES, "N": shared.N, "z": shared.Z, "widths": shared.WIDTHS}


def ship(
    checkpoint: Path,
    quality: int,
    recipe: Sequence[dict[str, Any]],
    images: Sequence[Source],
    to: Path | None = None,
    name: str = "shared",
) -> Path:
    """Write ``{name}-q{quality}.safetensors`` and its card.

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
    name : str
        "shared", or a codec of the registry.
    """
    codec = untrained(name)
    codec.load_state_dict(weights(checkpoint))
    codec.eval().requires_grad_(False)
    half_precision(codec)
    codec.hyperprior.bottleneck.update(force=True, update_quantiles=True)
    if name == "shared":
        combinations = {"everything on": SERVES["shared"], "hyperprior only": dict.fromkeys(shared.MENU, "none")}
        figures = {words: measure(codec.swap(**combination), images) for words, combination in combinations.items()}
    else:
        figures = {"as shipped": measure(codec, images)}
    card = {
        "codec": name,
        "serves": list(SERVES) if name == "shared" else [name],
        "quality": quality,
        "lambda": QUALITIES[quality],
        "config": SHARED if name == "shared" else type(codec).SIZES["small"],
        "parameters": sum(p.numel() for p in codec.parameters()),
        "recipe": list(recipe),
        "kodak": figures,
    }
    return save(codec, f"{name}-q{quality}", card, to)

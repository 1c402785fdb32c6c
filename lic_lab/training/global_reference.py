"""How the global reference codec is trained: two phases (Qian et al. 2021, section 5.1) in two stages (section 5.3).

1. `reference`: the GDN transform and the hyperprior of a trained shared latent (or what an earlier `gsdn` made of
   them); the entropy model learns on its latents, its three rates weighted 0.3 : 0.3 : 0.4.
2. `gsdn`: the transform's GDN become GSDN that compute the same; everything is trained together, 0.1 : 0.1 : 0.8.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.layers.tap import record
from lic_lab.training.data import Photographs
from lic_lab.training.loss import bits_per_pixel, distortion
from lic_lab.training.recipes import EVERYTHING, OUTPUT_LAYER, RESIDUAL_TRANSFORM, Recipe, Run, Settings, Stage
from lic_lab.training.starts import deepen, start_new

PHASES = {"reference": (0.3, 0.3, 0.4), "gsdn": (0.1, 0.1, 0.8)}  # [paper, section 5.1]


def start(codec: GlobalReference, photographs: Photographs, run: Run) -> None:
    """Scale the new networks to the latent of the trained transform, and fit what they predict to it."""
    y = codec.g_a(run.sample(photographs, 32, 256))
    deepen(codec.entropy)
    start_new(codec, {}, lambda: y.std((0, 2, 3)))
    hyper = codec.hyperprior(y).hyper
    codec.entropy.g_ep.fit("raster", lambda: codec.entropy(y, hyper), torch.round(y))


def rates(codec: GlobalReference, y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """``bpp_1`` to ``bpp_3`` of the latents `y` of images `x` by the three distributions, and ``bpp_z``."""
    stages: dict[int, dict[str, Tensor]] = {1: {}, 2: {}}

    def recorder(name: str, value: Tensor, where: dict[str, Any]) -> None:
        if name.startswith("stage."):
            stages[where["stage"]][name.removeprefix("stage.")] = value

    side = codec.hyperprior(y)
    with record(recorder):
        likelihoods = [codec.entropy(y, side.hyper).likelihoods]
    gaussian, flat = codec.entropy.gaussian, y.flatten(2)
    for k in (2, 1):
        likelihoods.insert(0, gaussian.bits_likelihood(flat, flat, **stages[k]))
    found = {f"bpp_{k}": bits_per_pixel(p, x) for k, p in enumerate(likelihoods, 1)}
    return found | {"bpp_z": bits_per_pixel(side.likelihoods, x)}


def weighted(found: dict[str, Tensor], phase: str) -> Tensor:
    """The phase's rate: its weights of the three stages.

    z is part of the third stage's rate [ours]: paid in full, it would be given up, as 0.4 of R_3 is all it lowers.
    """
    first, second, third = PHASES[phase]
    return first * found["bpp_1"] + second * found["bpp_2"] + third * (found["bpp_3"] + found["bpp_z"])


def first_phase(codec: GlobalReference, x: Tensor, run: Run, step: int) -> dict[str, Tensor]:
    """The three rates on a transform that stays as it is."""
    with torch.no_grad():
        y = codec.g_a(x)
    found = rates(codec, y, x)
    return found | {"loss": weighted(found, "reference")}


def second_phase(codec: GlobalReference, x: Tensor, run: Run, step: int) -> dict[str, Tensor]:
    """The three rates, and the distortion."""
    y = codec.g_a(x)
    found = rates(codec, y, x)
    d = distortion(codec.g_s(y + (torch.round(y) - y).detach()), x, run.lmbda)
    return found | d | {"loss": weighted(found, "gsdn") + d["loss"]}


RECIPE = Recipe(
    partial(GlobalReference.build, "small"),
    (
        Stage(
            "reference",
            learns=("hyperprior.", "entropy."),
            loss=first_phase,
            quantiles=True,
            takes=("g_a.", "g_s.", "hyperprior."),
            start=start,
            settings=Settings(3500, lr=1e-3, decay=2500),
        ),
        Stage(
            "gsdn",
            learns=EVERYTHING,
            loss=second_phase,
            quantiles=True,
            settings=Settings(10_000, lr=2e-4, decay=8000),
        ),
    ),
    factors=RESIDUAL_TRANSFORM | {f"entropy.g_ep.nets.{k}.4.": OUTPUT_LAYER for k in range(3)},
)

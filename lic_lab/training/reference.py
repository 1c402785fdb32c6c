"""How the global reference codec is trained: two phases (Qian et al. 2021, section 5.1) in two stages (section 5.3).

1. `reference`: the GDN transform and the hyperprior of a trained shared latent; the entropy model learns on its
   latents, its three rates weighted 0.3 : 0.3 : 0.4.
2. `gsdn`: the transform's GDN become GSDN that compute the same; everything is trained together, 0.1 : 0.1 : 0.8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.layers.tap import record
from lic_lab.training.data import Photographs
from lic_lab.training.loss import bits

PHASES = {"reference": (0.3, 0.3, 0.4), "gsdn": (0.1, 0.1, 0.8)}  # [paper, section 5.1]


def from_shared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a shared latent's weights that a `GlobalReference` starts from."""
    return {key: value for key, value in state.items() if key.startswith(("g_a", "g_s", "hyperprior"))}


@torch.no_grad()
def start(codec: GlobalReference, photographs: Photographs, seed: int) -> None:
    """Scale the new networks to the latent of the trained transform."""
    y = codec.g_a(photographs.crops(32, 256, (seed, 1)))
    spread = y.std((0, 2, 3))  # (M,)
    entropy = codec.entropy
    for module in entropy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight *= 6**0.5  # torch's default, variance 1 / (3 fan-in), is for shallow networks
    for context in (entropy.contexts["local"]["raster"], entropy.contexts["reference"]["raster"]):
        context.linear.weight /= spread.clamp(min=1).repeat_interleave(context.linear.in_features // len(spread))
    for k, net in enumerate(entropy.g_ep.nets.children()):
        net[-1].weight *= 0.1
        net[-1].bias.zero_()
        if k == 0:
            net[-1].bias[len(spread) :] = spread.log()


def rates(codec: GlobalReference, y: Tensor) -> dict[str, Tensor]:
    """``bpp_1`` to ``bpp_3`` of y (B, M, h, w) by the three distributions, and ``bpp_z``."""
    stages: dict[int, dict[str, Tensor]] = {1: {}, 2: {}}

    def recorder(name: str, value: Tensor, where: dict[str, Any]) -> None:
        if name.startswith("stage."):
            stages[where["stage"]][name.removeprefix("stage.")] = value

    side = codec.hyperprior(y)
    with record(recorder):
        likelihoods = [codec.entropy(y, side.hyper).likelihoods]
    gaussian, flat = codec.entropy.gaussian, y.flatten(2)
    for k in (2, 1):
        sigma = gaussian.sigma(stages[k]["log_sigma"])
        likelihoods.insert(0, gaussian.bits_likelihood(flat, flat, stages[k]["mu"], sigma))
    pixels = y.shape[0] * y.shape[2] * y.shape[3] * 256
    found = {f"bpp_{k}": bits(p) / pixels for k, p in enumerate(likelihoods, 1)}
    return found | {"bpp_z": bits(side.likelihoods) / pixels}


def weighted(found: dict[str, Tensor], phase: str) -> Tensor:
    """The phase's rate: its weights of the three stages, and z."""
    return found["bpp_z"] + sum(w * found[f"bpp_{k}"] for k, w in enumerate(PHASES[phase], 1))

"""How the global reference codec is trained: two phases (Qian et al. 2021, section 5.1) in two stages (section 5.3).

1. `reference`: the GDN transform and the hyperprior of a trained shared latent (or what an earlier `gsdn` made of
   them); the entropy model learns on its latents, its three rates weighted 0.3 : 0.3 : 0.4.
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


def transform_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transform and hyperprior of a shared latent's weights, or of an earlier `GlobalReference`, to start from."""
    return {key: value for key, value in state.items() if key.startswith(("g_a", "g_s", "hyperprior"))}


@torch.no_grad()
def start(codec: GlobalReference, photographs: Photographs, seed: int) -> None:
    """Scale the new networks to the latent of the trained transform, and fit what they predict to it."""
    y = codec.g_a(photographs.crops(32, 256, (seed, 1)))
    spread = y.std((0, 2, 3))  # (M,)
    entropy = codec.entropy
    for module in entropy.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight *= 6**0.5  # torch's default, variance 1 / (3 fan-in), is for shallow networks
    for context in (entropy.contexts["local"]["raster"], entropy.contexts["reference"]["raster"]):
        context.linear.weight /= spread.clamp(min=1).repeat_interleave(context.linear.in_features // len(spread))
    for net in entropy.g_ep.nets.children():
        net[-1].weight *= 0.1
        net[-1].bias.zero_()
    _fit_stages(codec, y)


def _fit_stages(codec: GlobalReference, y: Tensor) -> None:
    """Each stage starts at the least-squares prediction of what the one before left, sigma at what that leaves."""
    hyper, M = codec.hyperprior(y).hyper, y.shape[1]
    features: dict[int, Tensor] = {}
    nets: list[Any] = list(codec.entropy.g_ep.nets.children())
    hooks = [
        net[-1].register_forward_pre_hook(lambda module, args, k=k: features.update({k: args[0].mT.flatten(0, 1)}))
        for k, net in enumerate(nets)
    ]
    left = torch.round(y).flatten(2).mT.flatten(0, 1).double()  # (positions, M)
    log_sigma = torch.zeros(M, dtype=torch.float64)
    for k, net in enumerate(nets):
        codec.entropy(y, hyper)  # the stage's features, now that the stages before are fitted
        weight, bias, left = least_squares(features[k], left)
        net[-1].weight[:M, :, 0, 0], net[-1].bias[:M] = weight, bias
        wanted = left.std(0).clamp(min=0.15).log()
        net[-1].bias[M : 2 * M] = (wanted - log_sigma).float()
        log_sigma = wanted
        net[-1].bias[2 * M :] = 1.0  # of a mixture, at first mostly the last
    for hook in hooks:
        hook.remove()


def least_squares(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias that predict `target` (n, M) from `features` (n, d), and what they leave of it, float64.

    Adam's equal steps need thousands to grow the weights that channels of large spread want.
    """
    found = torch.cat((features.double(), torch.ones(len(features), 1, dtype=torch.float64)), 1)
    gram = found.T @ found
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram))
    solution = torch.linalg.solve(gram + ridge, found.T @ target)
    return solution[:-1].T.float(), solution[-1].float(), target - found @ solution


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
        likelihoods.insert(0, gaussian.bits_likelihood(flat, flat, **stages[k]))
    pixels = y.shape[0] * y.shape[2] * y.shape[3] * 256
    found = {f"bpp_{k}": bits(p) / pixels for k, p in enumerate(likelihoods, 1)}
    return found | {"bpp_z": bits(side.likelihoods) / pixels}


def weighted(found: dict[str, Tensor], phase: str) -> Tensor:
    """The phase's rate: its weights of the three stages.

    z is part of the third stage's rate [ours]: paid in full, it would be given up, as 0.4 of R_3 is all it lowers.
    """
    first, second, third = PHASES[phase]
    return first * found["bpp_1"] + second * found["bpp_2"] + third * (found["bpp_3"] + found["bpp_z"])

"""How the shared latent is trained: five stages on one transform per rate point.

1. `joint`: transform and any-subset entropy model together, components switched at random each step. Starts from the
   Karhunen-Loeve transform, or from another rate point's checkpoint.
2. `finish`: transform frozen, so that the symbols stay as they are; hyperprior, contexts and g_ep trained on, at a
   third of the cost of a step.
3. `refine`: everything frozen but LRP, trained on the picture.
4. `contexts`: contexts and g_ep alone, with the local contexts that have most to learn drawn most often; nothing of
   raster order, which has parts of its own.
5. `raster`: what serves raster order and nothing else, so that all other combinations stay as they are.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lic_lab.codecs.shared import MENU, SLICES, M, SharedLatent
from lic_lab.entropy.order import Step
from lic_lab.training.data import Photographs
from lic_lab.training.loss import distortion, latent_rate, rate_distortion
from lic_lab.training.recipes import EVERYTHING, OUTPUT_LAYER, RESIDUAL_TRANSFORM, Recipe, Run, Settings, Stage
from lic_lab.training.starts import start_all
from lic_lab.transforms.residual import STRIDE, KarhunenLoeve

GLOBAL = (0.25, 0.15, 0.1, 0.25, 0.25)  # of none, intra, intra-unmasked, intra+inter, reference


def combination(
    rng: np.random.Generator,
    raster: float = 0.25,
    local: tuple[float, ...] = (0.25, 0.2, 0.25, 0.3),  # of none, checkerboard, stacked, attention
    refined: bool = False,
) -> dict[str, str]:
    """A meaningful combination; the richer parts more often, since they have more to learn."""
    if rng.random() < raster:
        global_ = str(rng.choice(("none", "reference"), p=(0.4, 0.6)))
        return {"channel": "none", "local": "raster", "global": global_, "refinement": "none"}
    channel = str(rng.choice(MENU["channel"], p=(0.3, 0.7)))
    return {
        "channel": channel,
        "local": str(rng.choice(MENU["local"][:-1], p=local)),
        "global": str(rng.choice(MENU["global"], p=GLOBAL if channel == "conv" else (0.7, 0, 0, 0, 0.3))),
        "refinement": str(rng.choice(MENU["refinement"])) if refined else "none",
    }


def lrp_alone(rng: np.random.Generator) -> dict[str, str]:
    """LRP, which reads no context."""
    return {"channel": "none", "local": "none", "global": "none", "refinement": "lrp"}


def start(codec: SharedLatent, photographs: Photographs, run: Run) -> None:
    """Linear paths from the KLT, sigma from the latent's spread, and networks that see it at unit spread."""
    patches = run.sample(photographs, 40_000, STRIDE).flatten(1)
    # At high rate lambda D^2/12 - log2 D is least at (6 / (lambda ln 2))^(1/2). Where most coefficients round to zero a
    # coarser step is better: 2.2 times that one was best of six for lambda 0.0035 and 0.0067.
    klt = KarhunenLoeve.of(patches, M, 2.2 * (6 / (run.lmbda * np.log(2))) ** 0.5 / 255, len(SLICES))
    codec.g_a.start(klt)
    codec.g_s.start(klt)
    start_all(codec, ((klt.basis / klt.step) @ patches.T).std(1))


def start_raster(codec: SharedLatent, photographs: Photographs, run: Run) -> None:
    """mu of raster order at the least-squares prediction from the features before it."""
    y = codec.g_a(run.sample(photographs, 32, 256))
    hyper = codec.hyperprior(y).hyper
    raster = codec.swap(channel="none", local="raster", global_="reference", refinement="none")
    codec.entropy.g_ep.fit("raster", lambda: raster.entropy(y, hyper), torch.round(y))


def joint(codec: SharedLatent, x: Tensor, run: Run, step: int) -> dict[str, Tensor]:
    """The whole codec; at first the entropy model alone on the linear path, at a third of the cost."""
    first = run.settings.linear_steps
    if step >= first:
        return rate_distortion(codec(x), x, run.lmbda)
    assert codec.g_a.linear_path is not None
    with torch.no_grad():
        y = codec.g_a.linear_path(x)
    rate = latent_rate(codec, y, x)
    # z pays little at first: at full price it is given up before h_s has learned to use it.
    price = min(1.0, 0.05 + step / first)
    return rate | {"loss": rate["bpp"] - (1 - price) * rate["bpp_z"]}


def rate_alone(codec: SharedLatent, x: Tensor, run: Run, step: int) -> dict[str, Tensor]:
    """The rate on a transform that stays as it is."""
    with torch.no_grad():
        y = codec.g_a(x)
    return latent_rate(codec, y, x)


def refine(codec: SharedLatent, x: Tensor, run: Run, step: int) -> dict[str, Tensor]:
    """The distortion, of refined symbols."""
    with torch.no_grad():
        y = codec.g_a(x)
        hyper = codec.hyperprior(y).hyper

    def visit(step: Step, *parameters: Tensor) -> Tensor:
        return step.take(torch.round(y[:, codec.entropy.order.step_channels(step)]))

    return distortion(codec.g_s(codec.entropy.run(hyper, visit)), x, run.lmbda)


CODER = ("entropy.contexts.", "entropy.g_ep.")
RASTER = ("entropy.contexts.local.raster.", "entropy.contexts.reference.raster.", "entropy.g_ep.nets.raster.")

RECIPE = Recipe(
    SharedLatent,
    (
        Stage(
            "joint",
            learns=EVERYTHING,
            loss=joint,
            draw=partial(combination, refined=True),
            quantiles=True,
            settings=Settings(20_000, lr=4e-4, decay=12_000),
        ),
        Stage(
            "finish",
            learns=("hyperprior.", *CODER),
            loss=rate_alone,
            draw=combination,
            settings=Settings(7000, lr=4e-4, decay=5000),
        ),
        Stage(
            "refine",
            learns=("entropy.refinements.",),
            loss=refine,
            draw=lrp_alone,
            settings=Settings(500, lr=1e-3, decay=350),
        ),
        Stage(
            "contexts",
            learns=CODER,
            loss=rate_alone,
            draw=partial(combination, raster=0.0, local=(0.2, 0.1, 0.3, 0.4)),
            settings=Settings(7000, lr=5e-4, decay=5000),
        ),
        Stage(
            "raster",
            learns=RASTER,
            loss=rate_alone,
            draw=partial(combination, raster=1.0),
            start=start_raster,
            settings=Settings(4500, lr=1e-3, decay=4000),
        ),
    ),
    factors=RESIDUAL_TRANSFORM | {"entropy.g_ep.nets.raster.0.4.": OUTPUT_LAYER},
    start=start,
)

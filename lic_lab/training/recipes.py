"""How the shipped weights were trained: four stages on one transform per rate point.

1. `joint`: transform and any-subset entropy model together, components switched at random each step. Starts from the
   Karhunen-Loeve transform, or from another rate point's checkpoint.
2. `finish`: transform frozen, so that the symbols stay as they are; hyperprior, contexts and g_ep trained on, at a
   third of the cost of a step.
3. `refine`: everything frozen but LRP, trained on the picture.
4. `contexts`: contexts and g_ep alone, with the local contexts that have most to learn drawn most often.

5. `raster`: what serves raster order and nothing else, so that all other combinations stay as they are.

`reference` and `gsdn` train the global reference codec from the result, see `lic_lab.training.reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.codecs.shared import MENU, SLICES, SharedLatent
from lic_lab.entropy.order import Step as CodingStep
from lic_lab.training import reference
from lic_lab.training.data import Photographs
from lic_lab.training.loop import Schedule, Step, launch, train
from lic_lab.training.loss import bits, rate_distortion
from lic_lab.transforms.residual import STRIDE, start_from_klt

STAGES = ("joint", "finish", "refine", "contexts", "raster", *reference.PHASES)
Stage = tuple[Callable[[Any], list[nn.Module]], Step]  # the modules it trains, and its step


@dataclass(frozen=True)
class Recipe:
    """One stage of training.

    Attributes
    ----------
    stage : {"joint", "finish", "refine", "contexts", "raster", "reference", "gsdn"}
    lmbda : float
        Weight of the distortion.
    data : str
        Folder of training images.
    checkpoint : str
        Where the run is saved and resumed.
    start : str or None
        Checkpoint of another run, or shipped weights (.safetensors), to start from.
    batch, crop, seed : int
        Crops per worker and step, their size in pixels, seed of everything random.
    schedule : Schedule
    linear_steps : int
        First steps of `joint` that train only the entropy model, on the linear path.
    bf16 : bool
        Compute the transform's networks in bfloat16, for CPUs with units for it.
    """

    stage: str
    lmbda: float
    data: str
    checkpoint: str
    schedule: Schedule
    start: str | None = None
    batch: int = 4
    crop: int = 128
    seed: int = 0
    workers: int = 1
    linear_steps: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage is {self.stage!r}; it must be one of {STAGES}")
        if self.stage == "reference" and not self.start:
            raise ValueError("the stage reference starts from a shared latent: give --start data/weights/shared-q3...")
        if self.crop % 64:
            raise ValueError(f"crop is {self.crop} pixels; it must be a multiple of 64")


def run(recipe: Recipe) -> None:
    """Train as the recipe says, in its number of worker processes."""
    launch(partial(_run, recipe), recipe.workers)


def images(recipe: Recipe) -> Photographs:
    """The recipe's training images, those that are large enough for its crops."""
    return Photographs(recipe.data, max(256, recipe.crop))


LOCAL = (0.25, 0.2, 0.25, 0.3)  # probabilities of none, checkerboard, stacked, attention
GLOBAL = (0.25, 0.15, 0.1, 0.25, 0.25)  # of none, intra, intra-unmasked, intra+inter, reference
RASTER = 0.25  # of raster order
SLOW_LOCAL = (0.04, 0.1, 0.38, 0.48)


def random_combination(
    rng: np.random.Generator, local: tuple[float, ...] = LOCAL, raster: float = RASTER
) -> dict[str, str]:
    """A meaningful combination; the richer parts more often, since they have more to learn."""
    if rng.random() < raster:
        global_ = str(rng.choice(("none", "reference"), p=(0.4, 0.6)))
        return {"channel": "none", "local": "raster", "global": global_, "refinement": "none"}
    channel = rng.choice(MENU["channel"], p=(0.3, 0.7))
    return {
        "channel": str(channel),
        "local": str(rng.choice(MENU["local"][:-1], p=local)),
        "global": str(rng.choice(MENU["global"], p=GLOBAL if channel == "conv" else (0.7, 0, 0, 0, 0.3))),
        "refinement": str(rng.choice(MENU["refinement"])),
    }


def _run(recipe: Recipe, worker: int, workers: int) -> None:
    torch.manual_seed(recipe.seed)
    codec = GlobalReference.build("small") if recipe.stage in reference.PHASES else SharedLatent()
    photographs = images(recipe)
    if recipe.start:
        state = _weights(Path(recipe.start))
        if recipe.stage == "reference":
            codec.load_state_dict(reference.transform_of(state), strict=False)
            reference.start(codec, photographs, recipe.seed)
        else:
            codec.load_state_dict(_fitted(codec, state))
            if not any("raster" in key for key in state):  # weights from before there was one
                with torch.no_grad():
                    y = codec.g_a(photographs.crops(32, 256, (recipe.seed, 1)))
                _start_raster(codec, y.std((0, 2, 3)))
    elif not Path(recipe.checkpoint).exists():
        _start(codec, photographs, recipe)
    stages = {"joint": _joint, "finish": _finish, "refine": _refine, "contexts": _context_stage, "raster": _raster}
    trained, step = stages.get(recipe.stage, _reference)(codec, photographs, recipe)
    codec.requires_grad_(False)
    quantiles = (
        [p for n, p in codec.named_parameters() if n.endswith("quantiles")] if trained in (_everything, _coder) else []
    )
    groups: dict[float, list[nn.Parameter]] = {}
    chosen = {id(p) for module in trained(codec) for p in module.parameters()} - {id(p) for p in quantiles}
    for name, p in codec.named_parameters():
        if id(p) in chosen and not name.endswith("quantiles"):
            groups.setdefault(_rate_factor(name), []).append(p)
    for p in (*quantiles, *(p for group in groups.values() for p in group)):
        p.requires_grad_(True)
    train(
        groups.items(),
        quantiles,
        codec,
        step,
        codec.hyperprior.bottleneck.loss,
        recipe.schedule,
        Path(recipe.checkpoint),
        worker,
        workers,
    )


def _weights(path: Path) -> dict[str, Tensor]:
    """State dict of a checkpoint or of shipped weights."""
    if path.suffix != ".safetensors":
        return torch.load(path, weights_only=True)["modules"]
    return {key: v.float() if v.is_floating_point() else v for key, v in load_file(path).items()}


def _fitted(codec: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a model with fewer components: what is new starts as in `codec`, new inputs with weight zero.

    Raises
    ------
    ValueError
        When `state` is of another model.
    """
    own = codec.state_dict()
    for key, value in state.items():
        if "bottleneck" in key:  # its tables have lengths of their own
            own[key] = value
        elif key in own and own[key].shape[:1] == value.shape[:1] and own[key].shape[2:] == value.shape[2:]:
            own[key] = torch.zeros_like(own[key])
            own[key][tuple(slice(n) for n in value.shape)] = value
        else:
            raise ValueError(f"the weights to start from have {key} of shape {tuple(value.shape)}, this stage has not")
    return own


OUTPUT_LAYERS = tuple(f"entropy.g_ep.nets.{k}.4" for k in ("raster.0", 0, 1, 2))


def _rate_factor(name: str) -> float:
    """Factor of the learning rate: Adam's steps are of equal size, the useful changes of these weights are not."""
    if "linear_path" in name:
        return 0.02  # starts at the KLT, with weights of a few thousandths in g_s
    if name.startswith("g_s.network.7"):
        return 0.1  # its outputs are corrections of some hundredths of the pixel range
    if name.startswith(OUTPUT_LAYERS):
        return 3.0  # the output layer starts at the least-squares mean, whose weights are large
    return 0.5 if name.startswith(("g_a", "g_s")) else 1.0


def _everything(codec: Codec) -> list[nn.Module]:
    return [codec]


def _bits(codec: SharedLatent) -> list[nn.Module]:
    return [codec.hyperprior, codec.entropy.contexts, codec.entropy.g_ep]


def _contexts(codec: SharedLatent) -> list[nn.Module]:
    return [codec.entropy.contexts, codec.entropy.g_ep]


def _lrp(codec: SharedLatent) -> list[nn.Module]:
    return [codec.entropy.refinements]


def _start(codec: SharedLatent, photographs: Photographs, recipe: Recipe) -> None:
    """Linear paths from the KLT, sigma from the latent's spread, and networks that see it at unit spread."""
    patches = photographs.crops(40_000, STRIDE, (recipe.seed, 1)).flatten(1)
    # At high rate lambda D^2/12 - log2 D is least at (6 / (lambda ln 2))^(1/2). Where most coefficients round to zero a
    # coarser step is better: 2.2 times that one was best of six for lambda 0.0035 and 0.0067.
    quantisation_step = 2.2 * (6 / (recipe.lmbda * np.log(2))) ** 0.5 / 255
    start_from_klt(codec.g_a, codec.g_s, patches, quantisation_step, len(SLICES))
    spread = (codec.g_a.linear_path.weight.flatten(1) @ patches.T).std(1)  # (M,)
    order, scale = codec.entropy.order, spread.clamp(min=1)[None, :, None, None]
    contexts = codec.entropy.contexts
    with torch.no_grad():
        for module in (*codec.hyperprior.modules(), *codec.entropy.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight *= 6**0.5  # torch's default, variance 1/(3 fan-in), silences a deep GELU network
        codec.hyperprior.h_a[0].weight /= scale
        for i in range(len(SLICES)):
            of = order.channels(i)
            if i:
                contexts["channel"]["conv"].nets[i - 1][0].weight /= scale[:, : of.start]
                for intra in contexts["intra"].values():
                    intra.embed_qk[i - 1].weight /= scale[:, order.channels(i - 1)]
                    intra.embed_v[i - 1].weight /= scale[:, of]
                contexts["inter"]["masked"].embed_q[i - 1].weight /= scale[:, of]
                contexts["inter"]["masked"].embed_kv[i - 1].weight /= scale[:, order.channels(i - 1)]
            local = contexts["local"]
            for first in (local["checkerboard"].convs[i], local["stacked"].stacks[i][0], local["attention"].embed[i]):
                first.weight /= scale[:, of]
            lrp = codec.entropy.refinements["lrp"].nets["second"][i]
            lrp[0].weight[:, -of.stop :] /= scale[:, : of.stop]
            lrp[-1].weight *= 0.01
    _start_raster(codec, spread)
    for kind in ("first", "second"):
        for i, net in enumerate(codec.entropy.g_ep.nets[kind].children()):
            _start_g_ep(net, spread[order.channels(i)])


@torch.no_grad()
def _start_raster(codec: SharedLatent, spread: Tensor) -> None:
    """The raster's and the references' networks see the latent, of this spread (M,), at unit spread."""
    contexts: Any = codec.entropy.contexts
    scale = spread.clamp(min=1)
    for linear in (contexts["local"]["raster"].linear, contexts["reference"]["raster"].linear):
        linear.weight /= scale.repeat_interleave(linear.in_features // len(scale))
    for i, linear in enumerate(contexts["reference"]["checkerboard"].linears):
        own = scale[codec.entropy.full_order.channels(i)]
        linear.weight /= own.repeat_interleave(linear.in_features // len(own))
    _start_g_ep(codec.entropy.g_ep.nets["raster"][0], spread)


@torch.no_grad()
def _start_g_ep(net: Any, spread: Tensor) -> None:
    """mu = 0 and sigma = `spread` at first."""
    net[-1].weight *= 0.1
    net[-1].bias[: len(spread)] = 0
    net[-1].bias[len(spread) :] = spread.log()


def _joint(codec: SharedLatent, photographs: Photographs, recipe: Recipe) -> Stage:
    def step(at: int, worker: int) -> dict[str, Tensor]:
        x = photographs.crops(recipe.batch, recipe.crop, (recipe.seed, 2, at, worker))
        chosen = random_combination(np.random.default_rng((recipe.seed, 3, at)))  # the same for all workers
        return rate_distortion(codec.swap(**chosen)(x), x, recipe.lmbda)

    def linear_step(at: int, worker: int) -> dict[str, Tensor]:
        """Before the networks say anything: the entropy model alone on the linear path, at a third of the cost."""
        x = photographs.crops(recipe.batch, recipe.crop, (recipe.seed, 2, at, worker))
        with torch.no_grad():
            y = codec.g_a.linear_path(x)  # type: ignore[misc]
        # z pays little at first: at full price it is given up before h_s has learned to use it.
        rate = _rate(codec, y, np.random.default_rng((recipe.seed, 3, at)))
        price = min(1.0, 0.05 + at / recipe.linear_steps)
        return rate | {"loss": rate["bpp"] - (1 - price) * rate["bpp_z"]}

    if recipe.bf16:
        for transform in (codec.g_a, codec.g_s):
            _compute_in_bf16(transform.network)
    codec.train()
    return _everything, lambda at, worker: (linear_step if at < recipe.linear_steps else step)(at, worker)


def _compute_in_bf16(network: nn.Module) -> None:
    """Compute `network` in bfloat16 from now on; its weights and its output stay float32.

    Only the transform's networks: they are most of a step, and what they add to the linear path is small. The entropy
    model stays exact.
    """
    exact = network.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = exact(x)
        return out.float()

    network.forward = forward


def _rate(
    codec: SharedLatent,
    y: Tensor,
    rng: np.random.Generator,
    local: tuple[float, ...] = LOCAL,
    raster: float = RASTER,
) -> dict[str, Tensor]:
    """Rate of latents `y` (B, M, h, w) under a random combination."""
    entropy = codec.swap(**random_combination(rng, local, raster) | {"refinement": "none"}).entropy
    side = codec.hyperprior(y)
    pixels = y.shape[0] * y.shape[2] * y.shape[3] * STRIDE**2
    bpp_z = bits(side.likelihoods) / pixels
    bpp = bits(entropy(y, side.hyper).likelihoods) / pixels + bpp_z
    return {"loss": bpp, "bpp": bpp, "bpp_z": bpp_z}


def _finish(
    codec: SharedLatent,
    photographs: Photographs,
    recipe: Recipe,
    local: tuple[float, ...] = LOCAL,
    raster: float = RASTER,
) -> Stage:
    def step(at: int, worker: int) -> dict[str, Tensor]:
        x = photographs.crops(recipe.batch, recipe.crop, (recipe.seed, 4, at, worker))
        with torch.no_grad():
            y = codec.g_a(x)
        return _rate(codec, y, np.random.default_rng((recipe.seed, 3, at)), local, raster)

    codec.train()
    return _bits, step


def _raster(codec: SharedLatent, photographs: Photographs, recipe: Recipe) -> Stage:
    if not Path(recipe.checkpoint).exists():
        _fit_raster_mean(codec, photographs.crops(32, 256, (recipe.seed, 1)))
    return _of_raster, _finish(codec, photographs, recipe, raster=1.0)[1]


@torch.no_grad()
def _fit_raster_mean(codec: SharedLatent, x: Tensor) -> None:
    """mu of raster order as the least-squares prediction from the features before it, and sigma what that leaves."""
    y = codec.g_a(x)
    hyper = codec.hyperprior(y).hyper
    features: list[Tensor] = []
    last: Any = codec.entropy.g_ep.nets["raster"][0][-1]
    hook = last.register_forward_pre_hook(lambda module, args: features.append(args[0].mT.flatten(0, 1)))
    # runs g_ep twice: for the distribution without the reference, which it weighs the reference with, and with it
    codec.swap(channel="none", local="raster", global_="reference", refinement="none").entropy(y, hyper)
    hook.remove()
    target = torch.round(y).flatten(2).mT.flatten(0, 1).double().repeat(2, 1)  # (positions, M)
    M = target.shape[1]
    weight, bias, left = reference.least_squares(torch.cat(features), target)
    last.weight[:M, :, 0, 0], last.bias[:M] = weight, bias
    last.weight[M:] *= 0.1
    last.bias[M:] = left.std(0).clamp(min=0.15).log().float()


def _of_raster(codec: SharedLatent) -> list[nn.Module]:
    contexts: Any = codec.entropy.contexts
    return [contexts["local"]["raster"], contexts["reference"]["raster"], codec.entropy.g_ep.nets["raster"]]  # type: ignore[list-item]


def _context_stage(codec: SharedLatent, photographs: Photographs, recipe: Recipe) -> Stage:
    return _contexts, _finish(codec, photographs, recipe, SLOW_LOCAL)[1]


def _reference(codec: GlobalReference, photographs: Photographs, recipe: Recipe) -> Stage:
    frozen = recipe.stage == "reference"

    def step(at: int, worker: int) -> dict[str, Tensor]:
        x = photographs.crops(recipe.batch, recipe.crop, (recipe.seed, 6, at, worker))
        with torch.set_grad_enabled(not frozen):
            y = codec.g_a(x)
        found = reference.rates(codec, y)
        loss = reference.weighted(found, recipe.stage)
        if not frozen:
            found["mse"] = nn.functional.mse_loss(codec.g_s(y + (torch.round(y) - y).detach()), x)
            loss = loss + recipe.lmbda * 255**2 * found["mse"]
        return found | {"loss": loss}

    if recipe.bf16 and not frozen:
        for transform in (codec.g_a, codec.g_s):
            _compute_in_bf16(transform.network)  # type: ignore[arg-type]
    codec.train()
    return (_coder if frozen else _everything), step


def _coder(codec: GlobalReference) -> list[nn.Module]:
    return [codec.hyperprior, codec.entropy]


def _refine(codec: SharedLatent, photographs: Photographs, recipe: Recipe) -> Stage:
    refining = codec.swap(channel="none", local="none", global_="none", refinement="lrp")  # LRP reads no context
    order = refining.entropy.order

    def step(at: int, worker: int) -> dict[str, Tensor]:
        x = photographs.crops(recipe.batch, recipe.crop, (recipe.seed, 5, at, worker))
        with torch.no_grad():
            y = codec.g_a(x)
            hyper = codec.hyperprior(y).hyper

        def visit(s: CodingStep, mu: Tensor, sigma: Tensor) -> Tensor:
            return s.take(torch.round(y[:, order.step_channels(s)]))

        mse = nn.functional.mse_loss(codec.g_s(refining.entropy.run(hyper, visit)), x)
        return {"loss": recipe.lmbda * 255**2 * mse, "mse": mse}

    codec.eval()
    return _lrp, step

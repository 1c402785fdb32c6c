"""How codecs are trained: a recipe is a list of stages, a stage is data, and this runs one of them, or all in turn.

A codec's recipe is one short file beside this one (`shared`, `global_reference`) and one line in `RECIPES`.
"""

from __future__ import annotations

import fcntl
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lic_lab.codecs.codec import Codec
from lic_lab.files import check_output
from lic_lab.patience import at_work
from lic_lab.training import RECIPES
from lic_lab.training.data import Photographs
from lic_lab.training.folders import cache, outside
from lic_lab.training.loop import Schedule, Turn, check_recipe, launch, log_of, read_checkpoint, train
from lic_lab.training.starts import fitted, start_new, weights

EVERYTHING = ("",)
# Factors of the learning rate of the transform in `transforms.residual`, by prefix of the weights' names: Adam's steps
# are of equal size, the useful changes of these weights are not.
RESIDUAL_TRANSFORM = {
    "g_a.linear_path.": 0.02,  # starts at the KLT,
    "g_s.linear_path.": 0.02,  # with weights of a few thousandths in g_s
    "g_s.network.7.": 0.1,  # its outputs are corrections of some hundredths of the pixel range
    "g_a.": 0.5,
    "g_s.": 0.5,
}
OUTPUT_LAYER = 3.0  # of a network that starts at the least-squares mean, whose weights are large


@dataclass(frozen=True)
class Settings(Schedule):
    """What a stage is run with: its schedule, and what follows.

    Attributes
    ----------
    batch, crop : int
        Crops per worker and step, and their size in pixels.
    workers : int
        Processes of one thread.
    seed : int
        Of everything random.
    linear_steps : int
        First steps of the shared latent's `joint` that train only the entropy model, on the linear path.
    bf16 : bool
        Compute the transform's networks in bfloat16 while they learn, for CPUs with units for it.
    """

    batch: int = 1
    crop: int = 256
    workers: int = 2
    seed: int = 0
    linear_steps: int = 0
    bf16: bool = False

    def but(self, **others: Any) -> Settings:
        """These settings with `others` in their place; a decay that is not among them keeps its share of the steps."""
        if "steps" in others and "decay" not in others:
            others["decay"] = self.decay * others["steps"] // self.steps
        return replace(self, **others)


@dataclass(frozen=True)
class Stage:
    """One stage of a codec's training.

    Attributes
    ----------
    name : str
    learns : tuple of str
        What is trained, as prefixes of the weights' names; the rest stays as it is.
    loss : callable
        (codec, images (B, 3, crop, crop), run, step) to ``loss`` and what else is logged.
    settings : Settings
        What it is run with unless told otherwise.
    draw : callable or None
        Draws the combination of components that a step trains, as keywords of ``codec.swap``, from a random generator;
        all workers draw the same.
    quantiles : bool
        Whether those of the entropy bottleneck are trained too, on the auxiliary loss.
    takes : tuple of str or None
        Prefixes of the weights that it takes from where it starts. None for all of them: parts that they lack are then
        started on the latent's spread.
    start : callable or None
        (codec, photographs, run): what else happens before the first step.
    """

    name: str
    learns: tuple[str, ...]
    loss: Callable[[Any, Tensor, Run, int], dict[str, Tensor]]
    settings: Settings
    draw: Callable[[np.random.Generator], dict[str, str]] | None = None
    quantiles: bool = False
    takes: tuple[str, ...] | None = None
    start: Start | None = None


@dataclass(frozen=True)
class Recipe:
    """How one codec is trained.

    Attributes
    ----------
    build : callable
        Makes the codec with random weights.
    stages : tuple of Stage
        In order: each starts from the one before.
    factors : mapping
        Factors of the learning rate by prefix of the weights' names, of which the first counts; 1 for all others.
    start : callable or None
        (codec, photographs, run): starts the first stage from nothing. None when it has to start from other weights.
    """

    build: Callable[[], Codec]
    stages: tuple[Stage, ...]
    factors: Mapping[str, float] = field(default_factory=dict)
    start: Start | None = None

    def before(self, name: str) -> Stage | None:
        """The stage before the one of this name, None of the first."""
        i = self.stages.index(self.stage(name))
        return self.stages[i - 1] if i else None

    def stage(self, name: str) -> Stage:
        """The stage of this name.

        Raises
        ------
        ValueError
            When there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"stage is {name!r}; this codec's are {', '.join(stage.name for stage in self.stages)}")


def recipe_of(codec: str) -> Recipe:
    """The recipe of a codec.

    Raises
    ------
    ValueError
        For a codec without one.
    """
    if codec not in RECIPES:
        raise ValueError(f"no recipe is called {codec!r}; there are {', '.join(RECIPES)}")
    found: Recipe = import_module(RECIPES[codec]).RECIPE
    return found


@dataclass(frozen=True)
class Run:
    """One run of a stage.

    Attributes
    ----------
    codec, stage : str
    lmbda : float
        Weight of the distortion.
    data : str
        Folder of training images.
    checkpoint : str
        File where the run is saved and resumed, outside of the repository.
    settings : Settings
    start : str or None
        Checkpoint of another run, or shipped weights (.safetensors), to start from.

    Raises
    ------
    ValueError
        For a stage that does not exist, settings that don't fit, nothing to start from where something is needed, or a
        checkpoint in the repository or at the place of what it starts from.
    """

    codec: str
    stage: str
    lmbda: float
    data: str
    checkpoint: str
    settings: Settings
    start: str | None = None

    def __post_init__(self) -> None:
        recipe = recipe_of(self.codec)
        before = recipe.before(self.stage)
        if recipe.start is None and not self.start:
            raise ValueError(
                f"{self.codec} starts from a trained transform: give --start data/weights/shared-q3.safetensors"
            )
        if before and not self.start and not Path(self.checkpoint).exists():
            raise ValueError(
                f"{self.stage} starts from what {before.name} has made, and there is no {before.name}.pt beside "
                f"{self.checkpoint}: run `lic-lab train {self.codec} {before.name} --lambda {self.lmbda:g}` first, or "
                "give --start, for example data/weights/shared-q3.safetensors"
            )
        if self.settings.crop % Codec.stride:
            raise ValueError(f"crop is {self.settings.crop} pixels; it must be a multiple of {Codec.stride}")
        if self.start and Path(self.start).exists() and Path(self.checkpoint).exists():
            if Path(self.start).samefile(self.checkpoint):
                raise ValueError(f"the checkpoint {self.checkpoint} is what it starts from, which would be lost")
        outside(self.checkpoint)

    def images(self) -> Photographs:
        """The training images that are large enough for its crops."""
        return Photographs(self.data, max(256, self.settings.crop))

    def sample(self, photographs: Photographs, count: int, size: int) -> Tensor:
        """Crops (count, 3, size, size) to start from."""
        return photographs.crops(count, size, (self.settings.seed, 1))

    def recipe(self, images: Photographs) -> dict[str, tuple[str, str]]:
        """What, beside its settings, it is made of: see `loop.train`."""
        found = {"codec": self.codec, "stage": self.stage, "lambda": f"{self.lmbda:g}"}
        recipe = {name: (value, value) for name, value in found.items()}
        recipe["training images"] = (images.digest, self.data)
        if self.start:
            with open(self.start, "rb") as file:
                recipe["start"] = (hashlib.file_digest(file, "sha256").hexdigest(), self.start)
        elif recipe_of(self.codec).before(self.stage) is None:
            recipe["start"] = ("nothing", "from nothing")
        return recipe

    def finished(self) -> bool:
        """Whether it has made all its steps.

        Raises
        ------
        ValueError, OSError
            When its checkpoint is damaged, or of another run.
        """
        saved = read_checkpoint(Path(self.checkpoint))
        if saved is None:
            return False
        if "recipe" in saved:
            check_recipe(Path(self.checkpoint), saved, self.settings, self.recipe(self.images()))
        return bool(saved["step"] >= self.settings.steps)


Start = Callable[[Any, Photographs, Run], None]


def run(it: Run) -> None:
    """Start or resume a run, in its number of worker processes.

    Raises
    ------
    ValueError, OSError
        For training images, weights to start from or a checkpoint that can't be used; when another run is writing to
        the checkpoint; and what `loop.launch` raises.
    """
    images, checkpoint = it.images(), Path(it.checkpoint)  # decoded here, the workers find them
    if (saved := read_checkpoint(checkpoint)) is not None:
        check_recipe(checkpoint, saved, it.settings, it.recipe(images))
    elif it.start and Path(it.start).exists():
        weights(Path(it.start))  # a mistake is told here, without waiting for the workers
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    check_output(checkpoint)
    with open(log_of(checkpoint), "a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another run is writing to {checkpoint}; wait for it, or give another --checkpoint"
            ) from None
        launch(partial(work, it), it.settings.workers)


def start_of(codec: str, stage: str, folder: Path) -> str | None:
    """What a stage starts from: the checkpoint of the one before in this folder, if there is one.

    Raises
    ------
    ValueError
        When that one is not finished.
    """
    before = recipe_of(codec).before(stage)
    if before is None or (saved := read_checkpoint(path := folder / f"{before.name}.pt")) is None:
        return None
    if saved["step"] < saved["schedule"]["steps"]:
        raise ValueError(
            f"{path} has made {saved['step']} of its {saved['schedule']['steps']} steps: finish it first with `lic-lab "
            f"train {codec} {before.name}`, or give --start {path} to start from it as it is"
        )
    return str(path)


def folder(codec: str, lmbda: float, seed: int) -> Path:
    """Where a codec's stages are saved unless told otherwise."""
    return cache("runs") / f"{codec}-{lmbda:g}-{seed}"


def run_all(codec: str, lmbda: float, data: str, to: Path, start: str | None = None, **settings: Any) -> Path:
    """Run what is left of all stages in turn, each from the one before; returns the last one's checkpoint.

    Parameters
    ----------
    to : path
        Folder of the checkpoints, one a stage. Stages that are finished there are left as they are.
    start : str or None
        What the first stage starts from.
    settings
        `Settings` to use in place of every stage's own.
    """
    for stage in recipe_of(codec).stages:
        checkpoint = str(to / f"{stage.name}.pt")
        it = Run(codec, stage.name, lmbda, data, checkpoint, stage.settings.but(**settings), start)
        if not it.finished():
            run(it)
        start = checkpoint
    return Path(checkpoint)


def work(it: Run, worker: int, workers: int) -> None:
    """One worker's part of a run."""
    recipe, settings = recipe_of(it.codec), it.settings
    stage = recipe.stage(it.stage)
    torch.manual_seed(settings.seed)
    codec, photographs = recipe.build(), it.images()
    if not Path(it.checkpoint).exists():
        with at_work(f"{it.stage}: preparing the start", show=worker == 0, every=5.0):
            _start(codec, photographs, it)
    if settings.bf16 and stage.learns == EVERYTHING:
        for transform in (codec.g_a, codec.g_s):
            _compute_in_bf16(getattr(transform, "network", transform))
    codec.train()
    own = zlib.crc32(stage.name.encode())  # no stage sees another one's crops

    def step(turn: Turn) -> dict[str, Tensor]:
        seed = (settings.seed, own, turn.step, turn.detours)
        x = photographs.crops(settings.batch, settings.crop, (*seed, turn.worker))
        drawn = codec.swap(**stage.draw(np.random.default_rng(seed))) if stage.draw else codec
        return stage.loss(drawn, x, it, turn.step)

    codec.requires_grad_(False)
    quantiles: list[nn.Parameter] = []
    groups: dict[float, list[nn.Parameter]] = {}
    for name, p in codec.named_parameters():
        if not name.startswith(stage.learns) or (name.endswith("quantiles") and not stage.quantiles):
            continue
        factor = next((f for prefix, f in recipe.factors.items() if name.startswith(prefix)), 1.0)
        (quantiles if name.endswith("quantiles") else groups.setdefault(factor, [])).append(p)
        p.requires_grad_(True)
    made_of, checkpoint = it.recipe(photographs), Path(it.checkpoint)
    train(groups.items(), quantiles, codec, step, codec.aux_loss, settings, checkpoint, worker, workers, made_of)


@torch.no_grad()
def _start(codec: Any, photographs: Photographs, it: Run) -> None:
    recipe = recipe_of(it.codec)
    stage = recipe.stage(it.stage)
    if it.start:
        state = weights(Path(it.start))
        if stage.takes is not None:
            state = {key: value for key, value in state.items() if key.startswith(stage.takes)}
        codec.load_state_dict(fitted(codec, state))
        if stage.takes is None:
            start_new(codec, state, lambda: codec.g_a(it.sample(photographs, 32, 256)).std((0, 2, 3)))
    elif recipe.start is not None:
        recipe.start(codec, photographs, it)
    if stage.start is not None:
        stage.start(codec, photographs, it)


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

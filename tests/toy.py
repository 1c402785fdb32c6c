"""A training of a few weights, with mishaps, in a module of its own: worker processes import it, and it alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lic_lab.training.loop import INTERVAL, Schedule, Turn, train


class Killed(Exception):
    """What ends a process in the middle of a run."""


@dataclass(frozen=True)
class Toy:
    """A run of a small model with data and noise in every step, and with mishaps.

    Attributes
    ----------
    checkpoint : str
    steps : int
    nan : tuple of Turn
        Whose loss is not a number.
    always : int or None
        From this step on no loss is a number, whatever is drawn.
    loud : Turn or None
        The interval from here on has a thousand times the loss, until the run goes back.
    broken : int or None
        At this step a weight that no loss depends on becomes infinite, until the run has gone back.
    kill : int or None
        The turn, counted in this process, in which it ends.
    """

    checkpoint: str
    steps: int = 250
    nan: tuple[Turn, ...] = ()
    always: int | None = None
    loud: Turn | None = None
    broken: int | None = None
    kill: int | None = None

    def __call__(self, worker: int = 0, workers: int = 1) -> None:
        torch.manual_seed(7)
        model = nn.ModuleDict({"net": nn.Linear(4, 1), "idle": nn.Linear(1, 1)})
        quantile = nn.Parameter(torch.ones(1))
        model.register_parameter("quantile", quantile)

        def step(turn: Turn) -> dict[str, torch.Tensor]:
            if len(seen) == self.kill:
                raise Killed
            seen[turn.step, turn.detours] = model["net"].weight.detach().clone()
            noise.add(torch.initial_seed())
            if turn.step == self.broken and not turn.detours:
                model["idle"].weight.data.fill_(torch.inf)
            x = torch.from_numpy(
                np.random.default_rng((turn.step, turn.worker, turn.detours)).normal(size=(8, 4))
            ).float()
            loss = (model["net"](x) - x.sum(1, keepdim=True) + 0.1 * torch.randn(8, 1)).square().mean()
            if turn in self.nan or (self.always is not None and turn.step >= self.always):
                loss = loss * torch.nan
            if self.loud and turn.detours == self.loud.detours and 0 <= turn.step - self.loud.step < INTERVAL:
                loss = loss * 1000
            return {"loss": loss}

        seen: dict[tuple[int, int], torch.Tensor] = {}
        noise: set[int] = set()
        schedule = Schedule(self.steps, lr=0.02, warmup=10, checkpoint_seconds=0)
        path = Path(self.checkpoint)
        groups = [(1.0, list(model["net"].parameters()))]
        train(groups, [quantile], model, step, lambda: quantile.square().sum(), schedule, path, worker, workers)
        assert len(noise) == len(seen), "some noise was drawn twice"
        for (_, detours), (at, again) in pairwise(seen):
            if again > detours and (at, detours) in seen:  # a run resumed after going back has not seen it before
                assert torch.equal(seen[at, detours], seen[at, again]), "it did not go back to where it was"
        torch.save(model.state_dict(), path.with_suffix(f".{worker}"))


def without_end(folder: str, worker: int, workers: int) -> None:
    """A worker that never ends, and shows that it is alive by touching a file."""
    while True:
        (Path(folder) / "alive").touch()
        time.sleep(0.05)


def refuses(worker: int, workers: int) -> None:
    """Workers that meet, and of whom one finds a mistake of the user's."""
    met = torch.ones(1)
    torch.distributed.all_reduce(met)
    if worker == 1:
        raise ValueError(f"{int(met)} workers")
    torch.distributed.all_reduce(met)

"""The training loop: one process per worker, gradients averaged once a step, checkpoints, exact resumption.

Several single-threaded workers use the cores of a CPU better than one process with several threads: they meet
once a step instead of once an operation, so a busy neighbour slows them by its share and no more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from tqdm import tqdm

from lic_lab.layers.memory import keep


@dataclass(frozen=True)
class Schedule:
    """Warm-up, constant, then linear decay to zero.

    Attributes
    ----------
    steps : int
        Length of the run; the last `decay` of them fall to zero.
    lr, warmup, decay, clip
        Peak learning rate of Adam, steps of warm-up and of decay, bound of the gradient's norm.
    checkpoint_seconds : float
        Seconds between checkpoints.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 200
    decay: int = 0
    clip: float = 1.0
    checkpoint_seconds: float = 120.0

    def rate(self, step: int) -> float:
        """Learning rate at `step`."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.lr * up * down


Step = Callable[[int, int], dict[str, Tensor]]  # (step, worker) -> {"loss": ..., what else to log}


def train(
    groups: Iterable[tuple[float, list[nn.Parameter]]],
    quantiles: Iterable[nn.Parameter],
    modules: nn.Module,
    step: Step,
    aux_loss: Callable[[], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    worker: int = 0,
    workers: int = 1,
    log_every: int = 50,
) -> None:
    """Run or resume one worker's part of a training.

    Parameters
    ----------
    groups
        What Adam trains: parameters with their factor of the schedule's learning rate.
    quantiles
        The entropy bottleneck's quantiles, trained on `aux_loss`.
    modules : Module
        Saved in the checkpoint, and restored from it.
    step : callable
        Computes the loss of one step for one worker.
    checkpoint : path
        File to resume from when it exists. The log goes beside it, as JSON lines.
    """
    groups, quantiles = list(groups), list(quantiles)
    parameters = [p for _, group in groups for p in group]
    main = torch.optim.Adam(
        [{"params": group, "scale": scale} for scale, group in groups if group], lr=schedule.lr, fused=True
    )
    aux = torch.optim.Adam(quantiles, lr=1e-3) if quantiles else None
    start, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(saved["modules"])
        main.load_state_dict(saved["main"])
        if aux is not None:
            aux.load_state_dict(saved["aux"])
        start, seconds = saved["step"], saved["seconds"]

    def save(at: int) -> None:
        state = {
            "modules": modules.state_dict(),
            "main": main.state_dict(),
            "aux": aux.state_dict() if aux is not None else {},
            "step": at,
            "seconds": seconds + time.monotonic() - began,
            "schedule": asdict(schedule),
        }
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(checkpoint)

    began = saved_at = time.monotonic()
    sums: dict[str, float] = {}
    bar = tqdm(range(start, schedule.steps), initial=start, total=schedule.steps, disable=worker != 0, mininterval=5)
    for at in bar:
        torch.manual_seed(at * workers + worker)  # the noise, too, is a function of the step
        for group in main.param_groups:
            group["lr"] = schedule.rate(at) * group["scale"]
        main.zero_grad(set_to_none=True)
        logs = step(at, worker)
        logs["loss"].backward()
        if aux is not None:
            aux.zero_grad(set_to_none=True)
            aux_loss().backward()
        _average(parameters + quantiles, workers)
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
        if torch.isfinite(norm):
            main.step()
            if aux is not None:
                aux.step()
        for name, value in logs.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if worker == 0 and (at + 1) % log_every == 0:
            line = {name: round(total / log_every, 6) for name, total in sums.items()}
            line |= {"step": at + 1, "seconds": round(seconds + time.monotonic() - began), "lr": schedule.rate(at)}
            with open(checkpoint.with_suffix(".jsonl"), "a") as log:
                log.write(json.dumps(line) + "\n")
            bar.set_postfix({name: f"{value:.4g}" for name, value in line.items() if name in logs})
            sums = {}
        if worker == 0 and time.monotonic() - saved_at > schedule.checkpoint_seconds:
            save(at + 1)
            saved_at = time.monotonic()
    if worker == 0:
        save(schedule.steps)


def _average(parameters: list[nn.Parameter], workers: int) -> None:
    """Replace each gradient by its mean over the workers."""
    if workers == 1:
        return
    used = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in used])
    dist.all_reduce(flat)
    flat /= workers
    for p, grad in zip(used, flat.split([p.numel() for p in used]), strict=True):
        p.grad = grad.view_as(p)


def launch(run: Callable[[int, int], None], workers: int) -> None:
    """Call ``run(worker, workers)`` in as many single-threaded processes as workers."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    mp.start_processes(_worker, args=(run, workers), nprocs=workers, start_method="spawn")  # type: ignore[attr-defined]


def _worker(worker: int, run: Callable[[int, int], None], workers: int) -> None:
    torch.set_num_threads(1)
    keep()
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        # Left to itself the kernel may put two workers on one core while a neighbour has the other to itself.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[worker % len(cores)]})
    if workers > 1:
        dist.init_process_group("gloo", rank=worker, world_size=workers)
    try:
        run(worker, workers)
    finally:
        if workers > 1:
            dist.destroy_process_group()

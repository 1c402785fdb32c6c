"""The training loop: one process per worker, gradients averaged once a step, checkpoints, exact resumption.

Several single-threaded workers use the cores of a CPU better than one process with several threads: they meet
once a step instead of once an operation, so a busy neighbour slows them by its share and no more.

Every `INTERVAL` steps the state is judged (`Good`). When a loss or a gradient is not finite, or the loss has exploded,
all workers go back to the last good state, and on from there with other crops and other noise. Nothing but good states
is saved, so a run resumes at one; and a run that was killed and resumed ends at the weights of an uninterrupted one, to
the last bit, whether it went back on its way or not. So a checkpoint carries its recipe, and is gone on with only by
what would have made it.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from tqdm import tqdm

from lic_lab.files import written
from lic_lab.layers.memory import keep

INTERVAL = 100  # steps between good states: half a minute of `joint`
LOG_EVERY = 50  # steps that a line of the log is the mean of; divides `INTERVAL`
EXPLODED = 5.0  # times the least mean of an interval; single crops differ as much, means of a hundred do not
PATIENCE = 3  # times that a run goes back to the same state before it gives up


class Diverged(ValueError):
    """A training that goes wrong again and again from the same state."""


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
        Seconds between checkpoints, which wait for the next good state.
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


@dataclass(frozen=True)
class Turn:
    """One worker's part of one step: what everything random in it is a function of.

    Attributes
    ----------
    step, worker : int
    detours : int
        How often the run has gone back so far: from then on, crops and noise are others.
    """

    step: int
    worker: int = 0
    detours: int = 0


Recipe = Mapping[str, tuple[str, str]]
Step = Callable[[Turn], dict[str, Tensor]]  # {"loss": ..., what else to log}


class Good:
    """The last good state of a run: what it goes back to, and what is saved of it.

    In a good state all weights are finite, and the loss of the interval before it has not exploded.

    Parameters
    ----------
    modules : Module
    optimizers : mapping
        By their name in the checkpoint.
    saved : mapping or None
        A checkpoint to resume.

    Attributes
    ----------
    step, detours : int
    least : float
        The least mean loss of an interval so far.
    tries : int
        How often the run has gone back to it.

    Raises
    ------
    Diverged
        When weights are not finite from the start.
    """

    def __init__(
        self, modules: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], saved: dict[str, Any] | None = None
    ):
        self.parts: dict[str, Any] = {"modules": modules, **optimizers}
        self.step, self.detours, self.least, self.tries = 0, 0, math.inf, 0
        self.losses: list[float] = []  # since then
        if saved is None:
            self._keep(0)
        else:
            self.step, self.detours, self.least = saved["step"], saved.get("detours", 0), saved.get("least", math.inf)
            try:
                self._state = {name: saved[name] for name in self.parts}
                self._restore()
            except (KeyError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"the checkpoint is of another codec or stage ({reason})") from None
        if not self._finite():
            raise Diverged("some weights to start from are not finite; start from others (--start)")

    def judge(self, step: int, loss: float, last: bool = False) -> str | None:
        """After `step` steps: what has gone wrong, None if nothing. Every `INTERVAL` steps the state is a good one."""
        self.losses.append(loss)
        if step % INTERVAL and not last:
            return None
        if not self._finite():
            return "some weights are not finite"
        if len(self.losses) == INTERVAL:
            mean = fmean(self.losses)
            if mean > EXPLODED * self.least:
                return f"the loss has exploded: {mean:.4g} on average, after {self.least:.4g}"
            self.least = min(self.least, mean)
        self._keep(step)
        return None

    def go_back(self) -> None:
        """Return to it; the next steps are drawn anew."""
        self._restore()
        self.losses = []
        self.detours += 1
        self.tries += 1

    def save(self, checkpoint: Path, **more: Any) -> None:
        """Write it beside the last checkpoint, then put it in its place: at any time there is a whole one."""
        state = {**self._state, "step": self.step, "detours": self.detours, "least": self.least, **more}
        try:
            with written(checkpoint) as new, open(new, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # torch's, in place of the system's
            raise OSError(f"{checkpoint} can't be written, is the disk full? ({str(error).splitlines()[0]})") from None

    def _keep(self, step: int) -> None:
        self.step, self.tries, self.losses = step, 0, []
        self._state = copy.deepcopy({name: part.state_dict() for name, part in self.parts.items()})

    def _restore(self) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(copy.deepcopy(self._state[name]))  # Adam goes on in the very tensors that it is given

    def _finite(self) -> bool:
        return all(p.isfinite().all() for p in self.parts["modules"].state_dict().values())


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
    recipe: Recipe | None = None,
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
        File to resume from when it exists. The log goes beside it (`log_of`), as JSON lines: means over the steps and
        the workers, and where the run went back.
    recipe : mapping, optional
        What else the run is made of, by name: a text that is equal for equal ones, and how to call it. Kept in the
        checkpoint.

    Raises
    ------
    ValueError
        When the checkpoint is none, or another recipe's (`check_recipe`).
    Diverged
        When the run has gone back `PATIENCE` times to one state and goes wrong again. The checkpoint is that state.
    """
    groups, quantiles = list(groups), list(quantiles)
    parameters = [p for _, group in groups for p in group]
    main = torch.optim.Adam(
        [{"params": group, "scale": scale} for scale, group in groups if group], lr=schedule.lr, fused=True
    )
    aux = torch.optim.Adam(quantiles, lr=1e-3) if quantiles else None
    saved = read_checkpoint(checkpoint)
    if saved is not None:
        check_recipe(checkpoint, saved, schedule, recipe or {})
    good = Good(modules, {"main": main} | ({"aux": aux} if aux else {}), saved)
    before, began = saved["seconds"] if saved else 0.0, time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - began

    def save() -> None:
        good.save(checkpoint, seconds=seconds(), schedule=asdict(schedule), recipe=dict(recipe or {}))

    def log(at: int, **line: Any) -> None:
        with open(log_of(checkpoint), "a") as file:
            file.write(json.dumps(line | {"step": at, "seconds": round(seconds())}) + "\n")

    at, saved_at = good.step, began
    lines: list[dict[str, float]] = []  # since the log was last written
    bar = tqdm(desc=checkpoint.stem, initial=at, total=schedule.steps, disable=worker != 0, mininterval=5)
    while at < schedule.steps:
        torch.manual_seed((good.detours << 40) + at * workers + worker)  # the noise, too, is a function of the turn
        rate = schedule.rate(at)
        for group in main.param_groups:
            group["lr"] = rate * group["scale"]
        main.zero_grad(set_to_none=True)
        logs = step(Turn(at, worker, good.detours))
        logs["loss"].backward()
        if aux is not None:
            aux.zero_grad(set_to_none=True)
            aux_loss().backward()
        means = _average(parameters + quantiles, logs, workers)
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
        if math.isfinite(means["loss"]) and norm.isfinite() and all(q.grad.isfinite().all() for q in quantiles):
            main.step()
            if aux is not None:
                aux.step()
            at += 1
            wrong = good.judge(at, means["loss"], last=at == schedule.steps)
        else:
            wrong = f"loss {means['loss']:.4g}, norm of the gradient {norm:.4g}, or that of the quantiles, not finite"
        if wrong:
            if worker == 0:
                log(at, back_to=good.step, because=wrong)
            if good.tries == PATIENCE:
                if worker == 0:
                    save()
                raise Diverged(
                    f"step {at}: {wrong}. The run has gone back to step {good.step} {PATIENCE} times already, and "
                    "that is what its checkpoint holds: go on from it with a lower learning rate (--lr)"
                )
            good.go_back()
            at, lines = good.step, []
            bar.n = at
            continue
        bar.update()
        lines.append(means)
        if worker == 0 and at % LOG_EVERY == 0:
            line = {name: round(fmean(one[name] for one in lines if name in one), 6) for name in means}
            log(at, **line, lr=rate)
            bar.set_postfix({name: f"{value:.4g}" for name, value in line.items()})
            lines = []
        if worker == 0 and good.step == at and time.monotonic() - saved_at > schedule.checkpoint_seconds:
            save()
            saved_at = time.monotonic()
    bar.close()
    if worker == 0 and (saved is None or saved["step"] < at):
        save()


def log_of(checkpoint: Path) -> Path:
    """Where the log of a run is: ``joint.jsonl`` for ``joint.pt``, ``run.v2.jsonl`` for ``run.v2``."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.pt')}.jsonl")


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What a run has saved, None if there is nothing.

    Raises
    ------
    ValueError, OSError
        When it is not whole, or not a run's.
    """
    if not path.exists():
        return None
    if path.is_dir():
        raise IsADirectoryError(f"the checkpoint {path} is a folder; give a file's name: {path / 'joint.pt'}")
    remedy = "move it away, or give another --checkpoint"
    try:
        with ZipFile(path) as file:
            if part := file.testzip():
                raise BadZipFile(f"the checksum of {part} is wrong")  # torch does not look
        saved = torch.load(path, weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # torch's readers raise whatever a damaged file makes them stumble over
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise ValueError(
            f"{path} is no checkpoint of lic-lab train, or is damaged or cut off ({reason}); {remedy}"
        ) from None
    if not isinstance(saved, dict) or not {"step", "schedule"} <= set(saved):
        raise ValueError(f"{path} is no checkpoint of lic-lab train; {remedy}, and --start {path} to start from it")
    return saved


def check_recipe(path: Path, saved: Mapping[str, Any], schedule: Schedule, recipe: Recipe) -> None:
    """Refuse to go on with what another recipe has made.

    More steps, or fewer, are the same run as long as the steps made so far have the same learning rate in both. What an
    older checkpoint does not say is not compared.

    Raises
    ------
    ValueError
        With what differs, and what to do.
    """
    made, was, now = saved["step"], saved["schedule"], asdict(schedule)
    if made > schedule.steps:
        raise ValueError(
            f"{path} has made {made} steps, and {schedule.steps} are asked for (--steps); give at least {made}, or "
            "another --checkpoint"
        )
    paced = [f.name for f in fields(Schedule) if f.name != "checkpoint_seconds"]
    rated = [name for name in paced if name != "clip"]
    differs = []
    if set(rated) <= set(was):
        before = Schedule(**{name: was[name] for name in rated})
        if any(before.rate(step) != schedule.rate(step) for step in range(made)):
            differs += [name for name in rated if was[name] != now[name]]
    others = [name for name in now if name in was and name not in (*rated, "checkpoint_seconds")]
    differs += [name for name in others if was[name] != now[name]]
    words = [f"{name} {was[name]:g}, now {now[name]:g}" for name in differs]
    for name, (digest, value) in recipe.items():
        known, old = saved.get("recipe", {}).get(name, (digest, value))
        if known != digest:
            words.append(f"{name} {old}, now {value}{' with other contents' if old == value else ''}")
    if words:
        raise ValueError(
            f"{path} is of another run: {'; '.join(words)}. Give what it was made with to go on with it, or another "
            f"--checkpoint, where --start {path} begins with its weights"
        )


def _average(parameters: list[nn.Parameter], logs: dict[str, Tensor], workers: int) -> dict[str, float]:
    """Replace each gradient by its mean over the workers; the means of what they log."""
    values = torch.stack([value.detach() for value in logs.values()])
    if workers > 1:
        used = [p for p in parameters if p.grad is not None]
        flat = torch.cat([values, *(p.grad.flatten() for p in used)])
        dist.all_reduce(flat)
        flat /= workers
        values, *grads = flat.split([len(values), *(p.numel() for p in used)])
        for p, grad in zip(used, grads, strict=True):
            p.grad = grad.view_as(p)
    return dict(zip(logs, values.tolist(), strict=True))


def launch(run: Callable[[int, int], None], workers: int) -> None:
    """Call ``run(worker, workers)`` in as many single-threaded processes as workers.

    Raises
    ------
    ValueError, OSError
        The first that a worker raises, and a ValueError when one is killed.
    """
    told = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="lic_lab_") as folder:  # where they meet: a port may be somebody else's
        args = (run, workers, f"{folder}/store", told)
        context = mp.start_processes(_worker, args, nprocs=workers, join=False, start_method="spawn")  # type: ignore[attr-defined]
        try:
            while not context.join():
                pass
        except ProcessRaisedException:
            if told.empty():
                raise
            raise told.get() from None  # said in words, without the workers' tracebacks
        except ProcessExitedException as ended:
            raise ValueError(
                f"a worker was ended from outside ({ended}): too little memory? Run this again to go on from the last "
                "checkpoint"
            ) from None
        finally:
            for process in context.processes:
                process.kill()


def _end_with_parent() -> None:
    """End this process when its parent is gone: of a killed run nobody goes on, and writes into its checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _worker(worker: int, run: Callable[[int, int], None], workers: int, store: str, told: Any) -> None:
    _end_with_parent()
    torch.set_num_threads(1)
    keep()
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        # Left to itself the kernel may put two workers on one core while a neighbour has the other to itself.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[worker % len(cores)]})
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=worker, world_size=workers)
    try:
        run(worker, workers)
    except (ValueError, OSError) as error:
        told.put(error)
        raise
    finally:
        if workers > 1:
            dist.destroy_process_group()

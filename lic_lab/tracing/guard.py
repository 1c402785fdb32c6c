"""One guard around all tracing: a trace neither depends on torch's and the model's state nor changes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lic_lab.codecs.codec import undisturbed

SEED = 0  # of models that draw random numbers even in evaluation mode: each trace draws the same


@contextmanager
def guarded(model: nn.Module, deep: bool = True) -> Iterator[None]:
    """Within it, what `undisturbed` says; random numbers are those of one seed, and nothing that was compiled runs.

    Afterwards the generators, the model's buffers, what its modules hold as attributes and the storage of its weights
    are those of before. (CompressAI's masked convolutions give their weight another one each time they run.)

    Parameters
    ----------
    model : Module
    deep : bool
        False leaves buffers, attributes and storage alone, which our codecs' entropy models and g_s do not change: it
        takes 20 ms to look at all modules of a codec.
    """
    with ExitStack() as settings:
        settings.enter_context(undisturbed(model))
        devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
        settings.enter_context(torch.random.fork_rng(devices))
        reseed(model)
        if "torch._dynamo" in sys.modules:  # compiled code does not see hooks and taps
            settings.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules() if deep else ():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    settings.callback(_put_back, module, name, buffer, buffer.data, buffer.clone())
            settings.callback(_settle, module, dict(module.__dict__))
        for weight in model.parameters() if deep else ():
            settings.callback(_lay_back, weight, weight.data)
        yield


def reseed(model: nn.Module) -> None:
    """Start the generators of the model's devices anew, and of no other."""
    torch.default_generator.manual_seed(SEED)
    for index in {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}:
        torch.cuda.default_generators[index].manual_seed(SEED)


def _put_back(module: nn.Module, name: str, buffer: Tensor, data: Tensor, before: Tensor) -> None:
    module._buffers[name] = buffer
    _lay_back(buffer, data)
    if not torch.equal(data, before):
        with torch.inference_mode():  # where tensors made in it may be written too
            data.copy_(before)


def _settle(module: nn.Module, before: dict[str, Any]) -> None:
    """Attributes as they were; one by one, for another thread may be reading them."""
    now = module.__dict__
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, value in before.items():
        if name not in now or now[name] is not value:
            now[name] = value


def _lay_back(of: Tensor, data: Tensor) -> None:
    if of.data_ptr() != data.data_ptr():
        of.data = data

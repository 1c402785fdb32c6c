"""Where a run starts: at the weights of another one, or with networks that see the latent at unit spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lic_lab.codecs.states import read
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.refinement import LatentResidualPrediction

PARTS = ("g_a.", "g_s.", "hyperprior.")  # that can't be started on the latent's spread


def weights(path: Path) -> dict[str, Tensor]:
    """State dict of a checkpoint or of shipped weights; see `states.read`."""
    return read(path)


def fitted(codec: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a model with fewer components: what is new starts as in `codec`, new inputs with weight zero.

    Raises
    ------
    ValueError
        When `state` is of another model.
    """
    own = codec.state_dict()
    lacks = [part for part in PARTS if any(key.startswith(part) for key in own)]
    lacks = [part for part in lacks if not any(key.startswith(part) for key in state)]
    if lacks:
        names = ", ".join(part.rstrip(".") for part in lacks)
        raise ValueError(f"the weights to start from have no {names}: they are of another kind of codec")
    for key, value in state.items():
        if "bottleneck" in key and key in own:  # its tables have lengths of their own
            own[key] = value
        elif key in own and own[key].shape[:1] == value.shape[:1] and own[key].shape[2:] == value.shape[2:]:
            own[key] = torch.zeros_like(own[key])
            own[key][tuple(slice(n) for n in value.shape)] = value
        else:
            raise ValueError(f"the weights to start from have {key} of shape {tuple(value.shape)}, this stage has not")
    return own


def start_all(codec: Any, spread: Tensor) -> None:
    """Start hyperprior and entropy model on a latent of this spread (M,), from torch's random weights."""
    deepen(codec.hyperprior, codec.entropy)
    codec.hyperprior.h_a.start(spread.clamp(min=1))
    start_new(codec, {}, lambda: spread)


def start_new(codec: Any, state: Mapping[str, Tensor], spread: Callable[[], Tensor]) -> None:
    """Start the parts of the entropy model that weights `state` do not have, on a latent of this spread (M,)."""

    def new(name: str) -> bool:
        return not any(key.startswith(f"entropy.{name}.") for key in state)

    g_ep = codec.entropy.g_ep
    parts = [
        part
        for name, part in codec.entropy.named_modules()
        if isinstance(part, Context | LatentResidualPrediction) and new(name)
    ]
    kinds = [kind for kind in g_ep.nets if new(f"g_ep.nets.{kind}")] if isinstance(g_ep, Parameters) else []
    if parts or kinds:
        found = spread()
        for part in parts:
            part.start(found.clamp(min=1))
        for kind in kinds:
            g_ep.start(kind, found)


@torch.no_grad()
def deepen(*networks: nn.Module) -> None:
    """Weights of variance 2 / fan-in: torch's default, 1 / (3 fan-in), silences a deep GELU network."""
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight *= 6**0.5

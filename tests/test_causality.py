"""Law 1: a component sees only decoded symbols.

Two proofs. Poison: undecoded symbols are NaN in the canvas, and no NaN reaches mu or sigma. Perturbation: symbols of a
step and of all later ones change, and mu and sigma up to that step stay the same to the last bit; this one also covers
estimates that know all symbols beforehand (teacher forcing).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from laws import CODED, COMBINATIONS, hyper_like, latent_like, lively, name_of
from torch import Tensor

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.local import RasterContext
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import PATTERNS, CodingOrder, Step
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.seen import Seen
from lic_lab.layers.tap import record

SIZES = [(5, 7), (4, 8), (1, 1), (1, 6), (9, 2)]


def poisoned(entropy: EntropyModel, hyper: Tensor) -> list[int]:
    """Indices of the steps whose distribution holds a NaN, all undecoded symbols being NaN."""
    y = latent_like(entropy, *hyper.shape[2:])
    found, count = [], 0

    def visit(step: Step, *parameters: Tensor) -> Tensor:
        nonlocal count
        if not all(of.isfinite().all() for of in parameters):
            found.append(count)
        count += 1
        return entropy.gaussian.quantise(step.take(y[:, entropy.order.step_channels(step)]), parameters[0].nan_to_num())

    with torch.no_grad():
        y_hat = entropy.run(hyper, visit, fill=float("nan"))
    if not y_hat.isfinite().all():
        found.append(count)
    return found


def disturbed(entropy: EntropyModel, hyper: Tensor) -> list[int]:
    """Steps t at which mu or sigma of a step up to t depends on symbols of step t or later, among a few t."""
    height, width = hyper.shape[2:]
    y = latent_like(entropy, height, width)
    order = entropy.order.step_map(height, width)
    last = int(order.max())

    def maps(y: Tensor) -> Tensor:
        seen: dict[str, Tensor] = {}
        with torch.no_grad(), record(lambda name, value, where: seen.update({name: value})):
            entropy(y, hyper)
        return torch.cat((seen["mu"], seen["sigma"]))

    reference, found = maps(y), []
    for t in sorted({0, 1, last // 2, last - 1, last} & set(range(last + 1))):
        changed = torch.where(order >= t, y + 5 * torch.randn(y.shape, generator=torch.Generator().manual_seed(t)), y)
        differs = (maps(changed) != reference).any(0)
        if (differs & (order <= t)).any():
            found.append(t)
    return found


@pytest.mark.parametrize("law", [poisoned, disturbed])
@pytest.mark.parametrize("name", CODED)
def test_every_codec_sees_only_the_past(name: str, law: Callable[[EntropyModel, Tensor], list[int]]) -> None:
    codec = lively(name)
    codec.entropy.eval()
    for size in SIZES:
        assert not law(codec.entropy, hyper_like(codec, *size)), size


@pytest.mark.parametrize("law", [poisoned, disturbed])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_every_combination_sees_only_the_past(
    combination: dict[str, str], law: Callable[[EntropyModel, Tensor], list[int]]
) -> None:
    codec = lively("shared").swap(**combination)
    codec.entropy.eval()
    for size in SIZES[:3]:
        assert not law(codec.entropy, hyper_like(codec, *size)), size


@pytest.mark.parametrize("name", ["joint-autoregressive", "charm", "global-reference", "mlic", "mlic+"])
def test_the_published_sizes_see_only_the_past(name: str) -> None:
    codec = lively(name, "paper")
    assert not poisoned(codec.entropy, hyper_like(codec, 4, 5))
    lively.cache_clear()  # a third of a gigabyte


def test_patches_see_only_the_past() -> None:
    codec = lively("shared").swap(local="attention", global_="intra+inter")
    contexts = [c for c in codec.entropy.modules() if hasattr(c, "patch")]
    try:
        for context in contexts:
            context.patch = 4
        assert not poisoned(codec.entropy, hyper_like(codec, 9, 10))
        assert not disturbed(codec.entropy, hyper_like(codec, 9, 10))
    finally:
        for context in contexts:
            context.patch = 64


class Peeking(Context):
    """A context that reads the very symbols it is asked to predict."""

    in_turn = True

    def __init__(self, pattern: str, order: CodingOrder):
        super().__init__()
        self.pattern, self.order = pattern, order  # type: ignore[misc]

    def width(self, i: int) -> int:
        return self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        return step.take(seen.slice(i))


class Hindsight(RasterContext):
    """A raster context whose mask lets the centre through."""

    def __init__(self, order: CodingOrder, out_channels: int):
        super().__init__(order, out_channels)
        past = len(self.cells) + 1
        self.cells = torch.arange(past)
        self.linear = torch.nn.Linear(order.M * past, out_channels)


def cheating(order: CodingOrder, context: Context, rounding: str) -> EntropyModel:
    widths = {"hyper": [4] * len(order.slices), "cheat": [context.width(i) for i in range(len(order.slices))]}
    kinds = {"wavefront": ("raster",), "zigzag": ("chunk",)}.get(order.pattern, ("first", "second"))
    g_ep = Parameters(order, dict.fromkeys(kinds, widths), hidden=(16,))
    return EntropyModel(order, {"cheat": {"on": context}}, g_ep, gaussian=Gaussian(rounding)).eval()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_context_that_peeks_is_caught_by_the_poison(pattern: str) -> None:
    torch.manual_seed(0)
    raster = pattern == "wavefront"
    order = CodingOrder((6,) if raster else (3, 3), in_turn=not raster, pattern=pattern, patch=2)
    model = cheating(order, Peeking(pattern, order), "centred")
    assert poisoned(model, torch.randn(1, 4, 4, 5))


def test_a_raster_that_peeks_is_caught_in_the_loop_and_in_the_parallel_estimate() -> None:
    torch.manual_seed(0)
    order = CodingOrder((3,), pattern="wavefront")
    model = cheating(order, Hindsight(order, 8), "plain")
    hyper = torch.randn(1, 4, 4, 5)
    assert poisoned(model, hyper)
    assert disturbed(model, hyper)

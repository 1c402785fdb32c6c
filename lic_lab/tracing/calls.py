"""Which call of which entropy model gave each of a model's likelihoods.

A model of others may call one conditional for each slice, pass or position, or several, and put what they return
together as it likes. What it did is not guessed: it runs a second time, on the same random numbers, with every
likelihood that an entropy model returns replaced by the likelihood's number, and where a number comes out, the
likelihood came from. Should anything else differ between the two runs, or should the numbers not lead to the very
likelihoods of the first run, nothing is claimed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from compressai.entropy_models import EntropyModel, EntropyModelVbr
from compressai.latent_codecs import CheckerboardLatentCodec
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from torch import Tensor, nn

from lic_lab.entropy.order import CodingOrder
from lic_lab.layers.masks import checkerboard

EPS = 2.0**-23  # of float32, which a model may keep likelihoods in, whatever its entropy models return
Numbers = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Call:
    """One call of an entropy model. Tensors are copies, for a model may go on to write into its own.

    Attributes
    ----------
    module : Module
    symbols, likelihoods : Tensor
        What it returned.
    given : dict
        Its arguments by name.
    returned : Tensor
        The likelihoods themselves.
    parts : Tensor or None
        (h, w), which positions are coded after others though they are estimated in one call; None: all at once.
    """

    module: nn.Module
    symbols: Tensor
    likelihoods: Tensor
    given: dict[str, Any]
    returned: Tensor
    parts: Tensor | None


@dataclass
class Seen:
    """What one run showed.

    Attributes
    ----------
    calls : list of Call
        In the order in which they were made.
    images : list of (Tensor, str)
        Inputs of modules that returned something like a picture, and their names, outermost last.
    untold : bool
        Whether a checkerboard's context ran where nobody tells which positions are its anchors.
    """

    calls: list[Call] = field(default_factory=list)
    images: list[tuple[Tensor, str]] = field(default_factory=list)
    untold: bool = False


@contextmanager
def watched(model: nn.Module, height: int, width: int, numbers: Numbers | None = None) -> Iterator[Seen]:
    """See every call within the ``with`` block; the model stays as it is.

    Parameters
    ----------
    model : Module
    height, width : int
        Of the picture that it is given, in pixels.
    numbers : callable, optional
        Gives what is handed to the model in the place of likelihoods.
    """
    seen = Seen()
    boards: list[str] = []  # parities of the checkerboards that are running
    raster: list[tuple[int, torch.Size]] = []  # the last raster context: its kernel, and the grid
    inputs: list[Tensor | None] = []  # of the modules that are running

    def on_entropy(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        if not (isinstance(out, tuple) and len(out) >= 2 and all(isinstance(of, Tensor) for of in out[:2])):
            return None
        symbols, likelihoods = out[:2]
        parts = _parts(likelihoods, boards, raster)
        given = {
            name: of.clone() if isinstance(of, Tensor) else of for name, of in _named(module, args, kwargs).items()
        }
        seen.calls.append(Call(module, symbols.clone(), likelihoods.clone(), given, likelihoods, parts))
        return None if numbers is None else (symbols, numbers(likelihoods), *out[2:])

    def on_board(module: CheckerboardLatentCodec, args: Any) -> None:
        boards.append(module.anchor_parity)

    def off_board(module: nn.Module, args: Any, out: Any) -> None:
        boards.pop()

    def on_context(module: MaskedConv2d, args: Any, out: Any) -> None:
        if isinstance(module, CheckerboardMaskedConv2d):
            seen.untold |= not boards
        elif isinstance(out, Tensor) and out.dim() == 4:
            raster[:] = [(module.kernel_size[0], out.shape[2:])]

    def before(module: nn.Module, args: Any) -> None:
        first = args[0] if args else None
        coarse = isinstance(first, Tensor) and first.dim() == 4 and 2 * first.shape[2] <= height
        inputs.append(first.clone() if coarse else None)

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            first = inputs.pop()
            out = out[0] if isinstance(out, tuple | list) and out else out
            if first is not None and isinstance(out, Tensor) and out.dim() == 4 and out.shape[1] == 3:
                if out.shape[2] >= height and out.shape[3] >= width:
                    seen.images.append((first, name))

        return hook

    hooks = []
    for name, module in model.named_modules():
        if module is model:
            continue
        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after(name))]
        if isinstance(module, CheckerboardLatentCodec):
            hooks += [module.register_forward_pre_hook(on_board), module.register_forward_hook(off_board)]
        if isinstance(module, MaskedConv2d):
            hooks.append(module.register_forward_hook(on_context))
        if isinstance(module, EntropyModel | EntropyModelVbr) or hasattr(module, "_likelihood"):  # or a copy of these
            hooks.append(module.register_forward_hook(on_entropy, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Trail:
    """Numbers in the place of likelihoods: each gets those of all calls, one after the other, written in digits.

    A float has few integers, so a number takes as many runs as it has digits; see `digits`.

    Parameters
    ----------
    seen : Seen
        The run whose likelihoods are followed.
    """

    def __init__(self, seen: Seen):
        self.seen = seen
        self.total = sum(call.likelihoods.numel() for call in seen.calls)
        dtypes = {call.likelihoods.dtype for call in seen.calls}
        self.base = min((round(1 / max(EPS, torch.finfo(dtype).eps)) for dtype in dtypes), default=2)
        self.digits = max(1, math.ceil(math.log(max(self.total, 2), self.base) - 1e-9))

    def numbers(self, digit: int) -> Numbers:
        """What one run gets: (1 + (digit + 1) / base) / 2, which is exact.

        It is above 1/2 and at most 1, so a model that bounds its likelihoods, from below or by 1, leaves it alone.
        """
        start = 0

        def of(likelihoods: Tensor) -> Tensor:
            nonlocal start
            n = torch.arange(start, start + likelihoods.numel(), device=likelihoods.device)
            start += likelihoods.numel()
            value = 0.5 + (n // self.base**digit % self.base + 1).double() / (2 * self.base)
            return value.to(likelihoods.dtype).view(likelihoods.shape)

        return of

    def read(self, runs: list[Tensor], truth: Tensor) -> Tensor | None:
        """The numbers that came out of the runs, one for each digit; None unless all lead to `truth`."""
        found = torch.zeros(truth.shape, dtype=torch.int64, device=truth.device)
        for place, run in enumerate(runs):
            digit = (run.double() - 0.5) * 2 * self.base - 1
            if run.shape != truth.shape or not ((digit == digit.round()) & (digit >= 0) & (digit < self.base)).all():
                return None
            found += digit.long() * self.base**place
        if int(found.max()) >= self.total:
            return None
        source = torch.cat([call.likelihoods.flatten().double() for call in self.seen.calls])
        near = 8 * torch.finfo(truth.dtype).eps
        return found if torch.allclose(source[found], truth.double(), rtol=near, atol=0) else None

    def returned(self, likelihoods: Tensor) -> Tensor | None:
        """The numbers of `likelihoods` if they are, untouched, what one of the calls returned."""
        start = 0
        for call in self.seen.calls:
            if call.returned is likelihoods and torch.equal(call.likelihoods, likelihoods):
                return torch.arange(start, start + likelihoods.numel(), device=likelihoods.device).view_as(likelihoods)
            start += call.likelihoods.numel()
        return None


def follow(
    run: Callable[[Numbers | None], tuple[Any, Seen]], likelihoods: Callable[[Any], dict[str, Tensor]]
) -> tuple[Any, Seen, dict[str, Tensor | None]]:
    """Run a model, and find for each of its likelihoods the number of its source among those of all calls together.

    Parameters
    ----------
    run : callable
        Runs the model, with numbers in the place of likelihoods or without: what it returned, and what was seen.
    likelihoods : callable
        Those of what the model returned, by name.

    Returns
    -------
    out, seen
        Of the run without numbers.
    sources : dict
        For each name numbers of the likelihoods' shape, or None if they could not be followed.
    """
    out, seen = run(None)
    truth = likelihoods(out)
    trail = Trail(seen)
    sources: dict[str, Tensor | None] = {name: trail.returned(of) for name, of in truth.items()}
    lost = [name for name, source in sources.items() if source is None]
    if not lost or not seen.calls:
        return out, seen, sources
    runs: list[dict[str, Tensor]] = []
    for digit in range(trail.digits):
        again, shown = run(trail.numbers(digit))
        if not _alike(seen.calls, shown.calls):
            return out, seen, sources
        runs.append(likelihoods(again))
    for name in lost:
        if all(name in found for found in runs):
            sources[name] = trail.read([found[name] for found in runs], truth[name])
    return out, seen, sources


def _alike(a: list[Call], b: list[Call]) -> bool:
    """Whether two runs are the same but for the likelihoods that were handed to the model."""
    return len(a) == len(b) and all(
        one.module is two.module and torch.equal(one.symbols, two.symbols) for one, two in zip(a, b, strict=True)
    )


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)


def _parts(likelihoods: Tensor, boards: list[str], raster: list[tuple[int, torch.Size]]) -> Tensor | None:
    """The steps within a call, of what CompressAI's contexts tell of them."""
    if likelihoods.dim() != 4:
        return None
    h, w = likelihoods.shape[2:]
    if boards:
        return (~checkerboard(h, w, boards[-1])).long()
    if raster and raster[-1][1] == likelihoods.shape[2:]:
        return CodingOrder((1,), pattern="wavefront", kernel=raster[-1][0]).step_map(h, w)[0]
    return None

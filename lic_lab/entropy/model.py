"""The entropy model: order + context components + parameters + refinement, and the one coding loop.

    for each step of the order:                            forward     compress    decompress
        features  = hyper and the contexts' views of `seen`
        p         = g_ep(features)            mu and log sigma, or a mixture of them
        y_hat     = visit(step, *p)                        estimate    encode      decode
        seen     += y_hat (+ refinement)

Only `visit` differs between estimating, encoding and decoding, so what the lab shows is what the coder does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context, InformedContext, Prior
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.parameters import Direct, Parameters, Progressive
from lic_lab.entropy.seen import Seen
from lic_lab.layers.exact import exact
from lic_lab.layers.tap import recording, tap

Visit = Callable[..., Tensor]
SHOWN = ("mu", "sigma", "coded.mean", "coded.deviation", "symbols")  # taps: a value for each symbol


@dataclass
class Coded:
    """What one run of the loop leaves: all (B, M, H, W).

    Attributes
    ----------
    y_hat : Tensor
        Decoded latent, refined: the input of g_s.
    likelihoods : Tensor or None
        Probability of every symbol; None when decoding.
    """

    y_hat: Tensor
    likelihoods: Tensor | None = None


class EntropyModel(nn.Module):
    """Order, contexts, parameters and refinement of one codec, any of which can be swapped.

    Parameters
    ----------
    order : CodingOrder
        The order with every component on. `select` derives the order of a combination from it.
    contexts : mapping
        For each slot the alternatives that have weights: ``{"local": {"stacked": StackedCheckerboardContext(...)}}``.
    g_ep : Parameters, Progressive or Direct
    refinements : mapping
        Alternatives of refinement by name.
    gaussian : Gaussian
    selection : mapping
        The alternative in use for each slot, "none" for an empty slot; ``"refinement"`` is one of the keys.
    refined_context : bool
        Whether contexts read refined symbols (MLIC) or the symbols as coded (shared latent).
    """

    def __init__(
        self,
        order: CodingOrder,
        contexts: Mapping[str, Mapping[str, Context]],
        g_ep: Parameters | Direct | Progressive,
        refinements: Mapping[str, nn.Module] | None = None,
        gaussian: Gaussian | None = None,
        selection: Mapping[str, str] | None = None,
        refined_context: bool = True,
    ):
        super().__init__()
        self.full_order = self.order = order
        self.contexts = nn.ModuleDict({slot: nn.ModuleDict(dict(found)) for slot, found in contexts.items()})
        self.g_ep = g_ep
        self.refinements = nn.ModuleDict(dict(refinements or {}))
        self.gaussian = gaussian or Gaussian()
        self.refined_context = refined_context
        first = {slot: next(iter(found)) for slot, found in contexts.items()}
        first["refinement"] = next(iter(self.refinements), "none")
        self.selection = first
        self.selection = {**first, **(selection or {})}
        self.order = self._order()

    def select(self, /, **choice: str) -> EntropyModel:
        """The same weights with another selection; nothing is copied, so it costs microseconds.

        Raises
        ------
        ValueError
            For a slot the model does not have, or an alternative it has no weights for.
        """
        other = copy.copy(self)
        other.selection = {**self.selection, **choice}
        for slot, name in choice.items():
            if slot not in self.selection:
                raise ValueError(f"no component is called {slot!r}; there are {', '.join(self.selection)}")
            have = list(self.refinements if slot == "refinement" else self.contexts[slot])  # type: ignore[call-overload]
            if self.g_ep.optional or slot == "refinement":
                have = ["none", *have]
            if name not in have:
                raise ValueError(f"{slot} is {name!r}; this model has weights for {', '.join(have)}")
        other.order = other._order()
        return other

    def active(self) -> dict[str, Context]:
        """The contexts in use, by slot."""
        chosen = {slot: name for slot, name in self.selection.items() if slot != "refinement" and name != "none"}
        return {slot: self.contexts[slot][name] for slot, name in chosen.items()}

    def _order(self) -> CodingOrder:
        """Slices in turn if a component looks at earlier slices, and the pattern that the components need.

        A raster codes all channels of a position at once, so it has one slice.
        """
        on = list(self.active().values())
        if sum(isinstance(context, InformedContext) for context in on) > 1:
            raise ValueError("two components weigh what they find by a distribution without them; only one can")
        in_turn = any(context.in_turn for context in on) or (self.refined_context and len(self.refinements) > 0)
        patterns = {context.pattern for context in on if context.pattern}
        if len(patterns) > 1:
            raise ValueError(f"these components need different coding orders: {' and '.join(sorted(patterns))}")
        pattern = patterns.pop() if patterns else "whole"
        if "wavefront" in (pattern, self.full_order.pattern):
            pattern = "wavefront"
        if pattern == "wavefront":
            return replace(self.full_order, in_turn=False, pattern=pattern, slices=(self.full_order.M,))
        if in_turn and not self.full_order.in_turn and len(self.full_order.slices) > 1:
            raise ValueError("a component looks at earlier slices, and they are coded at once: make the order in_turn")
        return replace(self.full_order, in_turn=in_turn, pattern=pattern)

    def run(
        self,
        hyper: Tensor,
        visit: Visit,
        steps: list[Step] | None = None,
        fill: float = 0.0,
        known: Tensor | None = None,
    ) -> Tensor:
        """The coding loop: refined y_hat (B, M, H, W).

        Parameters
        ----------
        hyper : Tensor
            Phi_h, (B, C_h, H, W).
        visit : callable
            Called with each step and the parameters of its distribution (mu, log sigma; of a mixture these with a last
            dimension for its components, and their weights); returns the step's y_hat.
        steps : list of Step, optional
            By default those of the order.
        fill : float
            Stands in undecoded places (NaN: poison test).
        known : Tensor, optional
            (B, M, H, W) to start from instead of undecoded places, for `forward`'s teacher forcing.
        """
        order = self.order
        B, _, H, W = hyper.shape
        canvas = hyper.new_full((B, order.M, H, W), fill) if known is None else known.clone()
        seen = Seen(order, canvas, hyper)
        refined = canvas
        refinement = self.selection["refinement"]
        for step in order.steps(H, W, hyper.device) if steps is None else steps:
            channels = order.step_channels(step)
            seen.decode(step, channels, visit(step, *self.distribution(seen, step)))
            if refined is not seen.y_hat:
                refined = step.put(refined, channels, step.take(seen.y_hat[:, channels]))
            if refinement != "none":
                for i in step.slices:
                    residual = self.refinements[refinement](seen, i, step)
                    if residual is not None:
                        tap("refinement", residual, slice=i, part=step.part.name)
                        refined = _add(refined, order.channels(i), residual)
                if self.refined_context:
                    seen.y_hat = refined
        return refined

    def distribution(self, seen: Seen, step: Step) -> tuple[Tensor, ...]:
        """Parameters of the distribution of the step's symbols, each (B, channels of the step, n) or (..., n, K)."""
        found = [self._slice_distribution(seen, i, step) for i in step.slices]
        return tuple(torch.cat(of_slices, 1) for of_slices in zip(*found, strict=True))

    def _slice_distribution(self, seen: Seen, i: int, step: Step) -> tuple[Tensor, ...]:
        kind = step.kind
        features = {"hyper": seen.hyper_at(step)}
        informed: dict[str, InformedContext] = {}
        for slot, context in self.active().items():
            if isinstance(context, InformedContext):
                informed[slot] = context
            elif kind in context.kinds and context.width(i):
                features[slot] = context(seen, i, step)
        uninformed = dict(features)
        asked: list[Prior] = []

        def prior() -> Prior:
            if not asked:
                asked.append(self.g_ep.prior(kind, i, uninformed))
            return asked[0]

        trust: Tensor | None = None
        for slot, knowing in informed.items():
            found = knowing.inform(seen, i, step, prior, self.gaussian)
            if found is not None:
                features[slot], trust = found
        if asked and features.keys() == uninformed.keys():  # nothing came of it: that was the distribution
            return asked[0].mu, asked[0].log_sigma
        parameters: tuple[Tensor, ...] = self.g_ep(kind, i, features, trust, asked[0] if asked else None)
        return parameters

    def forward(self, y: Tensor, hyper: Tensor) -> Coded:
        """Estimate: likelihood of every symbol of `y` (B, M, H, W), noisy in training, exact in evaluation.

        A raster whose symbols do not depend on the entropy model (plain rounding) is known before the loop, and its
        context looks at nothing but the past: all positions are then estimated in one step (teacher forcing).
        """
        B, M, H, W = y.shape
        likelihoods = torch.empty_like(y) if not torch.is_grad_enabled() else y.new_zeros(y.shape)
        maps = {name: torch.empty_like(y) for name in SHOWN} if recording() else {}

        def visit(step: Step, *parameters: Tensor) -> Tensor:
            nonlocal likelihoods
            channels = self.order.step_channels(step)
            y_step = step.take(y[:, channels])
            y_hat = self.gaussian.quantise(y_step, parameters[0])
            p = self.gaussian.bits_likelihood(y_step, y_hat, *parameters)
            likelihoods = step.put(likelihoods, channels, p)
            if maps:
                shown = *self.gaussian.moments(*parameters), *self.gaussian.coded_moments(*parameters), y_hat
                for name, value in zip(maps, shown, strict=True):
                    maps[name] = step.put(maps[name], channels, value)
            return y_hat

        if self.order.pattern == "wavefront" and self.gaussian.rounding == "plain":
            known = self.gaussian.quantise(y, torch.zeros_like(y))
            y_hat = self.run(hyper, visit, [self.order.at_once()], known=known)
        else:
            y_hat = self.run(hyper, visit)
        for name, value in maps.items():
            tap(name, value)
        return Coded(y_hat, likelihoods)

    def compress(self, y: Tensor, hyper: Tensor) -> tuple[list[bytes], Tensor]:
        """Code `y`: one string per image, and the refined y_hat (float64) that the decoder will have, to the last bit.

        `hyper` must be exact already.
        """
        from lic_lab.entropy.rans import Encoder

        encoders = [Encoder(self.gaussian) for _ in range(len(y))]

        def visit(step: Step, *parameters: Tensor) -> Tensor:
            y_hat = self.gaussian.quantise(step.take(y[:, self.order.step_channels(step)]), parameters[0])
            symbols, tables = self.gaussian.symbols(y_hat, *parameters)
            for encoder, s, t in zip(encoders, step.stream(symbols), step.stream(tables), strict=True):
                encoder.add(s, t)
            return y_hat

        if self.gaussian.rounding == "plain":
            y = torch.round(y)  # symbols that do not depend on mu are those of the float32 estimate
        with exact():
            y_hat = self.run(hyper.double(), visit)
        return [encoder.finish() for encoder in encoders], y_hat

    def decompress(self, strings: list[bytes], hyper: Tensor) -> Tensor:
        """Refined y_hat (B, M, H, W), float64, from the strings; `hyper` must be exact."""
        from lic_lab.entropy.rans import Decoder

        symbols_of_one = self.order.M * hyper.shape[2] * hyper.shape[3]
        decoders = [Decoder(self.gaussian, string, symbols_of_one) for string in strings]

        def visit(step: Step, *parameters: Tensor) -> Tensor:
            tables, centre = (step.stream(t) for t in self.gaussian.tables(*parameters))
            symbols = [decoder.next(t, c.shape) for decoder, t, c in zip(decoders, tables, centre, strict=True)]
            return step.stream(centre + torch.stack(symbols).to(centre.device))

        with exact():
            return self.run(hyper.double(), visit)


def _add(grid: Tensor, channels: slice, residual: Tensor) -> Tensor:
    grid = grid.clone()
    grid[:, channels] += residual
    return grid

"""The contract of a context component."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.order import Step
from lic_lab.entropy.seen import Seen


class Context(nn.Module):
    """Decoded-so-far in, features out.

    A subclass sets `parts`, the parts of the coding order it contributes to, and implements `width` and
    `forward`. It may look at nothing but `seen`; `tests/test_causality.py` proves that it does not.
    """

    parts: ClassVar[tuple[str, ...]] = ("all", "anchor", "nonanchor", "wavefront")
    informed: ClassVar[bool] = False  # whether it is an `InformedContext`

    def width(self, i: int) -> int:
        """Channels of the features for slice `i`; 0 when the component has nothing to say there."""
        raise NotImplementedError

    @property
    def pattern(self) -> str | None:
        """Pattern of the coding order that the component needs, as its parts tell; None if any will do."""
        if "anchor" in self.parts:
            return None
        return "checkerboard" if "nonanchor" in self.parts else "wavefront"

    @property
    def in_turn(self) -> bool:
        """Whether it looks at earlier slices, so that slices have to be coded in turn."""
        return self.width(0) == 0

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        """Features (B, width(i), n) for slice `i` at the positions of `step`."""
        raise NotImplementedError


class InformedContext(Context):
    """A context that also reads the distribution which the others give, as the global reference's confidence does."""

    informed = True

    def inform(
        self, seen: Seen, i: int, step: Step, prior: tuple[Tensor, Tensor], gaussian: Gaussian
    ) -> tuple[Tensor, Tensor] | None:
        """Features (B, width(i), n) and how far to trust them, 0 to 1, (B, 1, n); None where it has nothing to say.

        `prior` is mu and log sigma, each (B, S, n), of the step's symbols without this context. It is called for every
        step, those outside `parts` too, so that it may remember.
        """
        raise NotImplementedError

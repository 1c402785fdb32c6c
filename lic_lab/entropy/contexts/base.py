"""The contract of a context component."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.order import KINDS, Step
from lic_lab.entropy.seen import Seen


class Context(nn.Module):
    """Decoded-so-far in, features out.

    A subclass declares what it needs of the coding order and implements `width` and `forward`. It may look at nothing
    but `seen`; `tests/test_causality.py` proves that it does not.

    Attributes
    ----------
    pattern : str or None
        Pattern of the coding order that it needs; None if any will do.
    in_turn : bool
        Whether it looks at earlier slices, so that slices have to be coded in turn.
    kinds : tuple of str
        Kinds of step to which it contributes, see `Part.kind`.
    """

    pattern: ClassVar[str | None] = None
    in_turn: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = KINDS

    def width(self, i: int) -> int:
        """Channels of the features for slice `i`; 0 when the component has nothing to say there."""
        raise NotImplementedError

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        """Features (B, width(i), n) for slice `i` at the positions of `step`."""
        raise NotImplementedError

    def patched(self, height: int, width: int) -> bool:
        """Whether a latent of this size is processed in patches that don't see each other."""
        return False

    def start(self, scale: Tensor) -> None:
        """Divide the weights that read the latent by its `scale` (M,), so that training starts at unit spread."""


class Prior(NamedTuple):
    """The distribution of a step's symbols before informed contexts have spoken: mu and log sigma, (B, S, n) each.

    `output` is what the network gave, where g_ep goes on from it.
    """

    mu: Tensor
    log_sigma: Tensor
    output: Tensor | None = None


class Informed(NamedTuple):
    """What an informed context found: features (B, width(i), n), and how far to trust them, 0 to 1, (B, 1, n)."""

    features: Tensor
    trust: Tensor


class InformedContext(Context):
    """A context that also reads the distribution which the others give, as the global reference's confidence does."""

    def inform(self, seen: Seen, i: int, step: Step, prior: Callable[[], Prior], gaussian: Gaussian) -> Informed | None:
        """What it found for slice `i` at the positions of `step`; None where it has nothing to say.

        `prior` gives the distribution of the step's symbols without this context, computed when first asked for. It is
        called for every step, whatever its kind, so that it may remember.
        """
        raise NotImplementedError

"""What the taps of a run showed: the records that were wanted, and the names of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from lic_lab.layers.tap import record

Keep = Callable[[str], bool]
KEPT_POSITIONS = 6144  # up to this many latent positions (1.5 megapixels) taps are kept by default


class Record(NamedTuple):
    """One tap as it was passed.

    Attributes
    ----------
    name : str
    where : dict
        What tells it from others of the name, such as ``slice``; an attention map's ``places``.
    value : array
        Of the one image there is, without the batch.
    """

    name: str
    where: dict[str, Any]
    value: NDArray[Any]


@dataclass
class Taps:
    """Of one part of a run: of g_a and the hyperprior, of the entropy model or of g_s.

    Attributes
    ----------
    records : list of Record
        In the order in which they were passed.
    names : dict
        Each name that was passed, and whether it was kept.
    """

    records: list[Record] = field(default_factory=list)
    names: dict[str, bool] = field(default_factory=dict)

    def take(self, keep: Keep, name: str, value: Tensor, where: dict[str, Any]) -> None:
        """Note a tap, and keep what it shows if it is wanted."""
        self.names[name] = keep(name)
        if self.names[name]:
            self.records.append(Record(name, {k: _plain(v) for k, v in where.items()}, array(value[0])))

    def lack(self, keep: Keep) -> bool:
        """Whether something was passed and not kept that `keep` asks for."""
        return any(keep(name) and not kept for name, kept in self.names.items())

    def kept(self, keep: Keep) -> list[Record]:
        """The records that `keep` asks for."""
        return [found for found in self.records if keep(found.name)]

    @property
    def nbytes(self) -> int:
        """Memory that the records take."""
        return sum(found.value.nbytes for found in self.records)


@contextmanager
def taps(keep: Keep) -> Iterator[Taps]:
    """Take down every tap that is passed within the ``with`` block."""
    found = Taps()
    with record(lambda name, value, where: found.take(keep, name, value, where)):
        yield found


def by_default(positions: int) -> Keep:
    """What is kept unless told otherwise: everything of a latent of up to `KEPT_POSITIONS`, else nothing."""
    small = positions <= KEPT_POSITIONS
    return lambda name: small


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor, wherever it lies, as an array; numbers that numpy doesn't have as float32."""
    tensor = tensor.detach().cpu()
    found: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found


def _plain(value: Any) -> Any:
    """Tensors as arrays; what is made only for those who keep it, made."""
    if isinstance(value, Tensor):
        return array(value)
    return value() if callable(value) else value

"""Taps: named observation points declared inside the modules.

A module calls ``tap("local.attention", weights, slice=i)`` where it has something worth seeing. While no
recorder is active the call costs one context-variable look-up; while one is, the value is handed to
it. So a new component brings its own picture, and nothing is patched in from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

Recorder = Callable[[str, Tensor, dict[str, Any]], None]
_recorder: ContextVar[Recorder | None] = ContextVar("lic_lab_recorder", default=None)


def tap(name: str, value: Tensor, **where: Any) -> Tensor:
    """Return `value` unchanged; show it to the active recorder, if there is one.

    Parameters
    ----------
    name : str
        Dotted name of what is seen, for example ``"intra.attention"``.
    value : Tensor
        The tensor; any shape.
    **where
        What tells repeated calls apart: ``slice=2``, ``part="anchor"``.
    """
    recorder = _recorder.get()
    if recorder is not None:
        recorder(name, value, where)
    return value


def recording() -> bool:
    """Whether a recorder is active, for values that are only worth computing when somebody looks."""
    return _recorder.get() is not None


@contextmanager
def record(recorder: Recorder) -> Iterator[None]:
    """Hand every tapped tensor to `recorder` within the ``with`` block.

    >>> import torch
    >>> seen = {}
    >>> with record(lambda name, value, where: seen.update({name: value.sum().item()})):
    ...     _ = tap("y", torch.ones(3))
    >>> seen
    {'y': 3.0}
    """
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)

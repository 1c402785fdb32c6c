"""Long work beside the kernel's loop, so that the page stays alive and a click can stop it.

A kernel answers the page's messages one after another, so a run that is computed within the answer to one can't hear
the next. Here the run has a thread of its own; what it shows is handed to the loop that handles the page's messages, so
only one thread ever touches a widget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread
from typing import Any

from torch.overrides import TorchFunctionMode


class Stopped(Exception):
    """The work was stopped."""


class Stop(TorchFunctionMode):
    """Context in whose thread every operation of torch first looks whether to go on.

    So the work ends within the operation that runs when it is asked to, wherever it is: between two layers of a
    transform or two steps of the coding loop.

    Raises
    ------
    Stopped
        In the thread that is in the context, once somebody has called `ask`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = Event()

    def ask(self) -> None:
        """Stop the work; from any thread, and at once."""
        self._asked.set()

    def check(self) -> None:
        """Raise if it is to stop."""
        if self._asked.is_set():
            raise Stopped

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.check()
        return func(*args, **(kwargs or {}))


class Desk:
    """Where a thread hands over what is to be shown."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._context = loop, copy_context()  # the context says to the kernel whose message is answered

    def hand(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call `action` in the loop's thread, after what was handed over before."""
        try:
            self._loop.call_soon_threadsafe(action, *arguments, context=self._context.copy())
        except RuntimeError:  # the page was closed and its loop with it, so no other thread answers it
            action(*arguments)


def desk() -> Desk | None:
    """The desk of the loop that answers the page, if what runs now is the answer to one of its messages.

    There is none in a cell or a script, where who asks for a run expects to have it on the next line.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return Desk(loop) if _answers_a_widget() else None


def _answers_a_widget() -> bool:
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    header = (kernel.get_parent("shell") or {}).get("header", {})
    return header.get("msg_type") == "comm_msg"


def start(work: Callable[[], None]) -> None:
    """Run `work` in a thread, which does not keep the process alive."""
    Thread(target=work, name="lic_lab", daemon=True).start()

"""Whatever goes wrong is shown in words, and the widget goes on: the last line of defence.

What a user can do something about is a sentence. Anything else is a fault of ours or of a library: it is a sentence
too, and its traceback opens on a click, for a report.
"""

from __future__ import annotations

import dis
import traceback
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

from lic_lab.codecs.weights import WeightsError
from lic_lab.image import ImageError

OURS = __name__.partition(".")[0]


def in_words(error: BaseException) -> str:
    """What went wrong and what to do."""
    if isinstance(error, MemoryError) or _torch_has_no_memory(error):
        return "There is not enough memory for this; take a smaller picture"
    if _told(error):
        return str(error)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"Something went wrong that was not foreseen ({said})"


def error_html(what: str | BaseException, after: str = "") -> str:
    """An error on the page, in words, with `after` behind them; empty words take the last one away.

    Below the words of an error that nobody foresaw is its traceback, folded.
    """
    if not what:
        return ""
    words = what if isinstance(what, str) else in_words(what)
    words = f"{words}. {after}" if after else words
    folded = ""
    if isinstance(what, BaseException) and not (_told(what) or _torch_has_no_memory(what)):
        lines = "".join(traceback.format_exception(what))
        folded = f"<details><summary>Details for a report</summary><pre>{escape(lines)}</pre></details>"
    return f'<div class="lab-message lab-error" role="alert">{escape(words)}{folded}</div>'


def guarded(action: Callable[..., Any], say: Callable[[Exception], None]) -> Callable[..., None]:
    """`action`, for an observer or a thread: an error in it, whatever it is, is handed to `say`.

    What interrupts (KeyboardInterrupt, SystemExit) passes.
    """

    @wraps(action)
    def run(*arguments: Any, **named: Any) -> None:
        try:
            action(*arguments, **named)
        except Exception as error:
            say(error)

    return run


def _told(error: BaseException) -> bool:
    """Whether the error's own words are for the user: the system's about files, and those raised by this package."""
    if isinstance(error, ImageError | WeightsError | OSError | MemoryError):
        return True
    return isinstance(error, ValueError | TypeError) and _ours(error)


def _ours(error: BaseException) -> bool:
    """Whether a ``raise`` of this package raised it, and not a function that it called, in C or Python."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    frame = last.tb_frame
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == OURS and dis.opname[frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


def _torch_has_no_memory(error: BaseException) -> bool:
    """Torch's allocator on the CPU says it by a RuntimeError."""
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)

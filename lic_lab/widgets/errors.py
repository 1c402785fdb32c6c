"""Errors that a user may meet and can do something about: they are shown in words, and the widget goes on."""

from __future__ import annotations

from html import escape

from lic_lab.codecs.weights import WeightsError
from lic_lab.image import ImageError

EXPECTED = (ImageError, WeightsError, ValueError, OSError, MemoryError)


def in_words(error: BaseException) -> str:
    """What went wrong and what to do."""
    if isinstance(error, MemoryError):
        return "There is not enough memory for this; take a smaller picture"
    return str(error)


def error_html(words: str) -> str:
    """An error on the page; empty words take the last one away."""
    return f'<div class="lab-message lab-error" role="alert">{escape(words)}</div>' if words else ""

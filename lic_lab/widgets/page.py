"""What the widgets that stand alone in a notebook have in common: whatever goes wrong in them is shown in words."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from lic_lab.widgets.errors import error_html, guarded


class Page(widgets.VBox):
    """Base of the workbench and the explorers.

    Attributes
    ----------
    message : HTML
        What went wrong, or what was done.
    """

    def __init__(self) -> None:
        self.message = widgets.HTML()
        super().__init__()
        self.add_class("lic-lab")

    def say(self, words: str) -> None:
        """What was done; empty words take the last message away."""
        self.message.value = f'<div class="lab-message" role="status">{escape(words)}</div>' if words else ""

    def complain(self, what: str | BaseException, after: str = "") -> None:
        """An error, as of `errors.error_html`."""
        self.message.value = error_html(what, after)

    def listen(self, widget: Any, action: Callable[[Any], Any], name: str = "value") -> None:
        """Call `action` with each change of a widget's trait, guarded. All observers of a page are set here."""
        widget.observe(guarded(action, self.complain), name)

    def on_click(self, button: widgets.Button, action: Callable[[Any], Any]) -> None:
        """Call `action` with each click, guarded."""
        button.on_click(guarded(action, self.complain))

"""What the widgets that stand alone in a notebook have in common: errors in words, a still in the saved file."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from lic_lab.widgets.errors import error_html, guarded
from lic_lab.widgets.still import Keeper, Still


class Page(widgets.VBox):
    """Base of the workbench and the explorers.

    Attributes
    ----------
    message : HTML
        What went wrong, or what was done.
    """

    def __init__(self) -> None:
        self.message = widgets.HTML()
        self._keeper = Keeper(self.still)
        super().__init__()
        self.add_class("lic-lab")

    def fill(self, *children: widgets.Widget) -> None:
        """Put these on the page."""
        rule = widgets.HTML(f"<style>{self._keeper.css}</style>")
        rule.layout.display = "none"
        self.children = [*children, rule]

    def still(self) -> Still:
        """What the widget shows now, for the saved notebook."""
        raise NotImplementedError

    def changed(self) -> None:
        """To be called when the widget shows something else; after each event it is."""
        self._keeper.changed()

    def _ipython_display_(self) -> None:
        self._keeper.publish(self._repr_mimebundle_())

    def say(self, words: str) -> None:
        """What was done; empty words take the last message away."""
        self.message.value = f'<div class="lab-message" role="status">{escape(words)}</div>' if words else ""

    def complain(self, what: str | BaseException, after: str = "") -> None:
        """An error, as of `errors.error_html`."""
        self.message.value = error_html(what, after)

    def listen(self, widget: Any, action: Callable[[Any], Any], name: str = "value") -> None:
        """Call `action` with each change of a widget's trait, guarded. All observers of a page are set here."""
        widget.observe(self.answering(action), name)

    def on_click(self, button: widgets.Button, action: Callable[[Any], Any]) -> None:
        """Call `action` with each click, guarded."""
        button.on_click(self.answering(action))

    def answering(self, action: Callable[..., Any]) -> Callable[..., None]:
        """`action`, guarded, after which the page may show something else."""

        def answer(*event: Any) -> None:
            try:
                action(*event)
            finally:
                self.changed()

        return guarded(answer, self.complain)

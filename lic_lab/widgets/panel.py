"""A tab of the workbench: computed only while it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import ipywidgets as widgets

from lic_lab.widgets.errors import error_html, guarded
from lic_lab.widgets.view import Scene

ALL = -1  # in menus of slices and heads; a menu shows None as nothing chosen


class Panel(widgets.VBox):
    """Base of the tabs.

    Attributes
    ----------
    title, tooltip : str
        Of the tab.
    message : HTML
        What went wrong with the last choice in one of the tab's own menus.
    """

    title: ClassVar[str] = ""
    tooltip: ClassVar[str] = ""

    def __init__(self, children: Any = ()) -> None:
        self.message = widgets.HTML()
        super().__init__([self.message, *children])
        self.add_class("lab-panel")
        self.scene: Scene | None = None
        self.drawn: Callable[[], None] = lambda: None  # called when one of the tab's own menus has changed it

    def show(self, scene: Scene) -> None:
        """A run, a pin or the opening of the tab: draw everything."""
        self.scene = scene
        self.message.value = ""
        self.draw(scene)

    def draw(self, scene: Scene) -> None:
        """Draw everything."""
        raise NotImplementedError

    def move(self, scene: Scene) -> None:
        """The cursor moved: draw what depends on it. By default nothing does."""
        self.scene = scene

    def redraw(self, change: Any = None) -> None:
        """One of the tab's own menus changed."""
        if self.scene is not None:
            guarded(self.show, self.say)(self.scene)
            self.drawn()

    def say(self, error: Exception) -> None:
        """Show what went wrong, here in the tab."""
        self.message.value = error_html(error)


def menu(label: str, options: Any, tooltip: str, **more: Any) -> widgets.Dropdown:
    """A labelled menu with a tooltip."""
    found = widgets.Dropdown(options=options, description=label, tooltip=tooltip, **more)
    found.description_allow_html = False
    found.add_class("lab-menu")
    return found


def row(*children: widgets.Widget, kind: str = "lab-row") -> widgets.HBox:
    """Widgets side by side."""
    found = widgets.HBox(children)
    found.add_class(kind)
    return found

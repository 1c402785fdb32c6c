"""What stays of a widget in a saved notebook: its last state as a picture, and the line that makes it live again.

A notebook holds where a widget lives, not what it showed. Opened with a new kernel, on GitHub or by nbconvert, it would
show "model not found" and no more. So a second output follows the widget's, with the state as HTML and PNG. Where the
widget is live, a rule that comes with it hides that output; where it is not, a rule of the output hides the widget's.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any
from uuid import uuid4

import ipywidgets as widgets
from matplotlib.figure import Figure
from PIL import Image

from lic_lab.widgets.errors import in_words

QUIET = 1.0  # seconds without a change before the picture is made anew: it must not slow down what is live
SIDE = 640  # pixels of a picture's longer side
GAP = 16
VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass
class Still:
    """What a widget showed last.

    Attributes
    ----------
    title : str
    facts : sequence of (str, str)
        Names and values, in words.
    pictures : sequence of (str, bytes)
        Titles and PNGs; side by side.
    code : str
        What makes it live again.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    pictures: Sequence[tuple[str, bytes]]
    code: str


class Keeper:
    """Publishes a widget with its still, and the still anew when the widget has changed.

    Parameters
    ----------
    make : callable
        Returns the `Still` of now.

    Attributes
    ----------
    rule : HTML
        To be put into the widget: where it is on a page, the widget is live and the still is hidden.
    """

    def __init__(self, make: Callable[[], Still]) -> None:
        self._make, self._id = make, f"lic-lab-{uuid4().hex[:12]}"
        self._published = False
        self._waiting: asyncio.TimerHandle | None = None
        self.rule = widgets.HTML(f"<style>{_output(self._id)} {{ display: none; }}</style>")
        self.rule.layout.display = "none"

    def publish(self, view: dict[str, Any] | None) -> None:
        """Display a widget, of which `view` is the mimebundle, and its still."""
        from IPython.display import display

        words = "A widget of lic_lab; what it showed last is below."
        display({**(view or {}), "text/plain": words}, raw=True)
        if os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):  # a page that nobody saves
            return
        display(self.bundle(), raw=True, display_id=self._id)
        self._published = True

    def changed(self) -> None:
        """The widget shows something else: make the still anew once it has been quiet."""
        if not self._published:
            return
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            self._waiting = asyncio.get_running_loop().call_later(QUIET, self._renew)
        except RuntimeError:  # no loop, so no page that waits
            self._renew()

    def bundle(self) -> dict[str, str]:
        """The still as HTML, PNG and text, for whatever shows the notebook."""
        try:
            still = self._make()
        except Exception as error:  # a picture of what there is must not end what is live
            still = Still("lic_lab", [("", in_words(error))], [], "")
        facts = [f"{name}: {value}".removeprefix(": ") for name, value in still.facts]
        call = f"To make it live again run its cell (Shift + Enter), or {still.code}"
        found = {
            "text/html": self._html(still, call),
            "text/plain": "\n".join([still.title, *facts, call]),
        }
        if still.pictures:
            found["image/png"] = base64.b64encode(_side_by_side([png for _, png in still.pictures])).decode()
        return found

    def _renew(self) -> None:
        from IPython.display import update_display

        self._waiting = None
        update_display(self.bundle(), display_id=self._id, raw=True)

    def _html(self, still: Still, call: str) -> str:
        dead = f".jp-OutputArea-child:not(:has(.lic-lab)):has(+ .jp-OutputArea-child [data-still='{self._id}'])"
        facts = "".join(
            f"<span style='margin-right:18px'>{escape(name)} <b>{escape(value)}</b></span>"
            for name, value in still.facts
        )
        figures = "".join(
            f"<figure style='margin:0;display:inline-block;vertical-align:top;margin-right:{GAP}px'>"
            f"<figcaption>{escape(title)}</figcaption><img alt='{escape(title, quote=True)}' style='max-width:100%' "
            f"src='data:image/png;base64,{base64.b64encode(reduced(png)).decode()}'></figure>"
            for title, png in still.pictures
        )
        return (
            f"<style>{dead} {{ display: none; }}</style>"
            f"<div class='lic-lab-still' data-still='{self._id}'>"
            f"<p><b>{escape(still.title)}</b><br>{facts}</p>{figures}"
            f"<p>This is a picture of its last state. {escape(call)}</p></div>"
        )


def reduced(png: bytes) -> bytes:
    """A PNG at `SIDE` pixels a side at most."""
    image = Image.open(BytesIO(png)).convert("RGB")
    if max(image.size) <= SIDE:
        return png
    image.thumbnail((SIDE, SIDE))
    return _png(image)


def figure_png(figure: Figure) -> bytes:
    """A figure for a still."""
    out = BytesIO()
    figure.savefig(out, format="png", dpi=90)
    return out.getvalue()


def _side_by_side(pngs: Sequence[bytes]) -> bytes:
    images = [Image.open(BytesIO(reduced(png))).convert("RGB") for png in pngs]
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    out = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        out.paste(image, (left, 0))
        left += image.width + GAP
    return _png(out)


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _output(name: str) -> str:
    """CSS of the output that a still is in: in JupyterLab with its margin, elsewhere alone."""
    inner = f"[data-still='{name}']"
    return f".jp-OutputArea-child:has({inner}), {inner}"

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

from matplotlib.figure import Figure
from PIL import Image

from lic_lab.widgets.errors import in_words

QUIET = 1.0  # seconds without a change before the picture is made anew: it must not slow down what is live
SIDE = 480  # pixels of a picture's longer side
GAP = 16


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
        What makes it live again, in this state; empty if its cell does.
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
    css : str
        To be put on the page by the widget: where it is, the widget is live and the still is hidden.
    """

    def __init__(self, make: Callable[[], Still]) -> None:
        self._make, self._id = make, f"lic-lab-{uuid4().hex[:12]}"
        self._published = False
        self._waiting: asyncio.TimerHandle | None = None
        inner = f"[data-still='{self._id}']"
        self.css = f".jp-OutputArea-child:has({inner}), {inner} {{ display: none; }}"  # JupyterLab's has a margin

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
        found = {"text/html": self._html(still), "text/plain": "\n".join([still.title, *facts, still.code])}
        if still.pictures:
            found["image/png"] = base64.b64encode(_side_by_side([png for _, png in still.pictures])).decode()
        return found

    def _renew(self) -> None:
        from IPython.display import update_display

        self._waiting = None
        update_display(self.bundle(), display_id=self._id, raw=True)

    def _html(self, still: Still) -> str:
        dead = (
            f".jp-OutputArea-child:not(:has(.lic-lab, .lab-live)):has(+ .jp-OutputArea-child [data-still='{self._id}'])"
        )
        facts = "".join(
            f"<span style='margin-right:18px'>{escape(name)} <b>{escape(value)}</b></span>"
            for name, value in still.facts
        )
        figures = "".join(
            f"<figure style='margin:0;display:inline-block;vertical-align:top;width:48%'>"
            f"<figcaption>{escape(title)}</figcaption><img alt='{escape(title, quote=True)}' style='max-width:95%' "
            f"src='data:image/png;base64,{base64.b64encode(reduced(png)).decode()}'></figure>"
            for title, png in still.pictures
        )
        return (
            f"<style>{dead} {{ display: none; }}</style>"
            f"<div class='lic-lab-still' data-still='{self._id}'>"
            f"<p>A picture of what was shown last. To make it live again run its cell (Shift + Enter)"
            f"{f', or <code>{escape(still.code)}</code> for this very state' if still.code else ''}.</p>"
            f"<p><b>{escape(still.title)}</b><br>{facts}</p>{figures}</div>"
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
    figure.savefig(out, format="png", dpi=140)
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

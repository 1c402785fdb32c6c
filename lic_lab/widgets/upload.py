"""A file from the user's computer, of any size: the page sends it in pieces."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import anywidget
import traitlets

from lic_lab.widgets.errors import guarded

LIMIT = 1 << 29  # bytes: more than any file of as many pixels as `image.read` takes needs
LONGEST_NAME = 100  # letters that are kept of a name; file systems take 255 bytes


class Upload(anywidget.AnyWidget):
    """A button that asks for a file.

    Jupyter's and Voila's servers drop the connection at a message of more than 10 MB, so the file comes in pieces of a
    megabyte, each answered before the next is sent; the button says how far it is, and a click on it stops. A file
    beyond `limit` is refused by the page, in words, before anything is sent.

    Parameters
    ----------
    receive : callable
        Given the path of a file that came whole. It is deleted afterwards.
    complain : callable
        Given what went wrong on the way, an exception.

    Attributes
    ----------
    value : tuple of dict
        A program, which has no page to choose a file on, puts one in here: its ``name`` and ``content``, as
        `ipywidgets.FileUpload` has them. It is empty again afterwards.
    """

    _esm = (Path(__file__).parent / "upload.js").read_text()
    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    limit = traitlets.Int(LIMIT).tag(sync=True)
    value = traitlets.Tuple()

    def __init__(self, receive: Callable[[Path], None], complain: Callable[[Exception], None], **traits: Any) -> None:
        super().__init__(**traits)
        self._receive, self._complain = receive, complain
        self._id = ""  # of the file that is coming
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file: BinaryIO | None = None
        self.observe(guarded(self._put, self._failed), "value")
        self.on_msg(lambda widget, content, buffers: guarded(self._take, self._failed)(content, buffers))

    def _take(self, content: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        """A piece came; answer whether the next may."""
        if content["offset"] == 0:  # a new file; one that was stopped on the way is forgotten
            self._forget()
            self._id = content["id"]
            self._begin(content)
        elif content["id"] != self._id or self._file is None:
            self.send({"id": content["id"], "goes_on": False})
            return
        assert self._file is not None
        if self._file.tell() != content["offset"]:
            raise OSError(f"a piece of {content['name']} was lost on the way; upload it again")
        self._file.write(buffers[0])
        whole = self._file.tell() >= content["size"]
        self.send({"id": content["id"], "goes_on": True})
        if whole:
            path = Path(self._file.name)
            self._file.close()
            try:
                self._receive(path)
            finally:
                self._forget()

    def _put(self, change: dict[str, Any]) -> None:
        files = self.value
        self.value = ()
        for file in files:
            content = bytes(file["content"])
            self._take({"id": "", "name": file["name"], "size": len(content), "offset": 0}, [memoryview(content)])

    def _begin(self, content: dict[str, Any]) -> None:
        if content["size"] > self.limit:
            raise OSError(f"{content['name']} has {content['size']} bytes; up to {self.limit} can be uploaded")
        self._folder = tempfile.TemporaryDirectory(prefix="lic_lab-")
        self._file = (Path(self._folder.name) / file_name(content["name"])).open("wb")

    def _failed(self, error: Exception) -> None:
        self.send({"id": self._id, "goes_on": False})
        self._forget()
        self._complain(error)

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._id, self._file, self._folder = "", None, None


def file_name(name: str) -> str:
    """A name that every file system takes, with the end of the one given.

    >>> file_name("holiday.png"), file_name("../../a" + 300 * "é" + ".png")[-6:], file_name("..")
    ('holiday.png', 'éé.png', 'upload')
    """
    last = name.replace("\\", "/").rpartition("/")[2].replace("\0", "").strip()
    kept = last[-LONGEST_NAME:]
    while len(os.fsencode(kept)) > 2 * LONGEST_NAME:
        kept = kept[1:]
    return kept if kept.strip(".") else "upload"

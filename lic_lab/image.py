"""Images at the door: anything a user brings becomes one RGB tensor, or an error that says what to do."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lic_lab.pillow import BOMBS, ImageError, pixels, pixels_of_file, told

LARGEST = 24_000_000  # pixels; beyond it `read` refuses
MEMORY_PER_PIXEL = 250  # bytes at the peak of a trace: 210 at 8.3 megapixels, more below (benchmarks/memory.py)

ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.-]+://|(https?|ftp|file|s3|gs):/|data:")  # a Path has one slash left
HALF_A_LEVEL = 0.5 / 255  # floats may overshoot by what rounding takes back
LEVEL_OF_HALF_FLOATS = 0.07  # by which 255 steps miss whole levels in float16

Source = str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[Any] | Tensor


@dataclass(frozen=True)
class Picture:
    """An image and how it came to be RGB.

    Attributes
    ----------
    x : Tensor
        Float (1, 3, H, W), multiples of 1/255 in [0, 1].
    name : str
    notes : tuple of str
        What was converted on the way, in words that follow on "the image was ...".
    """

    x: Tensor
    name: str
    notes: tuple[str, ...] = ()


def read_image(source: Source) -> Tensor:
    """The image as float (1, 3, H, W) in [0, 1]. See `read` for what is taken and refused."""
    return read(source).x


def read(source: Source | Picture, name: str | None = None, largest: int = LARGEST) -> Picture:
    """Read an image: the one way in, for the lab, the command line and training.

    Parameters
    ----------
    source : path, bytes, binary file, PIL image, array or tensor
        A file may be of any kind that Pillow reads, and so may its content. Arrays and tensors are (H, W), (H, W, C) or
        (C, H, W), or one such image as a batch; C is 1 (grey), 2 (grey, alpha), 3 or 4 (RGB, alpha); uint8, uint16,
        bool or float in [0, 1]. Where C could be either, it is an array's last and a tensor's first.
    name : str, optional
        What to call it, by default as its file.
    largest : int
        In pixels.

    Notes
    -----
    Whatever is not RGB in 8 bits is made so, and `Picture.notes` says it: transparency is laid over white, a colour
    profile converted to sRGB's colours, grey repeated, more than 8 bits rounded, a picture turned as EXIF says, the
    first taken of several frames or pages. Nothing is scaled: numbers whose white is not known are refused.

    Raises
    ------
    ImageError
        When it can't be read or used; the message names it, and says why and what to do. With more than `largest`
        pixels it states the memory that they would take.
    """
    if isinstance(source, Picture):
        return source

    def check(width: int, height: int) -> None:
        _check_size(height, width, called, largest)

    if isinstance(source, Tensor):
        called = name or "tensor"
        return _from_array(_array_of(source, called), called, check, channels_last=False)
    if isinstance(source, Image.Image):
        called = name or os.path.basename(getattr(source, "filename", "")) or "image"
        check(*source.size)
        found, notes = pixels(source, called)
        return _from_array(found, called, check, notes)
    if isinstance(source, str | PathLike):
        path = _existing(source)
        called = name or path.name
        with _opened(path) as file:
            found, notes = _pixels_of_file(file, called, check, largest)
        return _from_array(found, called, check, notes)
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        called = name or os.path.basename(str(getattr(source, "name", ""))) or "image"
        content: Any = source
        if hasattr(content, "read"):
            with told(called):
                if getattr(content, "seekable", bool)():
                    content.seek(0)  # as Pillow does: it may just have been written
                content = content.read()
        if not isinstance(content, bytes | bytearray | memoryview):
            raise ImageError(f"{called} gives a {type(content).__name__} and no bytes; open the file with 'rb'")
        found, notes = _pixels_of_file(BytesIO(content), called, check, largest)
        return _from_array(found, called, check, notes)
    called = name or "array"
    if not hasattr(source, "__array__"):
        raise ImageError(
            f"an image is a path, bytes, a PIL image, an array or a tensor; this is a {type(source).__name__}"
        )
    return _from_array(_array_of(source, called), called, check)


def _existing(given: str | PathLike[str]) -> Path:
    """The path of a file that is there."""
    text = os.fsdecode(given)
    if not text:
        raise ImageError("the image's path is empty")
    if ADDRESS.match(text) and not os.path.exists(text):
        raise ImageError(f"{text[:80]} is an address and no file: download the image and give its path")
    path = Path(text)
    try:
        if text.startswith("~") and not path.exists():
            path = path.expanduser()
        kind = os.stat(path).st_mode
    except RuntimeError:
        raise ImageError(f"there is no file {path}, and nobody has the home that it begins with") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"there is no file {path}; check the path{_beginning(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{text[:80]} can't be an image's path ({reason}); check the path") from None
    if stat.S_ISDIR(kind):
        raise ImageError(f"{path} is a folder; give an image in it")
    if not stat.S_ISREG(kind):
        raise ImageError(f"{path} is no file that can be read from the start; give an image's path")
    return path


def _beginning(path: Path) -> str:
    """Where a relative path begins."""
    try:
        return "" if path.is_absolute() else f", which begins in {Path.cwd()}"
    except OSError:  # the folder is gone
        return ""


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ImageError(f"{path} can't be opened ({error.strerror}); check that you may read it") from None


def _pixels_of_file(
    file: IO[bytes], name: str, check: Callable[[int, int], None], largest: int
) -> tuple[NDArray[Any], list[str]]:
    try:
        return pixels_of_file(file, name, check)
    except BOMBS as error:  # Pillow's own limit, which is the process's and stays as it is
        found = re.search(r"\d+", str(error))
        raise _too_large(name, "", int(found[0]) if found else largest + 1, largest) from None


def pad(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat the last row and column of (B, 3, H, W) until it has this height and width."""
    return torch.nn.functional.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]), mode="replicate")


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) in [0, 1] to uint8 (H, W, 3), rounded and clipped."""
    pixels: NDArray[np.uint8] = (x[0].clamp(0, 1) * 255).round().byte().cpu().permute(1, 2, 0).numpy()
    return pixels


def _check_size(H: int, W: int, name: str, largest: int) -> None:
    if min(H, W) < 1:
        raise ImageError(f"{name} is {W} x {H} pixels, so there is nothing to see; each side must have at least one")
    if H * W > largest:
        raise _too_large(name, f"{W} x {H} = ", H * W, largest)


def _too_large(name: str, sides: str, count: int, largest: int) -> ImageError:
    return ImageError(
        f"{name} is {sides}{count / 1e6:.0f} megapixels and would take about {count * MEMORY_PER_PIXEL / 2**30:.0f} GB "
        f"of memory; the limit is {largest / 1e6:.0f} megapixels: crop or shrink it first"
    )


def _array_of(source: Any, name: str) -> NDArray[Any]:
    """A tensor's or any other library's numbers as NumPy's, wherever they are."""
    try:
        if isinstance(source, Tensor):
            source = source.detach().cpu().resolve_conj().resolve_neg()
            if source.dtype == torch.bfloat16:
                source = source.float()
            return source.numpy()
        if np.ma.is_masked(source):
            raise ValueError("some of its values are masked: fill them")
        return np.asarray(source)
    except Exception as error:  # libraries refuse in their own ways: sparse, without storage, on their own device
        reason = (str(error) or type(error).__name__).splitlines()[0][:120].rstrip(".")
        raise ImageError(f"{name} can't be taken as an array ({reason}); give a NumPy array") from None


def _laid_out(a: NDArray[Any], name: str, channels_last: bool) -> NDArray[Any]:
    """(H, W, C)."""
    given = a.shape
    if a.ndim == 4 and a.shape[0] == 1:
        a = a[0]
    elif a.ndim == 4 and 0 not in given:
        raise ImageError(f"{name} has shape {given}, {given[0]} images; give one, such as the first by [0]")
    if a.ndim == 2:
        return a[:, :, None]
    last, first = a.ndim == 3 and 1 <= a.shape[2] <= 4, a.ndim == 3 and 1 <= a.shape[0] <= 4
    if last and (channels_last or not first):
        return a
    if first:
        return np.moveaxis(a, 0, 2)
    raise ImageError(f"{name} has shape {given}; give (H, W), (H, W, C) or (C, H, W) with 1 to 4 channels")


def _in_levels(a: NDArray[Any], name: str, notes: list[str]) -> NDArray[np.float32]:
    """From 0 to 255, not rounded."""
    kind, bits = a.dtype.kind, 8 * a.dtype.itemsize
    if kind == "u" and bits == 8:
        return a.astype(np.float32)
    if kind == "u" and bits == 16:
        notes.append("in 16 bits, taken at 8")
        return a * np.float32(255 / 65535)
    if kind == "b":
        notes.append("black and white")
        return a * np.float32(255)
    if kind == "f":
        low, high = a.min(), a.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ImageError(f"{name} has values that are not finite (NaN or infinite); floats must lie in [0, 1]")
        if low < -HALF_A_LEVEL or high > 1 + HALF_A_LEVEL:
            remedy = "divide by 255" if low >= 0 and 1.5 < high <= 255 else "clip them if they overshoot, or scale them"
            raise ImageError(f"{name} has values from {low:.3g} to {high:.3g}; floats must lie in [0, 1]: {remedy}")
        levels: NDArray[np.float32] = (a * 255.0).clip(0, 255).astype(np.float32)
        if np.abs(levels - np.round(levels)).max() > LEVEL_OF_HALF_FLOATS:
            notes.append("in floats, rounded to 8 bits")
        return levels
    found = f", from {a.min()} to {a.max()}" if kind in "iu" else ""
    raise ImageError(
        f"{name} is {a.dtype}{found}, whose white is not known; give uint8 (0 to 255), uint16 (0 to 65535) or float in "
        "[0, 1]: .astype(numpy.uint8) turns 0 to 255 into uint8"
    )


def _from_array(
    a: NDArray[Any], name: str, check: Callable[[int, int], None], found: Sequence[str] = (), channels_last: bool = True
) -> Picture:
    a, notes = _laid_out(a, name, channels_last), list(found)
    check(a.shape[1], a.shape[0])
    if a.dtype != np.uint8 or a.shape[2] != 3:  # which most are, and large ones should not take four times the memory
        a = _in_levels(a, name, notes)
    if a.shape[2] in (2, 4):
        alpha = a[:, :, -1:] / 255
        if (alpha < 1).any():
            notes.append("transparent, laid over white")
        a = a[:, :, :-1] * alpha + 255 * (1 - alpha)
    if a.shape[2] == 1:
        a = a.repeat(3, 2)
        if "black and white" not in notes:
            notes.append("grey, taken as RGB")
    with torch.inference_mode(False):  # it may be used outside
        x = torch.from_numpy(np.round(a).astype(np.uint8)).permute(2, 0, 1)[None].contiguous().float() / 255
    return Picture(x, name, tuple(notes))


__all__ = ["LARGEST", "ImageError", "Picture", "Source", "pad", "read", "read_image", "to_uint8"]

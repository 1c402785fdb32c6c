"""Images at the door: anything a user brings becomes one RGB tensor, or an error that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

LARGEST = 24_000_000  # pixels; beyond it `read` refuses
MEMORY_PER_PIXEL = 250  # bytes at the peak of a trace: 192 at 8.3 megapixels, more below (benchmarks/memory.py)

Source = str | Path | Image.Image | NDArray[Any] | Tensor


class ImageError(ValueError):
    """An image that cannot be used, with the reason and the remedy."""


@dataclass(frozen=True)
class Picture:
    """An image and how it came to be RGB.

    Attributes
    ----------
    x : Tensor
        Float (1, 3, H, W), multiples of 1/255 in [0, 1].
    name : str
    notes : tuple of str
        What was converted on the way, in words for the user.
    """

    x: Tensor
    name: str
    notes: tuple[str, ...] = ()


def read_image(source: Source) -> Tensor:
    """The image as float (1, 3, H, W) in [0, 1]. See `read` for what is taken and refused."""
    return read(source).x


def read(source: Source, name: str | None = None, largest: int = LARGEST) -> Picture:
    """Read a path, PIL image, array or tensor.

    Arrays are (H, W), (H, W, 1 to 4), uint8, uint16 or float in [0, 1]; tensors (3, H, W) or (1, 3, H, W), float in
    [0, 1] or uint8. Grey becomes RGB, 16 bits become 8, an alpha channel is laid over white; `Picture.notes` says so.

    Raises
    ------
    ImageError
        When the file is missing or no image, the shape or range is wrong, there is no pixel, or the image has more than
        `largest` pixels (the message states the memory it would take).
    """
    if isinstance(source, Tensor):
        return _from_tensor(source, name or "tensor", largest)
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array", largest)
    if isinstance(source, Image.Image):
        return _from_pil(source, name or "image", largest)
    if not isinstance(source, str | Path):
        raise ImageError(f"an image is a path, a PIL image, an array or a tensor; this is a {type(source).__name__}")
    path = Path(source).expanduser()
    if not path.is_file():
        raise ImageError(f"there is no file {path}; check the path (the notebook's folder is {Path.cwd()})")
    Image.MAX_IMAGE_PIXELS = None  # the size is checked below, before any pixel is decoded
    try:
        with Image.open(path) as image:
            return _from_pil(image, name or path.name, largest)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ImageError(
            f"{path.name} can't be read as an image ({error}); give a PNG, JPEG, WebP or TIFF file"
        ) from None


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
        need = H * W * MEMORY_PER_PIXEL / 2**30
        raise ImageError(
            f"{name} is {W} x {H} = {H * W / 1e6:.0f} megapixels and would take about {need:.0f} GB of memory; "
            f"the limit is {largest / 1e6:.0f} megapixels: crop or shrink it first"
        )


def _from_pil(image: Image.Image, name: str, largest: int) -> Picture:
    _check_size(image.height, image.width, name, largest)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(np.asarray(image).astype(np.uint16 if image.mode != "F" else np.float32), name, largest)
    if image.mode == "RGB":
        return _picture(np.asarray(image), name, [])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _from_array(np.asarray(image.convert("RGBA")), name, largest)
    note = "grey, taken as RGB" if image.mode in ("L", "1") else f"{image.mode}, converted to RGB"
    return _picture(np.asarray(image.convert("RGB")), name, [note])


def _from_array(a: NDArray[Any], name: str, largest: int) -> Picture:
    if a.ndim == 2:
        a = a[:, :, None]
    if a.ndim != 3 or not 1 <= a.shape[2] <= 4:
        raise ImageError(f"{name} has shape {a.shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    _check_size(a.shape[0], a.shape[1], name, largest)
    notes: list[str] = []
    if a.dtype == np.bool_:
        a = a.astype(np.float32)
    if a.dtype == np.uint16:
        a, notes = a / np.float32(65535), [*notes, "16 bits, taken at 8"]
    elif np.issubdtype(a.dtype, np.floating):
        if not np.isfinite(a).all() or a.min() < 0 or a.max() > 1:
            raise ImageError(f"{name} has values from {a.min():.3g} to {a.max():.3g}; floats must lie in [0, 1]")
    elif a.dtype == np.uint8:
        a = a / np.float32(255)
    else:
        raise ImageError(f"{name} is {a.dtype}; give uint8, uint16 or float in [0, 1]")
    if a.shape[2] in (2, 4):
        alpha = a[:, :, -1:]
        if (alpha < 1).any():
            notes.append("transparent, laid over white")
        a = a[:, :, :-1] * alpha + (1 - alpha)
    if a.shape[2] == 1:
        a, notes = a.repeat(3, 2), [*notes, "grey, taken as RGB"]
    return _picture(np.round(a * 255).astype(np.uint8), name, notes)


def _from_tensor(x: Tensor, name: str, largest: int) -> Picture:
    if x.dim() == 4 and x.shape[0] == 1:
        x = x[0]
    if x.dim() != 3 or x.shape[0] not in (1, 3):
        raise ImageError(f"{name} has shape {tuple(x.shape)}; give one image, (3, H, W) or (1, 3, H, W)")
    return _from_array(x.detach().cpu().permute(1, 2, 0).numpy(), name, largest)


def _picture(pixels: NDArray[np.uint8], name: str, notes: list[str]) -> Picture:
    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].contiguous().float() / 255
    return Picture(x, name, tuple(notes))

"""Maps and pictures as PNG bytes, fast enough to follow a menu.

No matplotlib figure is built here: a map goes through a colour table, each latent position becomes a square of pixels,
and the file is written with little compression. Maps alone are palette images, one byte a pixel. Text (titles, ends
of the colour bar) belongs to the widget, where a screen reader finds it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
Pixels = NDArray[np.uint8]

DIFFERENCE = "RdBu_r"  # diverging: blue below the middle, red above
COLOURS = 252  # of a palette's 256 entries; the others are the hidden ground, its hatching and the mark's two tones
_HIDDEN, _HATCH, _BLACK, _WHITE = 252, 253, 254, 255
_TONES = ((205, 205, 205), (150, 150, 150), (0, 0, 0), (255, 255, 255))


@lru_cache(maxsize=16)
def palette(colours: str) -> Pixels:
    """Colour table (256, 3) of a matplotlib map: 252 colours, then hidden ground, hatching, black and white.

    Raises
    ------
    ValueError
        When matplotlib has no map of that name.
    """
    if colours not in matplotlib.colormaps:
        raise ValueError(
            f"colours is {colours!r}, which matplotlib does not know; use 'viridis', 'cividis' or, for differences, "
            f"{DIFFERENCE!r}"
        )
    table = matplotlib.colormaps[colours](np.linspace(0, 1, COLOURS))[:, :3]
    found: Pixels = np.concatenate([np.round(255 * table), _TONES]).astype(np.uint8)
    found.setflags(write=False)
    return found


def image_png(pixels: Pixels) -> bytes:
    """A picture, uint8 (H, W, 3) or grey (H, W), as PNG."""
    return _encode(_check_pixels("pixels", pixels, grey=True))


def boxes_png(
    pixels: Pixels,
    boxes: Sequence[tuple[tuple[float, float, float, float], str]],
    joined: bool = False,
    thick: int | None = None,
) -> bytes:
    """A picture with coloured boxes on it, each within black, so that it shows on any ground.

    Parameters
    ----------
    pixels : array
        uint8 (H, W, 3).
    boxes : sequence
        (top, bottom, left, right) in pixels, ends exclusive, and a colour such as "#CC79A7". The frame is drawn around
        the box, so that all of its pixels stay; what lies outside the picture is cut off.
    joined : bool
        Draw a line from each box to the next, between their centres and outside of them.
    thick : int, optional
        Pixels of the frame; by default two or more, with the size of the picture.

    Raises
    ------
    ValueError
        For pixels that are no picture, a box without area, or a colour that has no name.
    """
    _check_pixels("pixels", pixels)
    thick = thick or max(2, round(max(pixels.shape[:2]) / 250))
    original = Image.fromarray(pixels)
    canvas = original.copy()
    draw = ImageDraw.Draw(canvas)
    if joined and len(boxes) > 1:
        centres = [((left + right) / 2, (top + bottom) / 2) for (top, bottom, left, right), _ in boxes]
        for width, of in ((thick + 2, (0, 0, 0)), (thick, (255, 255, 255))):
            draw.line(centres, fill=of, width=width)
    for (top, bottom, left, right), colour in boxes:
        if not (top < bottom and left < right):
            raise ValueError(f"a box is {(top, bottom, left, right)}; give (top, bottom, left, right), rising")
        t, b, le, r = round(top), round(bottom), round(left), round(right)
        seen = max(le, 0), max(t, 0), min(r, original.width), min(b, original.height)
        if seen[0] < seen[2] and seen[1] < seen[3]:
            canvas.paste(original.crop(seen), seen)  # the line ends at the box
        tone = ImageColor.getrgb(colour)
        for frame, shade in ((thick + 1, (0, 0, 0)), (thick, tone)):
            draw.rectangle((le - frame, t - frame, r + frame - 1, b + frame - 1), outline=shade, width=frame)
    return _encode(np.asarray(canvas))


def heatmap_png(
    values: Array,
    *,
    size: tuple[int, int],
    low: float | None = None,
    high: float | None = None,
    colours: str = "viridis",
    mark: tuple[int, int] | None = None,
    over: Pixels | None = None,
    opacity: float = 0.6,
    hidden: Array | None = None,
    cell: tuple[float, float] | None = None,
) -> bytes:
    """A map (h, w) as PNG, each position a rectangle of pixels.

    Parameters
    ----------
    values : array
        (h, w). NaN is hidden.
    size : (int, int)
        Height and width of the result in pixels.
    low, high : float, optional
        Values of the first and last colour; by default the least and greatest visible value.
    colours : str
        Name of a matplotlib map.
    mark : (int, int), optional
        Row and column of a position to outline.
    over : array, optional
        Picture uint8 (H, W, 3) of size `size` to lay the map over; it is shown in grey.
    opacity : float
        Of the map over the picture, 0 to 1.
    hidden : array, optional
        Boolean (h, w): positions without colour. They are hatched; over a picture, the picture is dimmed there.
    cell : (float, float), optional
        Height and width of a position in pixels of the result. By default the map fills `size`. The last positions of a
        latent reach beyond the picture, so a map over a picture needs `Trace.geometry.cell` here, times the scale at
        which the picture is shown: what lies beyond is cut off.

    Returns
    -------
    bytes
        PNG: a palette image, or RGB over a picture.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, infinite values, or a mark outside the map.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values have shape {values.shape}; give one map (h, w)")
    if np.isinf(values).any():
        raise ValueError("values contain infinity; a colour needs a finite value (or NaN for hidden)")
    if min(size) < 1:
        raise ValueError(f"size is {size}; give height and width in pixels, both at least 1")
    if cell is None:
        cell = size[0] / values.shape[0], size[1] / values.shape[1]
    if not min(cell) > 0:
        raise ValueError(f"cell is {cell}; give height and width of a position in pixels, both above 0")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it must lie in 0 to 1")
    unseen = np.isnan(values)
    if hidden is not None:
        if np.shape(hidden) != values.shape:
            raise ValueError(f"hidden has shape {np.shape(hidden)}, values {values.shape}; they must be the same")
        unseen = unseen | np.asarray(hidden, dtype=bool)
    if mark is not None and not (0 <= mark[0] < values.shape[0] and 0 <= mark[1] < values.shape[1]):
        raise ValueError(f"mark is {mark}; rows are 0 to {values.shape[0] - 1}, columns 0 to {values.shape[1] - 1}")

    index = _indices(values, unseen, low, high)
    rows, columns = (_cells(n, count, side) for n, count, side in zip(size, values.shape, cell, strict=True))
    drawn = index[rows][:, columns]
    if unseen.any():
        _hatch(drawn, cell[0])
    if over is None:
        if mark is not None:
            _outline(drawn, mark, cell, (_BLACK, _WHITE))
        return _encode(drawn, palette(colours))
    over = _check_pixels("over", over)
    if over.shape[:2] != tuple(size):
        raise ValueError(
            f"over is {over.shape[0]} x {over.shape[1]} pixels, size {size[0]} x {size[1]}; give them alike"
        )
    blended = _blend(over, drawn, palette(colours), opacity)
    if mark is not None:
        _outline(blended, mark, cell, (0, 255))
    return _encode(blended)


def figure_png(figure: Figure, dpi: float = 110) -> bytes:
    """A matplotlib figure as PNG at `dpi` pixels per inch (tens of milliseconds)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    before = figure.dpi
    figure.set_dpi(dpi)
    try:
        canvas.draw()
        return _encode(np.asarray(canvas.buffer_rgba())[:, :, :3])
    finally:
        figure.set_dpi(before)


def _indices(values: Array, unseen: Array, low: float | None, high: float | None) -> Pixels:
    """Palette index of each value; the ends clip."""
    seen = values[~unseen]
    least = float(seen.min()) if low is None and seen.size else (low or 0.0)
    greatest = float(seen.max()) if high is None and seen.size else (high or 0.0)
    span = greatest - least
    if span < 0:
        raise ValueError(f"low is {least:.4g} and high {greatest:.4g}; low must not be above high")
    scaled = np.zeros_like(values) if span == 0 else (np.where(unseen, least, values) - least) / span
    index = np.round(np.clip(scaled, 0, 1) * (COLOURS - 1)).astype(np.uint8)
    index[unseen] = _HIDDEN
    return index


def _cells(pixels: int, count: int, side: float) -> NDArray[np.intp]:
    """Which of `count` positions each pixel belongs to; the last position goes on where the map ends too early."""
    return np.minimum((np.arange(pixels) + 0.5) // side, count - 1).astype(np.intp)


def _hatch(drawn: Pixels, side: float) -> None:
    """One diagonal through each hidden position, in place."""
    H, W = drawn.shape
    period = max(4, round(side))
    line = np.arange(H + W) % period == period - 1
    diagonals = np.lib.stride_tricks.sliding_window_view(line, W)[:H]  # [i, j] is line[i + j]
    drawn[diagonals & (drawn == _HIDDEN)] = _HATCH


def _blend(over: Pixels, drawn: Pixels, table: Pixels, opacity: float) -> Pixels:
    """The map over the picture, which turns grey so that hue means value. Hidden positions dim the picture."""
    weight = [round(255 * opacity)] * COLOURS + [165, 165, 0, 0]
    dim = table.copy()
    dim[[_HIDDEN, _HATCH]] = [[25], [120]]
    colour, mask = Image.fromarray(drawn), Image.fromarray(np.array(weight, np.uint8)[drawn])
    colour.putpalette(dim.tobytes())
    return np.array(Image.composite(colour.convert("RGB"), Image.fromarray(over).convert("L").convert("RGB"), mask))


def _outline(drawn: Pixels, mark: tuple[int, int], cell: tuple[float, float], tones: tuple[int, int]) -> None:
    """A white frame in a black one around a position, in place: one of them shows on any ground."""
    H, W = drawn.shape[:2]
    (top, bottom), (left, right) = ((round(m * s), round((m + 1) * s)) for m, s in zip(mark, cell, strict=True))
    thick = max(1, round(min(cell) / 8))
    for grow, tone in ((2 * thick, tones[0]), (thick, tones[1])):
        t, b, le, r = max(top - grow, 0), min(bottom + grow, H), max(left - grow, 0), min(right + grow, W)
        if t >= H or le >= W:  # the position lies beyond the picture
            return
        drawn[t : min(t + thick, b), le:r] = tone
        drawn[max(b - thick, t) : b, le:r] = tone
        drawn[t:b, le : min(le + thick, r)] = tone
        drawn[t:b, max(r - thick, le) : r] = tone


def _check_pixels(name: str, pixels: Array, grey: bool = False) -> Pixels:
    fits = (pixels.ndim == 3 and pixels.shape[2] == 3) or (grey and pixels.ndim == 2)
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise ValueError(f"{name} is {pixels.dtype} {pixels.shape}; give uint8 (H, W, 3)")
    return pixels


def _encode(pixels: Pixels, table: Pixels | None = None) -> bytes:
    """PNG of RGB (H, W, 3), grey (H, W) or, with a colour table (n, 3), palette indices (H, W).

    Pillow tries five filters on each row, which takes three times as long as all the rest. Here each row is the
    difference from the row above: zero within a latent position, small in photographs.
    """
    H, W = pixels.shape[:2]
    rows = pixels.reshape(H, -1)
    filtered = np.empty((H, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # filter "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    kind = 2 if pixels.ndim == 3 else 3 if table is not None else 0
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, kind, 0, 0, 0))]
    if table is not None:
        chunks.append((b"PLTE", table.tobytes()))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )

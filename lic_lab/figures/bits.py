"""Where the bits go: on the picture, between two runs, over the parts of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lic_lab import analysis
from lic_lab.figures import maps
from lic_lab.figures.style import COLUMN, GREY, OTHER, PAGE, SIGNED, new, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace

UNIT = "bits per latent position"


@styled
def bit_map(trace: Trace, over_image: bool = False, high: float | None = None, width: float | None = None) -> Figure:
    """Bits of y at each latent position, beside the picture or over it.

    Parameters
    ----------
    trace : Trace
    over_image : bool
        Lay the map over the picture (in grey), for one column.
    high : float, optional
        Bits of the last colour; give the same to figures that are to be compared.
    width : float, optional
        Of the figure in inches: by default a page beside the picture, a column over it.
    """
    pixels = maps.size(trace.x)
    panels = 1 if over_image else 2
    width = width or (COLUMN if over_image else PAGE)
    figure, axes = maps.row(pixels, width, panels)
    maps.picture(axes[0], trace.x, grey=over_image)
    if not over_image:
        axes[0].set_title("image")
    high = float(trace.on_picture(trace.bit_map).max()) if high is None else high
    cell = trace.geometry.cell
    drawn = maps.latent_map(axes[-1], trace.bit_map, pixels, cell, 0, high, opacity=0.65 if over_image else 1)
    axes[-1].set_title(f"y: {trace.bpp['y']:.3f} bpp")
    maps.label_first(axes)
    maps.colour_bar(axes[-1], drawn, UNIT)
    return figure


@styled
def bit_map_difference(a: Trace, b: Trace, limit: float | None = None, width: float = PAGE) -> Figure:
    """Bits of run `b` less bits of run `a` on the same image: blue where `b` is cheaper.

    Parameters
    ----------
    a, b : Trace
        Of one codec at one rate point, with other components; the title says what else differs, if anything does.
    limit : float, optional
        Bits of the strongest colours.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        When the runs are not on the same image, or their positions are not the same parts of it.
    """
    if not same_picture(a, b):
        raise ValueError("a and b are runs on different images; trace the same image twice")
    if not same_positions(a, b):
        raise ValueError(
            f"a has {a.geometry.latent} latent positions of {a.geometry.cell} pixels and b {b.geometry.latent} of "
            f"{b.geometry.cell}, so they can't be compared position by position; show each with bit_map"
        )
    values = analysis.difference(a.bit_map, b.bit_map)
    limit = limit or float(np.abs(b.on_picture(values)).max()) or 1.0
    pixels = maps.size(a.x)
    differs = unlike(a, b)
    figure, (left, right) = maps.row(pixels, width, 2, top=0.4 if differs else 0.26)
    maps.picture(left, a.x)
    left.set_title("image")
    drawn = maps.latent_map(right, values, pixels, b.geometry.cell, -limit, limit, SIGNED)
    title = f"B \N{MINUS SIGN} A: {b.bpp['y'] - a.bpp['y']:+.4f} bpp in y".replace("-", "\N{MINUS SIGN}")
    right.set_title(f"{title}\nwith other {differs}" if differs else title)
    maps.label_first((left, right))
    maps.colour_bar(right, drawn, f"difference ({UNIT})")
    return figure


@styled
def bit_split(trace: Trace, width: float = COLUMN) -> Figure:
    """Bits per pixel of z and of each slice, by part of the spatial pattern (anchor and non-anchor).

    Parameters
    ----------
    trace : Trace
    width : float
        Of the figure in inches.
    """
    matrix = analysis.split(trace.bits, trace.parts, trace.slices) / trace.pixels
    names = [f"slice {i}" for i in range(len(trace.slices))] if len(trace.slices) > 1 else ["y"]
    has_z = trace.z_bits.size > 0
    labels = (["z"] if has_z else []) + names
    figure = new(width, 0.75 + 0.2 * len(labels) + (0.2 if len(trace.parts) > 1 else 0))
    ax = figure.subplots()
    rows = np.arange(len(labels))
    if has_z:
        ax.barh(0, trace.bpp["z"], color="0.55")
    colours = colormaps[OTHER](np.linspace(0.15, 0.85, max(2, len(trace.parts))))
    start = np.zeros(len(names))
    for part, values, colour in zip(trace.parts, matrix.T, colours, strict=False):
        ax.barh(
            rows[int(has_z) :],
            values,
            left=start,
            color=colour,
            label=f"{_PART_NAMES.get(part, part)}: {values.sum():.3f} bpp",
        )
        start = start + values
    ends = ([trace.bpp["z"]] if has_z else []) + start.tolist()
    total = trace.bpp["total"] or 1.0
    for row, end in zip(rows, ends, strict=True):
        ax.annotate(
            f"{100 * end / total:.1f} %",
            (end, row),
            (2, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=GREY,
        )
    ax.set(yticks=rows, yticklabels=labels, xlabel="rate (bits per pixel)", ylabel="part of the stream")
    ax.set_xlim(0, 1.18 * max(*ends, 1e-9))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_title(f"total {trace.bpp['total']:.3f} bpp")
    if len(trace.parts) > 1:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(trace.parts))
    return figure


def same_picture(a: Trace, b: Trace) -> bool:
    """Whether two runs are on the same pixels, whatever the files were called."""
    return a.x is b.x or np.array_equal(a.x, b.x)


def same_positions(a: Trace, b: Trace) -> bool:
    """Whether a latent position of one run lies where it lies in the other."""
    return a.geometry.latent == b.geometry.latent and a.geometry.cell == b.geometry.cell


def same_symbols(a: Trace, b: Trace) -> bool:
    """Whether two runs code the same symbols, so that the difference of their bits is the entropy model's alone."""
    if a.symbols is None or b.symbols is None:  # unknown, as of some models of others
        return False
    return a.symbols is not None and b.symbols is not None and np.array_equal(a.symbols, b.symbols)


def unlike(a: Trace, b: Trace) -> str:
    """What else than components differs between two runs, in words; nothing when they code the same symbols.

    >>> unlike(a, b)  # doctest: +SKIP
    'rate points (2 and 3)'
    """
    found = []
    if not same_picture(a, b):
        found.append(f"pictures ({a.picture.name} and {b.picture.name})")
    if a.codec != b.codec:
        found.append(f"codecs ({a.codec} and {b.codec})")
    if a.quality != b.quality:
        found.append(f"rate points ({a.quality} and {b.quality})")
    if not found and not same_symbols(a, b):
        found.append("symbols" if a.symbols is not None and b.symbols is not None else "symbols, for all that is known")
    return ", ".join(found)


_PART_NAMES = {"anchor": "anchors", "nonanchor": "non-anchors", "all": "all positions", "wavefront": "raster"}

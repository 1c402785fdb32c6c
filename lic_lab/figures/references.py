"""Targets and their global references on the picture, and how alike and how sure they are (Qian et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures import maps
from lic_lab.figures.style import GREY, PAGE, new, styled

if TYPE_CHECKING:
    from lic_lab.tracing import References, Trace

Array = NDArray[Any]
# Okabe and Ito's purple and yellow, the paper's colours: far apart in hue and in lightness.
TARGET, REFERENCE = "#CC79A7", "#F0E442"
_AROUND = 2  # latent positions shown around a target in its close-up


@styled
def reference_pairs(
    trace: Trace,
    targets: Sequence[tuple[int, int]] | Array | None = None,
    by: str = "similarity",
    window: int = 3,
    slice: int = 0,
    width: float = PAGE,
) -> Figure:
    """Targets and the references found for them, on the picture and in close-up (Qian et al., Figures 1 and 8).

    A box says where a latent position lies; its receptive field is wider. The reference is the decoded position whose
    surroundings are most like the target's; S is their cosine, U the mean probability of the reference's symbols.

    Parameters
    ----------
    trace : Trace
        Of a codec with a global reference.
    targets : sequence of (int, int), optional
        Row and column of each target; by default four that `analysis.pick_pairs` finds.
    by : str
        What default targets are best in: "similarity" S, or "saving", the bits that the second stage, which has the
        reference, takes off what the first costs, among those of at least median S.
    window : int
        Side of the boxes in latent positions: 1 for the position itself, 3 for the window that is compared.
    slice : int
        Of the symbols, for codecs with several.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For a trace without references (or, by saving, without stages), a target without one or outside the latent, or
        an even window.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(
            f"window is {window}; give 1 (a position), 3 (the window that is compared) or another odd side"
        )
    found = trace.references(slice)
    pixels = maps.size(trace.x)
    if targets is None:
        targets = _best(trace, found, by, max(1, window // 2))
    pairs = [((int(i), int(j)), _source(found.source, (int(i), int(j)))) for i, j in targets]
    if not pairs:
        raise ValueError("there are no targets; give at least one (row, column) that has a reference")
    figure, ax, close_ups = _layout(pixels, width, len(pairs))
    maps.picture(ax, trace.x)
    tall, wide = trace.geometry.cell
    far = analysis.distances(found.source)
    for k, (target, source_of) in enumerate(pairs):
        centres = [((j + 0.5) * wide, (i + 0.5) * tall) for i, j in (target, source_of)]
        for w, colour in ((1.8, "black"), (0.8, "white")):
            ax.add_line(Line2D(*zip(*centres, strict=True), color=colour, linewidth=w, zorder=4))
        for position, colour in ((target, TARGET), (source_of, REFERENCE)):
            _box(ax, position, window, (tall, wide), colour)
            top = (position[0] - window // 2) * tall
            above = top > 0.05 * pixels[0]  # else the number would leave the picture
            ax.annotate(
                str(k + 1),
                ((position[1] + 0.5) * wide, top if above else top + window * tall),
                (0, 1.5 if above else -1.5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                color=colour,
                fontweight="bold",
                zorder=7,
                path_effects=[withStroke(linewidth=2, foreground="black")],
            )
        for axes, position, colour in zip(close_ups[k], (target, source_of), (TARGET, REFERENCE), strict=True):
            _close_up(axes, trace.x, position, window, (tall, wide), colour)
        close_ups[k][0].set_ylabel(f"pair {k + 1}", fontsize=7, labelpad=3)
        close_ups[k][1].annotate(
            _words(trace, found.similarity[target], found.confidence[target], target, far[target]),
            (1, 0.5),
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            linespacing=1.35,
        )
    for axes, name, colour in zip(close_ups[0], ("target", "reference"), (TARGET, REFERENCE), strict=True):
        axes.set_title(name, fontsize=7, pad=5)
        # A swatch, for the coloured word itself would be too light on white.
        axes.add_patch(
            Rectangle((0, 1.02), 1, 0.04, transform=axes.transAxes, clip_on=False, facecolor=colour, linewidth=0)
        )
    what = "one latent position" if window == 1 else f"{window} \N{MULTIPLICATION SIGN} {window} latent positions"
    ax.set_title(f"each box: {what}")
    return figure


@styled
def reference_maps(trace: Trace, slice: int = 0, width: float = PAGE) -> Figure:
    """Similarity S and confidence U of each position's reference, and their product, beside the picture (Figure 10).

    The product is what the reference's features are multiplied with (Figure 5). Positions without a reference, which
    is 0 there, are grey.

    Parameters
    ----------
    trace : Trace
        Of a codec with a global reference.
    slice : int
        Of the symbols, for codecs with several.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        For a trace without references.
    """
    found = trace.references(slice)
    pixels = maps.size(trace.x)
    figure, ((image, *axes),) = maps.grid(pixels, width, 1, 4)
    maps.picture(image, trace.x)
    image.set_title("image")
    similarity = np.clip(found.similarity, 0, 1)
    product = similarity * found.confidence
    panels = (
        ("similarity", similarity, "S, cosine (0 to 1)"),
        ("confidence", found.confidence, "U, probability (0 to 1)"),
        ("product", product, "S U (0 to 1)"),
    )
    for ax, (name, values, label) in zip(axes, panels, strict=True):
        ax.set_facecolor("0.8")
        drawn = maps.latent_map(ax, values, pixels, trace.geometry.cell, *_range(values))
        ax.set_title(name)
        maps.colour_bar_below(ax, ax, [drawn], label)
    maps.label_first((image, *axes))
    maps.few_ticks((image, *axes))
    return figure


def _best(trace: Trace, found: References, by: str, margin: int) -> Array:
    """Default targets."""
    if by not in ("similarity", "saving"):
        raise ValueError(f"by is {by!r}; it must be 'similarity' or 'saving'")
    source, score = found.source, found.similarity
    if by == "saving":
        if not trace.stages:
            raise ValueError(f"the codec {trace.codec!r} has no stages, so no saving is known; give by='similarity'")
        saved = analysis.difference(*(stage.bits.sum(0) for stage in trace.stages[1::-1]))
        middle = np.nanmedian(score) if np.isfinite(score).any() else 0
        score = np.where(score >= middle, saved, np.nan)
    targets = analysis.pick_pairs(source, score, margin=margin)
    # A small picture has no far ones.
    return targets if len(targets) else analysis.pick_pairs(source, score, distance=0, apart=0)


def _layout(pixels: tuple[int, int], width: float, pairs: int) -> tuple[Figure, Axes, list[list[Axes]]]:
    """The picture, and right of it a row of two close-ups and words for each pair; sizes in inches."""
    left, bottom, top, gap, words, edge = 0.52, 0.42, 0.3, 0.3, 1.12, 0.04
    free = width - left - gap - words - 3 * edge
    # The close-ups of all pairs stand as high as the picture, unless it is low.
    ratio = pixels[0] / pixels[1]
    wide = free / (1 + 2 * ratio / pairs)
    side = min(max((wide * ratio - (pairs - 1) * edge) / pairs, 0.5), 0.95)
    wide = free - 2 * side
    if wide < 1:
        raise ValueError(f"width is {width} inches, too little for a picture and close-ups; give {PAGE} (a page)")
    tall = wide * ratio
    column = pairs * side + (pairs - 1) * edge
    height = bottom + max(tall, column) + top
    figure = new(width, height)
    figure.set_layout_engine("none")
    ax = figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))
    close_ups = [
        [
            figure.add_axes(
                (
                    (left + wide + gap + j * (side + edge)) / width,
                    1 - (top + side + k * (side + edge)) / height,
                    side / width,
                    side / height,
                )
            )
            for j in range(2)
        ]
        for k in range(pairs)
    ]
    return figure, ax, close_ups


def _source(source: Array, target: tuple[int, int]) -> tuple[int, int]:
    """The reference of `target`."""
    h, w = source.shape[:2]
    if not (0 <= target[0] < h and 0 <= target[1] < w):
        raise ValueError(f"target is {target}; rows are 0 to {h - 1}, columns 0 to {w - 1}")
    i, j = source[target]
    if i < 0:
        raise ValueError(f"no reference was found for {target}; choose a target where `References.source` is not -1")
    return int(i), int(j)


def _words(trace: Trace, similarity: float, confidence: float, target: tuple[int, int], far: float) -> str:
    """S, U, distance and what the bits of a target become."""
    lines = [f"S {similarity:.2f}, U {confidence:.2f}", f"{far:.0f} positions apart"]
    if trace.stages:
        bits = [stage.bits[:, target[0], target[1]].sum() for stage in trace.stages]
        lines += [f"local: {bits[0]:.1f} bits"]
        lines += [f"{stage.name}: {b:.1f}" for stage, b in zip(trace.stages[1:], bits[1:], strict=True)]
    return "\n".join(lines)


def _box(ax: Axes, position: tuple[int, int], window: int, cell: tuple[float, float], colour: str) -> None:
    """Outline the window around a position, the colour within black."""
    tall, wide = cell
    corner = ((position[1] - window // 2) * wide, (position[0] - window // 2) * tall)
    for width, of in ((2.4, "black"), (1.3, colour)):
        ax.add_patch(
            Rectangle(corner, window * wide, window * tall, fill=False, edgecolor=of, linewidth=width, zorder=5)
        )


def _close_up(
    ax: Axes, pixels: Array, position: tuple[int, int], window: int, cell: tuple[float, float], colour: str
) -> None:
    """The surroundings of a position, large; white where they leave the picture."""
    reach = window // 2 + _AROUND
    tall, wide = cell
    top, left = (position[0] - reach) * tall, (position[1] - reach) * wide
    rows, columns = (2 * reach + 1) * tall, (2 * reach + 1) * wide
    t, b = max(0, round(top)), min(pixels.shape[0], round(top + rows))
    le, r = max(0, round(left)), min(pixels.shape[1], round(left + columns))
    if t < b and le < r:
        ax.imshow(pixels[t:b, le:r], extent=(le, r, b, t), interpolation="antialiased")
    ax.set(xlim=(left, left + columns), ylim=(top + rows, top), aspect="auto", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color(GREY)
    _box(ax, position, window, cell, colour)


def _range(values: Array) -> tuple[float, float]:
    """Colours' ends: the values' own, but for the lowest one in a hundred, which would leave no colours to the rest."""
    seen = values[np.isfinite(values)]
    if not seen.size:
        return 0.0, 1.0
    low, high = float(np.percentile(seen, 1)), float(seen.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)

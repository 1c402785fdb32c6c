"""Rate-distortion curves as all figures draw them: each told from the others by colour, marker and dashes.

    ours        solid and heavy, in colour
    learned     thin, in colour
    classical   thin and dashed, grey

Open markers are published points, filled ones were measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from lic_lab.figures.style import CYCLE, GREY

Array = NDArray[np.float64]

FAMILIES = ("ours", "learned", "classical")
METRICS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)"}  # what may stand over bpp, as an axis names it
MOST = 14  # curves in one figure

_COLOURS = CYCLE[:-1]  # black is left to the classical codecs
_GREYS = ("0.0", "0.35", "0.55")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_SOLID: tuple[float, ...] = ()
_DASHES: tuple[tuple[float, ...], ...] = ((5, 1.6), (1.2, 1.2), (5, 1.5, 1.2, 1.5), (8, 2), (3, 1.2, 1, 1.2, 1, 1.2))


@dataclass(frozen=True, eq=False)
class Curve:
    """Operating points of one codec.

    Attributes
    ----------
    name : str
        As the legend shows it.
    bpp, quality : array
        (n,) bits per pixel, and PSNR or MS-SSIM in dB; any order is taken and brought to rising bpp.
    family : {"ours", "learned", "classical"}
        How it is drawn.
    source : str
        Where published points come from; empty for points that were measured here.
    coder : (str, str), optional
        Codec and configuration whose cost this is: of a measured point, as `evaluation.coders.coder` takes them; of
        published ones without a configuration, in the published dimensions.
    trained : str
        What the weights of a learned codec were trained for, "MSE" or "MS-SSIM", where that is known. Legends say it
        where it differs between curves.

    Raises
    ------
    ValueError
        Without a name or points, for unequal lengths, rates that are not above 0 or values that are no numbers.

    Examples
    --------
    >>> Curve("WebP", [0.4, 0.2], [33, 30], family="classical").bpp.tolist()
    [0.2, 0.4]
    """

    name: str
    bpp: ArrayLike
    quality: ArrayLike
    family: str = "ours"
    source: str = ""
    coder: tuple[str, str] | None = None
    trained: str = ""

    def __post_init__(self) -> None:
        bpp, quality = (np.atleast_1d(np.asarray(a, dtype=float)) for a in (self.bpp, self.quality))
        if not self.name:
            raise ValueError("a curve has no name; give the codec's")
        if self.family not in FAMILIES:
            raise ValueError(f"{self.name} is of family {self.family!r}; it must be one of {', '.join(FAMILIES)}")
        if bpp.ndim != 1 or bpp.shape != quality.shape or not bpp.size:
            raise ValueError(
                f"{self.name} has rates of shape {bpp.shape} and qualities of shape {quality.shape}; give as many of "
                "both, (n,) with at least one"
            )
        if not (np.isfinite(bpp).all() and np.isfinite(quality).all() and (bpp > 0).all()):
            raise ValueError(
                f"{self.name} has points that are no numbers or need no bits: bpp {bpp.tolist()}, quality "
                f"{quality.tolist()}; leave them out (a lossless point has no PSNR)"
            )
        order = np.lexsort((quality, bpp))
        object.__setattr__(self, "bpp", bpp[order])
        object.__setattr__(self, "quality", quality[order])

    @property
    def published(self) -> bool:
        """Whether the points come from a publication."""
        return bool(self.source)

    @property
    def points(self) -> tuple[Array, Array]:
        """(bpp, quality), as `analysis.rate_saving` and `evaluation.bdrate` take them."""
        return np.asarray(self.bpp), np.asarray(self.quality)

    def rising(self) -> Curve:
        """Without the points that need more bits than another for no more quality: nobody would choose them."""
        bpp, quality = self.points
        last = np.append(np.diff(bpp) > 0, True)  # of points at one rate, the last is the best
        bpp, quality = bpp[last], quality[last]
        keep = quality > np.concatenate([[-np.inf], np.maximum.accumulate(quality)[:-1]])
        return replace(self, bpp=bpp[keep], quality=quality[keep])


def check(curves: Sequence[Curve], most: int = MOST) -> None:
    """Refuse no curves, more than can be told apart, and two of one name."""
    if not 1 <= len(curves) <= most:
        raise ValueError(f"there are {len(curves)} curves; give 1 to {most}, more can't be told apart")
    names = [curve.name for curve in curves]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"there are two curves named {', '.join(twice)}; give each its own name")


def labels(curves: Sequence[Curve]) -> list[str]:
    """What a legend calls each curve: with what it was trained for, where curves differ in that.

    >>> labels([Curve("a", 1, 30, trained="MSE"), Curve("b", 1, 30, trained="MS-SSIM"), Curve("c", 1, 30)])
    ['a, for MSE', 'b, for MS-SSIM', 'c']
    """
    several = len({curve.trained for curve in curves if curve.trained}) > 1
    endings = [f", for {curve.trained}" if several and curve.trained else "" for curve in curves]
    return [curve.name.removesuffix(ending) + ending for curve, ending in zip(curves, endings, strict=True)]


def looks(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """`Line2D` properties of each curve: colour, line, marker."""
    found, coloured, grey = [], 0, 0
    for curve in curves:
        if curve.family == "classical":
            n, grey = grey, grey + 1
            colour, dashes, width = _GREYS[n % len(_GREYS)], _DASHES[n % len(_DASHES)], 0.9
        else:
            n, coloured = coloured, coloured + 1
            again = n // len(_COLOURS)  # the second time round a colour comes dashed
            colour, dashes = _COLOURS[n % len(_COLOURS)], _SOLID if again == 0 else _DASHES[again - 1]
            width = 1.8 if curve.family == "ours" else 0.9
        found.append(
            {
                "color": colour,
                "linewidth": width,
                "linestyle": (0, dashes) if dashes else "-",
                "marker": _MARKS[n % len(_MARKS)],
                "markersize": 5.0 if curve.family == "ours" else 3.8,
                "markeredgewidth": 0.9,
                "markerfacecolor": "white" if curve.published else colour,
            }
        )
    return found


def ranked(curves: Sequence[Curve]) -> list[int]:
    """Indices of the curves from the highest to the lowest, by how far each lies above the mean of all beside it."""

    def height(curve: Curve) -> float:
        bpp, quality = curve.points
        others = [np.interp(bpp, *other.points, left=np.nan, right=np.nan) for other in curves]
        return float(np.mean(quality - np.nanmean(others, axis=0)))  # it is one of them, so no mean is empty

    return sorted(range(len(curves)), key=lambda i: -height(curves[i]))


def add_legend(
    figure: Figure, curves: Sequence[Curve], properties: Sequence[dict[str, Any]], names: Sequence[str], note: str = ""
) -> None:
    """One entry a curve below the axes, and what open markers mean, if any; the figure grows by its height.

    `names` are those of `labels`, taken over all curves that were given. A `note` stands above the entries.
    """
    handles = [Line2D([], [], label=name, **look) for name, look in zip(names, properties, strict=True)]
    key: dict[str, Any] = {"color": GREY, "linestyle": "none", "marker": "o", "markersize": 4, "markeredgewidth": 0.9}
    if any(curve.published for curve in curves):
        handles.append(Line2D([], [], label="published", markerfacecolor="white", **key))
        if not all(curve.published for curve in curves):
            handles.append(Line2D([], [], label="measured here", **key))
    lines = "\n".join(wrap(note, int(18 * figure.get_figwidth())))  # letters of 6.5 points
    below(figure, handles, title=lines or None, title_fontsize=6.5, alignment="left")


def below(figure: Figure, handles: Sequence[Line2D], **options: Any) -> None:
    """A legend under the axes in as many columns as fit; the figure grows by its height."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(min(5, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, **{"handlelength": 2.6, **options}
        )
        box = legend.get_window_extent(renderer)
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + box.height / figure.dpi)

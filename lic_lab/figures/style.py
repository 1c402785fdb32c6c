"""The style sheet of all figures: sizes of a two-column paper, embedded fonts, colour-blind safe colours.

Figures are made without pyplot: nothing is kept after its last reference, and a notebook's own settings stay as they
are. matplotlib reads its settings both when a figure is made and when it is saved, so `StyledFigure` brings them along.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, ParamSpec

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from lic_lab.files import written

COLUMN, PAGE = 3.4, 7.0  # inches: one column and the text width of a two-column paper
GREY = "0.45"  # of lines and words that are not data

MAP = "viridis"  # of quantities that start at zero
SIGNED = "RdBu_r"  # of differences and correlations: zero is white, less is blue, more is red
OTHER = "cividis"  # of values without a meaningful zero

# Okabe and Ito (2008), told apart with any colour vision; yellow is left out, it is too light for lines on white.
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.h_pad": 0.04,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "legend.frameon": False,
    "image.interpolation": "nearest",  # a latent position is a square, not a blur
    "image.cmap": MAP,
    "savefig.dpi": 300,
    "savefig.bbox": None,  # "tight" would change the size a figure was set for
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
}

_LOCK = RLock()  # matplotlib's settings are one for the whole process

P = ParamSpec("P")


class StyledFigure(Figure):
    """A figure that is saved, and shown in a notebook, with the settings it was made with."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's, under the style sheet: fonts are embedded as TrueType. A file is whole, or as it was."""
        with _LOCK, matplotlib.rc_context(STYLE):
            if not isinstance(fname, str | os.PathLike):
                super().savefig(fname, **options)
                return
            name = os.fspath(fname)
            kind = options.pop("format", None) or os.path.splitext(name)[1][1:]
            if not kind:  # matplotlib appends one
                kind = self.canvas.get_default_filetype()
                name = f"{name.rstrip('.')}.{kind}"
            with written(name) as new:
                super().savefig(new, format=kind, **options)

    def _repr_png_(self) -> bytes:
        """For notebooks without ``%matplotlib inline``."""
        from lic_lab.figures.png import figure_png

        with _LOCK, matplotlib.rc_context(STYLE):
            return figure_png(self, dpi=130)


def new(width: float, height: float) -> StyledFigure:
    """An empty figure of `width` x `height` inches."""
    if not (width > 0 and height > 0):
        raise ValueError(f"the figure is {width} x {height} inches; both must be above 0 (a column has {COLUMN})")
    return StyledFigure(figsize=(width, height))


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a figure function under the style sheet, and put the caller's settings back."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _LOCK, matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper

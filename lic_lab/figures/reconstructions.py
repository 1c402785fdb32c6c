"""The picture before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lic_lab.figures import maps
from lic_lab.figures.style import MAP, PAGE, styled

if TYPE_CHECKING:
    from lic_lab.tracing import Trace


@styled
def reconstruction(trace: Trace, width: float = PAGE) -> Figure:
    """Image, reconstruction with its rate and quality, and where they differ.

    Parameters
    ----------
    trace : Trace
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        When the trace has no reconstruction.
    """
    if trace.x_hat is None:
        raise ValueError("this trace has no reconstruction; make it with lab.trace(codec, image, reconstruct=True)")
    pixels = maps.size(trace.x)
    figure, (before, after, error) = maps.row(pixels, width, 3)
    maps.picture(before, trace.x)
    before.set_title("image")
    maps.picture(after, trace.x_hat)
    after.set_title(f"{trace.bpp['total']:.3f} bpp, {trace.psnr:.2f} dB PSNR")
    off = np.abs(trace.x.astype(float) - trace.x_hat).mean(2)
    # The worst pixels would leave everything else dark.
    limit = max(1.0, float(np.percentile(off, 99.5)))
    drawn = error.imshow(off, extent=(0, pixels[1], pixels[0], 0), cmap=MAP, vmin=0, vmax=limit)
    maps.axes_in_pixels(error, *pixels)
    error.set_title("error")
    maps.colour_bar(error, drawn, "mean |error| (of 255)")
    maps.label_first((before, after, error))
    return figure

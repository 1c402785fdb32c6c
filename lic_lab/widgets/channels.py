"""Bits per channel: sorted bars, and the channels that cost most as thumbnails."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from lic_lab import analysis
from lic_lab.figures.png import DIFFERENCE
from lic_lab.tracing import Trace
from lic_lab.widgets.map import Map
from lic_lab.widgets.numbers import SLICES
from lic_lab.widgets.panel import Panel, menu, row
from lic_lab.widgets.view import Scene

THUMBNAILS = 8


class Channels(Panel):
    """Sorted bars of the bits per channel over thumbnails of the highest."""

    title, tooltip = "Channels", "Bits per channel, sorted, with the maps of the channels that cost most"

    def __init__(self) -> None:
        self.bars = widgets.HTML()
        self.content = menu("Thumbnails", ["symbols", "bits", "mu", "sigma"], "What the thumbnails show")
        self.content.observe(self.redraw, "value")
        self.maps = [Map(name=f"channel-{k}") for k in range(THUMBNAILS)]
        super().__init__([self.bars, self.content, row(*self.maps, kind="lab-thumbnails")])

    def draw(self, scene: Scene) -> None:
        trace = scene.run.trace
        bits = analysis.channel_bits(trace.bits)
        order = analysis.highest_channels(trace.bits)
        self.bars.value = bars_html(trace, bits, order)
        source = trace.bits if self.content.value == "bits" else trace.told(self.content.value)
        for map_, channel in zip(self.maps, order, strict=False):
            map_.title = f"channel {channel}"
            map_.readout = f"{bits[channel] / (bits.sum() or 1):.1%}"
            map_.description = f"{self.content.value} of channel {channel}, which costs {bits[channel]:.0f} bits"
            limit = float(np.abs(source[channel]).max()) or 1.0
            signed = self.content.value in ("symbols", "mu")
            low, colours = (-limit, DIFFERENCE) if signed else (0.0, "viridis")
            unit = "bits" if self.content.value == "bits" else ""
            scene.heatmap(map_, source[channel], unit=unit, low=low, high=limit, colours=colours, clickable=False)


def bars_html(trace: Trace, bits: NDArray[np.float64], order: NDArray[np.intp]) -> str:
    """Bars of bits per channel, highest first, coloured by slice, as SVG; each names its channel on hovering."""
    slice_of = np.repeat(np.arange(len(trace.slices)), trace.slices)
    width, height = 1000.0, 130.0
    step = width / len(order)
    tallest = bits.max() or 1.0
    bars = []
    for k, channel in enumerate(order):
        tall = height * bits[channel] / tallest
        colour = SLICES[slice_of[channel] % len(SLICES)]
        bars.append(
            f'<rect x="{k * step:.2f}" y="{height - tall:.2f}" width="{0.8 * step:.2f}" height="{tall:.2f}" '
            f'fill="{colour}">'
            f"<title>channel {channel}, slice {slice_of[channel]}: {bits[channel]:.0f} bits, "
            f"{bits[channel] / trace.pixels:.5f} bpp</title></rect>"
        )
    half, most = (analysis.channels_holding(trace.bits, share) for share in (0.5, 0.9))
    top = order[0]
    words = (
        f"Bits per channel, highest first, coloured by slice. Channel {top} costs most: "
        f"{bits[top] / trace.pixels:.4f} bpp. "
        f"{half} of {len(order)} channels hold half of y's bits, {most} hold 90 %."
    )
    return (
        f'<figure class="lab-chart"><figcaption>{words}</figcaption><svg viewBox="0 0 {width:.0f} {height + 2:.0f}" '
        f'preserveAspectRatio="none" role="img" aria-label="{words}">{"".join(bars)}'
        f'<line x1="0" x2="{width:.0f}" y1="{height + 1}" y2="{height + 1}" class="lab-axis"/></svg></figure>'
    )

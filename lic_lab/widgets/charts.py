"""The figures' rate-distortion curves as plotly charts: same colours, markers and dashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import traitlets
from IPython.display import display
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lic_lab import analysis, figures
from lic_lab.figures.curves import METRICS, Curve, check, labels, looks
from lic_lab.widgets.still import Keeper, Still, figure_png

_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}
_UNIT = "%{x:.4f} bpp, %{y:.2f} dB"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"


class Chart(go.FigureWidget):
    """A chart as a widget, which grows by the legend's lines and has no button that leaves the page.

    The page is told of it once it is complete. plotly's FigureWidget opens empty and sends its curves after, and within
    a box a busy page draws it before they are there. Its script is started by ``chart.js``, which says why.

    `paper` draws the same by matplotlib, for the notebook that is opened without a kernel.
    """

    _esm = (Path(__file__).parent / "chart.js").read_text()
    _bundle = traitlets.Unicode(
        (Path(plotly.__file__).parent / "package_data" / "widgetbundle.js").read_text("utf-8")
    ).tag(sync=True)
    _rule = traitlets.Unicode("").tag(sync=True)

    def __init__(self, figure: go.Figure, paper: Callable[[], Figure] | None = None):
        self._complete = False
        self._keeper: Keeper | None = None
        named = sum(trace.showlegend is not False for trace in figure.data)
        if figure.layout.showlegend is not False:
            figure.update_layout(height=figure.layout.height + 20 * -(-named // 4))
        super().__init__(figure)
        self._config = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}
        if paper is not None:
            self._keeper = Keeper(lambda: Still("Chart", [], [("", figure_png(paper()))], ""))
            self._rule = self._keeper.css
        self._complete = True
        self.open()

    def _ipython_display_(self) -> None:
        if self._keeper is not None:
            self._keeper.publish(self._repr_mimebundle_())
        else:
            display(self._repr_mimebundle_(), raw=True)

    def open(self) -> None:
        """What ipywidgets calls to tell the page."""
        if self._complete:
            super().open()


def rd_chart(curves: Sequence[Curve], metric: str = "psnr", title: str = "") -> Chart:
    """`figures.rd_curves` to be hovered and zoomed; published curves say so and name their source.

    Parameters
    ----------
    curves : sequence of Curve
    metric : {"psnr", "ms_ssim"}
    title : str

    Raises
    ------
    ValueError
        As `figures.rd_curves`.
    """
    check(curves)
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    chart = empty_chart("rate (bpp)", METRICS[metric], title)
    mixed = not all(curve.published for curve in curves)
    for curve, line, label in zip(curves, lines(curves), labels(curves), strict=True):
        bpp, quality = curve.points
        said = f"<br>published: {curve.source}" if curve.published else ""
        name = f"{label} (published)" if mixed and curve.published else label
        chart.add_scatter(
            x=bpp, y=quality, name=name, hovertemplate=f"<b>{label}</b><br>{_UNIT}{said}<extra></extra>", **line
        )
    learned = [curve for curve in curves if curve.family != "classical"] or curves
    chart.update_xaxes(range=[0, 1.05 * max(float(curve.points[0][-1]) for curve in learned)])
    return Chart(chart, lambda: figures.rd_curves(curves, metric, title=title))


def saving_chart(anchor: Curve, curves: Sequence[Curve], metric: str = "psnr") -> Chart:
    """`figures.rate_savings` to be hovered and zoomed; a curve that shares no quality with the anchor is not drawn.

    Parameters
    ----------
    anchor : Curve
        One with its name among `curves` is not drawn.
    curves : sequence of Curve
    metric : {"psnr", "ms_ssim"}
    """
    check(curves)
    mixed = not all(curve.published for curve in curves)
    chart = empty_chart(METRICS[metric], f"rate saved over {anchor.name} (%)")
    for curve, line, label in zip(curves, lines(curves), labels(curves), strict=True):
        if curve.name == anchor.name or not (found := saving(anchor, curve)):
            continue
        quality, saved, at, value = found
        name = f"{label} (published)" if mixed and curve.published else label
        hover = f"<b>{label}</b><br>%{{x:.2f}} dB: %{{y:.1f}} % of {anchor.name}'s rate saved<extra></extra>"
        chart.add_scatter(
            x=quality,
            y=saved,
            name=name,
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
            **{**line, "mode": "lines"},
        )
        chart.add_scatter(
            x=at, y=value, name=name, legendgroup=name, hovertemplate=hover, **{**line, "mode": "markers"}
        )
    chart.add_hline(y=0, line_width=1, line_color="#737373")
    return Chart(chart, lambda: figures.rate_savings(anchor, curves, metric=metric))


def saving(anchor: Curve, curve: Curve) -> tuple[Any, Any, Any, Any] | None:
    """`analysis.rate_saving` as a line and at the curve's own points: (quality, saving, quality, saving), or None."""
    over, rising = anchor.rising().points, curve.rising().points
    try:
        quality, saved = analysis.rate_saving(over, rising)
    except ValueError:  # they share no quality
        return None
    known = rising[1][(rising[1] >= quality[0]) & (rising[1] <= quality[-1])]
    at, value = analysis.rate_saving(over, rising, at=known) if known.size else (quality[:0], saved[:0])
    return quality, saved, at, value


def lines(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Plotly's properties for what `figures.curves.looks` says of each curve."""
    found = []
    for curve, look in zip(curves, looks(curves), strict=True):
        colour, style = to_hex(look["color"]), look["linestyle"]
        width = look["linewidth"] * 1.5  # points to pixels
        dashes = "solid" if style == "-" else ",".join(f"{length * width:.1f}px" for length in style[1])
        symbol = _SYMBOLS[look["marker"]]
        marker = {"symbol": symbol, "size": look["markersize"] * 1.8, "color": colour}
        if curve.published:
            marker |= {"color": "white", "line": {"color": colour, "width": 1.4}}
        found.append(
            {"mode": "lines+markers", "line": {"color": colour, "width": width, "dash": dashes}, "marker": marker}
        )
    return found


def empty_chart(x: str, y: str, title: str = "") -> go.Figure:
    """Axes with names and units, in the workbench's letters, with the legend below.

    It becomes a `Chart` once it is complete.
    """
    axis = {"showline": True, "linecolor": "#1f2933", "ticks": "outside", "gridcolor": "#ebeef2", "zeroline": False}
    return go.Figure(
        layout={
            "template": "none",
            "autosize": True,
            "height": 420,
            "margin": {"l": 58, "r": 12, "t": 34 if title else 12, "b": 44},
            "font": {"family": FONT, "size": 12, "color": "#1f2933"},
            "title": {"text": title, "font": {"size": 13}, "x": 0.02},
            "xaxis": {"title": {"text": x, "standoff": 6}, **axis},
            "yaxis": {"title": {"text": y, "standoff": 6}, **axis},
            "legend": {"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0, "xanchor": "left"},
            "hovermode": "closest",
            "modebar": {"remove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]},
            "hoverlabel": {"bgcolor": "white", "font": {"family": FONT, "size": 12}, "align": "left"},
        }
    )

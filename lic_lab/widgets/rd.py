"""Rate-distortion curves whose points show their pictures: hover to see one, click to open it in the workbench."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from lic_lab import figures
from lic_lab.evaluation.quality import ms_ssim_db
from lic_lab.figures.curves import METRICS, Curve
from lic_lab.image import to_uint8
from lic_lab.widgets.charts import Chart, empty_chart, lines, saving
from lic_lab.widgets.map import Map
from lic_lab.widgets.operating_points import OperatingPoint, display_png
from lic_lab.widgets.page import Page
from lic_lab.widgets.panel import menu, row
from lic_lab.widgets.still import Still, figure_png
from lic_lab.widgets.workbench import Workbench

MEAN = "mean over the pictures"
HINT = "Hover a point to see its picture; click it to open it in the workbench."


class RDExplorer(Page):
    """RD curves and the rate saved over an anchor, with the picture of the point under the mouse beside the original.

    Parameters
    ----------
    points : sequence of OperatingPoint
        What `measure` returns: each picture through the same coders.

    Attributes
    ----------
    metric, image, anchor : Dropdown
        PSNR or MS-SSIM; a picture or the mean; what the right chart compares with.
    chart, savings : FigureWidget
        The two charts.
    original, picture : Map
        The picture as it was, and as the point under the mouse has it.
    numbers, message : HTML
    save : Button
        Writes `paper_figure` to ``rd_curves.pdf``.
    workbench : Workbench or None
        After the first click on a point that it can open.

    Raises
    ------
    ValueError
        Without points that lose something, or when the pictures were not all measured with the same coders.
    """

    def __init__(self, points: Sequence[OperatingPoint]) -> None:
        super().__init__()
        lossless = {(p.subject, p.configuration) for p in points if np.isinf(p.psnr) or p.ms_ssim >= 1}
        self._points = _arranged([p for p in points if (p.subject, p.configuration) not in lossless])
        names = [points[0].picture.name for points in self._by_picture()]
        self._seen = names[0]  # the picture that the points of a mean show
        self._shown: OperatingPoint | None = None
        self.workbench: Workbench | None = None
        self._drawn: dict[tuple[str, str], bytes] = {}  # curves of the still, by metric and picture

        too_small = any(np.isnan(point.ms_ssim) for point in points)
        metrics = [
            (label.removesuffix(" (dB)"), name) for name, label in METRICS.items() if name == "psnr" or not too_small
        ]
        self.metric = menu("Quality", metrics, "What the curves' height is, in dB")
        self.image = menu(
            "Picture", [MEAN, *names] if len(names) > 1 else names, "Curves of one picture, or means over all"
        )
        subjects = list(self._points)
        self.anchor = menu("Anchor", subjects, "The codec whose rate the others save", value=self._first_anchor())
        self.save = widgets.Button(
            description="Save as PDF", tooltip="Write this figure, as a paper has it, to rd_curves.pdf in this folder"
        )
        self.numbers = widgets.HTML()
        self.original = Map(name="original-picture", title="Original")
        self.picture = Map(name="decoded-picture", title="")
        self._place = widgets.VBox()
        self.chart, self.savings = empty_chart("rate (bpp)", ""), empty_chart("", "")
        self._add_curves()
        self._draw()
        self.show(self._middle())
        self.chart, self.savings = Chart(self.chart), Chart(self.savings)
        self._build()
        self._listen()
        if lossless:
            named = "; ".join(", ".join(words) for words in sorted(lossless))
            self.say(f"Left out, as they lose nothing on some picture and no axis has a place for that: {named}.")

    # -- the page ----------------------------------------------------------------------------------

    def _add_curves(self) -> None:
        looks = lines(self.curves())
        for name, line in zip(self._points, looks, strict=True):
            hover = "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x:.4f} bpp, %{y:.2f} dB<extra></extra>"
            self.chart.add_scatter(name=name, hovertemplate=hover, **line)
        ring = {"size": 17, "color": "rgba(0, 0, 0, 0)", "line": {"width": 2, "color": "#1f2933"}}
        self.chart.add_scatter(mode="markers", marker=ring, showlegend=False, hoverinfo="skip")
        for name, line in zip(self._points, looks, strict=True):
            self.savings.add_scatter(name=name, hoverinfo="skip", **{**line, "mode": "lines"})
            hover = "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x:.2f} dB: %{y:.1f} % saved<extra></extra>"
            self.savings.add_scatter(name=name, hovertemplate=hover, **{**line, "mode": "markers"})
        self.savings.add_hline(y=0, line_width=1, line_color="#737373")
        self.savings.update_layout(showlegend=False)
        self.chart.update_layout(legend={"y": -0.17})

    def _build(self) -> None:
        self.picture.tips = {c.description: c.tooltip for c in (self.metric, self.image, self.anchor)}
        controls = row(self.metric, self.image, self.anchor, self.save, kind="lab-rd-controls")
        self.fill(
            controls,
            self.message,
            row(self.chart, self.savings, kind="lab-halves"),
            self.numbers,
            row(self.original, self.picture, kind="lab-pictures"),
            self._place,
        )
        self.add_class("lab-rd")

    def _listen(self) -> None:
        for control in (self.metric, self.image):
            self.listen(control, self._on_menu)
        self.listen(self.anchor, lambda change: self._draw())
        self.on_click(self.save, self._on_save)
        for i, name in enumerate(self._points):
            trace = self.chart.data[i]
            trace.on_hover(self._handler(name, self.show))
            trace.on_click(self._handler(name, self.open_in_workbench))
            saved = self.savings.data[2 * i + 1]
            saved.on_hover(self._handler(name, self.show, saved))
            saved.on_click(self._handler(name, self.open_in_workbench, saved))

    def _handler(self, name: str, act: Any, saved: Any = None) -> Any:
        """What plotly calls with a trace and the indices of points on it."""

        def handle(trace: Any, points: Any, state: Any) -> None:
            if not points.point_inds:
                return
            i = points.point_inds[0]
            if saved is not None:  # it has only some of the curve's points
                configuration = saved.customdata[i][1]
                i = next(k for k, point in enumerate(self._of(name)) if point.configuration == configuration)
            act(self._of(name)[i])

        return self.answering(handle)

    # -- what the user does ------------------------------------------------------------------------

    def show(self, point: OperatingPoint) -> None:
        """Show a point's picture beside the original, with its numbers. What the mouse does on a point."""
        before, self._shown = self._shown, point
        if before is None or before.picture is not point.picture:
            self.original.show(
                display_png(to_uint8(point.picture.x)),
                readout=_size(point),
                description=f"{point.picture.name}, original",
            )
        self.numbers.value = self._words(point)
        self.picture.show(
            point.png,
            title=f"{point.subject}, {point.configuration}",
            readout=f"{point.bpp:.4f} bpp",
            description=f"{point.picture.name} by {point.subject}, {point.configuration}",
            run=self.picture.run + 1,
        )
        self._ring()

    def open_in_workbench(self, point: OperatingPoint) -> None:
        """Open a point in the workbench, below; of a codec that it does not know, say so. What a click does."""
        self.show(point)
        if point.opens is None:
            self.say(
                f"The workbench shows the codecs of the shared latent, so it can't open {point.subject}; its picture "
                "and its numbers are shown here."
            )
            return
        quality, components = point.opens
        self.say(f"Opening {point.picture.name}, {point.subject}, {point.configuration} in the workbench, below.")
        if self.workbench is None:
            self.workbench = Workbench(point.picture, quality, components)
            self._place.children = [self.workbench]
        else:
            self.workbench.open_picture(point.picture, quality, components)
        self.say(f"{point.picture.name}, {point.subject}, {point.configuration} is open in the workbench, below.")

    def curves(self) -> list[Curve]:
        """What the left chart shows, as `figures.rd_curves` takes it."""
        return [
            Curve(
                name,
                [bpp for bpp, _ in self._values(name)],
                [quality for _, quality in self._values(name)],
                next(iter(found.values()))[0].family,
            )
            for name, found in self._points.items()
        ]

    def paper_figure(self, width: float = figures.COLUMN) -> Figure:
        """The left chart by `figures.rd_curves`."""
        curves = self.curves()
        widest = max(float(curve.points[0][-1]) for curve in curves)
        return figures.rd_curves(curves, self.metric.value, width, (0.0, 1.05 * widest), self.image.value)

    def saving_figure(self, width: float = figures.COLUMN) -> Figure:
        """The right chart by `figures.rate_savings`."""
        curves = self.curves()
        over = next(curve for curve in curves if curve.name == self.anchor.value)
        kept = [curve.rising() for curve in curves if curve is over or saving(over, curve)]
        return figures.rate_savings(over.rising(), kept, width=width, metric=self.metric.value)

    def _on_menu(self, change: Any) -> None:
        if self.image.value != MEAN:
            self._seen = self.image.value
        self._draw()
        assert self._shown is not None
        same = [p for p in self._of(self._shown.subject) if p.configuration == self._shown.configuration]
        self.show(same[0])

    def _on_save(self, button: Any) -> None:
        path = Path("rd_curves.pdf")
        try:
            self.paper_figure().savefig(path)
        except OSError as error:
            self.say(f"{path.resolve()} can't be written: {error.strerror or error}")
            return
        except ValueError as error:  # more curves than a figure can tell apart
            self.say(f"There is no such figure: {error}")
            return
        self.say(f"Saved as {path.resolve()}.")

    # -- showing -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Bring both charts to what the menus say."""
        curves, axis = self.curves(), METRICS[self.metric.value]
        over = next(curve for curve in curves if curve.name == self.anchor.value)
        with self.chart.batch_update():
            for trace, curve in zip(self.chart.data, curves, strict=False):
                trace.x, trace.y = curve.points
                trace.customdata = [(p.subject, p.configuration) for p in self._of(curve.name)]
            self.chart.update_yaxes(title_text=axis)
        with self.savings.batch_update():
            for i, curve in enumerate(curves):
                line, marks = self.savings.data[2 * i], self.savings.data[2 * i + 1]
                found = None if curve is over else saving(over, curve)
                line.x, line.y, marks.x, marks.y = found or ((), (), (), ())
                at = dict(zip(curve.points[1].tolist(), self._of(curve.name), strict=True))
                marked = [at[quality] for quality in found[2].tolist()] if found else []
                marks.customdata = [(point.subject, point.configuration) for point in marked]
            self.savings.update_xaxes(title_text=axis)
            self.savings.update_yaxes(title_text=f"rate saved over {over.name} (%)")
        if self._shown is not None:
            self._ring()

    def _ring(self) -> None:
        """Circle the point that is shown."""
        assert self._shown is not None
        place = [p.configuration for p in self._of(self._shown.subject)].index(self._shown.configuration)
        x, y = self._values(self._shown.subject)[place]
        with self.chart.batch_update():
            self.chart.data[-1].x, self.chart.data[-1].y = [x], [y]

    def _words(self, point: OperatingPoint) -> str:
        numbers = [("bpp", f"{point.bpp:.4f}", "bpp"), ("psnr", f"{point.psnr:.2f}", "dB PSNR")]
        if not np.isnan(point.ms_ssim):
            numbers.append(("ms-ssim", f"{ms_ssim_db(point.ms_ssim):.2f}", "dB MS-SSIM"))
        shown = "".join(
            f"<div class='lab-figure' data-number='{name}'><div><b>{value}</b> <span>{unit}</span></div></div>"
            for name, value, unit in numbers
        )
        said = escape(f"{point.picture.name} by {point.subject}, {point.configuration}")
        return f"<div class='lab-figures lab-rd-numbers'>{shown}<p class='lab-words'><b>{said}</b><br>{HINT}</p></div>"

    def still(self) -> Still:
        assert self._shown is not None
        point, shown = self._shown, (self.metric.value, self.image.value)
        if shown not in self._drawn:  # a figure takes a third of a second, and the mouse changes nothing in it
            self._drawn[shown] = figure_png(self.paper_figure())
        facts = [("bits per pixel", f"{point.bpp:.4f}"), ("PSNR in dB", f"{point.psnr:.2f}")]
        pictures = [
            ("Rate and quality", self._drawn[shown]),
            (f"{self.picture.title}, {point.picture.name}", point.png),
        ]
        return Still(f"Rate-distortion curves: {self.image.value}", facts, pictures, "")

    # -- the points --------------------------------------------------------------------------------

    def _by_picture(self) -> list[list[OperatingPoint]]:
        """All points of each picture."""
        found: dict[str, list[OperatingPoint]] = {}
        for of_picture in self._points.values():
            for name, points in of_picture.items():
                found.setdefault(name, []).extend(points)
        return list(found.values())

    def _of(self, subject: str) -> list[OperatingPoint]:
        """A curve's points as they are shown: of the picture of the menu, or the one last seen under a mean."""
        values = self._quality(subject)
        order = np.lexsort((values[1], values[0]))
        return [self._points[subject][self._seen][i] for i in order]

    def _values(self, subject: str) -> list[tuple[float, float]]:
        """(bpp, quality) of a curve's points by rising rate, as `Curve` sorts them."""
        return sorted(zip(*self._quality(subject), strict=True))

    def _quality(self, subject: str) -> tuple[list[float], list[float]]:
        """bpp and quality of a curve's points, of one picture or the mean over all, in the order of measuring."""
        of = self._points[subject]
        pictures = list(of.values()) if self.image.value == MEAN else [of[self._seen]]
        bpp = np.mean([[point.bpp for point in points] for points in pictures], axis=0)
        quality = np.mean([[getattr(point, self.metric.value) for point in points] for points in pictures], axis=0)
        if self.metric.value == "ms_ssim":
            quality = ms_ssim_db(quality)  # of the mean, as CompressAI and the papers do
        return bpp.tolist(), quality.tolist()

    def _first_anchor(self) -> str:
        """The first classical codec, or the first of all."""
        of = {name: next(iter(found.values()))[0].family for name, found in self._points.items()}
        return next((name for name, family in of.items() if family == "classical"), next(iter(of)))

    def _middle(self) -> OperatingPoint:
        """The first point shown."""
        points = self._of(next(iter(self._points)))
        return points[len(points) // 2]


def _arranged(points: Sequence[OperatingPoint]) -> dict[str, dict[str, list[OperatingPoint]]]:
    """Points by curve and picture."""
    if not points:
        raise ValueError("there are no points with a loss; give what measure(images, coders) returns")
    found: dict[str, dict[str, list[OperatingPoint]]] = {}
    for point in points:
        found.setdefault(point.subject, {}).setdefault(point.picture.name, []).append(point)
    every = {point.picture.name for point in points}
    for subject, of in found.items():
        configurations = {tuple(p.configuration for p in of.get(name, ())) for name in every}
        if len(configurations) > 1:
            raise ValueError(f"{subject} was not measured at the same rate points on every picture; measure them again")
    return found


def _size(point: OperatingPoint) -> str:
    height, width = point.picture.x.shape[2:]
    return f"{width} × {height}, 24 bpp"

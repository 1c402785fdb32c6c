"""The rate-distortion explorer without a browser: menus are set, and hovers and clicks come as plotly sends them."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from plotly.callbacks import InputDeviceState, Points
from skimage import data

import lic_lab as lab
from lic_lab.evaluation.coders import coder
from lic_lab.evaluation.quality import ms_ssim, ms_ssim_db, psnr
from lic_lab.figures.curves import Curve
from lic_lab.figures.rd import rd_curves
from lic_lab.widgets.operating_points import WIDEST, display_png
from lic_lab.widgets.rd import MEAN

PHOTOS = {"face": data.astronaut()[:168, 160:330], "cat": data.chelsea()[60:228, 120:290]}
JPEG = [f"quality={q}" for q in (10, 30, 60)]
WEBP = [f"quality={q}" for q in (0, 30, 80)]
LEARNED = "q=2,channel=none,local=checkerboard,global=none,refinement=none"


@pytest.fixture(scope="module")
def points(_untrained):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIC_LAB_WEIGHTS", str(_untrained))
        coders = [coder("mlic+", LEARNED), *(coder("jpeg", c) for c in JPEG), *(coder("webp", c) for c in WEBP)]
        return lab.widgets.measure(PHOTOS, coders, progress=False)


@pytest.fixture
def explorer(points, untrained_weights):
    return lab.widgets.RDExplorer(points)


def point(points, codec, configuration, picture):
    return next(p for p in points if (p.codec, p.configuration, p.picture.name) == (codec, configuration, picture))


def trace(chart, name, mode="lines+markers"):
    return next(t for t in chart.data if t.name == name and t.mode == mode)


def hover(of, index):
    of._dispatch_on_hover(Points(point_inds=[index], trace_name=of.name), InputDeviceState())


def click(of, index):
    of._dispatch_on_click(Points(point_inds=[index], trace_name=of.name), InputDeviceState())


def test_points_are_what_the_coder_makes_of_the_picture(points):
    found = point(points, "jpeg", "quality=30", "cat")
    jpeg = coder("jpeg", "quality=30")
    strings = jpeg.encode(PHOTOS["cat"])
    decoded = jpeg.decode(strings)
    assert found.bpp == 8 * len(strings[0]) / (168 * 170)
    assert found.psnr == psnr(PHOTOS["cat"], decoded)
    assert found.ms_ssim == ms_ssim(PHOTOS["cat"], decoded)
    assert found.png == display_png(decoded)
    assert found.opens is None
    quality, components = point(points, "mlic+", LEARNED, "cat").opens
    assert quality == 2 and components["local"] == "checkerboard" and components["channel"] == "none"


def test_large_pictures_are_kept_at_display_size():
    from io import BytesIO

    from PIL import Image

    wide = np.zeros((30, 2 * WIDEST, 3), np.uint8)
    assert Image.open(BytesIO(display_png(wide))).size == (WIDEST, 15)


def test_charts_show_the_picture_or_the_mean_in_the_metric_of_the_menu(explorer, points):
    chosen = [[point(points, "jpeg", c, name) for c in JPEG] for name in PHOTOS]
    line = trace(explorer.chart, "JPEG")
    assert explorer.image.value == MEAN
    np.testing.assert_allclose(line.x, np.mean([[p.bpp for p in of] for of in chosen], 0))
    np.testing.assert_allclose(line.y, np.mean([[p.psnr for p in of] for of in chosen], 0))
    explorer.metric.value = "ms_ssim"
    np.testing.assert_allclose(line.y, ms_ssim_db(np.mean([[p.ms_ssim for p in of] for of in chosen], 0)))
    assert explorer.chart.layout.yaxis.title.text == "MS-SSIM (dB)"
    explorer.image.value = "cat"
    np.testing.assert_allclose(line.x, [p.bpp for p in chosen[1]])
    np.testing.assert_allclose(line.y, ms_ssim_db([p.ms_ssim for p in chosen[1]]))


def test_the_right_chart_is_the_rate_saved_over_the_anchor(explorer):
    explorer.image.value = "face"
    for anchor, other in (("JPEG", "WebP"), ("WebP", "JPEG")):
        explorer.anchor.value = anchor
        curves = {curve.name: curve for curve in explorer.curves()}
        quality, saved = lab.analysis.rate_saving(curves[anchor].points, curves[other].points)
        line = trace(explorer.savings, other, "lines")
        np.testing.assert_allclose([line.x, line.y], [quality, saved])
        assert not len(trace(explorer.savings, anchor, "lines").x or ())
        assert anchor in explorer.savings.layout.yaxis.title.text


def test_hovering_shows_the_picture_of_the_point(explorer, points):
    explorer.image.value = "cat"
    for i, configuration in enumerate(JPEG):
        hover(trace(explorer.chart, "JPEG"), i)
        found = point(points, "jpeg", configuration, "cat")
        assert explorer.picture.value == found.png
        assert explorer.original.value == display_png(PHOTOS["cat"])
        assert f"{found.bpp:.4f}" in explorer.numbers.value and f"{found.psnr:.2f}" in explorer.numbers.value
        ring = explorer.chart.data[-1]
        np.testing.assert_allclose([ring.x[0], ring.y[0]], [found.bpp, found.psnr])
    # the right chart has only the points in the anchor's range, and still finds theirs
    explorer.anchor.value = "WebP"
    marks = trace(explorer.savings, "JPEG", "markers")
    for i, (_, configuration) in enumerate(marks.customdata):
        hover(marks, i)
        assert explorer.picture.value == point(points, "jpeg", configuration, "cat").png


def test_changing_the_picture_shows_the_same_point_of_the_other(explorer, points):
    explorer.image.value = "face"
    hover(trace(explorer.chart, "WebP"), 1)
    explorer.image.value = "cat"
    assert explorer.picture.value == point(points, "webp", WEBP[1], "cat").png
    explorer.image.value = MEAN  # the picture last seen stands for the mean
    assert explorer.picture.value == point(points, "webp", WEBP[1], "cat").png


def test_a_click_opens_the_workbench_at_that_point(explorer, points):
    explorer.image.value = "cat"
    assert explorer.workbench is None
    click(trace(explorer.chart, "JPEG"), 0)
    assert explorer.workbench is None and "open JPEG" in explorer.message.value
    assert explorer.picture.value == point(points, "jpeg", JPEG[0], "cat").png

    learned = next(t for t in explorer.chart.data if t.name.startswith("mlic+"))
    click(learned, 0)
    found, bench = point(points, "mlic+", LEARNED, "cat"), explorer.workbench
    run = bench.run.trace
    assert run.picture is found.picture and bench.photo.value == "cat" and bench._count == 1
    assert run.combination == found.opens[1] and run.quality == 2
    assert run.psnr == pytest.approx(found.psnr, abs=0.01)
    assert run.bpp["total"] == pytest.approx(found.bpp, rel=0.005, abs=8 * 64 / run.pixels)
    assert bench in explorer._place.children

    explorer.image.value = "face"
    click(learned, 0)
    assert explorer.workbench is bench and bench.run.trace.picture.name == "face"
    assert bench.photo.options[-2:] == ("cat", "face")


def test_the_workbench_opens_a_picture_at_a_rate_point_and_refuses_one_without_weights(points, untrained_weights):
    picture = points[0].picture
    bench = lab.widgets.Workbench(picture, 2, {"local": "raster"})
    assert bench.run.trace.combination == {"channel": "none", "local": "raster", "global": "none", "refinement": "none"}
    assert bench._count == 1
    bench.open_picture(picture, components={"channel": "conv"})
    assert bench.run.trace.combination["channel"] == "conv" and bench.photo.options.count("face") == 1
    with pytest.raises(ValueError, match="there are weights for 2"):
        bench.open_picture(picture, quality=9)


def test_the_figure_is_saved_as_a_paper_has_it(explorer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer.metric.value = "ms_ssim"
    explorer.save.click()
    assert Path("rd_curves.pdf").read_bytes().startswith(b"%PDF")
    assert "rd_curves.pdf" in explorer.message.value
    figure = explorer.paper_figure()
    assert figure.axes[0].get_ylabel() == "MS-SSIM (dB)" and figure.get_figwidth() == lab.figures.COLUMN
    for line, curve in zip(figure.axes[0].lines, explorer.curves(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose(curve.points))
    assert "JPEG" in explorer.saving_figure().axes[0].get_ylabel()


@pytest.mark.parametrize("perfect", [{"psnr": np.inf, "ms_ssim": 1.0}, {"ms_ssim": 1.0}])
def test_points_without_loss_are_left_out_and_named(points, perfect, untrained_weights):
    of = ("jpeg", "quality=60", "cat")
    some = [replace(p, **perfect) if (p.codec, p.configuration, p.picture.name) == of else p for p in points]
    explorer = lab.widgets.RDExplorer(some)
    assert "JPEG, quality=60" in explorer.message.value
    for metric, image in product(("psnr", "ms_ssim"), explorer.image.options):
        explorer.metric.value, explorer.image.value = metric, image
        assert sorted(len(curve.bpp) for curve in explorer.curves()) == [1, 2, 3]  # mlic+, JPEG, WebP
    with pytest.raises(ValueError, match="no points with a loss"):
        lab.widgets.RDExplorer([replace(p, **perfect) for p in points])


def test_coders_may_come_one_by_one():
    found = lab.widgets.measure(PHOTOS, (coder("jpeg", c) for c in JPEG[:2]), progress=False)
    assert [(p.picture.name, p.configuration) for p in found] == [(name, c) for name in PHOTOS for c in JPEG[:2]]


def test_a_figure_that_can_not_be_is_refused_in_words(explorer, monkeypatch):
    monkeypatch.setattr(explorer, "paper_figure", lambda: rd_curves([]))
    explorer.save.click()
    assert "There is no such figure: there are 0 curves" in explorer.message.value


def test_mistakes_get_an_answer(points):
    with pytest.raises(ValueError, match="no points"):
        lab.widgets.RDExplorer([])
    with pytest.raises(ValueError, match="same rate points on every picture"):
        lab.widgets.RDExplorer(points[:-1])


def test_published_charts_say_so_and_name_their_source():
    curves = [
        Curve("VTM", [0.1, 0.2, 0.4], [28, 31, 34], "classical", source="a file"),
        Curve("ours", [0.1, 0.2, 0.4], [27, 30, 33]),
        Curve("far", [1, 2], [50, 60]),
    ]
    chart = lab.widgets.rd_chart(curves)
    assert [t.name for t in chart.data] == ["VTM (published)", "ours", "far"]
    assert "published: a file" in chart.data[0].hovertemplate and "published" not in chart.data[1].hovertemplate
    assert chart.data[0].marker.color == "white" and chart.data[1].marker.color != "white"
    savings = lab.widgets.saving_chart(curves[0], curves)
    assert {t.name for t in savings.data} == {"ours"}  # neither the anchor nor what shares no quality with it
    # a page that comes later finds all curves in the widget's state
    assert len(chart.get_state()["_widget_data"]) == 3


def test_charts_say_what_learned_codecs_were_trained_for_where_they_differ():
    codecs = ["vtm", "mbt2018", "elic2022 (paper)"]
    curves = lab.figures.operating_points.published_curves(codecs, metric="ms_ssim")
    for chart in (lab.widgets.rd_chart(curves, "ms_ssim"), lab.widgets.saving_chart(curves[0], curves, "ms_ssim")):
        named = {line.name for line in chart.data}
        assert {"joint autoregressive, for MS-SSIM", "ELIC, for MSE"} <= named

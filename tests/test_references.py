"""Laws of what is shown of the global reference: its pairs, maps and stages, GSDN's latents, the rate saved, clicks."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from laws import lively
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lic_lab import analysis, figures
from lic_lab.figures import png
from lic_lab.figures.references import REFERENCE, TARGET
from lic_lab.tracing import Trace, trace
from lic_lab.widgets import ReferenceExplorer

HEIGHT, WIDTH = 120, 200  # 8 x 13 latent positions, the last of which reach beyond the picture
UNITS = r"pixel|\(quantiser steps\)|bits|%|\(dB\)|\(0 to 1\)"


@pytest.fixture(scope="module")
def run() -> Trace:
    """A photograph through random weights: real references, real stages."""
    crop = np.ascontiguousarray(skimage.data.astronaut()[:HEIGHT, 100 : 100 + WIDTH])
    return trace(lively("global-reference"), crop, reconstruct=False)


@pytest.fixture(scope="module")
def plain() -> Trace:
    """A run without any reference or stage."""
    return trace(lively("mean-scale"), skimage.data.chelsea()[:64, :64], reconstruct=False)


@pytest.fixture(scope="module")
def checkerboard() -> Trace:
    """References of a checkerboard's non-anchors, slice by slice, and no stages."""
    codec = lively("shared").swap(channel="conv", local="checkerboard", global_="reference", refinement="none")
    return trace(codec, skimage.data.coffee()[:HEIGHT, :WIDTH], reconstruct=False)


# -- references --------------------------------------------------------------------------------------


def test_references_lie_in_the_past(run: Trace) -> None:
    found = run.references()
    h, w = found.similarity.shape
    i, j = np.indices((h, w))
    there = found.source[..., 0] >= 0
    assert there.sum() > h * w // 2
    front, of_source = j + 3 * i, found.source[..., 1] + 3 * found.source[..., 0]
    assert (of_source < front)[there].all()
    assert not there[0, 0]  # nothing was decoded before the first
    for values in (found.similarity, found.confidence):
        np.testing.assert_array_equal(np.isnan(values), ~there)
        assert ((values > 0) & (values <= 1 + 1e-6))[there].all()


def test_the_reference_is_the_most_similar_of_all_before(run: Trace) -> None:
    """Against Eq. 4, written out for a few targets."""
    y = np.pad(run.symbols.astype(float), ((0, 0), (1, 1), (1, 1)))
    h, w = run.bits.shape[1:]
    cells = [(0, 0), (0, 1), (0, 2), (1, 0)]  # of the 3 x 3 window: above and left
    patches = np.stack([y[:, a : a + h, b : b + w] for a, b in cells]).reshape(-1, h * w)
    unit = patches / np.maximum(np.linalg.norm(patches, axis=0), 1e-12)
    i, j = np.divmod(np.arange(h * w), w)
    front, found = j + 3 * i, run.references()
    for target in (5, 40, 77, h * w - 1):
        r = np.where(front < front[target], unit[:, target] @ unit, -np.inf)
        assert found.similarity[divmod(target, w)] == pytest.approx(r.max(), abs=1e-4)
        source = tuple(found.source[divmod(target, w)])
        assert r[np.ravel_multi_index(source, (h, w))] == pytest.approx(r.max(), abs=1e-4)


def test_picked_pairs_keep_their_distances_and_fall_in_score() -> None:
    rng = np.random.default_rng(1)
    h, w = 30, 40
    source = np.stack((rng.integers(-1, h + 3, (h, w)), rng.integers(0, w, (h, w))), 2)
    source[source[..., 0] < 0] = -1
    score = rng.uniform(size=(h, w))
    score[:3] = np.nan
    picked = analysis.pick_pairs(source, score, n=9, distance=7, apart=5, margin=2)
    assert picked.shape == (9, 2) and len(np.unique(picked, axis=0)) == 9
    at = picked[:, 0], picked[:, 1]
    pairs = np.stack((picked, source[at]), 1)
    assert (analysis.distances(source)[at] >= 7).all()
    assert ((pairs >= 2) & (pairs < (h - 2, w - 2))).all() and np.isfinite(score[at]).all()
    assert (np.diff(score[at]) <= 0).all()
    for a in range(9):
        for b in range(a):
            gaps = pairs[a][:, None] - pairs[b][None]
            assert np.hypot(gaps[..., 0], gaps[..., 1]).min() >= 5
    good = (analysis.distances(source) >= 7) & (source < (h - 2, w - 2)).all(2) & (source >= 2).all(2)
    good[:2] = good[-2:] = good[:, :2] = good[:, -2:] = False
    assert score[at][0] == np.nanmax(np.where(good, score, np.nan))  # nothing better was left out


def test_no_pair_is_good_enough_or_few_are() -> None:
    nothing = np.full((4, 5, 2), -1)
    assert analysis.pick_pairs(nothing, np.ones((4, 5))).shape == (0, 2)
    assert np.isnan(analysis.distances(nothing)).all()
    one = nothing.copy()
    one[3, 4] = 0, 0
    assert analysis.distances(one)[3, 4] == 5
    assert analysis.pick_pairs(one, np.ones((4, 5)), n=3, distance=5).tolist() == [[3, 4]]
    assert not len(analysis.pick_pairs(one, np.ones((4, 5)), distance=5.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": np.ones((2, 2))}, "give \\(h, w\\) and \\(h, w, 2\\)"),
        ({"n": 0}, "at least 1"),
        ({"distance": -1}, "at least 0"),
        ({"source": np.ones((4, 5))}, "\\(h, w, 2\\)"),
    ],
)
def test_pairs_that_cannot_be_picked_say_why(arguments: dict, message: str) -> None:
    given = {"source": np.full((4, 5, 2), -1), "score": np.ones((4, 5)), **arguments}
    with pytest.raises(ValueError, match=message):
        analysis.pick_pairs(**given)


def test_a_codec_without_stages_shows_its_references_by_slice(checkerboard: Trace) -> None:
    for i in range(len(checkerboard.slices)):
        found = checkerboard.references(i)
        asked = found.source[..., 0] >= 0
        assert asked.any() and not (asked & checkerboard.parts["anchor"]).any()
        sources = found.source[asked]
        assert checkerboard.parts["anchor"][sources[:, 0], sources[:, 1]].all()
        drawn = figures.reference_maps(checkerboard, slice=i).axes[2].images[0].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn), ~asked)
        words = [t.get_text() for ax in figures.reference_pairs(checkerboard, slice=i).axes for t in ax.texts]
        assert any(w.startswith("S ") for w in words) and not any("local" in w for w in words)
    with pytest.raises(ValueError, match="has no stages"):
        figures.reference_pairs(checkerboard, by="saving")
    bench = ReferenceExplorer(checkerboard, slice=1)
    i, j = bench.map.position
    bits = checkerboard.bits[checkerboard.channels(1), i, j].sum()
    assert float(rows_of(bench.table.value)["this slice"][0]) == pytest.approx(bits, abs=5.1e-3)
    anchor = np.argwhere(checkerboard.parts["anchor"])[5]
    bench.map.position = anchor.tolist()
    assert rows_of(bench.table.value)["reference"] == ["none: anchors have none, they are the past"]


# -- rates -------------------------------------------------------------------------------------------


def bjontegaard(anchor: tuple[np.ndarray, np.ndarray], curve: tuple[np.ndarray, np.ndarray]) -> float:
    """BD-rate in percent after VCEG-M33: cubic polynomials of log rate, integrated over the common range."""
    low = max(anchor[1].min(), curve[1].min())
    high = min(anchor[1].max(), curve[1].max())
    areas = []
    for rate, quality in (anchor, curve):
        whole = np.polyint(np.polyfit(quality, np.log(rate), 3))
        areas.append(np.polyval(whole, high) - np.polyval(whole, low))
    return 100 * float(np.expm1((areas[1] - areas[0]) / (high - low)))


def analytic(psnr: np.ndarray, factor: float = 1.0, tilt: float = 0.0) -> np.ndarray:
    """A rate that grows with quality as those of real codecs do: its logarithm is nearly, not quite, a line."""
    return factor * np.exp(0.19 * (psnr - 30) + 0.004 * (psnr - 30) ** 2 + tilt * (psnr - 33)) / 4


def test_a_constant_factor_is_a_constant_saving() -> None:
    psnr = np.linspace(28, 38, 9)
    for factor in (0.5, 0.9, 1.25):
        for ours in (psnr, psnr[2:7], np.linspace(26, 40, 12)):
            quality, saving = analysis.rate_saving((analytic(psnr), psnr), (analytic(ours, factor), ours))
            np.testing.assert_allclose(saving, 100 * (1 - factor), atol=0.4)  # two cubics of a parabola
            assert quality[0] == max(28, ours[0]) and quality[-1] == min(38, ours[-1])


def test_lines_in_log_rate_are_exact_and_order_is_of_no_effect() -> None:
    anchor = np.array([0.4, 0.1, 1.6]), np.array([32.0, 28.0, 36.0])  # log2 R = (PSNR - 28) / 2 - log2 10
    curve = np.array([0.15, 0.6]), np.array([30.0, 34.0])
    quality, saving = analysis.rate_saving(anchor, curve, at=[30, 31, 34])
    want = 0.15 * 2 ** ((quality - 30) / 2)
    np.testing.assert_allclose(saving, 100 * (1 - want / (0.1 * 2 ** ((quality - 28) / 2))), atol=1e-9)
    shuffled = analysis.rate_saving((anchor[0][::-1], anchor[1][::-1]), (curve[0][::-1], curve[1][::-1]), at=quality)
    np.testing.assert_allclose(shuffled[1], saving, atol=1e-12)


@pytest.mark.parametrize(("factor", "tilt"), [(0.8, 0.0), (1.3, 0.0), (0.85, 0.01), (1.2, -0.01), (0.93, -0.005)])
def test_the_saving_agrees_with_bjontegaard(factor: float, tilt: float) -> None:
    psnr, ours = np.linspace(28, 38, 8), np.linspace(29, 37, 5)
    anchor, curve = (analytic(psnr), psnr), (analytic(ours, factor, tilt), ours)
    _, saving = analysis.rate_saving(anchor, curve)
    bd = bjontegaard(anchor, curve)
    assert np.sign(saving.mean()) == -np.sign(bd)
    log_mean = 100 * np.expm1(np.log1p(-saving / 100).mean())  # as BD-rate averages
    assert log_mean == pytest.approx(bd, abs=0.5)


def test_nothing_is_extrapolated() -> None:
    anchor = ([0.1, 0.4], [28.0, 32.0])
    with pytest.raises(ValueError, match=r"28\.00 to 32\.00 dB and the curve 32\.50 to 36\.00 dB"):
        analysis.rate_saving(anchor, ([0.4, 0.8], [32.5, 36.0]))
    with pytest.raises(ValueError, match="nothing is extrapolated"):
        analysis.rate_saving(anchor, ([0.2, 0.8], [30.0, 36.0]), at=[29.0])
    touching, saving = analysis.rate_saving(anchor, ([0.3, 0.8], [32.0, 36.0]))
    assert touching.tolist() == [32.0] and saving == pytest.approx([25.0])
    assert analysis.rate_saving(anchor, ([0.2], [30.0]))[1] == pytest.approx([0.0], abs=1e-9)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (([0.2, 0.1], [29, 31]), "does not rise"),
        (([0.1, 0.2], [29, 29]), "does not rise"),
        (([0.1, 0.2], [29]), "as many of both"),
        (([], []), "as many of both"),
        (([0.0, 0.2], [29, 31]), "rates > 0"),
        (([0.1, np.nan], [29, 31]), "finite"),
    ],
)
def test_a_curve_that_is_none_says_why(curve: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analysis.rate_saving(([0.1, 0.4], [28.0, 32.0]), curve)


def test_mean_curves_are_means_setting_by_setting() -> None:
    bpp, psnr = analysis.mean_curve([[(0.1, 28.0), (0.3, 31.0)], [(0.3, 30.0), (0.5, 33.0)]])
    assert bpp == pytest.approx([0.2, 0.4]) and psnr == pytest.approx([29.0, 32.0])
    with pytest.raises(ValueError, match="the same settings"):
        analysis.mean_curve([[(0.1, 28.0)], []])


# -- distributions -----------------------------------------------------------------------------------


def sets() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(2)
    spread = np.array([4.0, 1.0, 0.0, 8.0, 2.0])[:, None, None]
    first = [1.5 + spread * rng.normal(size=(5, *size)) for size in ((6, 9), (3, 4))]
    return first, [0.9 * of - 1.0 for of in first]


def test_mean_shift_is_numpys_over_all_positions() -> None:
    first, _ = sets()
    mean, deviation = analysis.mean_shift(first)
    for channel in range(5):
        values = np.concatenate([of[channel].ravel() for of in first])
        assert mean[channel] == pytest.approx(np.mean(values)) and deviation[channel] == pytest.approx(np.std(values))


def test_symbol_entropy_is_that_of_the_frequencies() -> None:
    latent = np.zeros((3, 4, 4))
    latent[1] = np.arange(16).reshape(4, 4) + 0.3
    latent[2, 0, 0] = 1.6
    p = np.array([1, 15]) / 16
    np.testing.assert_allclose(analysis.symbol_entropy([latent]), [0, 4, -(p * np.log2(p)).sum()])
    np.testing.assert_allclose(analysis.symbol_entropy([latent, latent]), analysis.symbol_entropy([latent]))
    with pytest.raises(ValueError, match="same channels"):
        analysis.symbol_entropy([latent, latent[:2]])
    with pytest.raises(ValueError, match="one or more"):
        analysis.symbol_entropy([])


def test_histograms_show_the_channels_of_highest_entropy_with_their_means() -> None:
    first, second = sets()
    figure = figures.latent_histograms(first, second)
    titles = [ax.get_title() for ax in figure.axes]
    assert [int(re.search(r"channel (\d+)", t).group(1)) for t in titles] == [3, 0, 4, 1]
    for ax, channel in zip(figure.axes, (3, 0, 4, 1), strict=True):
        dashed = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
        want = [np.mean(np.concatenate([of[channel].ravel() for of in latents])) for latents in (first, second)]
        assert dashed == pytest.approx(want)
        for mean in want:
            assert f"{mean:+.2f}".replace("-", "\N{MINUS SIGN}") in ax.get_title()
    words = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    for latents in (first, second):
        assert f"{np.abs(analysis.mean_shift(latents)[0]).mean():.3f}" in words
    assert len(figures.latent_histograms(first, second, channels=[2]).axes) == 1  # a constant channel is drawn


# -- figures -----------------------------------------------------------------------------------------

CURVES = {
    "local": ([0.2, 0.5], [29.0, 33.0]),
    "+ reference": ([0.18, 0.47], [29.0, 33.0]),
    "one point": ([0.3], [31.0]),
}
ANCHOR = ([0.1, 0.2, 0.4, 0.8], [26.0, 28.5, 31.5, 34.5])

FIGURES: dict[str, Callable[[Trace], Figure]] = {
    "reference_pairs": figures.reference_pairs,
    "reference_pairs by saving": lambda run: figures.reference_pairs(run, by="saving", window=1),
    "reference_pairs given": lambda run: figures.reference_pairs(run, targets=[(7, 12), (4, 0)]),
    "reference_maps": figures.reference_maps,
    "progressive_stages": figures.progressive_stages,
    "latent_histograms": lambda run: figures.latent_histograms(*sets()),
    "rate_savings": lambda run: figures.rate_savings(ANCHOR, CURVES, name="JPEG 2000"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_labelled_stay_on_the_page_and_embed_their_fonts(name: str, run: Trace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = FIGURES[name](run)
        pdf = io.BytesIO()
        figure.savefig(pdf, format="pdf")
    assert b"/Type3" not in pdf.getvalue()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox
    for ax in filter(lambda ax: ax.get_visible(), figure.axes):
        box = ax.get_tightbbox(renderer)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, f"{name}: {box}"
        ticks = [tick for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_ticklabels() if tick.get_text()]
        labels = [label for label in (ax.get_xlabel(), ax.get_ylabel()) if label]
        if ticks:
            assert labels or "histograms" in name, f"an axis of {name} has numbers and no label"
        for label in labels:
            assert re.search(UNITS, label) or label.startswith("pair "), f"{name}: {label!r} names no unit"
    boxes = [of.get_window_extent(renderer) for of in [*figure.legends, *figure.texts]]
    if figure._suptitle is not None:
        boxes.append(figure._suptitle.get_window_extent(renderer))
    assert all(-1 <= b.x0 and b.x1 <= page.x1 + 1 for b in boxes), name


def test_boxes_lie_on_target_and_reference(run: Trace) -> None:
    found = run.references()
    for window in (1, 3):
        ax = figures.reference_pairs(run, targets=[(7, 12), (4, 5)], window=window).axes[0]
        drawn = [p for p in ax.patches if p.get_linewidth() < 2]  # the coloured ones, not their black ground
        centres = [(p.get_y() + p.get_height() / 2, p.get_x() + p.get_width() / 2) for p in drawn]
        want = [16 * (np.array(p) + 0.5) for t in ((7, 12), (4, 5)) for p in (t, found.source[t])]
        np.testing.assert_allclose(centres, want)
        assert {p.get_width() for p in drawn} == {16.0 * window}
        colours = [matplotlib_hex(p.get_edgecolor()) for p in drawn]
        assert colours == [TARGET.lower(), REFERENCE.lower()] * 2


def matplotlib_hex(colour: tuple) -> str:
    from matplotlib.colors import to_hex

    return to_hex(colour)


def test_default_targets_are_the_most_similar_or_the_most_saving(run: Trace) -> None:
    text = [t.get_text() for ax in figures.reference_pairs(run, window=1).axes for t in ax.texts]
    similarities = [float(re.search(r"S ([\d.]+)", t).group(1)) for t in text if t.startswith("S ")]
    assert similarities == sorted(similarities, reverse=True)
    text = [t.get_text() for ax in figures.reference_pairs(run, by="saving", window=1).axes for t in ax.texts]
    costs = [re.findall(r": ([\d.]+)", t) for t in text if t.startswith("S ")]
    saved = [float(a) - float(b) for a, b, _ in costs]
    assert np.all(np.diff(saved) <= 0.15)  # numbers have one digit


def test_maps_are_s_u_and_their_product(run: Trace) -> None:
    found = run.references()
    figure = figures.reference_maps(run)
    s, u, product = (np.ma.filled(ax.images[0].get_array().astype(float), np.nan) for ax in figure.axes[1:4])
    np.testing.assert_allclose(s, np.clip(found.similarity, 0, 1))
    np.testing.assert_allclose(u, found.confidence)
    np.testing.assert_allclose(product, s * u)


def test_stages_show_symbols_less_means_and_the_change_of_bits(run: Trace) -> None:
    channel = 7
    panels = figures.progressive_stages(run, channel).axes[:15]
    shown = [stage.bits[channel].sum() for stage in run.stages]
    for k, stage in enumerate(run.stages):
        assert panels[5 * k + 3].get_title() == f"{shown[k]:.0f} bits"
        y, mu, error, bits = (np.asarray(ax.images[0].get_array()) for ax in panels[5 * k : 5 * k + 4])
        np.testing.assert_allclose(y, run.symbols[channel])
        np.testing.assert_allclose(y - mu, error, atol=1e-5)
        np.testing.assert_allclose(bits, stage.bits[channel])
        if k:
            change = np.asarray(panels[5 * k + 4].images[0].get_array())
            np.testing.assert_allclose(change, stage.bits[channel] - run.stages[k - 1].bits[channel])
            less = shown[k] - shown[k - 1]
            title = f"{less:+.0f} bits, {100 * less / shown[k - 1]:+.1f} %".replace("-", "\N{MINUS SIGN}")
            assert panels[5 * k + 4].get_title() == title
            low, high = panels[5 * k + 4].images[0].get_clim()
            assert low == -high and panels[5 * k + 4].images[0].get_cmap().name == figures.style.SIGNED
    assert not panels[4].get_visible()
    default = figures.progressive_stages(run)
    bits = run.bits.sum((1, 2))
    share = f"{100 * bits.max() / bits.sum():.1f} % of y's bits"
    assert default._suptitle.get_text().startswith(f"channel {bits.argmax()}, {share};")


def test_the_last_stage_is_the_one_that_codes(run: Trace) -> None:
    np.testing.assert_array_equal(run.stages[-1].bits, run.bits)


def test_savings_are_drawn_within_the_common_range() -> None:
    ax = figures.rate_savings(ANCHOR, {"ours": ([0.05, 0.3, 1.5], [25.0, 31.0, 37.0])}).axes[0]
    line, points = ax.lines[:2]
    assert (line.get_xdata().min(), line.get_xdata().max()) == (26.0, 34.5)
    assert points.get_xdata().tolist() == [31.0]  # of three points, the one that JPEG's curve reaches
    assert points.get_ydata() == pytest.approx(np.interp(31.0, line.get_xdata(), line.get_ydata()), abs=0.1)
    with pytest.raises(ValueError, match="no quality at which both are known"):
        figures.rate_savings(ANCHOR, {"ours": ([1, 2], [40, 44])})
    with pytest.raises(ValueError, match="1 to 14"):
        figures.rate_savings(ANCHOR, {})


def test_figure_mistakes_get_an_answer(run: Trace, plain: Trace) -> None:
    for draw in (figures.reference_pairs, figures.reference_maps):
        with pytest.raises(ValueError, match="no references of slice 0"):
            draw(plain)
    with pytest.raises(ValueError, match="has no stages"):
        figures.progressive_stages(plain)
    with pytest.raises(ValueError, match="channels 0 to"):
        figures.progressive_stages(run, channel=len(run.bits))
    with pytest.raises(ValueError, match="rows are 0 to 7"):
        figures.reference_pairs(run, targets=[(8, 0)])
    with pytest.raises(ValueError, match=r"no reference was found for \(0, 0\)"):
        figures.reference_pairs(run, targets=[(0, 0)])
    with pytest.raises(ValueError, match="no targets"):
        figures.reference_pairs(run, targets=[])
    with pytest.raises(ValueError, match="'similarity' or 'saving'"):
        figures.reference_pairs(run, by="luck")
    with pytest.raises(ValueError, match="odd"):
        figures.reference_pairs(run, window=2)
    first, second = sets()
    with pytest.raises(ValueError, match="the same channels"):
        figures.latent_histograms(first, [of[:3] for of in second])
    with pytest.raises(ValueError, match="0 to 4"):
        figures.latent_histograms(first, second, channels=[5])


# -- the click ---------------------------------------------------------------------------------------


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells of a table's rows by their heading, without tags."""
    found = {}
    for heading, cells in re.findall(r"<th scope='row'>(.*?)</th>((?:<td>.*?</td>)+)", table):
        found[re.sub("<[^>]*>", "", heading)] = re.findall(r"<td>(.*?)</td>", cells)
    return found


def test_a_click_shows_the_reference_and_the_bits_of_each_stage(run: Trace) -> None:
    found = run.references()
    bench = ReferenceExplorer(run)
    assert bench.map.grid == [8, 13] and bench.map.clickable
    for i, j in ((5, 11), (7, 0), (2, 6)):
        bench.map.position = [i, j]
        source = tuple(found.source[i, j])
        cells = rows_of(bench.table.value)
        assert cells["target"] == [f"row {i}, column {j}"]
        assert cells["reference"] == ["row {}, column {}".format(*source)]
        assert float(cells["similarity S"][0]) == pytest.approx(found.similarity[i, j], abs=5.1e-5)
        assert float(cells["confidence U"][0]) == pytest.approx(found.confidence[i, j], abs=5.1e-5)
        assert float(cells["distance"][0].split()[0]) == pytest.approx(np.hypot(source[0] - i, source[1] - j), abs=0.06)
        before = None
        for stage in run.stages:
            bits, change = cells[stage.name]
            assert float(bits) == pytest.approx(stage.bits[:, i, j].sum(), abs=5.1e-3)
            if before is not None:
                assert float(change.replace("\N{MINUS SIGN}", "-")) == pytest.approx(
                    stage.bits[:, i, j].sum() - before, abs=5.1e-3
                )
            before = stage.bits[:, i, j].sum()
        assert (bench.row.value, bench.column.value) == (i, j)
        assert (
            f"row {i}, column {j}" in bench.map.readout and "row {}, column {}".format(*source) in bench.map.description
        )


def test_the_picture_has_the_boxes_where_they_belong(run: Trace) -> None:
    bench = ReferenceExplorer(run, position=(5, 8))
    bench.window.value = 1
    drawn = pixels(bench.map.value)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    for position, colour in (((5, 8), TARGET), (tuple(run.references().source[5, 8]), REFERENCE)):
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        i, j = np.nonzero((drawn == wanted).all(2))
        assert len(i)
        assert max(0, 16 * position[0] - 3) <= i.min() and i.max() < 16 * position[0] + 19
        assert max(0, 16 * position[1] - 3) <= j.min() and j.max() < 16 * position[1] + 19
    one = bench.map.value
    bench.window.value = 3
    assert bench.map.value != one


def test_one_change_draws_once_and_fields_do_as_clicks(run: Trace) -> None:
    bench = ReferenceExplorer(run, position=(5, 8))
    count = bench.map.run
    bench.map.position = [6, 9]
    assert bench.map.run == count + 1
    clicked = bench.map.value, bench.table.value
    bench.map.position = [5, 8]
    bench.row.value = 6
    bench.column.value = 9
    assert bench.map.position == [6, 9] and (bench.map.value, bench.table.value) == clicked


def test_a_target_without_a_reference_says_so(run: Trace) -> None:
    bench = ReferenceExplorer(run)
    bench.map.position = [0, 0]
    assert "nothing to refer to" in bench.map.readout
    cells = rows_of(bench.table.value)
    assert cells["reference"][0].startswith("none") and "similarity S" not in cells
    assert float(cells["local"][0]) == pytest.approx(run.stages[0].bits[:, 0, 0].sum(), abs=5.1e-3)
    yellow = [int(REFERENCE[k : k + 2], 16) for k in (1, 3, 5)]
    assert not (pixels(bench.map.value) == yellow).all(2).any()


def test_a_position_beyond_the_picture_becomes_the_nearest_on_it(run: Trace) -> None:
    bench = ReferenceExplorer(run)
    bench.map.position = [99, 99]
    assert bench.map.position == [7, 12]
    assert rows_of(bench.table.value)["target"] == ["row 7, column 12"]


def test_an_explorer_needs_references(plain: Trace) -> None:
    with pytest.raises(ValueError, match="no references of slice 0"):
        ReferenceExplorer(plain)


def test_boxes_keep_the_pixels_inside_and_say_what_is_wrong() -> None:
    picture = np.full((40, 60, 3), 128, np.uint8)
    drawn = pixels(png.boxes_png(picture, [((10, 20, 15, 35), "#0072B2")], thick=2))
    assert (drawn[10:20, 15:35] == 128).all() and (drawn[8:10, 13:37] == [0, 114, 178]).all()
    assert (drawn[7, 12:38] == 0).all() and (drawn[:7] == 128).all()
    beyond = pixels(png.boxes_png(picture, [((30, 60, 50, 90), "#0072B2")], thick=2))
    assert beyond.shape == picture.shape and (beyond[30:, 50:] == 128).all()
    with pytest.raises(ValueError, match="rising"):
        png.boxes_png(picture, [((20, 10, 0, 5), "#0072B2")])
    with pytest.raises(ValueError, match="uint8"):
        png.boxes_png(picture / 255, [])

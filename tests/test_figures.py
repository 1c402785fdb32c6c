"""Laws of lic_lab.figures: labelled, embeddable, silent; and PNG bytes that show what they were given."""

from __future__ import annotations

import io
import re
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import skimage.data
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lic_lab import figures
from lic_lab.analysis.correlation import (
    WEIGHTINGS,
    cosine_similarity_map,
    noise_floor,
    spatial_correlation,
    strongest,
    vectors,
)
from lic_lab.codecs.shared import SharedLatent
from lic_lab.figures import maps, png
from lic_lab.figures.style import STYLE, StyledFigure
from lic_lab.tracing import Trace, latent, trace

UNITS = r"pixel|position|bits|%|percent|of 255|bpp|\u22121 to 1|rank|part of the stream|components|symbols"

ROWS = [
    {"channel": c, "local": lo, "global": g, "refinement": "none", "bpp": 0.3 + v / 1000, "bits_vs_base_percent": v}
    for c, lo, g, v in (
        ("none", "none", "none", 0.0),
        ("none", "attention", "none", -3.0),
        ("conv", "none", "none", 1.5),
        ("conv", "stacked", "none", -4.0),
        ("conv", "attention", "intra+inter", -6.0),
    )
]

FIGURES: dict[str, Callable[[Trace, Trace], Figure]] = {
    "reconstruction": lambda a, b: figures.reconstruction(b),
    "bit_map": lambda a, b: figures.bit_map(b),
    "bit_map over image": lambda a, b: figures.bit_map(b, over_image=True),
    "bit_map_difference": lambda a, b: figures.bit_map_difference(a, b),
    "bit_split": lambda a, b: figures.bit_split(b),
    "bit_split of one part": lambda a, b: figures.bit_split(a),
    "channel_entropy": lambda a, b: figures.channel_entropy(b),
    "channel_entropy alone": lambda a, b: figures.channel_entropy(b, thumbnails=0),
    "cosine_similarity": lambda a, b: figures.cosine_similarity(b, (2, 3)),
    "cosine_similarity of slices": lambda a, b: figures.cosine_similarity(b, (2, 3), slice=(0, 2)),
    "spatial_correlation": lambda a, b: figures.spatial_correlation(b),
    "attention local": lambda a, b: figures.attention(b, "local", 0, (3, 4)),
    "attention intra": lambda a, b: figures.attention(b, "intra", 1, (3, 4)),
    "attention inter": lambda a, b: figures.attention(b, "inter", 3, (3, 4), head=0),
    "ablation": lambda a, b: figures.ablation(ROWS),
}


@pytest.fixture(scope="module")
def traces() -> tuple[Trace, Trace]:
    """A photograph through untrained weights, without any context and with every one: maps of the right shape."""
    codec = SharedLatent().eval()
    codec.update()
    found = latent(codec, np.ascontiguousarray(skimage.data.astronaut()[:120, :186]))
    bare = codec.swap(channel="none", local="none", global_="none", refinement="none")
    full = codec.swap(channel="conv", local="attention", global_="intra+inter", refinement="lrp")
    return trace(bare, found), trace(full, found)


def data_axes(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_visible()]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_labelled_with_units_and_save_with_embedded_fonts(name: str, traces: tuple[Trace, Trace]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = FIGURES[name](*traces)
        pdf = io.BytesIO()
        figure.savefig(pdf, format="pdf")
    for ax in data_axes(figure):
        labels = [ax.get_xlabel(), ax.get_ylabel()]
        assert any(labels), f"an axis of {name} has no label"
        for label in filter(None, labels):
            assert re.search(UNITS, label), f"{name}: {label!r} names no unit"
    content = pdf.getvalue() + b"".join(_streams(pdf.getvalue()))
    assert b"/Type3" not in content and b"/Subtype /Type0" in content and b"/FontFile2" in content


def _streams(pdf: bytes) -> list[bytes]:
    """The compressed streams of a PDF, in which it may keep its objects."""
    found = []
    for part in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.S):
        try:
            found.append(zlib.decompressobj().decompress(part))
        except zlib.error:
            continue
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_leaves_the_page(name: str, traces: tuple[Trace, Trace]) -> None:
    figure = FIGURES[name](*traces)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # lays it out
    renderer, page = canvas.get_renderer(), figure.bbox
    for ax in data_axes(figure):
        box = ax.get_tightbbox(renderer)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, f"{name}: {box}"


def test_figures_leave_the_callers_settings_alone(traces: tuple[Trace, Trace]) -> None:
    before = dict(matplotlib.rcParams)
    figures.bit_map(traces[1]).savefig(io.BytesIO(), format="svg")
    assert dict(matplotlib.rcParams) == before
    import matplotlib.pyplot as plt

    assert not plt.get_fignums(), "figures must not pile up in pyplot"


def test_figures_show_themselves_in_a_notebook(traces: tuple[Trace, Trace]) -> None:
    figure = figures.bit_split(traces[1])
    assert isinstance(figure, StyledFigure)
    image = Image.open(io.BytesIO(figure._repr_png_()))
    np.testing.assert_allclose(image.size, 130 * figure.get_size_inches(), atol=1)


def test_width_is_what_was_asked_for(traces: tuple[Trace, Trace]) -> None:
    assert figures.bit_map(traces[1], over_image=True).get_figwidth() == figures.COLUMN
    assert figures.cosine_similarity(traces[1], (0, 0), width=5).get_figwidth() == 5
    with pytest.raises(ValueError, match="too little for 3 panels"):
        figures.reconstruction(traces[1], width=2)


def test_bit_map_draws_the_bits_where_they_belong(traces: tuple[Trace, Trace]) -> None:
    found = traces[1]
    ax = figures.bit_map(found).axes[1]
    (image,) = ax.images
    np.testing.assert_allclose(np.asarray(image.get_array()), found.bits.sum(0))
    assert image.get_extent() == [0, 192, 128, 0]  # 12 x 8 positions, the last of which reach beyond the picture
    assert ax.get_xlim() == (0, 186) and ax.get_ylim() == (120, 0)  # of which the picture is seen


def test_the_difference_is_of_b_less_a(traces: tuple[Trace, Trace]) -> None:
    a, b = traces
    (image,) = figures.bit_map_difference(a, b).axes[1].images
    np.testing.assert_allclose(np.asarray(image.get_array()), b.bits.sum(0) - a.bits.sum(0))
    low, high = image.get_clim()
    assert low == -high  # zero is white


def test_bars_add_up_to_the_rate(traces: tuple[Trace, Trace]) -> None:
    for found in traces:
        bars = figures.bit_split(found).axes[0].patches
        assert sum(bar.get_width() for bar in bars) == pytest.approx(found.bpp["total"])


def test_channel_bars_fall_and_add_up(traces: tuple[Trace, Trace]) -> None:
    heights = [bar.get_height() for bar in figures.channel_entropy(traces[1]).axes[0].patches]
    assert len(heights) == len(traces[1].bits) and sum(heights) == pytest.approx(traces[1].bits.sum())
    assert (np.diff(heights) <= 0).all()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_similarity_is_that_of_the_vectors_its_title_names(traces: tuple[Trace, Trace], weighting: str) -> None:
    found = traces[1]
    figure = figures.cosine_similarity(found, (2, 3), slice=(0, 2), weighting=weighting)
    for ax, i in zip(figure.axes[1:3], (0, 2), strict=True):
        of = found.y_hat[found.channels(i)]
        want = cosine_similarity_map(vectors(of, weighting), (2, 3))
        np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), want)
        channel, share = strongest(of)
        channel += found.channels(i).start
        words = {"normalised": "normalised", "rest": f"without channel {channel}"}
        words["plain"] = f"plain: {100 * share:.0f} % is channel {channel}"
        assert ax.get_title() == f"slice {i}\n{words[weighting]}"
    alone = figures.cosine_similarity(
        found, (2, 3), slice=np.int64(2), weighting=weighting
    )  # as arrays of numbers give
    assert alone.axes[1].get_title() == figure.axes[2].get_title()


def test_positions_in_the_padding_are_no_part_of_a_similarity(traces: tuple[Trace, Trace]) -> None:
    found = traces[1]
    padded = np.pad(found.y_hat, ((0, 0), (0, 4), (0, 4)), constant_values=50)
    of = replace(found, y_hat=padded)  # as of a model of others
    drawn = [np.asarray(figures.cosine_similarity(t, (2, 3)).axes[1].images[0].get_array()) for t in (found, of)]
    np.testing.assert_array_equal(*drawn)


def test_correlations_are_drawn_in_one_unit_on_a_scale_that_stays(traces: tuple[Trace, Trace]) -> None:
    for found in traces:
        for limit in (0.1, 0.001, 1):
            figure = figures.spatial_correlation(found, reach=2, limit=limit)
            ax, bar = figure.axes
            assert ax.images[0].get_clim() == (-100 * limit, 100 * limit)  # whatever the data
            rho = 100 * spatial_correlation(found.on_picture(found.standardised), 2)
            numbers = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in ax.texts]
            np.testing.assert_allclose(numbers, rho.ravel(), atol=0.0501)  # the centre, 100, too
            assert bar.get_ylabel() == "correlation (%)"
            off = np.delete(np.abs(rho).ravel(), 12)
            assert (len(arrows(bar)) > 0) == (off.max() > 100 * limit)
            said, chance = re.findall(r"([0-9.]+) %", ax.get_title())
            assert float(said) == pytest.approx((np.abs(rho[1:4, 1:4]).sum() - 100) / 8, abs=0.00501)
            floor = 100 * noise_floor(found.on_picture(found.standardised), 2)[1:4, 1:4].sum() / 8
            assert float(chance) == pytest.approx(floor, abs=0.00501)
    with pytest.raises(ValueError, match="limit is 0; give the correlation of the strongest colours"):
        figures.spatial_correlation(traces[0], limit=0)


def arrows(bar: Axes) -> list[object]:
    """The ends of a colour bar that say that values go on."""
    return [patch for patch in bar.patches if len(patch.get_path().vertices) == 3]


def test_a_colour_bar_ends_in_an_arrow_where_values_that_are_seen_go_on(traces: tuple[Trace, Trace]) -> None:
    most = float(traces[1].bit_map.max())
    for high, ends in ((None, 0), (most, 0), (0.9 * most, 1)):
        assert len(arrows(figures.bit_map(traces[1], high=high).axes[-1])) == ends
    for limit, ends in ((None, 0), (1e-3, 2)):
        assert len(arrows(figures.bit_map_difference(*traces, limit=limit).axes[-1])) == ends
    exact = replace(traces[1], x_hat=traces[1].x)
    assert not arrows(figures.reconstruction(exact).axes[-1])
    assert len(arrows(figures.reconstruction(traces[1]).axes[-1])) == 1  # the worst pixels are let go
    figure, (ax,) = maps.row((48, 48), 4, 1)
    image = maps.latent_map(ax, np.array([[0.0, 1, 2], [0, -5, 2], [0, 9, 2]]), (48, 48), (16, 16), 0, 2)
    assert maps.beyond(image) == "both"
    for ylim, ends in (((16, 0), "neither"), ((30, 18), "min"), ((48, 33), "max")):  # zoomed in on one row
        ax.set_ylim(*ylim)
        assert maps.beyond(image) == ends


def test_the_titles_of_a_difference_say_what_else_differs(traces: tuple[Trace, Trace]) -> None:
    a, b = traces
    assert "with other" not in figures.bit_map_difference(a, b).axes[1].get_title()
    for other, words in (
        (replace(b, quality=4), "with other rate points (None and 4)"),
        (replace(b, codec="elic", quality=4), "with other codecs (shared and elic), rate points (None and 4)"),
        (replace(b, symbols=b.symbols + 1), "with other symbols"),
    ):
        assert words in figures.bit_map_difference(a, other).axes[1].get_title()
    with pytest.raises(ValueError, match=r"a has \(8, 12\) latent positions"):
        figures.bit_map_difference(a, replace(b, geometry=replace(b.geometry, stride=8)))


def test_the_titles_of_an_attention_map_say_which_query_it_is_and_whether_anything_is_hatched(traces) -> None:
    found = traces[1]
    told = set()
    for component in ("local", "intra", "inter"):
        for position in ((3, 4), (3, 5), (0, 0)):
            map_ = found.attention(component, 1, position)
            image, ax, _ = figures.attention(found, component, 1, position).axes
            if map_.position == position:
                assert image.get_title() == "image, query marked"
            else:
                assert image.get_title() == f"image: {position} asks nothing, {map_.position} marked"
            hatched = any(patch.get_hatch() for patch in ax.patches)
            assert ("hatched" in ax.get_title()) == hatched == (not map_.visible.all())
            told.add((map_.position == position, hatched))
    assert told == {(True, True), (False, True), (True, False), (False, False)}


def test_attention_hides_exactly_the_mask(traces: tuple[Trace, Trace]) -> None:
    found = traces[1].attention("intra", 1, (3, 4))
    ax = figures.attention(traces[1], "intra", 1, (3, 4)).axes[1]
    drawn = np.ma.masked_invalid(ax.images[1].get_array())
    np.testing.assert_array_equal(~np.ma.getmaskarray(drawn), found.visible)
    assert float(drawn.sum()) == pytest.approx(100, abs=0.1)  # percent


def test_mistakes_get_an_answer(traces: tuple[Trace, Trace]) -> None:
    bare, full = traces
    with pytest.raises(ValueError, match="no attention map of 'intra'"):
        figures.attention(bare, "intra", 1, (0, 0))
    with pytest.raises(ValueError, match="slices 0 to 3"):
        figures.cosine_similarity(full, (0, 0), slice=4)
    with pytest.raises(ValueError, match="128 channels"):
        figures.channel_entropy(full, thumbnails=129)
    with pytest.raises(ValueError, match="no rows"):
        figures.ablation([])
    with pytest.raises(ValueError, match="lacks bpp"):
        figures.ablation([{k: v for k, v in ROWS[0].items() if k != "bpp"}])
    other = trace(SharedLatent(), skimage.data.chelsea()[:64, :64], reconstruct=False)
    with pytest.raises(ValueError, match="different images"):
        figures.bit_map_difference(full, other)
    with pytest.raises(ValueError, match="reconstruct=True"):
        figures.reconstruction(other)


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (17, 33)], ids=str)
def test_the_smallest_latents_are_drawn(size: tuple[int, int]) -> None:
    codec = SharedLatent().swap(channel="conv", local="attention", global_="intra+inter")
    small = trace(codec, skimage.data.chelsea()[: size[0], : size[1]])
    one = small.bits.shape[1:] == (1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw: list[Callable[[Trace], Figure]] = [figures.bit_map, figures.channel_entropy, figures.bit_split]
        draw += [figures.reconstruction, lambda run: figures.bit_map_difference(run, run)]
        draw += [lambda run: figures.cosine_similarity(run, (0, 0))]
        draw += [] if one else [figures.spatial_correlation, lambda run: figures.attention(run, "local", 0, (0, 0))]
        for of in draw:
            of(small).savefig(io.BytesIO(), format="png")
    if one:  # what needs more says so
        with pytest.raises(ValueError, match="1 x 1 positions, and offsets need two rows and two columns"):
            figures.spatial_correlation(small)
        with pytest.raises(ValueError, match="nothing asks"):
            figures.attention(small, "local", 0, (0, 0))


def test_style_is_publishable() -> None:
    assert STYLE["pdf.fonttype"] == 42 and STYLE["savefig.bbox"] is None


# --- png ---------------------------------------------------------------------------------------------------------


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def photograph() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:100, :150])


def test_image_png_is_lossless(photograph: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels(png.image_png(photograph)), photograph)
    np.testing.assert_array_equal(pixels(png.image_png(photograph[:1, :1])), photograph[:1, :1])
    np.testing.assert_array_equal(pixels(png.image_png(photograph[:, ::-1])), photograph[:, ::-1])
    np.testing.assert_array_equal(pixels(png.image_png(photograph[:, :, 0]))[:, :, 1], photograph[:, :, 0])


def test_heatmap_png_is_matplotlibs_colours() -> None:
    values = np.random.default_rng(6).normal(size=(4, 6))
    found = pixels(png.heatmap_png(values, size=(64, 96), low=-1, high=1))
    want = 255 * matplotlib.colormaps["viridis"](np.clip((values + 1) / 2, 0, 1))[:, :, :3]
    assert np.abs(found - np.kron(want, np.ones((16, 16, 1)))).max() < 5  # 252 colours, not 256
    assert (found.reshape(4, 16, 6, 16, 3) == found[::16, ::16].reshape(4, 1, 6, 1, 3)).all()


def test_heatmap_png_over_a_picture_cuts_what_lies_beyond(photograph: np.ndarray) -> None:
    values = np.zeros((8, 12))
    values[0, 0] = 1
    found = pixels(png.heatmap_png(values, size=(100, 150), over=photograph, cell=(16, 16), opacity=1, colours="gray"))
    assert (found[:16, :16] == 255).all() and not found[16:].any() and not found[:, 16:].any()
    unseen = pixels(png.heatmap_png(values, size=(100, 150), over=photograph, cell=(16, 16), opacity=0))
    grey = np.asarray(Image.fromarray(photograph).convert("L"))
    np.testing.assert_array_equal(unseen, grey[:, :, None].repeat(3, 2))


def test_heatmap_png_has_positions_that_are_no_whole_pixels_and_no_squares() -> None:
    values = np.arange(6.0).reshape(2, 3)
    drawn = pixels(png.heatmap_png(values, size=(40, 70), cell=(30.5, 25.25), colours="gray"))[:, :, 0]
    rows, columns = (np.flatnonzero(np.diff(line.astype(int))) + 1 for line in (drawn[:, 0], drawn[0]))
    assert rows.tolist() == [30] and columns.tolist() == [25, 50]  # the middle of a pixel says where it belongs
    marked = pixels(png.heatmap_png(values, size=(40, 70), cell=(30.5, 25.25), mark=(0, 1)))
    plain = pixels(png.heatmap_png(values, size=(40, 70), cell=(30.5, 25.25)))
    i, j = np.nonzero((plain != marked).any(2))
    assert i.min() == 0 and 30 <= i.max() < 40 and 19 <= j.min() <= 25 and 50 <= j.max() < 57


def test_hidden_positions_have_no_colour_and_the_mark_is_on_its_position(photograph: np.ndarray) -> None:
    values = np.random.default_rng(7).uniform(size=(4, 4))
    values[1, 2] = np.nan
    found = pixels(png.heatmap_png(values, size=(64, 64), hidden=np.eye(4, dtype=bool)))
    for i, j in np.ndindex(4, 4):
        cell = found[16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
        grey = bool((cell == cell[..., :1]).all())
        assert grey == (i == j or (i, j) == (1, 2))
    plain, marked = (pixels(png.heatmap_png(values, size=(64, 64), mark=m)) for m in (None, (2, 1)))
    rows, columns = np.nonzero((plain != marked).any(2))
    assert 16 * 2 - 6 <= rows.min() and rows.max() < 16 * 3 + 6
    assert 16 - 6 <= columns.min() and columns.max() < 16 * 2 + 6
    np.testing.assert_array_equal(marked[40, 24], plain[40, 24])  # its own colour is still to be seen
    png.heatmap_png(values, size=(10, 10), cell=(16, 16), mark=(3, 3))  # beyond the picture: nothing to draw


def test_constant_and_wholly_hidden_maps_are_drawn() -> None:
    assert pixels(png.heatmap_png(np.full((2, 3), 7.0), size=(20, 30))).shape == (20, 30, 3)
    assert pixels(png.heatmap_png(np.full((2, 3), np.nan), size=(20, 30))).shape == (20, 30, 3)
    nothing = png.heatmap_png(np.zeros((2, 3)), size=(20, 30), low=-1, high=1, colours=png.DIFFERENCE)
    assert pixels(nothing).min() > 240  # no difference is white


def test_differences_are_blue_below_and_red_above() -> None:
    drawn = png.heatmap_png(np.array([[-2.0, 0.0, 2.0]]), size=(10, 30), low=-2, high=2, colours=png.DIFFERENCE)
    found = pixels(drawn).astype(int)
    below, zero, above = found[5, 5], found[5, 15], found[5, 25]
    assert below[2] > below[0] and above[0] > above[2] and zero.min() > 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": "jets"}, "viridis"),
        ({"mark": (4, 0)}, "rows are 0 to 3"),
        ({"opacity": 2}, "0 to 1"),
        ({"cell": (16, 0)}, "above 0"),
        ({"low": 2, "high": 1}, "low must not be above high"),
        ({"hidden": np.zeros((2, 2), bool)}, "must be the same"),
        ({"over": np.zeros((9, 9, 3), np.uint8)}, "give them alike"),
        ({"over": np.zeros((64, 64, 3))}, "give uint8"),
        ({"size": (0, 5)}, "at least 1"),
    ],
)
def test_a_map_that_cannot_be_drawn_says_why(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        png.heatmap_png(np.zeros((4, 4)), **{"size": (64, 64), **options})


def test_values_that_are_no_map_are_refused() -> None:
    with pytest.raises(ValueError, match=r"give one map \(h, w\)"):
        png.heatmap_png(np.zeros((3, 4, 4)), size=(8, 8))
    with pytest.raises(ValueError, match="infinity"):
        png.heatmap_png(np.array([[np.inf]]), size=(8, 8))


def test_a_heatmap_takes_milliseconds() -> None:
    values = np.random.default_rng(10).gamma(2, size=(32, 48))
    taken = []
    for _ in range(15):
        start = time.perf_counter()
        png.heatmap_png(values, size=(512, 768), mark=(3, 4))
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.010  # the best of a few: a busy machine is no fault of the function

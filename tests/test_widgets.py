"""The workbench without a browser: menus are set, and what is shown is compared with lab.trace."""

import asyncio
import copy
import gc
import json
import re
import shutil
import sys
import threading
import time
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import files
from io import BytesIO
from itertools import product
from pathlib import Path
from unittest import mock

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

import lic_lab as lab
from lic_lab.codecs import weights
from lic_lab.codecs.geometry import Geometry
from lic_lab.codecs.shared import MENU, meaningful
from lic_lab.figures.png import DIFFERENCE, heatmap_png
from lic_lab.layers.places import Grid, Places, tap_attention
from lic_lab.widgets import background, errors, pace, session, still, workbench
from lic_lab.widgets.map import legend
from lic_lab.widgets.page import Page
from lic_lab.widgets.photographs import photographs
from lic_lab.widgets.upload import Upload
from lic_lab.widgets.view import Scene

QUALITIES = [card["quality"] for card in weights.cards("shared")]
pytestmark = pytest.mark.skipif(not QUALITIES, reason=f"there are no trained weights in {weights.folder()}")

HEIGHT, WIDTH = 120, 200  # 8 x 13 latent positions, the last of which reach beyond the picture


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "crop.png"
    Image.fromarray(data.astronaut()[:HEIGHT, :WIDTH]).save(path)
    return path


@pytest.fixture
def bench(photo):
    return lab.widgets.Workbench(photo)


def words(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", html).replace("&#x27;", "'")


def number(html: str, name: str) -> float:
    return float(re.search(rf'data-number="{name}"[^>]*><div><b>([^<]*)</b>', html).group(1))


def share(html: str, label: str) -> float:
    return float(re.search(rf'data-share="{label}">.*?<b>([^<]*)</b>', html).group(1))


def expected(bench, photo):
    """What lab.trace says of the menus' values, from the file on."""
    choice = {part: control.value for part, control in bench.parts.items()}
    return lab.trace(lab.load("shared", bench.quality.value).swap(**choice), photo)


def assert_shows(bench, trace):
    html = bench.numbers.value
    assert number(html, "bpp") == pytest.approx(trace.bpp["total"], abs=5.1e-5)
    assert number(html, "psnr") == pytest.approx(trace.psnr, abs=5.1e-3)
    assert share(html, "z") == pytest.approx(trace.bpp["z"], abs=5.1e-5)
    for i in range(len(trace.slices)):
        assert share(html, f"slice {i}") == pytest.approx(trace.bpp[f"slice {i}"], abs=5.1e-5)
    for part, label in (("anchor", "anchor"), ("nonanchor", "non-anchor")):
        if part in trace.parts:
            assert share(html, label) == pytest.approx(trace.bpp[part], abs=5.1e-5)
    np.testing.assert_allclose(bench.run.trace.bits, trace.bits, atol=1e-4)
    np.testing.assert_array_equal(bench.run.trace.x_hat, trace.x_hat)


def open_tab(bench, panel):
    bench.tabs.value = bench.panels.index(panel)


def upload(bench, name: str, content: bytes):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)}
    bench.upload.value = ({**file, "last_modified": datetime.now(UTC)},)


# -- menus -----------------------------------------------------------------------------------------


def test_the_first_run_is_what_trace_says(bench, photo):
    assert_shows(bench, expected(bench, photo))


@pytest.mark.parametrize(
    "changes",
    [
        {"channel": "none"},
        {"local": "none"},
        {"local": "stacked"},
        {"local": "attention"},
        {"global": "intra"},
        {"global": "intra-unmasked"},
        {"global": "intra+inter"},
        {"refinement": "lrp"},
        {"channel": "none", "local": "none"},
        {"local": "attention", "global": "intra+inter", "refinement": "lrp"},
    ],
    ids=lambda changes: " ".join(changes.values()),
)
def test_a_component_menu_changes_numbers_and_maps_as_trace_says(bench, photo, changes):
    before = bench.run.trace.bpp["total"], bench.bit_map.value, bench.picture_map.value
    for part, name in changes.items():
        bench.parts[part].value = name
    assert bench.message.value == ""
    assert_shows(bench, expected(bench, photo))
    if changes == {"refinement": "lrp"}:  # it changes the picture, and here nothing else
        assert bench.picture_map.value != before[2]
        assert bench.bit_map.value == before[1]
        assert bench.run.trace.bpp["total"] == before[0]
    else:
        assert bench.run.trace.bpp["total"] != before[0]
        assert bench.bit_map.value != before[1]


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_rate_point_menu_lists_all_weights_and_loads_them(bench, photo, quality):
    assert [value for _, value in bench.quality.options] == QUALITIES
    assert f"{weights.QUALITIES[quality]:g}" in {v: k for k, v in bench.quality.options}[quality]
    bench.quality.value = quality
    assert bench.run.trace.quality == quality
    assert_shows(bench, expected(bench, photo))


def test_every_combination_offered_has_a_meaning_and_no_other_is_left_out(photo):
    bench = lab.widgets.Workbench(photo)
    bench._analyse = lambda picture: None  # the menus alone
    offered = set()

    def walk(controls, chosen):
        if not controls:
            offered.add(chosen)
            return
        for _, name in list(controls[0].options):
            controls[0].value = name
            walk(controls[1:], (*chosen, name))

    bench.local.value = bench.global_.value = bench.refinement.value = "none"
    walk([bench.channel, bench.local, bench.global_, bench.refinement], ())
    assert offered == {c for c in product(*MENU.values()) if meaningful(*c)}


def test_a_value_that_loses_its_meaning_becomes_none_in_one_run(bench, photo):
    bench.global_.value = "intra"
    count = bench._count
    bench.channel.value = "none"
    assert bench.global_.value == "none"
    assert bench._count == count + 1
    assert_shows(bench, expected(bench, photo))


def test_what_a_choice_resets_is_said_and_one_click_puts_it_back(photo):
    """For each combination and each choice from it."""
    bench = lab.widgets.Workbench(photo)
    bench._analyse = lambda *arguments: None  # the menus alone
    resets = 0
    for combination in (dict(zip(MENU, c, strict=True)) for c in product(*MENU.values()) if meaningful(*c)):
        for part, control in bench.parts.items():
            bench._offer(combination)
            for _, name in list(control.options):
                bench._offer(combination)
                control.value = name
                lost = [p for p, now in bench._choice().items() if now != {**combination, part: name}[p]]
                said = re.findall(r"<b>(\w+)(?: context)?</b> set to none", bench.reset_words.value)
                assert said == lost, (combination, part, name)
                assert (bench.back.layout.display == "") == bool(lost)
                if lost:
                    resets += 1
                    bench.back.click()
                    assert bench._choice() == combination and bench.reset_words.value == ""
    assert resets > 10


def test_putting_back_runs_what_was_before(bench, photo):
    bench.channel.value, bench.local.value = "none", "raster"
    before = bench.run.trace.bpp["total"]
    bench.channel.value = "conv"
    assert bench.local.value == "none" and "Raster order codes all channels" in bench.reset_words.value
    bench.refinement.value = "lrp"  # another choice, and what was said is gone
    assert bench.reset_words.value == "" and bench.back.layout.display == "none"
    bench.channel.value, bench.local.value = "none", "raster"
    assert bench.refinement.value == "none" and "LRP refines slices" in bench.reset_words.value
    bench.back.click()
    assert bench.refinement.value == "lrp" and bench.local.value == "none"
    bench.refinement.value, bench.local.value = "none", "raster"
    assert bench.run.trace.bpp["total"] == before


def test_the_transform_runs_once_per_picture_and_rate_point(bench, monkeypatch):
    from lic_lab.transforms.residual import Analysis

    monkeypatch.setattr(Analysis, "forward", lambda *args: pytest.fail("the transform ran again"))
    bench.local.value = "attention"
    bench.refinement.value = "lrp"
    assert bench.message.value == ""


def test_photographs_come_with_scikit_image_itself():
    from lic_lab.widgets.photographs import FILES

    shipped = {Path(str(f)).name for f in files("scikit-image") if f.match("skimage/data/*")}
    assert set(FILES.values()) <= shipped
    assert list(photographs()) == list(FILES)


def test_another_photograph(bench):
    bench.photo.value = "Chelsea the cat"
    assert bench.run.trace.x.shape == (300, 451, 3)
    np.testing.assert_array_equal(bench.run.trace.x, data.chelsea())
    assert bench.bit_map.grid == [19, 29]


# -- pictures, cursor, tabs ------------------------------------------------------------------------


def png(map_) -> np.ndarray:
    import io

    return np.asarray(Image.open(io.BytesIO(map_.value)).convert("RGB"))


def test_the_picture_shown_is_reconstruction_original_or_error(bench):
    trace = bench.run.trace
    np.testing.assert_array_equal(png(bench.picture_map), trace.x_hat)
    bench.view.value = "Original"
    np.testing.assert_array_equal(png(bench.picture_map), trace.x)
    bench.view.value = "Error x 8"
    error = 8 * np.abs(trace.x.astype(int) - trace.x_hat)
    np.testing.assert_array_equal(png(bench.picture_map), np.minimum(error, 255))


def test_maps_have_the_picture_s_size_and_the_grid_of_all_that_is_coded(bench):
    assert png(bench.bit_map).shape == (HEIGHT, WIDTH, 3)
    assert bench.bit_map.grid == [8, 13] == list(bench.run.trace.bits.shape[1:])
    assert bench.bit_map.cell == [16 / HEIGHT, 16 / WIDTH]
    assert bench.notes.value == ""


def test_maps_of_a_codec_that_resizes_are_drawn_by_its_geometry(bench):
    """As if a picture of 500 x 750 had been coded at half its size: positions have 32 pixels, not 31.25."""
    of = Geometry(500, 750, 16, scale=2048)
    assert of.latent == (16, 24)
    values = np.indices(of.latent).sum(0) % 2.0
    run = bench.run
    run = replace(run, trace=replace(run.trace, geometry=of, x=np.zeros((500, 750, 3), np.uint8)))
    Scene(bench.session, run, None, (1, 1), 9).heatmap(bench.bit_map, values, unit="", colours="gray")
    drawn = png(bench.bit_map)[:, :, 0].astype(int)
    assert drawn.shape == (500, 750)
    assert (np.flatnonzero(np.diff(drawn[0])) + 1).tolist() == list(range(32, 750, 32))
    assert (np.flatnonzero(np.diff(drawn[:, 0])) + 1).tolist() == list(range(32, 500, 32))
    assert bench.bit_map.grid == [16, 24] and bench.bit_map.cell == [32 / 500, 32 / 750]


def test_a_click_moves_the_cursor_everywhere_and_makes_it_the_reference(bench, photo):
    trace = expected(bench, photo)
    open_tab(bench, bench.similarity)
    bench.bit_map.position = [2, 5]
    assert (bench.row.value, bench.column.value) == (2, 5)
    assert bench.similarity.map.position == [2, 5]
    assert bench.bit_map.readout == f"row 2, column 5: {trace.bits.sum(0)[2, 5]:.3g} bits"
    cosine, of = lab.correlation.cosine_similarity_map, lab.correlation.vectors
    np.testing.assert_allclose(bench.similarity.values, cosine(of(trace.y_hat), (2, 5)))
    bench.similarity.map.position = [7, 1]
    assert (bench.row.value, bench.column.value) == (7, 1)
    assert bench.similarity.values[7, 1] == pytest.approx(1)
    bench.similarity.slice.value = 2
    one = trace.y_hat[trace.channels(2)]
    strongest = 64 + int((one**2).sum((1, 2)).argmax())
    for weighting, said in (("normalised", "normalised"), ("rest", f"without channel {strongest}"), ("plain", "plain")):
        bench.similarity.weighting.value = weighting
        np.testing.assert_allclose(bench.similarity.values, cosine(of(one, weighting), (7, 1)))
        assert bench.similarity.map.title == f"Cosine similarity, {said}"
        assert f"channel {strongest}" in words(bench.similarity.words.value).replace(",", "")


def test_row_and_column_can_be_typed_and_are_kept_inside(bench):
    bench.row.value, bench.column.value = 3, 4
    assert bench.bit_map.position == bench.picture_map.position == [3, 4]
    bench.row.value = 99
    assert bench.bit_map.position == [7, 4]


def test_pin_compares_a_with_b(bench, photo):
    a = expected(bench, photo)
    bench.pin.click()
    bench.local.value = "attention"
    b = expected(bench, photo)
    rows = dict(re.findall(r"<th scope='row'>([^<]*)</th>(.*?)</tr>", bench.compare.table.value))
    for label, name in (("total", "total"), ("non-anchor", "nonanchor"), ("slice 3", "slice 3")):
        one, two, gap, percent = (float(cell) for cell in re.findall(r"<td>([^<]*)</td>", rows[label]))
        assert one == pytest.approx(a.bpp[name], abs=5.1e-5)
        assert two == pytest.approx(b.bpp[name], abs=5.1e-5)
        assert gap == pytest.approx(b.bpp[name] - a.bpp[name], abs=5.1e-5)
        assert percent == pytest.approx(100 * (b.bpp[name] / a.bpp[name] - 1), abs=5.1e-3)
    i, j = bench.compare.map.position
    gap = b.bits.sum(0)[i, j] - a.bits.sum(0)[i, j]
    assert float(bench.compare.map.readout.split()[4]) == pytest.approx(gap, rel=6e-3)
    assert f"{100 * (b.bpp['total'] / a.bpp['total'] - 1):+.2f} % against A" in bench.numbers.value
    bench.unpin.click()
    assert bench.pinned is None
    assert "against A" not in bench.numbers.value


def table(html: str) -> dict[str, list[str]]:
    """Cells of the table A against B, by the rows' labels: A, B, difference, percent."""
    rows = re.findall(r"<tr[^>]*><th scope='row'>([^<]*)</th>(.*?)</tr>", html)
    return {label: re.findall(r"<td>([^<]*)</td>", cells) for label, cells in rows}


def test_bars_fill_their_width_and_each_is_as_wide_as_its_share(bench):
    for quality in QUALITIES:
        bench.quality.value = quality
        bpp = bench.run.trace.bpp
        by_pass, by_slice = (
            [float(width) for width in re.findall(r"<i style=\"width:([^%]*)%", stack)]
            for stack in re.findall(r"lab-stack\">(.*?)</div>", bench.numbers.value)
        )
        for widths, names, whole in (
            (by_pass, ["z", *bench.run.trace.parts], "total"),
            (by_slice, [f"slice {i}" for i in range(4)], "y"),
        ):
            assert sum(widths) == pytest.approx(100, abs=1e-3)
            assert widths == pytest.approx([100 * bpp[name] / bpp[whole] for name in names], abs=1e-4)


def test_runs_on_two_pictures_are_not_set_against_each_other(bench):
    open_tab(bench, bench.compare)
    bench.pin.click()
    before = bench.run.trace
    bench.photo.value = "Chelsea the cat"
    said = words(bench.compare.table.value)
    assert "differ in the pictures (crop.png and Chelsea the cat)" in said
    for label, (one, two, *versus) in table(bench.compare.table.value).items():
        assert one and two and versus == ["", ""], label
    assert bench.compare.map.layout.display == "none"
    assert "%" not in words(re.sub(r'title="[^"]*"', "", bench.numbers.value))
    assert f"A is another picture, {before.bpp['total']:.4f} bpp" in bench.numbers.value
    assert f"A is another picture, {before.psnr:.2f} dB" in bench.numbers.value


def test_the_same_pixels_opened_twice_are_one_picture(bench, photo, tmp_path):
    open_tab(bench, bench.compare)
    bench.pin.click()
    second = tmp_path / "copy.png"
    shutil.copy(photo, second)
    bench.path.value = str(second)
    assert table(bench.compare.table.value)["total"][2:] == ["+0.0000", "+0.00"]
    assert bench.compare.map.layout.display == ""


@pytest.mark.skipif(len(QUALITIES) < 2, reason="there is one rate point")
def test_runs_at_two_rate_points_say_so_and_compare_rate_and_quality_alone(bench):
    open_tab(bench, bench.compare)
    bench.pin.click()
    a = bench.run.trace
    bench.quality.value = QUALITIES[1]
    b = bench.run.trace
    said = words(bench.compare.table.value)
    assert f"differ in the rate points ({QUALITIES[0]} and {QUALITIES[1]})" in said
    rows = table(bench.compare.table.value)
    assert float(rows["total"][3]) == pytest.approx(100 * (b.bpp["total"] / a.bpp["total"] - 1), abs=5.1e-3)
    assert float(rows["PSNR, dB"][2]) == pytest.approx(b.psnr - a.psnr, abs=5.1e-3)
    for i in range(4):  # its channels are others
        assert rows[f"slice {i}"][2:] == ["", ""]
    assert f"% against A at rate point {QUALITIES[0]}" in bench.numbers.value
    bench.quality.value = QUALITIES[0]
    assert "differ" not in words(bench.compare.table.value) and "rate point" not in bench.numbers.value


def test_slices_of_other_channels_are_not_set_against_each_other(bench):
    open_tab(bench, bench.compare)
    bench.channel.value, bench.local.value = "none", "raster"
    bench.pin.click()  # one slice of all channels
    bench.local.value, bench.channel.value = "checkerboard", "conv"
    rows = table(bench.compare.table.value)
    assert rows["total"][3] and rows["slice 0"][:2] != ["", ""] and rows["slice 0"][2:] == ["", ""]
    assert "slices have other channels (128 and 32, 32, 32, 32)" in words(bench.compare.table.value)


def test_channels_are_sorted_by_their_bits(bench, photo):
    trace = expected(bench, photo)
    open_tab(bench, bench.channels)
    bits = trace.bits.sum((1, 2))
    shown = [int(c) for c in re.findall(r"<title>channel (\d+),", bench.channels.bars.value)]
    assert len(shown) == len(bits)
    assert (np.diff(bits[shown]) <= 1e-3).all()
    assert bench.channels.maps[0].title == f"channel {shown[0]}"
    for content in ("bits", "mu", "sigma"):
        bench.channels.content.value = content
        assert content in bench.channels.maps[0].description


def test_the_correlation_is_that_of_the_normalised_latent(bench, photo):
    trace = expected(bench, photo)
    open_tab(bench, bench.correlation)
    found = lab.correlation.spatial_correlation(trace.standardised, 3)
    np.testing.assert_allclose(bench.correlation.values(bench.run.trace), found, atol=1e-4)
    cells = [float(c) for c in re.findall(r"<td>([^<]*)</td>", bench.correlation.table.value)]
    np.testing.assert_allclose(cells, found.ravel(), atol=6e-4)
    floor = lab.correlation.noise_floor(trace.standardised, 3)
    assert f"by chance {np.delete(floor.ravel(), 24).mean():.4f}" in words(bench.correlation.table.value)
    bench.pin.click()
    assert "A:" in bench.correlation.table.value


def test_the_correlation_s_scale_stays_and_is_shared_by_a_and_b(bench):
    open_tab(bench, bench.correlation)
    bench.pin.click()
    bench.channel.value = bench.local.value = "none"
    at_first = bench.correlation.map.legend
    for quality in QUALITIES:
        bench.quality.value = quality
        for photo in ("Chelsea the cat", "crop.png"):
            bench.photo.value = photo
            assert bench.correlation.map.legend == bench.correlation.map_a.legend == at_first
            most = np.delete(np.abs(bench.correlation.values(bench.run.trace)).ravel(), 24).max()
            beyond = ", beyond the scale" if most > 0.1 else ""
            assert bench.correlation.map.readout == f"up to {most:.3f}{beyond}"
            differs = "differ in the" in words(bench.correlation.table.value)
            assert differs == (photo != "crop.png" or quality != QUALITIES[0])
    bench.correlation.scale.value = 0.5
    assert (at_first["high"], bench.correlation.map.legend["high"]) == ("0.1", "0.5")
    assert bench.correlation.map_a.legend["low"] == "-0.5"


def test_slices_of_different_runs_are_compared_only_where_they_are_the_same(bench):
    open_tab(bench, bench.correlation)
    bench.channel.value, bench.local.value = "none", "raster"
    bench.pin.click()  # one slice of all channels
    bench.local.value, bench.channel.value = "checkerboard", "conv"
    assert "A:" in words(bench.correlation.table.value)  # over all channels
    for i in range(len(bench.run.trace.slices)):
        bench.correlation.slice.value = i
        assert "A has other slices" in words(bench.correlation.table.value)
        assert bench.correlation.map_a.layout.display == "none"
    assert bench.correlation.message.value == bench.message.value == ""
    bench.local.value = "none"  # and the next run is shown too
    assert bench.run.trace.combination["local"] == "none" and bench.message.value == ""


@pytest.mark.parametrize("side", [1, 16, 17, 100])
def test_every_tab_takes_a_small_picture(bench, side, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(data.astronaut()[:side, :side]).save(path)
    bench.path.value = str(path)
    bench.local.value, bench.global_.value = "attention", "intra+inter"
    for panel in bench.panels:
        open_tab(bench, panel)
        for menu in [child for child in vars(panel).values() if isinstance(child, widgets.Dropdown)]:
            for value in [option[1] if isinstance(option, tuple) else option for option in menu.options]:
                menu.value = value
                assert bench.message.value == panel.message.value == "", (panel.title, menu.description, value)
        for position in product((0, bench.row.max), (0, bench.column.max)):
            bench.row.value, bench.column.value = position
            assert bench.message.value == panel.message.value == "", (panel.title, position)


def test_what_goes_wrong_in_a_tab_s_own_menu_is_said_there_and_forgotten_after(bench, monkeypatch):
    open_tab(bench, bench.correlation)
    with monkeypatch.context() as patch:
        patch.setattr(bench.correlation, "values", raises(ValueError("no such thing")))
        bench.correlation.reach.value = 4
        assert "no such thing" in words(bench.correlation.message.value)
    bench.correlation.reach.value = 2
    assert bench.correlation.message.value == ""


TRIGGERS = {  # what fails, and what sets it off
    "path": ((workbench, "read"), lambda bench: setattr(bench.path, "value", "/some/picture.png")),
    "upload": ((workbench, "read"), lambda bench: upload(bench, "x.png", b"12")),
    "photo": ((workbench, "read"), lambda bench: setattr(bench.photo, "value", "Coffee")),
    "menu": ((session, "trace"), lambda bench: setattr(bench.local, "value", "none")),
    "quality": ((session, "latent"), lambda bench: setattr(bench.quality, "value", QUALITIES[-1])),
    "view": ((workbench, "image_png"), lambda bench: setattr(bench.view, "value", "Original")),
    "ground": ((Scene, "heatmap"), lambda bench: setattr(bench.ground, "value", "Over the picture")),
    "tab": ((workbench.Channels, "draw"), lambda bench: setattr(bench.tabs, "value", 1)),
    "pin": ((workbench.Compare, "draw"), lambda bench: bench.pin.click()),
    "cursor": ((workbench.Compare, "move"), lambda bench: setattr(bench.row, "value", 1)),
    "click on a map": ((workbench.Compare, "move"), lambda bench: setattr(bench.bit_map, "position", [1, 1])),
}


@pytest.mark.parametrize("control", TRIGGERS)
def test_every_control_says_every_error_and_shows_where_it_came_from_on_a_click(bench, monkeypatch, control):
    where, set_off = TRIGGERS[control]
    with monkeypatch.context() as patch:
        patch.setattr(*where, raises(KeyError("a fault <of> ours")))
        set_off(bench)
    html = bench.message.value
    assert 'role="alert"' in html and "KeyError: &#x27;a fault &lt;of&gt; ours" in html
    folded = re.search(r"<details><summary>[^<]+</summary><pre>(.*?)</pre></details>", html, re.S).group(1)
    assert "Traceback" in folded and "in fail" in folded and "<of>" not in folded


@pytest.mark.parametrize("control", ["menu", "photo", "path", "view", "tab"])
def test_who_interrupts_is_heard_and_all_is_as_before(bench, monkeypatch, control):
    where, set_off = TRIGGERS[control]
    before = state(bench)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*where, raises(KeyboardInterrupt()))
        set_off(bench)
    assert state(bench) == before
    bench.local.value = "attention"
    assert bench.run.trace.combination["local"] == "attention"


def test_errors_for_the_user_are_words_alone_and_those_of_libraries_carry_their_place():
    def of(act):
        try:
            act()
        except Exception as error:
            return errors.error_html(error, "All is well")
        raise AssertionError("nothing was raised")

    for act, said in (
        (lambda: lab.load("nothing of the kind"), "nothing of the kind"),
        (lambda: lab.read_image("/no/where.png"), "there is no file"),
        (lambda: Path("/no/where").read_text(), "No such file"),
        (lambda: torch.empty(10**15), "not enough memory"),
    ):
        assert said in of(act) and "<details>" not in of(act) and "All is well" in of(act)
    for act, said in (
        (lambda: np.zeros(3) + np.zeros(4), "ValueError: operands could not be broadcast"),
        (lambda: pace._time("a word"), "TypeError: "),  # by a line of ours, which does not raise it
        (lambda: torch.zeros(3) @ torch.zeros(4), "RuntimeError: "),
        (lambda: next(iter(())), "StopIteration"),
    ):
        assert said in of(act) and "<details>" in of(act)
    assert errors.error_html("") == ""


def pages():
    trace = lab.trace(lab.load("global-reference"), data.astronaut()[:64, :64])
    return [lab.widgets.Workbench(data.astronaut()[:64, :64]), lab.widgets.ReferenceExplorer(trace)]


def test_no_observer_of_a_page_is_without_a_guard(monkeypatch):
    """Whatever is to be called when a user acts is told to `Page` or `Panel`, which guard it."""
    set_by_hand = []
    for name in ("observe", "on_click"):
        monkeypatch.setattr(widgets.Button if name == "on_click" else widgets.Widget, name, watched(name, set_by_hand))
    pages()
    assert set_by_hand == []


def watched(name, noted):
    before = getattr(widgets.Button if name == "on_click" else widgets.Widget, name)

    def call(self, handler, *more, **named):
        frame = sys._getframe(1)
        module, caller = frame.f_globals["__name__"], frame.f_code.co_name
        guarded = hasattr(handler, "__wrapped__") or getattr(handler, "__name__", "") == "redraw"
        if module.startswith("lic_lab") and not guarded:
            noted.append((module, caller, handler))
        return before(self, handler, *more, **named)

    return call


@pytest.mark.parametrize("image", ["PIL", "array", "tensor", "path"])
def test_the_workbench_begins_with_whatever_read_image_takes(photo, image):
    pixels = data.astronaut()[:48, :64]
    given = {
        "PIL": Image.fromarray(pixels),
        "array": pixels,
        "tensor": torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        "path": str(photo),
    }[image]
    bench = lab.widgets.Workbench(given)
    assert bench.message.value == ""
    np.testing.assert_array_equal(bench.run.trace.x, data.astronaut()[:HEIGHT, :WIDTH] if image == "path" else pixels)


@pytest.mark.parametrize("image", [5, np.zeros((7, 9, 11)), "~nobody-of-that-name/photo.png"])
def test_what_is_no_picture_is_said_and_a_photograph_shown(image):
    bench = lab.widgets.Workbench(image)
    assert 'role="alert"' in bench.message.value and bench.run is not None


def raises(error):
    def fail(*arguments, **named):
        raise error

    return fail


def test_components_to_begin_with_are_those_that_swap_takes(photo):
    bench = lab.widgets.Workbench(photo, components={"channel": "conv", "global_": "intra"})
    assert bench.run.trace.combination == {
        "channel": "conv",
        "local": "none",
        "global": "intra",
        "refinement": "none",
    }
    for wrong, complaint in (
        ({"local": "chekerboard"}, "local is 'chekerboard'; it must be one of"),
        ({"spatial": "none"}, "no component is called 'spatial'"),
        ({"global": "intra"}, "needs the channel context"),
    ):
        with pytest.raises(ValueError, match=complaint):
            lab.widgets.Workbench(photo, components=wrong)
        with pytest.raises(ValueError, match=complaint):
            bench.open_picture(bench.run.trace.picture, components=wrong)


@pytest.mark.parametrize("colours", ["viridis", DIFFERENCE])
def test_the_colour_bar_has_the_map_s_colours_from_end_to_end(colours):
    stops = re.findall(r"rgb\((\d+), (\d+), (\d+)\)", legend(-1, 1, "", colours)["stops"])
    low, middle, high = (tuple(map(int, stops[i])) for i in (0, len(stops) // 2, -1))
    shown = heatmap_png(np.array([[-1.0, 0.0, 1.0]]), size=(16, 48), low=-1, high=1, colours=colours)
    pixels = np.asarray(Image.open(BytesIO(shown)).convert("RGB"))[8, [8, 24, 40]]
    np.testing.assert_allclose(pixels, (low, middle, high), atol=2)


def test_attention_shows_the_row_and_the_mask_of_the_cursor(bench, photo):
    open_tab(bench, bench.attention)
    assert "None of the components" in bench.attention.words.value
    bench.global_.value = "intra+inter"
    assert [name for _, name in bench.attention.component.options] == ["intra", "inter"]
    trace = expected(bench, photo)
    for component in ("intra", "inter"):
        bench.attention.component.value = component
        for i, position in product(trace.attentions[component], [(0, 0), (3, 4)]):
            bench.attention.slice.value = i
            bench.row.value, bench.column.value = position
            found = trace.attention(component, i, position)
            said = words(bench.attention.words.value)
            assert re.search(rf"sees\s+{found.visible.sum()}\s+of\s+{found.visible.size}", said)
            assert ("Hatched" in said) == (not found.visible.all())
            assert ("asks nothing" in said) == (found.position != position)
            assert f"{np.nanmax(found.weights.mean(0)):.4f}" in said
    bench.attention.head.value = 1
    bench.local.value = "attention"
    assert [name for _, name in bench.attention.component.options] == ["local", "intra", "inter"]
    bench.global_.value = "none"
    bench.local.value = "none"
    assert "None of the components" in bench.attention.words.value


class Watched(nn.Module):
    """A transform that also attends, each position of its grid to itself and to the one before."""

    def __init__(self, transform, name, side):
        super().__init__()
        self.transform, self.name, self.side = transform, name, side

    def forward(self, x):
        out = self.transform(x)
        h, w = (round(n / self.side) for n in (out if self.name == "down" else x).shape[2:])
        at = torch.arange(h * w)[:, None]
        weights = torch.full((1, h * w, 1, 1, 2), 0.5)
        tap_attention(self.name, weights, lambda: Places(at, torch.cat((at, at - 1), 1), Grid(h, w, self.side)))
        return out


def test_attention_that_the_workbench_does_not_know_is_shown(bench, monkeypatch):
    """Of the transforms: in g_a on a finer grid than y's, run again for the maps; in g_s, whose picture is known."""
    lent = weights.borrow

    def load(*which):
        codec = copy.copy(lent(*which))
        g_a, g_s = Watched(codec.g_a, "down", 1 / 4), Watched(codec.g_s, "up", 1)
        codec._modules = codec._modules | {"g_a": g_a, "g_s": g_s}
        return codec

    monkeypatch.setattr(weights, "borrow", load)
    bench.photo.value = "Coffee"
    open_tab(bench, bench.attention)
    assert bench.attention.component.options == (("down", "down"), ("up", "up"))
    bench.row.value, bench.column.value = 3, 4
    said = words(bench.attention.words.value)
    h, w = bench.run.trace.bits.shape[1:]
    assert re.search(rf"row 14, column 18 sees\s+2\s+of {16 * h * w} positions", said)
    assert "asks nothing" not in said and re.search(r"mean distance\s+0.1\s+positions", said)  # half of a quarter
    bench.attention.ground.value = False
    coloured = (np.ptp(png(bench.attention.map).astype(int), axis=2) > 0).nonzero()  # what is masked is grey
    assert (coloured[0].min(), coloured[0].max()) == (14 * 4, 15 * 4 - 1)
    assert (coloured[1].min(), coloured[1].max()) == (17 * 4, 19 * 4 - 1)
    bench.attention.component.value = "up"
    assert re.search(rf"row 3, column 4 sees\s+2\s+of {h * w} positions", words(bench.attention.words.value))
    bench.local.value = "attention"  # another entropy model, the same picture
    assert [name for _, name in bench.attention.component.options] == ["down", "local", "up"]
    assert bench.attention.component.value == "up" and bench.message.value == bench.attention.message.value == ""


def test_only_the_open_tab_computes(bench, monkeypatch):
    open_tab(bench, bench.correlation)
    for panel in bench.panels:
        if panel is not bench.correlation:
            monkeypatch.setattr(panel, "draw", lambda scene: pytest.fail("a closed tab was drawn"))
    bench.local.value = "stacked"


# -- whatever people bring -------------------------------------------------------------------------


def assert_goes_on(bench, photo, before):
    """After an error all is as it was, and the next change works."""
    values, numbers, run = before
    assert bench._values() == values
    assert bench.run is run
    assert bench.numbers.value == numbers
    assert 'role="alert"' in bench.message.value
    bench.local.value = "stacked"
    assert 'role="alert"' not in bench.message.value
    assert_shows(bench, expected(bench, photo))


def state(bench):
    return bench._values(), bench.numbers.value, bench.run


@pytest.mark.parametrize("way", ["path", "upload"])
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("notes.png", b"no picture at all", "notes.png can't be read as an image"),
        ("cut.png", None, "cut.png can't be read as an image"),
        ("huge.png", np.zeros((5000, 5000), bool), "huge.png is 5000 x 5000 = 25 megapixels"),
    ],
)
def test_an_unusable_file_is_refused_in_words(bench, photo, tmp_path, way, name, content, complaint):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_bytes(content or photo.read_bytes()[:3000])
    before = state(bench)
    if way == "path":
        bench.path.value = str(path)
    else:
        upload(bench, name, path.read_bytes())
    assert complaint in words(bench.message.value)
    assert_goes_on(bench, photo, before)


def test_the_path_is_of_the_picture_that_is_shown(bench, photo):
    """Emptied when another picture is chosen or uploaded, and what was wrong with it goes when it is emptied."""
    bench.path.value = str(photo)
    assert bench.run.trace.picture.name == photo.name
    bench.photo.value = next(name for name in bench.photo.options if name != bench.photo.value)
    assert bench.path.value == ""
    bench.path.value = str(photo)  # so that it can be asked for again
    assert bench.run.trace.picture.name == photo.name
    bench.path.value = "/nowhere/at/all.png"
    assert "there is no file" in words(bench.message.value)
    bench.path.value = ""
    assert words(bench.message.value) == ""
    bench.path.value = "/nowhere/at/all.png"
    upload(bench, "up.png", photo.read_bytes())
    assert bench.path.value == ""


def test_a_missing_file_is_named(bench, photo):
    before = state(bench)
    bench.path.value = "/nowhere/at/all.png"
    assert "there is no file /nowhere/at/all.png" in words(bench.message.value)
    assert_goes_on(bench, photo, before)


def test_a_huge_picture_is_refused_with_the_memory_it_would_take(bench, photo, tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(path)
    before = state(bench)
    bench.path.value = str(path)
    assert "81 megapixels and would take about" in words(bench.message.value)
    assert "GB of memory" in words(bench.message.value)
    assert_goes_on(bench, photo, before)


@pytest.mark.parametrize(
    ("pixels", "note"),
    [
        (data.camera()[:HEIGHT, :WIDTH], "grey, taken as RGB"),
        (np.dstack([data.astronaut()[:HEIGHT, :WIDTH], np.full((HEIGHT, WIDTH), 99, np.uint8)]), "laid over white"),
        (data.camera()[:HEIGHT, :WIDTH].astype(np.uint16) * 257, "16 bits, taken at 8"),
    ],
    ids=["grey", "rgba", "16-bit"],
)
@pytest.mark.parametrize("way", ["path", "upload"])
def test_what_is_converted_is_said(bench, tmp_path, pixels, note, way):
    path = tmp_path / "other.png"
    Image.fromarray(pixels).save(path)
    if way == "path":
        bench.path.value = str(path)
    else:
        upload(bench, path.name, path.read_bytes())
        assert bench.upload.value == ()
    assert bench.photo.value == "other.png"
    assert note in words(bench.notes.value)
    assert_shows(bench, expected(bench, path))


def test_a_file_joins_the_menu_and_can_be_chosen_again(bench, photo):
    bench.photo.value = "Rocket"
    bench.photo.value = photo.name
    assert_shows(bench, expected(bench, photo))


def test_two_files_of_one_name_are_both_kept(bench, photo, tmp_path):
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / photo.name
    Image.fromarray(data.astronaut()[-HEIGHT:, :WIDTH]).save(second)
    bench.path.value = str(second)
    assert_shows(bench, expected(bench, second))
    bench.photo.value = photo.name
    assert_shows(bench, expected(bench, photo))


def test_damaged_weights_are_refused_and_nothing_of_them_is_shown(bench, photo, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(weights.folder(), folder)
    card = json.loads(next(folder.glob("*.json")).read_text())
    damaged = {**card, "quality": 6, "lambda": 0.0483, "file": "damaged.safetensors"}
    (folder / "damaged.json").write_text(json.dumps(damaged))
    content = bytearray((folder / card["file"]).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "damaged.safetensors").write_bytes(content)
    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(folder))
    bench = lab.widgets.Workbench(photo)
    before = state(bench)
    bench.quality.value = 6
    assert "the file is damaged or was changed" in words(bench.message.value)
    assert_goes_on(bench, photo, before)


def test_without_weights_the_workbench_says_so(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(tmp_path))
    bench = lab.widgets.Workbench(photo)
    assert "there are no weights" in words(bench.message.value)
    assert bench.run is None
    assert bench.numbers.value == ""
    assert bench.channel.disabled
    bench.tabs.value = 2  # what is left to click does not fail
    bench.pin.click()
    bench.view.value = "Original"


def test_a_first_picture_that_is_missing_leaves_a_photograph(tmp_path):
    bench = lab.widgets.Workbench(tmp_path / "missing.png")
    assert "there is no file" in words(bench.message.value)
    assert bench.run.trace.picture.name == bench.photo.value


def test_a_memory_error_is_words(bench, photo, monkeypatch):
    before = state(bench)
    with monkeypatch.context() as patch:
        patch.setattr(session, "trace", lambda *args, **more: (_ for _ in ()).throw(MemoryError))
        bench.local.value = "attention"
    assert "not enough memory" in words(bench.message.value)
    assert_goes_on(bench, photo, before)


def test_global_attention_in_patches_is_said(tmp_path, bench):
    path = tmp_path / "wide.png"
    Image.fromarray(np.tile(data.astronaut()[:64], (1, 3, 1))[:, :1100]).save(path)  # 69 positions wide
    bench.path.value = str(path)
    assert "patches" not in bench.notes.value
    bench.global_.value = "intra"
    assert bench.run.trace.patched
    assert "runs in patches" in bench.notes.value


# -- long runs -------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch):
    """Every run counts as long."""
    monkeypatch.setattr(pace, "LONG", 0.0)
    monkeypatch.setattr(workbench, "LONG", 0.0)


class Held:
    """`session.latent`, which goes on with torch's operations until it is let go."""

    def __init__(self, monkeypatch):
        self.go, self.begun = threading.Event(), threading.Event()
        made = session.latent

        def wait(codec, picture, *more):
            self.begun.set()
            while not self.go.is_set():
                torch.zeros(1) + 1
                time.sleep(0.002)
            return made(codec, picture, *more)

        monkeypatch.setattr(session, "latent", wait)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "lic_lab"]


def answering(monkeypatch, story):
    """Run the coroutine `story` as the answer to a message of the page; it awaits `until(condition)`."""
    monkeypatch.setattr(background, "_answers_a_widget", lambda: True)

    async def until(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "nothing came"
            await asyncio.sleep(0.005)

    asyncio.run(story(until))
    for thread in threads():
        thread.join(60)


def stale(bench):
    return [widget for widget in (bench.numbers, bench.pictures, *bench.panels) if "lab-stale" in widget._dom_classes]


def test_a_long_analysis_says_what_it_does(bench, slow, monkeypatch):
    said = []
    progress = bench._progress
    monkeypatch.setattr(bench, "_progress", lambda found: (said.append(found), progress(found)))
    bench.photo.value = "Coffee"
    assert said.pop() is None
    parts = [re.search("transform|entropy model|reconstruction", found.words).group() for found in said]
    assert parts == ["transform", "entropy model", "reconstruction"]
    assert said[0].done == 0 and np.all(np.diff([found.done for found in said]) > 0) and said[-1].done < 1
    assert all(found.left > 0 for found in said)
    assert bench.busy.value == "" and stale(bench) == []


def test_a_long_run_leaves_the_page_alive_and_says_what_is_still_of_the_last(bench, photo, slow, monkeypatch):
    held, before = Held(monkeypatch), bench.run

    async def story(until):
        bench.photo.value = "Coffee"
        await until(held.begun.is_set)
        await until(lambda: "Analysing 0.2 megapixels" in bench.busy.value)
        assert bench.run is before and f"still of {photo.name}" in bench.busy.value
        assert bench.stop.layout.display == "" and len(stale(bench)) == 2 + len(bench.panels)
        bench.row.value = 3  # what is shown can be used meanwhile
        assert bench.bit_map.position[0] == 3 and "row 3" in bench.bit_map.readout
        held.go.set()
        await until(lambda: bench.numbers not in stale(bench))  # its numbers come before its picture
        await until(lambda: bench.run is not before)

    answering(monkeypatch, story)
    assert bench.busy.value == "" and bench.stop.layout.display == "none" and stale(bench) == []
    assert bench.photo.value == "Coffee"
    assert_shows(bench, expected(bench, photographs()["Coffee"]))


def test_a_long_run_can_be_stopped_and_all_is_as_before(bench, photo, slow, monkeypatch):
    held, before = Held(monkeypatch), state(bench)

    async def story(until):
        bench.quality.value = QUALITIES[-1]
        await until(held.begun.is_set)
        bench.stop.click()
        assert "Stopped" in bench.message.value and state(bench) == before and stale(bench) == []
        await until(lambda: not threads())  # it ends, though nobody let it go

    answering(monkeypatch, story)
    assert state(bench) == before and bench.busy.value == ""
    held.go.set()
    bench.local.value = "stacked"
    assert_shows(bench, expected(bench, photo))


def test_a_new_choice_takes_the_place_of_a_run_that_is_going(bench, slow, monkeypatch):
    held, shown = Held(monkeypatch), []
    done = bench._done
    monkeypatch.setattr(bench, "_done", lambda run: (shown.append(run.trace.picture.name), done(run)))

    async def story(until):
        bench.photo.value = "Coffee"
        await until(held.begun.is_set)
        bench.photo.value = "Camera man (grey)"
        bench.local.value = "stacked"  # of the picture that was chosen, not of the one that is shown
        held.go.set()
        await until(lambda: shown)

    answering(monkeypatch, story)
    assert shown == ["Camera man (grey)"] == [bench.run.trace.picture.name]
    assert bench.run.trace.combination["local"] == "stacked" and bench.message.value == ""


def test_what_goes_wrong_in_the_background_is_words_too(bench, photo, slow, monkeypatch):
    before = state(bench)
    with monkeypatch.context() as patch:
        patch.setattr(session, "latent", raises(KeyError("a fault of ours")))

        async def story(until):
            bench.photo.value = "Coffee"
            await until(lambda: "a fault of ours" in bench.message.value)

        answering(patch, story)
    assert "<details>" in bench.message.value and "The run before is still shown" in bench.message.value
    assert_goes_on(bench, photo, before)


def test_a_run_whose_page_was_closed_meanwhile_is_there_when_it_is_opened_again(bench, slow, monkeypatch):
    held = Held(monkeypatch)

    async def story(until):
        bench.photo.value = "Coffee"
        await until(held.begun.is_set)
        asyncio.get_running_loop().call_soon(held.go.set)  # and the loop is closed

    answering(monkeypatch, story)
    assert bench.run.trace.picture.name == "Coffee" and bench.busy.value == ""


def test_a_cell_has_its_run_on_the_next_line(bench, slow):
    async def cell():
        bench.photo.value = "Coffee"
        assert bench.run.trace.picture.name == "Coffee"

    asyncio.run(cell())
    assert threads() == []


@pytest.mark.parametrize("part", ["transform", "entropy model", "reconstruction"])
def test_a_run_is_stopped_in_whatever_part_it_is(bench, slow, part):
    """By a thread of its own, as everything is: what is on the way is left, and nothing is begun after."""
    stop, said, first = background.Stop(), [], []

    def report(progress):
        said.append(progress.words)
        if part in progress.words:
            stop.ask()

    picture = lab.image.read(data.astronaut()[:64, :64])
    with pytest.raises(background.Stopped):
        bench.session.run(picture, bench.quality.value, bench._choice(), report, first.append, stop)
    assert part in said[-1]
    assert bool(first) == (part == "reconstruction")
    bench.open_picture(picture)  # what stops one thread stops no other, and no run that comes after
    assert bench.run.trace.picture is picture


def test_stop_ends_the_coding_loop_between_steps(bench):
    codec = weights.load("shared", QUALITIES[0])
    found = lab.latent(codec, data.astronaut()[:64, :64])
    stop, slices = background.Stop(), []
    distribution = codec.entropy.distribution

    def watched(seen, step):
        slices.append(step.slices)
        if len(slices) == 3:
            stop.ask()
        return distribution(seen, step)

    codec.entropy.distribution = watched
    with pytest.raises(background.Stopped), stop:
        lab.trace(codec, found, reconstruct=False)
    assert len(slices) == 3 < len(codec.entropy.order.steps(4, 4))


def test_the_time_that_is_promised_is_learned():
    of = pace.Pace()
    parts = {"transform": "", "entropy": "conv none", "reconstruction": ""}
    for n, part in enumerate(parts):
        of.note(part, parts[part], 8_000_000, 10.0 * (n + 1))
    said = []
    course = pace.Course(of, 8_000_000, parts, said.append)
    assert course.seconds == pytest.approx(60)
    assert of.expect("entropy", "conv attention", 8_000_000) > 20  # not measured: dearer, on the same machine
    assert 30 < of.expect("reconstruction", "", 4_000_000) * 2 < 33  # a pixel of a small picture costs more
    of.note("entropy", "conv none", 1_000_000, 99.0)  # of another size
    assert of.expect("entropy", "conv none", 8_000_000) == 20
    with mock.patch.object(pace.time, "perf_counter", iter(np.arange(0.0, 200, 20)).__next__):  # each part takes 20 s
        for part in parts:
            with course.part(part):
                pass
    assert [round(found.left) for found in said] == [60, 100, 40]  # the first was twice as slow as promised
    assert of.expect("transform", "", 8_000_000) == 20


def test_a_large_picture_is_shown_reduced_and_measured_in_full(tmp_path, bench):
    path = tmp_path / "wide.png"
    Image.fromarray(np.tile(data.astronaut()[:72], (1, 4, 1))[:, :1700]).save(path)
    bench.path.value = str(path)
    assert bench.run.trace.pixels == 72 * 1700
    assert png(bench.picture_map).shape == (36, 850, 3)
    assert png(bench.bit_map).shape == (36, 850, 3)
    assert "shown at 1/2" in bench.picture_map.readout


def test_every_control_has_a_label_and_a_tooltip(bench):
    import ipywidgets

    def inside(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from inside(child)

    kinds = (ipywidgets.Dropdown, ipywidgets.Button, ipywidgets.Text, ipywidgets.BoundedIntText, Upload)
    for widget in inside(bench):
        if isinstance(widget, kinds):
            assert widget.description, widget
            assert widget.tooltip, widget.description
        if isinstance(widget, ipywidgets.ToggleButtons):
            assert all(widget.tooltips)


def test_old_latents_are_forgotten(bench, photo, monkeypatch):
    monkeypatch.setattr(session, "CACHE_BYTES", 1)
    bench.photo.value = "Coffee"
    assert len(bench.session._latents) == 1
    gc.collect()
    assert list(bench._read) == ["Coffee"]  # the pictures they were of are read again when they are chosen
    bpp = number(bench.numbers.value, "bpp")
    bench.photo.value = photo.name
    assert bench.message.value == "" and bench.run.trace.picture.name == photo.name
    bench.photo.value = "Coffee"
    assert number(bench.numbers.value, "bpp") == bpp
    bench.refinement.value = "lrp"
    assert len(bench.run.latent.pictures) == 1
    assert torch.is_tensor(next(iter(bench.run.latent.pictures.values())).x_hat)


# -- files that come in pieces ---------------------------------------------------------------------


def send(to, content, name="sent.png", id="1", begin=0, size=None, piece=1000):
    """As upload.js does; returns what it was answered."""
    answers = []
    with mock.patch.object(to, "send", lambda content: answers.append(content)):
        for offset in range(begin, max(len(content), 1), piece):
            message = {"id": id, "name": name, "size": len(content) if size is None else size, "offset": offset}
            to._handle_custom_msg(message, [memoryview(content[offset : offset + piece])])
            assert answers[-1]["id"] == id
            if not answers[-1]["goes_on"]:
                break
    return answers


def test_a_file_in_pieces_is_the_file(bench, photo):
    content = photo.read_bytes()
    assert len(send(bench.upload, content)) == -(-len(content) // 1000) > 10
    assert bench.photo.value == "sent.png" and bench.message.value == ""
    np.testing.assert_array_equal(bench.run.trace.x, data.astronaut()[:HEIGHT, :WIDTH])
    assert bench.upload._folder is None  # and of the file nothing is left


def test_a_file_that_is_stopped_or_torn_is_none(bench, photo):
    content, before = photo.read_bytes(), state(bench)
    send(bench.upload, content[:5000], size=len(content), id="stopped")
    assert state(bench) == before
    assert [answer["goes_on"] for answer in send(bench.upload, content, id="other", begin=5000)] == [False]
    send(bench.upload, content[:3000], size=len(content), id="torn")
    assert [answer["goes_on"] for answer in send(bench.upload, content, id="torn", begin=4000)] == [False]
    assert "a piece of sent.png was lost" in bench.message.value and state(bench) == before
    send(bench.upload, content, id="again")
    assert bench.photo.value == "sent.png"


@pytest.mark.parametrize(
    ("name", "content"), [("empty.png", b""), ("n" * 300 + ".png", b"no picture"), ("../../up.png", b"x"), ("\0", b"x")]
)
def test_what_can_not_be_used_is_refused_in_words(bench, name, content):
    before = state(bench)
    send(bench.upload, content, name)
    assert "can't be read as an image" in words(bench.message.value) and state(bench) == before
    assert bench.upload._folder is None


def test_a_file_beyond_the_limit_is_refused_before_it_is_written(bench):
    assert send(bench.upload, b"x", size=bench.upload.limit + 1)[0]["goes_on"] is False
    assert "can be uploaded" in bench.message.value
    assert bench.upload.limit > 24_000_000 * 3 * 2  # of 16 bits, raw


# -- what stays in a saved notebook ----------------------------------------------------------------


@pytest.fixture
def published(monkeypatch):
    """What a notebook's cell would hold, in order; a display_id marks what is replaced later."""
    outputs = {}

    def display(bundle, raw, display_id=None):
        assert raw
        outputs[display_id or f"output {len(outputs)}"] = bundle

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(
        "IPython.display.update_display", lambda bundle, display_id, raw: display(bundle, raw, display_id)
    )
    return outputs


def test_a_saved_notebook_holds_the_last_state_and_the_line_that_makes_it_again(bench, photo, published):
    bench._ipython_display_()
    view, last = published.values()
    assert set(view) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    bench.local.value = "attention"
    bench.quality.value = QUALITIES[-1]
    view, last = published.values()  # the second was replaced
    assert f"{bench.run.trace.bpp['total']:.4f}" in last["text/html"] and photo.name in last["text/html"]
    pictures = re.findall(r"base64,([^']*)'", last["text/html"])
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(b64decode(pictures[0])))), bench.run.trace.x_hat)
    assert Image.open(BytesIO(b64decode(last["image/png"]))).width > 2 * WIDTH
    again = eval(last["text/plain"].splitlines()[-1], {"lab": lab})
    assert again.run.trace.combination == bench.run.trace.combination
    assert again.run.trace.quality == bench.run.trace.quality
    np.testing.assert_array_equal(again.run.trace.x, bench.run.trace.x)


def test_every_widget_that_stands_alone_keeps_a_still(published):
    curves = [lab.figures.Curve(name, [0.1, 0.2, 0.4], [27 + i, 30 + i, 33 + i]) for i, name in enumerate("ab")]
    charts = [lab.widgets.rd_chart(curves), lab.widgets.saving_chart(curves[0], curves)]
    for widget in (*pages(), *charts):
        published.clear()
        widget._ipython_display_()
        _, last = published.values()
        assert "Shift + Enter" in last["text/html"] and last["text/plain"]
        assert min(Image.open(BytesIO(b64decode(last["image/png"]))).size) > 50
        css = widget._keeper.css
        assert css.split("'")[1] in last["text/html"]  # the rule that hides it where the widget is live
        if isinstance(widget, Page):
            assert any(css in getattr(child, "value", "") for child in widget.children)
        else:
            assert widget._rule == css


def test_a_still_that_fails_is_words_and_ends_nothing(bench, published, monkeypatch):
    bench._ipython_display_()
    monkeypatch.setattr(workbench, "Still", raises(KeyError("a fault of ours")))
    bench.local.value = "none"
    assert bench.message.value == "" and "a fault of ours" in list(published.values())[1]["text/plain"]


def test_nothing_is_kept_of_a_page_that_nobody_saves(bench, published, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    bench._ipython_display_()
    bench.local.value = "none"
    assert len(published) == 1


def test_a_still_waits_until_the_page_is_quiet(bench, published, monkeypatch):
    monkeypatch.setattr(still, "QUIET", 0.05)
    bench._ipython_display_()
    made = []
    bundle = bench._keeper.bundle
    monkeypatch.setattr(bench._keeper, "bundle", lambda: made.append(1) or bundle())

    async def story():
        for row in range(5):
            bench.row.value = row
        assert made == []
        await asyncio.sleep(0.5)

    asyncio.run(story())
    assert made == [1]

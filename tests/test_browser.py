"""The notebook as people meet it: in Chromium, in JupyterLab and as a Voila page.

Nothing may be fetched from another host, and the page's console must stay free of errors.
"""

import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import (
    CHROMIUM,
    NO_CHROMIUM,
    NOTEBOOK,
    chromium,
    eventually,
    open_workbench,
    run_all_cells,
    serve,
    wait_for_run,
)
from PIL import Image

from lic_lab.codecs import weights

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
    pytest.mark.skipif(not weights.cards("shared"), reason=f"there are no trained weights in {weights.folder()}"),
]
# Counts the pictures that the page holds on to.
COUNT_URLS = """() => {
  const [make, drop] = [URL.createObjectURL, URL.revokeObjectURL].map((call) => call.bind(URL));
  window.held = new Set();
  URL.createObjectURL = (blob) => { const url = make(blob); held.add(url); return url; };
  URL.revokeObjectURL = (url) => { held.delete(url); drop(url); };
}"""
MENUS = {"photo": 0, "quality": 1, "channel": 2, "local": 3, "global": 4, "refinement": 5}


class Workbench:
    """The workbench on a page, by what a user sees."""

    def __init__(self, page):
        self.page = page

    def number(self, name):
        return float(self.page.locator(f'.lab-numbers .lab-figure[data-number="{name}"] b').inner_text())

    def menu(self, name):
        return self.page.locator(".lab-controls select").nth(MENUS[name])

    def chosen(self, name):
        shown = self.menu(name).evaluate("menu => menu.selectedOptions[0].textContent")
        return shown.replace("\xa0", " ")  # ipywidgets keeps the spaces of an option together

    def choose(self, name, label):
        """Choose from a menu what is not chosen yet, and wait until the run it starts is on the screen."""
        if self.chosen(name) != label:
            run = int(self.map("bits").get_attribute("data-run"))
            self.menu(name).select_option(label=label)
            wait_for_run(self.page, run + 1)

    def eventually(self, condition):
        eventually(self.page, condition)

    def map(self, name):
        return self.page.locator(f'.lab-map[data-map="{name}"]')

    def source(self, name):
        return self.map(name).locator("img").get_attribute("src")

    def readout(self, name):
        return self.map(name).locator(".lab-readout").inner_text()

    def tab(self, title):
        self.page.locator(f'.lab-tabs button:has-text("{title}")').click()

    def wait_for_position(self, name, row, column):
        self.eventually(lambda: self.readout(name).startswith(f"row {row}, column {column}:"))


def watch(page):
    """Lists that fill with the page's errors and the hosts it asks."""
    errors, hosts = [], set()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).hostname))
    return errors, hosts


@pytest.fixture(scope="module")
def lab_page(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("lab")) as address, chromium() as page:
        errors, hosts = watch(page)
        open_workbench(page, address)
        yield Workbench(page), errors, hosts


def test_the_notebook_in_jupyterlab(lab_page):
    bench, errors, hosts = lab_page
    page = bench.page
    bench.eventually(lambda: 0 < bench.number("bpp") < 24 and bench.number("psnr") > 20)

    # each menu changes the numbers
    for name, option in (
        ("local", "checkerboard attention"),
        ("global", "intra-slice"),
        ("refinement", "latent residual prediction"),
        ("channel", "none"),
    ):
        before = {"bpp": bench.number("bpp"), "bits": bench.source("bits"), "picture": bench.source("picture")}
        bench.choose(name, option)
        if name == "refinement":
            bench.eventually(lambda before=before: bench.source("picture") != before["picture"])
        elif name == "global":  # a few bits of a hundred thousand: the map shows them, four digits may not
            bench.eventually(lambda before=before: bench.source("bits") != before["bits"])
        else:
            bench.eventually(
                lambda before=before: bench.number("bpp") != before["bpp"] and bench.source("bits") != before["bits"]
            )
    bench.eventually(lambda: bench.menu("global").locator("option").all_inner_texts() == ["none", "reference"])
    assert bench.chosen("global") == "none"
    for rate_point in bench.menu("quality").locator("option").all_inner_texts()[1:]:
        before = bench.number("bpp")
        bench.choose("quality", rate_point)
        bench.eventually(lambda before=before: bench.number("bpp") > before)

    # pin and compare
    before = bench.number("bpp")
    bench.choose("channel", "convolutions")
    bench.eventually(lambda: bench.number("bpp") < before)
    a = bench.number("bpp")
    page.locator("button:has-text('Pin as A')").click()
    page.wait_for_selector(".lab-table")
    bench.choose("local", "none")
    page.wait_for_selector("text=/[+-][0-9.]+ % against A/")
    cells = page.locator(".lab-table tr:has(th:text-is('total')) td")
    bench.eventually(lambda: [float(text) for text in cells.all_inner_texts()[:2]] == [a, bench.number("bpp")])
    assert bench.number("bpp") > a
    assert float(cells.all_inner_texts()[2]) == pytest.approx(bench.number("bpp") - a, abs=1.1e-4)
    bench.eventually(lambda: bench.source("difference").startswith("blob:"))

    # another picture
    bench.choose("photo", "Coffee")
    page.wait_for_selector("text=/A and B differ in the pictures .*Coffee/")
    assert cells.all_inner_texts()[2:] == ["", ""]
    assert not page.locator(".lab-figures >> text=%").count()
    assert errors == []
    assert hosts <= {"127.0.0.1", None, ""}


def test_click_and_keys_on_the_heatmap(lab_page):
    bench, errors, _ = lab_page
    bench.choose("photo", "Coffee")
    bench.tab("Similarity")
    frame = bench.map("similarity").locator(".lab-frame")
    bench.page.wait_for_selector('.lab-map[data-map="similarity"][data-run]')
    before = bench.source("similarity")

    def ratio():
        box = frame.bounding_box()
        return box and box["width"] / box["height"]  # none before the tab is open

    bench.eventually(lambda: ratio() == pytest.approx(600 / 400, rel=0.02))  # its picture gives it its shape
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    frame.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.5})
    bench.wait_for_position("similarity", 12, 9)  # of 25 x 38: Coffee has 400 x 600 pixels
    bench.eventually(lambda: bench.source("similarity") != before)
    assert re.match(r"row 12, column 9: 1\b", bench.readout("similarity"))  # each is most like itself
    bench.eventually(lambda: bench.page.locator(".lab-number-field input").nth(0).input_value() == "12")

    # arrow keys go to the map, not to the notebook
    for key, position in (("ArrowRight", (12, 10)), ("ArrowDown", (13, 10)), ("Shift+ArrowLeft", (13, 2))):
        frame.press(key)
        bench.wait_for_position("similarity", *position)
    assert bench.page.locator(".jp-Cell").count() == 2

    # each step draws a picture, and the page lets go of those before it
    bench.page.evaluate(COUNT_URLS)
    for _ in range(12):
        frame.press("ArrowUp")
    bench.wait_for_position("similarity", 1, 2)
    bench.eventually(lambda: bench.page.evaluate("held.size") == 1)
    assert errors == []


def test_everything_is_reached_by_the_tab_key_and_letters_do_not_edit_the_notebook(lab_page):
    bench, errors, _ = lab_page
    page = bench.page
    bench.menu("photo").focus()
    seen = []
    for _ in range(40):
        seen.append(
            page.evaluate(
                "() => { const e = document.activeElement;"
                " return e.closest('.lab-map')?.dataset.map ?? (e.labels?.[0]?.textContent || e.textContent) }"
            )
        )
        page.keyboard.press("Tab")
    controls = ["Photograph", "Upload", "Path", "Rate point", "Channel", "Local", "Global", "Refinement", "Pin as A"]
    stage = ["Original", "picture", "Over the picture", "bits", "Attention", "Row", "Column", "similarity"]
    for words in controls + stage:
        assert any(words in title for title in seen), (words, seen)
    for name in MENUS:
        bench.menu(name).hover()
        assert bench.menu(name).get_attribute("title")
    bench.menu("photo").focus()
    page.keyboard.press("d")
    page.keyboard.press("d")  # in JupyterLab's command mode this deletes the cell
    page.wait_for_timeout(300)
    assert page.locator(".jp-Cell").count() == 2
    assert errors == []


def test_an_error_is_shown_in_words_and_the_workbench_goes_on(lab_page):
    bench, errors, _ = lab_page
    numbers = bench.number("bpp")
    field = bench.page.locator(".lab-controls input[type=text]")
    field.fill("/nowhere/picture.png")
    field.press("Enter")
    bench.page.wait_for_selector("[role=alert] >> text=there is no file /nowhere/picture.png")
    assert bench.number("bpp") == numbers
    assert errors == []


def test_bars_fill_their_width_and_each_is_as_wide_as_its_share(lab_page):
    bench, _, _ = lab_page
    found = bench.page.evaluate(
        """() => [...document.querySelectorAll('.lab-share')].map((bar) => ({
          whole: bar.querySelector('.lab-stack').getBoundingClientRect().width,
          widths: [...bar.querySelectorAll('.lab-stack i')].map((piece) => piece.getBoundingClientRect().width),
          bpp: [...bar.querySelectorAll('.lab-keys b')].map((number) => Number(number.textContent)),
        }))"""
    )
    assert len(found) == 2
    for bar in found:
        assert bar["whole"] > 100 and len(bar["widths"]) == len(bar["bpp"]) > 1
        assert sum(bar["widths"]) == pytest.approx(bar["whole"], abs=0.5)
        for width, bpp in zip(bar["widths"], bar["bpp"], strict=True):
            assert width / bar["whole"] == pytest.approx(bpp / sum(bar["bpp"]), abs=0.005)


def test_a_reset_is_said_and_put_back_by_a_click(lab_page):
    bench, errors, _ = lab_page
    for name, option in (("channel", "none"), ("local", "raster order"), ("channel", "convolutions")):
        bench.choose(name, option)
    bench.page.wait_for_selector(".lab-reset >> text=/has no slices.*local context/")
    assert bench.chosen("local") == "none"
    bench.page.click("button:has-text('Put back')")
    bench.eventually(lambda: (bench.chosen("channel"), bench.chosen("local")) == ("none", "raster order"))
    bench.eventually(lambda: not bench.page.locator(".lab-reset").is_visible())
    bench.choose("local", "checkerboard")
    assert errors == []


def test_a_line_of_pixels_can_be_seen_and_clicked(lab_page, tmp_path):
    bench, errors, _ = lab_page
    run = int(bench.map("bits").get_attribute("data-run"))
    for n, (height, width) in enumerate(((1, 700), (500, 2)), 1):
        path = tmp_path / f"{width} x {height}.png"
        Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(path)
        field = bench.page.locator(".lab-controls input[type=text]")
        field.fill(str(path))
        field.press("Enter")
        wait_for_run(bench.page, run + n)
        for name in ("picture", "bits"):
            box = bench.map(name).locator(".lab-frame").bounding_box()
            assert min(box["width"], box["height"]) > 20 and max(box["width"], box["height"]) > 300
        bench.page.wait_for_selector(f"text=/{width} x {height} pixels.*stretched/")
    bench.choose("photo", "Astronaut")
    assert errors == []


def test_a_large_picture_is_uploaded_in_pieces_and_its_run_can_be_stopped(lab_page, tmp_path):
    bench, errors, _ = lab_page
    page, before = bench.page, bench.number("bpp")
    path = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2100, 3), np.uint8)
    Image.fromarray(noise).save(path, compress_level=0)
    assert path.stat().st_size > 12e6  # Jupyter's server takes messages of up to 10 MiB
    button = page.locator(".lab-upload")
    page.locator(".lic-lab input[type=file]").set_input_files(path)
    bench.eventually(lambda: re.match(r"Sending \d+ %", button.inner_text()))
    page.wait_for_selector(
        ".lab-busy >> text=/Analysing 4.2 megapixels: .*about .*still of Astronaut/", timeout=120_000
    )
    assert button.inner_text() == "Upload a picture"
    for stale in (bench.map("picture"), bench.map("bits"), page.locator(".lab-panel:visible")):
        assert stale.evaluate("e => !!e.closest('.lab-stale')")
    page.click("button:has-text('Stop')")
    page.wait_for_selector("text=Stopped. The run before is still shown.", timeout=5000)
    assert bench.number("bpp") == before and bench.chosen("photo") == "Astronaut"
    bench.eventually(lambda: page.locator(".lab-stale").count() == 0)
    bench.choose("local", "none")  # and the page goes on
    bench.eventually(lambda: bench.number("bpp") > before)
    assert errors == []


def test_a_file_beyond_all_measure_is_refused_by_the_page(lab_page):
    bench, errors, _ = lab_page
    page = bench.page
    page.locator(".lic-lab input[type=file]").evaluate(
        "input => { Object.defineProperty(input, 'files', { value: [{ name: 'huge.tif', size: 2e9 }] });"
        " input.dispatchEvent(new Event('change')); }"
    )
    page.wait_for_selector("[role=alert] >> text=/huge.tif has 2000 MB; up to 537 MB can be uploaded/", timeout=5000)
    assert page.locator(".lab-upload").inner_text() == "Upload a picture"
    assert errors == []


def test_the_page_fits_the_window(lab_page):
    bench, _, _ = lab_page
    widths = bench.page.evaluate(
        "() => { const e = document.querySelector('.lic-lab');"
        " return [document.documentElement.scrollWidth, innerWidth, e.scrollWidth, e.clientWidth] }"
    )
    assert widths[0] <= widths[1]
    assert widths[2] <= widths[3]


def test_a_saved_notebook_without_its_kernel_shows_the_last_state(lab_page):
    """The last test of this page: afterwards its kernel is another."""
    bench, errors, _ = lab_page
    page, still = bench.page, bench.page.locator(".lic-lab-still")
    assert not still.is_visible()
    bench.choose("photo", "Coffee")
    bench.eventually(lambda: "Coffee" in still.evaluate("e => e.textContent"))
    page.locator(".jp-Notebook").press("Control+s")
    page.wait_for_selector(".lm-TabBar-tab:has-text('workbench.ipynb'):not(.jp-mod-dirty)")
    page.click(".lm-MenuBar-itemLabel:text-is('Kernel')")
    page.click(".lm-Menu-itemLabel:text-is('Shut Down Kernel')")
    page.wait_for_selector("text=/No Kernel/")
    page.reload()
    still.wait_for(timeout=60_000)
    page.wait_for_selector("text=/Python 3.* [|] Idle/", timeout=120_000)
    for words in ("Shift + Enter", "Workbench: Coffee", "coffee.png"):
        assert words in still.inner_text()
    widths = still.locator("img").evaluate_all("all => all.map(img => img.naturalWidth)")
    assert len(widths) >= 2 and set(widths) == {480}  # a third where an earlier test has left a comparison
    bench.eventually(lambda: not page.locator("text=model not found").is_visible())
    errors[:] = [error for error in errors if "model not found" not in error]  # JupyterLab notes it on the console
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    wait_for_run(page, 1, 240_000)
    bench.eventually(lambda: not still.is_visible())


def test_the_voila_page(tmp_path, lab_page):
    with serve(tmp_path, "voila") as address:
        without = urllib.request.Request(address.split("?")[0])
        try:
            answer = urllib.request.urlopen(without).read().decode()
        except urllib.error.HTTPError as error:
            answer = error.read().decode()
        assert "rendered_cells" not in answer  # no page without the token

        page = lab_page[0].page.context.browser.new_page()
        errors, hosts = watch(page)
        open_workbench(page, address, "voila")
        bench = Workbench(page)
        assert not re.search(r"\bcells?\b", page.inner_text("body"))  # it shows none
        before = bench.number("bpp")
        bench.choose("local", "none")
        bench.eventually(lambda: bench.number("bpp") != before)
        frame = bench.map("bits").locator(".lab-frame")
        frame.click(position={"x": 3, "y": 3})
        bench.wait_for_position("bits", 0, 0)
        assert errors == []
        assert hosts <= {"127.0.0.1", None, ""}


def test_points_of_rd_curves_show_their_pictures_and_open_in_the_workbench(tmp_path, lab_page):
    with serve(tmp_path, notebook=NOTEBOOK.with_name("rd_curves.ipynb")) as address:
        page = lab_page[0].page.context.browser.new_page(viewport={"width": 1440, "height": 1400})
        errors, hosts = watch(page)
        run_all_cells(page, address)
        decoded = page.locator('.lab-map[data-map="decoded-picture"]')
        page.wait_for_selector('.lab-map[data-map="decoded-picture"][data-run="1"]', timeout=400_000)
        page.wait_for_selector("text=/BD-rate over VTM on Kodak[.]/", timeout=120_000)  # the last cell
        chart = page.locator(".lab-rd .js-plotly-plot").first
        curves = chart.locator(".scatterlayer .trace")
        curves.first.locator("path.point").first.wait_for(timeout=60_000)
        chart.scroll_into_view_if_needed()

        def middle(curve, i):
            box = curves.nth(curve).locator("path.point").nth(i).bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        bench = Workbench(page)
        bpp = page.locator('.lab-rd .lab-rd-numbers [data-number="bpp"] b')
        seen = set()
        for i in range(2):  # of mlic+
            page.mouse.move(*middle(0, i), steps=4)
            bench.eventually(lambda i=i: decoded.locator(".lab-title").inner_text() == f"mlic+, q={2 + i}")
            bench.eventually(lambda: decoded.locator(".lab-readout").inner_text() == f"{bpp.inner_text()} bpp")
            seen.add(float(bpp.inner_text()))
        assert len(seen) == 2

        page.mouse.click(*middle(0, 1))
        wait_for_run(page, 1, 120_000)
        bench.eventually(lambda: bench.number("bpp") == pytest.approx(max(seen), rel=0.02))  # the stream's, estimated
        assert bench.chosen("quality").startswith("3")

        page.locator(".lab-rd-controls select").first.select_option(label="MS-SSIM")
        chart.locator(".ytitle:has-text('MS-SSIM (dB)')").wait_for(timeout=20_000)
        assert errors == []
        assert hosts <= {"127.0.0.1", None, ""}

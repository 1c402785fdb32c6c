"""The notebook as people meet it: in Chromium, in JupyterLab and as a Voila page.

Nothing may be fetched from another host, and the page's console must stay free of errors.
"""

import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from browser import CHROMIUM, NO_CHROMIUM, NOTEBOOK, chromium, open_workbench, run_all_cells, serve, wait_for_run

from lic_lab.codecs import weights

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
    pytest.mark.skipif(not weights.cards("shared"), reason=f"there are no trained weights in {weights.folder()}"),
]
MENUS = {"photo": 0, "quality": 1, "channel": 2, "local": 3, "global": 4, "refinement": 5}


class Workbench:
    """The workbench on a page, by what a user sees."""

    def __init__(self, page):
        self.page = page
        self.runs = 1

    def number(self, name):
        return float(self.page.locator(f'.lab-figure[data-number="{name}"] b').inner_text())

    def menu(self, name):
        return self.page.locator(".lab-controls select").nth(MENUS[name])

    def choose(self, name, **option):
        """Choose from a menu, and wait until the run it starts is on the screen."""
        self.menu(name).select_option(**option)
        self.runs += 1
        wait_for_run(self.page, self.runs)

    def map(self, name):
        return self.page.locator(f'.lab-map[data-map="{name}"]')

    def source(self, name):
        return self.map(name).locator("img").get_attribute("src")

    def readout(self, name):
        return self.map(name).locator(".lab-readout").inner_text()

    def tab(self, title):
        self.page.locator(f'.lab-tabs button:has-text("{title}")').click()

    def wait(self, condition, *arguments):
        """Wait until a condition in JavaScript holds."""
        self.page.wait_for_function(condition, arg=list(arguments), timeout=20_000)

    def wait_for_position(self, name, row, column):
        self.wait(
            "([name, words]) =>"
            " document.querySelector(`.lab-map[data-map=${name}] .lab-readout`).textContent.startsWith(words)",
            name,
            f"row {row}, column {column}:",
        )


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
    assert 0 < bench.number("bpp") < 24
    assert bench.number("psnr") > 20

    # each menu changes the numbers
    for name, option in (
        ("local", {"label": "checkerboard attention"}),
        ("global", {"label": "intra-slice"}),
        ("refinement", {"label": "latent residual prediction"}),
        ("channel", {"label": "none"}),
    ):
        before, bits = bench.number("bpp"), bench.source("bits")
        picture = bench.source("picture")
        bench.choose(name, **option)
        if name == "refinement":
            assert bench.source("picture") != picture
        elif name == "global":  # a few bits of a hundred thousand: the map shows them, four digits may not
            assert bench.source("bits") != bits
        else:
            assert bench.number("bpp") != before
            assert bench.source("bits") != bits
    assert bench.menu("global").locator("option").all_inner_texts() == ["none", "reference"]
    assert bench.menu("global").input_value() == "none"
    for option in range(1, bench.menu("quality").locator("option").count()):
        before = bench.number("bpp")
        bench.choose("quality", index=option)
        assert bench.number("bpp") > before

    # pin and compare
    bench.choose("channel", label="convolutions")
    page.locator("button:has-text('Pin as A')").click()
    page.wait_for_selector(".lab-table")
    bench.choose("local", label="none")
    page.wait_for_selector("text=/[+-][0-9.]+ % against A/")
    cells = page.locator(".lab-table tr:has(th:text-is('total')) td").all_inner_texts()
    assert float(cells[1]) == bench.number("bpp")
    assert float(cells[2]) == pytest.approx(float(cells[1]) - float(cells[0]), abs=1.1e-4)
    assert bench.source("difference").startswith("blob:")

    # another picture
    bench.choose("photo", label="Coffee")
    page.wait_for_selector("text=A and B are different pictures")
    assert errors == []
    assert hosts <= {"127.0.0.1", None, ""}


def test_click_and_keys_on_the_heatmap(lab_page):
    bench, errors, _ = lab_page
    bench.tab("Similarity")
    frame = bench.map("similarity").locator(".lab-frame")
    frame.scroll_into_view_if_needed()
    bench.page.wait_for_selector('.lab-map[data-map="similarity"][data-run]')
    before = bench.source("similarity")
    box = frame.bounding_box()
    frame.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.5})
    bench.wait(
        "([name, src]) => document.querySelector(`.lab-map[data-map=${name}] img`).src != src", "similarity", before
    )
    row, column = map(int, re.match(r"row (\d+), column (\d+): 1\b", bench.readout("similarity")).groups())
    assert (row, column) == (12, 9)  # of 25 x 38: Coffee has 400 x 600 pixels
    assert bench.page.locator(".lab-number-field input").nth(0).input_value() == "12"

    # arrow keys go to the map, not to the notebook
    for key, position in (("ArrowRight", (12, 10)), ("ArrowDown", (13, 10)), ("Shift+ArrowLeft", (13, 2))):
        frame.press(key)
        bench.wait_for_position("similarity", *position)
    assert bench.page.locator(".jp-Cell").count() == 2
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


def test_the_page_fits_the_window(lab_page):
    bench, _, _ = lab_page
    widths = bench.page.evaluate(
        "() => { const e = document.querySelector('.lic-lab');"
        " return [document.documentElement.scrollWidth, innerWidth, e.scrollWidth, e.clientWidth] }"
    )
    assert widths[0] <= widths[1]
    assert widths[2] <= widths[3]


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
        before = bench.number("bpp")
        bench.choose("local", label="none")
        assert bench.number("bpp") != before
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

        seen = set()
        for i in range(2):  # of mlic+
            before = int(decoded.get_attribute("data-run"))
            page.mouse.move(*middle(0, i), steps=4)
            decoded.and_(page.locator(f'[data-run="{before + 1}"]')).wait_for(timeout=20_000)
            assert decoded.locator(".lab-title").inner_text() == f"mlic+, q={2 + i}"
            seen.add(page.locator('.lab-rd [data-number="bpp"] b').inner_text())
        assert len(seen) == 2

        page.mouse.click(*middle(0, 1))
        wait_for_run(page, 1, 120_000)
        estimate = page.locator('.lab-numbers .lab-figure[data-number="bpp"] b').inner_text()
        assert float(estimate) == pytest.approx(float(max(seen)), rel=0.02)
        assert page.locator(".lab-controls select").nth(1).input_value().startswith("3")

        page.locator(".lab-rd-controls select").first.select_option(label="MS-SSIM")
        chart.locator(".ytitle:has-text('MS-SSIM (dB)')").wait_for(timeout=20_000)
        assert errors == []
        assert hosts <= {"127.0.0.1", None, ""}

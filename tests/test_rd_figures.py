"""Laws of the rate-distortion figures, the BD-rate table, and `lic-lab figures rd`."""

from __future__ import annotations

import io
import re
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from lic_lab import cli, figures
from lic_lab.evaluation import bdrate, published
from lic_lab.evaluation.quality import ms_ssim_db
from lic_lab.figures.comparison import compare
from lic_lab.figures.curves import FAMILIES, MOST, Curve, looks, ranked
from lic_lab.figures.operating_points import measured_curves, published_curves, subject

BPP = np.array([0.1, 0.2, 0.4, 0.8])
ANCHOR = Curve("VTM", BPP, [28, 31, 34, 37], "classical", source="a file")
OURS = Curve("ours", 0.9 * BPP, [28, 31, 34, 37])
WORSE = Curve("JPEG_2 & co", 3 * BPP, [28, 31, 34, 37], "classical")
ROWS = [
    {"codec": "a", "bd_rate_percent": -12.5, "parameters": 5e7, "decoder_kmacs_per_pixel": 400.0, "source": "a paper"},
    {"codec": "b_1 & 50%", "bd_rate_percent": 7.25, "parameters": 3e6, "decoder_kmacs_per_pixel": 40.0},
]
KODAK = ["vtm", "bpg_444_x265_ycbcr", "jpeg", "mlic+", "elic2022 (paper)", "mbt2018", "bmshj2018-hyperprior"]


def many(count: int) -> list[Curve]:
    return [
        Curve(f"codec {i}", BPP * (1 + 0.05 * i), [28, 31, 34, 37], FAMILIES[i % 3], source="" if i % 2 else "a file")
        for i in range(count)
    ]


DRAWN = {
    "rd": lambda width: figures.rd_curves([ANCHOR, OURS, WORSE], width=width),
    "rd of as many as can be": lambda width: figures.rd_curves(many(MOST), "ms_ssim", width=width, title="title"),
    "savings": lambda width: figures.rate_savings(ANCHOR, [ANCHOR, OURS, WORSE], width=width),
    "savings of many": lambda width: figures.rate_savings(many(MOST)[0], many(MOST), width=width),
    "tradeoff": lambda width: figures.bd_rate_complexity(ROWS, "VTM", width=width),
    "published": lambda width: figures.rd_curves(published_curves(KODAK), width=width),
}


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [figures.COLUMN, figures.PAGE])
@pytest.mark.parametrize("name", DRAWN)
def test_nothing_leaves_the_page_axes_name_units_and_fonts_are_embedded(name, width):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = DRAWN[name](width)
        pdf = io.BytesIO()
        figure.savefig(pdf, format="pdf")
    assert figure.get_figwidth() == width
    assert b"/Type3" not in pdf.getvalue()
    for ax in figure.axes:
        for label in (ax.get_xlabel(), ax.get_ylabel()):
            assert re.search(r"bpp|dB|%|kMACs per pixel", label)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    for artist in (*figure.axes, *figure.legends):
        box = artist.get_tightbbox(canvas.get_renderer())
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, (name, box)
    (legend,) = figure.legends
    inside = figure.axes[0].get_tightbbox(canvas.get_renderer())
    assert not inside.overlaps(legend.get_window_extent())
    assert figure.axes[0].get_window_extent().height > 0.35 * figure.get_figwidth() * figure.dpi


def test_every_curve_looks_different_and_published_ones_are_open():
    found = looks(many(MOST))
    told = {(to_hex(look["color"]), look["marker"], str(look["linestyle"])) for look in found}
    assert len(told) == MOST
    for curve, look in zip(many(MOST), found, strict=True):
        assert (look["markerfacecolor"] == "white") == curve.published
        assert (look["linewidth"] > 1.5) == (curve.family == "ours")
        grey = len(set(re.findall("..", to_hex(look["color"])[1:]))) == 1
        assert grey == (curve.family == "classical")


def test_a_curve_is_drawn_through_its_points_and_the_legend_says_published():
    figure = figures.rd_curves([ANCHOR, OURS])
    for line, curve in zip(figure.axes[0].lines, (ANCHOR, OURS), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose(curve.points))
    words = [text.get_text() for text in figure.legends[0].texts]
    assert words == ["ours", "VTM", "published", "measured here"]  # the best first
    assert [t.get_text() for t in figures.rd_curves([OURS]).legends[0].texts] == ["ours"]


def test_the_legend_lists_the_best_first():
    curves = [Curve(str(shift), BPP, np.array([28, 31, 34, 37]) + shift) for shift in (0, -2, 3, 1)]
    assert [curves[i].name for i in ranked(curves)] == ["3", "1", "0", "-2"]


def test_savings_agree_with_the_formula_and_leave_out_what_is_far_beyond():
    figure = figures.rate_savings(ANCHOR, [ANCHOR, OURS, WORSE])
    line, marks = figure.axes[0].lines[:2]
    np.testing.assert_allclose(line.get_ydata(), 10, atol=1e-9)  # nine tenths of the anchor's rate
    np.testing.assert_allclose(marks.get_ydata(), 10, atol=1e-9)
    assert [text.get_text() for text in figure.legends[0].texts] == ["ours"]  # three times the rate is -200 %
    assert figure.legends[0].get_title().get_text() == "below \u221250 %, not drawn: JPEG_2 & co"
    alone = figures.rate_savings(ANCHOR, [WORSE])
    np.testing.assert_allclose(alone.axes[0].lines[0].get_ydata(), -200, atol=1e-9)
    assert alone.axes[0].get_ylim()[0] < -200


def test_no_classical_codec_far_below_leaves_learned_ones_a_narrow_band():
    """JPEG needs almost twice VTM's rate: what is far below is named and not drawn, what is near is drawn."""
    jpeg, bpg = (Curve(name, n * BPP, [28, 31, 34, 37], "classical") for name, n in (("JPEG", 1.9), ("BPG", 1.25)))
    figure = figures.rate_savings(ANCHOR, [OURS, bpg, jpeg])
    assert figure.axes[0].get_ylim()[0] > -35
    assert [text.get_text() for text in figure.legends[0].texts] == ["ours", "BPG"]
    assert "JPEG" in figure.legends[0].get_title().get_text()
    for of in ([bpg, jpeg], [jpeg]):  # among classical codecs nothing is lost
        figure = figures.rate_savings(ANCHOR, of)
        assert figure.axes[0].get_ylim()[0] < -90 and not figure.legends[0].get_title().get_text()
    learned = Curve("a learned one", 1.9 * BPP, [28, 31, 34, 37], "learned")
    assert "a learned one" in [t.get_text() for t in figures.rate_savings(ANCHOR, [OURS, learned]).legends[0].texts]


def test_a_legend_has_a_line_for_what_is_drawn_alone():
    far = Curve("far", [4, 5], [40, 41], "classical")
    figure = figures.rd_curves([OURS, far])
    assert [text.get_text() for text in figure.legends[0].texts] == ["ours"] and len(figure.axes[0].lines) == 1
    assert figure.legends[0].get_title().get_text() == "not from 0 to 0.756 bpp: far"
    assert not figures.rd_curves([OURS, far], rates=(0, 5)).legends[0].get_title().get_text()


@pytest.mark.parametrize("draw", [figures.rd_curves, lambda of, metric: figures.rate_savings(of[0], of, metric=metric)])
def test_legends_say_what_learned_codecs_were_trained_for_where_they_differ(draw):
    codecs = ["vtm", "mbt2018", "elic2022 (paper)", "bpg_444_x265_ycbcr"]
    measured = pd.DataFrame({"configuration": ["q=2", "q=3"], "bpp": [0.2, 0.4], "psnr": [30, 32.5]})
    measured = measured.assign(codec="mlic+", images=24, image_set="", ms_ssim_db=[13, 16])
    for metric in ("psnr", "ms_ssim"):
        curves = [*published_curves(codecs, metric=metric), *measured_curves(measured, metric)]
        words = [text.get_text() for text in draw(curves, metric).legends[0].texts]
        learned = [word for word in words if word.startswith(("joint", "ELIC", "mlic"))]
        assert len(learned) == 3
        if metric == "psnr":
            assert not [word for word in words if "for M" in word]
        else:
            assert sorted(learned) == ["ELIC, for MSE", "joint autoregressive, for MS-SSIM", "mlic+, for MSE"]
        assert {"BPG", "published"} <= set(words)


def test_circles_have_areas_in_proportion_to_parameters_and_names_do_not_overlap():
    names = ["MLIC", "MLIC+", "ChARM", "joint autoregressive", "hyperprior", "factorized"]
    rows = [
        {"codec": name, "bd_rate_percent": y, "parameters": n, "decoder_kmacs_per_pixel": x}
        for name, x, y, n in zip(
            names, (650, 780, 480, 100, 45, 42), (-10, -11, 1, 2, 3, 3.5), (46e6, 8e7, 1e8, 1e7, 5e6, 3e6), strict=True
        )
    ]
    figure = figures.bd_rate_complexity(rows, "VTM")
    circles = figure.axes[0].lines[0 : 2 * len(rows) : 2]
    areas = np.array([circle.get_markersize() ** 2 for circle in circles])
    np.testing.assert_allclose(areas / areas[0], [row["parameters"] / 46e6 for row in rows])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text() in names]
    assert sorted(text.get_text() for text in texts) == sorted(names)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: Curve("", [1], [30]), "no name"),
        (lambda: Curve("a", [1, 2], [30]), "as many of both"),
        (lambda: Curve("a", [1, 0], [30, 20]), "need no bits"),
        (lambda: Curve("a", [1], [np.inf]), "no numbers"),
        (lambda: Curve("a", [1], [30], "best"), "ours, learned, classical"),
        (lambda: figures.rd_curves([]), "0 curves"),
        (lambda: figures.rd_curves(many(MOST + 1)), "can't be told apart"),
        (lambda: figures.rd_curves([OURS, OURS]), "two curves named ours"),
        (lambda: figures.rd_curves([OURS], "vmaf"), "psnr, ms_ssim"),
        (lambda: figures.rd_curves([OURS], rates=(2.0, 3.0)), "no curve has a point"),
        (lambda: figures.rate_savings(OURS, [OURS]), "only curve is the anchor"),
        (lambda: figures.rate_savings(ANCHOR, [Curve("far", [1, 2], [50, 60])]), "far can't be set against VTM"),
        (lambda: figures.bd_rate_complexity([], "VTM"), "no rows"),
        (lambda: figures.bd_rate_complexity([{"codec": "a"}], "VTM"), "lacks bd_rate_percent, parameters"),
        (lambda: figures.bd_rate_complexity([{**ROWS[0], "parameters": 0}], "VTM"), "above 0"),
        (lambda: figures.bd_rate_complexity(ROWS, "VTM", "watts"), "decode_seconds"),
        (lambda: figures.bd_rate_table([], "VTM"), "0 rows"),
        (lambda: figures.bd_rate_table([{"codec": "a"}], "VTM"), "no numbers"),
        (lambda: figures.bd_rate_table(ROWS, "VTM", "html"), "latex, markdown"),
        (lambda: compare({"psnr": [OURS]}, "VTM"), "none of ours"),
    ],
)
def test_mistakes_get_an_answer(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


# -- curves ------------------------------------------------------------------------------------------------------------


@given(
    arrays(float, st.integers(1, 12), elements=st.floats(0.01, 4, allow_subnormal=False)),
    st.randoms(use_true_random=False),
)
def test_rising_keeps_exactly_the_points_that_no_other_beats(bpp, random):
    quality = np.array([random.choice([25.0, 27.5, 30.0, 32.0]) for _ in bpp])
    curve = Curve("a", bpp, quality)
    kept = set(zip(*curve.rising().points, strict=True))
    points = set(zip(bpp, quality, strict=True))
    best = {(b, q) for b, q in points if not any(x <= b and y >= q and (x, y) != (b, q) for x, y in points)}
    assert kept == best


def test_published_curves_are_the_table_and_carry_its_source():
    for metric, column in (("psnr", "psnr_db"), ("ms_ssim", "ms_ssim")):
        (curve,) = published_curves(["vtm"], "kodak", metric)
        table = published.points("kodak", "vtm").sort_values("bpp")
        expected = table[column] if metric == "psnr" else ms_ssim_db(table[column].to_numpy())
        np.testing.assert_allclose(curve.points, [table["bpp"], expected])
        assert curve.published and curve.source == table["source"].iloc[0] and curve.family == "classical"
    (learned,) = published_curves(["mbt2018"], "kodak", "ms_ssim")
    assert learned.name.endswith("for MS-SSIM") and learned.family == "learned"
    assert published_curves(["mlic+"], "kodak", "ms_ssim") == []  # its authors published PSNR alone
    with pytest.raises(ValueError, match="nobody"):
        published_curves(["nobody"])


def test_compare_is_bd_rate():
    rows = compare({"psnr": [ANCHOR, OURS, WORSE]}, "VTM", costs=False)
    assert [row["codec"] for row in rows] == ["ours", "JPEG_2 & co"]
    for row, curve in zip(rows, (OURS, WORSE), strict=True):
        assert row["bd_rate_percent"] == bdrate.bd_rate(ANCHOR.points, curve.points).value
        assert row["bd_psnr_db"] == bdrate.bd_psnr(ANCHOR.points, curve.points).value
    far = Curve("far", [1, 2], [50, 60])
    (row,) = compare({"psnr": [ANCHOR, far]}, "VTM", costs=False)
    assert "bd_rate_percent" not in row and "no range" in row["why"]


def test_complexity_is_that_of_the_codec_with_the_published_dimensions():
    from lic_lab.codecs.registry import parameters

    curve = published_curves(["bmshj2018-hyperprior"])[0]
    rows = compare({"psnr": [published_curves(["vtm"])[0], curve]}, "VTM")
    assert rows[0]["parameters"] == parameters("hyperprior", "paper")
    assert 0 < rows[0]["decoder_kmacs_per_pixel"] < rows[0]["kmacs_per_pixel"]


# -- tables ------------------------------------------------------------------------------------------------------------


def cells(line: str) -> list[str]:
    """Cells of a row of a LaTeX table, by the rules of TeX: an ampersand after a backslash separates nothing."""
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
def test_latex_names_come_back_when_unescaped(name):
    text = figures.bd_rate_table([{"codec": name, "bd_rate_percent": -1.0}], "VTM")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].split("\n", 1)[1].strip()
    found = cells(body)[0]
    back = {
        r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
        r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"',
        **{f"\\{special}": special for special in "{}&%$#_"},
    }  # fmt: skip
    pattern = "|".join(re.escape(key) for key in sorted(back, key=len, reverse=True))
    assert not set(re.sub(pattern, "", found)) & set("\\{}&%$#_~^")  # nothing that TeX would act on is left
    assert re.sub(pattern, lambda match: back[match[0]], found) == " ".join(name.split())


def test_latex_is_well_formed_and_holds_the_numbers():
    text = figures.bd_rate_table(ROWS, "VTM_1", "latex", "Kodak")
    bare = re.sub(r"\\[{}]", "", "\n".join(line for line in text.splitlines() if not line.startswith("%")))
    assert bare.count("{") == bare.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular"]
    columns = re.search(r"\\begin{tabular}{(\w+)}", text).group(1)
    rows = [line.strip() for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(cells(row)) for row in rows} == {len(columns)}
    assert cells(rows[2])[:2] == [r"a$^\dagger$", r"\textbf{$-$12.50}"]
    assert cells(rows[3])[:2] == [r"b\_1 \& 50\%", "+7.25"]
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1


def test_markdown_has_as_many_cells_in_each_row_and_names_sources():
    text = figures.bd_rate_table([*ROWS, {"codec": "c|d", "parameters": 2e6}], "VTM", "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "| a † | **−12.50** | 400.0 | 50.00 |" in table
    assert r"| c\|d | – | – | 2.00 |" in table
    assert "† published: a: a paper" in text


# -- measured, and the command -----------------------------------------------------------------------------------------


CODECS = (("jpeg", 2.0, "quality={}"), ("webp", 1.4, "quality={}"))  # with a factor of the rate, and its settings


def results(images: int = 2, codecs=CODECS) -> pd.DataFrame:
    """Rows as `lic-lab evaluate` writes them, of made-up numbers."""
    rows = []
    for codec, factor, settings in codecs:
        for i, bpp in enumerate(BPP):
            for image in range(images):
                row = {"codec": codec, "configuration": settings.format(10 * (i + 1)), "digest": "x"}
                row |= {"image": f"{image}.png", "image_hash": str(image), "height": 512, "width": 768}
                row |= {"bpp": factor * bpp, "psnr": 28.0 + 3 * i, "mse": 90.0 / 2**i, "ms_ssim": 0.9 + 0.02 * i}
                row |= {"encode_seconds": 0.1, "decode_seconds": 0.1, "threads": 1, "peak_memory_mb": 100.0}
                rows.append(row | {"host": "here", "version": "0"})
    return pd.DataFrame(rows)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "results.csv"
    results().to_csv(path, index=False)
    return path


def test_measured_curves_are_the_means(file):
    from lic_lab.evaluation.results import means

    jpeg, webp = measured_curves(means(file), "psnr")
    assert (jpeg.name, webp.name) == ("JPEG", "WebP") and not jpeg.published and jpeg.family == "classical"
    np.testing.assert_allclose(jpeg.points, [2 * BPP, [28, 31, 34, 37]])
    similarity = measured_curves(means(file), "ms_ssim")[0]
    np.testing.assert_allclose(similarity.points[1], ms_ssim_db(np.array([0.9, 0.92, 0.94, 0.96])))
    with pytest.raises(ValueError, match="which can't be compared"):
        measured_curves(means(file).assign(images=range(1, 9)), "psnr")
    assert measured_curves(means(file).assign(ms_ssim_db=np.nan), "ms_ssim") == []


def test_a_curve_is_named_after_what_is_not_the_codecs_own():
    assert subject("mlic+", "q=2") == subject("mlic+", "q=3") == "mlic+"
    assert subject("mlic+", "q=2,local=stacked,global=none") == "mlic+, local stacked, global none"


def run(capsys, *arguments):
    status = cli.main(["figures", "rd", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_draws_measured_points(file, tmp_path, capsys):
    out = tmp_path / "out"
    status, printed, said = run(capsys, file, "-o", out, "--anchor", "jpeg", "--format", "pdf", "svg")
    assert status == 0, said
    names = {path.name for path in out.iterdir()}
    figures_ = {
        f"{kind}_{metric}.{e}" for kind in ("rd", "saving") for metric in ("psnr", "ms_ssim") for e in ("pdf", "svg")
    }
    assert names == figures_ | {"bd_rate.tex", "bd_rate.md"}
    assert set(printed.split()) == {str(out / name) for name in names}
    assert "−30.00" in (out / "bd_rate.md").read_text()  # 1.4 is 70 % of 2.0
    assert "WebP" in (out / "rd_psnr.svg").read_text() and "published" not in (out / "rd_psnr.svg").read_text()


def test_the_command_draws_published_points_alone(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--published", "mlic+", "mbt2018", "-o", out, "--metric", "psnr", "--format", "svg", "--width", "page"]
    status, _, said = run(capsys, *arguments)
    assert status == 0, said
    assert {path.name for path in out.iterdir()} == {
        "rd_psnr.svg",
        "saving_psnr.svg",
        "bd_rate.tex",
        "bd_rate.md",
        "bd_rate_complexity.svg",
    }
    picture = (out / "rd_psnr.svg").read_text()
    assert "published" in picture and "VTM" in picture  # the anchor joins
    text = (out / "bd_rate.md").read_text()
    anchor, test = published_curves(["vtm", "mlic+"])
    expected = bdrate.bd_rate(anchor.points, test.points).value
    assert f"{expected:+.2f}".replace("-", "−") in text
    assert test.source.replace("_", "\\_") in text


def test_the_commands_mistakes_are_one_line(file, tmp_path, capsys):
    again = shutil.copy(file, tmp_path / "again.csv")
    for arguments, words in (
        (["-o", tmp_path / "o"], "nothing to draw"),
        ([tmp_path / "none.csv", "-o", tmp_path / "o"], "there is no file"),
        ([file, "-o", file], "no folder"),
        ([file, "--anchor", "vtm", "-o", tmp_path / "o"], "not in the results"),
        ([file, "--published", "-o", tmp_path / "o"], "over 2 images and kodak has 24"),
        ([file, "--published", "--dataset", "Kodak", "-o", tmp_path / "o"], "over 2 images and kodak has 24"),
        (["--published", "--dataset", "imagenet", "-o", tmp_path / "o"], "no published dataset"),
        ([file, again, "-o", tmp_path / "o"], "twice"),
        (["--published", "nobody", "-o", tmp_path / "o"], "nobody"),
    ):
        status, _, said = run(capsys, *arguments)
        assert status == 2 and words in said and said.count("\n") == 1, (arguments, said)
        assert not (tmp_path / "o").exists()


def test_a_learned_anchor_is_another_curve_in_each_metric(tmp_path, capsys):
    status, _, said = run(capsys, "--published", "elic", "stf", "--anchor", "stf", "-o", tmp_path / "o")
    assert status == 0, said
    assert {f"saving_{metric}.pdf" for metric in ("psnr", "ms_ssim")} <= {
        path.name for path in (tmp_path / "o").iterdir()
    }
    text = (tmp_path / "o" / "bd_rate.md").read_text()
    assert "BD-rate over STF (in PSNR) and STF, for MS-SSIM (in MS-SSIM)" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| ELIC"))
    for metric in ("psnr", "ms_ssim"):
        over, test = (curve.points for curve in published_curves(["stf", "elic"], "kodak", metric))
        assert f"{bdrate.bd_rate(over, test).value:+.2f}".replace("-", "−") in row


def test_a_metric_without_the_anchor_is_drawn_and_not_compared(tmp_path, capsys):
    out = tmp_path / "o"
    status, _, said = run(capsys, "--published", "elic", "minnen2020", "--anchor", "charm", "-o", out)
    assert status == 0 and "ChARM has no points with MS-SSIM" in said
    names = {path.name for path in out.iterdir()}
    assert "rd_ms_ssim.pdf" in names and "saving_psnr.pdf" in names and "saving_ms_ssim.pdf" not in names
    assert "MS-SSIM" not in (out / "bd_rate.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("stf hm --anchor mlic+ --metric ms-ssim", "anchor mlic+ has no published MS-SSIM on kodak"),
        ("mlic --anchor mlic+ --metric ms-ssim", "no points have MS-SSIM"),
        ("mlic --anchor nobody", "'nobody' is no published codec of kodak"),
    ],
)
def test_an_anchor_without_points_is_told_before_anything_is_written(arguments, words, tmp_path, capsys):
    status, printed, said = run(capsys, "--published", *arguments.split(), "-o", tmp_path / "o")
    assert status == 2 and words in said and said.count("\n") == 1, said
    assert not printed and not (tmp_path / "o").exists()


@pytest.mark.parametrize("anchor", ["minnen2020", "ChARM"])
def test_an_anchor_is_drawn_once_whatever_it_is_called(anchor, tmp_path, capsys):
    arguments = ["minnen2020", "jpeg", "JPEG", "--anchor", anchor, "--metric", "psnr", "--format", "svg"]
    status, _, said = run(capsys, "--published", *arguments, "-o", tmp_path / "o")
    assert status == 0, said
    assert "BD-rate over ChARM" in (tmp_path / "o" / "bd_rate.md").read_text()


def test_without_vtm_on_a_dataset_curves_are_drawn_and_nothing_is_compared(tmp_path, capsys):
    status, out, err = run(capsys, "--published", "--dataset", "tecnick", "--metric", "psnr", "-o", tmp_path)
    assert status == 0 and [path.name for path in tmp_path.iterdir()] == ["rd_psnr.pdf"]
    assert "no VTM among the published points" in err


def test_what_was_measured_is_the_anchor_rather_than_what_was_published(tmp_path, capsys):
    from lic_lab.codecs.registry import parameters

    file = tmp_path / "kodak.csv"
    results(24, [("mlic+", 0.5, "q={}")]).to_csv(file, index=False)
    arguments = ["--published", "mlic+", "vtm", "--anchor", "MLIC+", "--metric", "psnr", "-o", tmp_path / "o"]
    status, _, said = run(capsys, file, *arguments)
    assert status == 0, said
    text = (tmp_path / "o" / "bd_rate.md").read_text()
    assert "BD-rate over mlic+ on Kodak" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| MLIC+, published †"))
    assert f"{parameters('mlic+', 'paper') / 1e6:.2f}" in row  # it costs what it costs under its own name


def test_images_too_small_for_a_metric_leave_the_other(tmp_path, capsys):
    file, out = tmp_path / "small.csv", tmp_path / "o"
    results().assign(ms_ssim=np.nan).to_csv(file, index=False)
    status, _, said = run(capsys, file, "--metric", "ms-ssim", "-o", out)
    assert status == 2 and "no points have MS-SSIM" in said and not out.exists()
    status, _, said = run(capsys, file, "-o", out)
    assert status == 0 and "no MS-SSIM in these results" in said
    assert {path.name for path in out.iterdir()} == {"rd_psnr.pdf", "saving_psnr.pdf", "bd_rate.tex", "bd_rate.md"}


def test_a_table_without_results_is_told(tmp_path, capsys):
    file = tmp_path / "empty.csv"
    results()[:0].to_csv(file, index=False)
    status, _, said = run(capsys, file, "-o", tmp_path / "o")
    assert status == 2 and "empty.csv has no results" in said and not (tmp_path / "o").exists()


def test_codecs_over_different_images_are_refused(tmp_path, capsys):
    file, rows = tmp_path / "results.csv", results()
    rows.loc[rows["codec"] == "webp", "image_hash"] += "!"  # as many, but others
    rows.to_csv(file, index=False)
    status, _, said = run(capsys, file, "-o", tmp_path / "o")
    assert status == 2 and "over different images" in said and not (tmp_path / "o").exists()


def test_a_table_behind_names_of_codecs_is_told(file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(capsys, "-o", tmp_path / "o", "--published", "vtm", file)
    assert f"{file} is a table of results, not a codec; put RESULTS first" in capsys.readouterr().err

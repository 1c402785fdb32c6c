"""BD-rate and BD-PSNR beside Bjontegaard's definition, their laws and refusals, and ``lic-lab bdrate``."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.polynomial import Polynomial
from scipy.integrate import quad, trapezoid
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from lic_lab import cli
from lic_lab.analysis import rate_saving
from lic_lab.cli import console
from lic_lab.evaluation.bdrate import METHODS, Delta, bd_psnr, bd_rate
from lic_lab.evaluation.results import COLUMNS, FORMATS, Store, working

ANCHOR = ([0.12, 0.25, 0.5, 0.9, 1.4], [28.4, 31.0, 34.1, 37.2, 39.5])
TEST = ([0.1, 0.18, 0.29, 0.42, 0.6, 0.81], [28.9, 30.6, 32.5, 34.0, 35.9, 37.3])


@st.composite
def curves(draw, low: int = 4) -> tuple[list[float], list[float]]:
    """Rising curves of `low` to 8 points, around 30 dB."""
    count = draw(st.integers(low, 8))
    steps = st.lists(st.floats(0.2, 1), min_size=count, max_size=count)
    rate = 0.1 * np.exp(np.cumsum(draw(steps)))
    quality = 25 + 3 * np.cumsum(draw(steps))
    return rate.tolist(), quality.tolist()


def carried(compare, anchor: tuple, test: tuple, method: str) -> Delta:
    """Of curves that the method can carry."""
    try:
        return compare(anchor, test, method)
    except ValueError as error:
        assume("does not rise between" not in str(error))
        raise


def share(a: tuple, b: tuple, of: int) -> bool:
    return min(a[of][-1], b[of][-1]) - max(a[of][0], b[of][0]) > 0.1


# -- the definition ----------------------------------------------------------------------------------


def definition(anchor: tuple, test: tuple, method: str, of: int) -> float:
    """VCEG-M33: the mean difference over the common range, of log rate over quality (of=1), or the other way (of=0)."""
    sides = []
    for rate, quality in (anchor, test):
        log_rate = np.log(rate)
        x, y = (np.asarray(quality), log_rate) if of else (log_rate, np.asarray(quality))
        interpolators = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}
        f = interpolators[method](x, y) if method in interpolators else Polynomial.fit(x, y, 3)
        sides.append((x, f))
    (x_a, f_a), (x_t, f_t) = sides
    low, high = max(x_a[0], x_t[0]), min(x_a[-1], x_t[-1])
    knots = [k for k in (*x_a, *x_t) if low < k < high]
    total, _ = quad(lambda q: f_t(q) - f_a(q), low, high, points=knots, limit=200)
    mean = float(total / (high - low))
    return 100 * np.expm1(mean) if of else mean


@pytest.mark.parametrize("method", METHODS)
def test_both_are_their_definition(method: str) -> None:
    assert bd_rate(ANCHOR, TEST, method).value == pytest.approx(definition(ANCHOR, TEST, method, of=1), abs=1e-6)
    assert bd_psnr(ANCHOR, TEST, method).value == pytest.approx(definition(ANCHOR, TEST, method, of=0), abs=1e-6)


@given(curves(), curves())
def test_bd_rate_is_the_mean_of_the_rate_saving(anchor: tuple, test: tuple) -> None:
    """In logarithms: exp(mean(log R_test - log R_anchor)) - 1, over the qualities that both cover."""
    assume(share(anchor, test, of=1))
    quality, saving = rate_saving(anchor, test, points=20001)
    log_ratio = np.log1p(-saving / 100)
    mean = trapezoid(log_ratio, quality) / np.ptp(quality)
    delta = bd_rate(anchor, test)
    assert (delta.low, delta.high) == (quality[0], quality[-1])
    assert delta.value == pytest.approx(100 * np.expm1(mean), abs=0.02)


# -- laws --------------------------------------------------------------------------------------------


@given(curves(), st.floats(0.2, 5), st.sampled_from(METHODS))
def test_a_codec_that_takes_c_times_the_rate(anchor: tuple, c: float, method: str) -> None:
    test = [c * rate for rate in anchor[0]], anchor[1]
    delta = carried(bd_rate, anchor, test, method)
    assert delta.value == pytest.approx(100 * (c - 1), abs=1e-6)
    assert delta.overlap == 1


@given(curves(), st.floats(-3, 3), st.sampled_from(METHODS))
def test_a_codec_that_is_d_decibels_better(anchor: tuple, d: float, method: str) -> None:
    test = anchor[0], [quality + d for quality in anchor[1]]
    assert carried(bd_psnr, anchor, test, method).value == pytest.approx(d, abs=1e-6)


@given(curves(), curves(), st.sampled_from(METHODS))
def test_anchor_and_test_swapped(anchor: tuple, test: tuple, method: str) -> None:
    assume(share(anchor, test, of=1))
    there, back = carried(bd_rate, anchor, test, method), bd_rate(test, anchor, method)
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1, rel=1e-6)
    assert (there.low, there.high, there.overlap, there.points) == (
        back.low,
        back.high,
        back.overlap,
        back.points[::-1],
    )
    assume(share(anchor, test, of=0))
    gain = carried(bd_psnr, anchor, test, method).value
    assert gain == pytest.approx(-bd_psnr(test, anchor, method).value, abs=1e-6)


@given(curves(), st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(test: tuple, random) -> None:
    assume(share(ANCHOR, test, of=1))
    points = list(zip(*test, strict=True))
    random.shuffle(points)
    shuffled = tuple(map(list, zip(*points, strict=True)))
    assert bd_rate(ANCHOR, shuffled) == bd_rate(ANCHOR, test)


def test_what_was_compared_is_told() -> None:
    rate, gain = bd_rate(ANCHOR, TEST), bd_psnr(ANCHOR, TEST)
    assert isinstance(rate, Delta)
    assert (rate.method, rate.low, rate.high, rate.points) == ("pchip", 28.9, 37.3, (5, 6))
    assert rate.overlap == pytest.approx((37.3 - 28.9) / (39.5 - 28.4))
    assert (gain.low, gain.high) == (0.12, 0.81)
    assert gain.overlap == pytest.approx(np.log(0.81 / 0.12) / np.log(1.4 / 0.1))


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "method", "match"),
    [
        (([0.5, 1, 2, 4], [40, 42, 44, 46]), "pchip", r"28.4 to 39.5 dB and the test 40 to 46 dB.*extrapolated"),
        (([1.5, 2, 3, 4], [39.5, 42, 44, 46]), "pchip", "share no range"),  # they touch in a point
        (([0.1], [30]), "pchip", "1 point, and pchip needs at least 2"),
        (([0.1, 0.2], [30, 32]), "akima", "2 points, and akima needs at least 3"),
        (([0.1, 0.2, 0.3], [30, 32, 34]), "cubic", "3 points, and cubic needs at least 4"),
        (([0.1, 0.2, 0.3], [30, 33, 32]), "pchip", "the test does not rise"),
        (([0.1, 0.1, 0.3], [30, 31, 32]), "pchip", "the test does not rise"),
        (([0.1, 0.2], [30, float("nan")]), "pchip", "no numbers"),
        (([0, 0.2], [30, 32]), "pchip", "rates > 0"),
        (([0.1, 0.2, 0.3], [30, 33]), "pchip", "as many of both"),
        (TEST, "linear", "pchip, akima, cubic"),
    ],
)
def test_what_can_not_be_compared_is_refused(test: tuple, method: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bd_rate(ANCHOR, test, method)


SATURATING = (
    ([2014, 3014, 4012, 5012], [96.6, 99.51, 99.92, 99.98]),
    ([2054, 3067, 4000, 5096], [97.1, 99.67, 99.95, 99.981]),
)
UNEVEN = ([0.1, 0.2, 0.4, 0.8], [30, 33, 36, 39]), ([0.1, 0.100001, 0.4, 0.8], [30, 33, 33.0001, 39])
# Two points a hair's breadth apart in the middle of a curve.
CLOSE = ([0.1, 0.2, 0.4, 0.8], [30, 33, 36, 39]), ([0.1, 0.3, 0.3001, 0.8], [30, 34, 36, 39])


@pytest.mark.parametrize("pair", [SATURATING, UNEVEN, CLOSE])
@pytest.mark.parametrize("compare", [bd_rate, bd_psnr])
def test_a_method_that_invents_what_points_do_not_do_is_refused_and_the_one_that_would_is_named(pair, compare) -> None:
    """Its curve falls somewhere: then so does the definition's, looked at more closely."""
    assert np.isfinite(compare(*pair).value) and abs(compare(*pair).value) < 100
    refused = 0
    for method in ("akima", "cubic"):
        falls = False
        for rate, quality in pair:
            x, y = (quality, np.log(rate)) if compare is bd_rate else (np.log(rate), quality)
            f = Akima1DInterpolator(x, y) if method == "akima" else Polynomial.fit(x, y, 3)
            side = 1 if compare is bd_rate else 0
            low, high = max(c[side][0] for c in pair), min(c[side][-1] for c in pair)
            low, high = (low, high) if side else (np.log(low), np.log(high))
            falls |= bool((np.diff(f(np.linspace(low, high, 30_011))) < -1e-12).any())
        if falls:
            with pytest.raises(ValueError, match=f"^{method} does not rise between .*; pchip rises"):
                compare(*pair, method)
            refused += 1
        else:
            assert np.isfinite(compare(*pair, method).value)
    assert refused or compare is bd_psnr


def test_rates_apart_have_no_bd_psnr() -> None:
    with pytest.raises(ValueError, match=r"0.12 to 1.4 bpp and the test 0.01 to 0.04 bpp"):
        bd_psnr(ANCHOR, ([0.01, 0.02, 0.04], [30, 33, 36]))


# -- the command -------------------------------------------------------------------------------------


def sweep(path: Path, points: dict[str, tuple], images: dict[str, int]) -> str:
    """A results table in which every image of a codec has the same numbers."""
    with Store(working(path)) as store:
        for codec, (bpp, psnr) in points.items():
            for q, (rate, quality) in enumerate(zip(bpp, psnr, strict=True)):
                row = dict.fromkeys(COLUMNS) | {"codec": codec, "configuration": f"q={q}", "digest": "d"}
                row |= {"bpp": rate, "psnr": quality, "mse": 255**2 / 10 ** (quality / 10)}
                store.add(row | {"image": f"{n}.png", "image_hash": f"{n}"} for n in range(images[codec]))
        if path != store.path:
            store.export(path)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    points = {"jpeg": ANCHOR, "mlic+": TEST, "high": ([3, 4], [45, 47]), "bumpy": ([0.1, 0.2, 0.3], [30, 29, 35])}
    return sweep(tmp_path / "results.csv", points, {"jpeg": 2, "mlic+": 2, "high": 2, "bumpy": 2})


def test_the_command_compares_the_results_of_a_sweep(table: str, capsys) -> None:
    assert cli.main(["bdrate", table, "--anchor", "JPEG", "--test", "mlic+", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bd_rate_percent"] == pytest.approx(bd_rate(ANCHOR, TEST).value)
    assert found["bd_psnr_db"] == pytest.approx(bd_psnr(ANCHOR, TEST).value)
    assert found["method"] == "pchip"
    assert found["overlap"] == pytest.approx([28.9, 37.3])
    assert (found["points"], found["images"], found["sources"]) == ([5, 6], [2, 2], [table, table])


def test_the_command_compares_all_and_says_what_it_left_out(table: str, capsys) -> None:
    assert cli.main(["bdrate", table, "--anchor", "jpeg", "--test", "all"]) == 0
    out, err = capsys.readouterr()
    assert "mlic+" in out and "high" not in out
    assert "high is left out: the anchor covers 28.4 to 39.5 dB and the test 45 to 47 dB" in err
    assert "bumpy is left out: the test does not rise" in err
    assert "images" not in err  # those compared are means over the same number


def test_the_command_compares_results_with_a_published_anchor(table: str, capsys) -> None:
    args = ["bdrate", table, "--anchor-published", "vtm", "--test", "mlic+", "jpeg", "--json"]
    assert cli.main(args) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [row["test"] for row in rows] == ["mlic+", "jpeg"]  # by rising BD-rate
    assert all(row["anchor"] == "vtm" and "vtm.json" in row["sources"][0] for row in rows)
    assert "means over 24 images and a test's over 2" in err


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--anchor", "jpeg", "--test", "high"], "28.4 to 39.5 dB and the test 45 to 47 dB"),
        (["--anchor", "jpeg", "--test", "webp"], "'webp' is no codec in .*; there are bumpy, high, jpeg, mlic"),
        (["--anchor", "jpeg", "--test", "mlic+", "--metric", "ms-ssim"], "no MS-SSIM"),
        (["--anchor", "jpeg", "--test", "mlic+", "--published"], "both were given"),
        (["--anchor", "high", "--test", "mlic+", "jpeg"], "nothing can be compared with high"),
    ],
)
def test_the_command_says_what_is_wrong(table: str, args: list[str], match: str, capsys) -> None:
    assert cli.main(["bdrate", table, *args]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert re.search(match, err)


def test_swapped_components_are_a_curve_of_their_own(tmp_path: Path, capsys) -> None:
    path = tmp_path / "results.sqlite"
    sweep(path, {"mlic+": ANCHOR}, {"mlic+": 1})
    row = dict.fromkeys(COLUMNS) | {"codec": "mlic+", "digest": "d", "image": "0.png", "image_hash": "0"}
    with Store(path) as store:
        for q, (rate, quality) in enumerate(zip(*ANCHOR, strict=True)):
            row |= {"configuration": f"q={q},local=stacked", "bpp": 1.1 * rate, "psnr": quality, "mse": 1.0}
            store.add([row])
    args = ["bdrate", str(path), "--anchor", "mlic+", "--json", "--test"]
    assert cli.main([*args, "mlic+:local=stacked"]) == 0
    assert json.loads(capsys.readouterr().out)["bd_rate_percent"] == pytest.approx(10)
    with Store(path) as store:
        store.add([row | {"digest": "other"}])
    assert cli.main([*args, "mlic+:local=stacked"]) == 2
    assert "several weights or versions" in capsys.readouterr().err


def test_codecs_measured_on_different_images_by_themselves_are_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "results.csv"
    sweep(path, {"jpeg": ANCHOR}, {"jpeg": 2})
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))  # the last image of the last setting is missing
    assert cli.main(["bdrate", str(path), "--anchor-published", "vtm", "--test", "jpeg"]) == 2
    assert "over 1, 2 images" in capsys.readouterr().err


def test_codecs_of_one_table_over_different_images_are_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "results.sqlite"
    sweep(path, {"jpeg": ANCHOR, "mlic+": TEST, "fewer": TEST}, {"jpeg": 2, "mlic+": 2, "fewer": 1})
    args = ["bdrate", str(path), "--anchor", "jpeg", "--test"]
    assert cli.main([*args, "fewer"]) == 2
    assert "jpeg and fewer were not measured over the same images (2 and 1 of them)" in capsys.readouterr().err
    assert cli.main([*args, "mlic+"]) == 0
    with sqlite3.connect(path) as db:
        db.execute("UPDATE results SET image_hash = 'another' WHERE codec = 'mlic+' AND image_hash = '1'")
    capsys.readouterr()
    assert cli.main([*args, "mlic+"]) == 2
    assert "jpeg and mlic+ were not measured over the same images (2 and 2 of them)" in capsys.readouterr().err
    with sqlite3.connect(path) as db:
        db.execute("UPDATE results SET image_hash = '1' WHERE image_hash = 'another' AND configuration = 'q=0'")
    assert cli.main([*args, "mlic+"]) == 2
    assert "over different images, 2 each" in capsys.readouterr().err


def test_what_is_left_out_of_all_has_its_own_reason(table: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "results.csv.sqlite"
    with sqlite3.connect(path) as db:
        columns = ", ".join(name if name != "digest" else "'retrained'" for name in COLUMNS)
        db.execute(f"INSERT INTO results SELECT {columns} FROM results WHERE codec = 'high'")
        db.execute("UPDATE results SET psnr = 1e999 WHERE codec = 'bumpy'")
    assert cli.main(["bdrate", str(path), "--anchor", "jpeg", "--test", "all"]) == 0
    err = capsys.readouterr().err
    assert re.search("high is left out: high is in .* with several weights or versions", err)
    assert "left out, without such points in PSNR: bumpy\n" in err


def test_a_table_draws_without_weights(tmp_path: Path, monkeypatch, capsys) -> None:
    """It was measured elsewhere, perhaps of a codec that nobody here has."""
    path = tmp_path / "results.csv"
    sweep(path, dict.fromkeys(("mlic+", "ours_v2"), TEST) | {"jpeg": ANCHOR}, {"mlic+": 1, "ours_v2": 1, "jpeg": 1})
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(tmp_path / "none"))
    out = tmp_path / "out"
    assert cli.main(["figures", "rd", str(path), "--metric", "psnr", "-o", str(out), "--format", "svg"]) == 0
    names = {"rd_psnr.svg", "saving_psnr.svg", "bd_rate.tex", "bd_rate.md", "bd_rate_complexity.svg"}
    assert {found.name for found in out.iterdir()} == names
    assert "is read" not in capsys.readouterr().err  # nothing has changed since the table was written
    table = (out / "bd_rate.md").read_text()
    assert r"ours\_v2" in table
    (row,) = (line for line in table.splitlines() if line.startswith("| mlic+"))
    assert "7.98" in row  # what it costs is counted all the same


def test_a_figure_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    from lic_lab.figures import style

    for name, there in (("a.pdf", "a.pdf"), ("b", "b.png"), (tmp_path / "c.svg", "c.svg")):
        style.new(2, 2).savefig(tmp_path / name)
        assert (tmp_path / there).stat().st_size
    style.new(2, 2).savefig(tmp_path / "of.no.kind", format="svg")
    before = (tmp_path / "a.pdf").read_bytes()
    monkeypatch.setattr(style.Figure, "savefig", lambda self, path, **options: path.write_bytes(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        style.new(2, 2).savefig(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "b.png", "c.svg", "of.no.kind"]


def test_a_table_behind_the_tests_is_told(table: str, capsys) -> None:
    assert console.TABLES == FORMATS
    with pytest.raises(SystemExit):
        cli.main(["bdrate", "--anchor", "jpeg", "--test", "mlic+", table])
    assert f"{table} is a table of results, not a codec; put RESULTS first" in capsys.readouterr().err

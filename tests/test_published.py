"""The published figures: every row has a source, and BD-rates over the points agree with the papers' own tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lic_lab import cli
from lic_lab.evaluation import published
from lic_lab.evaluation.bdrate import METHODS, bd_rate

# The anchor of MLIC's Table 3 is VTM-17.0, and the published points are of another VTM: see docs/published.md.
ONE_ANCHOR = ["Minnen'20", "Xie'21", "WACNN", "STF", "MLIC", "MLIC+"]


def saving(dataset: str, anchor: str, test: str) -> float:
    curves = [published.curve(dataset, codec) for codec in (anchor, test)]
    return bd_rate(*((found["bpp"], found["quality_db"]) for found in curves)).value


def stated(codec: str, dataset: str = "kodak", anchor: str = "VTM-17.0") -> float:
    found = published.bd_rates("MLIC", anchor=anchor, codec=codec, dataset=dataset, metric="psnr")
    return float(found[found["table"] != "Table 5"]["bd_rate_percent"].item())


# -- the tables --------------------------------------------------------------------------------------


def test_every_point_has_a_source_and_is_sane() -> None:
    found = published.points()
    assert list(found) == ["dataset", "codec", "optimized_for", "bpp", "psnr_db", "ms_ssim", "source"]
    texts = found[["dataset", "codec", "optimized_for", "source"]]
    assert texts.map(lambda text: text == text.strip() and bool(text)).all(axis=None)
    assert found["source"].str.contains("/").all()  # where, not only who
    assert set(found["dataset"]) == set(published.IMAGES)
    assert set(found["optimized_for"]) == {"mse", "ms-ssim", "none"}
    assert found["bpp"].between(0, 10, inclusive="neither").all()
    assert found["psnr_db"].dropna().between(20, 55).all()
    assert found["ms_ssim"].dropna().between(0.5, 1, inclusive="neither").all()
    assert (found["psnr_db"].notna() | found["ms_ssim"].notna()).all()
    assert not found.duplicated(["dataset", "codec", "optimized_for", "bpp"]).any()


def test_every_curve_rises_and_comes_from_one_source() -> None:
    for _, rows in published.points().groupby(["dataset", "codec", "optimized_for"]):
        for quality in ("psnr_db", "ms_ssim"):
            one = rows.dropna(subset=quality)
            assert one["source"].nunique() <= 1
            assert (np.diff(one["bpp"]) > 0).all()
            assert (np.diff(one[quality]) > 0).all()


def test_codecs_optimised_for_mse_have_one_set_of_rates() -> None:
    """Where PSNR and MS-SSIM come from two files, they are of the same models: rates to 1 %."""
    for _, rows in published.points(optimized_for="mse").groupby(["dataset", "codec"]):
        psnr, similarity = (rows.dropna(subset=name)["bpp"].to_numpy() for name in ("psnr_db", "ms_ssim"))
        if similarity.size:
            np.testing.assert_allclose(psnr, similarity, rtol=0.011)


def test_every_stated_bd_rate_has_a_paper_and_table() -> None:
    found = published.bd_rates()
    texts = found[["paper", "table", "anchor", "codec", "dataset", "metric"]]
    assert texts.map(lambda text: text == text.strip() and bool(text)).all(axis=None)
    assert set(found["metric"]) == {"psnr", "ms-ssim"}
    assert found["bd_rate_percent"].between(-60, 30).all()
    assert not found.duplicated(["paper", "table", "anchor", "codec", "dataset", "metric"]).any()


def test_averages_stated_by_aict_are_those_of_its_rows() -> None:
    """A check of the copy: the paper gives four datasets and their mean, rounded."""
    found = published.bd_rates("AICT")
    means = found[found["dataset"] != "average"].groupby(["table", "metric", "codec"])["bd_rate_percent"].mean()
    averages = found[found["dataset"] == "average"].set_index(["table", "metric", "codec"])["bd_rate_percent"]
    assert (means - averages).abs().max() < 0.2


# -- agreement with the papers -----------------------------------------------------------------------


def test_mlic_plus_over_vtm_on_kodak() -> None:
    assert stated("MLIC+") == -11.39
    assert saving("kodak", "vtm", "mlic+") == pytest.approx(stated("MLIC+"), abs=2)


def test_table_3_differs_by_its_anchor() -> None:
    """Six codecs of four groups say that its VTM needs 1.85 % less rate on Kodak, and with it all agree."""
    found = published.agreement()
    rows = found[(found["table"] == "Table 3") & (found["dataset"] == "kodak") & (found["metric"] == "psnr")]
    rows = rows.set_index("codec").loc[ONE_ANCHOR]
    corrected = 100 * ((1 + rows["pchip"] / 100) / (1 - 0.0185) - 1)
    assert (corrected - rows["stated"]).abs().max() < 0.25


@pytest.mark.parametrize("dataset", ["kodak", "tecnick", "clic2020-professional-valid"])
def test_mlic_plus_over_mlic(dataset: str) -> None:
    """Where the anchor cancels."""
    implied = 100 * ((1 + stated("MLIC+", dataset) / 100) / (1 + stated("MLIC", dataset) / 100) - 1)
    assert saving(dataset, "mlic", "mlic+") == pytest.approx(implied, abs=0.2)


def test_mlic_plus_over_elic_and_bpg_over_vtm() -> None:
    assert saving("kodak", "elic", "mlic+") == pytest.approx(stated("MLIC+", anchor="ELIC"), abs=0.4)
    bpg = published.bd_rates("AICT", anchor="VTM-18.0", codec="bpg", dataset="kodak")["bd_rate_percent"].item()
    assert saving("kodak", "vtm", "bpg") == pytest.approx(bpg, abs=0.4)


def test_the_interpolations_agree_in_psnr() -> None:
    found = published.agreement()
    found = found[found["metric"] == "psnr"][list(METHODS)]
    assert (found.max(axis=1) - found.min(axis=1)).max() < 0.5


# -- names -------------------------------------------------------------------------------------------


def test_names_are_matched_sensibly() -> None:
    for given in ("mlic+", "MLIC+", " mlic + "):
        assert set(published.points("Kodak", given)["codec"]) == {"mlic+"}
    assert set(published.points("kodak", "mlic")["codec"]) == {"mlic"}  # and not what begins so
    assert set(published.points("kodak", "VTM")["codec"]) == {"vtm"}
    assert set(published.points("kodak", "JPEG-2000")["codec"]) == {"jpeg2000"}
    assert set(published.points("kodak", "elic")["codec"]) == {"elic2022 (paper)"}
    everything = published.points()
    parts = [published.points(dataset) for dataset in sorted(set(everything["dataset"]))]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), everything)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"dataset": "imagenet"}, "no published dataset; there are clic-valid-30, .*kodak, tecnick"),
        ({"dataset": "clic2020-professional"}, "may be clic2020-professional-test, clic2020-professional-valid"),
        ({"dataset": "kodak", "codec": "cheng2020"}, "may be cheng2020-anchor, cheng2020-attn"),
        ({"dataset": "tecnick", "codec": "vtm"}, "no published codec of tecnick; there are mlic, mlic+"),
        ({"codec": "vtm", "optimized_for": "mse"}, "no published optimized for of vtm; there are none"),
        ({"codec": ""}, "no published codec"),
    ],
)
def test_unknown_names_are_refused(wanted: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match.replace("+", r"\+")):
        published.points(**wanted)


def test_a_curve_has_what_its_metric_asks_for() -> None:
    assert set(published.curve("kodak", "stf")["optimized_for"]) == {"mse"}
    assert set(published.curve("kodak", "stf", "ms-ssim")["optimized_for"]) == {"ms-ssim"}
    assert set(published.curve("kodak", "vtm", "ms-ssim")["optimized_for"]) == {"none"}
    found = published.curve("kodak", "elic", "ms-ssim", "mse")
    np.testing.assert_allclose(1 - 10 ** (-found["quality_db"] / 10), found["ms_ssim"])
    classical = published.curve("kodak", "vtm", optimized_for="mse")
    pd.testing.assert_frame_equal(classical, published.curve("kodak", "vtm"))
    with pytest.raises(
        published.NoPoints, match="no ms-ssim of mlic optimised for ms-ssim on kodak; nor for anything else"
    ):
        published.curve("kodak", "mlic", "ms-ssim")
    with pytest.raises(published.NoPoints, match="optimised for ms-ssim on kodak; give optimized_for mse"):
        published.curve("kodak", "elic", "ms-ssim")
    with pytest.raises(ValueError, match="psnr, ms-ssim"):
        published.curve("kodak", "mlic", "vmaf")


def test_a_folder_without_tables_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LIC_LAB_PUBLISHED", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="rd_points.csv.*LIC_LAB_PUBLISHED"):
        published.points()


# -- the command -------------------------------------------------------------------------------------


def test_the_command_gives_the_bd_rate(capsys) -> None:
    args = "bdrate --published --anchor vtm --test mlic+ --dataset kodak --json".split()
    assert cli.main(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bd_rate_percent"] == pytest.approx(saving("kodak", "vtm", "mlic+"))
    assert 0 < found["bd_psnr_db"] < 1
    assert found["method"] == "pchip"
    assert found["overlap"] == [29.1983, 37.3736]  # the lowest and the highest point of MLIC+
    assert [source.rsplit("/")[-1] for source in found["sources"]] == ["vtm.json", "mlicplus_mse.json"]


def test_what_learned_codecs_are_optimised_for_leaves_a_classical_anchor(capsys) -> None:
    found = []
    for args in ([], ["--optimized-for", "mse"]):
        assert cli.main(["bdrate", "--published", "--anchor", "vtm", "--test", "mlic+", "--json", *args]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


def test_the_command_prints_a_table_of_all(capsys) -> None:
    assert cli.main("bdrate --published --anchor VTM --test all --metric ms-ssim --method akima".split()) == 0
    out, err = capsys.readouterr()
    head, columns, *rows = out.splitlines()
    assert "MS-SSIM of published points on kodak; anchor vtm, published" in head and "akima" in head
    assert columns.split()[0] == "test"
    values = [float(row.split(" %")[0].split()[-1]) for row in rows]
    assert values == sorted(values) and len(values) > 10
    assert "left out, without such points in MS-SSIM: " in err and "mlic+" in err


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ("--anchor vtm --test mlic+ --dataset tecnick", "'vtm' is no published codec of tecnick"),
        ("--anchor vtm --test mlic+ --metric ms-ssim", "no ms-ssim of mlic"),
        ("--anchor-published vtm --test mlic+", "give RESULTS, or --published --anchor"),
    ],
)
def test_the_command_says_what_is_wrong(args: str, match: str, capsys) -> None:
    assert cli.main(["bdrate", "--published", *args.split()]) == 2
    assert match in capsys.readouterr().err

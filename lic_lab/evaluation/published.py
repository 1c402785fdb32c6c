"""Figures that others published: rate-distortion points, and the BD-rates that papers state.

They are tables in `data/published`, each row with its source. Nothing here was measured by us, and what is drawn from
it is to be labelled as published. docs/published.md sets the two beside each other.

A `dataset` is one set of images. "clic2020-professional-test" (250 images, which CompressAI measures) and
"clic2020-professional-valid" (41 images, which the papers measure) share a name in the literature, and curves over one
can't be compared with curves over the other: at the same rate the test set's PSNR is more than a decibel higher.
"clic-valid-30" are the 30 images of CWAM's paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lic_lab import shipped
from lic_lab.evaluation.bdrate import METHODS, bd_rate
from lic_lab.evaluation.quality import ms_ssim_db

METRICS = {"psnr": "mse", "ms-ssim": "ms-ssim"}  # and what a learned codec shown in it is commonly optimised for
IMAGES = {  # in a dataset
    "clic-valid-30": 30,
    "clic2020-mobile-test": 178,
    "clic2020-professional-test": 250,
    "clic2020-professional-valid": 41,
    "kodak": 24,
    "tecnick": 100,
}
FILES = {"rd_points.csv": ["bpp", "psnr_db", "ms_ssim"], "bd_rates.csv": ["bd_rate_percent"]}  # and columns of numbers
SAME = {  # what papers' tables call the curves that there are points of
    "VTM-17.0": "vtm",
    "VTM-18.0": "vtm",
    "BPG444": "bpg_444_x265_ycbcr",
    "Cheng'20": "cheng2020-attn",
    "ELIC": "elic2022 (paper)",
    "Minnen'20": "minnen2020-cc10 (paper)",
    "MLIC": "mlic",
    "MLIC+": "mlic+",
    "STF": "stf",
    "WACNN": "wacnn",
    "Xie'21": "xie2021-invcompress",
}


class NoPoints(ValueError):
    """A codec is known, but has no points with the metric that is asked for."""


def folder() -> Path:
    """Where the tables are: ``LIC_LAB_PUBLISHED``, or those that come with the package."""
    return shipped.folder("published", "LIC_LAB_PUBLISHED")


def points(dataset: str | None = None, codec: str | None = None, optimized_for: str | None = None) -> pd.DataFrame:
    """Published rate-distortion points, means over the images of a dataset.

    Parameters
    ----------
    dataset, codec : str, optional
        Names, in any case, with or without hyphens, as far as they are unmistakable: "VTM", "elic". By default all.
    optimized_for : {"mse", "ms-ssim", "none"}, optional
        What a learned codec was trained for; "none" are the classical codecs.

    Returns
    -------
    DataFrame
        By dataset, codec and rising rate: ``dataset``, ``codec``, ``optimized_for``, ``bpp``, ``psnr_db`` (RGB),
        ``ms_ssim`` (both NaN where not published) and ``source``.

    Raises
    ------
    ValueError
        For a name that is unknown or means several, or when there is no such point; the message lists what there is.
    FileNotFoundError
        Without the table.
    """
    found = _table("rd_points.csv").sort_values(["dataset", "codec", "optimized_for", "bpp"])
    return _select(found, dataset=dataset, codec=codec, optimized_for=optimized_for)


def bd_rates(
    paper: str | None = None,
    table: str | None = None,
    anchor: str | None = None,
    codec: str | None = None,
    dataset: str | None = None,
    metric: str | None = None,
) -> pd.DataFrame:
    """BD-rates that papers state, in percent.

    Parameters
    ----------
    paper, table, anchor, codec, dataset, metric : str, optional
        Names as for `points`; by default all.

    Returns
    -------
    DataFrame
        ``paper``, ``table``, ``anchor``, ``codec``, ``dataset``, ``metric`` ("psnr" or "ms-ssim"),
        ``method_if_stated`` (of interpolation; NaN where the paper does not say), ``bd_rate_percent`` and ``note``.

    Raises
    ------
    ValueError, FileNotFoundError
        As for `points`.
    """
    wanted = {"paper": paper, "table": table, "anchor": anchor, "codec": codec, "dataset": dataset, "metric": metric}
    return _select(_table("bd_rates.csv"), **wanted)


def curve(dataset: str, codec: str, metric: str = "psnr", optimized_for: str | None = None) -> pd.DataFrame:
    """One codec's points that have the metric.

    Parameters
    ----------
    dataset, codec : str
        As for `points`.
    metric : {"psnr", "ms-ssim"}
    optimized_for : {"mse", "ms-ssim", "none"}, optional
        Of a learned codec, by default what the metric asks for. A classical one is optimised for "none", whatever is
        given.

    Returns
    -------
    DataFrame
        As of `points`, and ``quality_db``: the PSNR, or MS-SSIM in dB.

    Raises
    ------
    ValueError
        As for `points`; `NoPoints` for a metric that the codec's points do not have.
    """
    if metric not in METRICS:
        raise ValueError(f"the metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    found = points(dataset, codec)
    wanted = "none" if set(found["optimized_for"]) == {"none"} else optimized_for or METRICS[metric]
    quality = found["psnr_db"] if metric == "psnr" else found["ms_ssim"].map(ms_ssim_db)
    found = found.assign(quality_db=quality).dropna(subset="quality_db")
    goals = " or ".join(sorted(set(found["optimized_for"])))
    found = found[found["optimized_for"] == wanted]
    if found.empty:
        hint = f"give optimized_for {goals}, which there is, or" if goals else "nor for anything else:"
        raise NoPoints(
            f"there is no {metric} of {codec} optimised for {wanted} on {dataset}; {hint} give another metric"
        )
    return found


def agreement() -> pd.DataFrame:
    """Our BD-rate over published points beside each BD-rate that a paper states for the same codecs and images.

    Returns
    -------
    DataFrame
        ``paper``, ``table``, ``anchor``, ``codec``, ``dataset``, ``metric``, ``stated`` (percent), one column of each
        method of interpolation (ours, percent), and ``anchor_shift``: how much less rate, in percent, the paper's
        anchor would need than ours (by "pchip") for the two to agree.
    """
    rows = []
    for row in bd_rates().itertuples():
        if row.anchor not in SAME or row.codec not in SAME:
            continue
        try:
            pair = [curve(row.dataset, SAME[name], row.metric) for name in (row.anchor, row.codec)]
        except ValueError:  # nobody published these points
            continue
        anchor, test = ((c["bpp"], c["quality_db"]) for c in pair)
        ours = {method: bd_rate(anchor, test, method).value for method in METHODS}
        shift = 100 * (1 - (1 + ours["pchip"] / 100) / (1 + row.bd_rate_percent / 100))
        named = {name: getattr(row, name) for name in ("paper", "table", "anchor", "codec", "dataset", "metric")}
        rows.append({**named, "stated": row.bd_rate_percent, **ours, "anchor_shift": shift})
    return pd.DataFrame(rows)


def _table(name: str) -> pd.DataFrame:
    path = folder() / name
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; restore it with git checkout, or set LIC_LAB_PUBLISHED")
    return pd.read_csv(path, dtype=dict.fromkeys(FILES[name], float), na_values=[""], keep_default_na=False)


def _select(rows: pd.DataFrame, /, **wanted: str | None) -> pd.DataFrame:
    """Rows with the wanted names, which are looked up one after the other in what is left."""
    what = "published {}"
    for column, given in wanted.items():
        if given is None:
            continue
        name = which(given, rows[column].unique(), what.format(column.replace("_", " ")))
        rows = rows[rows[column] == name]
        what += f" of {name}"
    return rows.reset_index(drop=True)


def which(given: str, known: Iterable[str], what: str) -> str:
    """The one of the `known` names that is meant: the same but for case and hyphens, or the only one that begins so.

    Examples
    --------
    >>> which("MLIC +", ["mlic", "mlic+"], "codec"), which("elic", ["mlic", "elic2022 (paper)"], "codec")
    ('mlic+', 'elic2022 (paper)')
    """
    names = {_plain(name): name for name in known}
    key = _plain(given)
    if key in names:
        return names[key]
    begin = [name for plain, name in names.items() if key and plain.startswith(key)]
    if len(begin) == 1:
        return begin[0]
    if begin:
        raise ValueError(f"{given!r} may be {', '.join(sorted(begin))}; give one of them")
    raise ValueError(f"{given!r} is no {what}; there are {', '.join(sorted(names.values())) or 'none'}")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())

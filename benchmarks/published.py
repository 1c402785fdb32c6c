"""Our BD-rates over published points beside those that papers state, as docs/published.md's tables. No image is coded.

python benchmarks/published.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from lic_lab.evaluation import published
from lic_lab.evaluation.bdrate import METHODS, bd_rate

PAPER = "MLIC"  # Table 3
VARIED = ("mlic", "mlic+", "stf", "elic")
Points = tuple[np.ndarray, np.ndarray]


def main() -> None:
    print("## Stated and ours\n")
    head = ("over", "codec", "images", "metric", "stated", *METHODS, "anchor's shift")
    table(head, (agreed(row) for _, row in published.agreement().iterrows()))
    print("\n## Between two codecs, without an anchor\n")
    table(("codec", "over", "images", "stated", "ours"), between())
    print("\n## What moves the number: BD-rate over VTM on Kodak\n")
    table(("", *VARIED), zip(*(column(name) for name in VARIED), strict=True), first=True)
    print("\n## In the text\n")
    for said, value in asides():
        print(f"- {said}: {value}")


def agreed(row: Any) -> Sequence[str]:
    """A row of `published.agreement`."""
    named = [row[name] for name in ("anchor", "codec", "dataset", "metric")]
    return [*named, *(f"{row[name]:+.2f}" for name in ("stated", *METHODS)), f"{row['anchor_shift']:.1f}"]


def asides() -> Iterator[tuple[str, str]]:
    """Numbers that the text mentions."""
    yield "CWAM over VTM on Kodak", f"{bd_rate(points('kodak', 'vtm'), points('kodak', 'cwam')).value:+.2f} %"
    test, valid = points("clic2020-professional-test", "vtm"), points("clic2020-professional-valid", "mlic+")
    yield "MLIC+ over VTM, on two sets of CLIC images", f"{bd_rate(test, valid).value:+.0f} %"
    curves = published.curve("kodak", "vtm", "ms-ssim"), published.curve("kodak", "elic", "ms-ssim", "mse")
    yield "ELIC over VTM by its MS-SSIM", f"{bd_rate(*((c['bpp'], c['quality_db']) for c in curves)).value:+.0f} %"
    one, other = points("kodak", "vtm"), points("kodak", "vtm-12.1")
    gap = other[1] - PchipInterpolator(np.log(one[0]), one[1])(np.log(other[0]))
    for end in (0, -1):
        yield f"the second VTM curve on Kodak at {other[0][end]:.2f} bpp", f"{gap[end]:+.2f} dB"


def between() -> Iterator[Sequence[str]]:
    """What the table's rows say of each other, (1 + a) / (1 + b) - 1, and the BD-rate of their points."""
    stated = published.bd_rates(PAPER, "Table 3", metric="psnr")
    for dataset, rows in stated[stated["codec"].isin(["Xie'21", "STF", "MLIC", "MLIC+"])].groupby("dataset"):
        for one, other in combinations(rows.itertuples(), 2):
            try:
                ours = bd_rate(*(points(str(dataset), published.SAME[r.codec]) for r in (one, other))).value
            except ValueError:
                continue
            implied = 100 * ((1 + other.bd_rate_percent / 100) / (1 + one.bd_rate_percent / 100) - 1)
            yield other.codec, one.codec, str(dataset), f"{implied:+.2f}", f"{ours:+.2f}"


def column(name: str) -> Iterator[tuple[str, str]]:
    """What each choice gives for one codec."""
    vtm, test = points("kodak", "vtm"), points("kodak", name)
    near = np.flatnonzero((vtm[1] > 28) & (vtm[1] < 38))
    for method in METHODS:
        yield f"all points, {method}", f"{bd_rate(vtm, test, method).value:+.2f}"
    for method in ("pchip", "cubic"):
        value = bd_rate(chosen(vtm, near), test, method).value
        yield f"VTM's four points of 28 to 38 dB, {method}", f"{value:+.2f}"
    for said, indices in (("lowest four", [0, 1, 2, 3]), ("highest four", [2, 3, 4, 5]), ("outer four", [0, 1, 4, 5])):
        yield f"the codec's {said} of six points, pchip", f"{bd_rate(vtm, chosen(test, indices)).value:+.2f}"
    yield "VTM-12.1 as another measured it, pchip", f"{bd_rate(points('kodak', 'vtm-12.1'), test).value:+.2f}"


def points(dataset: str, codec: str) -> Points:
    found = published.curve(dataset, codec)
    return found["bpp"].to_numpy(), found["quality_db"].to_numpy()


def chosen(curve: Points, indices: Any) -> Points:
    return curve[0][indices], curve[1][indices]


def table(head: Sequence[str], rows: Any, first: bool = False) -> None:
    """Markdown; with `first`, rows are (name, value) pairs under one name."""
    print("|", " | ".join(head), "|")
    print("|" + "---|" * len(head))
    for row in rows:
        print("|", " | ".join([row[0][0], *(value for _, value in row)] if first else row), "|")


if __name__ == "__main__":
    main()

"""``lic-lab bdrate``: what codecs save over another, from published points or from a sweep's results."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lic_lab.cli.console import add_json, at_work, codec_name, measured, note, print_json, print_table, say

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("pchip", "akima", "cubic")  # those of evaluation.bdrate, whose import takes a second
METRICS = {"psnr": "PSNR", "ms-ssim": "MS-SSIM"}  # evaluation.published's likewise, and how they are written
OPTIMISED = ("mse", "ms-ssim", "none")
ALL = "all"
DESCRIPTION = """\
Bjontegaard's mean differences: of the rate at equal quality in percent, negative where the test needs less, and of the
quality at equal rate in dB. Nothing is extrapolated.
"""
EXAMPLES = """\
examples:
  lic-lab bdrate --published --anchor vtm --test mlic+ --dataset kodak
  lic-lab bdrate --published --anchor vtm --test all --metric ms-ssim
  lic-lab bdrate results.csv --anchor jpeg --test mlic+ mlic+:local=stacked
  lic-lab bdrate results.csv --anchor-published vtm --test mlic+
"""


@dataclass(frozen=True)
class _Curve:
    """One codec's points: arrays (n,) of rates in bpp and qualities in dB, over which images, and whose figures."""

    codec: str
    bpp: Any
    quality: Any
    images: int
    image_set: str  # empty of published points
    source: str


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = commands.add_parser(
        "bdrate",
        help="compare codecs by BD-rate, from published points or a sweep's results",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="?", metavar="RESULTS", help="table that `lic-lab evaluate` wrote")
    parser.add_argument("--published", action="store_true", help="compare published points instead")
    anchor = parser.add_mutually_exclusive_group(required=True)
    anchor.add_argument("--anchor", metavar="CODEC", help="what the others are compared with: vtm, jpeg")
    anchor.add_argument("--anchor-published", metavar="CODEC", help="published points to compare RESULTS with")
    parser.add_argument(
        "--test",
        nargs="+",
        required=True,
        type=codec_name,
        metavar="CODEC",
        help=f"one or several, or {ALL!r} for all there are",
    )
    parser.add_argument(
        "--dataset", default="kodak", metavar="NAME", help="images of the published points, default %(default)s"
    )
    parser.add_argument("--metric", choices=METRICS, default="psnr", help="quality, default %(default)s")
    parser.add_argument("--method", choices=METHODS, default="pchip", help="interpolation, default %(default)s")
    parser.add_argument(
        "--optimized-for",
        choices=OPTIMISED,
        metavar="GOAL",
        help="published points of learned codecs trained for mse or ms-ssim; by default what the metric asks for",
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if args.published == bool(args.results):
        given = "both were" if args.results else "neither was"
        raise ValueError(
            f"give either a table of results or --published; {given} given (for a published anchor of your results: "
            "RESULTS --anchor-published vtm)"
        )
    if args.anchor_published and not args.results:
        raise ValueError("--anchor-published compares a table of results: give RESULTS, or --published --anchor")
    single = len(args.test) == 1 and args.test != [ALL]
    with at_work("loading"):
        anchor, tests, refused, without = _curves(args)
        rows = []
        for test in tests:
            try:
                rows.append(_compared(anchor, test, args))
            except ValueError as error:
                if single:
                    raise
                refused[test.codec] = str(error)
    for name, reason in refused.items():
        note(args, f"{name} is left out: {reason}")
    if without:
        note(args, f"left out, without such points in {METRICS[args.metric]}: {', '.join(without)}")
    if not rows:
        raise ValueError(f"nothing can be compared with {anchor.codec}; give other codecs or another metric")
    for count in sorted({row["images"][1] for row in rows} - {anchor.images}):
        note(
            args,
            f"the anchor's points are means over {anchor.images} images and a test's over {count}: not the same ones",
        )
    rows.sort(key=lambda row: row["bd_rate_percent"])
    if args.json:
        print_json(rows[0] if single else rows)
        return
    _print(anchor, rows, args)


def _curves(args: argparse.Namespace) -> tuple[_Curve, list[_Curve], dict[str, str], list[str]]:
    """The anchor, the tests, which of all codecs have no single curve and why, and which have none in this metric."""
    from lic_lab.evaluation import published

    table = _results(args) if args.results else published.points(args.dataset)
    there = list(dict.fromkeys(table["codec"]))

    def find(name: str) -> _Curve:
        if not args.results:
            return _published(args.dataset, name, args)
        return _measured(table, published.which(name, there, f"codec in {args.results}"), args)

    anchor = _published(args.dataset, args.anchor_published, args) if args.anchor_published else find(args.anchor)
    if args.test != [ALL]:
        return anchor, [find(name) for name in dict.fromkeys(args.test)], {}, []
    tests, refused, without = [], {}, []
    for name in there:
        if name == anchor.codec and not args.anchor_published:
            continue
        try:
            tests.append(find(name))
        except published.NoPoints:
            without.append(name)
        except ValueError as error:
            refused[name] = str(error)
    return anchor, tests, refused, without


def _results(args: argparse.Namespace) -> pd.DataFrame:
    """Means of a sweep, in which a codec with swapped components has a name of its own: "mlic+:local=stacked"."""
    found = measured(args, args.results)
    swapped = found["configuration"].str.extract(r"^q=\d+,(.+)$", expand=False)
    return found.assign(codec=found["codec"].where(swapped.isna(), found["codec"] + ":" + swapped))


def _published(dataset: str, codec: str, args: argparse.Namespace) -> _Curve:
    from lic_lab.evaluation import published

    found = published.curve(dataset, codec, args.metric, args.optimized_for)
    source = ", ".join(dict.fromkeys(found["source"]))
    images = published.IMAGES[found["dataset"].iloc[0]]
    return _Curve(found["codec"].iloc[0], found["bpp"], found["quality_db"], images, "", source)


def _measured(table: pd.DataFrame, codec: str, args: argparse.Namespace) -> _Curve:
    import numpy as np

    from lic_lab.evaluation.published import NoPoints

    found = table[table["codec"] == codec]
    if found["configuration"].duplicated().any():
        raise ValueError(
            f"{codec} is in {args.results} with several weights or versions at the same setting, so its points are no "
            "single curve; evaluate it into a table of its own"
        )
    counts = sorted(set(found["images"]))
    if len(counts) > 1:
        raise ValueError(
            f"{codec}'s points in {args.results} are over {', '.join(map(str, counts))} images; run `lic-lab evaluate` "
            "again, which measures those that are missing"
        )
    if found["image_set"].nunique() > 1:
        raise ValueError(
            f"{codec}'s points in {args.results} are over different images, {counts[0]} each; evaluate it over the "
            "same images into a table of its own"
        )
    column = "psnr" if args.metric == "psnr" else "ms_ssim_db"
    found = found[np.isfinite(found[column])]  # a lossless point has no number of dB, a small image no MS-SSIM
    if found.empty:
        raise NoPoints(f"{codec} has no {METRICS[args.metric]} in {args.results}; its images may be too small for it")
    return _Curve(codec, found["bpp"], found[column], int(counts[0]), found["image_set"].iloc[0], args.results)


def _compared(anchor: _Curve, test: _Curve, args: argparse.Namespace) -> dict[str, Any]:
    """A row of the table."""
    from lic_lab.evaluation.bdrate import bd_psnr, bd_rate

    if anchor.image_set and anchor.image_set != test.image_set:
        raise ValueError(
            f"{anchor.codec} and {test.codec} were not measured over the same images ({anchor.images} and "
            f"{test.images} of them); run `lic-lab evaluate` again with both and all the images"
        )
    curves = (anchor.bpp, anchor.quality), (test.bpp, test.quality)
    rate = bd_rate(*curves, method=args.method)
    try:
        gain = bd_psnr(*curves, method=args.method).value
    except ValueError as error:  # the rates may be apart where the qualities are not
        gain = float("nan")
        note(args, f"there is no BD-{METRICS[args.metric]} of {test.codec}: {error}")
    return {
        "anchor": anchor.codec,
        "test": test.codec,
        "metric": args.metric,
        "method": rate.method,
        "bd_rate_percent": rate.value,
        "bd_psnr_db" if args.metric == "psnr" else "bd_ms_ssim_db": gain,
        "overlap": [rate.low, rate.high],
        "overlap_fraction": rate.overlap,
        "points": list(rate.points),
        "images": [anchor.images, test.images],
        "sources": [anchor.source, test.source],
    }


def _print(anchor: _Curve, rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    metric, gain = METRICS[args.metric], "bd_psnr_db" if args.metric == "psnr" else "bd_ms_ssim_db"
    whose = f"published points on {args.dataset}" if args.published else args.results
    published = f", published ({anchor.source})" if anchor.source != args.results else ""
    say(f"{metric} of {whose}; anchor {anchor.codec}{published}; {args.method}")
    print_table(
        [
            {
                "test": row["test"],
                "BD-rate": f"{row['bd_rate_percent']:+.2f} %",
                f"BD-{metric}": "-" if math.isnan(row[gain]) else f"{row[gain]:+.2f} dB",
                "compared over": "{:.2f} to {:.2f} dB".format(*row["overlap"]),
                "of both": f"{100 * row['overlap_fraction']:.0f} %",
                "points": "{} and {}".format(*row["points"]),
                **({"source": row["sources"][1]} if args.published else {}),
            }
            for row in rows
        ]
    )

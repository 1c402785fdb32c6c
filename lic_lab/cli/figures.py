"""``lic-lab figures rd``: rate-distortion figures and the BD-rate table, of measured and published points."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lic_lab.cli.console import Parser, at_work, codec_name, measured, say
from lic_lab.files import written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lic_lab.figures import Curve

METRICS = {"psnr": "psnr", "ms-ssim": "ms_ssim"}  # as written on the command line: as in a figure's file name
NAMES = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
FORMATS = ("pdf", "svg", "png")
PUBLISHED = (  # of --published without names
    "vtm",
    "bpg_444_x265_ycbcr",
    "jpeg2000",
    "jpeg",
    "mlic+",
    "mlic",
    "elic2022 (paper)",
    "minnen2020-cc10 (paper)",
    "mbt2018",
    "mbt2018-mean",
    "bmshj2018-hyperprior",
    "bmshj2018-factorized",
)


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("figures", help="draw the figures of a paper's experiments")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=Parser)
    rd = kinds.add_parser(
        "rd",
        help="rate-distortion curves, rate savings, BD-rates",
        description="RD curves, rate saved over an anchor, BD-rate against complexity, and the BD-rate table in LaTeX "
        "and Markdown: of what `lic-lab evaluate` measured, of published points, or of both.",
    )
    rd.add_argument("results", nargs="*", metavar="RESULTS", help="files that `lic-lab evaluate` wrote")
    rd.add_argument(
        "--published",
        nargs="*",
        type=codec_name,
        metavar="CODEC",
        help="add published points: of these codecs (vtm, elic, mlic+), or without names of a choice of them",
    )
    rd.add_argument("--dataset", default="kodak", metavar="SET", help="images of the published points, default kodak")
    rd.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS), help="default both")
    rd.add_argument(
        "--anchor",
        metavar="CODEC",
        help="what rates are compared with; by default vtm, or the first classical codec in RESULTS",
    )
    rd.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where the figures go; made if need be")
    rd.add_argument("--width", choices=("column", "page"), default="column", help="of the figures, default column")
    rd.add_argument("--format", nargs="+", choices=FORMATS, default=["pdf"], help="default pdf")
    rd.set_defaults(run=_rd)


def _rd(args: argparse.Namespace) -> None:
    if not args.results and args.published is None:
        raise ValueError("there is nothing to draw; give RESULTS of `lic-lab evaluate`, or --published")
    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"-o is {folder}, which is no folder; give a folder, or a new name")
    with at_work("reading points"):
        dataset = _dataset(args)
        curves, anchors = _curves(args, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    with at_work("drawing"):
        _draw(args, folder, curves, anchors, dataset)


def _dataset(args: argparse.Namespace) -> str:
    """Name of the published points' images; empty without --published."""
    from lic_lab.evaluation.published import IMAGES, which

    return "" if args.published is None else which(args.dataset, IMAGES, "published dataset")


def _curves(args: argparse.Namespace, dataset: str) -> tuple[dict[str, list[Curve]], dict[str, Curve]]:
    """By metric, measured curves and then published ones, and the anchor's curve; without metrics that have none."""
    measured = _measured(args, dataset)
    there = _there(dataset)
    wanted = args.anchor or ("vtm" if "vtm" in there else "")
    mine, theirs = _measured_anchor(wanted, measured), ""
    codecs: list[str] = []
    if dataset:
        names = args.published or [name for name in PUBLISHED if name in there]
        codecs = [_codec(name, dataset, there) for name in names]
        if wanted and not mine:
            theirs = _codec(wanted, dataset, there)
            codecs = codecs if theirs in codecs else [theirs, *codecs]
    elif wanted and not mine:
        have = dict.fromkeys(curve.name for found in measured.values() for curve in found)
        raise ValueError(
            f"the anchor is {wanted!r}, which is not in the results; they have {', '.join(have) or 'none'}. Its "
            f"published points come with --published {wanted}, if the results are of the same images"
        )
    curves, anchors = {}, {}
    for metric, found in measured.items():
        published = _published(codecs, dataset, metric, found)
        if found or published:
            curves[metric] = [*found, *published.values()]
        over = published.get(theirs) if theirs else next((curve for curve in found if curve.name == mine), None)
        if over is not None:
            anchors[metric] = over
    metrics = " or ".join(NAMES[metric] for metric in measured)
    if not curves:
        raise ValueError(f"there is nothing to draw: no points have {metrics}; give another --metric or other codecs")
    if theirs and not anchors:
        raise ValueError(f"the anchor {theirs} has no published {metrics} on {dataset}; give another --anchor")
    for metric in measured:
        if args.results and not measured[metric]:
            _tell(f"no {NAMES[metric]} in these results")
    return curves, anchors


def _measured(args: argparse.Namespace, dataset: str) -> dict[str, list[Curve]]:
    """By metric, the curves of the results."""
    from lic_lab.figures.operating_points import measured_curves

    metrics = [METRICS[metric] for metric in dict.fromkeys(args.metric)]
    if not args.results:
        return {metric: [] for metric in metrics}
    means = _means(args)
    if dataset:
        _check_images(means, dataset)
    return {metric: measured_curves(means, metric) for metric in metrics}


def _published(codecs: list[str], dataset: str, metric: str, measured: list[Curve]) -> dict[str, Curve]:
    """Published curves by codec; one that has a measured one's name says that it is published."""
    from dataclasses import replace

    from lic_lab.figures.operating_points import published_curves

    taken = {curve.name.casefold() for curve in measured}
    found = {}
    for codec in codecs:
        for curve in published_curves([codec], dataset, metric):
            again = curve.name.casefold() in taken
            found[codec] = replace(curve, name=f"{curve.name}, published") if again else curve
    return found


def _means(args: argparse.Namespace) -> pd.DataFrame:
    import pandas as pd

    tables = {path: measured(args, path) for path in args.results}
    found = pd.concat(tables.values(), ignore_index=True)
    key = ["codec", "configuration"]
    if (again := found[found.duplicated(key)]).shape[0]:
        row = again.iloc[0]
        raise ValueError(
            f"{row['codec']} {row['configuration']} is in the results twice, in two files or with two sets of weights; "
            "give files in which it is once"
        )
    return found


def _check_images(means: pd.DataFrame, dataset: str) -> None:
    """Refuse to set published points beside means over another number of images."""
    from lic_lab.evaluation.published import IMAGES

    images = int(means["images"].max())
    if images != IMAGES[dataset]:
        raise ValueError(
            f"the results are means over {images} images and {dataset} has {IMAGES[dataset]}, so published points "
            "can't be compared with them: measure all of its images, or leave out --published"
        )


def _measured_anchor(wanted: str, measured: dict[str, list[Curve]]) -> str:
    """Name of the measured curve that is meant; the first classical one if none is; empty when it was not measured."""
    from lic_lab.evaluation.classical import CLASSICAL

    key = wanted.casefold()
    title = (CLASSICAL[key].title if key in CLASSICAL else wanted).casefold()
    for curve in (curve for found in measured.values() for curve in found):
        if curve.name.casefold() == title if wanted else curve.family == "classical":
            return curve.name
    return ""


def _there(dataset: str) -> list[str]:
    """The codecs with published points on a dataset."""
    from lic_lab.evaluation.published import points

    return list(points(dataset)["codec"].unique()) if dataset else []


def _codec(given: str, dataset: str, there: list[str]) -> str:
    """The published codec that is meant, of those `there` are, by its name in the table or in the figures."""
    from lic_lab.evaluation.published import which
    from lic_lab.figures.operating_points import TITLES

    titles = {TITLES.get(codec, codec).casefold(): codec for codec in there}
    return titles.get(given.casefold()) or which(given, there, f"published codec of {dataset}")


def _draw(
    args: argparse.Namespace, folder: Path, curves: dict[str, list[Curve]], anchors: dict[str, Curve], dataset: str
) -> None:
    from lic_lab import figures
    from lic_lab.figures.comparison import compare

    width = figures.COLUMN if args.width == "column" else figures.PAGE
    published = any(curve.published for found in curves.values() for curve in found)
    title = dataset.capitalize() if published else ""
    for metric, found in curves.items():
        _save(args, folder / f"rd_{metric}", figures.rd_curves(found, metric, width, title=title))
    if not anchors:
        _tell(
            "there is no VTM among the published points, no classical codec in the results and no --anchor: nothing to "
            "compare rates with"
        )
        return
    for metric, found in curves.items():
        if metric not in anchors:
            name = next(iter(anchors.values())).name
            _tell(f"{name} has no points with {NAMES[metric]}: no rates are compared in it")
            continue
        kept = _comparable(found, anchors[metric])
        if len(kept) > 1:
            drawn = figures.rate_savings(anchors[metric].rising(), kept, width=width, metric=metric)
            _save(args, folder / f"saving_{metric}", drawn)
    rows = compare({metric: curves[metric] for metric in anchors}, {m: curve.name for m, curve in anchors.items()})
    for style, ending in (("latex", "tex"), ("markdown", "md")):
        if any(key.startswith("bd_rate") for row in rows for key in row):
            path = folder / f"bd_rate.{ending}"
            with written(path) as new:
                new.write_text(figures.bd_rate_table(rows, _over(anchors), style, title), encoding="utf-8")
            say(path)
    costly = [row for row in rows if row.get("bd_rate_percent") is not None and row.get("parameters")]
    if costly:
        drawn = figures.bd_rate_complexity(costly, anchors["psnr"].name, width=width, dataset=title)
        _save(args, folder / "bd_rate_complexity", drawn)


def _over(anchors: dict[str, Curve]) -> str:
    """What a table says that its rates are compared with: a learned codec has other weights for each metric."""
    names = dict.fromkeys(curve.name for curve in anchors.values())
    if len(names) == 1:
        return next(iter(names))
    return " and ".join(f"{curve.name} (in {NAMES[metric]})" for metric, curve in anchors.items())


def _comparable(curves: list[Curve], anchor: Curve) -> list[Curve]:
    """The curves that share a range of quality with the anchor, which is among them; others are named."""
    from lic_lab.evaluation.bdrate import bd_rate

    kept = []
    for curve in (curve.rising() for curve in curves):
        try:
            bd_rate(anchor.rising().points, curve.points)
            kept.append(curve)
        except ValueError as error:
            _tell(f"{curve.name} is left out of what is compared with {anchor.name}: {error}")
    return kept


def _save(args: argparse.Namespace, stem: Path, figure: Figure) -> None:
    for ending in args.format:
        path = stem.with_name(f"{stem.name}.{ending}")
        figure.savefig(path)
        say(path)


def _tell(words: str) -> None:
    print(words, file=sys.stderr)

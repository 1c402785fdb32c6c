"""``lic-lab figures rd``: rate-distortion figures and the BD-rate table, of measured and published points."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic_lab.cli.console import Parser, at_work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lic_lab.figures import Curve

METRICS = {"psnr": "psnr", "ms-ssim": "ms_ssim"}  # as written on the command line: as in a figure's file name
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
        curves = {METRICS[metric]: _curves(args, METRICS[metric]) for metric in args.metric}
        anchor = _anchor(args, curves)
    folder.mkdir(parents=True, exist_ok=True)
    with at_work("drawing"):
        _draw(args, folder, {metric: found for metric, found in curves.items() if found}, anchor)


def _curves(args: argparse.Namespace, metric: str) -> list[Curve]:
    """Measured curves, then published ones; one that has a measured one's name says that it is published."""
    from dataclasses import replace

    from lic_lab.figures.operating_points import measured_curves, published_curves

    found: list[Curve] = measured_curves(_means(args.results), metric) if args.results else []
    if args.published is None:
        return found
    if found:
        _check_images(args)
    taken = {curve.name for curve in found}
    for curve in published_curves(args.published or PUBLISHED, args.dataset, metric):
        found.append(replace(curve, name=f"{curve.name}, published") if curve.name in taken else curve)
    return found


def _means(files: list[str]) -> Any:
    import pandas as pd

    from lic_lab.evaluation.results import means

    found = pd.concat([means(path) for path in files], ignore_index=True)
    key = ["codec", "configuration"]
    if (again := found[found.duplicated(key)]).shape[0]:
        row = again.iloc[0]
        raise ValueError(
            f"{row['codec']} {row['configuration']} is in the results twice, in two files or with two sets of weights; "
            "give files in which it is once"
        )
    return found


def _check_images(args: argparse.Namespace) -> None:
    """Refuse to set published points beside means over other images."""
    from lic_lab.evaluation.published import IMAGES

    images = int(_means(args.results)["images"].max())
    if images != IMAGES.get(args.dataset, images):
        raise ValueError(
            f"the results are means over {images} images and {args.dataset} has {IMAGES[args.dataset]}, so published "
            "points can't be compared with them: measure all of its images, or leave out --published"
        )


def _anchor(args: argparse.Namespace, curves: dict[str, list[Curve]]) -> str | None:
    """Name of the anchor's curve, which published points join if it is asked for and not there."""
    from lic_lab.evaluation.classical import CLASSICAL
    from lic_lab.figures.operating_points import TITLES, published_curves

    found = next(iter(curves.values()))
    wanted = args.anchor or ("vtm" if args.published is not None else None)
    if wanted is None:
        return next((curve.name for curve in found if curve.family == "classical"), None)
    key = wanted.lower()
    title = CLASSICAL[key].title if key in CLASSICAL else TITLES.get(key, wanted)
    names = {curve.name.lower(): curve.name for curve in found}
    if title.lower() in names:
        return names[title.lower()]
    if args.published is None:
        raise ValueError(
            f"the anchor is {wanted!r}, which is not in the results; they have {', '.join(names.values())}. Its "
            f"published points come with --published {wanted}, if the results are of the same images"
        )
    for metric, drawn in curves.items():
        drawn[:0] = published_curves([wanted], args.dataset, metric)
    return next(iter(curves.values()))[0].name


def _draw(args: argparse.Namespace, folder: Path, curves: dict[str, list[Curve]], anchor: str | None) -> None:
    from lic_lab import figures
    from lic_lab.figures.comparison import compare

    width = figures.COLUMN if args.width == "column" else figures.PAGE
    published = any(curve.published for found in curves.values() for curve in found)
    dataset = args.dataset.capitalize() if published else ""
    for metric, found in curves.items():
        _save(args, folder / f"rd_{metric}", figures.rd_curves(found, metric, width, title=dataset))
    if anchor is None:
        _tell("there is no classical codec in the results and no --anchor: nothing to compare rates with")
        return
    for metric, found in curves.items():
        kept = _comparable(found, anchor, metric)
        if len(kept) > 1:
            over = next(curve for curve in kept if curve.name == anchor)
            _save(args, folder / f"saving_{metric}", figures.rate_savings(over, kept, width=width, metric=metric))
    rows = compare(curves, anchor)
    for style, ending in (("latex", "tex"), ("markdown", "md")):
        if any(key.startswith("bd_rate") for row in rows for key in row):
            path = folder / f"bd_rate.{ending}"
            path.write_text(figures.bd_rate_table(rows, anchor, style, dataset), encoding="utf-8")
            print(path)
    costly = [row for row in rows if row.get("bd_rate_percent") is not None and row.get("parameters")]
    if costly:
        drawn = figures.bd_rate_complexity(costly, anchor, width=width, dataset=dataset)
        _save(args, folder / "bd_rate_complexity", drawn)


def _comparable(curves: list[Curve], anchor: str, metric: str) -> list[Curve]:
    """The curves that share a range of quality with the anchor, which is among them; others are named."""
    from lic_lab.evaluation.bdrate import bd_rate

    over = next((curve.rising() for curve in curves if curve.name == anchor), None)
    if over is None:
        _tell(f"{anchor} has no points with {metric}: no rate saving is drawn")
        return []
    kept = []
    for curve in (curve.rising() for curve in curves):
        try:
            bd_rate(over.points, curve.points)
            kept.append(curve)
        except ValueError as error:
            _tell(f"{curve.name} is left out of what is compared with {anchor}: {error}")
    return kept


def _save(args: argparse.Namespace, stem: Path, figure: Figure) -> None:
    for ending in args.format:
        path = stem.with_name(f"{stem.name}.{ending}")
        figure.savefig(path)
        print(path)


def _tell(words: str) -> None:
    print(words, file=sys.stderr)

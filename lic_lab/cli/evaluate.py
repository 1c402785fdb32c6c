"""``lic-lab evaluate``: codecs x rate points x images into one table, resumable."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lic_lab.cli.console import Parser, add_json, at_work, measured, positive, print_json, print_table, shared_data
from lic_lab.files import check_output

if TYPE_CHECKING:
    from pandas import DataFrame

    from lic_lab.evaluation.coders import Point
    from lic_lab.evaluation.results import Store

CLUSTER_IN_FLIGHT = 256  # jobs handed to a cluster at a time, which may grow meanwhile


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="measure rate, quality and time of codecs over images",
        description="Codecs x rate points x images into one table. Started again, it measures what is missing.",
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="images, or folders of them; by default $LIC_LAB_DATA/kodak"
    )
    parser.add_argument(
        "-c",
        "--codec",
        action="append",
        default=[],
        metavar="CODEC",
        help="mlic+, jpeg, ... at all its rate points, or at one: jpeg:quality=30; repeat it for more",
    )
    parser.add_argument(
        "-q",
        "--quality",
        type=int,
        action="append",
        metavar="Q",
        help="rate point of learned codecs given without one, by default all that have weights; repeat it",
    )
    parser.add_argument(
        "--swap",
        action="append",
        default=[],
        metavar="PART=NAME",
        help="another component of learned codecs given without a rate point: --swap local=stacked",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the table: results.csv, .parquet or .sqlite"
    )
    parser.add_argument("--summary", action="store_true", help="measure nothing, print the means of what is there")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive(int), metavar="N", help="processes, by default one per core")
    where.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a Dask cluster's scheduler, to run there")
    add_json(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> None:
    with at_work("loading"):
        from lic_lab.evaluation import results
    if args.summary:
        _show(measured(args, args.output), args.json)
        return
    working = results.working(args.output)
    check_output(args.output, *args.images)
    given: list[str | Path] = args.images or [shared_data("kodak", "images")]
    if not args.codec:
        raise ValueError("which codecs? Give --codec, for example --codec mlic+ --codec jpeg")
    images = _count(given)
    points = _points(args)
    with results.Store(working) as store:
        try:
            failed = _sweep(args, points, given, store, len(points) * images)
        finally:  # interrupted too: the table has what was measured
            if working != Path(args.output) and len(store):
                store.export(args.output)
        _tell_errors(store)
        if failed == len(points) * images:
            raise ValueError(f"nothing was measured: all {failed} results failed")
        _show(store.means(), args.json)


def _points(args: argparse.Namespace) -> list[Point]:
    """The coders that are asked for; whatever one of them lacks is told here, before anything starts."""
    with at_work("loading codecs"):
        from lic_lab.evaluation.classical import CLASSICAL
        from lic_lab.evaluation.coders import configurations, point

        chosen = args.quality or args.swap
        if chosen and all(text.partition(":")[0] in CLASSICAL for text in args.codec):
            raise ValueError(
                f"-q and --swap are for learned codecs, and none of {', '.join(args.codec)} is one; leave them out"
            )
        found = []
        for text in args.codec:
            name, _, configuration = text.partition(":")
            if configuration and chosen and name not in CLASSICAL:
                raise ValueError(
                    f"-q and --swap don't apply to {text}, which has its own rate point and components; write all in "
                    f"it ({name}:q=3,local=stacked), or give {name} alone"
                )
            if configuration:
                wanted = [configuration]
            elif name in CLASSICAL:
                wanted = configurations(name)
            else:
                qualities = [f"q={quality}" for quality in args.quality or []] or configurations(name)
                wanted = [",".join([quality, *args.swap]) for quality in qualities]
            found += [point(name, configuration) for configuration in wanted]
    return list(dict.fromkeys(found))


def _count(given: Sequence[str | Path]) -> int:
    """Number of images; none of their names is kept."""
    with at_work("counting images"):
        from lic_lab.evaluation.sweep import walk

        count = sum(1 for _ in walk(given))
    if not count:
        raise FileNotFoundError(f"there is no image in {', '.join(map(str, given))}; give images, or folders of them")
    return count


def _sweep(args: argparse.Namespace, points: list[Point], given: Sequence[str | Path], store: Store, total: int) -> int:
    """Number of results that failed."""
    from tqdm import tqdm

    from lic_lab.evaluation.sweep import sweep, walk

    failures = 0
    with _executor(args) as (executor, in_flight), tqdm(total=total, unit="result") as bar:

        def progress(finished: int, failed: int) -> None:
            nonlocal failures
            failures += failed
            if failures:
                bar.set_postfix_str(f"{failures} failed", refresh=False)
            bar.update(finished)

        sweep(points, walk(given), store, executor, in_flight, progress)
    return failures


@contextmanager
def _executor(args: argparse.Namespace) -> Iterator[tuple[Callable[[], Executor], int]]:
    """(What opens executors, number of jobs in flight.)"""
    from lic_lab.evaluation.sweep import cluster, cores, processes

    if args.scheduler:
        with cluster(args.scheduler) as executor:
            logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told in our words
            yield executor, CLUSTER_IN_FLIGHT
    else:
        workers = args.workers or cores()
        yield partial(processes, workers), 2 * workers


def _show(means: DataFrame, as_json: bool) -> None:
    rows = means.to_dict("records")
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            {
                "codec": row["codec"],
                "configuration": row["configuration"],
                "images": row["images"],
                "bpp": f"{row['bpp']:.4f}",
                "PSNR": f"{row['psnr']:.2f}",
                "PSNR of mean MSE": f"{row['psnr_of_mean_mse']:.2f}",
                "MS-SSIM": f"{row['ms_ssim']:.4f}",
                "MS-SSIM dB": f"{row['ms_ssim_db']:.2f}",
                "encode s": f"{row['encode_seconds']:.3f}",
                "decode s": f"{row['decode_seconds']:.3f}",
            }
            for row in rows
        ]
    )
    if means["image_set"].nunique() > 1:
        print("the codecs were not measured on the same images: compare with care", file=sys.stderr)


def _tell_errors(store: Store) -> None:
    converted = store.converted(4)
    for image, notes in converted[:3]:
        print(f"converted: {image} was {notes}", file=sys.stderr)
    if converted[3:]:
        print("and others", file=sys.stderr)
    failures = store.failures(4)
    for image, reason, times in failures[:3]:
        print(f"failed: {image}{f', {times} times' if times > 1 else ''}: {reason}", file=sys.stderr)
    if failures:
        print(f"all that failed is in the table errors of {store.path}", file=sys.stderr)

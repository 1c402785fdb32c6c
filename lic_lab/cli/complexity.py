"""``lic-lab complexity``: parameters and multiply-adds of the codecs, part by part, and beside published figures."""

from __future__ import annotations

import argparse
from typing import Any

from lic_lab.cli.console import add_json, at_work, positive, print_json, print_table, say
from lic_lab.codecs.registry import ENTRIES

SIZES = tuple(dict.fromkeys(size for entry in ENTRIES.values() for size in entry.sizes))
DECONVOLUTIONS = ("input", "output")  # evaluation.complexity's, whose import takes seconds
HEIGHT, WIDTH = 512, 768  # of Kodak's images


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = commands.add_parser(
        "complexity",
        help="count the codecs' parameters and multiply-adds, part by part",
        description="Parameters, and thousands of multiply-adds per pixel, of each part of a codec at an image size. "
        "Nothing is computed but shapes, so any size can be asked for.",
    )
    parser.add_argument(
        "-c", "--codec", action="append", metavar="CODEC", help="may be repeated; by default all of `lic-lab codecs`"
    )
    parser.add_argument(
        "--size", choices=SIZES, default="paper", help="dimensions of the codec: as published (default), or another"
    )
    parser.add_argument("--height", type=positive(int), default=HEIGHT, metavar="N", help="pixels, default %(default)s")
    parser.add_argument("--width", type=positive(int), default=WIDTH, metavar="N", help="pixels, default %(default)s")
    parser.add_argument(
        "--deconvolutions",
        choices=DECONVOLUTIONS,
        default="input",
        help="count them at their input (default), as they are computed, or at their output, as some papers do",
    )
    parser.add_argument(
        "--published", action="store_true", help="papers' figures for that image size instead, with ours beside them"
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if not args.published:
        _count(args)
    elif args.size != "paper" or args.deconvolutions != "input":
        raise ValueError("--published compares codecs of the papers' size; leave --size and --deconvolutions out")
    else:
        _compare(args)


def _count(args: argparse.Namespace) -> None:
    with at_work("loading"):
        from tqdm import tqdm

        from lic_lab.codecs import registry
        from lic_lab.evaluation.complexity import complexity, totals

        names = args.codec or [name for name in registry.names() if args.size in registry.entry(name).sizes]
        for name in names:
            registry.entry(name)
    found = []
    for name in tqdm(names, desc="counting", leave=False, disable=None):
        codec = registry.create(name, args.size)
        rows = complexity(codec, args.height, args.width, args.deconvolutions)
        found.append({"codec": name, "size": args.size, "modules": rows, "totals": totals(rows)})
    if args.json:
        sides = {"height": args.height, "width": args.width, "deconvolutions": args.deconvolutions}
        print_json([{**counted, **sides} for counted in found])
        return
    say(f"{args.height} x {args.width} pixels; deconvolutions counted at their {args.deconvolutions}")
    table: list[dict[str, str]] = []
    for counted in found:
        sums = [{"module": f"= {whole}", **row} for whole, row in counted["totals"].items()]
        for row in counted["modules"] + sums:
            table.append(
                {
                    "codec": counted["codec"] if row is counted["modules"][0] else "",
                    "module": row["module"],
                    "parameters": f"{row['parameters'] / 1e6:8.3f} M",
                    "kMAC/pixel": f"{row['macs_per_pixel'] / 1e3:10.2f}",
                }
            )
    print_table(table)


def _compare(args: argparse.Namespace) -> None:
    with at_work("loading"):
        from lic_lab.evaluation.published_complexity import beside_ours, published

        found = published(args.codec)
    size = (args.height, args.width)
    rows = beside_ours(row for row in found if (row["height"], row["width"]) in (size, (None, None)))
    if args.json:
        print_json(rows)
        return
    _print_beside(
        [
            {
                "codec": row["codec"],
                "quantity": row["quantity"],
                "unit": row["unit"],
                "published": f"{row['value']:9.7g}",
                "as published": "" if row["as_published"] is None else f"{row['as_published']:12.2f}",
                "ours": "" if row["ours"] is None else f"{row['ours']:8.2f}",
                "source": row["source"],
            }
            for row in rows
        ]
    )
    if any(row["unit"] == "MFLOP as printed" for row in rows):
        say("\nMFLOP as printed are 2.0 times the transformers' parameters, and no image's cost (docs/complexity.md)")
    others = sorted({(row["height"], row["width"]) for row in found if row["height"]} - {size})
    if others:
        say(f"\nwith --height and --width: {', '.join(f'{height} x {width}' for height, width in others)}")


def _print_beside(rows: list[dict[str, Any]]) -> None:
    """The table without columns in which there is nothing: we count no seconds, and know few papers' conventions."""
    filled = {column for row in rows for column, entry in row.items() if entry}
    print_table([{column: entry for column, entry in row.items() if column in filled} for row in rows])
    if rows and "ours" not in filled:
        say(
            "\nnothing here that we count: we count parameters and multiply-adds, of codecs that `lic-lab codecs` lists"
        )

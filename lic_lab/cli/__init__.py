"""The command line, ``lic-lab``.

A user's mistake, and whatever the system refuses (a full disk, a closed output, a table that is no table), ends with
status 2 and one line on stderr. Torch and CompressAI take seconds to import, so each command looks at the paths that it
was given first, imports what it needs, and ``--help`` needs nothing.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import lic_lab as lab
from lic_lab.cli import bdrate, complexity, evaluate, figures
from lic_lab.cli.console import (
    Parser,
    add_codec,
    add_json,
    add_quality,
    at_work,
    codec_and_image,
    count,
    image_files,
    loaded,
    note,
    positive,
    print_json,
    print_table,
    readable,
    say,
    shared_data,
)
from lic_lab.files import check_output, written
from lic_lab.training import RECIPES

MISTAKES = (ValueError, OSError, sqlite3.Error, MemoryError)  # all else is a fault of the program's
MAX_PIXELS = 24_000_000  # image.LARGEST, repeated likewise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default the process's.

    Returns
    -------
    int
        Exit status: 0, 2 for a user's mistake, 130 when interrupted.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if sys.stdout is None:
        _tell("lic-lab", "stdout is closed; send it to a file, or to /dev/null")
        return 2
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not fit the terminal's encoding
    command = "lic-lab"
    try:
        try:
            args = _parser().parse_args(argv)
            command = f"lic-lab {args.command}"
            args.run(args)
        finally:
            say(end="")
    except MISTAKES as error:
        _tell(command, _one_line(error))
        return 2
    except KeyboardInterrupt:
        _tell(command, "interrupted")
        return 130
    return 0


def _tell(command: str, words: str) -> None:
    try:
        print(f"{command}: {words}", file=sys.stderr, flush=True)
    except OSError:  # full or closed too: nothing can be said, and Python shall not try it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lic-lab", description="A workbench for learned image compression.")
    parser.add_argument("--version", action="version", version=f"lic-lab {lab.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    codecs = commands.add_parser("codecs", help="list the codecs, their parameters and weights")
    add_json(codecs)
    codecs.set_defaults(run=_codecs)

    ablation = commands.add_parser(
        "ablation",
        help="measure what each component of the entropy model is worth",
        description="Bits of each combination of components on the same symbols of the shared latent.",
    )
    ablation.add_argument(
        "images", nargs="*", metavar="IMAGE", help="images, or folders of them; by default $LIC_LAB_DATA/kodak"
    )
    add_quality(ablation)
    ablation.add_argument("--all", action="store_true", help="every combination, not only the rows of MLIC's Table 5")
    add_json(ablation)
    ablation.set_defaults(run=_ablation)

    trace = commands.add_parser("trace", help="show how a codec spends its bits on an image")
    trace.add_argument("image", metavar="IMAGE")
    add_codec(trace)
    add_json(trace)
    trace.set_defaults(run=_trace)

    compress = commands.add_parser("compress", help="code an image to a file")
    compress.add_argument("image", metavar="IMAGE")
    add_codec(compress)
    compress.add_argument("-o", "--output", required=True, metavar="OUT.lic", help="the file to write")
    compress.set_defaults(run=_compress)

    decompress = commands.add_parser("decompress", help="decode a file to an image")
    decompress.add_argument("file", metavar="IN.lic", help="what `lic-lab compress` wrote")
    decompress.add_argument("-o", "--output", required=True, metavar="OUT.png", help="the image to write")
    decompress.add_argument(
        "--max-pixels",
        type=positive(int),
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger images, default %(default)s: a forged header can't take all memory",
    )
    decompress.set_defaults(run=_decompress)

    info = commands.add_parser("info", help="say what a .lic file holds and needs")
    info.add_argument("file", metavar="IN.lic", help="what `lic-lab compress` wrote")
    add_json(info)
    info.set_defaults(run=_info)

    train = commands.add_parser(
        "train",
        help="train a codec, all stages of its recipe or one",
        description="All stages of a codec's recipe in turn, each from the one before, or one of them; what was begun "
        "is resumed. The options stand in for the recipe's own settings. docs/training.md lists the stages.",
    )
    train.add_argument("codec", choices=RECIPES, help=f"one of {', '.join(RECIPES)}", metavar="CODEC")
    train.add_argument("stage", nargs="?", metavar="STAGE", help="by default all of them")
    train.add_argument(
        "--lambda",
        dest="lmbda",
        type=positive(float),
        required=True,
        metavar="L",
        help="weight of the distortion: 0.0067",
    )
    train.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="file where the stage is saved and resumed, or folder of all stages' files; by default in "
        "$LIC_LAB_CACHE/runs, LIC_LAB_CACHE being ~/.cache/lic_lab",
    )
    train.add_argument("--data", metavar="FOLDER", help="training images; by default $LIC_LAB_DATA/train")
    train.add_argument("--start", metavar="FILE", help="weights, or another run's checkpoint, to start from")
    train.add_argument("--steps", type=positive(int), metavar="N")
    train.add_argument("--lr", type=positive(float), metavar="R", help="peak learning rate")
    train.add_argument("--warmup", type=count, metavar="N", help="steps of warm-up")
    train.add_argument("--decay", type=count, metavar="N", help="last steps, in which the rate falls to zero")
    train.add_argument("--batch", type=positive(int), metavar="N", help="crops per worker and step")
    train.add_argument("--crop", type=positive(int), metavar="N", help="pixels a side")
    train.add_argument("--workers", type=positive(int), metavar="N", help="processes of one thread")
    train.add_argument("--linear-steps", type=count, metavar="N", help="first steps of joint, on the linear path only")
    train.add_argument("--seed", type=count, default=0, metavar="N", help="of everything random, default 0")
    train.add_argument(
        "--bf16",
        action="store_true",
        default=None,
        help="bfloat16 transform where it learns; faster where the CPU has avx512_bf16 or AMX",
    )
    train.set_defaults(run=_train)
    evaluate.add(commands)
    bdrate.add(commands)
    complexity.add(commands)
    figures.add(commands)
    return parser


def _codecs(args: argparse.Namespace) -> None:
    from lic_lab.codecs.registry import listing

    found = listing()
    if args.json:
        print_json(found)
        return
    rows = [
        {
            "codec": codec["name"],
            "size": codec["size"],
            "parameters": f"{codec['parameters'] / 1e6:.2f} M",
            "weights": ", ".join(f"q{w['quality']} (lambda {w['lambda']:g})" for w in codec["weights"]) or "untrained",
            "paper": codec["paper"],
        }
        for codec in found
    ]
    print_table(rows)


def _ablation(args: argparse.Namespace) -> None:
    images = image_files(args.images)
    with at_work("loading"):
        from lic_lab.evaluation.ablation import ablation
    rows = ablation(args.quality, readable(images), everything=args.all, progress=False)
    if args.json:
        print_json(rows)
        return
    print_table(
        [
            row | {"bpp": f"{row['bpp']:.4f}", "bits_vs_base_percent": f"{row['bits_vs_base_percent']:+.2f}"}
            for row in rows
        ]
    )


def _trace(args: argparse.Namespace) -> None:
    image = codec_and_image(args)
    with at_work("tracing"):
        codec = loaded(args)
        trace = lab.trace(codec, image, keep=lambda name: False)
    if args.json:
        found = {
            "codec": trace.codec,
            "quality": trace.quality,
            "combination": trace.combination,
            "width": trace.x.shape[1],
            "height": trace.x.shape[0],
            "bpp": trace.bpp,
            "psnr": trace.psnr,
            "seconds": trace.seconds,
            "patched": trace.patched,
            "notes": list(trace.picture.notes),
        }
        print_json(found)
        return
    total = trace.bpp["total"]
    say(f"{trace.picture.name}: {trace.x.shape[1]} x {trace.x.shape[0]} pixels, {trace.codec}, quality {trace.quality}")
    for part, name in trace.combination.items():
        say(f"  {part}: {name}")
    for words in trace.picture.notes:
        say(f"  the image was {words}")
    if trace.patched:
        say("  global attention ran in patches")
    print_table(
        [
            {"bits of": name, "bpp": f"{bpp:.4f}", "share": f"{100 * bpp / total:.1f} %" if total else ""}
            for name, bpp in trace.bpp.items()
        ]
    )
    say(f"PSNR {trace.psnr:.2f} dB; " + ", ".join(f"{name} {s:.2f} s" for name, s in trace.seconds.items()))


def _compress(args: argparse.Namespace) -> None:
    image = codec_and_image(args)
    check_output(args.output, image)
    with at_work("coding"):
        from lic_lab.codecs.bitstream import compress
        from lic_lab.image import read

        codec = loaded(args)
        picture = read(image)
        stream = compress(codec, picture.x)
    data = stream.to_bytes()
    with written(args.output, image) as new:
        new.write_bytes(data)
    for words in picture.notes:
        note(args, f"the image was {words}")
    say(f"{args.output}: {len(data)} bytes, {stream.bpp:.4f} bpp, {stream.name}, quality {stream.quality}")


def _decompress(args: argparse.Namespace) -> None:
    if Path(args.output).suffix.lower() != ".png":
        raise ValueError(f"the output is {args.output}; give a name that ends in .png, so that no pixel is lost")
    check_output(args.output, args.file)
    data = Path(args.file).read_bytes()
    with at_work("decoding"):
        from PIL import Image

        pixels = lab.decode(data, args.max_pixels)
        with written(args.output, args.file) as new:
            Image.fromarray(pixels).save(new, "PNG")
    say(f"{args.output}: {pixels.shape[1]} x {pixels.shape[0]} pixels")


def _info(args: argparse.Namespace) -> None:
    data = Path(args.file).read_bytes()
    with at_work("reading"):
        from lic_lab.codecs.bitstream import VERSION
        from lic_lab.codecs.geometry import WHOLE

        stream = lab.Bitstream.from_bytes(data)
    found = {
        "codec": stream.codec,
        "quality": stream.quality,
        "components": dict(stream.components),
        "width": stream.width,
        "height": stream.height,
        "bytes": len(data),
        "bpp": stream.bpp,
        "strings": [len(string) for string in stream.strings],
        "resize_factor": stream.scale / WHOLE,
        "weights": stream.digest,
        "latent_checksum": f"{stream.latent:08x}",
        "picture_checksum": f"{stream.picture:08x}",
        "version": VERSION,
    }
    if args.json:
        print_json(found)
        return
    found["components"] = ", ".join(f"{part}={name}" for part, name in stream.components) or "the codec's own"
    found |= {"bpp": f"{stream.bpp:.4f}", "strings": " + ".join(map(str, found["strings"])) + " bytes"}
    print_table([{args.file: name.replace("_", " "), "": value} for name, value in found.items()])


def _train(args: argparse.Namespace) -> None:
    data = str(Path(args.data) if args.data else shared_data("train", "--data FOLDER"))
    if not Path(data).is_dir():
        raise FileNotFoundError(f"--data is {data}, which is no folder; give a folder of images")
    if args.start and not Path(args.start).exists():
        raise FileNotFoundError(f"--start is {args.start}, which does not exist")
    if args.start and Path(args.start).is_dir():
        raise IsADirectoryError(f"--start is {args.start}, a folder; give a file of weights or a checkpoint in it")
    with at_work("loading"):
        from lic_lab.training.recipes import Run, Settings, folder, recipe_of, run, run_all, start_of
    asked = {f.name: getattr(args, f.name, None) for f in fields(Settings)}
    settings: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    to = Path(args.checkpoint) if args.checkpoint else folder(args.codec, args.lmbda, args.seed)
    if args.stage is None:
        if to.exists() and not to.is_dir():
            raise NotADirectoryError(f"--checkpoint of all stages is a folder, and {to} is a file; give another name")
        to = run_all(args.codec, args.lmbda, data, to, args.start, **settings)
    else:
        own = recipe_of(args.codec).stage(args.stage).settings.but(**settings)
        to = to if args.checkpoint else to / f"{args.stage}.pt"
        start = args.start or start_of(args.codec, args.stage, to.parent)
        run(Run(args.codec, args.stage, args.lmbda, data, str(to), own, start))
    say(to)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # "[Errno 2] ..." says nothing to a user
        return f"{_text(error.filename)}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "there is too little memory for this"
    return " ".join(str(error).split()) or type(error).__name__


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else str(name)

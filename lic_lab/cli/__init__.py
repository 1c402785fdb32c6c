"""The command line, ``lic-lab``.

A user's mistake ends with status 2 and one line on stderr. Torch and CompressAI take seconds to import, so each
command imports what it needs, and ``--help`` needs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import lic_lab as lab
from lic_lab.cli import bdrate, complexity, evaluate, figures
from lic_lab.cli.console import (
    Parser,
    add_codec,
    add_json,
    add_quality,
    at_work,
    count,
    image_files,
    loaded,
    positive,
    print_json,
    print_table,
    shared_data,
)

MISTAKES = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
STAGES = ("joint", "finish", "refine", "contexts", "raster", "reference", "gsdn")  # those of training.recipes
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
    args = _parser().parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")  # of CompressAI's use of torch
    try:
        args.run(args)
        sys.stdout.flush()
    except MISTAKES as error:
        print(f"lic-lab {args.command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lic-lab {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` perhaps, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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
        help="train the shared latent and its entropy model",
        description="One stage of the training that made the shipped weights; an existing checkpoint is resumed.",
    )
    train.add_argument("stage", choices=STAGES, help="everything together; then the entropy model's contexts alone")
    train.add_argument(
        "--lambda",
        dest="lmbda",
        type=positive(float),
        required=True,
        metavar="L",
        help="weight of the distortion: 0.0067",
    )
    train.add_argument("--checkpoint", required=True, metavar="FILE", help="where the run is saved and resumed")
    train.add_argument("--data", metavar="FOLDER", help="training images; by default $LIC_LAB_DATA/train")
    train.add_argument("--start", metavar="FILE", help="another run's checkpoint, to start from its weights")
    train.add_argument("--steps", type=positive(int), required=True, metavar="N")
    train.add_argument(
        "--lr", type=positive(float), default=1e-3, metavar="R", help="peak learning rate, default 0.001"
    )
    train.add_argument("--warmup", type=count, default=200, metavar="N", help="steps of warm-up, default 200")
    train.add_argument(
        "--decay", type=count, default=0, metavar="N", help="last steps, in which the rate falls to zero"
    )
    train.add_argument(
        "--batch", type=positive(int), default=4, metavar="N", help="crops per worker and step, default 4"
    )
    train.add_argument("--crop", type=positive(int), default=128, metavar="N", help="pixels a side, default 128")
    train.add_argument(
        "--workers", type=positive(int), default=1, metavar="N", help="processes of one thread, default 1"
    )
    train.add_argument(
        "--linear-steps", type=count, default=0, metavar="N", help="first steps of joint, on the linear path only"
    )
    train.add_argument("--seed", type=count, default=0, metavar="N")
    train.add_argument(
        "--bf16", action="store_true", help="joint: bfloat16 transform; faster where the CPU has avx512_bf16 or AMX"
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
    rows = ablation(args.quality, images, everything=args.all, progress=True)
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
    with at_work("tracing"):
        codec = loaded(args)
        trace = lab.trace(codec, args.image, keep=lambda name: False)
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
    print(
        f"{trace.picture.name}: {trace.x.shape[1]} x {trace.x.shape[0]} pixels, {trace.codec}, quality {trace.quality}"
    )
    for part, name in trace.combination.items():
        print(f"  {part}: {name}")
    for note in trace.picture.notes:
        print(f"  the image was {note}")
    if trace.patched:
        print("  global attention ran in patches")
    print_table(
        [
            {"bits of": name, "bpp": f"{bpp:.4f}", "share": f"{100 * bpp / total:.1f} %" if total else ""}
            for name, bpp in trace.bpp.items()
        ]
    )
    print(f"PSNR {trace.psnr:.2f} dB; " + ", ".join(f"{name} {s:.2f} s" for name, s in trace.seconds.items()))


def _compress(args: argparse.Namespace) -> None:
    with at_work("coding"):
        from lic_lab.codecs.bitstream import compress

        codec = loaded(args)
        stream = compress(codec, lab.read_image(args.image))
    data = stream.to_bytes()
    Path(args.output).write_bytes(data)
    print(f"{args.output}: {len(data)} bytes, {stream.bpp:.4f} bpp, {stream.name}, quality {stream.quality}")


def _decompress(args: argparse.Namespace) -> None:
    if Path(args.output).suffix.lower() != ".png":
        raise ValueError(f"the output is {args.output}; give a name that ends in .png, so that no pixel is lost")
    data = Path(args.file).read_bytes()
    with at_work("decoding"):
        from PIL import Image

        pixels = lab.decode(data, args.max_pixels)
        Image.fromarray(pixels).save(args.output)
    print(f"{args.output}: {pixels.shape[1]} x {pixels.shape[0]} pixels")


def _info(args: argparse.Namespace) -> None:
    data = Path(args.file).read_bytes()
    with at_work("reading"):
        from lic_lab.codecs.bitstream import VERSION, WHOLE

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
        "checksum": f"{stream.latent:08x}",
        "version": VERSION,
    }
    if args.json:
        print_json(found)
        return
    found["components"] = ", ".join(f"{part}={name}" for part, name in stream.components) or "the codec's own"
    found |= {"bpp": f"{stream.bpp:.4f}", "strings": " + ".join(map(str, found["strings"])) + " bytes"}
    print_table([{args.file: name.replace("_", " "), "": value} for name, value in found.items()])


def _train(args: argparse.Namespace) -> None:
    data = Path(args.data) if args.data else shared_data("train", "--data FOLDER")
    for path, option in ((args.start, "--start"), (Path(args.checkpoint).parent, "the folder of --checkpoint")):
        if path and not Path(path).exists():
            raise FileNotFoundError(f"{option} is {path}, which does not exist")
    with at_work("loading"):
        from lic_lab.training.loop import Schedule
        from lic_lab.training.recipes import Recipe, images, run
    recipe = Recipe(
        stage=args.stage,
        lmbda=args.lmbda,
        data=str(data),
        checkpoint=args.checkpoint,
        schedule=Schedule(steps=args.steps, lr=args.lr, warmup=args.warmup, decay=args.decay),
        start=args.start,
        batch=args.batch,
        crop=args.crop,
        seed=args.seed,
        workers=args.workers,
        linear_steps=args.linear_steps,
        bf16=args.bf16,
    )
    images(recipe)  # a mistake is told here, and the workers find the images decoded
    run(recipe)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # "[Errno 2] ..." says nothing to a user
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__

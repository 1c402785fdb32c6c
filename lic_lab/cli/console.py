"""What the commands share: arguments, finding images, and printing."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import lic_lab as lab
from lic_lab.patience import at_work as at_work
from lic_lab.shipped import named

TABLES = (".csv", ".parquet", ".sqlite", ".sqlite3", ".db")  # evaluation.results.FORMATS, whose import takes a second


def say(words: object = "", end: str = "\n") -> None:
    """Print to stdout. An error names it, as nothing else does; what could not be written is not tried again."""
    try:
        print(words, end=end, flush=not end)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "stdout"
        raise


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:  # where argparse keeps quiet about what it can't write
            say(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_quality(parser: argparse.ArgumentParser) -> None:
    """``--quality``."""
    parser.add_argument(
        "-q", "--quality", type=int, metavar="Q", help="rate point, 1 to 6; by default the lowest with weights"
    )


def add_codec(parser: argparse.ArgumentParser) -> None:
    """``--codec``, ``--quality`` and ``--swap``, which `loaded` reads."""
    parser.add_argument("-c", "--codec", default="mlic+", metavar="CODEC", help="see `lic-lab codecs`; default mlic+")
    add_quality(parser)
    parser.add_argument(
        "--swap", action="append", default=[], metavar="PART=NAME", help="another component: --swap local=stacked"
    )


def positive(kind: type) -> Any:
    """A converter for argparse that takes numbers above zero."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not (math.isfinite(value) and value > 0):
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    convert.__name__ = kind.__name__
    return convert


def count(text: str) -> int:
    """A converter for argparse that takes zero and above."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value


def codec_name(text: str) -> str:
    """A converter for argparse that takes names of codecs: an option of several names takes a file behind it too."""
    if text.lower().endswith(TABLES):
        raise argparse.ArgumentTypeError(f"{text} is a table of results, not a codec; put RESULTS first")
    return text


def loaded(args: argparse.Namespace) -> Any:
    """The codec that the arguments ask for, with its components swapped."""
    pairs = [text.partition("=") for text in args.swap]
    for text, (part, equals, name) in zip(args.swap, pairs, strict=True):
        if not (part and equals and name):
            raise ValueError(f"--swap is {text!r}; write PART=NAME, for example --swap local=stacked")
    codec = lab.load(args.codec, args.quality)
    return codec.swap(**{part: name for part, _, name in pairs}) if pairs else codec


def codec_and_image(args: argparse.Namespace) -> str:
    """The image's path; a codec without weights and a mistyped path are told before anything is imported."""
    from lic_lab.codecs.weights import cards

    have = {card["quality"] for card in cards(args.codec)}
    if not have or args.quality not in {None, *have}:
        loaded(args)  # it says what there is
    return existing(args.image)


def existing(given: str) -> str:
    """The path of an image that is there."""
    path = os.path.expanduser(given)  # of quoted paths; the shell has done the others
    if os.path.isdir(path):
        raise IsADirectoryError(f"{given} is a folder; give an image in it")
    try:
        os.stat(path)
    except FileNotFoundError:
        hint = "download it first" if "://" in given else f"check the path (this folder is {os.getcwd()})"
        raise FileNotFoundError(f"there is no file {given}; {hint}") from None
    return path


def image_files(given: list[str]) -> list[Path]:
    """Files as given, folders by the images in them, Kodak's by default; what is hidden is passed over."""
    from PIL import Image

    known = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: list[Path] = []
    for text in given or [str(shared_data("kodak", "images"))]:
        path = Path(os.path.expanduser(text))
        if not path.is_dir():
            found.append(Path(existing(text)))
            continue
        inside = sorted(p for p in path.glob("[!.]*") if p.suffix.lower() in known and not p.is_dir())
        if not inside:
            raise FileNotFoundError(f"there is no image in the folder {path}; give images, or a folder of them")
        found += inside
    return found


def readable(paths: list[Path]) -> Iterator[Any]:
    """The images, one at a time under a progress bar; what was converted, or can't be read, is told on stderr."""
    from tqdm import tqdm

    from lic_lab.image import ImageError, read

    with tqdm(paths, desc="images") as bar:
        for path in bar:
            try:
                picture = read(path)
            except ImageError as error:
                bar.write(f"left out: {error}", file=sys.stderr)
                continue
            for words in picture.notes:
                bar.write(f"{path} was {words}", file=sys.stderr)
            yield picture.x


def shared_data(name: str, instead: str) -> Path:
    """The folder `name` of ``$LIC_LAB_DATA``; `instead` is what the user may give."""
    root = named("LIC_LAB_DATA")
    if root is None:
        raise FileNotFoundError(f"LIC_LAB_DATA is not set; set it to a folder with {name}/ in it, or give {instead}")
    path = root / name
    if not path.is_dir():
        raise FileNotFoundError(f"LIC_LAB_DATA is {root}, which has no folder {name}; give {instead}")
    return path


def measured(args: argparse.Namespace, path: str) -> Any:
    """Means of a sweep's table, one row per codec and configuration; told where they are not those of the file."""
    from lic_lab.evaluation import results

    found = results.means(path)
    if found.empty:
        raise ValueError(f"{path} has no results; let `lic-lab evaluate` measure something into it")
    if results.behind(path):
        note(args, f"{results.newest(path)} is read, which was changed after {path}")
    return found


def note(args: argparse.Namespace, words: str) -> None:
    """Tell something beside the results, on stderr."""
    print(f"lic-lab {args.command}: {words}", file=sys.stderr)


def print_json(value: Any) -> None:
    """JSON, with null for numbers that it does not have."""
    say(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    """`value` with null for infinity and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(rows: list[dict[str, Any]]) -> None:
    """Columns as wide as their widest entry."""
    if not rows:
        return
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(entry.ljust(width) for entry, width in zip(line, widths, strict=True)).rstrip())

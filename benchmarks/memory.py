"""Peak memory with everything on, against image size, each size in a fresh process. Prints JSON.

    python benchmarks/memory.py [--of trace encode decode] [--quality 2] [--megapixels 0.4 1.6 3.2 8.3]

The figure per pixel of a trace is what `lic_lab.image.MEMORY_PER_PIXEL` states when an image is refused.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

KINDS = ("trace", "encode", "decode")


def peak(what: str, quality: int | None, megapixels: float) -> None:
    """Work on an enlarged photograph and print the process's peak resident memory before and after, in bytes."""
    import numpy as np
    from PIL import Image
    from skimage import data

    import lic_lab as lab

    codec = lab.load("mlic+", quality)
    width = round((megapixels * 1e6 * 1.5) ** 0.5)
    image = Image.fromarray(data.astronaut()).resize((width, round(width / 1.5)))
    small = np.asarray(image)[:128, :128]
    if what == "decode":  # coded by another process: its memory would hide the decoder's
        with tempfile.TemporaryDirectory() as folder:
            image.save(f"{folder}/image.png")
            call = [
                sys.executable,
                "-m",
                "lic_lab.cli",
                "compress",
                "image.png",
                "-q",
                str(codec.quality),
                "-o",
                "a.lic",
            ]
            subprocess.run(call, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            coded = Path(folder, "a.lic").read_bytes()
    lab.decode(lab.encode(codec, small))
    work = {
        "trace": lambda: lab.trace(codec, image),
        "encode": lambda: lab.encode(codec, image),
        "decode": lambda: lab.decode(coded),
    }[what]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pixels = image.width * image.height
    print(json.dumps({"of": what, "pixels": pixels, "before": before, "peak": after, "seconds": round(seconds, 2)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quality", type=int)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.4, 1.6, 3.2, 8.3])
    parser.add_argument("--of", nargs="+", choices=KINDS, default=["trace"])
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        peak(args.of[0], args.quality, args.one)
        return
    rows = []
    for what, megapixels in product(args.of, args.megapixels):
        command = [sys.executable, __file__, "--of", what, "--one", str(megapixels)]
        command += ["--quality", str(args.quality)] if args.quality else []
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        row["bytes_per_pixel"] = round((row["peak"] - row["before"]) / row["pixels"])
        rows.append(row)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

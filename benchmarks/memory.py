"""Peak memory of a trace with everything on, against image size, each size in a fresh process. Prints JSON.

    python benchmarks/memory.py [--quality 2] [--megapixels 0.4 1.6 6.3 8.3]

The figure per pixel is what `lic_lab.image.MEMORY_PER_PIXEL` states when an image is refused.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys


def peak(quality: int | None, megapixels: float) -> None:
    """Trace an enlarged photograph and print the process's peak resident memory before and after, in bytes."""
    import numpy as np
    from PIL import Image
    from skimage import data

    import lic_lab as lab

    codec = lab.load("mlic+", quality)
    width = round((megapixels * 1e6 * 1.5) ** 0.5)
    image = Image.fromarray(data.astronaut()).resize((width, round(width / 1.5)))
    lab.trace(codec, np.asarray(image)[:128, :128])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    trace = lab.trace(codec, image)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"pixels": trace.pixels, "before": before, "peak": after, "patched": trace.patched}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quality", type=int)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.4, 1.6, 3.2, 8.3])
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        peak(args.quality, args.one)
        return
    rows = []
    for megapixels in args.megapixels:
        command = [sys.executable, __file__, "--one", str(megapixels)]
        command += ["--quality", str(args.quality)] if args.quality else []
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        row["bytes_per_pixel"] = round((row["peak"] - row["before"]) / row["pixels"])
        rows.append(row)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

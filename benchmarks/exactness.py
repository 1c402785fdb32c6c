"""What exact arithmetic costs: bits against the float32 estimate, and seconds of the entropy model. Prints JSON.

    python benchmarks/exactness.py [IMAGE ...] [--codec mlic+ --quality 3 --threads 2]

Without images, scikit-image's photographs. `bits_percent` compares the strings, coder's overhead included, with the
float32 estimate; `seconds` are of the entropy part, in turns: the float32 loop (estimate), exact decoding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import skimage.data
import torch

import lic_lab as lab
from lic_lab.image import pad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="*")
    parser.add_argument("--codec", default="mlic+")
    parser.add_argument("--quality", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    codec = lab.load(args.codec, args.quality)
    images = args.images or [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    percents, seconds = [], {"float32": [], "exact": []}
    for image in images:
        x = pad(lab.read_image(image))[0]
        coded = codec.encode(x)
        with torch.no_grad():
            y = codec.g_a(x)
            start = time.perf_counter()
            side = codec.side(y)
            likelihoods = codec.entropy(y, side.hyper).likelihoods
            middle = time.perf_counter()
        assert torch.equal(codec.decode(coded.strings, coded.shape), coded.y_hat)
        seconds["exact"].append(time.perf_counter() - middle)
        seconds["float32"].append(middle - start)
        bits = sum(float(-p.double().log2().sum()) for p in (likelihoods, side.likelihoods) if p is not None)
        percents.append(100 * (8 * sum(map(len, coded.strings)) / bits - 1))
    report = {
        "codec": codec.name,
        "quality": codec.quality,
        "images": len(images),
        "threads": args.threads,
        "bits_percent": {"mean": round(statistics.mean(percents), 4), "worst": round(max(percents), 4)},
        "seconds": {kind: round(statistics.median(found), 4) for kind, found in seconds.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""What exact arithmetic costs: bits against the float32 estimate, dB of the picture, and seconds. Prints JSON.

    python benchmarks/exactness.py [IMAGE ...] [--codec mlic+ --quality 3 --threads 2]

Without images, scikit-image's photographs. `bits_percent` compares the strings, coder's overhead included, with the
float32 estimate. `seconds` are medians: of the entropy part, the float32 loop (estimate) and exact decoding; of g_s, in
float32 and exactly; and of `lab.decode` as a whole, and as it would be with g_s in float32. `picture` compares g_s of
one latent, exactly and in float32: PSNR lost, and the share of 8-bit samples that differ. Each picture is decoded by
one thread too, and has to be the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import skimage.data
import torch

import lic_lab as lab
from lic_lab.evaluation.quality import psnr
from lic_lab.image import to_uint8


def estimated(codec, y):
    side = codec.side(y)
    return side, codec.entropy(y, side.hyper)


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
    percents, lost, differ = [], [], []
    seconds = {name: [] for name in ("entropy, float32", "entropy", "g_s, float32", "g_s", "decode")}

    def timed(name, work, *given):
        start = time.perf_counter()
        found = work(*given)
        seconds[name].append(time.perf_counter() - start)
        return found

    for image in images:
        x = lab.read_image(image)
        pixels = to_uint8(x)
        data = lab.encode(codec, x)
        coded = codec.encode(x)
        shape = coded.geometry
        with torch.no_grad():
            y, _ = codec.analyse(x)
            side, estimate = timed("entropy, float32", estimated, codec, y)
            y_hat = timed("entropy", codec.decode, coded.strings, shape)
            assert torch.equal(y_hat, coded.y_hat)
            rough = to_uint8(timed("g_s, float32", codec.synthesise, y_hat.float(), shape))
            picture = to_uint8(timed("g_s", codec.picture, y_hat, shape))
        assert np.array_equal(timed("decode", lab.decode, data), picture)
        torch.set_num_threads(1)
        assert np.array_equal(lab.decode(data), picture)
        torch.set_num_threads(args.threads)
        lost.append(psnr(pixels, rough) - psnr(pixels, picture))
        differ.append(float((rough != picture).mean()))
        bits = sum(float(-p.double().log2().sum()) for p in (estimate.likelihoods, side.likelihoods) if p is not None)
        percents.append(100 * (8 * sum(map(len, coded.strings)) / bits - 1))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    medians["decode, g_s in float32"] = medians["decode"] - medians["g_s"] + medians["g_s, float32"]
    report = {
        "codec": codec.name,
        "quality": codec.quality,
        "images": len(images),
        "threads": args.threads,
        "bits_percent": {"mean": round(statistics.mean(percents), 4), "worst": round(max(percents), 4)},
        "picture": {
            "psnr_lost_db": {"mean": round(statistics.mean(lost), 6), "worst": round(max(lost), 6)},
            "samples_that_differ": round(statistics.mean(differ), 6),
        },
        "seconds": {name: round(value, 3) for name, value in medians.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""A codec, by default the shared latent with everything on, against JPEG, JPEG 2000 and WebP at equal bpp: JSON.

    python benchmarks/rate_distortion.py [IMAGES...] [--codec shared] [--quality 2 3]

Images default to ``$LIC_LAB_DATA/kodak``. Each image's bpp under our codec is the rate at which each classical codec's
PSNR is read off, between its two nearest settings; PSNR (RGB, 8 bits) is then averaged over the images.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

import lic_lab as lab
from lic_lab.codecs.weights import cards
from lic_lab.evaluation.classical import psnr_at

ANCHORS = ("jpeg", "jpeg2000", "webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--quality", nargs="+", type=int)
    parser.add_argument("--codec", default="shared")
    args = parser.parse_args()
    images = args.images or sorted((Path(os.environ["LIC_LAB_DATA"]) / "kodak").glob("*.png"))
    result = []
    for quality in args.quality or [card["quality"] for card in cards(args.codec)]:
        codec = lab.load(args.codec, quality)
        rows = []
        for image in tqdm(images, desc=f"quality {quality}"):
            trace = lab.trace(codec, image, keep=lambda name: False)
            bpp = trace.bpp["total"]
            rows.append([bpp, trace.psnr, *(psnr_at(trace.x, name, bpp) for name in ANCHORS)])
        means = np.mean(rows, axis=0)
        result.append(
            {
                "quality": quality,
                "lambda": codec.lmbda,
                "images": len(images),
                "bpp": round(float(means[0]), 4),
                "psnr": round(float(means[1]), 3),
                "psnr_at_equal_bpp": dict(zip(ANCHORS, np.round(means[2:], 3).tolist(), strict=True)),
                "images_better_than": {
                    name: int(sum(row[1] > row[k + 2] for row in rows)) for k, name in enumerate(ANCHORS)
                },
            }
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

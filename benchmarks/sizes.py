"""Bytes of y and z when only what lies on the picture is coded, against padding it to multiples of 64, as JSON.

    python benchmarks/sizes.py KODAK/*.png [--codec mlic+] [--quality 3] [--each 2]

At ten sizes, crops from the middle of the images; and the images whole. Padding repeats the last row and column, as
version 3 of the .lic file did because z wanted it.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor
from tqdm import tqdm

import lic_lab as lab
from lic_lab.codecs.codec import Codec
from lic_lab.image import pad

SIZES = [
    (33, 49),
    (65, 65),
    (97, 130),
    (100, 150),
    (200, 300),
    (240, 320),
    (257, 385),
    (333, 500),
    (400, 511),
    (450, 510),
]


def strings(codec: Codec, x: Tensor) -> int:
    """Bytes of all strings."""
    return sum(map(len, codec.encode(x).strings))


def row(codec: Codec, images: list[Tensor], name: str) -> dict[str, object]:
    """Sums over the images."""
    padded = [pad(x, (-(-x.shape[2] // 64) * 64, -(-x.shape[3] // 64) * 64)) for x in images]
    ours, theirs = (sum(strings(codec, x) for x in of) for of in (images, padded))
    return {
        "size": name,
        "images": len(images),
        "bytes": ours,
        "padded_to_64": theirs,
        "saved": round(1 - ours / theirs, 4),
    }


def middle(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width].contiguous()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--codec", default="mlic+")
    parser.add_argument("--quality", type=int, default=3)
    parser.add_argument(
        "--each", type=int, default=2, help="images at each size; none is taken twice while there are more"
    )
    args = parser.parse_args()
    codec = lab.load(args.codec, args.quality)
    images = [lab.read_image(path) for path in args.images]
    rows = []
    for k, size in enumerate(tqdm(SIZES, unit="size", disable=None)):
        taken = [images[(args.each * k + j) % len(images)] for j in range(args.each)]
        rows.append(row(codec, [middle(x, *size) for x in taken], "{} x {}".format(*size)))
    rows.append(row(codec, images[: args.each], "whole"))
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

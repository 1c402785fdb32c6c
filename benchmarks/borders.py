"""What lies beyond the picture when it is coded: zeros, as g_a's convolutions have them, or the picture continued.

    python benchmarks/borders.py KODAK/*.png [--codec mlic+] [--quality 2 3 4] [--positions 1 2]

g_a sees the picture with some positions more on each side, replicated or reflected, and y is cut back to the picture.
The decoder is the same. Printed as JSON: the change of bpp, PSNR and loss (lambda 255^2 MSE + bpp) over the images.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import lic_lab as lab
from lic_lab.codecs.codec import Codec
from lic_lab.codecs.geometry import Geometry
from lic_lab.image import pad


def beyond(codec: Codec, x: Tensor, mode: str, positions: int) -> tuple[Tensor, Geometry]:
    """y of an image that goes on for some positions on each side, and the image's geometry."""
    geometry = codec.geometry(x.shape[2], x.shape[3])
    x = pad(x, geometry.covered)
    if positions == 0:
        return codec.g_a(x), geometry
    more = positions * geometry.stride
    y = codec.g_a(torch.nn.functional.pad(x, (more,) * 4, mode=mode))
    return y[:, :, positions:-positions, positions:-positions].contiguous(), geometry


def cost(codec: Codec, x: Tensor, mode: str, positions: int) -> tuple[float, float, float]:
    """bpp, PSNR of the 8-bit picture, and loss."""
    y, geometry = beyond(codec, x, mode, positions)
    side = codec.side(y)
    coded = codec.entropy(y, side.hyper)
    bits = sum(-float(p.double().log2().sum()) for p in (coded.likelihoods, side.likelihoods))
    x_hat = (codec.synthesise(coded.y_hat, geometry).clamp(0, 1) * 255).round() / 255
    mse, bpp = float((x - x_hat).square().mean()), bits / (x.shape[2] * x.shape[3])
    return bpp, -10 * np.log10(mse), codec.lmbda * 255**2 * mse + bpp


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--codec", default="mlic+")
    parser.add_argument("--quality", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--positions", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    ways = [("zeros", 0), *((mode, n) for mode in ("replicate", "reflect") for n in args.positions)]
    report = []
    for quality in args.quality:
        codec = lab.load(args.codec, quality)
        found = np.array(
            [
                [cost(codec, x, *way) for way in ways]
                for x in (lab.read_image(path) for path in tqdm(args.images, unit="image", disable=None))
            ]
        )  # (images, ways, 3)
        for k, (mode, positions) in enumerate(ways[1:], 1):
            change = found[:, k] - found[:, 0]
            report.append(
                {
                    "quality": quality,
                    "beyond": mode,
                    "positions": positions,
                    "bpp_percent": round(100 * float(change[:, 0].mean() / found[:, 0, 0].mean()), 3),
                    "psnr_db": round(float(change[:, 1].mean()), 4),
                    "loss_percent": round(100 * float(change[:, 2].mean() / found[:, 0, 2].mean()), 3),
                    "loss_percent_best_worst": [
                        round(100 * float(f(change[:, 2] / found[:, 0, 2])), 2) for f in (np.min, np.max)
                    ],
                }
            )
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""Encode and decode times of our baselines against CompressAI's classes of the same size, in one run, as JSON.

    python benchmarks/codec_speed.py [--height 512 --width 768 --repeat 3 --threads 2]

Both code the same photograph with random weights, in turns, and the median counts. The transform's weights are the same
and sigma is near 1 in both, so that they code like symbols in streams of like length, which is printed. A ratio below 1
means that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from typing import Any

import skimage.data
import torch
from torch import Tensor

warnings.filterwarnings("ignore", category=FutureWarning)

from compressai.models import (  # noqa: E402
    CompressionModel,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
)

from lic_lab.codecs import registry  # noqa: E402

PAIRS = {"mean-scale": MeanScaleHyperprior, "joint-autoregressive": JointAutoregressiveHierarchicalPriors}


def photograph(height: int, width: int) -> Tensor:
    """Chelsea, tiled by mirroring to any size: (1, 3, H, W) in [0, 1]."""
    x = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None].contiguous().float() / 255
    while x.shape[2] < height:
        x = torch.cat((x, x.flip(2)), 2)
    while x.shape[3] < width:
        x = torch.cat((x, x.flip(3)), 3)
    return x[:, :, :height, :width].contiguous()


def seconds(codec: CompressionModel, x: Tensor) -> tuple[float, float, int]:
    """Time to encode, to decode, and the bytes written."""
    with torch.no_grad():
        start = time.perf_counter()
        coded = codec.compress(x)
        middle = time.perf_counter()
        codec.decompress(coded["strings"], coded["shape"])
    return middle - start, time.perf_counter() - middle, sum(len(s[0]) for s in coded["strings"])


def compare(name: str, size: str, x: Tensor, repeat: int) -> dict[str, Any]:
    torch.manual_seed(0)
    ours = registry.create(name, size).eval()
    theirs = PAIRS[name](**type(ours).SIZES[size]).eval()
    with torch.no_grad():  # symbols other than zero, and sigma = 1 in theirs as exp(0) = 1 is in ours
        theirs.g_a[-1].weight *= 20
        last = theirs.entropy_parameters[-1] if hasattr(theirs, "entropy_parameters") else theirs.h_s[-1]
        last.bias[: len(last.bias) // 2] += 1
    ours.g_a.load_state_dict(theirs.g_a.state_dict())
    ours.g_s.load_state_dict(theirs.g_s.state_dict())
    for codec in (ours, theirs):
        codec.update()
        seconds(codec, x[:, :, :64, :64].contiguous())  # warm up
    found: dict[str, list[tuple[float, float, int]]] = {"ours": [], "compressai": []}
    for _ in range(repeat):
        for who, codec in (("ours", ours), ("compressai", theirs)):
            found[who].append(seconds(codec, x))
    median = {
        who: {
            "encode_s": round(statistics.median(run[0] for run in runs), 4),
            "decode_s": round(statistics.median(run[1] for run in runs), 4),
            "bytes": runs[0][2],
        }
        for who, runs in found.items()
    }
    return {
        "codec": name,
        "size": size,
        **median,
        "encode_ratio": round(median["ours"]["encode_s"] / median["compressai"]["encode_s"], 3),
        "decode_ratio": round(median["ours"]["decode_s"] / median["compressai"]["decode_s"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--height", type=int, default=512, help="pixels, a multiple of 64")
    parser.add_argument("--width", type=int, default=768, help="pixels, a multiple of 64")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", choices=("paper", "small"), default="paper")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x = photograph(args.height, args.width)
    report = {
        "image": [args.height, args.width],
        "threads": args.threads,
        "repeat": args.repeat,
        "codecs": [compare(name, args.size, x, args.repeat) for name in PAIRS],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

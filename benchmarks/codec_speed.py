"""Encode and decode times of our codecs against CompressAI's classes of like kind, in one run, as JSON.

    python benchmarks/codec_speed.py [--only joint-autoregressive] [--height 512 --width 768 --repeat 5 --threads 2]

Both code the same photograph with random weights, in turns, and the median counts. Each has a process of its own, so
that neither finds memory that the other has left warm. Latent and sigma are scaled to be alike in both, so that they
code like symbols in streams of like length, which is printed. Where the class is the same, N and M are the same and the
ratio is of seconds; else it is of seconds per parameter. Below 1 ours is faster.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import skimage.data
import torch
from torch import Tensor

warnings.filterwarnings("ignore", category=FutureWarning)

from compressai.models import (  # noqa: E402
    Cheng2020Anchor,
    Cheng2020AnchorCheckerboard,
    CompressionModel,
    Elic2022Official,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
)

from lic_lab.codecs import registry  # noqa: E402
from lic_lab.codecs.codec import Codec  # noqa: E402

# ours, theirs, their sizes (None: ours), ratio per parameter
PAIRS: list[tuple[str, type[CompressionModel], dict[str, int] | None, bool]] = [
    ("mean-scale", MeanScaleHyperprior, None, False),
    ("joint-autoregressive", JointAutoregressiveHierarchicalPriors, None, False),
    ("joint-autoregressive", Cheng2020Anchor, {"N": 192}, False),
    ("charm", Elic2022Official, {}, True),
    ("mlic", Cheng2020AnchorCheckerboard, {"N": 192}, True),
    ("mlic", Elic2022Official, {}, True),
    ("mlic+", Elic2022Official, {}, True),
]


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


def layers(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Its convolutions; the last one's output is the module's."""
    return [m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]


@torch.no_grad()
def liven(codec: CompressionModel, x: Tensor) -> None:
    """Scale the latent to deviate by 2, and raise CompressAI's sigma to about 1, as exp(0) = 1 is in ours."""
    layer = layers(codec.g_a)[-1]
    factor = 2 / codec.g_a(x).std()
    layer.weight *= factor
    layer.bias *= factor
    if not isinstance(codec, Codec):
        networks = [layers(m) for name, m in codec.named_modules() if name.endswith("entropy_parameters")]
        for network in [found for found in networks if found] or [layers(codec.h_s)]:
            bias = network[-1].bias
            bias[: len(bias) // 2] += 1


def worker(
    pipe: Connection,
    make: Callable[..., CompressionModel],
    sizes: dict[str, int],
    x: Tensor,
    threads: int,
) -> None:
    """One side: answers each message with a run's `seconds`, the first with the number of parameters."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    codec = make(**sizes).eval()
    small = x[:, :, :256, :256].contiguous()
    liven(codec, small)
    codec.update()
    for _ in range(2):
        seconds(codec, small)  # warm up
    pipe.send(sum(p.numel() for p in codec.parameters()))
    while pipe.recv():
        pipe.send(seconds(codec, x))


def compare(
    name: str,
    peer: type[CompressionModel],
    sizes: dict[str, int] | None,
    per_parameter: bool,
    size: str,
    x: Tensor,
    repeat: int,
    threads: int,
) -> dict[str, Any]:
    ours = registry.entry(name).load()
    sides: dict[str, tuple[Callable[..., CompressionModel], dict[str, int]]] = {
        "ours": (ours, ours.SIZES[size]),
        "compressai": (peer, ours.SIZES[size] if sizes is None else sizes),
    }
    spawn = multiprocessing.get_context("spawn")
    pipes, processes, parameters = {}, [], {}
    for who, (make, dimensions) in sides.items():
        pipes[who], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=worker, args=(theirs, make, dimensions, x, threads)))
        processes[-1].start()
        parameters[who] = pipes[who].recv()  # the other side starts when this one is ready
    found: dict[str, list[tuple[float, float, int]]] = {who: [] for who in sides}
    for _ in range(repeat):
        for who, pipe in pipes.items():
            pipe.send(True)
            found[who].append(pipe.recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(False)
        process.join()
    median = {
        who: {
            "encode_s": round(statistics.median(run[0] for run in runs), 4),
            "decode_s": round(statistics.median(run[1] for run in runs), 4),
            "bytes": runs[0][2],
            "parameters": parameters[who],
        }
        for who, runs in found.items()
    }
    scale = parameters["compressai"] / parameters["ours"] if per_parameter else 1.0
    return {
        "codec": name,
        "against": peer.__name__,
        "size": size,
        "ratio_of": "seconds per parameter" if per_parameter else "seconds",
        **median,
        "encode_ratio": round(median["ours"]["encode_s"] / median["compressai"]["encode_s"] * scale, 3),
        "decode_ratio": round(median["ours"]["decode_s"] / median["compressai"]["decode_s"] * scale, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--height", type=int, default=512, help="pixels, a multiple of 64")
    parser.add_argument("--width", type=int, default=768, help="pixels, a multiple of 64")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", choices=("paper", "small"), default="paper")
    parser.add_argument("--only", nargs="+", metavar="CODEC", help="some of our codecs")
    args = parser.parse_args()
    x = photograph(args.height, args.width)
    report = {
        "image": [args.height, args.width],
        "threads": args.threads,
        "repeat": args.repeat,
        "codecs": [
            compare(*pair, args.size, x, args.repeat, args.threads)
            for pair in PAIRS
            if not args.only or pair[0] in args.only
        ],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""Time and memory of the global reference's search against one written from Eq. 4 (Qian et al. 2021). Prints JSON.

    python benchmarks/reference_search.py [--channels 128] [--sizes 240p 4k] [--repeat 3] [--threads 2]

    forward    all positions at once, float32, as a training's estimate searches
    coding     wavefront by wavefront in exact arithmetic, float64, as encoder and decoder search
    plain      normalise, matrix of all pairs, mask, argmax, float32

All three get the same latent, smooth noise rounded; the first two use it as `RasterReference` does. Each runs in a
fresh process, of which the peak memory above the latent and the list of steps counts; the median of times, the first
run's memory. They must find the same positions; where rounding chooses between equally similar ones, their
similarities are compared. Where other work keeps the cores busy, believe cpu_seconds with --threads 1. Linux with
glibc.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

warnings.filterwarnings("ignore", category=FutureWarning)

from lic_lab.entropy.contexts.local import CHUNK, window  # noqa: E402
from lic_lab.entropy.order import CodingOrder  # noqa: E402
from lic_lab.evaluation.reference_complexity import TABLE_3  # noqa: E402
from lic_lab.layers.exact import exact  # noqa: E402
from lic_lab.layers.nearest import Past  # noqa: E402

SIZES = {  # pixels: width, height
    "240p": (426, 240),
    "360p": (640, 360),
    "480p": (854, 480),
    "512x768": (768, 512),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "4k": (3840, 2160),
}
STRIDE, KERNEL, SLOPE = 16, 3, 3  # pixels to a position, of the patches, of the wavefronts
CELLS = torch.arange(KERNEL**2 // 2)  # of a window: above, and left of the centre
TOLERANCE = 1e-6  # of cosines computed in float32
Found = tuple[Tensor, Tensor]  # similarity, and flat position, of each position's most similar one


def latent(height: int, width: int, channels: int) -> Tensor:
    """Integers (1, channels, height, width) smooth in space, a few channels strong and most nearly zero."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, channels, height // 4 + 2, width // 4 + 2, generator=g)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic")
    scales = 12 * torch.arange(1, channels + 1)[:, None, None] ** -0.7
    return torch.round(scales * (smooth + 0.3 * torch.randn(smooth.shape, generator=g)))


def patches(y: Tensor, at: Tensor) -> Tensor:
    return window(y, at, CELLS, KERNEL).flatten(2)


def wavefronts(y: Tensor) -> tuple[Tensor, Tensor]:
    """Flat positions in the order of coding, and the wavefront of each."""
    H, W = y.shape[2:]
    at = torch.arange(H * W)
    fronts = at % W + SLOPE * (at // W)
    order = fronts.argsort(stable=True)
    return order, fronts[order]


def forward(y: Tensor) -> Found:
    at, fronts = wavefronts(y)
    past = Past(y, len(at), y.shape[1] * len(CELLS))
    chunks = list(zip(at.split(CHUNK), fronts.split(CHUNK), strict=True))
    for some, times in chunks:
        past.add(patches(y, some), times)
    found = [past.most_similar(patches(y, some), times) for some, times in chunks]
    similarity, best = (torch.cat(of, 1)[0] for of in zip(*found, strict=True))
    return _by_position(at, similarity, at[best])


def coding(y: Tensor) -> Found:
    H, W = y.shape[2:]
    steps = CodingOrder((y.shape[1],), pattern="wavefront", kernel=2 * SLOPE - 1).steps(H, W)  # kept after the first
    past = Past(y, H * W, y.shape[1] * len(CELLS))
    known = torch.cat([step.positions for step in steps if step.positions is not None])
    similarity, best = torch.empty(H * W), torch.empty(H * W, dtype=torch.long)
    for front, step in enumerate(steps):
        assert step.positions is not None
        with exact():
            queries, times = patches(y, step.positions), torch.full((len(step.positions),), front)
            found = past.most_similar(queries, times)
            past.add(queries, times)
        similarity[step.positions], best[step.positions] = found[0][0].float(), known[found[1][0]]
    return similarity, best


def plain(y: Tensor) -> Found:
    at, fronts = wavefronts(y)
    q = patches(y, at)[0]
    q = q / q.norm(dim=1, keepdim=True).clamp(min=1e-12)
    r = q @ q.T
    r[fronts[None, :] >= fronts[:, None]] = -torch.inf
    similarity, best = r.max(1)
    similarity = torch.where(similarity.isfinite(), similarity, torch.zeros_like(similarity))
    return _by_position(at, similarity, at[best])


def _by_position(at: Tensor, similarity: Tensor, best: Tensor) -> Found:
    inverse = at.argsort()
    return similarity[inverse], best[inverse]


WAYS: dict[str, Callable[[Tensor], Found]] = {"forward": forward, "coding": coding, "plain": plain}


def resident(which: str) -> int:
    """Of this process, in bytes: memory now (VmRSS) or its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


@torch.no_grad()
def one(way: str, size: str, channels: int, repeat: int, threads: int, file: str) -> None:
    """Search in this process; prints seconds and bytes, and leaves the positions in `file`."""
    torch.set_num_threads(threads)
    height, width = shape(size)
    kind = torch.float64 if way == "coding" else torch.float32
    WAYS[way](latent(12, 16, channels).to(kind))  # warm up
    y = latent(height, width, channels).to(kind)
    CodingOrder((channels,), pattern="wavefront", kernel=2 * SLOPE - 1).steps(height, width)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed so far would hide what the search takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now
    before, peaks, seconds, cpu = resident("VmRSS"), [], [], []
    for _ in range(repeat):
        start, start_cpu = time.perf_counter(), time.process_time()
        found = WAYS[way](y)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        peaks.append(resident("VmHWM"))
    np.savez(file, similarity=found[0].numpy(), best=found[1].numpy())
    report = {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu)}
    print(json.dumps({**{k: round(v, 4) for k, v in report.items()}, "extra_mb": round((peaks[0] - before) / 1e6, 1)}))


def shape(size: str) -> tuple[int, int]:
    """Rows and columns of the latent."""
    width, height = SIZES[size]
    return -(-height // STRIDE), -(-width // STRIDE)


def too_large(size: str, channels: int) -> str | None:
    """Why the plain search can't run: its matrix and mask against the machine's free memory."""
    n = shape(size)[0] * shape(size)[1]
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    needed = n**2 * (4 + 1) + 3 * n * channels * len(CELLS) * 4
    return f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free" if needed > 0.9 * free else None


def compare(size: str, channels: int, found: dict[str, Any], expected: Any) -> dict[str, Any]:
    """How many positions differ from the plain search's, and by how much their exact cosines do at most."""
    q = patches(latent(*shape(size), channels), torch.arange(len(found["best"])))[0].double()
    norms = q.norm(dim=1)
    differ = np.flatnonzero(found["best"] != expected["best"])
    a, b = (
        (q[differ] * q[other["best"][differ]]).sum(1) / (norms[differ] * norms[other["best"][differ]]).clamp(min=1e-12)
        for other in (found, expected)
    )
    largest = float((b - a).max()) if len(differ) else 0.0
    assert largest < TOLERANCE, f"{size}: a position {largest} more similar was missed"
    ties = int(((b - a).abs() < 1e-14).sum())
    return {"different": len(differ), "of_them_ties": ties, "most_missed": largest}


def row(size: str, args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            reason = too_large(size, args.channels) if way == "plain" else None
            if reason:
                measured[way] = {"skipped": reason}
                continue
            command = [sys.executable, __file__, "--one", way, "--sizes", size, "--file", f"{folder}/{way}.npz"]
            command += ["--channels", str(args.channels), "--repeat", str(args.repeat), "--threads", str(args.threads)]
            measured[way] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            found[way] = dict(np.load(f"{folder}/{way}.npz"))
    n = shape(size)[0] * shape(size)[1]
    against = "plain" if "plain" in found else "coding"
    return {
        "size": size,
        "pixels": list(SIZES[size]),
        "positions": n,
        "published_percent_of_entropy_model": TABLE_3[size][1],
        **measured,
        "forward_to_plain": _ratios(measured, "forward"),
        "coding_to_plain": _ratios(measured, "coding"),
        f"positions_found_unlike_{against}": {
            way: compare(size, args.channels, found[way], found[against]) for way in found if way != against
        },
    }


def _ratios(measured: dict[str, Any], way: str) -> dict[str, float] | None:
    plain = measured["plain"]
    if "skipped" in plain:
        return None
    return {of: round(measured[way][of] / plain[of], 3) for of in ("seconds", "cpu_seconds")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--channels", type=int, default=128, help="of the latent; 384 in the paper")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.sizes[0], args.channels, args.repeat, args.threads, args.file)
        return
    report = {"channels": args.channels, "threads": args.threads, "repeat": args.repeat}
    print(json.dumps({**report, "sizes": [row(size, args) for size in args.sizes]}, indent=2))


if __name__ == "__main__":
    main()

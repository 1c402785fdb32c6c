"""Mutated streams against the decoder: every one must end in a BitstreamError. Prints counts by cause as JSON.

    python benchmarks/fuzz.py [--streams 100000] [--pictures 20000] [--seed 0] [--codec mlic+] [--quality 2]

A stream of a small photograph is cut, flipped, spliced, extended, and its fields are forged. Some mutants keep their
wrong checksum; many get a right one, so that they reach the checks behind it; one in a hundred is forged in its strings
alone, so that the entropy coder runs on bytes that no encoder wrote. Of all streams `--pictures` are right up to the
latent, and the picture's checksum is another: of the picture of a latent that differs in one symbol by one, or any
number. The process's memory is watched; a crash or a hang ends the run.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import skimage.data
from torch import Tensor
from tqdm import tqdm

import lic_lab as lab
from lic_lab.codecs.bitstream import Bitstream, BitstreamError
from lic_lab.codecs.codec import Codec
from lic_lab.image import to_uint8

Mutation = Callable[[random.Random, bytearray], bytearray]


def flip(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_header(rng: random.Random, data: bytearray) -> bytearray:
    data[rng.randrange(54)] ^= 1 << rng.randrange(8)
    return data


def cut(rng: random.Random, data: bytearray) -> bytearray:
    return data[: rng.randrange(len(data))]


def extend(rng: random.Random, data: bytearray) -> bytearray:
    return data + rng.randbytes(rng.choice((1, 4, 4096)))


def splice(rng: random.Random, data: bytearray) -> bytearray:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    c = rng.randrange(len(data))
    return data[:a] + data[c : c + b - a] + data[b:]


def extreme(rng: random.Random, data: bytearray) -> bytearray:
    """A number in the header becomes one that programs trip over."""
    at = rng.randrange(50)
    value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000))
    data[at : at + 4] = struct.pack("<I", value)
    return data


def garbage(rng: random.Random, data: bytearray) -> bytearray:
    return bytearray(rng.randbytes(rng.randrange(300)))


MUTATIONS: tuple[Mutation, ...] = (flip, flip_header, cut, extend, splice, extreme, garbage)
SLOW = (flip, splice)  # with a right checksum these are decoded to the end, so few get one


def forged(rng: random.Random, stream: Bitstream) -> bytes:
    """Strings that no encoder wrote, in a file that is right in all else."""
    y, z = (bytearray(string) for string in stream.strings)
    kind = rng.randrange(5)
    if kind == 0:
        y = flip(rng, y)
    elif kind == 1:
        z = flip(rng, z)
    elif kind == 2:
        y = y[: rng.randrange(len(y))]
    elif kind == 3:
        y, z = bytearray(rng.randbytes(len(y))), bytearray(rng.randbytes(len(z)))
    else:  # all ones: every symbol an escape that promises as many digits as it can
        start, length = rng.randrange(len(y)), rng.choice((len(y), 2**12, 2**16))
        y[start:] = b"\xff" * length
    return replace(stream, strings=(bytes(y), bytes(z))).to_bytes()


def other_picture(rng: random.Random, codec: Codec, y_hat: Tensor, stream: Bitstream) -> bytes:
    """Right strings and a right latent, but the checksum of another picture, or a number in its place.

    The other picture is that of a latent of which one symbol is another by one.
    """
    if rng.random() < 0.5:
        picture = rng.randrange(2**32)
    else:
        other = y_hat.clone()
        at = rng.randrange(other.numel())
        other.view(-1)[at] += rng.choice((-1, 1))
        geometry = codec.geometry(stream.height, stream.width)
        picture = stream.picture_checksum(to_uint8(codec.picture(other, geometry)))
    return replace(stream, picture=picture).to_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codec", default="mlic+")
    parser.add_argument("--quality", type=int, default=2)
    parser.add_argument("--side", type=int, default=20, help="pixels of the photograph")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    codec = lab.load(args.codec, args.quality)
    if args.codec in ("mlic", "mlic+"):
        codec = codec.swap(local="none", global_="none")  # fewer steps, faster
    pixels = skimage.data.astronaut()[: args.side, 150 : 150 + args.side]
    whole = lab.encode(codec, pixels)
    stream = Bitstream.from_bytes(whole)
    picture = lab.decode(whole)
    y_hat = codec.decode(stream.strings, codec.geometry(stream.height, stream.width))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    causes: Counter[str] = Counter()
    slowest, began = 0.0, time.perf_counter()
    for k in tqdm(range(args.streams), unit="stream", disable=None):
        if k * args.pictures // args.streams != (k + 1) * args.pictures // args.streams:
            data = other_picture(rng, codec, y_hat, stream)
        elif k % 100 == 0:
            data = forged(rng, stream)
        else:
            mutation = rng.choice(MUTATIONS)
            mutant = mutation(rng, bytearray(whole))
            if rng.random() < (0.1 if mutation in SLOW else 0.7) and len(mutant) > 4:
                mutant = mutant[:-4] + zlib.crc32(mutant[:-4]).to_bytes(4, "little")
            data = bytes(mutant)
        start = time.perf_counter()
        try:
            found = lab.decode(data, max_pixels=2**16)
        except BitstreamError as error:
            causes[type(error).__name__] += 1
        else:
            if not (found == picture).all():
                sys.exit(f"stream {k} (seed {args.seed}) decoded to a wrong picture: {data.hex()}")
            causes["unchanged in effect, right picture"] += 1
        slowest = max(slowest, time.perf_counter() - start)
    report = {
        "streams": args.streams,
        "causes": dict(causes.most_common()),
        "slowest_s": round(slowest, 3),
        "seconds": round(time.perf_counter() - began, 1),
        "memory_grown_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

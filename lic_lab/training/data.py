"""Training images, decoded once into one memory-mapped file, and random crops of them.

A crop is a pure function of its seed, so a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lic_lab.image import read, to_uint8
from lic_lab.training.folders import cache

LARGEST_TO_TRAIN_ON = 150_000_000  # pixels: crops are small, so only decoding needs the memory
READER = 2  # another number when images are read otherwise, so that none is kept as it was read before
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Photographs:
    """A folder of images as one flat uint8 array.

    The decoded images are kept in the cache as one file a folder, for as long as the folder is there and its files have
    the same bytes.

    Parameters
    ----------
    folder : path
        Searched for images, not recursively.
    smallest : int
        Images with a shorter side than this are left out.

    Attributes
    ----------
    digest : str
        SHA-256 of the files' bytes, wherever the folder is.

    Raises
    ------
    FileNotFoundError
        When the folder holds no image that is large enough.
    ImageError
        When one of them can't be read; the message names it.
    """

    def __init__(self, folder: str | Path, smallest: int = 256):
        folder = Path(folder).resolve()
        found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(f"no images in {folder}; give a folder of {', '.join(SUFFIXES)} files")
        pack, self.digest = _packed(folder, found)
        header, start = _header(pack)
        sizes = np.array(header["sizes"], dtype=np.int64)  # (images, 2)
        starts = np.cumsum(sizes.prod(1) * 3) - sizes.prod(1) * 3
        enough = sizes.min(1) >= smallest
        if not enough.any():
            raise FileNotFoundError(f"no image in {folder} has both sides of at least {smallest} pixels")
        self.sizes, self.starts = sizes[enough], starts[enough]
        self._flat = np.memmap(pack, dtype=np.uint8, mode="r", offset=start)
        self._weights = self.sizes.prod(1) / self.sizes.prod(1).sum()

    def __len__(self) -> int:
        return len(self.sizes)

    def image(self, i: int) -> Tensor:
        """Image `i`, uint8 (H, W, 3)."""
        H, W = self.sizes[i]
        start = self.starts[i]
        return torch.from_numpy(np.array(self._flat[start : start + H * W * 3])).view(int(H), int(W), 3)

    def crops(self, count: int, size: int, seed: tuple[int, ...]) -> Tensor:
        """Random crops, flipped at random: float (count, 3, size, size) in [0, 1].

        Images are drawn in proportion to their area, so every pixel is as likely as any other.
        """
        rng = np.random.default_rng(seed)
        out = np.empty((count, size, size, 3), np.uint8)
        for crop, i in zip(out, rng.choice(len(self.sizes), count, p=self._weights), strict=True):
            H, W = self.sizes[i]
            top, left = rng.integers(H - size + 1), rng.integers(W - size + 1)
            pixels = self._flat[self.starts[i] : self.starts[i] + H * W * 3].reshape(H, W, 3)
            crop[:] = pixels[top : top + size, left : left + size][:, :: rng.choice((-1, 1))]
        return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().float().div_(255)


def _packed(folder: Path, found: list[Path]) -> tuple[Path, str]:
    """The cache's file of these images, a line of JSON that says what they are, then their pixels; and their digest.

    Names, sizes and times don't tell one file from another (copies keep them), and a gigabyte is hashed in a second.
    It is written beside, under a name that the next packing takes again, and moved when it is whole. Files of this
    folder as it was before, and of folders that are gone, are removed.
    """
    digest = hashlib.sha256(b"".join(map(_sha256, found))).hexdigest()
    key = hashlib.sha256(json.dumps([str(folder), digest, READER]).encode()).hexdigest()
    kept = cache("photographs")
    pack = kept / f"{key[:16]}.pack"
    if pack.exists():  # to read it needs no permission to write
        return pack, digest
    with open(kept / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one packing at a time; it is let go when the process ends, however it ends
        if not pack.exists():
            part = kept / "unfinished"
            with open(part, "wb") as out:
                sizes: list[tuple[int, ...]] = []
                room = len(json.dumps(str(folder))) + 40 * (len(found) + 1)  # for the line, which is known at the end
                out.write(b" " * room + b"\n")
                for path in tqdm(found, desc="decoding the training images", unit="image"):
                    pixels = to_uint8(read(path, largest=LARGEST_TO_TRAIN_ON).x)
                    sizes.append(pixels.shape[:2])
                    out.write(pixels.tobytes())
                out.seek(0)
                out.write(json.dumps({"folder": str(folder), "sizes": sizes}).encode())
            part.replace(pack)
            for other in kept.glob("*.pack"):
                of = _header(other)[0]["folder"]
                if other != pack and (of == str(folder) or not Path(of).is_dir()):
                    other.unlink()
    return pack, digest


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _header(pack: Path) -> tuple[dict[str, Any], int]:
    """What a file of images holds, and where its pixels start."""
    with open(pack, "rb") as file:
        return json.loads(file.readline()), file.tell()

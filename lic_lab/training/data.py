"""Training images, decoded once into one memory-mapped file, and random crops of them.

A crop is a pure function of (seed, step, worker), so a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Photographs:
    """A folder of images as one flat uint8 array.

    Parameters
    ----------
    folder : path
        Searched for images, not recursively.
    smallest : int
        Images with a shorter side than this are left out.

    Raises
    ------
    FileNotFoundError
        When the folder holds no image that is large enough.
    """

    def __init__(self, folder: str | Path, smallest: int = 256):
        found = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(f"no images in {folder}; give a folder of {', '.join(SUFFIXES)} files")
        key = "\n".join(f"{p.name} {p.stat().st_size}" for p in found) + f"\n{smallest}"
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        cache = Path(tempfile.gettempdir()) / f"lic_lab_{name}"
        if not cache.with_suffix(".npz").exists():
            self._pack(found, cache, smallest)
        index = np.load(cache.with_suffix(".npz"))
        self.sizes, self.starts = index["sizes"], index["starts"]
        if not len(self.sizes):
            raise FileNotFoundError(f"no image in {folder} has both sides of at least {smallest} pixels")
        self._flat = np.memmap(cache.with_suffix(".bin"), dtype=np.uint8, mode="r")
        self._weights = self.sizes.prod(1) / self.sizes.prod(1).sum()

    @staticmethod
    def _pack(found: list[Path], cache: Path, smallest: int) -> None:
        sizes, starts, end = [], [], 0
        with open(cache.with_suffix(".tmp"), "wb") as out:
            for path in tqdm(found, desc="decoding the training images", unit="image"):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                if min(pixels.shape[:2]) >= smallest:
                    out.write(pixels.tobytes())
                    sizes.append(pixels.shape[:2])
                    starts.append(end)
                    end += pixels.size
        cache.with_suffix(".tmp").rename(cache.with_suffix(".bin"))
        np.savez(
            cache.with_suffix(".npz"), sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2), starts=np.array(starts)
        )

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

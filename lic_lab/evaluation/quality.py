"""Rate and quality of a codec over a folder of images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from compressai.models import CompressionModel
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim
from tqdm import tqdm

from lic_lab.image import Source
from lic_lab.tracing import trace


def measure(codec: CompressionModel, images: Iterable[Source], progress: bool = True) -> dict[str, float]:
    """Means over the images: ``bpp``, ``psnr`` (dB, RGB, of 8-bit pixels), ``ms_ssim``.

    bpp is the estimate, which the stream meets within 0.5 % + 64 bytes (`tests/test_streams.py`).
    """
    rows = []
    for image in tqdm(list(images), desc="images", disable=not progress):
        run = trace(codec, image, keep=lambda name: False)
        assert run.x_hat is not None
        rows.append((run.bpp["total"], run.psnr, _ms_ssim(run.x, run.x_hat)))
    bpp, psnr, similarity = np.mean(rows, axis=0)
    return {"bpp": float(bpp), "psnr": float(psnr), "ms_ssim": float(similarity)}


def _ms_ssim(x: NDArray[np.uint8], x_hat: NDArray[np.uint8]) -> float:
    pair = [torch.from_numpy(a).permute(2, 0, 1)[None].contiguous().float() for a in (x, x_hat)]
    return float(ms_ssim(*pair, data_range=255))

"""What the tests of the laws share: real photographs, and codecs whose random weights give symbols worth coding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import skimage.data
import torch
from torch import Tensor

from lic_lab.codecs import registry
from lic_lab.codecs.codec import Codec, CodedImage
from lic_lab.codecs.shared import SharedLatent, combinations
from lic_lab.entropy.model import EntropyModel
from lic_lab.image import to_uint8
from lic_lab.layers.swin import PatchMerging, WindowAttention
from lic_lab.transforms.swin import Analysis

# name -> top left of the crop
PHOTOGRAPHS = {"astronaut": (60, 150), "chelsea": (20, 90), "coffee": (80, 130), "retina": (300, 300)}
COMBINATIONS = combinations()
CODED = tuple(name for name in registry.names() if name != "factorized")  # those with an EntropyModel


def name_of(combination: dict[str, str]) -> str:
    return "-".join(combination.values())


def photograph(name: str, height: int, width: int) -> Tensor:
    """A crop of a photograph bundled with scikit-image: (1, 3, H, W) in [0, 1]."""
    whole = getattr(skimage.data, name)()
    top, left = (
        min(at, n - side) for at, n, side in zip(PHOTOGRAPHS[name], whole.shape, (height, width), strict=False)
    )
    pixels = whole[top : top + height, left : left + width]
    assert pixels.shape[:2] == (height, width)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous().float() / 255


def outputs(g_a: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that y grows with: the last one, and a linear path; of Swin's last stage all that add to its map."""
    if isinstance(g_a, Analysis):
        merging = max(k for k, layer in enumerate(g_a[-1]) if isinstance(layer, PatchMerging))
        adding = [layer for block in g_a[-1][merging + 1 :] for layer in (block.attention.proj, block.mlp[-1])]
        return [g_a[-1][merging].linear, *adding]
    found = [g_a[-1]] if isinstance(g_a, torch.nn.Sequential) else [g_a.network[-1]]
    return found + ([g_a.linear_path] if getattr(g_a, "linear_path", None) is not None else [])


@lru_cache(maxsize=4)
def lively(name: str, size: str = "small") -> Codec:
    """Random weights, ready to code. The latent deviates by 2 and sigma is about 1: there are outliers and escapes."""
    torch.manual_seed(len(name))
    codec = SharedLatent() if name == "shared" else registry.create(name, size)
    codec.eval()
    with torch.no_grad():
        factor = 2 / codec.g_a(photograph("astronaut", 128, 128)).std()
        for layer in outputs(codec.g_a):
            for p in layer.parameters():
                p *= factor
        for context in codec.modules():  # a zero relative position bias would hide a wrong index
            if isinstance(context, WindowAttention):
                context.table.normal_()
            if hasattr(context, "relative"):
                for bias in context.bias:
                    bias.normal_()
    if codec.resizing is not None:  # filters that filter, and a factor that depends on the picture
        with torch.no_grad():
            codec.resizing.network.start.fill_(0.2)
            for part in (codec.resizing.before, codec.resizing.after):
                for block in part:
                    block.scale.weight.fill_(0.3)
    codec.update()
    return codec


@contextmanager
def number_of_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def same_picture_from_any_threads(codec: Codec, x: Tensor) -> tuple[Tensor, CodedImage]:
    """Coded by one thread, the stream and the bytes of the picture are two threads' too. Returns y_hat and the code."""
    with number_of_threads(1):
        coded = codec.encode(x)
        picture = to_uint8(codec.picture(coded.y_hat, coded.geometry))
    with number_of_threads(2):
        assert codec.encode(x).strings == coded.strings
        y_hat = codec.decode(coded.strings, coded.geometry)
        assert np.array_equal(to_uint8(codec.picture(y_hat, coded.geometry)), picture)
    return y_hat, coded


def hyper_like(codec: Codec, height: int, width: int, seed: int = 0) -> Tensor:
    """Random Phi_h for a latent of this size."""
    z_channels = codec.hyperprior.bottleneck.channels
    with torch.no_grad():
        channels = codec.hyperprior.h_s(torch.zeros(1, z_channels, 1, 1)).shape[1]
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def latent_like(entropy: EntropyModel, height: int, width: int, seed: int = 1) -> Tensor:
    """Random y for a latent of this size."""
    return 3 * torch.randn(1, entropy.order.M, height, width, generator=torch.Generator().manual_seed(seed))

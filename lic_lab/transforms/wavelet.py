"""The wavelet of JPEG 2000 as a linear path beside the networks: CDF 9/7, four levels, on opponent colours.

    x (B, 3, H, W) -> opponent colours -> 4 levels of lifting -> 768 coefficients for each 16 x 16 block (B, 768, H/16, W/16)

The coefficients of one block are ordered by level: per colour LL4, then the three bands of level 4, 3, 2 and 1 (1, 3, 12, 48,
192 of them). The transform is scaled to be near orthonormal, so one quantisation step suits all bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 4
BANDS = ("lh", "hl", "hh")
# Lifting steps of CDF 9/7 and the scale that makes its low-pass filter of norm sqrt 2 (Daubechies and Sweldens 1998).
ALPHA, BETA, GAMMA, DELTA, KAPPA = -1.586134342, -0.05298011854, 0.8829110762, 0.4435068522, 1.149604398
# Rows: brightness, red - blue, green - magenta; orthonormal.
OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (-(6**-0.5), 2 * 6**-0.5, -(6**-0.5)))


def _lift(a: Tensor, b: Tensor, c: float, ahead: bool) -> Tensor:
    """`a` + c (neighbouring samples of `b`), along the last dimension, with mirrored borders."""
    other = torch.cat((b[..., 1:], b[..., -1:]), -1) if ahead else torch.cat((b[..., :1], b[..., :-1]), -1)
    return a + c * (b + other)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level along the last dimension (of even length): (low, high), each half as long."""
    s, d = x[..., ::2], x[..., 1::2]
    d = _lift(d, s, ALPHA, True)
    s = _lift(s, d, BETA, False)
    d = _lift(d, s, GAMMA, True)
    s = _lift(s, d, DELTA, False)
    return s * KAPPA, d / KAPPA


def _merge(s: Tensor, d: Tensor) -> Tensor:
    """The inverse of `_split`."""
    s, d = s / KAPPA, d * KAPPA
    s = _lift(s, d, -DELTA, False)
    d = _lift(d, s, -GAMMA, True)
    s = _lift(s, d, -BETA, False)
    d = _lift(d, s, -ALPHA, True)
    return torch.stack((s, d), -1).flatten(-2)


def analysis(x: Tensor) -> Tensor:
    """Coefficients (B, 768, H/16, W/16) of images (B, 3, H, W), sides multiples of 16."""
    low = torch.einsum("oc,bchw->bohw", x.new_tensor(OPPONENT), x)
    bands: list[Tensor] = []
    for level in range(LEVELS):
        left, right = _split(low)
        (low, lh), (hl, hh) = (
            tuple(t.mT for t in _split(half.mT.contiguous())) for half in (left.contiguous(), right.contiguous())
        )
        block = 2 ** (LEVELS - 1 - level)
        bands[:0] = [F.pixel_unshuffle(band, block) for band in (lh, hl, hh)]
    return torch.cat((low, *bands), 1)


def synthesis(coefficients: Tensor) -> Tensor:
    """The inverse of `analysis`."""
    sizes = [3, *(3 * 4**level for level in range(LEVELS) for _ in range(3))]
    low, *bands = coefficients.split(sizes, 1)
    for level in range(LEVELS):
        block = 2**level
        lh, hl, hh = (F.pixel_shuffle(band, block) for band in bands[3 * level : 3 * level + 3])
        left = _merge(low.mT.contiguous(), lh.mT.contiguous()).mT
        right = _merge(hl.mT.contiguous(), hh.mT.contiguous()).mT
        low = _merge(left.contiguous(), right.contiguous())
    return torch.einsum("oc,bohw->bchw", coefficients.new_tensor(OPPONENT), low)


def band(colour: int, level: int, kind: str) -> list[int]:
    """Indices of one band's coefficients among the 768.

    Parameters
    ----------
    colour : int
        0 brightness, 1 red - blue, 2 green - magenta.
    level : int
        1 (finest) to 4.
    kind : {"ll", "lh", "hl", "hh"}
        "ll" exists at level 4 only.

    >>> band(0, 4, "ll"), len(band(0, 1, "hl"))
    ([0], 64)
    """
    if kind == "ll":
        return [colour]
    size = 4 ** (LEVELS - level)  # coefficients a block and colour
    start = 3 + 9 * sum(4 ** (LEVELS - coarser) for coarser in range(LEVELS, level, -1))
    start += 3 * size * BANDS.index(kind) + size * colour
    return list(range(start, start + size))


class WaveletAnalysis(nn.Module):
    """Chosen coefficients, each divided by its own step: (B, 3, H, W) to (B, M, H/16, W/16).

    Parameters
    ----------
    channels : sequence of int
        Indices of the coefficients that become the latent's channels, see `band`.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels), persistent=False)
        self.log_gain = nn.Parameter(torch.zeros(len(channels), 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return analysis(x).index_select(1, self.channels) * self.log_gain.exp()


class WaveletSynthesis(nn.Module):
    """The adjoint: chosen coefficients times their steps, the others zero, to an image."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels), persistent=False)
        self.log_step = nn.Parameter(torch.zeros(len(channels), 1, 1))

    def forward(self, y_hat: Tensor) -> Tensor:
        B, _, h, w = y_hat.shape
        coefficients = y_hat.new_zeros(B, 3 * 4**LEVELS, h, w)
        return synthesis(coefficients.index_copy(1, self.channels, y_hat * self.log_step.exp()))


@torch.no_grad()
def set_step(paths: tuple[WaveletAnalysis, WaveletSynthesis], step: float) -> None:
    """Quantisation step of all coefficients, in [0, 1] units of the pixels."""
    paths[0].log_gain.copy_(torch.full_like(paths[0].log_gain, step).log().neg())
    paths[1].log_step.copy_(torch.full_like(paths[1].log_step, step).log())

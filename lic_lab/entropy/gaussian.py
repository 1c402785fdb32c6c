"""The conditional Gaussian: probabilities of rounded symbols, and the tables that code them.

Two ways of rounding:

- ``centred``: ``y_hat = round(y - mu) + mu``. The symbol is an integer whose distribution has mean zero.
- ``plain``: ``y_hat = round(y)``. Symbols do not depend on the entropy model, which is what the shared latent
  needs. Their distribution has the fractional mean ``mu - round(mu)``.

For coding, sigma is snapped to the nearest of 64 scales and, under plain rounding, the fractional mean to one of 16
phases; there is one table for each pair. In evaluation the estimate uses the snapped values, the tables' smallest
frequency and the escape code's length too, so the estimate is the stream. The tables follow from constants alone,
therefore they are computed, never stored.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

ROUNDINGS = ("centred", "plain")
SCALE_MIN, SCALE_MAX, SCALES = 0.11, 256.0, 64  # CompressAI's scale table
PHASES = 16  # [ours]: at sigma = 0.11 the snapping costs most, and symbols there cost least
PRECISION = 16  # bits of the coder's frequencies, fixed by CompressAI's rANS
TAIL = 1e-6  # probability beyond a table [ours]: all its symbols take at least 2^-16, so CompressAI's 1e-9 wastes bits
LIKELIHOOD_MIN = 1e-9  # CompressAI's bound

Cdfs = tuple[list[int], list[list[int]], list[int], list[int]]  # indexes, cdfs, their sizes, their offsets
_LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)


def likelihood(distance: Tensor, sigma: Tensor) -> Tensor:
    """Probability of the unit interval centred `distance` from the mean: Phi((1/2 - |d|)/s) - Phi((-1/2 - |d|)/s).

    Written with |d|, both terms lie in the lower tail, where the difference keeps its digits.
    """
    d = distance.abs()
    upper = torch.erfc((d - 0.5) / (sigma * math.sqrt(2)))
    lower = torch.erfc((d + 0.5) / (sigma * math.sqrt(2)))
    return 0.5 * (upper - lower)


def rounded_moments(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a rounded Gaussian variable, whose integers k have `likelihood`(k - mu, sigma).

    From sigma = 1 on they are mu and (sigma^2 + 1/12)^(1/2), to 1e-7; below, all mass lies within eight of mu.
    """
    near = torch.round(mu)
    mass, first, second = (torch.zeros_like(mu * sigma) for _ in range(3))
    for k in range(-8, 9):
        p = likelihood(near + k - mu, sigma)
        mass, first, second = mass + p, first + k * p, second + k * k * p
    mean = first / mass
    wide = sigma >= 1
    return (
        torch.where(wide, mu, near + mean),
        torch.where(wide, sigma**2 + 1 / 12, second / mass - mean**2).clamp(min=0).sqrt(),
    )


def as_coded(p: Tensor, k: Tensor, half: Tensor) -> Tensor:
    """The probability CompressAI's rANS coder gives to symbol `k` where the model gives `p`.

    A table covers -half to half, and none of its frequencies is below 2^-16. Beyond, the escape symbol (2^-16 too) is
    followed by the number of hexadecimal digits of the excess, and the digits, in 4 bits each. Without this the
    outliers of an imperfect model, up to 30 bits each by the Gaussian, make the estimate some percent too long.
    """
    excess = 2 * (k.abs() - half - 1) + (k < 0)  # signed excess as one number, zero upwards
    digits = torch.ceil(torch.log2(excess.clamp(min=0) + 1) / 4)
    escape = torch.exp2(-(PRECISION + 4 + 4 * digits))
    return torch.where(k.abs() > half, escape, p.clamp(min=2.0**-PRECISION))


@lru_cache(maxsize=1)
def _halves() -> Tensor:
    """How far each scale's table reaches to both sides: integers as float (64,)."""
    reach = -NormalDist().inv_cdf(TAIL / 2)
    scales = SCALE_MIN * np.exp(np.arange(SCALES) * _LOG_STEP)
    return torch.tensor([max(1, math.ceil(scale * reach + 0.5)) for scale in scales], dtype=torch.float32)


class Gaussian(nn.Module):
    """Mean-scale Gaussian conditional with mixed quantisation (Minnen and Singh 2020; MLIC, section 3.2.1).

    In training the rate is estimated on ``y + U(-1/2, 1/2)`` while everything else sees rounded values with
    straight-through gradients.
    """

    def __init__(self, rounding: str = "centred"):
        super().__init__()
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding is {rounding!r}; it must be one of {ROUNDINGS}")
        self.rounding = rounding

    def sigma(self, log_sigma: Tensor) -> Tensor:
        """sigma in [0.11, 256] from the network's output, taken as its logarithm [ours]: sigma spans three decades."""
        bounded = lower_bound(log_sigma, math.log(SCALE_MIN))
        return bounded.clamp(max=math.log(SCALE_MAX)).exp()

    def quantise(self, y: Tensor, mu: Tensor) -> Tensor:
        """y_hat, with straight-through gradient."""
        offset = mu if self.rounding == "centred" else 0.0
        y_hat = torch.round(y - offset) + offset
        return y + (y_hat - y).detach() if torch.is_grad_enabled() else y_hat

    def moments(self, mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the distribution."""
        return mu, self.sigma(log_sigma)

    def coded_moments(self, mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the symbol itself, an integer (or that far from mu), as the tables have it.

        Under plain rounding its mean is not mu: a narrow distribution has nearly all its mass at one integer. Both are
        those of a table without its escape.
        """
        index, centre = self.tables(mu, log_sigma)
        mean, deviation = (of.to(mu).take(index.long()) for of in _moments(self.rounding))
        return centre + mean, deviation

    def bits_likelihood(self, y: Tensor, y_hat: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Likelihood of each symbol: of the noisy value in training, of the coded symbol in evaluation."""
        sigma = self.sigma(log_sigma)
        if self.training:
            return lower_bound(likelihood(y + torch.rand_like(y) - 0.5 - mu, sigma), LIKELIHOOD_MIN)
        scale, mean = self.snap(mu, sigma)
        symbols = torch.round(y_hat - mu) if self.rounding == "centred" else y_hat
        half = _halves().to(scale.device)[scale_index(sigma.log()).long()]
        return as_coded(likelihood(symbols - mean, scale), symbols - torch.floor(mean + 0.5), half)

    def snap(self, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(sigma, mean of the integer symbol) as the tables have them."""
        index = scale_index(sigma.log())
        scale = SCALE_MIN * torch.exp(index * _LOG_STEP)
        if self.rounding == "centred":
            return scale, torch.zeros_like(mu)
        return scale, torch.round(mu * PHASES) / PHASES

    def symbols(self, y_hat: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Integer symbols to be coded, int32 of the input's shape, and `tables`."""
        tables, centre = self.tables(*parameters)
        return torch.round(y_hat - centre).int(), tables

    def tables(self, mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Index of each symbol's table, and the value that the table's zero stands for: mu, or an integer near it.

        The indices of a decoder must be the encoder's: give the network's own outputs, computed under
        `lic_lab.layers.exact`.
        """
        index = scale_index(log_sigma).int()
        if self.rounding == "centred":
            return index, mu
        snapped = torch.round(mu * PHASES)
        centre = torch.floor(snapped / PHASES + 0.5)
        phase = (snapped - centre * PHASES).int() + PHASES // 2  # 0 to PHASES - 1
        return index * PHASES + phase, centre

    def probability(self, y_hat: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """Probability of decoded symbols as the tables have it, of the input's shape; all beyond a table has 2^-16."""
        index, centre = self.tables(mu, log_sigma)
        frequencies, starts, halves = (t.to(mu.device) for t in _frequencies(self.rounding))
        k = torch.round(y_hat - centre).long()
        half = halves.take(index.long())
        found = frequencies.take((starts.take(index.long()) + k + half).clamp(0, len(frequencies) - 1))
        return torch.where(k.abs() > half, 2.0**-PRECISION, found).to(mu)

    def cdfs(self, tables: Tensor, symbols: Tensor | None = None) -> Cdfs:
        """For CompressAI's rANS coder: where in a list of cumulative frequencies each symbol's are, and the list.

        The coder copies all the tables it is given on each call, so it is given those in use. `symbols`, which only an
        encoder has, are not needed.
        """
        used, indexes = tables.unique(return_inverse=True)
        cdfs, sizes, offsets = gaussian_tables(self.rounding)
        index = used.tolist()
        return indexes.tolist(), [cdfs[t] for t in index], [sizes[t] for t in index], [offsets[t] for t in index]


def scale_index(log_sigma: Tensor) -> Tensor:
    """Nearest of the 64 log-spaced scales, 0 to 63."""
    return torch.round((log_sigma - math.log(SCALE_MIN)) * (1 / _LOG_STEP)).clamp(0, SCALES - 1)


@lru_cache(maxsize=2)
def gaussian_tables(rounding: str) -> tuple[list[list[int]], list[int], list[int]]:
    """Quantised cumulative frequencies for every scale, and every phase when rounding is plain."""
    from scipy.special import ndtr

    phases = [0.0] if rounding == "centred" else (np.arange(PHASES) - PHASES // 2) / PHASES
    cdfs, sizes, offsets = [], [], []
    for scale, half in zip(SCALE_MIN * np.exp(np.arange(SCALES) * _LOG_STEP), _halves().int().tolist(), strict=True):
        k = np.arange(-half, half + 1)
        for phase in phases:
            d = np.abs(k - phase)
            pmf = ndtr((0.5 - d) / scale) - ndtr((-0.5 - d) / scale)
            cdf = _quantised_cdf(np.append(pmf, 0.0))  # the escape symbol last, with the smallest frequency
            cdfs.append(cdf)
            sizes.append(len(cdf))
            offsets.append(-half)
    return cdfs, sizes, offsets


@lru_cache(maxsize=2)
def _frequencies(rounding: str) -> tuple[Tensor, Tensor, Tensor]:
    """(all tables' probabilities in a row, float64; where each table starts; how far it reaches to both sides)."""
    cdfs, sizes, offsets = gaussian_tables(rounding)
    row = np.concatenate([np.diff(cdf)[:-1] for cdf in cdfs]) / 2**PRECISION  # without the escape
    starts = np.cumsum([0, *(size - 2 for size in sizes[:-1])])
    return torch.from_numpy(row), torch.from_numpy(starts), -torch.tensor(offsets)


@lru_cache(maxsize=2)
def _moments(rounding: str) -> tuple[Tensor, Tensor]:
    """Mean, from where the table's zero lies, and standard deviation of each table: float64."""
    found = []
    for cdf, offset in zip(*gaussian_tables(rounding)[::2], strict=True):
        p = np.diff(cdf)[:-1] / cdf[-2]
        k = np.arange(len(p)) + offset
        mean = (p * k).sum()
        found.append((mean, math.sqrt((p * (k - mean) ** 2).sum())))
    mean, deviation = torch.tensor(found, dtype=torch.float64).unbind(1)
    return mean, deviation


def _quantised_cdf(pmf: NDArray[np.float64]) -> list[int]:
    """Cumulative frequencies that sum to 2^16, all at least 1.

    What the small ones take too much, the largest give, one each in turn. (CompressAI's own function leaves the sum of
    all roundings to the last symbol, here the escape, which costs wide tables up to 0.3 %.)
    """
    frequencies = np.maximum(1, np.rint(pmf * 2**PRECISION)).astype(int)
    while surplus := int(frequencies.sum()) - 2**PRECISION:
        wide = int((frequencies > frequencies.max() / 2).sum())
        largest = np.argsort(-frequencies, kind="stable")[: min(abs(surplus), wide)]
        frequencies[largest] -= int(np.sign(surplus))
    return [0, *np.cumsum(frequencies).tolist()]


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) whose gradient also passes below the bound when it would raise x (Balle et al. 2018)."""
    found: Tensor = _LowerBound.apply(x, bound)
    return found


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return F.threshold(x, bound, bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return torch.where((x >= ctx.bound) | (grad < 0), grad, 0.0), None

"""A mixture of Gaussians as the distribution of plainly rounded symbols, and the cumulative frequencies that code it.

Each symbol has a distribution of its own, so there are no tables to choose from: cumulative frequencies are made for
each symbol, in integers alone, from those of the components' tables (`entropy.gaussian`) and weights in units of 2^-10,

    F(k) = i + floor((2^16 - 1 - n) sum_j w_j (C_j(k) - C_j(low)) / sum_j w_j C_j(end)),        i = k - low = 0 to n,

over a window of n integers from `low` that covers all components' tables, unless they lie too far apart; i keeps every
frequency above zero. What is left up to 2^16 is the escape's. The estimate reads the same F.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lic_lab.entropy.gaussian import (
    LIKELIHOOD_MIN,
    PRECISION,
    Cdfs,
    Gaussian,
    as_coded,
    gaussian_tables,
    likelihood,
    lower_bound,
)

Integers = NDArray[np.int64]
ONE = 2**10  # sum of the weights
TOTAL = 2**PRECISION
REACHES = 2 ** np.arange(1, 12) - 1  # of windows to both sides: few sizes of table; the largest has 4095 integers
CENTRE_MAX = 2**20  # of a component: a damaged stream may ask for anything
CHUNK = 2**21  # frequencies made at a time


class GaussianMixture(Gaussian):
    """Mixture of K Gaussians; without weights, `Gaussian` ("plain") itself.

    mu, log_sigma and weight are (B, C, n, K); the weights of a symbol sum to one.
    """

    def __init__(self) -> None:
        super().__init__("plain")

    def moments(self, mu: Tensor, log_sigma: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the mixture, (B, C, n)."""
        if weight is None:
            return super().moments(mu, log_sigma)
        mean = (weight * mu).sum(-1)
        variance = (weight * (self.sigma(log_sigma) ** 2 + (mu - mean[..., None]) ** 2)).sum(-1)
        return mean, variance.sqrt()

    def coded_moments(self, mu: Tensor, log_sigma: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the symbol as its cumulative frequencies have it, without the escape."""
        if weight is None:
            return super().coded_moments(mu, log_sigma)
        components = _components(self.tables(mu, log_sigma, weight)[0].flatten(0, -2))
        mean, deviation = np.empty((2, len(components)))
        for rows, k, cumulative in _whole(components, *_windows(components)):
            p = np.diff(cumulative) / cumulative[:, -1:]
            mean[rows] = (p * k[:, :-1]).sum(1)
            deviation[rows] = np.sqrt((p * (k[:, :-1] - mean[rows, None]) ** 2).sum(1))
        mean_, deviation_ = (torch.from_numpy(of).to(mu).view(mu.shape[:-1]) for of in (mean, deviation))
        return mean_, deviation_

    def bits_likelihood(
        self, y: Tensor, y_hat: Tensor, mu: Tensor, log_sigma: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Likelihood of each symbol: of the noisy value in training, of the coded symbol in evaluation."""
        if weight is None:
            return super().bits_likelihood(y, y_hat, mu, log_sigma)
        if self.training:
            noisy = y + torch.rand_like(y) - 0.5
            p = (weight * likelihood(noisy[..., None] - mu, self.sigma(log_sigma))).sum(-1)
            return lower_bound(p, LIKELIHOOD_MIN)
        symbols, tables = self.symbols(y_hat, mu, log_sigma, weight)
        components, k = _components(tables.flatten(0, -2)), symbols.flatten().cpu().numpy().astype(np.int64)
        low, reach = _windows(components)
        inside = np.clip(k, low, low + 2 * reach)
        frequency = np.diff(_cumulative(components, low, reach, np.stack((inside, inside + 1), 1)), axis=1)[:, 0]
        p, centred, half = (torch.from_numpy(a).to(y).view_as(y) for a in (frequency / TOTAL, k - low - reach, reach))
        return as_coded(p, centred, half)

    def tables(self, mu: Tensor, log_sigma: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What describes each symbol's distribution, (B, C, n, 3K) int32, and the value that its zero stands for: 0.

        Of each component the index of its table, the integer that its zero stands for, and its weight in 2^-12.
        """
        if weight is None:
            return super().tables(mu, log_sigma)
        index, centre = super().tables(mu, log_sigma)
        centre = centre.clamp(-CENTRE_MAX, CENTRE_MAX).int()
        return torch.cat((index, centre, torch.round(weight * 2.0**12).int()), -1), torch.zeros_like(mu[..., 0])

    def cdfs(self, tables: Tensor, symbols: Tensor | None = None) -> Cdfs:
        """A table of its own for each symbol; for an encoder, which knows the symbols, with their interval alone."""
        if tables.dim() == 1:
            return super().cdfs(tables, symbols)
        components = _components(tables)
        low, reach = _windows(components)
        if symbols is not None:
            return _intervals(components, low, reach, symbols.cpu().numpy().astype(np.int64))
        cdfs: list[list[int]] = [[]] * len(low)
        for rows, _, found in _whole(components, low, reach):
            with_escape = np.pad(found, ((0, 0), (0, 1)), constant_values=TOTAL)
            for row, cdf in zip(rows.tolist(), with_escape.tolist(), strict=True):
                cdfs[row] = cdf
        return list(range(len(low))), cdfs, (2 * reach + 3).tolist(), low.tolist()


def _components(tables: Tensor) -> Integers:
    """(m, 3K) as (m, 3, K): table, centre and weight of each component, the weights summing to `ONE`."""
    found = tables.cpu().numpy().astype(np.int64).reshape(len(tables), 3, -1)
    weight = found[:, 2].cumsum(1)
    total = weight[:, -1:]
    found[:, 2] = np.diff((2 * ONE * weight + total) // (2 * total), axis=1, prepend=0)
    return found


def _windows(components: Integers) -> tuple[Integers, Integers]:
    """First integer of each symbol's window, and its reach to both sides of the middle: (m,) each."""
    index, centre, weight = components.swapaxes(0, 1)
    half = _tables()[2][index]
    heaviest = np.take_along_axis(centre, weight.argmax(1)[:, None], 1)
    used = weight > 0
    lowest = np.where(used, centre - half, heaviest).min(1)
    highest = np.where(used, centre + half, heaviest).max(1)
    middle = (lowest + highest) // 2
    size = np.searchsorted(REACHES, highest - middle)
    apart = size == len(REACHES)  # no window covers such components: it lies around the heaviest
    reach = REACHES[np.minimum(size, len(REACHES) - 1)]
    return np.where(apart, heaviest[:, 0], middle) - reach, reach


def _cumulative(components: Integers, low: Integers, reach: Integers, k: Integers) -> Integers:
    """F of the integers `k` (m, n), from `low` to one beyond the window."""
    row, starts, halves = _tables()
    k = np.concatenate((low[:, None], k), 1)
    mixed, end = np.zeros_like(k), np.zeros_like(k[:, :1])
    for j in range(components.shape[2]):
        index, centre, weight = components[:, :, j, None].swapaxes(0, 1)  # (m, 1) each
        start, half = starts[index], halves[index]
        mixed += weight * row[start + np.clip(k - centre + half, 0, 2 * half + 1)]
        end += weight * row[start + 2 * half + 1]
    n = 2 * reach[:, None] + 1
    return (k - k[:, :1] + (TOTAL - 1 - n) * (mixed - mixed[:, :1]) // end)[:, 1:]


def _whole(components: Integers, low: Integers, reach: Integers) -> Iterator[tuple[Integers, Integers, Integers]]:
    """All of F, for some symbols at a time whose windows are equally large: which, at which integers, and F there."""
    for r in np.unique(reach).tolist():
        of_size = (reach == r).nonzero()[0]
        for rows in np.array_split(of_size, -(-len(of_size) * 2 * (r + 1) // CHUNK)):
            k = low[rows, None] + np.arange(2 * r + 2)
            yield rows, k, _cumulative(components[rows], low[rows], reach[rows], k)


def _intervals(components: Integers, low: Integers, reach: Integers, symbols: Integers) -> Cdfs:
    """What an encoder needs: for each symbol its interval alone, as number 1 of three; of the escape, number 1 of two.

    The coder takes what lies above or below a table as an escape, and codes how far it lies outside.
    """
    high = low + 2 * reach  # the window's last
    inside = np.clip(symbols, low, high)
    ends = _cumulative(components, low, reach, np.stack((inside, inside + 1, high + 1), 1)).tolist()
    below, above = (symbols < low).tolist(), (symbols > high).tolist()
    cdfs, offsets = [], []
    for i, (symbol, first, last) in enumerate(zip(symbols.tolist(), low.tolist(), high.tolist(), strict=True)):
        if below[i] or above[i]:
            cdfs.append([0, ends[i][2], TOTAL])
            offsets.append(first if below[i] else last)
        else:
            cdfs.append([0, *ends[i][:2], TOTAL])
            offsets.append(symbol - 1)
    return list(range(len(cdfs))), cdfs, [len(cdf) for cdf in cdfs], offsets


@lru_cache(maxsize=1)
def _tables() -> tuple[Integers, Integers, Integers]:
    """(all cumulative frequencies in a row, without the escapes; where each table starts; its reach to both sides)."""
    cdfs, sizes, offsets = gaussian_tables("plain")
    row = np.concatenate([np.array(cdf[:-1]) for cdf in cdfs])
    return row, np.cumsum([0, *(size - 1 for size in sizes[:-1])]), -np.array(offsets)

"""How alike the vectors, positions and channels of a latent are.

`cosine_similarity_map` is the heatmap of MLIC's Figures 2 and 8, `spatial_correlation` the picture of what an entropy
model has left behind (Zhu et al., "Transformer-based transform coding", 2022; AICT, Figure 10).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WEIGHTINGS = ("normalised", "rest", "plain")  # of channels in a cosine similarity, see `vectors`


def cosine_similarity_map(latent: Array, reference: tuple[int, int]) -> Array:
    """Cosine similarity of every position's channel vector with that of one position (MLIC, Figures 2 and 8).

    Parameters
    ----------
    latent : array
        (M, h, w). Pass some of the channels for the similarity within a slice, and `vectors` of them.
    reference : (int, int)
        Row and column of the position to compare with.

    Returns
    -------
    array
        (h, w), float64 in [-1, 1], 1 at the reference. A zero vector has no direction: its similarity is
        0, and so is the whole map when the reference is one.

    Raises
    ------
    ValueError
        For a latent without three axes, or a reference outside it.

    Examples
    --------
    >>> y = np.array([[[1, 0, -2, 0]], [[1, 3, -2, 0]]])
    >>> cosine_similarity_map(y, (0, 0)).round(3).tolist()
    [[1.0, 0.707, -1.0, 0.0]]
    """
    latent = _check_latent(latent)
    i, j = reference
    _, h, w = latent.shape
    if not (0 <= i < h and 0 <= j < w):
        raise ValueError(f"reference is {(i, j)}; rows are 0 to {h - 1}, columns 0 to {w - 1}")
    norm = np.sqrt((latent**2).sum(0))
    unit = np.divide(latent, norm, out=np.zeros_like(latent), where=norm > 0)
    # Rounding can leave 1 + 1e-16, on which arccos would fail.
    found: Array = np.clip(np.tensordot(unit[:, i, j], unit, 1), -1, 1)
    return found


def vectors(latent: Array, weighting: str = "normalised") -> Array:
    """The channel vectors that a cosine similarity is taken of: as they are, they are ruled by one channel.

    In our latents one channel, much like the mean brightness, holds 44 to 95 % of y_hat's energy, and the similarity of
    the plain vectors is 79 to 94 % correlated with the product of that channel's values alone. What is similar when
    normalised says 1.4 to 3.5 times as much of channels that were left out of the comparison (measured on kodim01, 05,
    19 and 20 at quality 3).

    Parameters
    ----------
    latent : array
        (M, h, w), in steps of the quantiser; all channels or those of a slice.
    weighting : str
        One of `WEIGHTINGS`. ``"normalised"`` takes the mean from each channel and divides it by its standard deviation,
        or by one step where that is larger, lest channels without symbols weigh as much as others. ``"rest"`` leaves
        out the channel with most energy. ``"plain"`` changes nothing, as MLIC's figures.

    Returns
    -------
    array
        (M, h, w), or (M - 1, h, w) for the rest.

    Raises
    ------
    ValueError
        For an unknown weighting, a latent without three axes, or the rest of a single channel.

    Examples
    --------
    >>> y = np.array([[[10.0, 14.0]], [[0.5, 0.5]]])
    >>> vectors(y).tolist(), vectors(y, "rest").tolist()
    ([[[-1.0, 1.0]], [[0.0, 0.0]]], [[[0.5, 0.5]]])
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting is {weighting!r}; it must be one of {', '.join(WEIGHTINGS)}")
    latent = _check_latent(latent)
    if weighting == "plain":
        return latent
    if weighting == "rest":
        if len(latent) < 2:
            raise ValueError("there is a single channel, so none is left without the strongest; show it normalised")
        return np.delete(latent, strongest(latent)[0], axis=0)
    centred = latent - latent.mean((1, 2), keepdims=True)
    found: Array = centred / np.maximum(latent.std((1, 2), keepdims=True), 1)
    return found


def strongest(latent: Array) -> tuple[int, float]:
    """The channel with most energy (sum of squares) of a latent (M, h, w), and its share of all energy, 0 to 1.

    >>> strongest(np.array([[[1.0, 0.0]], [[0.0, -3.0]]]))
    (1, 0.9)
    """
    energy = (_check_latent(latent) ** 2).sum((1, 2))
    channel = int(energy.argmax())
    return channel, float(energy[channel] / (energy.sum() or 1))


def spatial_correlation(normalised: Array, reach: int = 4) -> Array:
    """Correlation between symbols at an offset, over all channels.

    With u_c(p) the value of channel c at position p less the mean of its channel, and the sums over all channels
    and all p for which p and p + d are both in the latent:

        rho(d) = sum u_c(p) u_c(p + d) / sqrt(sum u_c(p)^2 * sum u_c(p + d)^2)

    This is the mean of the channels' correlations weighted with their energy, so a channel that is (nearly) constant
    has no part in it; an unweighted mean would be ruled by the noise of dead channels.

    Parameters
    ----------
    normalised : array
        (M, h, w), usually `Trace.standardised`, which leaves 0 but for the noise of the sample if the model is perfect.
    reach : int
        Largest offset, in latent positions.

    Returns
    -------
    array
        (2 reach + 1, 2 reach + 1), in [-1, 1]; entry (reach + di, reach + dj) belongs to the offset (di, dj). The
        centre is 1 and rho(-d) = rho(d). Offsets at which nothing varies are 0.

    Raises
    ------
    ValueError
        For an array without three axes or with values that are not finite, or a reach that leaves no pair.

    Examples
    --------
    >>> u = np.array([[[1.0, -1.0, 1.0, -1.0]]]).repeat(2, 1)
    >>> spatial_correlation(u, reach=1).tolist()
    [[-1.0, 1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]]
    """
    pairs = _pairs(normalised, reach)
    out = np.ones((2 * reach + 1, 2 * reach + 1))
    for di, dj, here, there in pairs:
        energy = np.sqrt((here**2).sum() * (there**2).sum())
        rho = np.clip((here * there).sum() / energy, -1, 1) if energy > 0 else 0.0
        out[reach + di, reach + dj] = out[reach - di, reach - dj] = rho
    return out


def noise_floor(normalised: Array, reach: int = 4) -> Array:
    """Magnitude of `spatial_correlation` to expect of values that don't depend on one another, by offset.

    With n products of equal magnitude the standard error of such a correlation is 1 / sqrt(n) (Bartlett, 1946). The
    symbols of a codec are mostly zero with a few large ones, and these few decide; so the error is estimated from the
    products themselves, which for equal magnitudes is the same (Taylor, "Estimating the variances of autocorrelations
    calculated from financial time series", Applied Statistics 33, 1984):

        error(d) = sqrt( sum u_c(p)^2 u_c(p + d)^2 / (sum u_c(p)^2 * sum u_c(p + d)^2) )

    The mean magnitude of a normal variate is sqrt(2 / pi) of its standard error.

    Parameters
    ----------
    normalised, reach
        As of `spatial_correlation`.

    Returns
    -------
    array
        (2 reach + 1, 2 reach + 1), 0 in the centre, which is no estimate.

    Raises
    ------
    ValueError
        As `spatial_correlation`.

    Examples
    --------
    >>> u = np.random.default_rng(0).choice([-1.0, 1.0], (8, 60, 80))
    >>> float(noise_floor(u, 1)[0, 1].round(4)), round((2 / np.pi / (8 * 59 * 80)) ** 0.5, 4)
    (0.0041, 0.0041)
    """
    pairs = _pairs(normalised, reach)
    out = np.zeros((2 * reach + 1, 2 * reach + 1))
    for di, dj, here, there in pairs:
        energy = (here**2).sum() * (there**2).sum()
        error = np.sqrt(((here * there) ** 2).sum() / energy) if energy > 0 else 0.0
        out[reach + di, reach + dj] = out[reach - di, reach - dj] = np.sqrt(2 / np.pi) * error
    return out


def _pairs(values: Array, reach: int) -> list[tuple[int, int, Array, Array]]:
    """For half of the offsets but 0: (di, dj), and the values less their channel's mean at p and at p + d."""
    u = _check_latent(values)
    _, h, w = u.shape
    if not 0 <= reach < min(h, w):
        raise ValueError(f"reach is {reach}; on a latent of {h} x {w} positions it must lie in 0 to {min(h, w) - 1}")
    u = u - u.mean((1, 2), keepdims=True)
    return [
        (
            di,
            dj,
            u[:, : h - di, max(0, -dj) : w - max(0, dj)],
            u[:, di:, max(0, dj) : w + min(0, dj)],
        )
        for di in range(reach + 1)
        for dj in range(-reach if di else 1, reach + 1)
    ]


def channel_correlation(latent: Array) -> Array:
    """Pearson correlation between channels over positions (MLIC, Figure 1: "these features are quite similar").

    Parameters
    ----------
    latent : array
        (M, h, w).

    Returns
    -------
    array
        (M, M), symmetric, in [-1, 1], 1 on the diagonal. A constant channel correlates with nothing: its row
        and column are 0, its diagonal entry too.

    Raises
    ------
    ValueError
        For an array without three axes or with values that are not finite.
    """
    latent = _check_latent(latent)
    flat = latent.reshape(len(latent), -1)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.sqrt((flat**2).sum(1, keepdims=True))
    # A channel is constant if nothing but rounding is left of it.
    alive = norm > 1e-12 * np.abs(latent).max((1, 2))[:, None] * np.sqrt(flat.shape[1])
    unit = np.divide(flat, norm, out=np.zeros_like(flat), where=alive)
    found: Array = np.clip(unit @ unit.T, -1, 1)
    return found


def _check_latent(latent: Array) -> Array:
    """`latent` as float64 (M, h, w)."""
    latent = np.asarray(latent, dtype=np.float64)
    if latent.ndim != 3 or not latent.size:
        raise ValueError(f"the latent has shape {latent.shape}; give (M, h, w): channels, rows, columns")
    if not np.isfinite(latent).all():
        raise ValueError("the latent has values that are not finite; a correlation needs numbers")
    return latent

"""Which pairs of a target and its global reference are worth showing (Qian et al., ICLR 2021, Figures 1 and 8)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def distances(source: Array) -> Array:
    """Euclidean distance of each position to its reference, in latent positions.

    Parameters
    ----------
    source : array
        (h, w, 2), row and column of each position's reference, negative where there is none (`References.source`).

    Returns
    -------
    array
        (h, w), NaN where there is no reference.
    """
    source = _check_source(source)
    there = (source >= 0).all(2)
    here = np.moveaxis(np.indices(there.shape), 0, 2)
    return np.where(there, np.hypot(*np.moveaxis(source - here, 2, 0)), np.nan)


def pick_pairs(
    source: Array, score: Array, n: int = 4, distance: float = 6.0, apart: float = 4.0, margin: int = 0
) -> Array:
    """Targets to show: those of the highest score whose references are far away, and that do not lie on one another.

    Greedy: the position of the highest score is taken, then the highest that is far enough from all that was taken,
    targets and references alike.

    Parameters
    ----------
    source : array
        (h, w, 2), row and column of each position's reference, negative where there is none (`References.source`).
    score : array
        (h, w), what makes a target good: the similarity S, or the bits that its reference saves. NaN is never taken.
    n : int
        The most targets to take.
    distance : float
        Least distance of a target to its own reference, in latent positions; nearer ones a local context sees as well.
    apart : float
        Least distance of a pair's two positions to those of every other pair, in latent positions.
    margin : int
        Positions along the edges that neither target nor reference may lie in: 1 keeps 3 x 3 windows inside.

    Returns
    -------
    array
        (k, 2) of int, row and column of the targets by falling score; k is below n where no more are far enough.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, n below 1, or a negative distance or margin.

    Examples
    --------
    >>> source = np.full((1, 20, 2), -1)
    >>> source[0, 18], source[0, 19], source[0, 10] = (0, 2), (0, 1), (0, 9)
    >>> pick_pairs(source, np.arange(20.0)[None]).tolist()  # 18 lies beside 19, and 10's reference beside 10
    [[0, 19]]
    """
    source, score = _check_source(source), np.asarray(score, dtype=float)
    h, w = source.shape[:2]
    if score.shape != (h, w):
        raise ValueError(f"score has shape {score.shape}, source {source.shape}; give (h, w) and (h, w, 2)")
    if n < 1:
        raise ValueError(f"n is {n}; give the number of pairs, at least 1")
    if distance < 0 or apart < 0 or margin < 0:
        raise ValueError(
            f"distance is {distance}, apart {apart} and margin {margin}; all are in latent positions and at least 0"
        )
    far = distances(source)
    good = np.isfinite(score) & (np.nan_to_num(far, nan=-1) >= distance)
    here = np.moveaxis(np.indices((h, w)), 0, 2)
    for at in (here, source):
        good &= ((at >= margin) & (at < (h - margin, w - margin))).all(2)
    candidates = np.argwhere(good)
    candidates = candidates[np.argsort(-score[good], kind="stable")]
    pairs = np.stack((candidates, source[candidates[:, 0], candidates[:, 1]]), 1)  # (k, target and reference, 2)
    taken: list[Array] = []
    while len(pairs) and len(taken) < n:
        taken.append(pairs[0, 0])
        offsets = pairs[:, :, None] - pairs[0]  # (k, its two, the two taken, 2)
        pairs = pairs[1:][(np.hypot(offsets[..., 0], offsets[..., 1]) >= apart).all((1, 2))[1:]]
    return np.array(taken, dtype=int).reshape(-1, 2)


def _check_source(source: Array) -> Array:
    source = np.asarray(source)
    if source.ndim != 3 or source.shape[2] != 2 or not source.size:
        raise ValueError(f"source has shape {source.shape}; give (h, w, 2): row and column of each reference")
    return source

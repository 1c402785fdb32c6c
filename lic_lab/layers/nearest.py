"""Exact search for the most similar of many vectors, by cosine, without the matrix of all pairs in memory.

In float32 the search is one of plain matrix products. In float64, as `layers.exact` asks, vectors are integers and
every dot product is exact: float32 products first sort out, with the bound of their error, the few pairs that can be
the most similar, and these alone are computed in float64. The result is that of computing all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import wrap_torch_function

from lic_lab.layers.fixed_point import root_

QUERIES, KEYS = 512, 4096  # pairs compared at once: 8 MB of float32
FEW = 16  # candidates a query in one block of keys, up to which they are computed one by one


class Past:
    """Vectors with the time each was learned, in order of time; a query sees those of earlier times.

    Parameters
    ----------
    like : Tensor
        (B, ...): batch, dtype and device of the vectors.
    capacity, dimension : int
        The most vectors there will be, and their length.
    """

    def __init__(self, like: Tensor, capacity: int, dimension: int):
        # float32 holds what `exact` compares too, integers below 2^24, in half the memory
        self.vectors = torch.zeros(like.shape[0], capacity, dimension, dtype=torch.float32, device=like.device)
        self.reciprocals = torch.zeros(like.shape[0], capacity, dtype=like.dtype, device=like.device)
        self.times = torch.zeros(capacity, dtype=torch.long, device=like.device)
        self.count = 0

    def add(self, vectors: Tensor, times: Tensor) -> None:
        """Learn `vectors` (B, n, D), at `times` (n,) that do not fall."""
        end = self.count + vectors.shape[1]
        store(self.vectors[:, self.count : end], self.reciprocals[:, self.count : end], vectors)
        self.times[self.count : end] = times
        self.count = end

    def most_similar(self, queries: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine similarity and index of each query's most similar vector among those learned before its time.

        Of equals the first counts. A query with nothing before it gets similarity 0 and index 0.

        Parameters
        ----------
        queries : Tensor
            (B, n, D).
        times : Tensor
            (n,), not falling.

        Returns
        -------
        similarity, index : Tensor
            (B, n).
        """
        known = self.vectors[:, : self.count], self.reciprocals[:, : self.count], self.times[: self.count]
        return most_similar(queries, times, *known)


@wrap_torch_function(lambda vectors, reciprocals, given: (given,))
def store(vectors: Tensor, reciprocals: Tensor, given: Tensor) -> None:
    """Write `given` (B, n, D) and the reciprocals of its norms, 0 for a zero vector, into the first two."""
    vectors.copy_(given)
    reciprocals.copy_(reciprocal_norms(vectors.to(reciprocals.dtype)))


def reciprocal_norms(vectors: Tensor) -> Tensor:
    """1 / |v| of vectors (B, n, D), 0 where v = 0: (B, n). Square root and quotient are rounded as IEEE 754 says."""
    squares = (vectors * vectors).sum(-1)
    norms = squares.sqrt() if squares.requires_grad else root_(squares)
    return torch.where(norms > 0, torch.ones_like(norms) / norms, torch.zeros_like(norms))


@wrap_torch_function(lambda queries, *rest: (queries,))
def most_similar(
    queries: Tensor, asked: Tensor, vectors: Tensor, reciprocals: Tensor, learned: Tensor
) -> tuple[Tensor, Tensor]:
    """See `Past.most_similar`."""
    B, n, _ = queries.shape
    similarity, index = queries.new_zeros(B, n), torch.zeros(B, n, dtype=torch.long, device=queries.device)
    for a in range(0, n, QUERIES):
        q, now = queries[:, a : a + QUERIES], asked[a : a + QUERIES]
        best = torch.full_like(q[..., 0], -torch.inf)
        before = int(torch.searchsorted(learned, now[-1:]))  # vectors that the block's last query may see
        for b in range(0, before, KEYS):
            stop = min(b + KEYS, before)
            hidden = learned[b:stop] >= now[:, None] if learned[stop - 1] >= now[0] else None
            found, at = _best(q, vectors[:, b:stop], reciprocals[:, b:stop], hidden, best)
            better = found > best  # of equals the first
            best = torch.where(better, found, best)
            index[:, a : a + QUERIES] = torch.where(better, at + b, index[:, a : a + QUERIES])
        cosine = best * reciprocal_norms(q)
        similarity[:, a : a + QUERIES] = torch.where(best.isfinite(), cosine, torch.zeros_like(cosine))
    return similarity, index


def _best(q: Tensor, keys: Tensor, reciprocals: Tensor, hidden: Tensor | None, best: Tensor) -> tuple[Tensor, Tensor]:
    """Best score q k / |k| and index of its key, (B, n), of equals the first; -inf where none is above `best`."""
    if q.dtype == torch.float64 and _float32_is_whole():
        scores = _scores(q.float(), keys, reciprocals.float(), hidden)
        highest, at = scores.max(-1)
        # A sum of D products, in whatever order, errs by at most D 2^-24 of its terms' absolute values, which are
        # |q| |k| together; rounding the reciprocal and the score adds 2^-23. A query of zeros takes the first key.
        error = (q.shape[-1] + 8) * 2.0**-24 * torch.sqrt((q * q).sum(-1, keepdim=True))
        least = torch.maximum(highest[..., None].double() - 2 * error, best[..., None] - error)
        candidates = (scores >= least).logical_and_(scores.isfinite()).logical_and_(error > 0)
        candidates.scatter_(2, at[..., None], highest.isfinite()[..., None])
        image, query, key = candidates.nonzero(as_tuple=True)
        if len(key) <= FEW * scores.shape[0] * scores.shape[1]:
            exact = (q[image, query] * keys[image, key].double()).sum(-1) * reciprocals[image, key]
            row = image * q.shape[1] + query
            found = torch.full_like(best, -torch.inf).flatten()
            found.scatter_reduce_(0, row, exact, "amax")
            first = exact == found[row]
            index = key.new_full(found.shape, keys.shape[1])
            index.scatter_reduce_(0, row[first], key[first], "amin")
            return found.view_as(best), index.view(best.shape)
    found, at = _scores(q, keys.to(q.dtype), reciprocals, hidden).max(-1)
    return found, at


def _float32_is_whole() -> bool:
    """Whether torch has no leave to multiply float32 with fewer bits; then the bound of the error does not hold."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # given through torch.backends.*.fp32_precision, of which this does not know
        return False


def _scores(q: Tensor, keys: Tensor, reciprocals: Tensor, hidden: Tensor | None) -> Tensor:
    """q k / |k|: (B, queries, keys), -inf where `hidden`."""
    scores = torch.bmm(q, keys.mT).mul_(reciprocals[:, None])
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)

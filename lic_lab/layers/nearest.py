"""Exact search for the most similar of many vectors, by cosine, without the matrix of all pairs in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import wrap_torch_function

QUERIES, KEYS = 512, 4096  # pairs compared at once: 8 MB of float32


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
    norms = torch.sqrt((vectors * vectors).sum(-1))
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
            keys = vectors[:, b:stop].to(q.dtype)
            scores = torch.bmm(q, keys.mT).mul_(reciprocals[:, None, b:stop])  # (B, queries, keys)
            if learned[stop - 1] >= now[0]:
                scores.masked_fill_(learned[b:stop] >= now[:, None], -torch.inf)
            found, at = scores.max(-1)  # of equals the first
            better = found > best
            best = torch.where(better, found, best)
            index[:, a : a + QUERIES] = torch.where(better, at + b, index[:, a : a + QUERIES])
        cosine = best * reciprocal_norms(q)
        similarity[:, a : a + QUERIES] = torch.where(best.isfinite(), cosine, torch.zeros_like(cosine))
    return similarity, index

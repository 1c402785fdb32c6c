"""The blocked search finds the first of the most similar vectors of the past, whatever the blocks, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import number_of_threads
from torch import Tensor

from lic_lab.layers import nearest
from lic_lab.layers.exact import exact
from lic_lab.layers.fixed_point import to_grid
from lic_lab.layers.nearest import Past


@st.composite
def memories(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Integer vectors (B, n, D), many of them equal, parallel or zero, and times (n,) that do not fall."""
    B, n, D = draw(st.integers(1, 3)), draw(st.integers(1, 16)), draw(st.integers(1, 3))
    numbers = draw(st.lists(st.integers(-3, 3), min_size=B * n * D, max_size=B * n * D))
    times = sorted(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)))
    return torch.tensor(numbers, dtype=torch.float64).view(B, n, D), torch.tensor(times)


def searched(vectors: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Every vector looks for one like it, all at once."""
    past = Past(vectors, vectors.shape[1], vectors.shape[2])
    past.add(vectors, times)
    return past.most_similar(vectors, times)


def in_turn(vectors: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The same as a coder does: those of one time look, then they are learned."""
    past = Past(vectors, vectors.shape[1], vectors.shape[2])
    found = []
    for time in times.unique():
        now = vectors[:, times == time]
        found.append(past.most_similar(now, times[times == time]))
        past.add(now, times[times == time])
    similarity, index = zip(*found, strict=True)
    return torch.cat(similarity, 1), torch.cat(index, 1)


def brute_force(vectors: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """One pair after the other, with Python's numbers."""
    B, n, _ = vectors.shape
    similarity, index = torch.zeros(B, n, dtype=torch.float64), torch.zeros(B, n, dtype=torch.long)
    for b in range(B):
        v = [[int(x) for x in row] for row in vectors[b].tolist()]
        reciprocals = [1 / math.sqrt(sum(x * x for x in row)) if any(row) else 0.0 for row in v]
        for i in range(n):
            best = -math.inf
            for j in range(n):
                score = sum(x * y for x, y in zip(v[i], v[j], strict=True)) * reciprocals[j]
                if times[j] < times[i] and score > best:
                    best, index[b, i] = score, j
            similarity[b, i] = best * reciprocals[i] if best > -math.inf else 0.0
    return similarity, index


def cosine(a: list[int], b: list[int]) -> Fraction:
    """Its square with its sign, exactly."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norms = sum(x * x for x in a) * sum(x * x for x in b)
    return Fraction(dot * abs(dot), norms) if norms else Fraction(0)


def same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@contextmanager
def blocks(queries: int, keys: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "QUERIES", queries)
        patch.setattr(nearest, "KEYS", keys)
        yield


@settings(max_examples=60)
@given(memories(), st.integers(1, 9), st.integers(1, 9))
def test_it_finds_what_brute_force_finds(memory: tuple[Tensor, Tensor], queries: int, keys: int) -> None:
    """The first of equals, in blocks of any size, all at once and in turn."""
    expected = brute_force(*memory)
    assert same(searched(*memory), expected)
    with blocks(queries, keys):
        assert same(searched(*memory), expected)
        assert same(in_turn(*memory), expected)


@settings(max_examples=60)
@given(memories())
def test_nothing_in_the_past_is_more_similar(memory: tuple[Tensor, Tensor]) -> None:
    """In exact fractions. A rounded root may choose between parallel vectors, never between others."""
    vectors, times = memory
    _, index = searched(vectors, times)
    for b, v in enumerate(vectors.long().tolist()):
        for i, found in enumerate(index[b].tolist()):
            seen = [cosine(v[i], v[j]) for j in range(len(v)) if times[j] < times[i]]
            assert not seen or cosine(v[i], v[found]) == max(seen)
            assert found == 0 or times[found] < times[i]


def vectors_and_times(n: int = 200, D: int = 37, B: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randint(-9, 10, (B, n, D), generator=g).double(), torch.arange(n) // 7


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 1000), (1000, 1), (7, 7), (13, 64), (64, 13), (200, 200)])
def test_the_size_of_the_blocks_does_not_matter(queries: int, keys: int) -> None:
    memory = vectors_and_times(100)
    expected = searched(*memory)
    with blocks(queries, keys):
        assert same(searched(*memory), expected)
        assert same(in_turn(*memory), expected)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("block", [5, 1000])
def test_the_same_time_and_later_ones_are_not_seen(poison: float, block: int) -> None:
    vectors, times = vectors_and_times()
    now = 14
    past = Past(vectors, vectors.shape[1], vectors.shape[2])
    past.add(torch.where((times < now)[:, None], vectors, torch.full_like(vectors, poison)), times)
    asked = times == now
    with blocks(block, block):
        similarity, index = past.most_similar(vectors[:, asked], times[asked])
        expected = searched(vectors, times)
    assert same((similarity, index), (expected[0][:, asked], expected[1][:, asked]))
    assert (times[index] < now).all()


def test_a_query_looks_at_the_latest_time_before_its_own() -> None:
    """Its double learned a moment ago is found, its double of the same moment is not."""
    vectors = torch.eye(4).double()[[0, 1, 2, 2, 2, 3]][None]
    similarity, index = searched(vectors, torch.tensor([0, 1, 2, 3, 3, 4]))
    assert index[0].tolist() == [0, 0, 0, 2, 2, 0]
    assert similarity[0].tolist() == [0, 0, 0, 1, 1, 0]


def test_of_equals_the_first_is_found() -> None:
    vectors = torch.tensor([[2, 1], [1, 2], [2, 1], [1, 2], [4, 2]]).double()[None]
    for size in (1, 2, 1000):
        with blocks(size, size):
            assert searched(vectors, torch.arange(5))[1][0].tolist() == [0, 0, 0, 1, 0]


def test_zero_vectors_are_similar_to_nothing() -> None:
    """A zero query gets similarity 0; a zero vector of the past is better than an opposite one, and never NaN."""
    vectors = torch.tensor([[1, 0], [0, 0], [-1, 0], [-1, 0]]).double()[None]
    similarity, index = searched(vectors, torch.tensor([0, 1, 2, 3]))
    assert index[0].tolist() == [0, 0, 1, 2]
    assert similarity[0].tolist() == [0, 0, 0, 1]
    assert not searched(torch.zeros(2, 5, 3), torch.arange(5))[0].any()


def test_nothing_before_gives_zero() -> None:
    vectors, _ = vectors_and_times(5)
    assert same(searched(vectors, torch.zeros(5).long()), (torch.zeros(2, 5).double(), torch.zeros(2, 5).long()))
    past = Past(vectors, 5, vectors.shape[2])
    assert same(past.most_similar(vectors, torch.arange(5)), searched(vectors, torch.zeros(5).long()))


def test_a_batch_is_its_images_one_by_one() -> None:
    vectors, times = vectors_and_times(B=3)
    similarity, index = searched(vectors, times)
    for b in range(3):
        assert same(searched(vectors[b : b + 1], times), (similarity[b : b + 1], index[b : b + 1]))
    assert not torch.equal(index[0], index[1])


def test_exact_arithmetic_finds_what_float64_does() -> None:
    """Symbols are integers, so both know every product; the similarity is rounded to the grid."""
    memory = vectors_and_times()
    similarity, index = searched(*memory)
    for way in (searched, in_turn):
        with torch.no_grad(), exact():
            found = way(*memory)
        assert same(found, (to_grid(similarity), index))


def test_exact_arithmetic_gives_the_same_under_every_condition() -> None:
    """Numbers that are no integers, whose dot products float32 and float64 round in the order of summation."""
    g = torch.Generator().manual_seed(0)
    vectors, times = 50 * torch.randn(1, 300, 512, generator=g).double(), torch.arange(300) // 11
    shuffled = torch.randperm(512, generator=g)
    with torch.no_grad(), exact():
        expected = searched(vectors, times)
        for threads in (1, 2):
            with number_of_threads(threads), torch.backends.mkldnn.flags(enabled=False):
                assert same(searched(vectors, times), expected)
                assert same(in_turn(vectors, times), expected)
        assert same(searched(vectors[:, :, shuffled], times), expected)
        with blocks(37, 41):
            assert same(searched(vectors, times), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_exact_arithmetic_gives_the_same_on_a_gpu() -> None:
    vectors, times = vectors_and_times()
    with torch.no_grad(), exact():
        found = searched(vectors.cuda(), times.cuda())
        assert same((found[0].cpu(), found[1].cpu()), searched(vectors, times))


@pytest.mark.parametrize("wide", [3, 1000, 2**20])
@pytest.mark.parametrize("seed", range(3))
def test_sorting_out_in_float32_changes_nothing(wide: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors too alike for float32 to tell apart, equal ones and zeros: the result is that of float64 alone."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randint(-wide, wide + 1, (2, 5, 300), generator=generator).double()
    vectors = few[:, torch.randint(5, (200,), generator=generator)]
    nudged = torch.randint(300, (2, 200, 1), generator=generator)
    vectors.scatter_add_(2, nudged, torch.randint(-1, 2, (2, 200, 1), generator=generator).double())
    vectors[:, ::17] = 0
    times = torch.arange(200) // 3
    monkeypatch.setattr(nearest, "KEYS", 64)
    found = []
    for few_enough in (-1, 10**6):  # never, always
        monkeypatch.setattr(nearest, "FEW", few_enough)
        found.append(searched(vectors, times))
    assert same(*found)

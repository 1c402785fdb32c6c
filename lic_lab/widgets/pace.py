"""How long an analysis will take on this machine, learned from those before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LONG = 1.0  # seconds; a shorter analysis is not announced
PARTS = {"transform": "the transform", "entropy": "the entropy model", "reconstruction": "the reconstruction"}
FIRST = {"transform": 1.5e-6, "entropy": 1.5e-6, "reconstruction": 1.5e-6}  # seconds per pixel before there is a run
DEAR = ("attention", "raster", "intra", "reference")  # with one of these the entropy model takes longer
SMALL = 1e4  # pixels at which a pixel costs twice what it does in a large picture
LONGER = 3.0  # than with convolutions alone; until it was measured


@dataclass(frozen=True)
class Progress:
    """Where a long analysis is.

    Attributes
    ----------
    words : str
        What is computed.
    done : float
        Part of the whole that is done, 0 to 1.
    left : float
        Seconds that the rest will take.
    """

    words: str
    done: float
    left: float


class Pace:
    """Seconds of each part of an analysis by the picture's size.

    What is expected is the rate of the run nearest in size, corrected for what small pictures cost more per pixel.
    While an analysis runs the rest is corrected by what its first parts took: other programs may take the cores.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[int, float]] = {}  # (part, kind): pixels: the latest seconds

    def note(self, part: str, kind: str, pixels: int, seconds: float) -> None:
        """A part took this long."""
        of = self._seen.setdefault((part, kind), {})
        of.pop(pixels, None)
        of[pixels] = seconds

    def expect(self, part: str, kind: str, pixels: int) -> float:
        """Seconds that a part will take; `kind` tells combinations apart whose times differ."""
        known = self._seen.get((part, kind))
        if not known:  # what this machine needs for other parts, of what was assumed for them
            ratios = [self._rate(seen, pixels) / _assumed(*of) for of, seen in self._seen.items()]
            return pixels * _assumed(part, kind) * (sum(ratios) / len(ratios) if ratios else 1.0)
        return pixels * self._rate(known, pixels)

    @staticmethod
    def _rate(seen: dict[int, float], pixels: int) -> float:
        """Seconds per pixel of the run nearest in size, the latest of equals."""
        nearest = min(reversed(seen), key=lambda size: abs(math.log(size / pixels)))
        return seen[nearest] / nearest * (1 + SMALL / pixels) / (1 + SMALL / nearest)


def _assumed(part: str, kind: str) -> float:
    return FIRST[part] * (LONGER if any(name in kind for name in DEAR) else 1.0)


class Course:
    """One analysis, part by part: says where it is and notes how long its parts took.

    Parameters
    ----------
    pace : Pace
    pixels : int
    parts : dict of str to str
        Those that will run, in their order, and the kind of each.
    report : callable
        Given a `Progress` at the beginning of each part, if all will take longer than `LONG`.
    """

    def __init__(self, pace: Pace, pixels: int, parts: dict[str, str], report: Callable[[Progress], None]) -> None:
        self._pace, self._pixels, self._kinds, self._report = pace, pixels, parts, report
        self._expected = {part: pace.expect(part, kind, pixels) for part, kind in parts.items()}
        self._took: dict[str, float] = {}
        self.seconds = sum(self._expected.values())

    @contextmanager
    def part(self, name: str, computed: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """A part runs. It is noted if it was `computed`, and not found made."""
        if name not in self._kinds:
            yield
            return
        if self.seconds > LONG:
            self._tell(name)
        start = time.perf_counter()
        yield
        self._took[name] = time.perf_counter() - start
        if computed():
            self._pace.note(name, self._kinds[name], self._pixels, self._took[name])

    def _tell(self, name: str) -> None:
        promised = sum(self._expected[of] for of in self._took)
        spent = sum(self._took.values())
        slower = spent / promised if promised else 1.0  # than was expected, as when other programs run
        left = slower * (self.seconds - promised)
        told = f"about {_time(left)} " + ("more" if self._took else "in all")
        words = f"Analysing {self._pixels / 1e6:.1f} megapixels: {PARTS[name]}, {told}"
        self._report(Progress(words, spent / (spent + left), left))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

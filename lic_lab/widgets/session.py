"""What the workbench computes with, apart from how it looks: codecs, cached latents, runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lic_lab.codecs import weights
from lic_lab.codecs.codec import Codec
from lic_lab.image import Picture
from lic_lab.layers.places import SUFFIX
from lic_lab.tracing import Latent, Trace, latent, reconstruct, trace

CODEC = "shared"
CACHE_BYTES = 1 << 30  # of latents and reconstructions; the oldest go first
ATTENTION_POSITIONS = 24_576  # 6 megapixels; attention maps take about 100 MB per 4096 positions
Choice = dict[str, str]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One analysis.

    Attributes
    ----------
    trace : Trace
    latent : Latent
    codec : Codec
    cached : bool
        Whether the transform's output was there already.
    seconds : float
        From the change to the numbers and the picture.
    """

    trace: Trace
    latent: Latent
    codec: Codec
    cached: bool
    seconds: float

    @property
    def label(self) -> str:
        """The components in use, in one line."""
        used = [f"{part} {name}" for part, name in self.trace.combination.items() if name != "none"]
        return ", ".join(used) or "hyperprior alone"


class Session:
    """Runs combinations of the shared latent's components, with the transform's output kept per image and quality."""

    def __init__(self) -> None:
        self._latents: OrderedDict[tuple[int, str | None], Latent] = OrderedDict()
        self._speed = 1.5e-6  # seconds per pixel of a first analysis; measured anew each time

    @staticmethod
    def qualities() -> dict[int, float]:
        """Quality and lambda of the rate points that have weights.

        Raises
        ------
        WeightsError
            When there are none, or a card can't be read.
        """
        found = {card["quality"]: card["lambda"] for card in weights.cards(CODEC)}
        if not found:
            raise weights.WeightsError(
                f"there are no weights for the workbench in {weights.folder()}; restore them with "
                "`git checkout data/weights`, or set LIC_LAB_WEIGHTS to the folder that has them"
            )
        return found

    def run(self, picture: Picture, quality: int, choice: Choice, report: Report, first: Callable[[Run], None]) -> Run:
        """Analyse. `first` gets the run as soon as its numbers are there, before there is a picture.

        Parameters
        ----------
        picture : Picture
        quality : int
        choice : dict
            Keywords of `SharedLatent.swap`.
        report : callable
            Told in words what goes on, when it will take long.
        first : callable
        """
        start = time.perf_counter()
        codec = weights.load(CODEC, quality).swap(**choice)
        cached = (id(picture), codec.digest) in self._latents
        pixels = picture.x.shape[2] * picture.x.shape[3]
        long = not cached and self._speed * pixels > 1
        megapixels = f"{pixels / 1e6:.1f} megapixels"
        with _reporting(report if long else _silent) as say:
            say(f"Analysing {megapixels}: the transform, about {self._speed * pixels:.0f} s in all")
            found = self._latent(codec, picture)
            say(f"Analysing {megapixels}: the entropy model")
            run = Run(trace(codec, found, reconstruct=False, keep=_nothing), found, codec, cached, 0.0)
            first(replace(run, seconds=time.perf_counter() - start))
            say(f"Analysing {megapixels}: the reconstruction")
            whole = reconstruct(codec, found, run.trace, _nothing)
            run = replace(run, trace=whole, seconds=time.perf_counter() - start)
        if not cached:
            self._speed = run.seconds / pixels
        self._trim(found)
        return run

    def attention(self, run: Run, component: str) -> Trace:
        """The run again with the attention maps of one component kept.

        Raises
        ------
        ValueError
            When the image is so large that the maps would fill the memory.
        """
        h, w = run.trace.bits.shape[1:]
        if h * w > ATTENTION_POSITIONS:
            raise ValueError(
                f"attention maps of {h * w} latent positions would take about {h * w / 4096 * 0.1:.1f} GB; they are "
                f"shown up to {ATTENTION_POSITIONS} positions (6 megapixels): crop the image"
            )
        name = component + SUFFIX
        return trace(run.codec, run.latent, run.trace.taps[name] == "g_s", keep=lambda tap: tap == name)

    def _latent(self, codec: Codec, picture: Picture) -> Latent:
        key = (id(picture), codec.digest)
        if key not in self._latents:
            self._latents[key] = latent(codec, picture, _nothing)  # holds the picture, so its id stays its own
        self._latents.move_to_end(key)
        return self._latents[key]

    def _trim(self, current: Latent) -> None:
        """Forget the oldest latents, then the oldest reconstructions of this one, beyond `CACHE_BYTES`."""
        while sum(found.nbytes for found in self._latents.values()) > CACHE_BYTES and len(self._latents) > 1:
            self._latents.popitem(last=False)
        while current.nbytes > CACHE_BYTES and len(current.pictures) > 1:
            current.pictures.pop(next(iter(current.pictures)))


def _nothing(tap: str) -> bool:
    return False


def _silent(words: str) -> None:
    pass


@contextmanager
def _reporting(report: Report) -> Iterator[Report]:
    """Ends with an empty report, whatever happens."""
    try:
        yield report
    finally:
        report("")

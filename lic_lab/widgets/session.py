"""What the workbench computes with, apart from how it looks: codecs, cached latents, runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock

from lic_lab.codecs import weights
from lic_lab.codecs.codec import Codec
from lic_lab.image import Picture
from lic_lab.layers.places import SUFFIX
from lic_lab.tracing import Latent, Trace, latent, reconstruct, trace
from lic_lab.widgets.background import Stop
from lic_lab.widgets.pace import Course, Pace, Progress

CODEC = "shared"
CACHE_BYTES = 1 << 30  # of latents and reconstructions; the oldest go first
ATTENTION_POSITIONS = 24_576  # 6 megapixels; attention maps take about 100 MB per 4096 positions
Choice = dict[str, str]
Report = Callable[[Progress], None]


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
        self._pace = Pace()
        self._lock = Lock()  # a run that was stopped may still be ending in its thread

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

    def seconds(self, picture: Picture, quality: int, choice: Choice) -> float:
        """How long `run` will take, as far as the runs before tell."""
        return self._course(picture, weights.borrow(CODEC, quality).swap(**choice), lambda progress: None).seconds

    def run(
        self,
        picture: Picture,
        quality: int,
        choice: Choice,
        report: Report,
        first: Callable[[Run], None],
        stop: Stop | None = None,
    ) -> Run:
        """Analyse. `first` gets the run as soon as its numbers are there, before there is a picture.

        Parameters
        ----------
        picture : Picture
        quality : int
        choice : dict
            Keywords of `SharedLatent.swap`.
        report : callable
            Told where it is, when it will take long.
        first : callable
        stop : Stop, optional
            What stops it, from another thread.

        Raises
        ------
        Stopped
            When it was stopped; what was computed completely is kept for another run.
        """
        start = time.perf_counter()
        with stop or nullcontext():
            codec = weights.borrow(CODEC, quality).swap(**choice)
            course = self._course(picture, codec, report)
            cached = self._known(codec, picture) is not None
            if not cached:
                with course.part("transform"):
                    made = latent(codec, picture, _nothing)
                self._keep(codec, made)
            found = self._known(codec, picture) or made
            with course.part("entropy"):
                run = Run(trace(codec, found, reconstruct=False, keep=_nothing), found, codec, cached, 0.0)
            first(replace(run, seconds=time.perf_counter() - start))
            had = len(found.pictures)
            with course.part("reconstruction", lambda: len(found.pictures) > had):
                whole = reconstruct(codec, found, run.trace, _nothing)
            if stop is not None:
                stop.check()
        self._trim(found)
        return replace(run, trace=whole, seconds=time.perf_counter() - start)

    def _course(self, picture: Picture, codec: Codec, report: Report) -> Course:
        """The parts that are still to be computed for this codec on this picture."""
        known, choice = self._known(codec, picture), codec.combination
        parts = {"entropy": " ".join(choice.values())}
        if known is None:
            parts = {"transform": "", **parts}
        if known is None or not known.pictures or choice["refinement"] != "none":
            parts["reconstruction"] = ""
        return Course(self._pace, picture.x.shape[2] * picture.x.shape[3], parts, report)

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

    def _known(self, codec: Codec, picture: Picture) -> Latent | None:
        with self._lock:
            found = self._latents.get((id(picture), codec.digest))
            if found is not None:
                self._latents.move_to_end((id(picture), codec.digest))
            return found

    def _keep(self, codec: Codec, found: Latent) -> None:
        with self._lock:
            self._latents[(id(found.picture), codec.digest)] = found  # it holds the picture, so its id stays its own

    def _trim(self, current: Latent) -> None:
        """Forget the oldest latents, then the oldest reconstructions of this one, beyond `CACHE_BYTES`."""
        with self._lock:
            while sum(found.nbytes for found in self._latents.values()) > CACHE_BYTES and len(self._latents) > 1:
                self._latents.popitem(last=False)
            while current.nbytes > CACHE_BYTES and len(current.pictures) > 1:
                current.pictures.pop(next(iter(current.pictures)))


def _nothing(tap: str) -> bool:
    return False

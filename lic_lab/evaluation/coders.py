"""A coder is one codec at one rate point, from pixels to bytes and back: what a sweep runs.

Two texts name it, ``coder("mlic+", "q=3,local=stacked")`` or ``coder("jpeg", "quality=30")``, so that a job is small
and whoever runs it, on this machine or another, needs nothing but the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lic_lab.evaluation.classical import CLASSICAL, classical, rate_points

if TYPE_CHECKING:
    from lic_lab.codecs.geometry import Geometry


class Point(NamedTuple):
    """A coder by name, for those who only talk about it: codec, rate point, and what `Coder.digest` says."""

    name: str
    configuration: str
    digest: str


class Coder(Protocol):
    """What a sweep runs.

    Attributes
    ----------
    name, configuration : str
        The codec and its rate point: what `coder` takes.
    digest : str
        What else decides about the result: SHA-256 of the weights; of a classical codec library and version.
    """

    @property
    def name(self) -> str: ...
    @property
    def configuration(self) -> str: ...
    @property
    def digest(self) -> str: ...

    def encode(self, pixels: NDArray[np.uint8]) -> list[bytes]:
        """The strings of an image (H, W, 3)."""
        ...

    def decode(self, strings: list[bytes]) -> NDArray[np.uint8]:
        """The image (H, W, 3) from what `encode` returned."""
        ...


class Strings(list[bytes]):
    """Entropy-coded strings, and the sizes that a container tells the decoder; papers do not count those."""

    def __init__(self, strings: Iterable[bytes], geometry: Geometry):
        super().__init__(strings)
        self.geometry = geometry


class Learned:
    """A codec of ours with its shipped weights.

    Parameters
    ----------
    name : str
        What `lic_lab.load` takes.
    quality : int, optional
        By default the lowest that has weights.
    swaps : dict of str to str, optional
        Components to exchange: ``{"local": "stacked"}``. Those that are the codec's own change nothing, and are not
        in the configuration.

    Raises
    ------
    ValueError
        When there are no such weights or components.
    """

    def __init__(self, name: str, quality: int | None = None, swaps: dict[str, str] | None = None):
        from lic_lab.codecs.weights import borrow  # seconds, which classical codecs need not wait for

        codec = borrow(name, quality).swap(**swaps or {})
        self.codec, self.name, self.digest = codec, name, str(codec.digest)
        self.configuration = ",".join([f"q={codec.quality}", *(f"{part}={other}" for part, other in codec.swapped)])

    def encode(self, pixels: NDArray[np.uint8]) -> Strings:
        """The strings of y and, with a hyperprior, of z for an image (H, W, 3)."""
        from lic_lab.image import read_image

        coded = self.codec.encode(read_image(pixels))
        return Strings(coded.strings, coded.geometry)

    def decode(self, strings: list[bytes]) -> NDArray[np.uint8]:
        """The image (H, W, 3) from what `encode` returned."""
        from lic_lab.image import to_uint8

        if not isinstance(strings, Strings):
            raise ValueError("these strings do not say how large the image is: give what `encode` returned")
        y_hat = self.codec.decode(strings, strings.geometry)
        return to_uint8(self.codec.picture(y_hat, strings.geometry))


def coder(name: str, configuration: str) -> Coder:
    """The coder of this name and configuration, built anew.

    >>> coder("jpeg", "quality=30").name
    'jpeg'

    Raises
    ------
    ValueError
        For an unknown codec or configuration, missing weights, or a program that is not installed.
    """
    if name in CLASSICAL:
        return classical(name, configuration)
    _known(name)
    quality, swaps = parse(configuration)
    return Learned(name, quality, swaps)


def point(name: str, configuration: str) -> Point:
    """What a coder is called, after building it once: so that whatever it lacks is told now. Raises as `coder`."""
    built = coder(name, configuration)
    return Point(built.name, built.configuration, built.digest)


def configurations(name: str) -> list[str]:
    """All rate points of a codec, by rising rate; of a learned one those that have weights.

    Raises
    ------
    ValueError
        For an unknown codec, one without weights, or one whose program is not installed.
    """
    if name in CLASSICAL:
        return [at.configuration for at in rate_points(name)]
    from lic_lab.codecs.weights import cards

    _known(name)
    return [f"q={card['quality']}" for card in cards(name)]


def parse(configuration: str) -> tuple[int, dict[str, str]]:
    """Quality and swaps of a learned coder's configuration.

    >>> parse("q=3,local=stacked")
    (3, {'local': 'stacked'})
    """
    pairs = dict(_pair(text, configuration) for text in configuration.split(","))
    quality = pairs.pop("q", "")
    if not quality.isdecimal():
        raise _unreadable(configuration)
    return int(quality), pairs


def _pair(text: str, configuration: str) -> tuple[str, str]:
    part, _, name = text.partition("=")
    if not part or not name:
        raise _unreadable(configuration)
    return part, name


def _unreadable(configuration: str) -> ValueError:
    return ValueError(
        f"a learned codec's configuration is {configuration!r}; write its quality, and components to swap if any: "
        "q=3 or q=3,local=stacked"
    )


def _known(name: str) -> None:
    """Refuse a name that is neither that of a classical codec nor that of one with weights."""
    from lic_lab.codecs.weights import cards

    learned = sorted({served for card in cards() for served in card["serves"]})
    if name not in learned:
        raise ValueError(
            f"no codec to measure is called {name!r}; there are {', '.join(CLASSICAL)}, and weights for "
            f"{', '.join(learned) or 'none'}"
        )

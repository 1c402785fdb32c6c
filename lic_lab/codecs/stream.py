"""A coded image as a file that says what it needs to be decoded.

    "LICL"  version  length of header  header (JSON, UTF-8)  strings, one after the other  CRC-32 of all before
       4       1            4                 n                         ...                     4            bytes

The header holds the codec, its quality, the combination of components, the digest of the weights, the image's size, the
shape of z and the length of each string. Integers are little-endian.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lic_lab.codecs.codec import Codec

MAGIC, VERSION = b"LICL", 1
STRIDE = 64  # images are padded to multiples of this before coding
LONGEST_HEADER = 65_536  # bytes
LARGEST = 2**28  # pixels of an image a header may claim, so that a forged one can't ask for all memory
MOST_STRINGS = 16


class StreamError(ValueError):
    """A file that is no stream of ours, is damaged, or needs a codec or weights that are not here."""


@dataclass(frozen=True)
class Stream:
    """One coded image.

    Attributes
    ----------
    codec : str
    quality : int
    combination : dict
        Components by part, ``{"local": "attention"}``; empty for a codec without a menu.
    digest : str
        SHA-256 of the weights file, hexadecimal.
    height, width : int
        Size of the image in pixels.
    shape : tuple of int
        Rows and columns of z (of y for a codec without hyperprior).
    strings : tuple of bytes
        What the codec's `compress` returned, for one image.
    """

    codec: str
    quality: int
    combination: dict[str, str]
    digest: str
    height: int
    width: int
    shape: tuple[int, int]
    strings: tuple[bytes, ...]

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * len(self.to_bytes()) / (self.height * self.width)

    def to_bytes(self) -> bytes:
        """The file's content."""
        fields = {
            "codec": self.codec,
            "quality": self.quality,
            "combination": self.combination,
            "digest": self.digest,
            "size": [self.height, self.width],
            "shape": list(self.shape),
            "lengths": [len(string) for string in self.strings],
        }
        header = json.dumps(fields, separators=(",", ":")).encode()
        body = b"".join((MAGIC, bytes([VERSION]), len(header).to_bytes(4, "little"), header, *self.strings))
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Stream:
        """Read what `to_bytes` wrote.

        Raises
        ------
        StreamError
            When anything about it is not as `to_bytes` writes it.
        """
        if data[: len(MAGIC)] != MAGIC:
            raise StreamError(f"this is no stream of lic-lab: it starts with {data[:4]!r}, not {MAGIC!r}")
        if len(data) < 13:
            raise StreamError(f"the stream has {len(data)} bytes and is cut off: copy it again")
        if data[4] != VERSION:
            raise StreamError(f"the stream has version {data[4]}; this lic-lab reads version {VERSION}")
        body, check = data[:-4], int.from_bytes(data[-4:], "little")
        if zlib.crc32(body) != check:
            raise StreamError("the stream is damaged or cut off (its checksum is wrong): copy it again")
        length = int.from_bytes(body[5:9], "little")
        if length > min(LONGEST_HEADER, len(body) - 9):
            raise StreamError(f"the stream's header claims {length} bytes of {len(body) - 9}")
        try:
            header = json.loads(body[9 : 9 + length])
        except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
            raise StreamError(f"the stream's header is no JSON ({error})") from None
        return cls._checked(header, body[9 + length :])

    @classmethod
    def _checked(cls, header: Any, payload: bytes) -> Stream:
        if not isinstance(header, dict):
            raise StreamError(f"the stream's header is a {type(header).__name__}, not an object")
        codec, digest = (_field(header, key, str) for key in ("codec", "digest"))
        quality = _field(header, "quality", int)
        combination = _field(header, "combination", dict)
        if not all(isinstance(name, str) for name in combination.values()):
            raise StreamError(f"the stream's combination is {combination}; components are named by text")
        height, width = _integers(header, "size", 2)
        if height * width > LARGEST:
            raise StreamError(f"the stream claims an image of {width} x {height} pixels; {LARGEST} pixels is the limit")
        rows, columns = _integers(header, "shape", 2)
        padded = height + -height % STRIDE, width + -width % STRIDE
        stride = padded[0] // rows
        if not stride or STRIDE % stride or (rows * stride, columns * stride) != padded:
            raise StreamError(f"the stream's latent of {rows} x {columns} does not fit its image of {width} x {height}")
        lengths = _integers(header, "lengths", None)
        if sum(lengths) != len(payload):
            raise StreamError(f"the stream's strings should have {sum(lengths)} bytes and have {len(payload)}")
        strings, start = [], 0
        for length in lengths:
            strings.append(payload[start : start + length])
            start += length
        return cls(codec, quality, combination, digest, height, width, (rows, columns), tuple(strings))


def _field(header: dict[str, Any], key: str, kind: type) -> Any:
    value = header.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise StreamError(f"the stream's header has {value!r} for {key}; it must be a {kind.__name__}")
    return value


def _integers(header: dict[str, Any], key: str, count: int | None) -> list[int]:
    """A list of positive integers: `count` of them, or 1 to `MOST_STRINGS`."""
    values = _field(header, key, list)
    right = len(values) == count if count else 1 <= len(values) <= MOST_STRINGS
    if not right or not all(type(value) is int and value > 0 for value in values):
        raise StreamError(
            f"the stream's header has {values!r} for {key}; it must be {count or 'some'} positive integers"
        )
    return list(values)


def compress(codec: Codec, x: Tensor) -> Stream:
    """Code one image.

    Parameters
    ----------
    codec : Codec
        From `lic_lab.load`: a stream names the weights it needs.
    x : Tensor
        (1, 3, H, W) in [0, 1]; any size.
    """
    from lic_lab.image import pad

    quality, digest = getattr(codec, "quality", None), getattr(codec, "digest", None)
    if quality is None or digest is None:
        raise ValueError(f"{codec.name} has no shipped weights, so nobody could decode its stream; use lab.load")
    if x.dim() != 4 or x.shape[:2] != (1, 3):
        raise ValueError(f"the image has shape {tuple(x.shape)}; a stream holds one image, (1, 3, H, W)")
    padded, (_, _, height, width) = pad(x, STRIDE)
    coded = codec.compress(padded)
    return Stream(
        codec=codec.name,
        quality=quality,
        combination=dict(getattr(codec, "combination", {})),
        digest=digest,
        height=height,
        width=width,
        shape=(int(coded["shape"][0]), int(coded["shape"][1])),
        strings=tuple(group[0] for group in coded["strings"]),
    )


def decompress(stream: Stream) -> Tensor:
    """The image, (1, 3, H, W) in [0, 1], by the codec and the weights that the stream names.

    Raises
    ------
    StreamError
        When the weights here are not those the stream was written with, or lack its components.
    WeightsError
        When there are no weights of that name and quality.
    """
    from lic_lab.codecs.weights import load
    from lic_lab.image import crop

    codec = load(stream.codec, stream.quality)
    if codec.digest != stream.digest:
        raise StreamError(
            f"the stream was written with weights {stream.digest[:12]} of {stream.codec}, quality {stream.quality}; "
            f"here are {str(codec.digest)[:12]}, which would give a wrong picture: use the lic-lab that wrote it"
        )
    if stream.combination:
        try:
            codec = codec.swap(**stream.combination)
        except (ValueError, KeyError) as error:
            raise StreamError(f"the stream's components can't be had: {error}") from None
    expected, stride = (1, 16) if codec.hyperprior is None else (2, STRIDE)
    if len(stream.strings) != expected:
        raise StreamError(f"the stream has {len(stream.strings)} strings; {stream.codec} writes {expected}")
    if stream.shape[0] * stride != stream.height + -stream.height % STRIDE:
        raise StreamError(f"the stream's latent has {stream.shape[0]} rows, which is not how {stream.codec} codes it")
    decoded = codec.decompress([[string] for string in stream.strings], stream.shape)
    return crop(decoded["x_hat"], (0, 0, stream.height, stream.width))

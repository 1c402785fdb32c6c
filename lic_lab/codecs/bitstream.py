"""The .lic file: one coded image that says what it needs to be decoded. docs/bitstream.md is its specification.

    offset  bytes
         0      4   89 "LIC"
         4      1   version, 4
         5      1   quality
         6      8   weights: the first bytes of the file's SHA-256
        14      8   height, width of the image in pixels
        22      2   resize factor in 1/4096; 4096 when the image was coded at its size
        24      4   CRC-32 of the 24 bytes before, the name and the decoded latent
        28      4   CRC-32 of the 28 bytes before and the decoded picture's samples
        32      1   n, length of the name
        33      n   name: codec, then each component that is not the codec's own, "mlic+,local=stacked"
      33+n      1   k, number of strings
      34+n     4k   their lengths
    34+n+4k         the strings
       end      4   CRC-32 of all before

Integers are little-endian and unsigned.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lic_lab.codecs.geometry import WHOLE
from lic_lab.image import LARGEST, Source, read_image, to_uint8
from lic_lab.layers.fixed_point import to_grid
from lic_lab.layers.memory import kept

if TYPE_CHECKING:
    from torch import Tensor

    from lic_lab.codecs.codec import Codec

MAGIC, VERSION = b"\x89LIC", 4
MOST_STRINGS = 16
SMALLEST = 42  # bytes of a file with an empty name and one empty string

Bytes = bytes | bytearray | memoryview

_FIXED = struct.Struct("<4sBB8sIIHII")  # up to the picture's checksum


class BitstreamError(ValueError):
    """A stream that can't be decoded; the message says why and what to do. Subclasses tell the causes apart."""


class ForeignStream(BitstreamError):
    """Not a .lic file, or of a version that is not read here."""


class DamagedStream(BitstreamError):
    """Cut off, changed on the way, or with fields that contradict each other."""


class WrongModel(BitstreamError):
    """Needs a codec, components or weights that are not here."""


class TooLarge(BitstreamError):
    """Claims an image beyond the limit of pixels."""


class LatentMismatch(BitstreamError):
    """Decoded to another latent than was encoded."""


class PictureMismatch(BitstreamError):
    """Decoded to the latent that was encoded, but to another picture than the encoder saw."""


@dataclass(frozen=True)
class Bitstream:
    """One coded image.

    Attributes
    ----------
    codec : str
    quality : int
    components : tuple of (str, str)
        Those that are not the codec's own: ``(("local", "stacked"),)``.
    digest : str
        First 16 hexadecimal digits of the SHA-256 of the weights file.
    height, width : int
        Size of the image in pixels.
    latent, picture : int
        CRC-32 of what is decoded, see `latent_checksum` and `picture_checksum`.
    strings : tuple of bytes
        Of y and, for a codec with a hyperprior, of z.
    scale : int
        Resize factor in 1/4096.
    """

    codec: str
    quality: int
    components: tuple[tuple[str, str], ...]
    digest: str
    height: int
    width: int
    latent: int
    picture: int
    strings: tuple[bytes, ...]
    scale: int = WHOLE

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * len(self.to_bytes()) / (self.height * self.width)

    @property
    def name(self) -> str:
        """Codec and components as the file has them."""
        return ",".join((self.codec, *(f"{part}={name}" for part, name in self.components)))

    def _fixed(self) -> bytes:
        size = (self.height, self.width, self.scale)
        return _FIXED.pack(MAGIC, VERSION, self.quality, bytes.fromhex(self.digest), *size, self.latent, self.picture)

    def latent_checksum(self, y_hat: Tensor) -> int:
        """CRC-32 of all that makes the picture: the header, the name, and the latent as little-endian float64.

        The latent is taken on the grid of `lic_lab.layers.exact`, and zero without sign.
        """
        values = (to_grid(y_hat) + 0.0).cpu().contiguous().numpy().astype("<f8", copy=False)
        return zlib.crc32(values.tobytes(), zlib.crc32(self._fixed()[:-8] + self.name.encode()))

    def picture_checksum(self, pixels: NDArray[np.uint8]) -> int:
        """CRC-32 of the header up to the latent's, and of the samples (H, W, 3), row by row."""
        return zlib.crc32(pixels.tobytes(), zlib.crc32(self._fixed()[:-4]))

    def to_bytes(self) -> bytes:
        """The file's content."""
        name = self.name.encode()
        lengths = struct.pack(f"<{len(self.strings)}I", *map(len, self.strings))
        counted = (bytes([len(name)]), name, bytes([len(self.strings)]), lengths)
        body = b"".join((self._fixed(), *counted, *self.strings))
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: Bytes) -> Bitstream:
        """Read what `to_bytes` wrote.

        Raises
        ------
        BitstreamError
            When anything about it is not as `to_bytes` writes it.
        """
        if not isinstance(data, Bytes):
            raise ForeignStream(
                f"a stream is bytes, a path or a file opened with 'rb'; this gives a {type(data).__name__}"
            )
        data = bytes(data)
        if not data:
            raise ForeignStream("the file is empty: copy it again")
        if data[:4] != MAGIC[: len(data)]:
            raise ForeignStream(f"this is no .lic file: it starts with {data[:4]!r}; give a file that lic-lab wrote")
        if len(data) < SMALLEST:
            raise DamagedStream(f"the stream is cut off: it has {len(data)} bytes. Copy it again")
        if data[4] != VERSION:
            raise ForeignStream(
                f"the stream has version {data[4]} and this lic-lab reads version {VERSION}: use the lic-lab that "
                "wrote it"
            )
        body, check = data[:-4], int.from_bytes(data[-4:], "little")
        if zlib.crc32(body) != check:
            raise DamagedStream("the stream is damaged or cut off (its checksum is wrong): copy it again")
        _, _, quality, digest, height, width, scale, latent, picture = _FIXED.unpack_from(body)
        codec, components, at = _name(body)
        strings = _strings(body, at)
        if not height or not width:
            raise _forged(f"an image of {width} x {height} pixels")
        if not 1 <= scale <= WHOLE:
            raise _forged(f"to be coded at {scale / WHOLE:.3f} of its size")
        return cls(codec, quality, components, digest.hex(), height, width, latent, picture, strings, scale)


def _forged(claim: str) -> DamagedStream:
    return DamagedStream(f"the stream claims {claim}, though its checksum is right: it was not written by lic-lab")


def _name(body: bytes) -> tuple[str, tuple[tuple[str, str], ...], int]:
    """(codec, components, offset behind the name)."""
    start, length = _FIXED.size + 1, body[_FIXED.size]
    text = body[start : start + length]
    if len(text) < length or not text.isascii() or not text.decode("ascii").isprintable():
        raise _forged(f"a name of {length} bytes that reads {text!r}")
    codec, *parts = text.decode("ascii").split(",")
    pairs = [part.partition("=") for part in parts]
    if not codec or not all(part and equals and name for part, equals, name in pairs):
        raise _forged(f"to be coded by {text!r}")
    return codec, tuple((part, name) for part, _, name in pairs), start + length


def _strings(body: bytes, at: int) -> tuple[bytes, ...]:
    count = body[at] if at < len(body) else 0
    start = at + 1 + 4 * count
    if not 1 <= count <= MOST_STRINGS or start > len(body):
        raise _forged(f"{count} strings")
    lengths = struct.unpack_from(f"<{count}I", body, at + 1)
    if sum(lengths) != len(body) - start:
        raise _forged(f"strings of {sum(lengths)} bytes and holds {len(body) - start}")
    strings = []
    for length in lengths:
        strings.append(body[start : start + length])
        start += length
    return tuple(strings)


@kept()
def compress(codec: Codec, x: Tensor) -> Bitstream:
    """Code one image.

    Parameters
    ----------
    codec : Codec
        From `lic_lab.load`: a stream names the weights it needs, so they must still be those of their file.
    x : Tensor
        (1, 3, H, W) in [0, 1]; any size.

    Raises
    ------
    ValueError
        When the codec has no shipped weights, or no longer has them as they were loaded; for other than one image.
    """
    if codec.quality is None or codec.digest is None:
        raise ValueError(f"{codec.name} has no shipped weights, so nobody could decode its stream; use lab.load")
    if codec.fingerprint() != codec.loaded:
        raise ValueError(
            f"{codec.name} is no longer as lab.load gave it (trained on, pruned, converted to other numbers, or with "
            "parts exchanged), so nobody could decode its stream. Load it again to write files; lab.trace counts the "
            "bits of a changed codec, and codec.compress and codec.decompress code with it"
        )
    if x.dim() != 4 or x.shape[:2] != (1, 3):
        raise ValueError(f"the image has shape {tuple(x.shape)}; a stream holds one image, (1, 3, H, W)")
    coded = codec.encode(x)
    shape = coded.geometry
    stream = Bitstream(
        codec=codec.name,
        quality=codec.quality,
        components=codec.swapped,
        digest=codec.digest[:16],
        height=shape.height,
        width=shape.width,
        latent=0,
        picture=0,
        strings=coded.strings,
        scale=shape.scale,
    )
    stream = replace(stream, latent=stream.latent_checksum(coded.y_hat))
    return replace(stream, picture=stream.picture_checksum(to_uint8(codec.picture(coded.y_hat, shape))))


@kept()
def decompress(stream: Bitstream, max_pixels: int = LARGEST) -> NDArray[np.uint8]:
    """The image, uint8 (H, W, 3), by the codec and the weights that the stream names.

    Raises
    ------
    TooLarge
        Before anything is allocated, when the image has more than `max_pixels`.
    WrongModel
        When the weights here are not those the stream was written with, or lack its components.
    LatentMismatch, PictureMismatch
        When what was decoded is not what was encoded.
    """
    if stream.height * stream.width > max_pixels:
        raise TooLarge(
            f"the stream claims an image of {stream.width} x {stream.height} pixels and the limit is {max_pixels}; if "
            "you trust it, raise the limit with max_pixels (lic-lab decompress --max-pixels)"
        )
    codec = _codec(stream)
    if len(stream.strings) != codec.kinds:
        raise _forged(f"{len(stream.strings)} strings where {stream.codec} writes {codec.kinds}")
    try:
        geometry = codec.geometry(stream.height, stream.width, stream.scale)
    except ValueError as error:
        raise WrongModel(f"{error}: use the lic-lab that wrote this stream") from None
    y_hat = codec.decode(stream.strings, geometry)
    if stream.latent_checksum(y_hat) != stream.latent:
        raise LatentMismatch(
            "the stream decodes to another latent than was encoded, so its picture would be wrong: either the stream "
            "was forged, or this machine computes otherwise than IEEE 754 says. Code the image again, or report it"
        )
    pixels = to_uint8(codec.picture(y_hat, geometry))
    if stream.picture_checksum(pixels) != stream.picture:
        raise PictureMismatch(
            "the stream decodes to another picture than the encoder saw, though to the same latent: either the stream "
            "was forged, or this machine computes otherwise than IEEE 754 says. Code the image again, or report it"
        )
    return pixels


def _codec(stream: Bitstream) -> Codec:
    """The codec a stream needs, with its components."""
    from lic_lab.codecs.weights import WeightsError, borrow

    try:
        codec = borrow(stream.codec, stream.quality)
    except WeightsError as error:
        raise WrongModel(f"the stream needs weights that are not here: {error}") from None
    if str(codec.digest)[:16] != stream.digest:
        raise WrongModel(
            f"the stream was written with weights {stream.digest[:12]} of {stream.codec}, quality {stream.quality}; "
            f"here are {str(codec.digest)[:12]}, which would give a wrong picture: use the lic-lab that wrote it"
        )
    if stream.components:
        try:
            return codec.swap(**dict(stream.components))
        except ValueError as error:
            raise WrongModel(f"the stream's components can't be had: {error}") from None
    return codec


def encode(codec: Codec, image: Source) -> bytes:
    """The content of a .lic file for an image: path, PIL image, array or tensor of any size (`lic_lab.image.read`).

    >>> import lic_lab as lab                                                # doctest: +SKIP
    >>> data = lab.encode(lab.load("mlic+", quality=3), "photo.png")         # doctest: +SKIP
    >>> pixels = lab.decode(data)                                            # doctest: +SKIP

    Raises
    ------
    TypeError
        When `codec` is none of ours.
    ValueError
        See `compress`.
    ImageError
        When the image can't be used.
    """
    from lic_lab.codecs.codec import Codec, unwrapped

    found = unwrapped(codec)
    if not isinstance(found, Codec):
        raise TypeError(
            f"codec is a {type(found).__name__}; a .lic file names the shipped weights that decode it, so encode takes "
            "what lab.load returns, such as lab.load('mlic+', 3). Other models code with their own compress"
        )
    return compress(found, read_image(image)).to_bytes()


def decode(source: Bytes | str | PathLike[str] | IO[bytes], max_pixels: int = LARGEST) -> NDArray[np.uint8]:
    """The image, uint8 (H, W, 3), from the content of a .lic file, its path or a binary file object.

    Raises
    ------
    BitstreamError
        Whatever is wrong with the stream; see its subclasses.
    OSError
        When the file can't be read.
    """
    if isinstance(source, str | PathLike):
        data: Bytes = Path(source).read_bytes()
    else:
        data = source.read() if hasattr(source, "read") else source
    return decompress(Bitstream.from_bytes(data), max_pixels)

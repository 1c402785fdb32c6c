"""What Pillow reads, as an array of grey or RGB that shows on an sRGB screen what the file shows.

Pillow gives the pixels. What it leaves to its callers is here: colour profiles, orientation, transparency, depths and
kinds of numbers that its modes don't tell; and that whatever fails ends in one error that names the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.TiffTags import TAGS_V2

START = 1 << 16  # bytes of a file in which its kind, and a depth that Pillow does not tell, are found
SAME = 2  # levels that a profile may move a colour by and still be sRGB: profiles round its curve in their own ways
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # what Pillow says of more pixels than it opens
GAMMA = 0.45455  # of a PNG made for today's screens

_UPRIGHT = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF orientation to Image.Transpose
_TIFF = {info.name: number for number, info in TAGS_V2.items()}
_STRANGERS = {  # beginnings of files that users take for images, or that came instead
    b"\x89LIC": "a .lic stream: decode it with lab.decode or lic-lab decompress",
    b"\xff\x0a": "a JPEG XL file, which is not read: convert it to PNG",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL file, which is not read: convert it to PNG",
    b"#?RADIANCE": "a Radiance HDR file, which is not read: map its tones to 8 bits first",
    b"v/1\x01": "an OpenEXR file, which is not read: map its tones to 8 bits first",
    b"\x93NUMPY": "an array of NumPy: load it with numpy.load and give the array",
    b"%PDF": "a PDF: export the page as PNG",
    b"PK\x03\x04": "an archive: unpack it first",
    b"version https://git-lfs": "a pointer of git-lfs: fetch the file itself with git lfs pull",
}


class ImageError(ValueError):
    """An image that cannot be used, with the reason and the remedy."""


@contextmanager
def told(name: str, start: bytes = b"") -> Iterator[None]:
    """Whatever fails inside, but for `BOMBS`, is an `ImageError` that names the image; its file begins with `start`."""
    try:
        yield
    except (ImageError, *BOMBS):
        raise
    except MemoryError:
        raise ImageError(f"{name} takes more memory than there is; crop or shrink it first") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} can't be read as an image: {_unknown(start)}") from None
    except Exception as error:  # each of Pillow's plugins stumbles over damage in its own way
        reason = (str(error) or type(error).__name__).splitlines()[0][:120].rstrip(".")
        if "closed" in reason:
            raise ImageError(f"{name} is closed; open it again") from None
        raise ImageError(
            f"{name} can't be read as an image, it is damaged or cut off ({reason}); copy or download it again"
        ) from None


def _unknown(start: bytes) -> str:
    """Why Pillow does not know a file that begins so, and what to do."""
    if not start:
        return "it is empty; copy or download it again"
    if found := next((words for magic, words in _STRANGERS.items() if start.startswith(magic)), None):
        return f"it is {found}"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "it is a HEIC file, which is not read: convert it to PNG or JPEG"
    text = start.lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")):
        return "it is a drawing (SVG or XML): export it as PNG"
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        return "it is a web page; download the image that the page shows"
    if kinds := [kind for kind, (_, accept) in Image.OPEN.items() if accept and _accepted(accept, start)]:
        return f"it begins as {kinds[0]} does, and is damaged or of a kind that is not read; save it as an 8-bit PNG"
    return "it is none that is known here; give a PNG, JPEG, WebP, AVIF or TIFF file"


def _accepted(accept: Any, start: bytes) -> bool:
    try:
        return accept(start[:16]) is True
    except Exception:  # of a beginning that is too short for it
        return False


def pixels_of_file(file: IO[bytes], name: str, check: Any) -> tuple[NDArray[Any], list[str]]:
    """`pixels` of an open file; ``check(width, height)`` is called before any pixel is decoded."""
    start = file.read(START)
    file.seek(0)
    with told(name, start), Image.open(file) as image:
        check(*image.size)
        found, notes = pixels(image, name)
    return found, notes + (_beyond(start, image.format) if found.dtype == np.uint8 else [])


def pixels(image: Image.Image, name: str) -> tuple[NDArray[Any], list[str]]:
    """An image's pixels, and what was converted, in words that follow on "the image was ...".

    Returns
    -------
    array
        (H, W) or (H, W, C), grey or RGB in sRGB's colours, and alpha behind them where there is one: uint8, uint16, or
        float as they stand.
    list of str

    Raises
    ------
    ImageError
        When it can't be decoded, or its numbers have no known white.
    """
    with told(name):
        notes: list[str] = []
        _check_numbers(image, name)
        several, coding = getattr(image, "is_animated", False), _coding(image)  # before it is loaded
        orientation, white = _orientation(image, notes), _tag(image, "PhotometricInterpretation", 1)
        image.load()
        turn = _UPRIGHT.get(_orientation(image, []))  # a TIFF has turned itself
        one = image.copy() if turn is None else image.transpose(Image.Transpose(turn))
        if orientation in _UPRIGHT:
            notes.append("turned upright, as its EXIF data say")
        if several and image.format != "PSD":  # whose layers are one picture
            notes.append(_choice(image))
        if one.mode.startswith("I") or one.mode == "F":
            return _deep(one, max(_tag(image, "BitsPerSample", (16,))), white == 0, notes), notes
        if 0 in _tag(image, "ExtraSamples", ()):
            notes.append("of more channels, of which the colours were taken")
        if ";16" in coding:
            notes.append("in 16 bits, taken at 8")
        return _shallow(one, coding, notes), notes


def _coding(image: Image.Image) -> str:
    """Pillow's name for how the file holds its numbers: "RGB;16B"; "" if it is not known."""
    if not getattr(image, "tile", None):
        return ""
    kind, _, _, how = image.tile[0]  # type: ignore[attr-defined]
    coding = str(how[0] if isinstance(how, tuple | list) and how else how)
    return f"{coding};16" if kind.startswith("ppm") and how[-1] > 255 else coding


def _choice(image: Image.Image) -> str:
    """Which of several pictures was taken."""
    kind = "page" if image.format == "TIFF" else "frame"
    at = image.tell() + 1
    try:
        return f"{kind} {at} of {image.n_frames}, the only one taken"  # type: ignore[attr-defined]
    except Exception:  # those behind are damaged
        return f"{kind} {at} of several, the only one taken"


def _tag(image: Image.Image, name: str, default: Any) -> Any:
    """A tag of a TIFF file; of other images the default."""
    return image.tag_v2.get(_TIFF[name], default) if image.format == "TIFF" else default  # type: ignore[attr-defined]


def _check_numbers(image: Image.Image, name: str) -> None:
    """Refuse integers that have a sign or more than 16 bits: what is white is not known, nor in Pillow's modes."""
    bits, signed = max(_tag(image, "BitsPerSample", (8,))), 2 in _tag(image, "SampleFormat", (1,))
    if signed or (image.mode == "I" and image.format != "PPM"):
        bits = 32 if image.format != "TIFF" else bits
        raise ImageError(
            f"{name} holds {'signed ' if signed else ''}integers of {bits} bits, and which is white is not known: "
            "scale them to uint8, uint16 or floats in [0, 1] and give the array"
        )


def _orientation(image: Image.Image, notes: list[str]) -> int:
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except Exception:  # EXIF data are damaged more often than pictures
        notes.append("marked with EXIF data that can't be read, so perhaps not upright")
        return 1


def _deep(image: Image.Image, bits: int, inverted: bool, notes: list[str]) -> NDArray[Any]:
    """Grey in 16 bits or floats, with alpha if one of its values stands for nothing."""
    a = np.asarray(image)
    if image.mode != "F":
        a = a.astype(np.uint16)  # PPM's 32 bits hold 16
        if bits == 12:
            a = (a.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
    if inverted:  # white is zero, which Pillow minds up to 8 bits
        a = (65535 if image.mode != "F" else 1) - a
    clear = image.info.get("transparency")
    alpha = np.where(a == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
    if "icc_profile" in image.info and image.mode == "F":
        notes.append("marked with a colour profile, which was left out")
    elif "icc_profile" in image.info:
        grey = Image.fromarray(np.round(a / 257).astype(np.uint8))
        changed = _in_srgb(grey, image.info, notes)
        if changed is not grey:
            notes.insert(0, "in 16 bits, taken at 8")
            a, alpha = np.asarray(changed), None if alpha is None else (alpha >> 8).astype(np.uint8)
    return a if alpha is None else np.dstack((a, alpha))


def _shallow(image: Image.Image, coding: str, notes: list[str]) -> NDArray[np.uint8]:
    """8 bits: grey or RGB, with alpha."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and (";16" in coding or max(clear) > 255):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif isinstance(clear, int) and coding in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if coding == "L;2" else 17)
    if image.mode in ("P", "PA"):
        notes.append("in colours of a palette, converted to RGB")
    elif image.mode == "1":
        notes.append("black and white")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or clear is not None:
        grey = image.mode in ("1", "L", "LA") or coding.startswith("LA")  # Pillow makes RGBA of 16-bit LA
        image = image.convert("LA" if grey else "RGBA")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        if image.mode not in ("1", "P", "RGBX"):
            notes.append(f"{image.mode}, converted to RGB")
        image = image.convert("L" if image.mode == "1" else "RGB")
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("LA", "RGBA") else None
    colour = image.convert(image.mode.removesuffix("A")) if alpha is not None else image
    a = np.asarray(_in_srgb(colour, image.info, notes))
    return a if alpha is None else np.dstack((a, alpha))


def _in_srgb(image: Image.Image, info: dict[Any, Any], notes: list[str]) -> Image.Image:
    """An image without alpha, in the colours of an sRGB screen: L or RGB."""
    icc = info.get("icc_profile")
    if icc or image.mode == "LAB":
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
            image = _through(image, profile, notes)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
            notes.append("marked with a colour profile that can't be read and was left out")
    elif "srgb" not in info and abs(info.get("gamma", GAMMA) - GAMMA) > 0.01:
        notes.append(f"marked as of gamma {info['gamma']:.3g}, which was left out")
    if image.mode == "CMYK":
        notes.append("CMYK, converted to RGB")
        image = image.convert("RGB")
    return image


def _through(image: Image.Image, profile: Any, notes: list[str]) -> Image.Image:
    """`image` from its profile's colours to sRGB; as it is where that changes nothing that can be seen."""
    cms = getattr(profile, "profile", profile)
    space, name = cms.xcolor_space.strip(), (cms.profile_description or "").strip() or "no name"
    given = image
    if image.mode == "L" and space == "RGB":
        image = image.convert("RGB")
    if {"L": "GRAY", "LAB": "Lab"}.get(image.mode, image.mode) != space:
        notes.append(f"marked with a colour profile for {space}, {name!r}, which was left out")
        return given
    change = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if image.mode in ("L", "RGB"):
        steps = np.arange(0, 256, 17 if image.mode == "RGB" else 1, dtype=np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 16, 3) if image.mode == "RGB" else steps[None]
        shown = np.asarray(ImageCms.applyTransform(Image.fromarray(grid), change), dtype=int)
        if np.abs(shown - grid.reshape(*shown.shape[:2], -1)).max() <= SAME:
            return given
    found = ImageCms.applyTransform(image, change)
    notes.append(f"in the colours of the profile {name!r}, converted to sRGB")
    return found if given.mode != "L" else found.getchannel("G")  # type: ignore[union-attr, return-value]


def _beyond(start: bytes, kind: str | None) -> list[str]:
    """What Pillow's decoders of AVIF and JPEG 2000 take off without telling."""
    notes, bits = [], 8
    if kind == "AVIF":
        at = start.find(b"av1C")
        if 0 < at < len(start) - 6 and start[at + 6] & 0x40:
            bits = 12 if start[at + 6] & 0x20 else 10
        at = start.find(b"colrnclx")
        primaries, curve = struct.unpack_from(">HH", start, at + 8) if 0 < at < len(start) - 12 else (1, 13)
        if primaries not in (1, 2) or curve in (16, 18):
            notes.append("in colours or a dynamic range beyond sRGB's, taken as if they were its own")
    elif kind == "JPEG2000":
        at = start.find(b"\xff\x4f\xff\x51")
        bits = (start[at + 42] & 0x7F) + 1 if 0 <= at < len(start) - 42 else 8
    return [f"in {bits} bits, taken at 8", *notes] if bits > 8 else notes

"""Images at the door: what is taken, how it is converted, and how the rest is refused."""

from __future__ import annotations

import os
import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from skimage import data
from torch import Tensor

from lic_lab.image import LARGEST, ImageError, pad, read, to_uint8

PHOTO = np.ascontiguousarray(data.coffee()[:40, 200:250])
GREY = PHOTO[:, :, 0]
GREYS = PHOTO[:, :, :1].repeat(3, 2)
ALPHA = np.tile(np.linspace(0, 255, 50).astype(np.uint8), (40, 1))
SIXTEEN = PHOTO.astype(">u2") * np.array(257, ">u2")


def over_white(a: NDArray[Any], alpha: NDArray[Any] = ALPHA) -> NDArray[np.uint8]:
    return np.round(a * (alpha[:, :, None] / 255) + 255 * (1 - alpha[:, :, None] / 255)).astype(np.uint8)


def without(a: NDArray[Any], colour: NDArray[Any]) -> NDArray[Any]:
    """`a` where its pixels of this colour are white."""
    return np.where((a == colour).all(-1, keepdims=True), 255, a)


def shown(source: Any, pixels: NDArray[Any], *words: str) -> None:
    """The picture has these pixels, and its notes are these, in their order."""
    found = read(source)
    np.testing.assert_array_equal(to_uint8(found.x), pixels)
    assert len(found.notes) == len(words), found.notes
    for note, word in zip(found.notes, words, strict=True):
        assert word in note


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(a: NDArray[Any], depth: int, kind: int, *chunks: bytes, width: int = 50, height: int = 40) -> bytes:
    """A PNG written by hand: Pillow writes none in 16-bit colours, and none that is larger than it says."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in a))
    whole = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", content), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def tiff(bits: int, sample: int, content: bytes) -> bytes:
    """A TIFF of grey written by hand; `sample` is 1 for integers without a sign, 2 for those with one."""
    values = {256: 50, 257: 40, 258: bits, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 278: 40, 279: len(content)}
    values |= {339: sample}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + fields + bytes(4) + content


class Array:
    """As other libraries hand theirs over."""

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        return PHOTO


class Elsewhere:
    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise TypeError("implicit conversion is not allowed")


class Place(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    content = path.read_bytes()
    sources: tuple[Any, ...] = (path, str(path), np.str_(path), Place(path), Image.open(path), Image.fromarray(PHOTO))
    for source in (*sources, content, bytearray(content), memoryview(content), BytesIO(content), open(path, "rb")):
        shown(source, PHOTO)
    written = BytesIO()
    Image.fromarray(PHOTO).save(written, "PNG")
    shown(written, PHOTO)  # and not rewound
    assert read(path).name == read(Image.open(path)).name == "photo.png"


def test_arrays_are_taken_as_other_libraries_hand_them_over() -> None:
    share = PHOTO / 255
    first = np.moveaxis(PHOTO, 2, 0)
    colours: tuple[Any, ...] = (PHOTO, PHOTO[None], first, first[None], np.asfortranarray(PHOTO), Array())
    for array in (*colours, np.repeat(PHOTO, 2, 1)[:, ::2], np.ma.array(PHOTO), np.dstack([PHOTO, 0 * ALPHA + 255])):
        shown(array, PHOTO)
    for kind in (np.float16, np.float32, np.float64, np.longdouble, ">f4"):
        shown(share.astype(kind), PHOTO)
    for array in (GREY, GREY[None], GREY[:, :, None]):
        shown(array, GREYS, "grey")
    shown(SIXTEEN, PHOTO, "16 bits")
    shown(SIXTEEN.astype(np.uint16), PHOTO, "16 bits")
    shown(GREY > 99, 255 * (GREYS > 99), "black and white")
    shown(np.dstack([GREY, ALPHA]), over_white(GREYS), "laid over white", "grey")
    shown(share + 0.3 / 255, PHOTO, "rounded to 8 bits")


def test_tensors_are_taken_as_other_libraries_hand_them_over() -> None:
    x = torch.from_numpy(PHOTO).permute(2, 0, 1).contiguous()
    share = x / 255
    tensors: list[Tensor] = [x, x[None], x.permute(1, 2, 0), share, share.double(), share.half()]
    tensors += [share.clone().requires_grad_(), share[None].to(memory_format=torch.channels_last)]
    for tensor in tensors:
        shown(tensor, PHOTO)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        found = read(share.clone()).x
    assert not found.is_inference()
    np.testing.assert_array_equal(to_uint8(found), PHOTO)
    assert np.abs(to_uint8(read(share.bfloat16()).x).astype(int) - PHOTO).max() <= 1
    shown(x[0], GREYS, "grey")
    shown(x[:1], GREYS, "grey")
    # Where channels could be first or last: first in a tensor, last in an array.
    assert read(torch.zeros(3, 40, 3)).x.shape == (1, 3, 40, 3)
    assert read(np.zeros((3, 40, 3))).x.shape == (1, 3, 3, 40)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((0, 5, 3), np.uint8), "nothing to see"),
        (np.zeros((5, 40, 50), np.uint8), "shape"),
        (np.zeros((1, 1, 40, 50, 3), np.uint8), "shape"),
        (np.array("photo.png"), "shape"),
        (np.full((40, 50, 3), 2.0), r"must lie in \[0, 1\]"),
        (np.full((40, 50, 3), 200.0), "divide by 255"),
        (np.full((40, 50, 3), -1.0), "from -1 to -1"),
        (np.full((40, 50, 3), np.nan), "not finite"),
        (np.full((40, 50, 3), 70_000, np.int64), "int64, from 70000 to 70000"),
        (np.zeros((40, 50, 3), np.int8), "int8"),
        (np.zeros((40, 50), np.uint32), "uint32"),
        (np.zeros((40, 50), complex), "complex128"),
        (np.zeros((40, 50), object), "object"),
        (np.ma.masked_less(PHOTO, 50), "masked"),
        (Elsewhere(), "implicit conversion"),
        (torch.zeros(2, 3, 40, 50), "2 images; give one"),
        (torch.zeros(3, 40, 50, dtype=torch.int64), "int64"),
        (torch.zeros(3, 40, 50, device="meta"), "can't be taken as an array"),
        (torch.zeros(3, 40, 50).to_sparse(), "can't be taken as an array"),
        (17, "int"),
        ([[1, 2]], "list"),
        (None, "NoneType"),
    ],
)
def test_arrays_whose_white_or_layout_is_not_known_are_refused(source: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        read(source)


def test_transparency_of_every_kind_is_laid_over_white() -> None:
    clear = Image.fromarray(np.dstack([PHOTO, ALPHA]))
    for source in (clear, saved(clear), saved(clear, "WEBP", lossless=True, exact=True), saved(clear, "TIFF")):
        shown(source, over_white(PHOTO), "laid over white")
    half = Image.fromarray(np.dstack([PHOTO, np.full_like(GREY, 128)]))
    premultiplied = to_uint8(read(half.convert("RGBa")).x).astype(int)
    assert np.abs(premultiplied - over_white(PHOTO, np.full_like(GREY, 128))).max() <= 1
    grey = Image.fromarray(np.dstack([GREY, ALPHA]), "LA")
    shown(saved(grey), over_white(GREYS), "laid over white", "grey")
    palette = Image.fromarray(PHOTO).quantize(8)
    colours, at = np.asarray(palette.convert("RGB")), np.asarray(palette)[:, :, None]
    shown(saved(palette, transparency=3), np.where(at == 3, 255, colours), "palette", "laid over white")
    shown(saved(palette, transparency=bytes(8)), np.full_like(PHOTO, 255), "palette", "laid over white")
    shown(saved(palette), colours, "palette")
    one = saved(Image.fromarray(PHOTO), transparency=tuple(map(int, PHOTO[3, 4])))
    shown(one, without(PHOTO, PHOTO[3, 4]), "laid over white")
    shown(saved(Image.fromarray(GREY), transparency=int(GREY[3, 4])), without(GREYS, GREY[3, 4]), "laid over", "grey")


def test_transparency_in_other_depths_is_that_of_the_file() -> None:
    """One colour is transparent: written in the file's numbers, while Pillow gives others."""
    colour = chunk(b"tRNS", SIXTEEN[3, 4].tobytes())
    shown(png(SIXTEEN, 16, 2, colour), without(PHOTO, PHOTO[3, 4]), "16 bits", "laid over white")
    loaded = Image.open(BytesIO(png(SIXTEEN, 16, 2, colour)))
    loaded.load()
    shown(loaded, without(PHOTO, PHOTO[3, 4]), "laid over white")
    grey = chunk(b"tRNS", SIXTEEN[3, 4, :1].tobytes())
    shown(png(SIXTEEN[:, :, 0], 16, 0, grey), without(GREYS, GREY[3, 4]), "16 bits", "laid over white", "grey")
    four = GREY >> 4
    shades = np.dstack([four * 17] * 3)
    in_bytes = (four[:, ::2] << 4) | four[:, 1::2]
    white = chunk(b"tRNS", struct.pack(">H", four[3, 4]))
    shown(png(in_bytes, 4, 0, white), without(shades, shades[3, 4]), "laid over white", "grey")
    with_alpha = np.dstack([SIXTEEN[:, :, 0], ALPHA.astype(">u2") * np.array(257, ">u2")]).astype(">u2")
    shown(png(with_alpha, 16, 4), over_white(GREYS), "16 bits", "laid over white", "grey")


def test_deep_and_many_pictures_are_converted_and_said() -> None:
    shown(png(SIXTEEN, 16, 2), PHOTO, "16 bits")
    shown(b"P6 50 40 65535\n" + SIXTEEN.tobytes(), PHOTO, "16 bits")
    for deep in (png(SIXTEEN[:, :, 0], 16, 0), b"P5 50 40 65535\n" + SIXTEEN[:, :, 0].tobytes()):
        shown(deep, GREYS, "16 bits", "grey")
    deep = Image.fromarray(SIXTEEN[:, :, 0].astype(np.uint16))
    shown(saved(deep, "TIFF"), GREYS, "16 bits", "grey")
    negative = Image.fromarray((65535 - SIXTEEN[:, :, 0]).astype(np.uint16))
    shown(saved(negative, "TIFF", tiffinfo={262: 0}), GREYS, "16 bits", "grey")  # in it, white is zero
    twelve = GREY.astype(int) * 4095 // 255
    packed = np.stack([twelve[:, ::2] >> 4, twelve[:, ::2] << 4 | twelve[:, 1::2] >> 8, twelve[:, 1::2]], -1)
    shown(tiff(12, 1, packed.astype(np.uint8).tobytes()), GREYS, "16 bits", "grey")
    image, other = Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)
    shown(saved(image, "PNG", save_all=True, append_images=[other]), PHOTO, "frame 1 of 2")
    shown(saved(image, "TIFF", save_all=True, append_images=[other]), PHOTO, "page 1 of 2")
    pages = Image.open(BytesIO(saved(image, "TIFF", save_all=True, append_images=[other])))
    pages.seek(1)
    shown(pages, 255 - PHOTO, "page 2 of 2")
    shown(Image.fromarray(GREY > 99), 255 * (GREYS > 99), "black and white")
    shown(image.convert("CMYK"), np.asarray(image.convert("CMYK").convert("RGB")), "CMYK")
    assert "HSV" in read(image.convert("HSV")).notes[0]
    shown(png(PHOTO, 8, 2, chunk(b"gAMA", struct.pack(">I", 100_000))), PHOTO, "gamma 1")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_upright(kind: str) -> None:
    how = {"lossless": True} if kind == "WEBP" else {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        content = saved(Image.fromarray(PHOTO), kind, exif=exif, **how)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(saved(Image.fromarray(PHOTO), exif=exif)))))
        said = ["turned"] if orientation > 1 else []
        shown(content, upright, *said)
        shown(Image.open(BytesIO(content)), upright, *said)


def profile(red: tuple[float, ...], green: tuple[float, ...]) -> bytes:
    """sRGB with other primaries, X, Y and Z of red and of green; blue takes what is left of white."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    where = {}
    for i in range(struct.unpack_from(">I", icc, 128)[0]):
        tag, at = struct.unpack_from(">4sI", icc, 132 + 12 * i)
        where[tag] = at + 8
    old = {tag: np.array(struct.unpack_from(">3i", icc, where[tag])) / 65536 for tag in (b"rXYZ", b"gXYZ", b"bXYZ")}
    new = {b"rXYZ": np.array(red), b"gXYZ": np.array(green)}
    new[b"bXYZ"] = sum(old.values()) - new[b"rXYZ"] - new[b"gXYZ"]
    for tag, values in new.items():
        struct.pack_into(">3i", icc, where[tag], *np.round(values * 65536).astype(int))
    return bytes(icc)


P3 = profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189))  # Display P3's, adapted to D50


def test_a_profile_s_colours_become_srgb_s() -> None:
    """Against the arithmetic of the two standards: linear light by one curve, P3's primaries in sRGB's."""
    patches = np.array([[[200, 60, 60], [60, 180, 90], [90, 90, 200], [128, 128, 128], [250, 240, 230]]], np.uint8)
    matrix = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
    share = patches / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ matrix.T
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0, 1) ** (1 / 2.4) - 0.055)
    found = read(saved(Image.fromarray(patches), icc_profile=P3))
    assert np.abs(to_uint8(found.x) - expected.clip(0, 255)).max() <= 2
    assert any("converted to sRGB" in note for note in found.notes)
    clear = Image.fromarray(np.dstack([patches, np.full_like(patches[:, :, :1], 128)]))
    blended = to_uint8(read(saved(clear, icc_profile=P3)).x)
    assert np.abs(blended - (to_uint8(found.x) * (128 / 255) + 127.0)).max() <= 1


def grey_profile(gamma: float) -> bytes:
    """A profile of grey: no primaries, one curve."""
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"grey\0" + bytes(78),
        b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)),
        b"wtpt": b"XYZ " + bytes(4) + white,
    }
    body, table = b"", struct.pack(">I", len(tags))
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(body)
    start = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    return start + date + b"acsp" + bytes(28) + white + bytes(48) + table + body


def test_grey_has_profiles_too_in_every_depth() -> None:
    """Linear light: by sRGB's curve."""
    share = GREYS / 255
    expected = 255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    linear: dict[str, Any] = {"icc_profile": grey_profile(1)}
    eight = saved(Image.fromarray(GREY), **linear)
    sixteen = saved(Image.fromarray(SIXTEEN[:, :, 0].astype(np.uint16)), **linear)
    transparent = saved(Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)]), "LA"), **linear)
    for content, words in (
        (eight, ["converted to sRGB", "grey"]),
        (sixteen, ["16 bits", "converted to sRGB", "grey"]),
        (transparent, ["converted to sRGB", "grey"]),
    ):
        found = read(content)
        assert np.abs(to_uint8(found.x) - expected).max() <= 1
        assert [word in note for word, note in zip(words, found.notes, strict=True)] == [True] * len(words)


def test_a_profile_that_changes_nothing_or_does_not_fit_leaves_the_pixels() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    shown(saved(Image.fromarray(PHOTO), icc_profile=srgb), PHOTO)
    shown(saved(Image.fromarray(GREY), icc_profile=srgb), GREYS, "grey")
    shown(saved(Image.fromarray(PHOTO), icc_profile=b"nonsense" * 30), PHOTO, "profile that can't be read")
    shown(saved(Image.fromarray(PHOTO), icc_profile=srgb[:200]), PHOTO, "profile that can't be read")
    four = Image.fromarray(PHOTO).convert("CMYK")
    found = read(saved(four, "TIFF", icc_profile=srgb))
    assert "left out" in found.notes[0]
    assert "CMYK" in found.notes[1]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.fromarray(GREY.astype(np.int32) * 1000), "integers of 32 bits"),
        (Image.fromarray(GREY.astype(np.float32)), "divide by 255"),
    ],
)
def test_numbers_of_a_file_never_wrap(image: Image.Image, says: str) -> None:
    for source in (image, saved(image, "TIFF")):
        with pytest.raises(ImageError, match=says):
            read(source)


@pytest.mark.parametrize(("bits", "sample"), [(8, 2), (16, 2), (32, 2), (32, 1)])
def test_integers_with_a_sign_or_of_more_bits_are_refused(bits: int, sample: int) -> None:
    """As microscopes write them. (Pillow takes 8 bits with a sign for 8 without.)"""
    with pytest.raises(ImageError, match=f"integers of {bits} bits"):
        read(tiff(bits, sample, bytes(40 * 50 * bits // 8)))


KINDS = {"PNG": "photo.png", "JPEG": "photo.jpg", "WEBP": "photo.webp", "TIFF": "photo.tif", "GIF": "photo.gif"}
KINDS |= {"QOI": "photo.qoi", "DDS": "photo.dds", "PPM": "photo.ppm", "AVIF": "photo.avif", "JPEG2000": "photo.jp2"}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_any_kind_is_an_error_that_names_the_file(kind: str, tmp_path: Path) -> None:
    """Or it is not noticed: few formats have checksums. Nothing else is raised."""
    content, path = saved(Image.fromarray(PHOTO), kind), tmp_path / KINDS[kind]
    chance = random.Random(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on the way to its errors
        for trial in range(40):
            damaged = bytearray(content[: len(content) * (trial % 4 + 1) // 4])
            for _ in range(trial % 7):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            path.write_bytes(damaged)
            try:
                read(path)
            except ImageError as error:
                assert path.name in str(error)
    path.write_bytes(content[: len(content) // 3])
    if kind != "GIF":  # whose frames may end anywhere
        with pytest.raises(ImageError, match=rf"{path.name}.*(cut off|damaged)"):
            read(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"not an image", "none that is known here; give a PNG"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xff\x0a1234", "JPEG XL"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\x89LIC\x04", "lic-lab decompress"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (saved(Image.fromarray(PHOTO))[:40], "begins as PNG"),
        (b"P5\n96b 64\n255\n" + bytes(6144), "96b"),
    ],
)
def test_what_is_no_image_is_told_what_it_is(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    for source in (tmp_path / "x.png", content):
        with pytest.raises(ImageError, match=says):
            read(source)


def test_what_can_t_be_opened_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text.txt").write_text("words")
    Path("link.png").symlink_to("nowhere")
    os.mkfifo("pipe")
    for source, says in (
        ("nowhere.png", rf"no file nowhere\.png; check the path, which begins in {tmp_path}"),
        ("/nowhere/photo.png", r"no file /nowhere/photo\.png; check the path$"),
        ("text.txt/photo.png", "no file"),
        ("link.png", "no file"),
        ("", "path is empty"),
        ("folder", "folder is a folder; give an image in it"),
        (".", "is a folder"),
        ("pipe", "no file that can be read"),
        ("nul\0.png", "null byte"),
        ("a" * 300 + ".png", "File name too long"),
        ("~nobody we know/photo.png", "nobody has the home"),
        ("https://example.org/photo.png", "is an address"),
        (Path("https://example.org/photo.png"), "is an address"),
        ("data:image/png;base64,AAAA", "is an address"),
    ):
        with pytest.raises(ImageError, match=says):
            read(source)
    with open("text.txt") as text, pytest.raises(ImageError, match="open the file with 'rb'"):
        read(text)  # type: ignore[arg-type]
    for name in ("~photo.png", "https:photo.png"):
        Image.fromarray(PHOTO).save(name)
        shown(name, PHOTO)
    closed = Image.open("~photo.png")
    closed.close()
    with pytest.raises(ImageError, match="closed; open it again"):
        read(closed)


def test_a_huge_image_is_refused_before_it_is_decoded() -> None:
    """Whatever Pillow's own limit is, which is the process's and stays as it is."""
    before = Image.MAX_IMAGE_PIXELS
    for side in (6_000, 40_000):
        with pytest.raises(ImageError, match=r"megapixels and would take about \d+ GB"):
            read(png(np.zeros((1, 5), np.uint8), 1, 0, width=side, height=side))
    with pytest.raises(ImageError, match="cut off"):  # a picture's text that fills the memory
        read(png(PHOTO, 8, 2, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 21)))))
    assert before == Image.MAX_IMAGE_PIXELS
    assert LARGEST >= 3840 * 2160


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (65, 127)])
def test_padding_repeats_the_last_row_and_column(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    padded = pad(x, (80, 130))
    assert padded.shape == (1, 3, 80, 130)
    rows, columns = (torch.arange(n).clamp(max=last - 1) for n, last in zip((80, 130), size, strict=True))
    assert torch.equal(padded, x[:, :, rows[:, None], columns])


def test_a_single_pixel_is_a_picture() -> None:
    np.testing.assert_array_equal(to_uint8(read(PHOTO[:1, :1]).x), PHOTO[:1, :1])

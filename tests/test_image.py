"""Images at the door: what is taken, how it is converted, and how the rest is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from lic_lab.image import LARGEST, ImageError, pad, read, to_uint8

PHOTO = data.coffee()[:40, :50]


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    as_float = PHOTO.astype(np.float32) / 255
    tensor = torch.from_numpy(as_float).permute(2, 0, 1)
    for source in (path, str(path), Image.open(path), PHOTO, as_float, tensor, tensor[None]):
        np.testing.assert_array_equal(to_uint8(read(source).x), PHOTO)


def test_grey_sixteen_bits_and_transparency_are_converted_and_said(tmp_path: Path) -> None:
    grey = read(PHOTO[:, :, 0])
    np.testing.assert_array_equal(to_uint8(grey.x), PHOTO[:, :, :1].repeat(3, 2))
    assert "grey" in grey.notes[0]
    deep = PHOTO[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for source in (deep, tmp_path / "deep.png"):
        found = read(source)
        np.testing.assert_array_equal(to_uint8(found.x), PHOTO[:, :, :1].repeat(3, 2))
        assert any("16 bits" in note for note in found.notes)
    clear = np.dstack((PHOTO, np.zeros_like(PHOTO[:, :, 0])))
    found = read(clear)
    assert (to_uint8(found.x) == 255).all()
    assert any("transparent" in note for note in found.notes)
    opaque = read(np.dstack((PHOTO, np.full_like(PHOTO[:, :, 0], 255))))
    np.testing.assert_array_equal(to_uint8(opaque.x), PHOTO)
    assert not opaque.notes


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere.png", "no file"),
        (np.zeros((0, 5, 3), np.uint8), "nothing to see"),
        (np.zeros((5, 40, 50), np.uint8), "shape"),
        (np.full((40, 50, 3), 2.0), r"must lie in \[0, 1\]"),
        (np.full((40, 50, 3), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((40, 50, 3), np.int64), "int64"),
        (torch.zeros(2, 3, 40, 50), "2 images; give one"),
        (17, "int"),
    ],
)
def test_the_rest_is_refused_with_a_reason(source, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ImageError, match=says):
        read(source)


def test_no_image_and_half_an_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ImageError, match="can't be read as an image"):
        read(tmp_path / "text.png")
    Image.fromarray(data.astronaut()).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20000])
    with pytest.raises(ImageError, match="can't be read as an image"):
        read(tmp_path / "half.png")


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (40_000, 40_000)).save(path)
    with pytest.raises(ImageError, match=r"megapixels and would take about \d+ GB"):
        read(path)
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

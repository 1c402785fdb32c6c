"""The stream file: what is written is read, and anything else is refused with a reason."""

import json
import zlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lic_lab as lab
from lic_lab.codecs.stream import STRIDE, Stream, StreamError, compress, decompress

GOOD = Stream("mlic+", 2, {"local": "attention"}, "ab" * 32, 75, 101, (2, 2), (b"latent12", b"side"))


STRINGS = b"".join(GOOD.strings)


def sealed(header, payload=STRINGS, version=1):
    """A file with any header and a right checksum."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = b"LICL" + bytes([version]) + len(text).to_bytes(4, "little") + text + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def header(**changed):
    start = 9 + int.from_bytes(GOOD.to_bytes()[5:9], "little")
    return json.loads(GOOD.to_bytes()[9:start]) | changed


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    stride=st.sampled_from((16, 64)),
    strings=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=4),
)
def test_reading_gives_what_was_written(height, width, stride, strings):
    shape = tuple((side + -side % STRIDE) // stride for side in (height, width))
    stream = replace(GOOD, height=height, width=width, shape=shape, strings=tuple(strings))
    assert Stream.from_bytes(stream.to_bytes()) == stream


def test_bpp_counts_the_whole_file():
    assert GOOD.bpp == 8 * len(GOOD.to_bytes()) / (75 * 101)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(StreamError):
        Stream.from_bytes(data)


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    whole = bytearray(GOOD.to_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StreamError):
        Stream.from_bytes(bytes(whole))


@given(st.integers(0, len(GOOD.to_bytes()) - 1))
def test_a_file_cut_off_is_noticed(length):
    with pytest.raises(StreamError):
        Stream.from_bytes(GOOD.to_bytes()[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sealed(header(), version=9), "version 9; this lic-lab reads version 1"),
        (sealed(b"{"), "no JSON"),
        (sealed(b"\xff\xfe"), "no JSON"),
        (sealed([1]), "a list, not an object"),
        (sealed(header(codec=3)), "3 for codec; it must be a str"),
        (sealed(header(quality=True)), "True for quality"),
        (sealed(header(combination={"local": 1})), "named by text"),
        (sealed(header(size=[75])), "it must be 2 positive integers"),
        (sealed(header(size=[0, 101])), "positive integers"),
        (sealed(header(size=[75.0, 101])), "positive integers"),
        (sealed(header(size=[10**9, 10**9])), "pixels is the limit"),
        (sealed(header(shape=[2, 3])), "does not fit its image"),
        (sealed(header(shape=[10**9, 10**9])), "does not fit its image"),
        (sealed(header(lengths=[8, 5])), "should have 13 bytes and have 12"),
        (sealed(header(lengths=[])), "some positive integers"),
        (sealed({}), "None for codec"),
    ],
)
def test_a_header_is_checked_field_by_field(data, message):
    with pytest.raises(StreamError, match=message):
        Stream.from_bytes(data)


@pytest.mark.parametrize("swap", [{}, {"local": "none", "global": "none", "channel": "none", "refinement": "none"}])
def test_decoding_a_file_gives_the_encoder_s_picture(untrained_weights, photograph, swap, one_thread):
    codec = lab.load("mlic+", 2).swap(**swap)
    x = lab.read_image(photograph)
    stream = compress(codec, x)
    found = decompress(Stream.from_bytes(stream.to_bytes()))
    expected = torch.from_numpy(lab.trace(codec, photograph).x_hat.copy())
    assert found.shape == x.shape
    assert stream.combination == codec.combination
    assert torch.equal((found[0] * 255).round().byte().permute(1, 2, 0), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "00" * 32}, "written with weights 000000000000"),
        ({"quality": 5}, "no weights for quality 5"),
        ({"codec": "mlic+++"}, "no weights for 'mlic\\+\\+\\+'"),
        ({"combination": {"local": "swin"}}, "components can't be had"),
        ({"combination": {"no such": "part"}}, "components can't be had"),
        ({"strings": (b"only1",)}, "1 strings; mlic\\+ writes 2"),
        ({"shape": (8, 8)}, "8 rows"),
    ],
)
def test_a_stream_for_another_codec_is_refused(untrained_weights, photograph, change, message):
    stream = compress(lab.load("mlic+", 2), lab.read_image(photograph))
    with pytest.raises(ValueError, match=message):
        decompress(replace(stream, **change))


def test_a_codec_without_shipped_weights_writes_no_file():
    from lic_lab.codecs.shared import SharedLatent

    with pytest.raises(ValueError, match="nobody could decode"):
        compress(SharedLatent(), torch.zeros(1, 3, 64, 64))

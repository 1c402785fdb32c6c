"""Classical codecs: any size comes back, rate and quality rise together, other decoders agree, programs are driven."""

import pickle
import shutil
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest

from lic_lab.evaluation import classical as anchors
from lic_lab.evaluation.classical import CLASSICAL, available, classical, point, psnr_at, rate_points
from lic_lab.evaluation.classical.executables import version_line
from lic_lab.evaluation.classical.ycbcr import to_rgb, to_ycbcr
from lic_lab.evaluation.quality import psnr

ALL = pytest.mark.parametrize("name", CLASSICAL)


def here(name):
    if reason := available(name):
        pytest.skip(reason)
    return rate_points(name)


@pytest.fixture(scope="module")
def crop():
    """A face and a flag, 96 x 128."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[60:156, 150:278])


@ALL
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 17), (64, 75), (96, 128)])
def test_what_is_decoded_has_the_image_s_size(name, size, crop):
    pixels = crop[: size[0], : size[1]]
    coder = here(name)[-1]
    if name == "hevc" and min(size) < 16:
        with pytest.raises(ValueError, match="hevc can't code these .* x265 needs at least 16"):
            coder.encode(pixels)
        return
    strings = coder.encode(pixels)
    assert all(isinstance(string, bytes) for string in strings)
    decoded = coder.decode(strings)
    assert decoded.dtype == np.uint8
    assert decoded.shape == pixels.shape


@ALL
def test_rate_and_quality_rise_along_the_grid(name, crop):
    """On a crop so small a step may cost a byte less, and JPEG XL halves its size at its lowest rates."""
    bpp, quality = np.transpose([point(crop, coder) for coder in here(name)[::2]])
    assert (np.diff(bpp) > -0.02 * bpp[1:]).all()
    assert bpp[-1] > 4 * bpp[0]
    assert (np.diff(quality) > -0.2).all()
    assert quality[-1] > quality[0] + 8


@ALL
def test_a_configuration_names_a_rate_point(name):
    method = CLASSICAL[name]
    for value in method.grid:
        assert method.value(f"{method.setting}={value:g}") == value
    if available(name) is None:
        for coder in rate_points(name):
            assert classical(name, coder.configuration) == coder == pickle.loads(pickle.dumps(coder))


@ALL
def test_the_digest_has_a_version(name):
    (digest,) = {coder.digest for coder in here(name)}
    assert any(character.isdigit() for character in digest)
    assert "unknown" not in digest


@pytest.mark.parametrize(
    ("name", "decode", "most"),
    [
        ("jpeg", imagecodecs.jpeg8_decode, 1),
        ("jpeg2000", imagecodecs.jpeg2k_decode, 1),
        ("webp", imagecodecs.webp_decode, 1),
        ("avif", imagecodecs.avif_decode, 1),
    ],
)
def test_another_decoder_agrees(name, decode, most, crop):
    """That of imagecodecs, with its own copies of the libraries; colours may be rounded otherwise."""
    coder = rate_points(name)[-3]
    (data,) = coder.encode(crop)
    assert np.abs(decode(data).astype(int) - coder.decode([data])).max() <= most


def test_avif_keeps_all_chroma(crop):
    """A chequerboard of red and blue pixels: 4:2:0 would make it purple."""
    board = np.zeros((32, 32, 3), np.uint8)
    board[::2, ::2, 0] = board[1::2, 1::2, 0] = 255
    board[1::2, ::2, 2] = board[::2, 1::2, 2] = 255
    assert (
        psnr(board, rt(classical("avif", "quality=85"), board))
        > psnr(board, rt(classical("jpeg", "quality=95"), board)) + 10
    )


def rt(coder, pixels):
    return coder.decode(coder.encode(pixels))


def test_djxl_agrees(crop, tmp_path):
    if shutil.which("djxl") is None:
        pytest.skip("no djxl on the PATH")
    coder = classical("jpeg-xl", "distance=1")
    strings = coder.encode(crop)
    ours = coder.decode(strings)
    from lic_lab.evaluation.classical import jpeg_xl

    theirs = jpeg_xl.TOOLS.convert(jpeg_xl.TOOLS.decoder, strings[0], "{in}.jxl", "{out}.png")
    assert np.abs(imagecodecs.png_decode(theirs).astype(int) - ours).max() <= 1


def test_an_hevc_stream_says_what_its_colours_are(crop):
    """FFmpeg's own conversion, which reads the matrix and the range from the stream, gives our picture."""
    here("hevc")
    coder = classical("hevc", "qp=12")
    (stream,) = coder.encode(crop)
    command = ["ffmpeg", "-loglevel", "error", "-f", "hevc", "-i", "-", "-frames:v", "1"]
    command += ["-sws_flags", "accurate_rnd+full_chroma_int", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, input=stream, capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(crop.shape)
    difference = theirs.astype(int) - coder.decode([stream])
    assert np.abs(difference).max() <= 3
    assert np.abs(difference.mean()) < 0.5
    assert b"x265" not in stream  # it would be counted


def test_ycbcr_is_compressai_s_matrix_and_inverts(crop):
    import torch
    from compressai.transforms.functional import rgb2ycbcr

    rgb = torch.from_numpy(crop).permute(2, 0, 1) / 255
    expected = rgb2ycbcr(rgb).numpy() * 255
    expected[1:] += 0.5  # its grey is at 127.5, the standard's at 128
    planes = to_ycbcr(crop)
    assert planes.shape == (3, 96, 128)
    assert np.abs(planes - expected).max() < 0.501
    assert np.abs(to_rgb(planes).astype(int) - crop).max() <= 2
    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    assert (to_rgb(to_ycbcr(greys)) == greys).all()


def test_psnr_at_goes_through_the_rate_points(crop):
    coders = rate_points("jpeg2000")
    points = [point(crop, coder) for coder in (coders[6], coders[7])]
    for bpp, quality in points:
        assert psnr_at(crop, "jpeg2000", bpp) == pytest.approx(quality)
    between = np.sqrt(points[0][0] * points[1][0])
    assert psnr_at(crop, "jpeg2000", between) == pytest.approx((points[0][1] + points[1][1]) / 2)
    assert np.isnan(psnr_at(crop, "jpeg2000", 0.001))
    assert np.isnan(psnr_at(crop, "jpeg2000", 23.9))


@pytest.mark.parametrize(
    ("name", "configuration", "message"),
    [
        ("gif", "quality=1", "no classical codec is called 'gif'; there are jpeg,"),
        ("jpeg", "qp=1", "'qp=1'; write quality= and a whole number from 1 to 95"),
        ("jpeg", "quality=0", "from 1 to 95"),
        ("jpeg", "quality=2.5", "whole number"),
        ("jpeg", "quality", "write quality="),
        ("jpeg2000", "bpp=nan", "write bpp= and a number from 0.01 to 24"),
        ("jpeg-xl", "distance=26", "from 0.01 to 25"),
    ],
)
def test_an_unknown_rate_point_is_refused(name, configuration, message):
    with pytest.raises(ValueError, match=message):
        classical(name, configuration)


@ALL
def test_other_pixels_and_other_strings_are_refused(name, crop):
    coder = here(name)[0]
    for wrong in (crop / 255, crop[..., 0], crop[:0], np.dstack((crop, crop))):
        with pytest.raises(ValueError, match="give uint8"):
            coder.encode(wrong)
    with pytest.raises(ValueError, match=f"{name} can't decode these strings"):
        coder.decode([b"no image"])


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An empty PATH, and a function that puts a program there, given as lines of Python that may use `argv`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("LIC_LAB_VTM_CFG", "LIC_LAB_HM_CFG"):
        monkeypatch.delenv(variable, raising=False)

    def add(name, body):
        path = folder / name
        path.write_text(f"#!{sys.executable}\nimport sys, zlib, pathlib\nargv = sys.argv[1:]\n{body}\n")
        path.chmod(0o755)
        return path

    return add


ENCODER = """
print("VVCSoftware: VTM Encoder Version 23.1 [Linux][64 bit] [SIMD=AVX2]")
if "-i" not in argv: sys.exit("no input")
of = lambda option: argv[argv.index(option) + 1]
frame = pathlib.Path(of("-i")).read_bytes()
assert len(frame) == 3 * int(of("-wdt")) * int(of("-hgt"))
assert pathlib.Path(of("-c")).read_text() == "the user's"
pathlib.Path(of("-b")).write_bytes(zlib.compress(frame, 9))
pathlib.Path(__file__).with_name("asked").write_text(" ".join(argv))
"""
DECODER = """
of = lambda option: argv[argv.index(option) + 1]
pathlib.Path(of("-o")).write_bytes(zlib.decompress(pathlib.Path(of("-b")).read_bytes()))
assert of("-d") == "8"
"""
COPY = """
if "-o" not in argv: sys.exit("BPG Image Encoder version 0.9.8")
pathlib.Path(argv[argv.index("-o") + 1]).write_bytes(pathlib.Path(argv[-1]).read_bytes())
pathlib.Path(__file__).with_suffix(".asked").write_text(" ".join(argv))
"""


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "variable"),
    [
        ("vtm", "EncoderApp", "DecoderAppStatic", "LIC_LAB_VTM_CFG"),
        ("hm", "TAppEncoderStatic", "TAppDecoder", "LIC_LAB_HM_CFG"),
    ],
)
def test_reference_software_is_driven(name, encoder, decoder, variable, programs, crop, tmp_path, monkeypatch):
    """With stand-ins that lose nothing: what comes back is the picture through YCbCr."""
    assert encoder.removesuffix("Static") in available(name)
    path = programs(encoder, ENCODER)
    assert decoder.removesuffix("Static") in available(name)
    programs(decoder, DECODER)
    assert f"{variable} is not set" in available(name)
    with pytest.raises(ValueError, match=f"{name} does not run here: {variable} is not set; set it to"):
        classical(name, "qp=32")
    configuration = tmp_path / "intra.cfg"
    monkeypatch.setenv(variable, str(configuration))
    assert "which is no file" in available(name)
    configuration.write_text("the user's")
    assert available(name) is None

    coder = classical(name, "qp=32")
    pixels = crop[:75, :101]
    strings = coder.encode(pixels)
    assert (coder.decode(strings) == to_rgb(to_ycbcr(pixels))).all()
    assert len(strings[0]) == len(zlib_of(pixels))
    asked = path.with_name("asked").read_text()
    for options in ("-q 32", "-wdt 101 -hgt 75", "--InputChromaFormat=444", "--InputBitDepth=8", "-f 1"):
        assert options in asked

    first = coder.digest
    assert first.startswith("VVCSoftware: VTM Encoder Version 23.1 [Linux][64 bit], intra.cfg ")
    configuration.write_text("another")
    assert coder.digest != first
    with pytest.raises(ValueError, match=f"{encoder} failed with status 1: AssertionError"):
        coder.encode(pixels)
    with pytest.raises(ValueError, match=f"{decoder} failed with status 1: zlib.error"):
        coder.decode([b"no stream", strings[1]])


def zlib_of(pixels):
    import zlib

    return zlib.compress(to_ycbcr(pixels).tobytes(), 9)


def test_bpg_is_driven(programs, crop):
    assert "bpgenc" in available("bpg")
    path = programs("bpgenc", COPY)
    assert "bpgdec" in available("bpg")
    programs("bpgdec", COPY)
    coder = classical("bpg", "qp=37")
    assert (rt(coder, crop) == crop).all()
    asked = path.with_suffix(".asked").read_text()
    assert "-q 37 -f 444 -e x265" in asked
    assert coder.digest == "BPG Image Encoder version 0.9.8"


def test_jpeg_xl_falls_back_on_its_tools(programs, crop, monkeypatch):
    monkeypatch.setattr(imagecodecs.JPEGXL, "available", False)
    assert "imagecodecs has no JPEG XL, and there is no cjxl" in available("jpeg-xl")
    copy = 'import shutil\nif len(argv) < 2: sys.exit(print("cjxl v0.11.1 [AVX2,SSE4]"))\nshutil.copy(argv[0], argv[1])'
    programs("cjxl", copy)
    programs("djxl", copy)
    coder = classical("jpeg-xl", "distance=1.3")
    assert (rt(coder, crop) == crop).all()
    assert coder.digest == "cjxl v0.11.1, effort 7"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('progress')\nsys.exit('first\\n\\nno such QP\\n')", "failed with status 1: no such QP$"),
        ("print('told on stdout')\nsys.exit(3)", "failed with status 3: told on stdout$"),
        ("sys.exit(4)", "failed with status 4: it does not say why$"),
        ("", "wrote nothing, though it did not fail$"),
    ],
)
def test_a_program_that_fails_is_told_in_one_line(body, message, programs, crop):
    programs("bpgenc", body)
    programs("bpgdec", body)
    coder = classical("bpg", "qp=37")
    with pytest.raises(ValueError, match=f"^bpg can't code these 96 x 128 pixels: bpgenc {message}"):
        coder.encode(crop)
    with pytest.raises(ValueError, match=f"^bpg can't decode these strings: bpgdec {message}"):
        coder.decode([b"anything"])


def test_a_picture_of_another_size_than_the_stream_s_is_refused(programs, crop, tmp_path, monkeypatch):
    programs("EncoderApp", ENCODER)
    programs("DecoderApp", DECODER)
    configuration = tmp_path / "intra.cfg"
    configuration.write_text("the user's")
    monkeypatch.setenv("LIC_LAB_VTM_CFG", str(configuration))
    coder = classical("vtm", "qp=32")
    strings = coder.encode(crop)
    other = coder.encode(crop[:50])[1]
    with pytest.raises(ValueError, match="decoded are 36864 bytes; 50 x 128 pixels 4:4:4 are 19200"):
        coder.decode([strings[0], other])


def test_ffmpeg_without_x265_is_not_enough(programs):
    assert "there is no ffmpeg on the PATH; install ffmpeg with libx265" in available("hevc")
    programs("ffmpeg", "sys.exit(\"Unknown encoder 'libx265'\")")
    assert "has no libx265" in available("hevc")
    with pytest.raises(ValueError, match="hevc does not run here: the ffmpeg on the PATH has no libx265"):
        rate_points("hevc")


def test_a_program_that_has_no_version_has_a_name(programs):
    assert version_line(str(programs("silent", ""))) == "silent of unknown version"


def test_the_grids_hold_the_usual_qps():
    assert {22, 27, 32, 37, 42, 47} == set(anchors.FEW_QPS) < set(anchors.QPS)

"""compressai's own eval_model runs our shipped checkpoints and measures what our sweep measures.

Both count the bytes of the strings and nothing of a container, round the reconstruction to 8 bits before they compare,
take the PSNR of R, G and B together and MS-SSIM from pytorch-msssim, and average over the images. What differs is that
eval_model lays an image amid zeros to a multiple of 64, while our coder takes it as it is. So the numbers are the same
where nothing is to be padded, as on Kodak, and for other sizes once our coder is given eval_model's padding; what the
padding alone is worth is in the last test.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from compressai.ops import compute_padding
from PIL import Image

import lic_lab as lab
from lic_lab.codecs.registry import entry
from lic_lab.codecs.weights import cards
from lic_lab.evaluation.coders import Learned
from lic_lab.evaluation.quality import ms_ssim, psnr
from lic_lab.evaluation.sweep import Job, fingerprint, measure

QUALITIES = [card["quality"] for card in cards("mlic+")][:2]
assert QUALITIES, "the repository ships weights of mlic+; restore data/weights with git checkout"
SAME = {"bpp": 1e-3, "psnr": 0.01, "ms_ssim": 1e-4}  # the first two by the project's promise
THEIRS = {"bpp": "bpp", "psnr": "psnr-rgb", "ms_ssim": "ms-ssim-rgb"}


@pytest.fixture(scope="module")
def eval_model():
    """The tool's module. Importing it sets torch to one thread, so ours runs with one as well."""
    before = torch.get_num_threads()
    module = pytest.importorskip("compressai.utils.eval_model.__main__")
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two photographs whose sides are multiples of 64."""
    folder = tmp_path_factory.mktemp("photographs")
    Image.fromarray(skimage.data.astronaut()[:192, 130:386]).save(folder / "astronaut.png")
    Image.fromarray(skimage.data.coffee()[100:356, 150:342]).save(folder / "coffee.png")
    return folder


def ours(path: Path, coder: Learned) -> dict[str, float]:
    """The sweep's row."""
    row = measure(Job(coder.name, coder.configuration, coder.digest, str(path), fingerprint(path)))
    assert "reason" not in row, row
    return row


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in SAME}


def agree(mine: dict[str, float], theirs: dict[str, float]) -> None:
    for name, tolerance in SAME.items():
        assert mine[name] == pytest.approx(theirs[THEIRS[name]], abs=tolerance), name


def test_its_command_line_measures_our_codecs_as_its_own_zoo(eval_model, folder, monkeypatch, capsys):
    """Its command knows models by name; with ours in its table it runs them as it runs its own."""
    monkeypatch.setitem(
        eval_model.pretrained_models, "mlic+", lambda quality, metric, pretrained, progress: lab.load("mlic+", quality)
    )
    qualities = ",".join(map(str, QUALITIES))
    eval_model.main(["pretrained", str(folder), "-a", "mlic+", "-q", qualities])
    found = json.loads(capsys.readouterr().out)["results"]
    for i, quality in enumerate(QUALITIES):
        mine = mean([ours(path, Learned("mlic+", quality)) for path in sorted(folder.iterdir())])
        agree(mine, {name: values[i] for name, values in found.items()})


def test_its_command_line_reads_our_checkpoint(eval_model, folder, tmp_path, monkeypatch, capsys):
    """From a file with the state dict, which it puts into our class and updates itself."""
    checkpoint = tmp_path / "mlic.pth.tar"
    torch.save({"state_dict": lab.load("mlic", QUALITIES[0]).state_dict()}, checkpoint)
    monkeypatch.setitem(eval_model.pretrained_models, "mlic", None)  # so that its parser takes the name
    monkeypatch.setitem(eval_model.architectures, "mlic", entry("mlic").load())
    eval_model.main(["checkpoint", str(folder), "-a", "mlic", "-p", str(checkpoint)])
    found = json.loads(capsys.readouterr().out)["results"]
    mine = mean([ours(path, Learned("mlic", QUALITIES[0])) for path in sorted(folder.iterdir())])
    agree(mine, {name: values[0] for name, values in found.items()})


def test_the_strings_and_the_pixels_are_the_same(eval_model, folder):
    """Not only the means: bit by bit, and so the PSNR to rounding in float32."""
    coder = Learned("mlic+", QUALITIES[0])
    for path in sorted(folder.iterdir()):
        x = eval_model.read_image(path)
        theirs = eval_model.inference(coder.codec, x)
        row = ours(path, coder)
        assert row["bpp"] == pytest.approx(theirs["bpp"], rel=1e-12)
        assert row["psnr"] == pytest.approx(theirs["psnr-rgb"], abs=1e-4)
        pixels = np.asarray(Image.open(path))
        assert coder.encode(pixels) == [strings[0] for strings in coder.codec.compress(x[None])["strings"]]


def test_at_other_sizes_only_the_padding_differs(eval_model, tmp_path):
    """170 x 201 pixels. With eval_model's zeros our codec gives eval_model's numbers; with our padding, fewer bits."""
    coder = Learned("mlic+", QUALITIES[0])
    pixels = np.ascontiguousarray(skimage.data.chelsea()[60:230, 90:291])
    path = tmp_path / "chelsea.png"
    Image.fromarray(pixels).save(path)
    x = eval_model.read_image(path)
    theirs = eval_model.inference(coder.codec, x)

    height, width = pixels.shape[:2]
    around, back = compute_padding(height, width, min_div=64)
    zeros = torch.nn.functional.pad(x[None], around)
    (left, _, top, _) = around
    canvas = (zeros[0] * 255).round().byte().permute(1, 2, 0).numpy()
    strings = coder.encode(canvas)
    assert 8 * sum(map(len, strings)) / (height * width) == pytest.approx(theirs["bpp"], abs=SAME["bpp"])
    decoded = coder.decode(strings)[top : top + height, left : left + width]
    assert psnr(pixels, np.ascontiguousarray(decoded)) == pytest.approx(theirs["psnr-rgb"], abs=SAME["psnr"])
    assert ms_ssim(pixels, np.ascontiguousarray(decoded)) == pytest.approx(theirs["ms-ssim-rgb"], abs=SAME["ms_ssim"])
    # The zeros and their edge cost bits: 0.346 bpp against 0.274 with mlic+ at quality 2, and 0.3 dB.
    assert ours(path, coder)["bpp"] < theirs["bpp"]

"""Laws 2 and 3: the estimate is the stream, and it decodes to what was estimated, on photographs of odd sizes."""

from __future__ import annotations

import warnings

import pytest
import torch
from laws import COMBINATIONS, lively, name_of, photograph
from torch import Tensor

from lic_lab.codecs import registry, weights
from lic_lab.codecs.codec import Codec, one_thread

TRAINED = [(name, card["quality"]) for name in ("mlic", "mlic+") for card in weights.cards(name)]


def estimated_bytes(out: dict) -> float:
    return sum(float(-p.double().log2().sum()) for p in out["likelihoods"].values()) / 8


def check(codec: Codec, x: Tensor) -> None:
    """Bytes within 0.5 % + 64 of the estimate; decoded picture equal to the estimated one, bit by bit."""
    codec.eval()
    with one_thread(), torch.no_grad():
        out = codec(x)
        coded = codec.compress(x)
        decoded = codec.decompress(**coded)["x_hat"]
    written = sum(len(s[0]) for s in coded["strings"])
    estimate = estimated_bytes(out)
    assert abs(written - estimate) <= 0.005 * estimate + 64, (written, estimate)
    assert torch.equal(decoded, out["x_hat"].clamp(0, 1))


@pytest.mark.parametrize("name", registry.names())
def test_codecs(name: str) -> None:
    codec = lively(name)
    check(codec, photograph("astronaut", 201, 317))
    check(codec, photograph("chelsea", 1, 65))


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_combinations(combination: dict[str, str]) -> None:
    check(lively("shared").swap(**combination), photograph("coffee", 70, 129))


@pytest.mark.parametrize("name", registry.names())
def test_published_sizes(name: str) -> None:
    check(lively(name, "paper"), photograph("coffee", 64, 64))
    lively.cache_clear()


@pytest.mark.skipif(not TRAINED, reason="no trained weights yet")
@pytest.mark.parametrize(("name", "quality"), TRAINED)
def test_trained_weights(name: str, quality: int) -> None:
    check(weights.load(name, quality), photograph("coffee", 239, 301))


@pytest.mark.parametrize("name", registry.names())
def test_a_batch_is_coded_as_its_images_alone(name: str) -> None:
    codec = lively(name)
    x = torch.cat((photograph("astronaut", 64, 128), photograph("coffee", 64, 128)))
    together = codec.compress(x)
    alone = [codec.compress(image) for image in x.split(1)]
    for stream in range(len(together["strings"])):
        assert together["strings"][stream] == [a["strings"][stream][0] for a in alone]
    pictures = codec.decompress(**together)["x_hat"]
    for picture, a in zip(pictures.split(1), alone, strict=True):
        assert torch.equal(picture, codec.decompress(**a)["x_hat"])
    with torch.no_grad():
        assert torch.allclose(pictures, codec(x)["x_hat"].clamp(0, 1), atol=1e-3)


@pytest.mark.parametrize("name", registry.names())
def test_a_stream_decodes_with_any_number_of_threads(name: str) -> None:
    """A symbol decoded wrongly would change the picture by far more than g_s's rounding, which threads do change."""
    codec, x, before = lively(name), photograph("chelsea", 180, 290), torch.get_num_threads()
    pictures = {}
    try:
        for coding in (1, 2):
            torch.set_num_threads(coding)
            coded = codec.compress(x)
            for decoding in (1, 2):
                torch.set_num_threads(decoding)
                pictures[coding, decoding] = codec.decompress(**coded)["x_hat"]
                assert torch.get_num_threads() == decoding
    finally:
        torch.set_num_threads(before)
    for coding in (1, 2):
        assert torch.allclose(pictures[coding, 1], pictures[coding, 2], atol=1e-5)


@pytest.mark.parametrize("name", ["factorized", "mlic"])
def test_a_forgotten_update_says_what_to_do(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codec = registry.create(name, "small").eval()
    with pytest.raises(RuntimeError, match=r"codec\.update\(\)"):
        codec.compress(torch.zeros(1, 3, 64, 64))
    with pytest.raises(RuntimeError, match=r"codec\.update\(\)"):
        codec.decompress([[b""], [b""]], (1, 1))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 60, 64), (1, 3, 0, 64)])
def test_images_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape|multiples"):
        lively("factorized").compress(torch.zeros(shape))

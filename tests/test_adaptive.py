"""Codecs that code a picture smaller than it is: the laws hold at every resize factor, however it is found."""

from __future__ import annotations

import pytest
import torch
from laws import lively, photograph, same_picture_from_any_threads
from test_streams import check

import lic_lab as lab
from lic_lab.codecs import registry
from lic_lab.codecs.codec import GRID, SKIPPED, adaptive
from lic_lab.codecs.geometry import WHOLE
from lic_lab.evaluation.complexity import complexity
from lic_lab.layers.resample import resample


@pytest.mark.parametrize("s", [0.25, 0.61, 0.9])
@pytest.mark.parametrize("name", ["aict", "shared"])
def test_the_estimate_is_the_stream_at_any_size(name: str, s: float) -> None:
    codec = lively(name)
    codec = (codec if name == "aict" else adaptive(codec)).resized(s)
    x = photograph("coffee", 75, 90)
    check(codec, x)
    coded = codec.encode(x)
    assert [abs(side - s * whole) < 1 for side, whole in zip(coded.geometry.coded, (75, 90), strict=True)] == [
        True,
        True,
    ]
    assert coded.y_hat.shape[2:] == tuple(-(-side // 16) for side in coded.geometry.coded)
    out = codec.compress(x)
    assert int.from_bytes(out["strings"][2][0], "little") == coded.geometry.scale
    x_hat = adaptive(lively(name)).decompress(**out)["x_hat"] if name == "shared" else codec.decompress(**out)["x_hat"]
    assert x_hat.shape == x.shape


def test_at_its_own_size_aict_is_ict() -> None:
    """Streams and pictures bit for bit; nothing of the resizing is computed."""
    aict = lively("aict").resized(1)
    ict = registry.create("ict", "small").eval()
    ict.load_state_dict({k: v for k, v in aict.state_dict().items() if not k.startswith("resizing.")})
    ict.update()
    x = photograph("astronaut", 50, 70)
    for part in aict.resizing.modules():
        for p in part.parameters(recurse=False):
            assert p.isfinite().all()
    with torch.no_grad():
        broken = {p: p.clone() for p in aict.resizing.parameters()}
        for p in broken:
            p.fill_(torch.nan)
        try:
            mine, theirs = aict.encode(x), ict.encode(x)
            assert mine.strings == theirs.strings
            assert mine.geometry == theirs.geometry
            assert torch.equal(aict.picture(mine.y_hat, mine.geometry), ict.picture(theirs.y_hat, theirs.geometry))
        finally:
            for p, before in broken.items():
                p.copy_(before)


def test_the_picture_is_the_same_from_one_thread_and_from_two() -> None:
    codec = lively("aict").resized(0.55)
    y_hat, coded = same_picture_from_any_threads(codec, photograph("chelsea", 64, 97))
    with torch.no_grad():
        estimate = codec.synthesise(y_hat.float(), coded.geometry)
    assert float((estimate.clamp(0, 1) - codec.picture(y_hat, coded.geometry)).abs().max()) < 2 / 255


def test_the_factor_is_given_predicted_or_searched() -> None:
    codec, x = lively("aict"), photograph("coffee", 64, 64)
    with torch.no_grad():
        s = float(codec.resizing.network(x))
    predicted = codec.resized("predicted").analyse(x)[1].scale
    assert s < SKIPPED
    assert predicted == round(s * WHOLE)
    codec.lmbda = 0.0067
    try:
        losses = {scale: codec.loss(x, scale) for scale in GRID}
        searched = codec.resized("searched").analyse(x)[1].scale
        assert searched == min(losses, key=losses.__getitem__)
        assert len(set(losses.values())) == len(GRID)
        out = codec.resized(0.5)(x)
        bits = -sum(float(p.double().log2().sum()) for p in out["likelihoods"].values())
        mse = float((out["x_hat"].clamp(0, 1) - x).square().mean())
        assert losses[WHOLE // 2] == pytest.approx(0.0067 * 255**2 * mse + bits / 64**2, rel=1e-5)
    finally:
        del codec.lmbda
    with pytest.raises(ValueError, match="no lambda"):
        codec.resized("searched").analyse(x)


def test_images_with_factors_of_their_own_are_coded_one_by_one() -> None:
    codec = lively("aict").resized("predicted")
    x = torch.cat((photograph("coffee", 48, 48), torch.zeros(1, 3, 48, 48)))
    scales = [codec.analyse(image)[1].scale for image in x.split(1)]
    assert scales[0] != scales[1]
    with pytest.raises(ValueError, match="one image at a time"):
        codec(x)
    out = codec.compress(x)
    assert [int.from_bytes(string, "little") for string in out["strings"][2]] == scales
    assert codec.decompress(**out)["x_hat"].shape == x.shape
    out["strings"][2] = [string + b"\0" for string in out["strings"][2]]
    with pytest.raises(ValueError, match="2 bytes, not 3"):
        codec.decompress(**out)


@torch.no_grad()
def test_the_picture_is_filtered_resampled_and_coded_and_back() -> None:
    """analyse is g_a after the filter and the resampler, synthesise the resampler and the filter after g_s."""
    codec, x = lively("aict").resized(0.5), photograph("chelsea", 64, 96)
    y, geometry = codec.analyse(x)
    assert geometry.coded == (32, 48)
    torch.testing.assert_close(y, codec.g_a(resample(codec.resizing.before(x), (32, 48))))
    x_hat = codec.synthesise(y, geometry)
    torch.testing.assert_close(x_hat, codec.resizing.after(resample(codec.g_s(y), (64, 96))))
    for part in (codec.resizing.before, codec.resizing.after):
        assert float((part(x) - x).abs().max()) > 0.01


def test_an_adaptive_codec_is_of_the_codec_s_kind_and_comes_back_from_its_state() -> None:
    codec = adaptive(registry.create("ict", "small").double().eval())
    assert {p.dtype for p in codec.parameters()} == {torch.float64}
    assert not any(module.training for module in codec.modules())
    state = adaptive(lively("ict")).state_dict()
    again = type(codec).from_state_dict(state)
    assert again.resizing is not None
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())


def test_what_can_not_be_is_refused() -> None:
    for codec, to, words in (
        (lively("ict"), 0.5, "can't resize"),
        (lively("aict"), 0.2, "0.25 to 1"),
        (lively("aict"), 1.5, "0.25 to 1"),
        (lively("aict"), "guessed", "predicted or searched"),
    ):
        with pytest.raises(ValueError, match=words):
            codec.resized(to)
    with pytest.raises(ValueError, match="not finite"):
        lively("aict").analyse(torch.full((1, 3, 32, 32), torch.nan))
    assert lively("aict").resized(torch.tensor(0.5)).scale == WHOLE // 2
    with pytest.raises(ValueError, match="can't resize"):
        lively("ict").geometry(64, 64, WHOLE // 2)
    with pytest.raises(ValueError, match=r"at 0.25 of its size at least"):
        lively("aict").geometry(64, 64, WHOLE // 8)


def test_products_are_the_published_ones() -> None:
    """../shared/papers/FACTS.md: AICT 593.1 kMAC per pixel, of them 12.4 of the network and 0.7 of each filter."""
    rows = {row["module"]: row["macs_per_pixel"] / 1e3 for row in complexity(registry.create("aict"), 256, 256)}
    assert sum(rows.values()) == pytest.approx(593.1, rel=2e-3)
    assert [round(rows[part], 1) for part in ("resize", "before", "after")] == [12.4, 0.7, 0.7]


def test_a_trace_says_at_what_size_it_was_coded() -> None:
    codec = lively("aict")
    x = photograph("coffee", 48, 64)
    assert lab.trace(codec.resized(0.5), x[0]).notes == ("coded at 0.500 of its size",)
    assert lab.trace(codec.resized(1), x[0]).notes == ()
    for to in (None, True, "half"):
        with pytest.raises(ValueError, match="resize factor is"):
            codec.resized(to)

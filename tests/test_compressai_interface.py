"""Law 4: interfaces are CompressAI's; its tools run our codecs, and its weights give the same numbers in them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from compressai.entropy_models import GaussianConditional
from compressai.models import (
    CompressionModel,
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from laws import lively, photograph
from torch import Tensor

from lic_lab.codecs import registry, weights
from lic_lab.codecs.charm import Charm
from lic_lab.codecs.codec import Codec
from lic_lab.codecs.factorized import Factorized
from lic_lab.codecs.hyperprior import ScaleHyperprior as OurScaleHyperprior
from lic_lab.codecs.joint_autoregressive import JointAutoregressive
from lic_lab.codecs.mean_scale import MeanScale
from lic_lab.codecs.mlic import MLIC
from lic_lab.codecs.mlic_plus import MLICPlus
from lic_lab.entropy.gaussian import likelihood
from lic_lab.layers.tap import record

NAMES = registry.names()


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_round_trip(name: str) -> None:
    """With and without the coder's tables; name, size and stream stay the same."""
    x = photograph("coffee", 64, 64)
    codec = lively(name)
    assert isinstance(codec, CompressionModel)
    other = registry.entry(name).load().from_state_dict(codec.state_dict()).eval()
    assert (other.name, type(other), other.size) == (codec.name, type(codec), "small")
    assert other.compress(x) == codec.compress(x)  # the tables came along
    bare = {k: v for k, v in codec.state_dict().items() if not re.search(r"\._(offset|quantized_cdf|cdf_length)$", k)}
    empty = {k: v.new_empty(0) for k, v in codec.state_dict().items() if k not in bare}
    other = registry.entry(name).load().from_state_dict({**bare, **empty}).eval()
    other.update()
    assert other.compress(x) == codec.compress(x)


@pytest.mark.parametrize(
    ("make", "N", "M"),
    [
        (Factorized, 8, 12),
        (OurScaleHyperprior, 8, 12),
        (MeanScale, 8, 12),
        (JointAutoregressive, 8, 12),
        (Charm, 8, 64),
        (MLIC, 16, 64),
        (MLICPlus, 16, 64),
    ],
)
def test_sizes_of_ones_own(make: type[Codec], N: int, M: int) -> None:
    codec = make(N, M)
    again = make.from_state_dict(codec.state_dict())
    assert again.size == "custom"
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        assert torch.equal(codec.eval()(x)["x_hat"], again.eval()(x)["x_hat"])


@pytest.mark.parametrize("name", NAMES)
def test_update_and_aux_loss(name: str) -> None:
    codec = registry.create(name, "small")
    assert codec.update()
    assert not codec.update()
    assert codec.update(force=True)
    loss = codec.aux_loss()
    assert loss.shape == ()
    loss.backward()
    with_gradient = {n.split(".")[-1] for n, p in codec.named_parameters() if p.grad is not None}
    assert with_gradient == {"quantiles"}


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_reaches_every_parameter_in_use(name: str) -> None:
    torch.manual_seed(0)
    codec = registry.create(name, "small").train()
    if name == "aict":
        codec = codec.resized(0.75)
    x = torch.rand(2, 3, 64, 64)
    out = codec(x)
    assert out["x_hat"].shape == x.shape
    assert set(out["likelihoods"]) == ({"y"} if name == "factorized" else {"y", "z"})
    bpp = sum(-p.log2().sum() for p in out["likelihoods"].values()) / (2 * 64 * 64)
    (bpp + 100 * (x - out["x_hat"]).square().mean()).backward()
    grads = {n: p.grad for n, p in codec.named_parameters()}
    assert all(g.isfinite().all() for g in grads.values() if g is not None)
    without = {n for n, g in grads.items() if g is None and not n.endswith("quantiles")}
    if name.startswith("mlic"):  # the shared latent keeps the alternatives that are switched off
        off = ("entropy.contexts.", "entropy.g_ep.absent.", "entropy.g_ep.nets.raster.")
        without = {n for n in without if not n.startswith(off)}
    if name == "aict":  # its factor is no part of the graph
        without = {n for n in without if not n.startswith("resizing.network.")}
    assert not without


@pytest.mark.parametrize("name", NAMES)
def test_eval_model_runs_our_codecs(name: str) -> None:
    from compressai.utils.eval_model.__main__ import inference, inference_entropy_estimation

    codec = lively(name)
    x = photograph("astronaut", 192, 256)[0]
    coded = inference(codec, x[:, :170, :201].contiguous())
    assert set(coded) == {"psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"}
    whole, estimated = inference(codec, x), inference_entropy_estimation(codec, x)
    assert whole["bpp"] == pytest.approx(estimated["bpp"], rel=0.005, abs=64 * 8 / (192 * 256))
    assert whole["psnr-rgb"] == pytest.approx(estimated["psnr-rgb"], abs=1e-3)


# ------------------------------------------------------------------ CompressAI's weights in our codecs


def ours(theirs: CompressionModel, make: type[Codec]) -> Codec:
    """The codec with the weights of CompressAI's model of the same name."""
    state: dict[str, Tensor] = {}
    for key, value in theirs.state_dict().items():
        if key.startswith("gaussian_conditional."):
            continue
        if key.startswith("entropy_bottleneck."):
            place = "entropy.bottleneck." if make is Factorized else "hyperprior.bottleneck."
            key = place + key.removeprefix("entropy_bottleneck.")
        elif key.startswith(("h_a.", "h_s.")):
            key = f"hyperprior.{key}"
        elif key == "context_prediction.weight":  # the masked cells are not stored
            key, value = "entropy.contexts.local.raster.linear.weight", value.flatten(2)[:, :, :12].flatten(1)
        elif key == "context_prediction.mask":
            continue
        elif key == "context_prediction.bias":
            key = "entropy.contexts.local.raster.linear.bias"
        elif key.startswith("entropy_parameters."):
            if key.startswith("entropy_parameters.4."):  # theirs gives scales, then means
                value = torch.cat(value.chunk(2)[::-1])
            key = key.replace("entropy_parameters.", "entropy.g_ep.nets.raster.0.")
        state[key] = value
    return make.from_state_dict(state).eval()


@pytest.mark.parametrize(
    ("theirs", "make"),
    [
        (FactorizedPrior, Factorized),
        (ScaleHyperprior, OurScaleHyperprior),
        (MeanScaleHyperprior, MeanScale),
        (JointAutoregressiveHierarchicalPriors, JointAutoregressive),
    ],
)
def test_weights_of_compressai_give_its_pictures_and_means(theirs: type[CompressionModel], make: type[Codec]) -> None:
    """x_hat, z's likelihoods and mu are CompressAI's. Its sigma is the network's output, ours the exponential of it."""
    torch.manual_seed(0)
    model = theirs(16, 24).eval()
    with torch.no_grad():
        model.g_a[-1].weight *= 30  # symbols other than zero
    codec = ours(model, make)
    x = photograph("chelsea", 128, 192)
    caught: dict[str, Tensor] = {}
    if hasattr(model, "gaussian_conditional"):
        model.gaussian_conditional.register_forward_hook(
            lambda module, args, kwargs, out: caught.update(sigma=args[1], mu=kwargs.get("means")), with_kwargs=True
        )
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), record(lambda name, value, where: seen.update({name: value})):
        expected, found = model(x), codec(x)
    assert float(seen["symbols"].std()) > 0.5
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], atol=1e-4, rtol=1e-4)
    if make is Factorized:
        torch.testing.assert_close(found["likelihoods"], expected["likelihoods"])
        return
    torch.testing.assert_close(found["likelihoods"]["z"], expected["likelihoods"]["z"])
    if caught["mu"] is None:
        assert (seen["mu"] == 0).all()
    else:
        torch.testing.assert_close(seen["mu"], caught["mu"], atol=1e-5, rtol=1e-4)
    log_sigma = caught["sigma"] if make is not OurScaleHyperprior else caught["sigma"].clamp(min=0)
    ours_sigma = seen["sigma"] if make is not OurScaleHyperprior else seen["sigma"].clamp(min=1)
    torch.testing.assert_close(ours_sigma.log(), log_sigma.clamp(min=-2.2072749), atol=1e-4, rtol=1e-4)


def test_likelihood_is_that_of_compressai() -> None:
    torch.manual_seed(0)
    y, mu, sigma = 5 * torch.randn(1, 8, 9, 9), torch.randn(1, 8, 9, 9), 0.11 + torch.rand(1, 8, 9, 9) * 4
    expected = GaussianConditional(None)._likelihood(y, sigma, mu)
    torch.testing.assert_close(likelihood(y - mu, sigma), expected, atol=1e-7, rtol=1e-4)


# ------------------------------------------------------------------ registry


def test_parameters_are_those_of_compressai_and_of_the_built_codec() -> None:
    for name, theirs in (
        ("factorized", FactorizedPrior(128, 192)),
        ("hyperprior", ScaleHyperprior(128, 192)),
        ("mean-scale", MeanScaleHyperprior(128, 192)),
    ):
        assert registry.parameters(name) == sum(p.numel() for p in theirs.parameters())
    theirs = JointAutoregressiveHierarchicalPriors(192, 192)
    masked = int((theirs.context_prediction.mask == 0).sum())
    assert registry.parameters("joint-autoregressive") == sum(p.numel() for p in theirs.parameters()) - masked


def test_unknown_names_and_sizes_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="factorized, hyperprior"):
        registry.create("jpeg")
    with pytest.raises(ValueError, match="paper, small"):
        registry.create("mlic", "huge")


def test_unknown_components_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="nothing"):
        lively("factorized").swap(local="stacked")
    with pytest.raises(ValueError, match="no component is called 'local'"):
        lively("charm").swap(local="stacked")
    with pytest.raises(ValueError, match="has weights for transforms"):
        lively("charm").swap(channel="none")
    assert lively("charm").swap(refinement="none").entropy.selection["refinement"] == "none"


def test_listing() -> None:
    rows = registry.listing()
    assert [(row["name"], row["size"]) for row in rows] == [(n, s) for n in NAMES for s in registry.entry(n).sizes]
    for row in rows:
        assert set(row) == {"name", "title", "size", "parameters", "paper", "weights"}
        assert row["parameters"] > 1e5


def test_small_mlic_is_the_shared_latent_with_the_components_of_its_weights() -> None:
    for name in ("mlic", "mlic+"):
        assert registry.create(name, "small").combination == weights.SERVES[name]


def test_names_do_not_import_compressai() -> None:
    code = "import sys; from lic_lab.codecs import registry; registry.names(); assert 'compressai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The global reference against loops written from Qian et al. 2021, its training, and the probabilities it reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import hyper_like, latent_like, lively, photograph
from PIL import Image
from skimage import data

import lic_lab as lab
from lic_lab.codecs.shared import SharedLatent
from lic_lab.entropy.contexts.base import Prior
from lic_lab.entropy.contexts.reference import CheckerboardReference, RasterReference
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.seen import Seen
from lic_lab.layers.tap import record
from lic_lab.training import global_reference as recipe
from lic_lab.training.recipes import Run, Settings, work
from lic_lab.training.starts import fitted, weights

M, H, W = 6, 7, 9
PAST = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]  # the masked 3 x 3 patch: "left and top"


def cells(y: np.ndarray, i: int, j: int, offsets: list[tuple[int, int]]) -> np.ndarray:
    """Values (M, len(offsets)) around (i, j), zero outside the latent."""
    padded = np.pad(y, ((0, 0), (1, 1), (1, 1)))
    return np.stack([padded[:, i + 1 + di, j + 1 + dj] for di, dj in offsets], 1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / length) if length else 0.0


def raster_inputs(seed: int) -> tuple[RasterReference, Seen, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    order = CodingOrder((M,), pattern="wavefront")
    y = torch.randint(-3, 4, (1, M, H, W)).float()
    prior = torch.randn(1, M, H * W), torch.randn(1, M, H * W)
    return RasterReference(order, 5), Seen(order, y, torch.zeros(1, 0, H, W)), prior


@pytest.mark.parametrize("seed", range(3))
def test_the_raster_reference_is_equation_4_by_loops(seed):
    context, seen, (mu, log_sigma) = raster_inputs(seed)
    gaussian = Gaussian("plain").eval()
    y = seen.y_hat[0].numpy().astype(np.float64)
    with torch.no_grad():
        informed, trust = context.inform(seen, 0, seen.order.at_once(), lambda: Prior(mu, log_sigma), gaussian)
        found, trust = (t[0].reshape(-1, H, W).numpy() for t in (informed, trust))
        p = gaussian.probability(seen.y_hat.flatten(2), mu, log_sigma)[0].reshape(M, H, W).numpy()
        weight, bias = context.linear.weight.numpy(), context.linear.bias.numpy()
    positions = sorted(((i, j) for i in range(H) for j in range(W)), key=lambda at: (at[1] + 3 * at[0], at))
    for i, j in positions:
        best, at = -np.inf, None
        for k, m in positions:  # those of earlier wavefronts, in the order they are decoded
            if m + 3 * k < j + 3 * i:
                r = cosine(cells(y, i, j, PAST), cells(y, k, m, PAST))
                if r > best + 1e-6:
                    best, at = r, (k, m)
        expected, sure = np.zeros(5), 0.0
        if at is not None and best > 0:
            relevant = cells(y, *at, [*PAST, (0, 0)])
            sure = best * p[:, at[0], at[1]].mean()
            expected = (weight @ relevant.flatten() + bias) * sure
        np.testing.assert_allclose(found[:, i, j], expected, atol=1e-4, err_msg=f"{i}, {j}")
        assert trust[0, i, j] == pytest.approx(sure, abs=1e-5)


@pytest.mark.parametrize("at_once", [True, False])
def test_the_checkerboard_reference_is_its_definition_by_loops(at_once):
    torch.manual_seed(4)
    order = CodingOrder((2, 4), in_turn=not at_once, pattern="checkerboard")
    y = torch.randint(-3, 4, (1, M, H, W)).float()
    context, gaussian = CheckerboardReference(order), Gaussian("plain").eval()
    seen = Seen(order, y, torch.zeros(1, 0, H, W))
    steps = order.steps(H, W)
    priors = {i: (torch.randn(1, S, H * W), torch.randn(1, S, H * W)) for i, S in enumerate(order.slices)}
    found = {}
    with torch.no_grad():
        for step in steps:
            for i in step.slices:
                n = len(step.positions)
                prior = Prior(*(t[:, :, :n] for t in priors[i]))
                out = context.inform(seen, i, step, lambda prior=prior: prior, gaussian)
                if step.kind == "second":
                    found[i] = out[0][0].numpy()
                else:
                    assert out is None
    window = [(di, dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
    anchors = [(i, j) for i in range(H) for j in range(W) if (i + j) % 2 == 1]
    others = [(i, j) for i in range(H) for j in range(W) if (i + j) % 2 == 0]
    values = y[0].numpy().astype(np.float64)
    for s, S in enumerate(order.slices):
        of = order.channels(s)
        first, last = (0, M) if at_once else (of.start, of.stop)
        filled = values[:last].copy()
        for i, j in others:
            near = [(i + a, j + b) for a, b in ((-1, 0), (1, 0), (0, -1), (0, 1)) if 0 <= i + a < H and 0 <= j + b < W]
            filled[first:, i, j] = np.mean([values[first:last, a, b] for a, b in near], 0)
        mu, log_sigma = (t[:, :, : len(anchors)] for t in priors[s])
        symbols = torch.tensor(np.stack([values[of, i, j] for i, j in anchors], 1))[None].float()
        p = gaussian.probability(symbols, mu, log_sigma)[0].mean(0).numpy()
        weight, bias = (t.detach().numpy() for t in context.linears[s].parameters())
        for n, (i, j) in enumerate(others):
            r = [cosine(cells(filled, i, j, window), cells(filled, *at, window)) for at in anchors]
            best = int(np.argmax(np.array(r) > max(r) - 1e-6))
            expected = np.zeros(2 * S)
            if r[best] > 0:
                relevant = cells(filled[of], *anchors[best], window).flatten()
                expected = (weight @ relevant + bias) * r[best] * p[best]
            np.testing.assert_allclose(found[s][:, n], expected, atol=1e-4, err_msg=f"slice {s}, {i}, {j}")


def test_estimate_and_coding_find_the_same_references():
    codec = lively("global-reference")
    y = latent_like(codec.entropy, 8, 8).round()
    hyper = hyper_like(codec, 8, 8)

    def run(step_by_step):
        seen = {}

        def recorder(name, value, where):
            if name == "reference.found":
                seen.update(zip(where["positions"].tolist(), value[0].permute(1, 0).tolist(), strict=True))

        with torch.no_grad(), record(recorder):
            if step_by_step:
                codec.entropy.compress(y, hyper)
            else:
                codec.entropy(y, hyper)
        return seen

    found = run(True), run(False)
    assert len(found[0]) == 8 * 8 - 1  # the first position has no past
    for position, values in found[0].items():
        if found[1][position][1] > 0:
            assert values == pytest.approx(found[1][position], abs=2e-3), position


@pytest.mark.parametrize("rounding", ["plain", "centred"])
def test_the_probability_is_the_coders(rounding):
    torch.manual_seed(0)
    gaussian = Gaussian(rounding).eval()
    mu, log_sigma = 4 * torch.randn(2, 3, 400), 1.5 * torch.randn(2, 3, 400)
    y_hat = gaussian.quantise(mu + 2 * torch.randn_like(mu) * log_sigma.exp(), mu)
    found = gaussian.probability(y_hat, mu, log_sigma)
    expected = gaussian.bits_likelihood(y_hat, y_hat, mu, log_sigma)
    inside = expected >= 2.0**-16
    torch.testing.assert_close(found[inside], expected[inside], atol=3e-5, rtol=2e-3)
    assert float(found.min()) == 2.0**-16


def test_a_trace_has_the_stages_and_the_references():
    codec = lively("global-reference")
    trace = lab.trace(codec, photograph("chelsea", 128, 192))
    assert [stage.name for stage in trace.stages] == ["local", "+ reference", "+ hyperprior"]
    np.testing.assert_array_equal(trace.stages[-1].bits, trace.bits)
    found = trace.references()
    rows, columns = np.indices(found.similarity.shape)
    has = found.source[..., 0] >= 0
    assert has.sum() > has.size / 2
    front = found.source[..., 1] + 3 * found.source[..., 0]
    assert (front < columns + 3 * rows)[has].all()
    assert ((found.similarity[has] > 0) & (found.similarity[has] <= 1.0001)).all()
    assert ((found.confidence[has] > 0) & (found.confidence[has] <= 1)).all()
    other = lab.trace(lively("shared"), photograph("chelsea", 64, 64))
    assert not other.stages
    with pytest.raises(ValueError, match="global_='reference'"):
        other.references()
    with_reference = lab.trace(lively("shared").swap(global_="reference"), photograph("chelsea", 64, 128))
    anchors = with_reference.parts["anchor"]
    source = with_reference.references(slice=2).source
    asked = source[..., 0] >= 0
    assert not asked[anchors].any()
    assert anchors[source[asked][:, 0], source[asked][:, 1]].all()
    look = with_reference.attention("reference", 2, (1, 1))
    np.testing.assert_array_equal(look.visible, anchors)
    found = with_reference.references(slice=2)
    weight = min(found.similarity[look.position], 1) * found.confidence[look.position]
    assert look.weights[0][tuple(found.source[look.position])] == np.nansum(look.weights) == pytest.approx(weight)


def test_the_two_phases_train_what_they_say(tmp_path, untrained_weights):
    Image.fromarray(data.chelsea()).save(tmp_path / "chelsea.png")
    settings = Settings(2, lr=1e-3, warmup=0, batch=1, crop=64)

    def train(stage, start, name):
        path = tmp_path / f"{name}.pt"
        work(Run("global-reference", stage, 0.0067, str(tmp_path), str(path), settings, start), 0, 1)
        return path, torch.load(path, weights_only=True)["modules"]

    first, after = train("reference", str(untrained_weights / "untrained.safetensors"), "reference")
    for key, value in weights(untrained_weights / "untrained.safetensors").items():
        if key.startswith(("g_a", "g_s")):
            assert torch.equal(after[key], value), key  # the transform stays
    assert not after["g_a.network.0.gdn.tau"].any()
    _, both = train("gsdn", str(first), "gsdn")
    for key in (
        "g_a.network.0.gdn.tau",
        "g_a.network.0.gdn.nu",
        "g_s.network.1.igdn.tau",
        "g_s.network.0.conv1.weight",
    ):
        assert not torch.equal(both[key], after[key]), key


def test_the_loss_weighs_three_rates():
    codec = lively("global-reference").train()
    try:
        x = photograph("chelsea", 64, 64)
        rates = recipe.rates(codec, codec.g_a(x), x)
    finally:
        codec.eval()
    for phase, (a, b, c) in recipe.PHASES.items():
        assert a + b + c == pytest.approx(1)
        expected = a * rates["bpp_1"] + b * rates["bpp_2"] + c * (rates["bpp_3"] + rates["bpp_z"])
        assert recipe.weighted(rates, phase).item() == pytest.approx(expected.item())
    for k in (1, 2, 3):
        (gradient,) = torch.autograd.grad(rates[f"bpp_{k}"], codec.entropy.g_ep.nets[k - 1][-1].bias, retain_graph=True)
        assert gradient.any()


def test_old_weights_fit_the_wider_model(untrained_weights):
    """Weights from before raster and reference: nothing they had changes, and new inputs weigh nothing at first."""
    torch.manual_seed(3)
    new, state = SharedLatent(), weights(untrained_weights / "untrained.safetensors")
    old = {k: v for k, v in state.items() if "raster" not in k and "reference" not in k}
    for i in range(4):
        key = f"entropy.g_ep.nets.second.{i}.0.weight"
        old[key] = old[key][:, : -new.entropy.contexts["reference"]["checkerboard"].width(i)]
    new.load_state_dict(fitted(new, old))
    same = SharedLatent()
    same.load_state_dict(state)
    y, hyper = latent_like(new.entropy, 4, 6), torch.randn(1, 256, 4, 6)
    for i in range(4):
        with torch.no_grad():
            same.entropy.g_ep.nets["second"][i][0].weight[
                :, old[f"entropy.g_ep.nets.second.{i}.0.weight"].shape[1] :
            ] = 0
    with torch.no_grad():
        a, b = (c.eval().swap(local="attention", global_="intra+inter").entropy(y, hyper) for c in (new, same))
    torch.testing.assert_close(a.likelihoods, b.likelihoods)
    with pytest.raises(ValueError, match="of another kind of codec"):
        fitted(new, {"g_a.other": torch.zeros(1)})

"""Training: a resumed run is the uninterrupted one, a run that goes wrong goes back, stages train what they say."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from laws import hyper_like, latent_like
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data
from torch import nn
from toy import Killed, Toy, refuses

from lic_lab.codecs.global_reference import GlobalReference
from lic_lab.codecs.registry import create
from lic_lab.codecs.shared import SharedLatent, meaningful
from lic_lab.entropy.contexts import reference
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.refinement import LatentResidualPrediction
from lic_lab.entropy.seen import Seen
from lic_lab.image import ImageError, read, to_uint8
from lic_lab.layers.tap import record
from lic_lab.shipped import PACKAGE
from lic_lab.training import RECIPES, loop, recipes
from lic_lab.training import data as training_data
from lic_lab.training.data import Photographs
from lic_lab.training.folders import cache
from lic_lab.training.loop import PATIENCE, Diverged, Turn
from lic_lab.training.loss import rate_distortion
from lic_lab.training.recipes import EVERYTHING, Recipe, Run, Settings, Stage, recipe_of
from lic_lab.training.starts import fitted
from lic_lab.transforms.residual import Analysis, KarhunenLoeve


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The cache is a folder of the test's own."""
    monkeypatch.setenv("LIC_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("train")
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()).save(to / f"{name}.png")
    Image.fromarray(data.astronaut()[:100]).save(to / "too_small.png")
    return to


# The loop, on a model of a few weights


def saved(path):
    return torch.load(path, weights_only=True)


def assert_same(one, other):
    """Two checkpoints agree in everything but the seconds."""
    assert one.keys() == other.keys()
    flat = [dict(_leaves({k: v for k, v in of.items() if k != "seconds"})) for of in (one, other)]
    assert flat[0].keys() == flat[1].keys()
    for key, value in flat[0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(flat[1][key])), key


def _leaves(value, name=""):
    if isinstance(value, dict | list):
        for key, of in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(of, f"{name}.{key}")
    elif value is not None:
        yield name, value


NAN = (Turn(130),)


@pytest.mark.parametrize(
    ("mishap", "kill"),
    [
        ({}, 50),
        ({}, 240),
        ({"nan": NAN}, 125),
        ({"nan": NAN}, 145),
        ({"nan": NAN}, 240),
        ({"nan": (*NAN, Turn(140, 0, 1))}, 180),
        ({"loud": Turn(100)}, 150),
    ],
)
def test_a_run_killed_and_resumed_is_the_uninterrupted_one_to_the_last_bit(tmp_path, mishap, kill):
    straight, resumed = (str(tmp_path / f"{name}.pt") for name in ("straight", "resumed"))
    Toy(straight, **mishap)()
    with pytest.raises(Killed):
        Toy(resumed, **mishap, kill=kill)()
    Toy(resumed, **mishap)()
    assert_same(saved(straight), saved(resumed))


@pytest.mark.parametrize(
    ("mishap", "expected"),
    [
        ({"nan": NAN}, {130: "loss nan"}),
        ({"loud": Turn(100)}, {200: "exploded"}),
        ({"broken": 150}, {200: "weights are not finite"}),
        ({"nan": NAN, "loud": Turn(100, 0, 1)}, {130: "loss nan", 200: "exploded"}),
    ],
)
def test_a_run_that_goes_wrong_goes_back_and_on_otherwise(tmp_path, mishap, expected, monkeypatch):
    path, clean = tmp_path / "wrong.pt", tmp_path / "clean.pt"
    save = loop.Good.save

    def checked(good, checkpoint, **more):
        save(good, checkpoint, **more)
        assert all(v.isfinite().all() for v in saved(checkpoint)["modules"].values())

    monkeypatch.setattr(loop.Good, "save", checked)
    Toy(str(path), **mishap)()
    Toy(str(clean))()
    lines = [line for line in map(json.loads, path.with_suffix(".jsonl").open()) if "back_to" in line]
    for line, (step, because) in zip(lines, expected.items(), strict=True):
        assert (line["step"], line["back_to"]) == (step, 100)
        assert because in line["because"]
    end, other = saved(path), saved(clean)
    assert (end["step"], end["detours"]) == (250, len(expected))
    assert not torch.equal(end["modules"]["net.weight"], other["modules"]["net.weight"])  # other data, other noise
    torch.testing.assert_close(end["modules"]["net.weight"], torch.ones(1, 4), atol=0.1, rtol=0)


def test_a_run_that_goes_wrong_again_and_again_says_so_and_leaves_the_last_good_state(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(Diverged, match=r"^step 130: loss nan.*back to step 100 3 times.*--lr"):
        loop.launch(Toy(str(path), always=130), 1)
    lines = [line for line in map(json.loads, path.with_suffix(".jsonl").open()) if "back_to" in line]
    assert [line["back_to"] for line in lines] == [100] * (PATIENCE + 1)
    assert saved(path)["step"] == 100
    Toy(str(path), steps=120)()
    assert saved(path)["step"] == 120


def test_weights_that_are_not_finite_start_nothing(tmp_path):
    with pytest.raises(Diverged, match="to start from are not finite"):
        loop.Good(nn.Linear(1, 1).requires_grad_(False).apply(lambda net: net.weight.fill_(torch.nan)), {})


def test_two_workers_go_back_alike_and_resume_alike(tmp_path):
    """One worker's loss is not a number: both go back and end at the same weights, and so when killed on the way."""
    straight, resumed = (str(tmp_path / f"{name}.pt") for name in ("straight", "resumed"))
    nan = (Turn(130, 1),)
    loop.launch(Toy(straight, nan=nan), 2)
    with pytest.raises(Exception, match="Killed"):
        loop.launch(Toy(resumed, nan=nan, kill=260), 2)
    assert saved(resumed)["step"] == 200
    loop.launch(Toy(resumed, nan=nan), 2)
    assert_same(saved(straight), saved(resumed))
    one, other = (torch.load(tmp_path / f"straight.{worker}", weights_only=True) for worker in range(2))
    assert_same(one, other)
    (line,) = [line for line in map(json.loads, (tmp_path / "straight.jsonl").open()) if "back_to" in line]
    assert (line["step"], line["back_to"]) == (130, 100)


def test_a_run_killed_while_it_saves_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    straight, path = tmp_path / "straight.pt", tmp_path / "a.pt"
    Toy(str(straight))()
    save = torch.save

    def half(state, file):
        save(state, file)
        if state["step"] == 200:
            file.truncate(file.tell() // 2)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(Killed):
            Toy(str(path))()
    assert saved(path)["step"] == 100
    Toy(str(path))()
    assert_same(saved(straight), saved(path))


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    """Else they would go on beside the run that takes its place, and both write one checkpoint.

    torch sends them SIGINT, which a shell's background jobs ignore.
    """
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from functools import partial
sys.path.insert(0, {str(Path(__file__).parent)!r})
from toy import without_end
from lic_lab.training.loop import launch
if __name__ == "__main__":
    launch(partial(without_end, {str(tmp_path)!r}), 1)
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen([sys.executable, "-W", "ignore", str(script)])
    try:
        while not (tmp_path / "alive").exists():
            assert run.poll() is None
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    for _ in range(100):  # it ends at once, but its machine may be busy
        (tmp_path / "alive").unlink(missing_ok=True)
        time.sleep(0.3)
        if not (tmp_path / "alive").exists():
            return
    pytest.fail("the worker goes on after its run was killed")


def test_a_checkpoint_from_before_there_were_good_states_is_resumed(tmp_path):
    path = tmp_path / "a.pt"
    Toy(str(path), steps=123)()
    old = {k: v for k, v in saved(path).items() if k in ("modules", "main", "aux", "step", "seconds", "schedule")}
    torch.save(old, path)
    Toy(str(path), nan=(Turn(150),))()
    assert (saved(path)["step"], saved(path)["detours"]) == (250, 1)


def test_workers_meet_without_a_port_and_their_mistakes_are_told_as_such(tmp_path):
    with socket.socket() as taken:  # nothing listens to what torch's variables say
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MASTER_ADDR", "127.0.0.1")
            patch.setenv("MASTER_PORT", port)
            with pytest.raises(ValueError, match=r"^2 workers$"):
                loop.launch(refuses, 2)


CHECKPOINTS = {
    "another lambda": ({"recipe": {"lambda": ("2", "2")}}, "lambda 1, now 2"),
    "another stage": ({"recipe": {"stage": ("finish", "finish")}}, "stage joint, now finish"),
    "other images": ({"recipe": {"images": ("e", "/b")}}, "images /a, now /b"),
    "other images there": ({"recipe": {"images": ("e", "/a")}}, "images /a, now /a with other contents"),
    "another rate": ({"lr": 0.1}, "lr 0.02, now 0.1"),
    "another bound": ({"clip": 2.0}, "clip 1, now 2"),
    "another decay": ({"decay": 200}, "decay 100, now 200"),
    "fewer steps": ({"steps": 170}, "has made 180 steps, and 170 are asked for"),
    "more steps, once the rate falls": ({"steps": 500}, "steps 250, now 500"),
}


@pytest.mark.parametrize(("change", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_is_gone_on_with_only_under_its_recipe(change, message, tmp_path):
    schedule = loop.Schedule(250, lr=0.02, decay=100)
    recipe = {"lambda": ("1", "1"), "stage": ("joint", "joint"), "images": ("d", "/a")}
    state = {"step": 180, "schedule": asdict(schedule), "recipe": recipe}
    loop.check_recipe(tmp_path, state, replace(schedule, checkpoint_seconds=1.0), recipe)
    loop.check_recipe(tmp_path, {"step": 180, "schedule": {"steps": 250}}, schedule, recipe)  # an older one
    change = dict(change)
    recipe = recipe | change.pop("recipe", {})
    with pytest.raises(ValueError, match=rf"{message}.*another --checkpoint"):
        loop.check_recipe(tmp_path, state, replace(schedule, **change), recipe)


def test_steps_may_change_as_long_as_those_made_are_the_same(tmp_path):
    """Before the rate falls a longer run is the same so far, and so it ends at the same weights."""
    schedule = loop.Schedule(250, lr=0.02, decay=100)
    for steps, decay in ((500, 100), (160, 10), (250, 30)):
        loop.check_recipe(
            tmp_path, {"step": 150, "schedule": asdict(schedule)}, replace(schedule, steps=steps, decay=decay), {}
        )


def test_a_finished_run_stays_as_it_is(tmp_path):
    path = tmp_path / "run.v2"
    Toy(str(path), steps=120)()
    before = path.read_bytes()
    Toy(str(path), steps=120)()
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="has made 120 steps, and 50 are asked for"):
        Toy(str(path), steps=50)()
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"run.v2", "run.v2.jsonl", "run.0"}  # the last one is Toy's


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "damaged or cut off"),
        (lambda data: b"", "damaged or cut off"),
        (lambda data: data[:400] + bytes([data[400] ^ 255]) + data[401:], "damaged or cut off"),
        (lambda data: b"<html>", "damaged or cut off"),
    ],
)
def test_a_checkpoint_that_is_none_is_told_in_one_line_and_stays(damage, message, tmp_path):
    path = tmp_path / "a.pt"
    Toy(str(path), steps=1)()
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as told:
        Toy(str(path), steps=2)()
    assert "\n" not in str(told.value) and "--checkpoint" in str(told.value)
    assert path.read_bytes() == before


def test_a_checkpoint_of_others_is_told(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"epoch": 1, "state_dict": {"g_a.weight": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match="is no checkpoint of lic-lab train.*--start"):
        Toy(str(path))()
    torch.save({"step": 1, "schedule": {"steps": 2}, "modules": {"g_a": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match="of another codec or stage"):
        Toy(str(path))()
    with pytest.raises(IsADirectoryError, match="give a file's name"):
        Toy(str(tmp_path))()


def test_a_full_disk_ends_a_run_in_words_and_keeps_the_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    Toy(str(path), steps=100)()
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=str(path)):
            Toy(str(path), steps=200)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


# Stages


@pytest.fixture
def train(folder, untrained_weights, tmp_path):
    """Run a stage of the shared latent in this process; returns its checkpoint."""

    def run(name, steps, stage="joint", start=str(untrained_weights / "untrained.safetensors"), **more):
        path = tmp_path / f"{name}.pt"
        settings = Settings(steps, lr=1e-3, warmup=2, batch=1, crop=64, **more)
        recipes.work(Run("shared", stage, 0.0067, str(folder), str(path), settings, start), 0, 1)
        return torch.load(path, weights_only=True)

    return run


def test_a_resumed_stage_is_the_uninterrupted_one(train):
    straight = train("straight", 4)
    train("resumed", 2)
    resumed = train("resumed", 4)
    assert straight["step"] == resumed["step"] == 4
    for key, value in straight["modules"].items():
        assert torch.equal(value, resumed["modules"][key]), key


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("joint", ("g_a.", "g_s.", "hyperprior.h_a", "entropy.g_ep", "hyperprior.bottleneck.quantiles")),
        ("finish", ("hyperprior.h_a", "entropy.g_ep")),
        ("refine", ("entropy.refinements",)),
        ("contexts", ("entropy.g_ep",)),
        ("raster", ("entropy.g_ep.nets.raster", "entropy.contexts.local.raster")),
    ],
)
def test_a_stage_trains_what_it_says_and_nothing_else(train, stage, trained):
    before, after = train("zero", 0, stage)["modules"], train("some", 2, stage)["modules"]
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    for part in trained:
        assert any(key.startswith(part) for key in changed), part
    frozen = {
        "finish": ("g_a", "g_s", "entropy.refinements", "hyperprior.bottleneck.quantiles"),
        "contexts": ("g_a", "g_s", "hyperprior", "entropy.refinements"),
    }
    allowed = {"refine": ("entropy.refinements",), "raster": recipe_of("shared").stage("raster").learns}
    assert not [key for key in changed if key.startswith(frozen.get(stage, "-"))]
    assert stage not in allowed or all(key.startswith(allowed[stage]) for key in changed)


def test_bfloat16_changes_the_steps_a_little_and_no_dtype(train):
    full, half = train("full", 2), train("half", 2, bf16=True)
    assert {v.dtype for v in half["modules"].values()} == {v.dtype for v in full["modules"].values()}
    key = "g_s.network.0.conv1.weight"
    assert not torch.equal(full["modules"][key], half["modules"][key])
    torch.testing.assert_close(full["modules"][key], half["modules"][key], atol=5e-3, rtol=0)


def test_the_log_is_json_lines_of_the_loss(train, tmp_path):
    train("a", 50, "contexts")
    (line,) = [json.loads(text) for text in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert line["step"] == 50
    assert line["loss"] == pytest.approx(line["bpp"])


def test_every_combination_that_is_drawn_has_a_meaning_and_all_are_drawn():
    stages = {stage.name: stage for stage in recipe_of("shared").stages}
    for name, stage in stages.items():
        drawn = [stage.draw(np.random.default_rng(seed)) for seed in range(300)]
        assert all(meaningful(c["channel"], c["local"], c["global"], c["refinement"]) for c in drawn), name
        assert ({c["local"] for c in drawn} == {"raster"}) == (name == "raster")
        assert {c["refinement"] for c in drawn} == {"joint": {"none", "lrp"}, "refine": {"lrp"}}.get(name, {"none"})
    everything = [stages["joint"].draw(np.random.default_rng(seed)) for seed in range(300)]
    assert {c["local"] for c in everything} == {"none", "checkerboard", "stacked", "attention", "raster"}
    assert len({c["global"] for c in everything}) == 5


def test_a_stage_starts_from_the_one_before_or_says_what_it_needs(folder, tmp_path):
    options = {"lmbda": 0.01, "data": str(folder), "settings": Settings(2, crop=64)}
    with pytest.raises(
        ValueError, match=r"no joint\.pt beside .*train shared joint --lambda 0.01` first, or give --start"
    ):
        Run("shared", "finish", checkpoint=str(tmp_path / "finish.pt"), **options)
    assert recipes.start_of("shared", "finish", tmp_path) is recipes.start_of("shared", "joint", tmp_path) is None
    torch.save({"step": 1, "schedule": {"steps": 2}}, tmp_path / "joint.pt")
    with pytest.raises(ValueError, match="has made 1 of its 2 steps: finish it first"):
        recipes.start_of("shared", "finish", tmp_path)
    torch.save({"step": 2, "schedule": {"steps": 2}}, tmp_path / "joint.pt")
    start = recipes.start_of("shared", "finish", tmp_path)
    assert start == str(tmp_path / "joint.pt")
    it = Run("shared", "finish", checkpoint=str(tmp_path / "finish.pt"), start=start, **options)
    before = it.recipe(it.images())
    torch.save({"step": 3, "schedule": {"steps": 3}}, tmp_path / "joint.pt")
    assert {name for name, of in it.recipe(it.images()).items() if of != before[name]} == {"start"}
    with pytest.raises(ValueError, match="is what it starts from"):
        Run("shared", "finish", checkpoint=start, start=start, **options)


def test_one_run_writes_to_a_checkpoint_at_a_time(folder, tmp_path, monkeypatch):
    it = Run("shared", "joint", 0.01, str(folder), str(tmp_path / "a.pt"), Settings(2, crop=64))
    ran = []

    def launch(work, workers):
        ran.append(workers)
        with pytest.raises(ValueError, match="another run is writing to"):
            recipes.run(it)

    monkeypatch.setattr(recipes, "launch", launch)
    recipes.run(it)
    recipes.run(it)
    assert ran == [2, 2]


def test_weights_of_another_kind_of_codec_start_nothing():
    codec = create("mean-scale", "small")
    with pytest.raises(ValueError, match="have no g_a, g_s, hyperprior: they"):
        fitted(codec, {"entropy_bottleneck.quantiles": torch.zeros(1)})
    state = dict(codec.state_dict()) | {"entropy_bottleneck.quantiles": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"have entropy_bottleneck\.quantiles"):
        fitted(codec, state)


# Where it starts


def test_from_nothing_the_codec_starts_at_the_karhunen_loeve_transform(train, tmp_path):
    """y has the spread that sigma starts at, the picture is close, and the bits are far below a random network's."""
    state = train("nothing", 0, start=None)["modules"]
    codec = SharedLatent()
    codec.load_state_dict(state)
    codec.eval()
    x = torch.from_numpy(data.coffee()[:256, :256].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        out = rate_distortion(codec(x), x, 0.0067)
        assert out["mse"] < 0.002
        assert out["bpp"] < 2
        y = codec.g_a(x)
        mu, log_sigma = codec.entropy.g_ep("raster", 0, {"hyper": codec.hyperprior(y).hyper.flatten(2)})
    assert mu.abs().mean() < 0.3 * y.abs().mean()
    spread = y.std((0, 2, 3))
    assert np.corrcoef(spread.log(), log_sigma.mean((0, 2)))[0, 1] > 0.8


def test_the_transform_starts_as_principal_components_of_its_patches():
    torch.manual_seed(0)
    mixed = (torch.rand(2000, 768) @ torch.randn(768, 768)) / 100
    klt = KarhunenLoeve.of(mixed, 8, 0.5, 2)
    covariance = torch.cov(mixed.T)
    energy = (klt.basis @ covariance @ klt.basis.T).diagonal()
    torch.testing.assert_close(klt.basis @ klt.basis.T, torch.eye(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(energy.sort(descending=True).values, torch.linalg.eigvalsh(covariance).flip(0)[:8])
    assert energy[:4].sum() / energy[4:].sum() < 1.3  # both slices have their share
    codec = SharedLatent()
    codec.g_a.start(klt := KarhunenLoeve.of(torch.rand(2000, 768), 128, 0.5, 4))
    codec.g_s.start(klt)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        y = codec.g_a(x)
        patches = x.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).reshape(16, 768)
        torch.testing.assert_close(y[0].flatten(1).T, (patches - klt.mean) @ klt.basis.T / klt.step, atol=1e-4, rtol=0)
        again = codec.g_a(codec.g_s(y)) - codec.g_a(codec.g_s(0 * y))
    torch.testing.assert_close(again, y, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="linear_path=True"):
        Analysis((8, 8, 8), 128).start(klt)


COMPONENTS = {
    "channel, checkerboard, intra+inter": {"channel": "conv", "local": "checkerboard", "global": "intra+inter"},
    "stacked, intra-unmasked": {"channel": "conv", "local": "stacked", "global": "intra-unmasked"},
    "attention": {"channel": "none", "local": "attention", "global": "none"},
    "raster": {"channel": "none", "local": "raster", "global": "none"},
    "checkerboard reference": {"channel": "none", "local": "none", "global": "reference"},
    "raster reference": {"channel": "none", "local": "raster", "global": "reference"},
    "slice transforms of charm": {},
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_contexts_start_so_that_the_latent_s_scale_does_not_matter(name, monkeypatch):
    """Features of a latent times its scale are those of the latent: every weight that reads it is divided, no other."""
    torch.manual_seed(1)
    codec = SharedLatent().swap(**COMPONENTS[name], refinement="none") if COMPONENTS[name] else create("charm", "small")
    codec.eval()
    entropy = codec.entropy.select(refinement="none")
    y, hyper = latent_like(entropy, 5, 6), hyper_like(codec, 5, 6)
    scale = torch.rand(entropy.order.M) * 4 + 0.5
    if "reference" in name:  # it compares patches by their angles, and asks how probable symbols are
        scale = torch.full_like(scale, 4.0)
        monkeypatch.setattr(reference, "_confidence", lambda gaussian, symbols, prior: symbols[:, 0] * 0 + 1)

    def features(y):
        found = []
        with entropy.g_ep.register_forward_pre_hook(lambda module, args: found.append(args[2])), torch.no_grad():
            entropy.run(hyper, lambda step, *parameters: step.take(y[:, entropy.order.step_channels(step)]))
        return found

    before = features(y)
    started = [context for context in entropy.active().values() if isinstance(context, Context)]
    assert started
    for context in started:
        context.start(scale)
    after, otherwise = features(y * scale[:, None, None]), features(y)
    slots = set().union(*before) - {"hyper", "trust"}
    assert slots
    for slot in slots:
        a, b, c = (torch.cat([f[slot].flatten() for f in of if slot in f]) for of in (before, after, otherwise))
        torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(c, a, atol=1e-3), slot


@pytest.mark.parametrize(("split", "support"), [(False, None), (True, 1)])
def test_refinement_starts_so_that_the_latent_s_scale_does_not_matter_and_adds_little(split, support):
    order = CodingOrder((3, 2, 2), in_turn=True, pattern="checkerboard")
    lrp = LatentResidualPrediction(order, 4, hidden=(5, 5), split=split, support=support)
    scale, y, hyper = torch.rand(7) * 4 + 0.5, torch.randn(1, 7, 4, 4), torch.randn(1, 4, 4, 4)
    nets = [net for of_kind in lrp.nets.values() for net in of_kind]
    lasts = [net[-1].weight.clone() for net in nets]

    def read(y):
        """What the first layers make of it."""
        found, seen = [], Seen(order, y, hyper)
        hooks = [net[0].register_forward_hook(lambda module, args, out: found.append(out.detach())) for net in nets]
        for step in order.steps(4, 4):
            for i in step.slices:
                lrp(seen, i, step)
        for hook in hooks:
            hook.remove()
        return torch.cat(found)

    before = read(y)
    assert len(before) == (6 if split else 3)
    lrp.start(scale)
    torch.testing.assert_close(read(y * scale[:, None, None]), before)
    for net, last in zip(nets, lasts, strict=True):
        torch.testing.assert_close(net[-1].weight, last / 100)


def test_parameters_start_at_mean_zero_and_the_latent_s_spread():
    order, spread = CodingOrder((3, 2)), torch.rand(5) + 0.1
    g_ep = Parameters(order, {"first": {"hyper": (4, 4)}, "raster": {"hyper": (4,)}}, hidden=(6,))
    g_ep.start("first", spread)
    g_ep.start("raster", spread)
    for kind, i, own in (("first", 0, spread[:3]), ("first", 1, spread[3:]), ("raster", 0, spread)):
        last = g_ep.nets[kind][i][-1]
        assert last.weight.abs().max() < 0.1  # torch's are up to 0.4
        last.weight.data.zero_()
        mu, log_sigma = g_ep(kind, i, {"hyper": torch.randn(1, 4, 7)})
        assert not mu.any()
        torch.testing.assert_close(log_sigma.exp(), own[None, :, None].expand(1, -1, 7))


def smooth(M, h, w):
    """A latent whose symbols can be told from their neighbours: (1, M, h, w)."""
    coarse = torch.randn(1, M, h // 4, w // 4, generator=torch.Generator().manual_seed(0))
    return 20 * torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear")


def test_raster_order_starts_at_what_least_squares_predicts_of_it():
    torch.manual_seed(2)
    codec = SharedLatent().eval().swap(channel="none", local="raster", global_="none", refinement="none")
    y, hyper = smooth(128, 32, 32), hyper_like(codec, 32, 32)
    symbols, taken = torch.round(y), []
    before = codec.entropy(y, hyper).likelihoods.log2().mean()
    with torch.no_grad():
        codec.entropy.g_ep.fit("raster", lambda: codec.entropy(y, hyper), symbols)
        after = codec.entropy(y, hyper).likelihoods.log2().mean()
        codec.entropy.g_ep.register_forward_hook(lambda module, args, out: taken.append(out))
        codec.entropy(y, hyper)
    mu, log_sigma = taken[-1]
    left = (symbols.flatten(2) - mu).std((0, 2))
    assert (left < 0.9 * symbols.flatten(2).std((0, 2))).all()
    torch.testing.assert_close(log_sigma.exp().mean((0, 2)), left.clamp(min=0.15), rtol=0.3, atol=0.1)
    assert after > before + 1


def test_progressive_stages_start_at_what_least_squares_predicts_of_what_is_left():
    torch.manual_seed(3)
    codec = GlobalReference.build("small").eval()
    y, hyper = smooth(128, 32, 32), hyper_like(codec, 32, 32)
    symbols = torch.round(y).flatten(2)
    with torch.no_grad():
        codec.entropy.g_ep.fit("raster", lambda: codec.entropy(y, hyper), torch.round(y))
        found = {"mu": {}, "log_sigma": {}, "weight": {}}

        def recorder(name, value, where):
            if name.startswith("stage."):
                found[name.removeprefix("stage.")][where["stage"]] = value

        with record(recorder):
            codec.entropy(y, hyper)
    left = [symbols.std((0, 2)).mean(), *((symbols - found["mu"][k][..., -1]).std((0, 2)).mean() for k in (1, 2))]
    assert left[1] < 0.7 * left[0]
    assert left[2] <= left[1]
    for k in (1, 2):
        of = (symbols - found["mu"][k][..., -1]).std((0, 2)).clamp(min=0.15)
        torch.testing.assert_close(found["log_sigma"][k][..., -1].exp().mean((0, 2)), of, rtol=0.3, atol=0.1)


def test_components_that_the_weights_lack_are_started_on_the_latent(train, folder, untrained_weights, tmp_path):
    state = load_file(untrained_weights / "untrained.safetensors")
    old = {key: value for key, value in state.items() if "raster" not in key}
    save_file(old, tmp_path / "old.safetensors")
    found = train("new", 0, start=str(tmp_path / "old.safetensors"))["modules"]
    torch.manual_seed(0)
    codec = SharedLatent()
    codec.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    torch.manual_seed(0)
    fresh = SharedLatent().state_dict()
    with torch.no_grad():
        y = codec.g_a(Photographs(folder).crops(32, 256, (0, 1)))
    scale = y.std((0, 2, 3)).clamp(min=1)
    for key in ("entropy.contexts.local.raster.linear.weight", "entropy.contexts.reference.raster.linear.weight"):
        expected = fresh[key] / scale.repeat_interleave(fresh[key].shape[1] // 128)
        torch.testing.assert_close(found[key], expected)
    torch.testing.assert_close(found["entropy.g_ep.nets.raster.0.4.bias"][128:], y.std((0, 2, 3)).log())
    for key, value in old.items():
        torch.testing.assert_close(found[key], value.float() if value.is_floating_point() else value)


# Recipes


def test_another_codec_needs_one_recipe(folder, tmp_path, monkeypatch):
    """A codec that the recipes have not heard of: what learns, how fast, and how its combination is drawn is data."""
    calls = []

    def loss(codec, x, run, step):
        calls.append((tuple(x.shape), step, run.lmbda))
        return rate_distortion(codec(x), x, run.lmbda)

    stages = (
        Stage("transform", learns=("g_a.",), loss=loss, settings=Settings(2, lr=1e-3, warmup=0)),
        Stage("all", learns=EVERYTHING, loss=loss, quantiles=True, settings=Settings(2, lr=1e-3, warmup=0)),
    )
    module = ModuleType("a_recipe")
    begun = []
    build = partial(create, "mean-scale", "small")
    module.RECIPE = Recipe(
        build, stages, {"g_a.0.": 0.0}, start=lambda codec, photographs, run: begun.append(run.stage)
    )
    monkeypatch.setitem(sys.modules, "a_recipe", module)
    monkeypatch.setitem(RECIPES, "mean-scale", "a_recipe")
    monkeypatch.setattr(recipes, "launch", lambda work, workers: work(0, 1))
    last = recipes.run_all("mean-scale", 0.01, str(folder), tmp_path / "runs", crop=64)
    assert last == tmp_path / "runs" / "all.pt"
    assert begun == ["transform"]
    assert calls == [((1, 3, 64, 64), step, 0.01) for step in (0, 1, 0, 1)]
    torch.manual_seed(0)
    fresh = build().state_dict()
    first, both = (saved(tmp_path / "runs" / f"{name}.pt")["modules"] for name in ("transform", "all"))
    changed = {key for key in fresh if not torch.equal(first[key], fresh[key])}
    assert changed
    assert all(key.startswith("g_a.") and not key.startswith("g_a.0.") for key in changed)
    assert not torch.equal(both["hyperprior.bottleneck.quantiles"], first["hyperprior.bottleneck.quantiles"])
    assert not torch.equal(both["g_s.0.weight"], first["g_s.0.weight"])
    recipes.run_all("mean-scale", 0.01, str(folder), tmp_path / "runs", crop=64)
    assert len(calls) == 4  # all was done


def test_all_stages_run_in_turn_each_from_the_one_before_and_what_is_done_stays(tmp_path, monkeypatch):
    ran = []

    def pretend(it):
        ran.append(it)
        killed = it.stage == "refine" and len(ran) < 4
        step, steps = 3 if killed else it.settings.steps, it.settings.steps
        torch.save({"step": step, "schedule": {"steps": steps}}, it.checkpoint)
        if killed:
            raise Killed

    monkeypatch.setattr(recipes, "run", pretend)
    for _ in range(2):
        try:
            last = recipes.run_all("shared", 0.013, ".", tmp_path, "weights.safetensors", workers=1, seed=4)
        except Killed:
            continue
    assert last == tmp_path / "raster.pt"
    assert [it.stage for it in ran] == ["joint", "finish", "refine", "refine", "contexts", "raster"]
    before = {
        stage: "weights.safetensors" if previous is None else str(tmp_path / f"{previous}.pt")
        for previous, stage in pairwise([None, "joint", "finish", "refine", "contexts", "raster"])
    }
    for it in ran:
        assert it.start == before[it.stage]
        assert it.settings == replace(recipe_of("shared").stage(it.stage).settings, workers=1, seed=4)


def test_with_other_steps_the_rate_falls_over_the_same_share_of_them():
    settings = Settings(200, lr=1.0, warmup=0, decay=120)
    for other in (settings.but(steps=50), settings.but(steps=1000)):
        assert [other.rate(other.steps * k // 10) for k in (0, 4, 7)] == pytest.approx([1, 1, 0.5])
    assert settings.but(steps=50, decay=0).decay == 0
    assert settings.but(lr=2.0, crop=64) == replace(settings, lr=2.0, crop=64)


@pytest.mark.parametrize("codec", RECIPES)
def test_what_the_recipes_name_is_there(codec):
    """Every prefix of weights, of what learns and of how fast, is that of some; and stages differ in their crops."""
    recipe = recipe_of(codec)
    names = [name for name, _ in recipe.build().named_parameters()]
    prefixes = {prefix for stage in recipe.stages for prefix in (*stage.learns, *(stage.takes or ()))} | set(
        recipe.factors
    )
    assert not [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in names)]
    assert len({stage.name for stage in recipe.stages}) == len(recipe.stages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "gsdn"}, "this codec's are joint, finish"),
        ({"codec": "charm"}, "no recipe is called 'charm'"),
        ({"codec": "global-reference", "stage": "reference"}, "--start"),
        ({"settings": Settings(1, crop=100)}, "must be a multiple of"),
        ({"checkpoint": str(PACKAGE.parent / "runs" / "a.pt")}, "in the git repository"),
    ],
)
def test_a_run_is_checked(change, message):
    fields = {"codec": "shared", "stage": "joint", "lmbda": 0.01, "data": ".", "checkpoint": "/tmp/a.pt"}
    with pytest.raises(ValueError, match=message):
        Run(**fields | {"settings": Settings(1)} | change)


# Images


def test_crops_are_pixels_of_the_images_and_a_function_of_the_seed(folder):
    photographs = Photographs(folder, 256)
    assert len(photographs) == 2
    crops = photographs.crops(3, 64, (1, 2))
    assert torch.equal(crops, photographs.crops(3, 64, (1, 2)))
    assert not torch.equal(crops, photographs.crops(3, 64, (1, 3)))
    images = [photographs.image(i).numpy() for i in range(2)]
    np.testing.assert_array_equal(images[1], data.coffee())
    crop = (crops[0] * 255).round().byte().permute(1, 2, 0).numpy()
    found = False
    for image in images:
        for pixels in (image, image[:, ::-1]):
            windows = np.lib.stride_tricks.sliding_window_view(pixels, (64, 64, 3))[:, :, 0]
            starts = (windows[:, :, 0, 0] == crop[0, 0]).all(-1).nonzero()
            found |= any((windows[i, j] == crop).all() for i, j in zip(*starts, strict=True))
    assert found
    with pytest.raises(FileNotFoundError, match="at least 5000 pixels"):
        Photographs(folder, 5000)


def packs():
    return sorted(cache("photographs").glob("*.pack"))


def test_images_are_decoded_once_and_again_when_they_change(tmp_path, monkeypatch):
    folder, other = tmp_path / "images", tmp_path / "others"
    for of in (folder, other):
        of.mkdir()
        Image.new("RGB", (300, 280), (1, 2, 3)).save(of / "a.bmp")
    Photographs(folder)
    Photographs(other)
    first = packs()
    assert len(first) == 2
    opened = []
    monkeypatch.setattr(training_data, "read", lambda *args, **named: opened.append(args) or read(*args, **named))
    Photographs(folder)
    Photographs(folder, 270)
    assert not opened
    times = (folder / "a.bmp").stat()
    Image.new("RGB", (300, 280), (4, 5, 6)).save(folder / "a.bmp")
    os.utime(folder / "a.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time are what they were
    assert Photographs(folder).image(0)[0, 0].tolist() == [4, 5, 6]
    assert len(opened) == 1
    assert len(packs()) == 2  # of the folder as it was, nothing is left
    (other / "a.bmp").unlink()
    other.rmdir()
    Image.new("RGB", (256, 256)).save(folder / "b.png")
    assert len(Photographs(folder)) == 2
    assert len(packs()) == 1  # nor of a folder that is gone


def test_training_reads_images_as_all_others_do_and_names_the_one_that_fails(tmp_path):
    grey, clear = data.camera()[:256, :260], np.zeros((256, 257), np.uint8)
    folder = tmp_path / "images"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.dstack([data.coffee()[:256, :257], clear])).save(folder / "clear.png")
    Image.fromarray(data.coffee()[:256, :300]).save(folder / "turned.png", exif=turned)
    photographs = Photographs(folder)
    for i, path in enumerate(sorted(folder.iterdir())):
        np.testing.assert_array_equal(photographs.image(i), to_uint8(read(path).x))
    assert photographs.sizes.tolist() == [[256, 257], [256, 260], [300, 256]]
    (folder / "cut.png").write_bytes((folder / "deep.png").read_bytes()[:9000])
    with pytest.raises(ImageError, match=r"cut\.png"):
        Photographs(folder)
    (folder / "cut.png").unlink()
    assert len(Photographs(folder)) == 3


def test_a_killed_packing_leaves_nothing_that_is_taken_for_the_images(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (300, 280), (1, 2, 3)).save(folder / f"{name}.png")
    calls = []

    def killed(*args, **named):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return read(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training_data, "read", killed)
        with pytest.raises(Killed):
            Photographs(folder)
    assert not packs()
    assert len(Photographs(folder)) == 2
    assert sorted(p.name for p in cache("photographs").iterdir()) == sorted(["lock", packs()[0].name])

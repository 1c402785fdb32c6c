"""Training: a resumed run is the uninterrupted one, stages train what they say, and the loss is the paper's."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from lic_lab.training import recipes
from lic_lab.training.data import Photographs
from lic_lab.training.loop import Schedule
from lic_lab.training.recipes import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("train")
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()).save(to / f"{name}.png")
    Image.fromarray(data.astronaut()[:100]).save(to / "too_small.png")
    return to


@pytest.fixture
def train(folder, untrained_weights, tmp_path):
    """Run a stage in this process; returns its checkpoint."""

    def run(name, steps, stage="joint", **more):
        path = tmp_path / f"{name}.pt"
        start = str(untrained_weights / "untrained.safetensors")
        schedule = Schedule(steps, lr=1e-3, warmup=2)
        recipe = Recipe(stage, 0.0067, str(folder), str(path), schedule, start, batch=1, crop=64, **more)
        recipes._run(recipe, 0, 1)
        return torch.load(path, weights_only=True)

    return run


def test_a_resumed_run_is_the_uninterrupted_one(train):
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
    ],
)
def test_a_stage_trains_what_it_says_and_nothing_else(train, stage, trained):
    before, after = train("zero", 0, stage)["modules"], train("some", 2, stage)["modules"]
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    for part in trained:
        assert any(key.startswith(part) for key in changed), part
    frozen = {"finish": ("g_a", "g_s", "entropy.refinements"), "contexts": ("g_a", "g_s", "hyperprior", "entropy.ref")}
    allowed = {"refine": ("entropy.refinements",)}
    assert not [key for key in changed if key.startswith(frozen.get(stage, "-"))]
    assert stage not in allowed or all(key.startswith(allowed[stage]) for key in changed)


def test_bfloat16_changes_the_steps_a_little_and_no_dtype(train):
    full, half = train("full", 2), train("half", 2, bf16=True)
    assert {v.dtype for v in half["modules"].values()} == {v.dtype for v in full["modules"].values()}
    key = "g_s.network.0.conv1.weight"
    assert not torch.equal(full["modules"][key], half["modules"][key])
    torch.testing.assert_close(full["modules"][key], half["modules"][key], atol=5e-3, rtol=0)


def test_the_log_is_json_lines_of_the_loss(folder, untrained_weights, tmp_path):
    schedule = Schedule(50, lr=1e-5)
    start = str(untrained_weights / "untrained.safetensors")
    recipe = Recipe("contexts", 0.0067, str(folder), str(tmp_path / "a.pt"), schedule, start, batch=1, crop=64)
    recipes._run(recipe, 0, 1)
    (line,) = [json.loads(text) for text in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert line["step"] == 50
    assert line["loss"] == pytest.approx(line["bpp"])


def test_crops_are_pixels_of_the_images_and_a_function_of_the_seed(folder):
    photographs = Photographs(folder, 256)
    assert len(photographs) == 2
    crops = photographs.crops(3, 64, (1, 2))
    assert torch.equal(crops, photographs.crops(3, 64, (1, 2)))
    assert not torch.equal(crops, photographs.crops(3, 64, (1, 3)))
    images = [photographs.image(i).numpy() for i in range(2)]
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


@pytest.mark.parametrize(
    ("change", "message"), [({"stage": "start"}, "must be one of"), ({"crop": 100}, "multiple of 64")]
)
def test_a_recipe_is_checked(change, message):
    fields = {"stage": "joint", "lmbda": 0.01, "data": ".", "checkpoint": "a.pt", "schedule": Schedule(1)} | change
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)

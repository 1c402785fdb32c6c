"""Fixtures that several tests share."""

import os

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# The tests' tensors are small: threads would spend their time on waiting for one another. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("lab", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("lab")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Training keeps what it makes in a folder of the tests' own."""
    os.environ["LIC_LAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def _untrained(tmp_path_factory):
    """A folder with a weights file of random numbers: enough to code with, and there before anything is trained."""
    import torch

    from lic_lab.codecs.shared import SharedLatent
    from lic_lab.codecs.weights import save

    torch.manual_seed(0)
    codec = SharedLatent()
    codec.update()
    folder = tmp_path_factory.mktemp("weights")
    card = {"codec": "shared", "quality": 2, "lambda": 0.0035, "serves": ["shared", "mlic", "mlic+"]}
    save(codec, "untrained", card, folder)
    return folder


@pytest.fixture
def untrained_weights(_untrained, monkeypatch):
    """`lab.load` gives codecs with random weights, at quality 2."""
    monkeypatch.setenv("LIC_LAB_WEIGHTS", str(_untrained))
    return _untrained


@pytest.fixture(scope="session")
def photograph(tmp_path_factory):
    """Path of a small photograph with odd sides, 101 x 75 pixels."""
    from skimage import data

    path = tmp_path_factory.mktemp("image") / "astronaut.png"
    Image.fromarray(np.ascontiguousarray(data.astronaut()[:75, 150:251])).save(path)
    return path

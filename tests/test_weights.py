"""Weights: a loaded codec is its holder's own, files are of unchanged ones, state dicts come as others keep them."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressai.models import MeanScaleHyperprior
from safetensors.torch import save_file
from skimage import data
from torch import nn
from torch.nn.utils import prune

import lic_lab as lab
from lic_lab.codecs import weights
from lic_lab.codecs.codec import Codec, undisturbed, unwrapped
from lic_lab.codecs.mean_scale import MeanScale
from lic_lab.codecs.mlic import MLIC
from lic_lab.codecs.states import read
from lic_lab.codecs.weights import WeightsError

PHOTO = data.coffee()[:20, 200:217]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """CompressAI warns of a bottleneck that it makes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@pytest.fixture
def small() -> MeanScale:
    torch.manual_seed(0)
    codec = MeanScale(8, 12).eval()
    codec.update()
    return codec


# A loaded codec


def _prune(codec: Codec) -> None:
    prune.l1_unstructured(codec.g_a.linear_path, "weight", 0.5)  # type: ignore[no-untyped-call]


def _train(codec: Codec) -> None:
    parameters = list(codec.requires_grad_().parameters())
    for p in parameters:
        p.grad = torch.ones_like(p)
    torch.optim.Adam(parameters, lr=1e-2, fused=True).step()


def _behind_torch(codec: Codec) -> None:
    codec.g_s.linear_path.weight.data[0, 0] *= 1.0001  # type: ignore[union-attr, operator]


def _by_numpy(codec: Codec) -> None:
    codec.hyperprior.bottleneck.quantiles.numpy()[0, 0, 1] += 1  # type: ignore[union-attr]


def _other_parts(codec: Codec) -> None:
    codec.g_a = nn.Sequential(codec.g_a)


CHANGES = [_prune, _train, _behind_torch, _by_numpy, _other_parts, lambda codec: codec.half().float()]


@pytest.mark.parametrize("change", [*CHANGES, lambda codec: codec.double(), lambda codec: codec.half()])
def test_a_changed_codec_changes_no_other_and_writes_no_file(
    untrained_weights: Path, change: Callable[[Codec], Any]
) -> None:
    codec, other = lab.load("mlic+", 2), lab.load("mlic+", 2)
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    change(other)
    for untouched in (codec, lab.load("mlic+", 2), lab.load("shared", 2)):
        for key, value in untouched.state_dict().items():
            assert value.dtype == before[key].dtype
            assert torch.equal(value, before[key])
        assert not any(p.requires_grad for p in untouched.parameters())
    assert codec.fingerprint() == codec.loaded
    with pytest.raises(ValueError, match=r"no longer as lab\.load gave it.*Load it again"):
        lab.encode(other, PHOTO)


def test_who_changes_a_lent_codec_changes_none_that_is_loaded(untrained_weights: Path) -> None:
    lent = weights.borrow("mlic+", 2)
    assert lent.g_a is weights.borrow("mlic+", 2).g_a
    lent.g_a.linear_path.weight.data.mul_(0)  # type: ignore[union-attr, operator]
    codec = lab.load("mlic+", 2)
    assert codec.g_a.linear_path.weight.any()  # type: ignore[union-attr, operator]
    assert codec.fingerprint() == codec.loaded


def test_what_changes_no_weight_changes_no_file(untrained_weights: Path) -> None:
    """Whatever torch and the codec are set to: the same file, and they are set so still."""
    codec = lab.load("mlic+", 2)
    data = lab.encode(codec, PHOTO)
    pixels = lab.decode(data)
    kept = io.BytesIO()
    torch.save(codec, kept)
    kept.seek(0)
    for same in (codec.requires_grad_(), copy.deepcopy(codec), torch.load(kept, weights_only=False)):
        assert lab.encode(same, PHOTO) == data
    codec.train()
    codec.g_a.eval()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            assert lab.encode(codec, PHOTO) == data
            np.testing.assert_array_equal(lab.decode(data), pixels)
    finally:
        torch.set_default_dtype(torch.float32)
    assert codec.training
    assert codec.g_s.training
    assert not codec.g_a.training
    assert lab.encode(torch.compile(codec, backend="eager"), PHOTO) == data
    assert lab.encode(nn.DataParallel(codec), PHOTO) == data  # type: ignore[arg-type]


def test_loading_depends_on_no_setting_of_torch_and_draws_no_numbers(untrained_weights: Path) -> None:
    usual = lab.load("mlic+", 2).state_dict()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for first in (True, False):
        if first:
            weights._model.cache_clear()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
                codec = lab.load("mlic+", 2)
        finally:
            torch.set_default_dtype(torch.float32)
        for key, value in codec.state_dict().items():
            assert not value.is_inference()
            assert value.dtype == usual[key].dtype
            assert torch.equal(value, usual[key])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("quality", [2.0, np.float32(2), np.float64(2), np.int8(2), torch.tensor(2)])
def test_a_quality_is_a_whole_number_of_any_kind(untrained_weights: Path, quality: Any) -> None:
    codec = weights.borrow("mlic+", quality)
    assert type(codec.quality) is int  # a stream has it in a byte
    assert codec.quality == 2


@pytest.mark.parametrize(
    ("name", "quality", "says"),
    [
        ("mlic+", "2", "quality is '2', a str"),
        ("mlic+", 2.5, "whole number"),
        ("mlic+", float("nan"), "whole number"),
        ("mlic+", True, "a bool"),
        ("mlic+", 5, "it has 2"),
        ("mine.pth", None, "from_state_dict"),
        (None, None, "by its name"),
        (Path("x.pth"), None, "by its name"),
    ],
)
def test_what_there_are_no_weights_for_is_told(untrained_weights: Path, name: Any, quality: Any, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        lab.load(name, quality)


def test_the_guard_puts_everything_back_also_after_an_error() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2))).eval()
    net[1].train()
    with pytest.raises(KeyError), torch.autocast("cpu", torch.bfloat16), undisturbed(net):
        assert not any(m.training for m in net.modules())
        assert not torch.is_grad_enabled()
        assert net(torch.ones(1, 2)).dtype == torch.float32
        raise KeyError
    assert [m.training for m in net.modules()] == [False, False, True, True, True]
    assert torch.is_grad_enabled()
    assert unwrapped(torch.compile(nn.DataParallel(net), backend="eager")) is net


@pytest.mark.parametrize("codec", [MeanScaleHyperprior, nn.Identity, lambda *_: "mlic+"])
def test_a_file_is_written_by_our_codecs_alone(codec: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"what lab\.load returns"):
        lab.encode(codec(8, 12), PHOTO)


# State dicts


def _checkpoint(state: Any) -> dict[str, Any]:
    """As CompressAI's examples write theirs."""
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    return {"epoch": 3, "state_dict": state, "loss": torch.tensor(0.1), "optimizer": adam.state_dict()}


def _prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {prefix + key: value for key, value in state.items()}


WRAPPINGS: list[Callable[[Any], Any]] = [
    dict,
    _prefixed("module."),
    _prefixed("_orig_mod."),
    _prefixed("module._orig_mod."),
    _checkpoint,
    lambda state: _checkpoint(_prefixed("module.")(state)),
    lambda state: {"model": state, "ema": _prefixed("module.")(state)},
    lambda state: {"net": {"model": state}},
    lambda state: _prefixed("model.")(state) | {"criterion.lpips.weight": torch.zeros(3)},
    lambda state: state | {"g_a.total_ops": torch.zeros(1), "total_params": torch.zeros(1), "epoch": 7},
]


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_state_dicts_are_read_as_others_keep_them(small: MeanScale, wrap: Callable[[Any], Any]) -> None:
    x = lab.read_image(PHOTO)
    again = MeanScale.from_state_dict(wrap(small.state_dict())).eval()
    assert again.compress(x) == small.compress(x)
    torch.manual_seed(1)
    other = MeanScale(8, 12).eval()
    other.update()  # its tables have another length
    other.load_state_dict(wrap(small.state_dict()))
    assert other.compress(x) == small.compress(x)


def test_a_pruned_model_s_state_dict_is_of_what_is_left(small: MeanScale) -> None:
    prune.l1_unstructured(small.g_a[0], "weight", 0.5)  # type: ignore[index, no-untyped-call]
    again = MeanScale.from_state_dict(small.state_dict()).eval()
    x = lab.read_image(PHOTO)
    assert torch.equal(again(x)["x_hat"], small(x)["x_hat"])
    assert float((again.g_a[0].weight == 0).float().mean()) == 0.5  # type: ignore[index]


def test_tables_that_are_missing_are_made_anew(small: MeanScale) -> None:
    bare = {key: value for key, value in small.state_dict().items() if "._" not in key}
    again = MeanScale.from_state_dict(bare).eval()
    with pytest.raises(RuntimeError, match=r"codec\.update\(\)"):
        again.compress(lab.read_image(PHOTO))
    again.update()
    assert again.compress(lab.read_image(PHOTO)) == small.compress(lab.read_image(PHOTO))
    small.load_state_dict({key: value for key, value in bare.items() if key.startswith("g_a")}, strict=False)
    assert again.compress(lab.read_image(PHOTO)) == small.compress(lab.read_image(PHOTO))


@pytest.mark.parametrize("name", ["mlic+", "mlic", "shared"])
def test_a_codec_s_state_dict_gives_the_same_codec_again(untrained_weights: Path, name: str) -> None:
    codec = lab.load(name, 2).swap(local="checkerboard")
    file = io.BytesIO()
    torch.save(_checkpoint(codec.state_dict()), file)
    file.seek(0)
    for state in (codec.state_dict(), torch.load(file, weights_only=True), nn.DataParallel(codec).state_dict()):
        again = type(codec).from_state_dict(state).eval()
        assert (again.name, again.combination, again.swapped) == (codec.name, codec.combination, codec.swapped)
        assert (again.quality, again.lmbda, again.digest) == (2, 0.0035, codec.digest)
        assert again.fingerprint() == again.loaded == codec.fingerprint()
    # Without torch's metadata the names are left, and they serve every combination.
    with pytest.warns(UserWarning, match="do not say which"):
        assert type(codec).from_state_dict(dict(codec.state_dict())).name == "shared"
    assert MLIC.from_state_dict(dict(codec.state_dict())).name == "mlic"
    assert MLIC.from_state_dict(codec.state_dict()).combination["local"] == (
        "checkerboard" if name == "mlic" else "stacked"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: {}, "no weights"),
        (lambda state: {"epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}}, "it has epoch, optimizer"),
        (lambda state: None, "this is a NoneType"),
        (lambda state: "weights.pth", "this is a str"),
        (lambda state: nn.Linear(1, 1), r"give its state_dict\(\)"),
        (lambda state: nn.Linear(1, 1).state_dict(), "they have no g_a.0.weight. They begin with weight"),
        (lambda state: _prefixed("a.")(state) | _prefixed("b.")(state), "several models in it: a., b."),
        (lambda state: {"first": state, "second": state}, "several state dicts, first, second"),
        (lambda state: state | {"g_a.9.weight": torch.zeros(1)}, "have beside them g_a.9.weight"),
        (lambda state: {k: v for k, v in state.items() if "g_s.6" not in k}, "lack g_s.6.weight, g_s.6.bias"),
        (lambda state: state | {"g_a.2.bias": torch.zeros(9)}, r"another shape g_a\.2\.bias \(9,\) instead of \(8,\)"),
        (lambda state: state | {"g_a.0.weight": torch.tensor(1.0)}, "can't be built in their shapes"),
        (lambda state: MeanScaleHyperprior(8, 12).state_dict(), "names of a CompressAI model"),
        (lambda state: lab.create("hyperprior", "small").state_dict(), "no weights of MeanScale"),
    ],
)
def test_weights_of_something_else_are_told_in_words(small: MeanScale, change: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        MeanScale.from_state_dict(change(dict(small.state_dict())))


# Files


def test_files_of_weights_are_read_whoever_wrote_them(small: MeanScale, tmp_path: Path) -> None:
    state = small.state_dict()
    torch.save(state, tmp_path / "a.pth")
    torch.save(_checkpoint(state), tmp_path / "b.pth.tar")
    torch.save(state, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "d.safetensors")
    for path in sorted(tmp_path.iterdir()):
        found = read(path)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_other_files_are_told_in_one_sentence(small: MeanScale, tmp_path: Path) -> None:
    torch.save(small.state_dict(), tmp_path / "zip")
    torch.save(small.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file({key: value.contiguous() for key, value in small.state_dict().items()}, tmp_path / "safe")
    torch.save(small, tmp_path / "object")
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flipped = bytearray(whole["zip"])
    flipped[len(flipped) // 2] ^= 255
    for content, says in (
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"words", "neither of torch.save nor of safetensors"),
        (whole["object"], "holds more than weights"),
        (whole["zip"][:5000], "damaged or cut off"),
        (whole["old"][:5000], "damaged or cut off"),
        (whole["safe"][:5000], "damaged or cut off"),
        (whole["safe"][:20], "damaged or cut off"),
        (bytes(flipped), "checksum"),
    ):
        (tmp_path / "weights.pt").write_bytes(content)
        with pytest.raises(WeightsError, match=rf"weights\.pt.*{says}") as caught:
            read(tmp_path / "weights.pt")
        assert "\n" not in str(caught.value)
    for path, says in ((tmp_path, "Is a directory"), (tmp_path / "no.pt", "No such file"), ("nul\0", "null byte")):
        with pytest.raises(WeightsError, match=f"can't be read.*{says}"):
            read(path)


# Numbers of other kinds


def test_half_precision_is_refused_and_double_works(small: MeanScale) -> None:
    x = lab.read_image(PHOTO)
    strings = small.compress(x)["strings"]
    assert copy.deepcopy(small).double().compress(x.double())["strings"] == strings
    assert copy.deepcopy(small).double().compress(x)["strings"] == strings
    for coarse in (copy.deepcopy(small).half(), copy.deepcopy(small).bfloat16()):
        for call in (coarse, coarse.compress, coarse.encode):
            with pytest.raises(ValueError, match=r"codec\.float\(\)"):
                call(x)
    with pytest.raises(ValueError, match="give floats"):
        small(torch.zeros(1, 3, 20, 17, dtype=torch.uint8))
    with pytest.raises(ValueError, match="not finite"):
        small.encode(x * float("nan"))

"""State dicts as they come: in training checkpoints, out of wrappers, pruned, or with what other tools left in them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lic_lab.codecs.weights import WeightsError

NESTED = ("state_dict", "model_state_dict", "model", "modules", "net", "network", "weights")  # by checkpoints
COUNTERS = ("total_ops", "total_params")  # that thop leaves in a model whose operations it counted
_OWN = re.compile(r"((?:[^.]+\.)*?)(?:g_a|g_s|hyperprior|entropy)\.")


def plain(given: Any) -> dict[str, Tensor]:
    """The weights in `given`, by a codec's own names; with torch's metadata, if there was any.

    Parameters
    ----------
    given : mapping
        A state dict; a checkpoint that holds one under a usual name, beside an optimizer's; one of a wrapped model,
        whose names all begin with "module.", "_orig_mod." or the like; one of a pruned model (``weight_orig``,
        ``weight_mask``).

    Raises
    ------
    WeightsError
        When it is no state dict, or holds several.
    """
    state = _unpacked(given)
    metadata = getattr(state, "_metadata", {})
    found = {key: v for key, v in state.items() if isinstance(v, Tensor) and not key.endswith(COUNTERS)}
    prefixes = {match[1] for match in map(_OWN.match, found) if match}
    if prefixes and "" not in prefixes:
        if len(prefixes) > 1:
            raise WeightsError(
                f"there are weights of several models in it: {_some(sorted(prefixes))}; give one's alone"
            )
        prefix = prefixes.pop()
        found = {key.removeprefix(prefix): v for key, v in found.items() if key.startswith(prefix)}
        metadata = {f"{key}."[len(prefix) : -1]: v for key, v in metadata.items() if f"{key}.".startswith(prefix)}
    for key in [key for key in found if key.endswith("_orig") and f"{key[:-5]}_mask" in found]:
        found[key[:-5]] = found.pop(key) * found.pop(f"{key[:-5]}_mask")
    own: OrderedDict[str, Tensor] = OrderedDict(found)
    own._metadata = metadata  # type: ignore[attr-defined]
    return own


def _unpacked(given: Any) -> Mapping[str, Any]:
    """The state dict itself: a mapping of names to tensors."""
    if isinstance(given, nn.Module):
        raise WeightsError(f"weights are a state dict and this is a {type(given).__name__}: give its state_dict()")
    if not isinstance(given, Mapping):
        raise WeightsError(
            f"weights are a state dict and this is a {type(given).__name__}: give what "
            "torch.load(path, weights_only=True) or safetensors.torch.load_file(path) returns"
        )
    while not any(isinstance(v, Tensor) and isinstance(key, str) and _OWN.match(key) for key, v in given.items()):
        inner = {key: v for key, v in given.items() if isinstance(v, Mapping) and _holds_tensors(v)}
        if not inner and _holds_tensors(given):
            return given
        known = [key for key in NESTED if key in inner] or list(inner)
        if len(known) != 1 and not (known and known[0] in NESTED):
            have = f"several state dicts, {_some(known)}: give one of them" if known else "no weights"
            raise WeightsError(f"there are {have} (it has {_some(given) or 'nothing'})")
        given = inner[known[0]]
    return given


def _holds_tensors(state: Mapping[Any, Any]) -> bool:
    """Whether it is a state dict or holds one; an optimizer's goes by numbers."""
    return any(
        isinstance(key, str) and (isinstance(v, Tensor) or (isinstance(v, Mapping) and _holds_tensors(v)))
        for key, v in state.items()
    )


def codec_said(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `Codec.state_dict` has noted in torch's metadata, where it has survived."""
    found: dict[str, Any] | None = getattr(state, "_metadata", {}).get("", {}).get("codec")
    return found


def read(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The weights in a file of torch.save or safetensors, in float32 and by a codec's own names. No code of it is run.

    Raises
    ------
    WeightsError
        When the file can't be read or holds no weights.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:
        raise WeightsError(f"the weights {path} can't be read ({getattr(error, 'strerror', None) or error})") from None
    if found := _stranger(start):
        raise WeightsError(f"{path} holds no weights: {found}")
    try:
        if start.startswith(b"PK") and (part := ZipFile(path).testzip()):
            raise BadZipFile(f"the checksum of {part} is wrong")  # torch does not look
        if start.startswith((b"PK", b"\x80")):
            given = torch.load(path, map_location="cpu", weights_only=True)
        else:
            given = load_file(path)
    except UnpicklingError:
        raise WeightsError(
            f"{path} holds more than weights, or is damaged. Objects are not loaded, because loading them runs what "
            "the file says: if you trust it, load it with torch yourself and save the state_dict() alone"
        ) from None
    except Exception as error:  # torch's readers raise whatever a damaged file makes them stumble over
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise WeightsError(f"{path} is damaged or cut off ({reason}): copy it again") from None
    try:
        return {key: v.float() if v.is_floating_point() else v for key, v in plain(given).items()}
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _stranger(start: bytes) -> str:
    """What a file is that begins so, if it can't be one of weights."""
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs; fetch the file itself with git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; download the file that the page links to"
    if not start.startswith((b"PK", b"\x80")) and start[8:9] != b"{":
        return "it is neither of torch.save nor of safetensors"
    return ""


def difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor], free: Iterable[str]) -> str:
    """In words, what keeps `state` from being loaded for `own`; `free` may be missing and may have any shape."""
    free = set(free)
    missing = [key for key in own if key not in state and key not in free]
    unknown = [key for key in state if key not in own]
    other = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and key not in free and state[key].shape != own[key].shape
    ]
    said = (("lack", missing), ("have beside them", unknown), ("have in another shape", other))
    return "; ".join(f"they {verb} {_some(keys)}" for verb, keys in said if keys)


def _some(names: Iterable[Any], most: int = 3) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""Shipped weights: safetensors files with a JSON card each, found by codec and quality.

A card lists the codecs its file serves. For those of the shared latent's model, `SERVES` has the components to switch
on: ``mlic`` and ``mlic+`` in `small` are this model with their own components.

What reads cards alone does not wait for torch: that is imported on use.
"""

from __future__ import annotations

import copy
import hashlib
import json
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from safetensors import SafetensorError

from lic_lab import shipped
from lic_lab.files import written

if TYPE_CHECKING:
    from lic_lab.codecs.codec import Codec

QUALITIES = {1: 0.0018, 2: 0.0035, 3: 0.0067, 4: 0.013, 5: 0.025, 6: 0.0483}  # CompressAI's, for MSE
STATE_SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".ckpt", ".bin")
SERVES: dict[str, dict[str, str]] = {
    "shared": {"channel": "conv", "local": "attention", "global": "intra+inter", "refinement": "lrp"},
    "mlic": {"channel": "conv", "local": "stacked", "global": "intra", "refinement": "lrp"},
    "mlic+": {"channel": "conv", "local": "attention", "global": "intra+inter", "refinement": "lrp"},
}
CARD: dict[str, type | tuple[type, ...]] = {  # what a card has to say
    "codec": str,
    "file": str,
    "lambda": (int, float),
    "quality": int,
    "serves": list,
    "sha256": str,
}


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another model."""


def folder() -> Path:
    """Where the weights are: ``LIC_LAB_WEIGHTS``, or those that come with the package."""
    return shipped.folder("weights", "LIC_LAB_WEIGHTS")


def cards(name: str | None = None) -> list[dict[str, Any]]:
    """The cards of all weights, or of those that serve codec `name`, by rising quality.

    A card lies beside its file under the same name. Whatever else is in the folder is passed over: hidden files, other
    JSON, copies under another name, cards that lack what today's have.

    Raises
    ------
    WeightsError
        When a card that has its file beside it can't be read.
    """
    return _read_cards(name)[0]


def _read_cards(name: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The cards, and what was passed over and why."""
    found, strangers = [], []
    for path in sorted(folder().glob("[!.]*.json")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # a folder of such a name among them
            if path.is_file() and path.with_name(f"{path.stem}.safetensors").is_file():
                raise WeightsError(f"the card {path} can't be read ({error!r}); restore it with git checkout") from None
            strangers.append(f"{path.name} is no card")
            continue
        missing = [key for key in CARD if not (isinstance(card, dict) and isinstance(card.get(key), CARD[key]))]
        if missing:
            strangers.append(f"{path.name} has no {', '.join(missing)}, as a card of today has")
        elif card["file"] != f"{path.stem}.safetensors":
            strangers.append(f"{path.name} is the card of {card['file']}, under another name")
        elif name is None or name in card["serves"]:
            found.append(card)
    return sorted(found, key=lambda card: card["quality"]), strangers


def load(name: str, quality: int | None = None) -> Codec:
    """A codec with its shipped weights, in evaluation mode and ready to code.

    It is its holder's own: whatever is done to it changes no other. torch's settings (inference mode, autocast, default
    dtype and device) have no part in it, and no random numbers are drawn. The first time takes a quarter of a second,
    later ones a tenth.

    Parameters
    ----------
    name : str
    quality : int, optional
        CompressAI's quality, 1 to 6 for lambda 0.0018 to 0.0483; by default the lowest that has weights.

    Raises
    ------
    WeightsError
        When there are no such weights (the message lists those there are), or the file does not match its card.
    """
    from lic_lab.codecs.codec import undisturbed

    lent = borrow(name, quality)
    if lent.fingerprint() != lent.loaded:  # a borrower has changed it, such as who took the workbench's codec
        _model.cache_clear()
        lent = borrow(name, quality)
    with undisturbed():
        return copy.deepcopy(lent)


def borrow(name: str, quality: int | None = None) -> Codec:
    """As `load`, but with tensors that all borrowers share: at once, for those who only read them and keep them in."""
    if not isinstance(name, str):
        raise WeightsError(
            f"a codec is asked for by its name, and this is a {type(name).__name__}: lab.load('mlic+', 3)"
        )
    available = {card["quality"]: card for card in cards(name)}
    if not available:
        every, strangers = _read_cards()
        have = sorted({served for card in every for served in card["serves"]})
        there = f" in {folder()}" if folder().is_dir() else f": there is no folder {folder()}"
        hint = "; a file of your own is for its class's from_state_dict" if Path(name).suffix in STATE_SUFFIXES else ""
        raise WeightsError(
            f"there are no weights for {name!r}{there}; there are some for {', '.join(have) or 'none'}{hint}. "
            + "".join(f"Passed over: {words}. " for words in strangers[:3])
            + "LIC_LAB_WEIGHTS names another folder"
        )
    quality = min(available) if quality is None else _whole(quality)
    if quality not in available:
        raise WeightsError(f"{name} has no weights for quality {quality!r}; it has {', '.join(map(str, available))}")
    card = available[quality]
    model = _model(str(folder() / card["file"]), card["sha256"], card["codec"])
    codec = model.swap(**SERVES.get(name, {})).called(name)
    codec.digest, codec.quality, codec.lmbda = card["sha256"], quality, card["lambda"]
    return codec


def _whole(quality: Any) -> int:
    """The quality as an int; 3.0 and NumPy's numbers are numbers too."""
    if isinstance(quality, bool) or not isinstance(quality, Real | SupportsIndex) or float(quality) % 1:
        raise WeightsError(f"quality is {quality!r}, a {type(quality).__name__}; give a whole number, 1 to 6")
    return int(float(quality))


@lru_cache(maxsize=4)
def _model(path: str, digest: str, name: str) -> Codec:
    import torch
    from safetensors.torch import load as load_tensors

    from lic_lab.codecs.codec import undisturbed

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"the weights {path} can't be read ({error.strerror}); restore them with git checkout"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise WeightsError(
            f"{Path(path).name} has digest {found[:12]}, its card says {digest[:12]}: the file is damaged or was "
            "changed; restore it with git checkout"
        )
    with undisturbed(), torch.random.fork_rng(devices=[]):
        codec = untrained(name)
        try:
            state = {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(data).items()}
            codec.load_state_dict(state)
        except (SafetensorError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{Path(path).name} does not hold this codec's weights ({reason})") from None
        codec.requires_grad_(False).eval()
        codec.loaded = codec.fingerprint()
    return codec


def untrained(name: str) -> Codec:
    """What a card calls `name`, with random weights: "shared", or a codec of the registry in its `small` size."""
    from lic_lab.codecs.registry import create
    from lic_lab.codecs.shared import SharedLatent

    return SharedLatent() if name == "shared" else create(name, "small")


def save(codec: Codec, stem: str, card: dict[str, Any], to: Path | None = None) -> Path:
    """Write ``stem.safetensors`` and ``stem.json``; floats as float16 but for the entropy bottleneck's."""
    from safetensors.torch import save as to_bytes

    to = to or folder()
    to.mkdir(parents=True, exist_ok=True)
    state = {}
    for key, value in codec.state_dict().items():
        half = value.is_floating_point() and "bottleneck" not in key
        state[key] = (value.half() if half else value).contiguous()
    data = to_bytes(state)
    file = to / f"{stem}.safetensors"
    card = {"file": file.name, "sha256": hashlib.sha256(data).hexdigest(), **card}
    with written(file) as new, written(to / f"{stem}.json") as new_card:
        new.write_bytes(data)
        new_card.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return file


def half_precision(codec: Codec) -> Codec:
    """Round a codec's weights as `save` does, in place, so that it is measured as it ships."""
    import torch

    with torch.no_grad():
        for key, value in codec.named_parameters():
            if "bottleneck" not in key:
                value.copy_(value.half())
    return codec

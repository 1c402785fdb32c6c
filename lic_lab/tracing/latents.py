"""The part of a run that no entropy model changes: y and its side information, and the pictures made from y_hat."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lic_lab.codecs.codec import Codec, unwrapped
from lic_lab.codecs.geometry import Geometry
from lic_lab.entropy.hyperprior import Side
from lic_lab.image import Picture, Source, read
from lic_lab.tracing.guard import guarded
from lic_lab.tracing.taps import Keep, Taps, array, by_default, taps


@dataclass
class Synthesis:
    """A reconstruction, and what g_s showed of its making.

    Attributes
    ----------
    x_hat : Tensor
        (1, 3, H, W), not clipped.
    taps : Taps
    """

    x_hat: Tensor
    taps: Taps


@dataclass
class Latent:
    """The transform's output for one image, computed once and shared by all entropy models on it.

    Attributes
    ----------
    picture : Picture
    geometry : Geometry
        How y lies on the picture.
    y : Tensor
        (1, M, h, w).
    side : Side
        The hyperprior's features, and z's likelihoods.
    seconds : dict
        ``g_a`` and ``hyper``.
    taps : dict
        What these two showed, by the same names.
    pictures : dict
        Reconstructions already made, by digest of y_hat.
    """

    picture: Picture
    geometry: Geometry
    y: Tensor
    side: Side
    seconds: dict[str, float]
    taps: dict[str, Taps]
    pictures: dict[bytes, Synthesis] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, pictures and records together."""
        tensors = [self.picture.x, self.y, self.side.hyper, *(made.x_hat for made in self.pictures.values())]
        shown = [*self.taps.values(), *(made.taps for made in self.pictures.values())]
        return sum(t.numel() * t.element_size() for t in tensors) + sum(of.nbytes for of in shown)


def latent(codec: nn.Module, image: Source | Picture, keep: Keep | None = None) -> Latent:
    """Run g_a and the hyperprior on an image: the part of a trace that no entropy model changes.

    Parameters
    ----------
    codec : Codec
        Of lic_lab, also wrapped by torch.compile or DataParallel.
    image : path, PIL image, array, tensor or Picture
        Any size.
    keep : callable, optional
        Which taps of the two to keep, as for `trace`.

    Raises
    ------
    ImageError
        When the image can't be used.
    TypeError
        When `codec` is none of ours.
    ValueError
        When its weights aren't float32, or not finite, or what it makes of the picture is not.
    """
    codec = check(codec)
    check_finite(codec)
    picture = image if isinstance(image, Picture) else read(image)
    keep = keep or by_default(_positions(codec, picture))
    with guarded(codec):
        start = time.perf_counter()
        with taps(keep) as of_transform:
            y, geometry = codec.analyse(picture.x.to(device_of(codec)))
        middle = time.perf_counter()
        if not bool(y.isfinite().all()):
            raise ValueError(
                f"{codec.name} makes numbers of this picture that are not finite: its weights are too large"
            )
        with taps(keep) as of_hyper:
            side = codec.side(y)
        end = time.perf_counter()
    seconds = {"g_a": middle - start, "hyper": end - middle}
    return Latent(picture, geometry, y, side, seconds, {"g_a": of_transform, "hyper": of_hyper})


def synthesis(codec: Codec, found: Latent, y_hat: Tensor, keep: Keep) -> Synthesis:
    """The picture of y_hat (1, M, h, w), made anew only if it was not, or if more of its making is to be kept."""
    key = hashlib.blake2b(array(y_hat).tobytes(), digest_size=16).digest()
    known = found.pictures.get(key)
    if known is not None and not known.taps.lack(keep):
        return known
    with guarded(codec, deep=False), taps(keep) as shown:
        made = Synthesis(codec.synthesise(y_hat.to(device_of(codec)), found.geometry), shown)
    return found.pictures.setdefault(key, made) if known is None else made


def check(codec: nn.Module) -> Codec:
    """The codec, unwrapped, if it is one whose bits can be counted.

    Raises
    ------
    TypeError
        When it is none of ours.
    ValueError
        When its weights aren't float32.
    """
    model = unwrapped(codec)
    if not isinstance(model, Codec):
        raise TypeError(
            f"codec is a {type(model).__name__}; this is for codecs of lic_lab, from lab.load or lab.create"
        )
    found = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if found:
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        raise ValueError(f"{model.name} has weights in {names}; its bits are counted in float32: call codec.float()")
    return model


@torch.no_grad()
def check_finite(codec: Codec) -> None:
    """Refuse weights that are not finite. It looks at all of them, which takes as long as a small entropy model.

    Raises
    ------
    ValueError
        When some are not.
    """
    if not all(bool(p.isfinite().all()) for p in codec.parameters()):
        raise ValueError(
            f"{codec.name} has weights that are not finite; its training has diverged, or they are damaged"
        )


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights lie."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _positions(codec: Codec, picture: Picture) -> int:
    """Of the latent, if the picture is not made smaller."""
    h, w = codec.geometry(picture.x.shape[2], picture.x.shape[3]).latent
    return h * w

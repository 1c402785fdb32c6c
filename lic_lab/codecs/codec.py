"""A codec: transform, hyperprior and entropy model behind CompressAI's interface.

    x --g_a--> y --h_a--> z --EB--> z_hat --h_s--> Phi_h
               |                                     |
               +------------- entropy model ---------+--> y_hat --g_s--> x_hat

Without a hyperprior the middle is empty and only y is coded. How y lies on x is the codec's business: everyone else
calls `analyse` and `synthesise`, and hands the `Geometry` from the one to the other.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self, TypeVar

import lic_lab.layers  # noqa: F401  # before CompressAI

# isort: split
import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import CompressionModel
from torch import Tensor, nn

from lic_lab.codecs.geometry import WHOLE, Geometry
from lic_lab.codecs.states import codec_said, difference, plain
from lic_lab.codecs.weights import WeightsError
from lic_lab.entropy.factorized import FactorizedEntropy
from lic_lab.entropy.hyperprior import Hyperprior, Side
from lic_lab.entropy.model import Coded, EntropyModel
from lic_lab.image import pad
from lic_lab.layers.exact import exact
from lic_lab.layers.memory import kept
from lic_lab.layers.resample import resample
from lic_lab.layers.tap import tap
from lic_lab.transforms.resize import LEAST, Resizing

GRID = tuple(WHOLE * k // 16 for k in range(4, 17))  # resize factors that are searched
SKIPPED = 0.97  # from here on a predicted factor is 1 [ours]; the paper says "close to 1"
RATE_POINT = ("quality", "lmbda", "digest", "loaded")  # attributes of a codec with shipped weights


@contextmanager
def uncast() -> Iterator[None]:
    """Context without autocast: what an entropy model counts needs all digits of float32."""
    with ExitStack() as settings:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                settings.enter_context(torch.autocast(device, enabled=False))
        yield


def steps(s: float) -> int:
    """A predicted resize factor in 1/4096."""
    if not LEAST <= s <= 1:
        raise ValueError(f"the network gives the resize factor {s}: the picture or its weights are not finite")
    return WHOLE if s >= SKIPPED else round(s * WHOLE)


@contextmanager
def undisturbed(*modules: nn.Module) -> Iterator[None]:
    """Context in which results depend on what modules hold, and not on how torch or they happen to be set.

    Inside, all of `modules` and their submodules are in evaluation mode; autocast, autograd and inference mode are off;
    new tensors are float32 and on the CPU unless they say otherwise. Afterwards all is as it was, each submodule in the
    mode it had. (A tensor that was made in inference mode can be read inside, but not changed in place: clone it.)
    """
    trained = [m for module in modules for m in module.modules() if m.training]
    dtype = torch.get_default_dtype()
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(False))
        settings.enter_context(torch.no_grad())
        settings.enter_context(uncast())
        if torch.get_default_device().type != "cpu":
            settings.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            settings.callback(torch.set_default_dtype, dtype)
        for module in trained:
            module.training = False
            settings.callback(setattr, module, "training", True)
        yield


def adaptive(codec: Resized) -> Resized:
    """The same codec with the parts to resize pictures, which have random weights. Its own are shared, not copied.

    It codes pictures whole until `Codec.resized` says otherwise.
    """
    other = copy.copy(codec)
    parts = Resizing().to(next(codec.parameters())).train(codec.training)
    other._modules = {**codec._modules, "resizing": parts}
    return other


def unwrapped(model: object) -> object:
    """The model inside of what torch.compile or (Distributed)DataParallel made of it; anything else as it is."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


Resized = TypeVar("Resized", bound="Codec")


class Codec(CompressionModel):
    """A learned image codec made of swappable parts.

    A published system is a subclass whose constructor takes its dimensions and builds the parts; it names its sizes
    in `SIZES` and reads the dimensions off a state dict in `dimensions`.

    Parameters
    ----------
    g_a, g_s : Module
        Analysis and synthesis transform.
    hyperprior : Hyperprior or None
    entropy : EntropyModel or FactorizedEntropy
    name, size : str
        As in the registry.

    Attributes
    ----------
    own : dict
        The components that `name` stands for; `swap` leaves it as it is.
    quality, lmbda, digest : int, float, str or None
        Rate point and SHA-256 of the weights file; None without shipped weights.
    loaded : str or None
        `fingerprint` of the codec as it was loaded.
    resizing : Resizing or None
        What makes pictures smaller before they are coded; see `adaptive`.
    scale : int or {"predicted", "searched"}
        Resize factor of the next picture in 1/4096, or how it is found; see `resized`.
    """

    resizing: Resizing | None
    scale: int | str = WHOLE
    stride = 16  # pixels to a position of y, along each side
    SIZES: ClassVar[dict[str, dict[str, int]]] = {}  # size -> keyword arguments of the class
    quality: int | None = None
    lmbda: float | None = None
    digest: str | None = None
    loaded: str | None = None

    def __init__(
        self,
        g_a: nn.Module,
        g_s: nn.Module,
        hyperprior: Hyperprior | None,
        entropy: EntropyModel | FactorizedEntropy,
        name: str,
        size: str,
    ):
        super().__init__()
        self.g_a, self.g_s, self.hyperprior, self.entropy = g_a, g_s, hyperprior, entropy
        self.register_module("resizing", None)
        self.name, self.size = name, size
        self.own = self.combination

    @property
    def downsampling_factor(self) -> int:
        """Multiple to which CompressAI's tools pad an image; any size will do."""
        return self.stride

    # ------------------------------------------------------------------ picture <-> latent

    def geometry(self, height: int, width: int, scale: int = WHOLE) -> Geometry:
        """How a picture of this size lies on the latent.

        Raises
        ------
        ValueError
            For a scale other than `WHOLE`, if the codec can't resize, or for one out of range.
        """
        if scale != WHOLE and self.resizing is None:
            raise ValueError(f"{self.name} can't resize a picture, here to {scale / WHOLE:.3f} of its size")
        if scale < LEAST * WHOLE:
            raise ValueError(f"a picture is coded at {LEAST} of its size at least, not at {scale / WHOLE:.3f}")
        return Geometry(height, width, self.stride, scale)

    def analyse(self, x: Tensor) -> tuple[Tensor, Geometry]:
        """y (B, M, h, w) of images (B, 3, H, W) in [0, 1] of any size, and how it lies on them.

        The last row and column of the image are repeated to fill the last positions. Images that are coded smaller are
        filtered and resampled first.

        Raises
        ------
        ValueError
            For images of another shape, several that want resize factors of their own, or a codec that has to search
            for the factor without a lambda to weigh losses with.
        """
        x = self._checked(x)
        geometry = self.geometry(x.shape[2], x.shape[3], self._scale_of(x))
        if geometry.scale != WHOLE and self.resizing is not None:
            x = resample(self.resizing.before(x), geometry.coded)
        return self.g_a(pad(x, geometry.covered)), geometry

    def synthesise(self, y_hat: Tensor, geometry: Geometry) -> Tensor:
        """x_hat (B, 3, H, W) from y_hat (B, M, h, w), not clipped."""
        height, width = geometry.coded
        x_hat: Tensor = self.g_s(y_hat)[:, :, :height, :width]
        if geometry.scale != WHOLE and self.resizing is not None:
            x_hat = self.resizing.after(resample(x_hat, (geometry.height, geometry.width)))
        return x_hat

    def _scale_of(self, x: Tensor) -> int:
        """The resize factor of images (B, 3, H, W), in 1/4096."""
        if self.resizing is None or isinstance(self.scale, int):
            return WHOLE if isinstance(self.scale, str) else self.scale
        with undisturbed(self):
            if self.scale == "predicted":
                found = [steps(float(s)) for s in self.resizing.network(x)]
            else:
                found = [min(GRID, key=partial(self.loss, image)) for image in x.split(1)]
        if len(set(found)) > 1:
            raise ValueError(
                f"these images want resize factors of their own, {', '.join(f'{s / WHOLE:.2f}' for s in found)}: give "
                "one image at a time, or all the same factor with codec.resized(s)"
            )
        return found[0]

    def loss(self, x: Tensor, scale: int = WHOLE) -> float:
        """lambda 255^2 MSE + bpp of images (B, 3, H, W) coded at a scale in 1/4096, estimated.

        Raises
        ------
        ValueError
            When the codec has no `lmbda`.
        """
        if self.lmbda is None:
            raise ValueError(f"{self.name} has no lambda to weigh distortion with: set codec.lmbda, for example 0.0067")
        with undisturbed(self):
            out = self.resized(scale / WHOLE)(x)
        bits = -sum(float(p.double().log2().sum()) for p in out["likelihoods"].values())
        mse = float((out["x_hat"].clamp(0, 1) - x).double().square().mean())
        return self.lmbda * 255**2 * mse + bits / (len(x) * x.shape[2] * x.shape[3])

    @kept()
    def picture(self, y_hat: Tensor, geometry: Geometry) -> Tensor:
        """x_hat (B, 3, H, W) in [0, 1] as a decoder shows it: in exact arithmetic, so the same everywhere."""
        with undisturbed(self), exact():
            x_hat = self.synthesise(y_hat.double(), geometry)
        return x_hat.clamp(0, 1).float()

    # ------------------------------------------------------------------ CompressAI's interface

    @uncast()
    def forward(self, x: Tensor) -> dict[str, Any]:
        """Estimate for images (B, 3, H, W) in [0, 1], of any size. Inside of autocast it is what it is outside.

        Returns
        -------
        dict
            ``x_hat`` (B, 3, H, W), not clipped, and ``likelihoods`` with ``y`` (B, M, h, w) and ``z``.
        """
        y, geometry = self.analyse(x)
        side = self.side(tap("y", y))
        coded = self.entropy(y, side.hyper)
        tap("y_hat", coded.y_hat)
        likelihoods = {"y": coded.likelihoods}
        if side.likelihoods is not None:
            likelihoods["z"] = side.likelihoods
        return {"x_hat": self.synthesise(coded.y_hat, geometry), "likelihoods": likelihoods}

    def side(self, y: Tensor) -> Side:
        """What the hyperprior tells about `y` (B, M, h, w), estimated; no channels without a hyperprior."""
        side: Side = Side(y[:, :0]) if self.hyperprior is None else self.hyperprior(y)
        return side

    @kept()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Code images: ``strings`` [y strings, z strings], one of each per image, and ``shape``, height and width.

        CompressAI's models give the shape of z, from which a picture's size can't be told. Of images that the codec has
        resized, each by a factor of its own, a last list of strings has the factors.

        Raises
        ------
        RuntimeError
            When the coder's tables are missing, because `update` has not run.
        """
        coded = [self.encode(image) for image in self._checked(x).split(1)]
        strings = [list(of_kind) for of_kind in zip(*(c.strings for c in coded), strict=True)]
        if any(c.geometry.scale != WHOLE for c in coded):
            strings.append([c.geometry.scale.to_bytes(2, "little") for c in coded])
        return {"strings": strings, "shape": (x.shape[2], x.shape[3])}

    @kept()
    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """``x_hat`` (B, 3, H, W) in [0, 1] from what `compress` returned.

        Raises
        ------
        RuntimeError
            When the coder's tables are missing, because `update` has not run.
        """
        self._check_updated()
        pictures = []
        for of_image in zip(*strings, strict=True):
            scale = WHOLE
            if len(of_image) > self.kinds:
                if len(of_image[self.kinds]) != 2:
                    raise ValueError(f"a resize factor has 2 bytes, not {len(of_image[self.kinds])}")
                scale = int.from_bytes(of_image[self.kinds], "little")
            geometry = self.geometry(*shape, scale)
            pictures.append(self.picture(self.decode(of_image, geometry), geometry))
        return {"x_hat": torch.cat(pictures)}

    # ------------------------------------------------------------------ one image

    @property
    def kinds(self) -> int:
        """Strings of an image: of y, and of z if there is a hyperprior."""
        return 1 if self.hyperprior is None else 2

    @kept()
    def encode(self, x: Tensor) -> CodedImage:
        """Code one image (1, 3, H, W).

        Everything that a decoder repeats is computed in exact arithmetic, so that it decodes the same symbols on any
        machine (see `lic_lab.layers.exact`). What only the encoder does, g_a and h_a, is not.

        Raises
        ------
        RuntimeError
            When the coder's tables are missing, because `update` has not run.
        ValueError
            For images of the wrong shape, and when the image or the weights are not finite.
        """
        self._check_updated()
        with undisturbed(self):
            return self._encode(x)

    def _encode(self, x: Tensor) -> CodedImage:
        y, geometry = self.analyse(x)
        if not y.isfinite().all():
            raise ValueError(
                f"{self.name} makes numbers that are not finite of this image: it, or the weights, are not"
            )
        if self.hyperprior is None:
            strings, y_hat = self.entropy.compress(y, y[:, :0])
            return CodedImage((strings[0],), geometry, y_hat)
        z_strings = self.hyperprior.compress(y)
        hyper = self.hyperprior.decompress(z_strings, geometry.latent)
        y_strings, y_hat = self.entropy.compress(y, hyper)
        return CodedImage((y_strings[0], z_strings[0]), geometry, y_hat)

    @kept()
    def decode(self, strings: Sequence[bytes], geometry: Geometry) -> Tensor:
        """The refined latent y_hat (1, M, h, w), bit by bit the encoder's, from the strings of one image."""
        self._check_updated()
        with undisturbed(self):
            if self.hyperprior is None:
                weight = next(self.parameters())
                return self.entropy.decompress([strings[0]], weight.new_empty(1, 0, *geometry.latent))
            hyper = self.hyperprior.decompress([strings[1]], geometry.latent)
            return self.entropy.decompress([strings[0]], hyper)

    # ------------------------------------------------------------------ making and swapping

    @classmethod
    def build(cls, size: str) -> Codec:
        """One of the class's `SIZES`, with random weights."""
        make: Callable[..., Codec] = cls
        return make(**cls.SIZES[size])

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> Codec:
        """The codec whose size fits `state_dict`, with these weights.

        Parameters
        ----------
        state_dict : mapping
            As `state_dict` gives it, or as `lic_lab.codecs.states.plain` takes it. Where torch's metadata has survived,
            as it does in torch.save, the codec also has its name, components, rate point and digest again.

        Raises
        ------
        WeightsError
            When they are not weights of this class; the message says what is missing or unknown.
        """
        state = plain(state_dict)
        try:
            codec = cls._shaped(state)
        except KeyError as error:
            raise WeightsError(
                f"these are no weights of {cls.__name__}: they have no {error.args[0]}{_whose(state)}"
            ) from None
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"these are no weights of {cls.__name__}: it can't be built in their shapes ({error}){_whose(state)}"
            ) from None
        if words := difference(codec.state_dict(), state, [key for key, _ in codec._tables()]):
            raise WeightsError(f"these are no weights of {cls.__name__}: {words}{_whose(state)}")
        codec.load_state_dict(state)
        said = codec_said(state)
        return codec if said is None else codec._as_saved(said, cls)

    @classmethod
    def _shaped(cls, state: Mapping[str, Tensor]) -> Codec:
        """A codec for weights of these shapes."""
        make: Callable[..., Codec] = cls
        codec = make(**cls.dimensions(dict(state)))
        return adaptive(codec) if codec.resizing is None and "resizing.network.start" in state else codec

    def _as_saved(self, said: Mapping[str, Any], asked: type[Codec]) -> Codec:
        """The codec that a state dict says it is of, unless another published system was asked for by its class."""
        codec = self
        if said["name"] == self.name or type(self) is asked:
            codec = self.swap(**said["own"]).called(said["name"]).swap(**said["combination"])
        codec.quality, codec.lmbda, codec.digest, codec.loaded = (said[key] for key in RATE_POINT)
        return codec

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's. Its metadata, which torch.save keeps, says what codec it is of."""
        state = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        said = {"name": self.name, "own": self.own, "combination": self.combination}
        said |= {key: getattr(self, key) for key in RATE_POINT}
        getattr(state, "_metadata", {}).setdefault(prefix[:-1], {})["codec"] = said
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """As CompressAI's, of whatever `lic_lab.codecs.states.plain` takes; the coder's tables come in any length.

        Raises
        ------
        RuntimeError
            torch's, when weights are missing, unknown or of another shape.
        """
        state = plain(state_dict)
        for key, table in self._tables():
            if key not in state and any(name.startswith(key.rpartition(".")[0]) for name in state):
                state[key] = table.new_empty(0)  # CompressAI wants one; `update` has to run, as of new weights
            if key in state and state[key].shape != table.shape:
                table.resize_(state[key].shape)
        return super().load_state_dict(state, strict=strict)

    def _tables(self) -> Iterator[tuple[str, Tensor]]:
        """The coder's tables of the entropy bottlenecks."""
        for name, module in self.named_modules():
            if isinstance(module, EntropyBottleneck):
                for table in ("_offset", "_quantized_cdf", "_cdf_length"):
                    yield f"{name}.{table}", getattr(module, table)

    def fingerprint(self) -> str:
        """SHA-256 of the weights as they are now, and of what they are the weights of. It takes 1 ms per MB.

        Numbers are looked at, since torch's count of changes misses some: a fused optimizer's step, `.data`, NumPy's.
        """
        found = hashlib.sha256()
        for name, module in self.named_modules():
            found.update(f"{name} {type(module).__qualname__}\n".encode())
        for name, value in self.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        """Keyword arguments of the class that make a codec for these weights."""
        return {}

    @classmethod
    def size_name(cls, **dimensions: int) -> str:
        """The size with these dimensions, or "custom"."""
        return next((name for name, size in cls.SIZES.items() if size == dimensions), "custom")

    @property
    def combination(self) -> dict[str, str]:
        """The components in use, by slot."""
        return dict(self.entropy.selection)

    @property
    def swapped(self) -> tuple[tuple[str, str], ...]:
        """The components that are not the codec's own: what a stream's header has to say."""
        return tuple((part, name) for part, name in self.combination.items() if self.own.get(part) != name)

    def swap(self, /, **choice: str) -> Self:
        """The same codec with other components: ``codec.swap(local="attention")``. Weights are shared, not copied.

        Raises
        ------
        ValueError
            For a component the codec does not have, or has no weights for.
        """
        other = copy.copy(self)
        if choice:
            if not isinstance(self.entropy, EntropyModel):
                raise ValueError(f"{self.name} has no components to swap: its entropy model looks at nothing")
            other._modules = {**self._modules, "entropy": self.entropy.select(**choice)}
        return other

    def resized(self, to: float | str) -> Self:
        """The same codec for pictures that are coded at another size. Weights are shared, not copied.

        Parameters
        ----------
        to : float or {"predicted", "searched"}
            Resize factor, 1/4 to 1. Or how each picture's is found: by the network, in one go; or by coding it at every
            sixteenth and keeping the one with the least loss, which takes thirteen times as long. A decoder is told.

        Raises
        ------
        ValueError
            For a codec without the parts to resize, a factor out of range, or an unknown way.
        """
        if self.resizing is None and to != 1:
            raise ValueError(
                f"{self.name} can't resize pictures: use aict, or make one that can with lic_lab.codecs.codec.adaptive"
            )
        if isinstance(to, str):
            if to not in ("predicted", "searched"):
                raise ValueError(f"resize factor is {to!r}; give a number, predicted or searched")
        elif isinstance(to, bool) or not isinstance(to, Real | Tensor) or not LEAST <= float(to) <= 1:
            raise ValueError(f"resize factor is {to}; it must be {LEAST} to 1")
        other = copy.copy(self)
        other.scale = to if isinstance(to, str) else round(float(to) * WHOLE)
        return other

    def called(self, name: str) -> Self:
        """The same codec under the name of a published system, whose own components are those in use now."""
        other = copy.copy(self)
        other.name, other.own = name, self.combination
        return other

    def _check_updated(self) -> None:
        if any(m.offset.numel() == 0 for m in self.modules() if isinstance(m, EntropyBottleneck)):
            raise RuntimeError(
                f"{self.name} can't code yet: its tables are missing. Call codec.update() once, after training or "
                "loading weights and before compress or decompress"
            )

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(x.shape)}; give (B, 3, H, W) in [0, 1]")
        if not x.numel():
            raise ValueError(f"images have shape {tuple(x.shape)}, which holds no pixel; give (B, 3, H, W) in [0, 1]")
        weight = next(self.g_a.parameters(), x)
        if weight.element_size() < 4:
            raise ValueError(
                f"{self.name} has weights in {str(weight.dtype)[6:]}, too coarse for probabilities: call codec.float() "
                "or lab.load for weights that were never rounded"
            )
        if not x.is_floating_point():
            raise ValueError(f"images are {str(x.dtype)[6:]}; give floats in [0, 1]")
        x = x.to(weight.device, weight.dtype)
        return x.contiguous()  # channels-last input corrupts the heap inside torch 2.15's CPU convolutions


def _whose(state: Mapping[str, Tensor]) -> str:
    """What else the weights may be of, to end an error with."""
    if any(key.startswith(("entropy_bottleneck.", "gaussian_conditional.")) for key in state):
        return ". They have the names of a CompressAI model: load them with its class, and give that to lab.trace"
    return f". They begin with {next(iter(state))}" if state else ""


@dataclass(frozen=True)
class CodedImage:
    """One image as coded.

    Attributes
    ----------
    strings : tuple of bytes
        Of y and, with a hyperprior, of z.
    geometry : Geometry
    y_hat : Tensor
        (1, M, h, w), refined: what the decoder will have.
    """

    strings: tuple[bytes, ...]
    geometry: Geometry
    y_hat: Tensor


__all__ = ["Coded", "CodedImage", "Codec", "Side", "undisturbed", "unwrapped"]

"""Trace: everything one run of a codec saw, by name.

    trace = lab.trace(codec, "photo.png")
    trace.bpp["total"], trace.psnr, trace.bits.sum(0)       # bits per latent position
    trace.attention("intra", slice=2, position=(10, 12))

A trace comes from the same loop that codes. CompressAI's own image models are traced too, through hooks on their
entropy models.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from numpy.typing import NDArray
from torch import Tensor

from lic_lab.codecs.codec import Codec, Coded
from lic_lab.entropy.hyperprior import Side
from lic_lab.entropy.order import CodingOrder
from lic_lab.image import Picture, Source, crop, pad, read, to_uint8
from lic_lab.layers.masks import beyond_window, window_anchors
from lic_lab.layers.tap import record

Array = NDArray[Any]
KEPT_POSITIONS = 6144  # up to this many latent positions (1.5 megapixels) attention maps are kept by default


@dataclass
class Latent:
    """The transform's output for one image, computed once and shared by all entropy models on it.

    Attributes
    ----------
    picture : Picture
    y : Tensor
        (1, M, h, w).
    side : Side
        The hyperprior's features, and z's likelihoods.
    z_hat : Tensor or None
    seconds : dict
        ``g_a`` and ``hyper``.
    pictures : dict
        Reconstructions already made, by digest of y_hat.
    """

    picture: Picture
    box: tuple[int, int, int, int]
    y: Tensor
    side: Side
    z_hat: Tensor | None
    seconds: dict[str, float]
    pictures: dict[bytes, Tensor] = field(default_factory=dict)


@dataclass
class Attention:
    """Where one query looks.

    Attributes
    ----------
    weights : array
        (heads, h, w), NaN where the mask hides the latent or no key is.
    visible : array
        Boolean (h, w): the mask.
    position : (int, int)
        The query, row and column; it may be a neighbour of the position asked for.
    """

    weights: Array
    visible: Array
    position: tuple[int, int]


@dataclass
class References:
    """What the global reference found for each latent position; NaN and -1 where it found or asked nothing.

    Attributes
    ----------
    source : array
        (h, w, 2), row and column of the reference.
    similarity, confidence : array
        S and U, (h, w).
    """

    source: Array
    similarity: Array
    confidence: Array


@dataclass
class Stage:
    """What a progressive entropy model predicted with some of its features; arrays (M, h, w).

    Attributes
    ----------
    name : str
        ``"local"``, ``"+ reference"``, ``"+ hyperprior"``.
    mu, sigma, bits : array
        Distribution, and what the symbols would cost under it.
    """

    name: str
    mu: Array
    sigma: Array
    bits: Array


STAGES = ("local", "+ reference", "+ hyperprior")


@dataclass
class Trace:
    """What one run saw. Arrays are (M, h, w) unless said otherwise; h and w count latent positions.

    Attributes
    ----------
    codec, quality, combination
        What ran.
    x, x_hat : array
        Image and reconstruction, uint8 (H, W, 3); `x_hat` is None when only bits were asked for.
    symbols, y_hat, mu, sigma, bits : array
        Symbols as coded, their refined values (the input of g_s), distribution and cost in bits.
    z_bits : array
        (N, h/4, w/4), empty for a codec without hyperprior.
    step : array
        Index of the step that coded each symbol.
    slices : tuple of int
        Channels of each slice.
    order : str
        Name of the coding order.
    parts : dict
        Boolean (h, w) for each part of the spatial pattern.
    seconds : dict
        ``g_a``, ``hyper``, ``entropy``, ``g_s``.
    patched : bool
        Whether global attention ran in patches.
    records : list
        Kept taps: (name, where, array).
    stages : list of Stage
        Of a progressive entropy model, from the first to the one that codes; empty for others.
    """

    codec: str
    quality: int | None
    combination: dict[str, str]
    picture: Picture
    x: Array
    x_hat: Array | None
    symbols: Array
    y_hat: Array
    mu: Array
    sigma: Array
    bits: Array
    z_bits: Array
    step: Array
    slices: tuple[int, ...]
    order: str
    parts: dict[str, Array]
    seconds: dict[str, float]
    patched: bool = False
    records: list[tuple[str, dict[str, Any], Array]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """Pixels of the image, without padding."""
        return int(self.x.shape[0] * self.x.shape[1])

    @property
    def bpp(self) -> dict[str, float]:
        """Bits per pixel: ``total``, ``z``, ``y``, each part (``anchor``, ``nonanchor``, ...), each ``slice i``."""
        out = {"z": float(self.z_bits.sum()), "y": float(self.bits.sum())}
        out = {"total": out["z"] + out["y"], **out}
        per_position = self.bits.sum(0)
        for part, mask in self.parts.items():
            out[part] = float(per_position[mask].sum())
        for i in range(len(self.slices)):
            out[f"slice {i}"] = float(self.bits[self.channels(i)].sum())
        return {name: bits / self.pixels for name, bits in out.items()}

    @property
    def psnr(self) -> float:
        """PSNR of the 8-bit reconstruction in dB (NaN without a reconstruction)."""
        if self.x_hat is None:
            return float("nan")
        mse = float(np.mean((self.x.astype(np.float64) - self.x_hat) ** 2))
        return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))

    @property
    def bit_map(self) -> Array:
        """Bits of y per latent position (h, w)."""
        found: Array = self.bits.sum(0)
        return found

    @property
    def normalised(self) -> Array:
        """(symbols - mu) / sigma: what is left for a context to find (AICT, Fig. 10)."""
        found: Array = (self.symbols - self.mu) / self.sigma
        return found

    def channels(self, i: int) -> slice:
        """Channels of slice `i`."""
        start = sum(self.slices[:i])
        return slice(start, start + self.slices[i])

    @property
    def attentions(self) -> dict[str, list[int]]:
        """Components that left an attention map, each with its slices."""
        found: dict[str, list[int]] = {}
        for name, where, _ in self.records:
            component, _, kind = name.rpartition(".")
            if kind in ("attention", "found"):
                slices = found.setdefault(component, [])
                if where.get("slice", 0) not in slices:
                    slices.append(where.get("slice", 0))
        return found

    def references(self, slice: int = 0) -> References:
        """What the global reference found for the symbols of `slice`.

        Raises
        ------
        ValueError
            When no reference was on, or it left nothing for this slice.
        """
        found = [(r, a) for n, r, a in self.records if n == "reference.found"]
        have = sorted({r.get("slice", 0) for r, _ in found})
        if slice not in have:
            raise ValueError(
                f"this trace has no references of slice {slice}; it has those of {have or 'none'}. They come with the "
                "codec global-reference, or with global_='reference' on the shared latent"
            )
        where, values = next((r, a) for r, a in found if r.get("slice", 0) == slice)
        h, w = self.bits.shape[1:]
        out = np.full((3, h * w), np.nan)
        out[:, where["positions"]] = np.where(values[1] > 0, values, np.nan)
        source = np.where(np.isnan(out[0]), -1, out[0]).astype(int)
        rows_columns = np.where(source[:, None] < 0, -1, np.stack((source // w, source % w), 1))
        return References(rows_columns.reshape(h, w, 2), out[1].reshape(h, w), out[2].reshape(h, w))

    def attention(self, component: str, slice: int, position: tuple[int, int]) -> Attention:
        """Where `component` looks for the symbol of `slice` at `position` (row, column).

        For the local component the weights are the mean over the window's anchors as queries: the convolution that
        follows fuses them all into the centre. The global reference looks at one position, with weight S U. A position
        that asks nothing is replaced by the nearest one that does.

        Raises
        ------
        ValueError
            For a component or slice without a map, or a position outside the latent.
        """
        have = self.attentions
        if component not in have or slice not in have[component]:
            raise ValueError(f"no attention map of {component!r} for slice {slice}; this trace has {have or 'none'}")
        h, w = self.bits.shape[1:]
        if not (0 <= position[0] < h and 0 <= position[1] < w):
            raise ValueError(f"position is {position}; rows are 0 to {h - 1}, columns 0 to {w - 1}")
        if component == "reference":
            return self._reference_attention(slice, position)
        records = [(r, a) for n, r, a in self.records if n == f"{component}.attention" and r["slice"] == slice]
        if component == "local":
            return _window_attention(*records[0], position, h, w)
        for where, weights in records:
            (top, bottom), (left, right) = where["rows"], where["columns"]
            if top <= position[0] < bottom and left <= position[1] < right:
                return _global_attention(component, where, weights, position, h, w)
        raise AssertionError("patches cover the latent")

    def _reference_attention(self, slice: int, position: tuple[int, int]) -> Attention:
        """The whole past is visible to the search; all weight is on the position found."""
        found, w = self.references(slice), self.bits.shape[2]
        has = (found.source[..., 0] >= 0).flatten().nonzero()[0]
        if not len(has):
            raise ValueError("no position has a reference: the latent is too small, or nothing in it is alike")
        i, j = divmod(int(has[_nearest(has, position, w)]), w)
        step = self.step[self.channels(slice).start]
        visible = step < step[i, j]
        weights = np.where(visible, 0.0, np.nan)
        weights[tuple(found.source[i, j])] = found.similarity[i, j] * found.confidence[i, j]
        return Attention(weights[None], visible, (i, j))


def latent(codec: Codec, image: Source | Picture) -> Latent:
    """Run g_a and the hyperprior on an image: the part of a trace that no entropy model changes."""
    picture = image if isinstance(image, Picture) else read(image)
    x, box = pad(picture.x, codec.stride)
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        start = time.perf_counter()
        y = codec.g_a(x)
        middle = time.perf_counter()
        with record(lambda name, value, where: seen.update({name: value})):
            side = codec.side(y)
        end = time.perf_counter()
    return Latent(picture, box, y, side, seen.get("z"), {"g_a": middle - start, "hyper": end - middle})


def trace(
    codec: CompressionModel,
    image: Source | Picture | Latent,
    reconstruct: bool = True,
    keep: Callable[[str], bool] | None = None,
) -> Trace:
    """Run `codec` on an image and keep everything it saw.

    Parameters
    ----------
    codec : Codec or CompressionModel
        One of ours, or an image model of CompressAI (from its zoo or with your own weights).
    image : path, PIL image, array, tensor, Picture or Latent
        Any size: it is padded for the codec and cropped back. A `Latent` (ours only) skips the transform.
    reconstruct : bool
        False for the bits alone, which is several times faster.
    keep : callable, optional
        Which taps to keep, by name. By default all for latents of up to 6144 positions, else none.

    Raises
    ------
    ImageError
        When the image can't be used.
    TypeError
        When `codec` is no compression model.
    """
    if isinstance(codec, Codec):
        found = image if isinstance(image, Latent) else latent(codec, image)
        return _trace(codec, found, reconstruct, keep)
    if isinstance(codec, CompressionModel):
        if isinstance(image, Latent):
            raise TypeError("a Latent belongs to a lic_lab codec; give CompressAI's models an image")
        return _trace_compressai(codec, image if isinstance(image, Picture) else read(image))
    raise TypeError(f"codec is a {type(codec).__name__}; give a codec from lab.load, lab.create or a CompressAI model")


def reconstruct(codec: Codec, found: Latent, run: Trace) -> Trace:
    """`run` with its picture: the same trace, of which the numbers could be shown before g_s had run."""
    seconds = dict(run.seconds)
    with torch.no_grad():
        x_hat = _reconstruct(codec, found, torch.from_numpy(run.y_hat)[None], seconds)
    return replace(run, x_hat=x_hat, seconds=seconds)


def _trace(codec: Codec, found: Latent, reconstruct: bool, keep: Callable[[str], bool] | None) -> Trace:
    h, w = found.y.shape[2:]
    if keep is None:
        small = h * w <= KEPT_POSITIONS
        keep = lambda name: small  # noqa: E731
    maps: dict[str, Array] = {}
    records = []
    stages: dict[int, dict[str, Tensor]] = {}

    def recorder(name: str, value: Tensor, where: dict[str, Any]) -> None:
        if name in ("mu", "sigma", "symbols"):
            maps[name] = value[0].numpy()
        elif name.startswith("stage."):
            stages.setdefault(where["stage"], {})[name.removeprefix("stage.")] = value.unflatten(2, (h, w))
        elif keep(name):
            where = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in where.items()}
            records.append((name, where, value[0].numpy()))

    training = codec.training
    codec.eval()
    try:
        with torch.no_grad(), record(recorder):
            start = time.perf_counter()
            coded = codec.entropy(found.y, found.side.hyper)
            entropy_seconds = time.perf_counter() - start
            seconds = {**found.seconds, "entropy": entropy_seconds}
            x_hat = _reconstruct(codec, found, coded.y_hat, seconds) if reconstruct else None
    finally:
        codec.train(training)
    order: CodingOrder = codec.entropy.order
    z = found.side.likelihoods
    patched = any(context.patched(h, w) for context in codec.entropy.active().values() if hasattr(context, "patched"))
    return Trace(
        codec=codec.name,
        quality=getattr(codec, "quality", None),
        combination=dict(getattr(codec, "combination", codec.entropy.selection)),
        picture=found.picture,
        x=to_uint8(found.picture.x),
        x_hat=x_hat,
        symbols=maps["symbols"],
        y_hat=coded.y_hat[0].numpy(),
        mu=maps["mu"],
        sigma=maps["sigma"],
        bits=-np.log2(coded.likelihoods[0].double().numpy()),
        z_bits=np.zeros((0, 0, 0)) if z is None else -np.log2(z[0].double().numpy()),
        step=order.step_map(h, w).numpy(),
        slices=order.slices,
        order=order.name,
        parts=_parts(order, h, w),
        seconds=seconds,
        patched=patched,
        records=records,
        stages=_stages(codec, stages, coded, maps),
    )


def _stages(codec: Codec, found: dict[int, dict[str, Tensor]], coded: Coded, maps: dict[str, Array]) -> list[Stage]:
    """The stages before the last, from their taps, and the last."""
    if not found:
        return []
    gaussian, symbols = codec.entropy.gaussian, torch.from_numpy(maps["symbols"])[None]
    out = []
    for _, of in sorted(found.items()):
        mu, sigma = gaussian.moments(**of)
        p = gaussian.bits_likelihood(symbols, symbols, **of)
        out.append((mu[0].numpy(), sigma[0].numpy(), p[0]))
    out.append((maps["mu"], maps["sigma"], coded.likelihoods[0]))
    return [Stage(n, mu, sigma, -np.log2(p.double().numpy())) for n, (mu, sigma, p) in zip(STAGES, out, strict=True)]


def _parts(order: CodingOrder, h: int, w: int) -> dict[str, Array]:
    """Boolean (h, w) of each part; a raster is one part, however many wavefronts code it."""
    masks: dict[str, Array] = {}
    for step in order.steps(h, w):
        mask = np.ones((h, w), bool) if step.mask is None else step.mask.numpy()
        masks[step.part] = masks.get(step.part, np.zeros((h, w), bool)) | mask
    return masks


def _reconstruct(codec: Codec, found: Latent, y_hat: Tensor, seconds: dict[str, float]) -> Array:
    key = hashlib.blake2b(y_hat.numpy().tobytes(), digest_size=16).digest()
    start = time.perf_counter()
    if key not in found.pictures:
        found.pictures[key] = crop(codec.g_s(y_hat), found.box)
    seconds["g_s"] = time.perf_counter() - start
    return to_uint8(found.pictures[key])


def _trace_compressai(model: CompressionModel, picture: Picture) -> Trace:
    """Trace a CompressAI model: its conditional's inputs and outputs, caught by forward hooks."""
    conditionals = [m for m in model.modules() if isinstance(m, GaussianConditional)]
    bottlenecks = [m for m in model.modules() if isinstance(m, EntropyBottleneck)]
    if len(conditionals) > 1 or len(bottlenecks) != 1:
        raise TypeError(
            f"{type(model).__name__} has {len(conditionals)} Gaussian conditionals and {len(bottlenecks)} bottlenecks; "
            "traced are CompressAI's factorized, hyperprior, mean-scale, joint autoregressive and Cheng 2020 models"
        )
    caught: dict[str, Any] = {}

    def on_gaussian(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: tuple[Tensor, Tensor]) -> None:
        bound = dict(zip(("inputs", "scales", "means"), args, strict=False)) | kwargs
        caught.update(sigma=bound["scales"], mu=bound.get("means"), y_hat=out[0], p=out[1])

    def on_bottleneck(module: Any, args: tuple[Any, ...], out: tuple[Tensor, Tensor]) -> None:
        caught.update(z_hat=out[0], z_p=out[1])

    x, box = pad(picture.x)
    training = model.training
    model.eval()
    hooks = [c.register_forward_hook(on_gaussian, with_kwargs=True) for c in conditionals]
    hooks.append(bottlenecks[0].register_forward_hook(on_bottleneck))
    try:
        with torch.no_grad():
            start = time.perf_counter()
            out = model(x)
            seconds = time.perf_counter() - start
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    if not conditionals:  # factorized: y itself goes through the bottleneck
        nothing = torch.zeros_like(caught["z_hat"])
        caught.update(y_hat=caught["z_hat"], p=caught["z_p"], mu=nothing, sigma=nothing + 1, z_p=nothing[:, :0])
    mu = caught["mu"] if caught["mu"] is not None else torch.zeros_like(caught["sigma"])
    M, h, w = caught["y_hat"].shape[1:]
    raster = hasattr(model, "context_prediction")
    order = CodingOrder((M,), pattern="wavefront" if raster else "whole")
    return Trace(
        codec=type(model).__name__,
        quality=None,
        combination={},
        picture=picture,
        x=to_uint8(picture.x),
        x_hat=to_uint8(crop(out["x_hat"], box)),
        symbols=caught["y_hat"][0].numpy(),
        y_hat=caught["y_hat"][0].numpy(),
        mu=mu[0].numpy(),
        sigma=caught["sigma"][0].clamp(min=0.11).numpy(),
        bits=-np.log2(caught["p"][0].double().numpy()),
        z_bits=-np.log2(caught["z_p"][0].double().numpy()),
        step=order.step_map(h, w).numpy(),
        slices=order.slices,
        order=order.name,
        parts=_parts(order, h, w),
        seconds={"total": seconds},
    )


def _nearest(candidates: Array, position: tuple[int, int], w: int) -> int:
    """Index of the flat position nearest to `position`."""
    distance = np.abs(candidates // w - position[0]) + np.abs(candidates % w - position[1])
    return int(distance.argmin())


def _window_attention(where: dict[str, Any], weights: Array, position: tuple[int, int], h: int, w: int) -> Attention:
    """`weights` (n, heads, A, A) of windows centred on the step's positions."""
    n = _nearest(where["positions"], position, w)
    i, j = divmod(int(where["positions"][n]), w)
    cells = _window_cells(weights.shape[-1])
    kernel = int(round((2 * weights.shape[-1] + 1) ** 0.5))
    rows, columns = i + cells // kernel - kernel // 2, j + cells % kernel - kernel // 2
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    out = np.full((weights.shape[1], h, w), np.nan)
    out[:, rows[inside], columns[inside]] = weights[n][:, inside][:, :, inside].mean(1)
    return Attention(out, ~np.isnan(out[0]), (i, j))


def _window_cells(count: int) -> Array:
    """Anchor cells of the window that has `count` of them: a K x K window has (K^2 - 1) / 2."""
    kernel = int(round((2 * count + 1) ** 0.5))
    return window_anchors(kernel).nonzero().squeeze(1).numpy()


def _global_attention(
    component: str, where: dict[str, Any], weights: Array, position: tuple[int, int], h: int, w: int
) -> Attention:
    """`weights` (heads, queries, keys) within the patch at `where`."""
    (top, bottom), (left, right) = where["rows"], where["columns"]
    width = right - left
    q = _nearest(where["queries"], (position[0] - top, position[1] - left), width)
    i, j = divmod(int(where["queries"][q]), width)
    visible = np.ones(len(where["keys"]), bool)
    if component == "intra":
        visible = beyond_window(bottom - top, width, where["kernel"])[where["queries"][q], where["keys"]].numpy()
    out = np.full((weights.shape[0], h, w), np.nan)
    keys = where["keys"][visible]
    out[:, top + keys // width, left + keys % width] = weights[:, q, visible]
    return Attention(out, ~np.isnan(out[0]), (top + i, left + j))

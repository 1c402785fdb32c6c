"""Traces of models that aren't ours: their own likelihoods, and what the calls of their entropy models tell of them.

The bits of a trace are those of the `likelihoods` that the model's `forward` returns, whatever made them. Where they
can be followed to calls of CompressAI's entropy models (`tracing.calls`), symbols, distributions and the order are the
calls'; where not, they are None, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianMixtureConditional
from compressai.latent_codecs import RasterScanLatentCodec
from compressai.models import JointAutoregressiveHierarchicalPriors, ScaleHyperpriorVbr
from torch import Tensor, nn

from lic_lab.codecs.geometry import Geometry
from lic_lab.entropy.factorized import coded_moments
from lic_lab.entropy.gaussian import likelihood, rounded_moments
from lic_lab.image import Picture, pad, to_uint8
from lic_lab.tracing.calls import Call, Numbers, Seen, follow, watched
from lic_lab.tracing.guard import guarded, reseed
from lic_lab.tracing.orders import UNKNOWN, Order, named, unknown
from lic_lab.tracing.result import FACTORIZED, Array, Trace, bits_of
from lic_lab.tracing.taps import array

MULTIPLE = 64  # pixels a side, for a model without `downsampling_factor`; CompressAI's hyperpriors need it
LARGEST = 16.0  # of an x_hat that is a picture in [0, 1], however badly a model is trained
MAPS = ("symbols", "mu", "sigma", "coded_mean", "coded_deviation")
NOT_FOLLOWED = (
    "its likelihoods can't be followed to calls of CompressAI's entropy models, so of its structure only bits are known"
)


def trace_foreign(model: nn.Module, picture: Picture) -> Trace:
    """The run of a model on a picture; see `trace`.

    The picture is padded to multiples of the model's `downsampling_factor`, by repeating its last row and column.

    Raises
    ------
    TypeError
        For a model that does not run on such a picture alone, or whose likelihoods aren't of a latent that lies on it.
    """
    name = type(model).__name__
    multiple = int(getattr(model, "downsampling_factor", MULTIPLE))
    height, width = picture.x.shape[2:]
    x = pad(picture.x, (-(-height // multiple) * multiple, -(-width // multiple) * multiple))
    weight = next((p for p in model.parameters() if p.is_floating_point()), x)
    x = x.to(weight.device, weight.dtype)
    seconds: list[float] = []

    def run(numbers: Numbers | None) -> tuple[Any, Seen]:
        reseed(model)
        with watched(model, height, width, numbers) as seen:
            start = time.perf_counter()
            try:
                out = model(x)
            except MemoryError:
                raise
            except Exception as error:
                raise TypeError(
                    f"{name} does not run on a picture of {x.shape[3]} x {x.shape[2]} pixels alone, {width} x {height} "
                    f"padded to multiples of {multiple}: {type(error).__name__}, {error}. If it needs other multiples, "
                    "give it an attribute `downsampling_factor`; if more arguments, a `forward` that fills them in"
                ) from error
            seconds.append(time.perf_counter() - start)
        return out, seen

    with guarded(model):
        out, seen, sources = follow(run, lambda out: _likelihoods(name, out))
        likelihoods = _likelihoods(name, out)
        of_y = _names_of_y(name, likelihoods, sources, seen)
        y = torch.cat([likelihoods[key] for key in of_y], 1)[0]
        known = [source for key in of_y if (source := sources[key]) is not None]
        maps: dict[str, Array | None] = dict.fromkeys(MAPS)
        M, h, w = y.shape
        order, reasons = unknown(M, h, w), [NOT_FOLLOWED]
        if len(known) == len(of_y):
            source = torch.cat(known, 1)[0]
            order = named(_steps(seen.calls, source))
            maps, reasons = _maps(seen.calls, source)
    geometry = _geometry(name, height, width, multiple, (h, w))
    y_hat, why = _input_of_g_s(seen, (M, h, w))
    reasons += why
    x_hat, without = _reconstruction(out.get("x_hat"), height, width)
    return Trace(
        codec=name,
        quality=None,
        combination={},
        picture=picture,
        geometry=geometry,
        x=to_uint8(picture.x),
        x_hat=None if x_hat is None else to_uint8(x_hat),
        symbols=maps["symbols"],
        y_hat=y_hat,
        mu=maps["mu"],
        sigma=maps["sigma"],
        bits=bits_of(y),
        z_bits=_side(likelihoods, of_y, h, w),
        step=order.step,
        slices=order.slices,
        order=order.name,
        parts=order.parts,
        seconds={"total": seconds[0]},
        notes=tuple(_notes(model, seen, order, maps["symbols"], y_hat, without, reasons)),
        coded_mean=maps["coded_mean"],
        coded_deviation=maps["coded_deviation"],
        unknown="; ".join(reasons),
    )


# -- what the model returns --------------------------------------------------------------------------------------------


def _reconstruction(x_hat: Any, height: int, width: int) -> tuple[Tensor | None, str]:
    """The picture (1, 3, height, width) among what a model returned, or why there is none to be shown."""
    if not isinstance(x_hat, Tensor) or x_hat.dim() != 4 or x_hat.shape[:2] != (1, 3):
        return None, "it returned no x_hat of the picture's size"
    x_hat = x_hat[:, :, :height, :width]
    if x_hat.shape[2:] != (height, width):
        return None, "it returned no x_hat of the picture's size"
    if not x_hat.is_floating_point():
        return None, f"its x_hat is {str(x_hat.dtype).removeprefix('torch.')}, not floats in [0, 1]"
    if not bool(x_hat.isfinite().all()):
        return None, "its x_hat is not finite"
    if (most := float(x_hat.abs().max())) > LARGEST:
        return None, f"its x_hat reaches {most:.3g}, where [0, 1] is a picture"
    return x_hat.float(), ""


def _likelihoods(name: str, out: Any) -> dict[str, Tensor]:
    """The tensors among what the model returned as likelihoods, by name."""
    found = out.get("likelihoods") if isinstance(out, Mapping) else None
    flat = dict(_flat(found, ""))
    if not flat:
        raise TypeError(
            f"{name} returns no likelihoods; give a codec from lab.load or lab.create, or a model whose forward "
            "returns a dictionary with `likelihoods`, a dictionary of tensors, as CompressAI's do"
        )
    for key, of in flat.items():
        if not of.is_floating_point() or not bool(((of > 0) & (of <= 1.01)).all()):
            low, high = (float("nan"), float("nan")) if not of.numel() else (float(of.min()), float(of.max()))
            remedy = "CompressAI's entropy models bound them by 1e-9"
            if of.dtype == torch.float16:
                remedy += ", which is 0 in float16: call model.float()"
            raise TypeError(
                f"the likelihoods {key!r} of {name} are {of.dtype} from {low:.4g} to {high:.4g}; as probabilities of "
                f"what is coded they have to be floats above 0 and at most 1 ({remedy})"
            )
    return flat


def _flat(of: Any, name: str) -> list[tuple[str, Tensor]]:
    """Tensors in nested dictionaries and lists, with names such as "y.0"."""
    if isinstance(of, Tensor):
        return [(name or "y", of)]
    items = of.items() if isinstance(of, Mapping) else enumerate(of) if isinstance(of, list | tuple) else ()
    return [found for key, value in items for found in _flat(value, f"{name}.{key}" if name else str(key))]


def _names_of_y(name: str, likelihoods: dict[str, Tensor], sources: dict[str, Tensor | None], seen: Seen) -> list[str]:
    """Which likelihoods are y's, in the order of its channels: all others are side information.

    Those whose name begins with y, on the finest grid. If none does: of those on the finest grid the ones that come
    from conditionals; if that can't be told, or all do or none, those with the most channels.
    """
    grids = {key: of for key, of in likelihoods.items() if of.dim() == 4 and of.shape[0] == 1 and of.numel()}
    if not grids:
        shapes = ", ".join(f"{key} {tuple(of.shape)}" for key, of in likelihoods.items())
        raise TypeError(f"{name} returns likelihoods {shapes}; those of y have to be (1, channels, rows, columns)")
    if called := {key: of for key, of in grids.items() if key.lower().startswith("y")}:
        grids = called
    finest = max(of.shape[2] * of.shape[3] for of in grids.values())
    shape = next(of.shape[2:] for of in grids.values() if of.shape[2] * of.shape[3] == finest)
    grids = {key: of for key, of in grids.items() if of.shape[2:] == shape}
    if called:
        return list(grids)
    conditional = [key for key in grids if (source := sources[key]) is not None and _conditional(seen.calls, source)]
    if conditional:
        return conditional
    most = max(of.shape[1] for of in grids.values())
    return [key for key, of in grids.items() if of.shape[1] == most]


def _side(likelihoods: dict[str, Tensor], of_y: list[str], h: int, w: int) -> Array:
    """Bits of all likelihoods that aren't y's: `Trace.z_bits`."""
    others = [bits_of(of) for key, of in likelihoods.items() if key not in of_y]
    if not others:
        return np.zeros((0, h, w))
    if all(of.ndim == 4 and len(of) == 1 and of.shape[2:] == others[0].shape[2:] for of in others):
        return np.concatenate(others, 1)[0]
    return np.concatenate([of.ravel() for of in others])[:, None, None]


def _geometry(name: str, height: int, width: int, multiple: int, latent: tuple[int, int]) -> Geometry:
    """How y lies on the picture, told by the size that the model gave it."""
    covered = -(-height // multiple) * multiple
    stride = max(1, covered // latent[0])
    found = Geometry(height, width, stride, multiple=max(1, multiple // stride))
    if found.latent != latent:
        raise TypeError(
            f"y of {name} has {latent[0]} x {latent[1]} positions for {height} x {width} pixels, padded to multiples "
            f"of {multiple}; traced are models whose positions are squares of whole pixels"
        )
    return found


def _input_of_g_s(seen: Seen, shape: tuple[int, ...]) -> tuple[Array | None, list[str]]:
    """What the outermost module was given that made the picture from something on y's grid; else why there is none."""
    found = [of for of, _ in seen.images if of.shape[2:] == shape[1:]]
    if not found:
        return None, ["no module of it makes a picture from y_hat alone"]
    if found[-1].shape != (1, *shape):
        return None, [f"what makes its picture is given {found[-1].shape[1]} channels, and y has {shape[0]}"]
    return array(found[-1][0]), []


# -- what the calls tell -----------------------------------------------------------------------------------------------


def _starts(calls: list[Call]) -> Tensor:
    """The number of each call's first likelihood, and the number after the last."""
    return torch.tensor([0, *(call.likelihoods.numel() for call in calls)]).cumsum(0)


def _conditional(calls: list[Call], source: Tensor) -> bool:
    """Whether these likelihoods come from anything but bottlenecks."""
    which = torch.searchsorted(_starts(calls), source.cpu().flatten(), right=True) - 1
    return any(not hasattr(calls[i].module, "quantiles") for i in which.unique().tolist())


def _steps(calls: list[Call], source: Tensor) -> Array:
    """When each symbol is coded: by call, and within a call by part."""
    at = source.cpu().flatten()
    parts = torch.cat(
        [
            (call.likelihoods.new_zeros(()).long() if call.parts is None else call.parts)
            .cpu()
            .broadcast_to(call.likelihoods.shape)
            .flatten()
            for call in calls
        ]
    )
    which = torch.searchsorted(_starts(calls), at, right=True) - 1
    found: Array = (which * (int(parts.max()) + 1) + parts[at]).view(source.shape).numpy()
    return found


def _maps(calls: list[Call], source: Tensor) -> tuple[dict[str, Array | None], list[str]]:
    """`MAPS`, each None if one of the calls does not tell it, and why."""
    at = source.cpu().flatten()
    starts = _starts(calls)
    used = (torch.searchsorted(starts, at, right=True) - 1).unique().tolist()
    told: list[dict[str, Tensor]] = []
    reasons: list[str] = []
    for i in used:
        of_call, why = _of_call(calls[i])
        told.append(of_call)
        reasons += [why] if why and why not in reasons else []
    if any("mu" in of_call for of_call in told):
        reasons = [f"of a part of y, {why}" for why in reasons]
    maps: dict[str, Array | None] = dict.fromkeys(MAPS)
    for key in MAPS:
        if all(key in of_call for of_call in told):
            values = torch.empty(int(starts[-1]), dtype=torch.float32)
            for i, of_call in zip(used, told, strict=True):
                shape = calls[i].likelihoods.shape
                values[starts[i] : starts[i + 1]] = of_call[key].float().cpu().broadcast_to(shape).flatten()
            maps[key] = array(values[at].view(source.shape))
    return maps, reasons


def _of_call(call: Call) -> tuple[dict[str, Tensor], str]:
    """What one call tells of its symbols: those of `MAPS` that are known, and why others aren't."""
    found = {"symbols": call.symbols} if call.symbols.shape == call.likelihoods.shape else {}
    if hasattr(call.module, "lower_bound_scale") and found:  # a GaussianConditional, or somebody's copy of it
        components = _components(call)
        if components is None:
            return found, f"the likelihoods of its {_kind(call.module)} aren't those of the Gaussian that it is given"
        weight, mu, sigma = components
        mean = (weight * mu).sum(0)
        spread = ((weight * (sigma**2 + (mu - mean) ** 2)).sum(0)).sqrt()
        # The symbol lies on a grid of integers that it fixes itself: relative to it, this is plain rounding.
        off, deviation = rounded_moments(mu - call.symbols.double(), sigma)
        coded = (weight * off).sum(0)
        scatter = ((weight * (deviation**2 + (off - coded) ** 2)).sum(0)).sqrt()
        coded = coded + call.symbols.double()
        return found | {"mu": mean, "sigma": spread, "coded_mean": coded, "coded_deviation": scatter}, ""
    if isinstance(call.module, EntropyBottleneck) and found:
        shape = (1, -1, *[1] * (call.likelihoods.dim() - 2))
        mean, deviation = (of.reshape(shape) for of in coded_moments(call.module))
        return found | {"coded_mean": mean, "coded_deviation": deviation}, FACTORIZED
    return found, f"lic_lab doesn't know what its {_kind(call.module)} expects"


def _components(call: Call) -> tuple[Tensor, Tensor, Tensor] | None:
    """Weight, mu and sigma of the Gaussians that a conditional was given, (K, ...); None if they are not its own."""
    scales, means, weights = (call.given.get(key) for key in ("scales", "means", "weights"))
    if not isinstance(scales, Tensor):
        return None
    shape = call.likelihoods.shape
    lower_bound: Any = call.module.lower_bound_scale
    sigma = lower_bound(scales).double()
    mu = torch.zeros_like(sigma) if means is None else means.double()
    if isinstance(call.module, GaussianMixtureConditional) and isinstance(weights, Tensor):
        K = int(call.module.K)
        weight, mu, sigma = (of.double().unflatten(1, (K, -1)).transpose(0, 1) for of in (weights, mu, sigma))
    else:
        mu, sigma = (of.broadcast_to(shape)[None] for of in (mu, sigma))
        weight = torch.ones_like(mu)
    expected = (weight * likelihood(call.symbols.double() - mu, sigma)).sum(0)
    eps = max(torch.finfo(call.likelihoods.dtype).eps, 1e-9)  # CompressAI's bound, below which likelihoods are raised
    if not torch.allclose(expected, call.likelihoods.double(), rtol=min(1e3 * eps, 0.05), atol=16 * eps):
        return None
    return weight, mu, sigma


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _notes(
    model: nn.Module,
    seen: Seen,
    order: Order,
    symbols: Array | None,
    y_hat: Array | None,
    without: str,
    reasons: list[str],
) -> list[str]:
    """What one has to know to read the trace."""
    notes = [f"of {type(model).__name__} not all is known: {reason}" for reason in reasons]
    raster = isinstance(model, JointAutoregressiveHierarchicalPriors) and not isinstance(model, ScaleHyperpriorVbr)
    if raster or any(isinstance(module, RasterScanLatentCodec) for module in model.modules()):
        notes.append(
            "CompressAI's autoregressive models round y without mu in forward, for the context and for g_s, and with "
            "mu in their coder: shown is forward, so the coder's bits and picture differ a little"
        )
    elif symbols is not None and y_hat is not None and (most := float(np.abs(symbols - y_hat).max())) > 1e-3:
        notes.append(f"g_s is given other values than those whose likelihoods count, up to {most:.3g} away")
    if isinstance(model, ScaleHyperpriorVbr):
        notes.append("shown is the rate point that forward takes by itself; symbols are in units of its step size")
        if isinstance(model, JointAutoregressiveHierarchicalPriors):
            notes.append("its conditional is given what mu leaves of y: symbols are that, and mu is 0")
    if seen.untold and order.name != UNKNOWN:
        notes.append(
            "a checkerboard's context ran, but which positions are its anchors can't be told: steps may be less"
        )
    if without:
        notes.append(f"{without}, so there is no reconstruction")
    return notes

"""Traces of CompressAI's models: what goes into their entropy models and what comes out, caught by forward hooks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from torch import Tensor, nn

from lic_lab.codecs.geometry import Geometry
from lic_lab.entropy.order import CodingOrder
from lic_lab.image import Picture, pad, to_uint8
from lic_lab.tracing.result import Trace, parts_of

MULTIPLE = 64  # pixels a side, for a model without `downsampling_factor`; CompressAI's hyperpriors need it
SIGMA_MIN = 0.11  # CompressAI's lower bound


@dataclass(frozen=True)
class Call:
    """One call of an entropy model; tensors are (1, M, h, w).

    Attributes
    ----------
    module : Module
        A GaussianConditional or an EntropyBottleneck.
    y_hat, likelihoods : Tensor
        What it returned.
    sigma, mu : Tensor or None
        What a GaussianConditional was given.
    """

    module: nn.Module
    y_hat: Tensor
    likelihoods: Tensor
    sigma: Tensor | None = None
    mu: Tensor | None = None


def trace_foreign(model: CompressionModel, picture: Picture) -> Trace:
    """The run of a CompressAI model on a picture; see `trace`.

    The picture is padded to multiples of the model's `downsampling_factor`, by repeating its last row and column.

    Raises
    ------
    TypeError
        For a model whose entropy models are not understood.
    """
    multiple = int(getattr(model, "downsampling_factor", MULTIPLE))
    height, width = picture.x.shape[2:]
    x = pad(picture.x, (-(-height // multiple) * multiple, -(-width // multiple) * multiple))
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _calls(model) as calls:
            start = time.perf_counter()
            out = model(x)
            seconds = time.perf_counter() - start
    finally:
        model.train(training)
    y, z = _y_and_z(model, calls)
    M, h, w = y.y_hat.shape[1:]
    raster = hasattr(model, "context_prediction")
    order = CodingOrder((M,), pattern="wavefront" if raster else "whole")
    nothing = torch.zeros_like(y.y_hat)
    return Trace(
        codec=type(model).__name__,
        quality=None,
        combination={},
        picture=picture,
        geometry=_geometry(height, width, multiple, (h, w)),
        x=to_uint8(picture.x),
        x_hat=to_uint8(out["x_hat"][:, :, :height, :width]),
        symbols=y.y_hat[0].numpy(),
        y_hat=y.y_hat[0].numpy(),
        mu=(nothing if y.mu is None else y.mu)[0].numpy(),
        sigma=(nothing + 1 if y.sigma is None else y.sigma.clamp(min=SIGMA_MIN))[0].numpy(),
        bits=-np.log2(y.likelihoods[0].double().numpy()),
        z_bits=np.zeros((0, h, w)) if z is None else -np.log2(z.likelihoods[0].double().numpy()),
        step=order.step_map(h, w).numpy(),
        slices=order.slices,
        order=order.name,
        parts=parts_of(order, h, w),
        seconds={"total": seconds},
    )


@contextmanager
def _calls(model: CompressionModel) -> Iterator[list[Call]]:
    """Every call of one of the model's entropy models within the ``with`` block, in order; the model stays as it is."""
    found: list[Call] = []

    def on_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: tuple[Tensor, Tensor]) -> None:
        given = {}
        if isinstance(module, GaussianConditional):
            given = dict(zip(("inputs", "scales", "means"), args, strict=False)) | kwargs
        found.append(Call(module, *out, given.get("scales"), given.get("means")))

    kinds = (EntropyBottleneck, GaussianConditional)
    hooks = [m.register_forward_hook(on_call, with_kwargs=True) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _y_and_z(model: CompressionModel, calls: list[Call]) -> tuple[Call, Call | None]:
    """The call that coded y, and the one that coded z; without a conditional y itself goes through the bottleneck."""
    gaussian = [call for call in calls if isinstance(call.module, GaussianConditional)]
    factorized = [call for call in calls if isinstance(call.module, EntropyBottleneck)]
    if len(gaussian) > 1 or len(factorized) != 1:
        raise TypeError(
            f"{type(model).__name__} calls Gaussian conditionals {len(gaussian)} times a picture and bottlenecks "
            f"{len(factorized)} times; traced are CompressAI's factorized, hyperprior, mean-scale, joint "
            "autoregressive and Cheng 2020 models"
        )
    return (gaussian[0], factorized[0]) if gaussian else (factorized[0], None)


def _geometry(height: int, width: int, multiple: int, latent: tuple[int, int]) -> Geometry:
    """How y lies on the picture, told by the size that the model gave it."""
    covered = -(-height // multiple) * multiple
    stride = max(1, covered // latent[0])
    found = Geometry(height, width, stride, multiple=max(1, multiple // stride))
    if found.latent != latent:
        raise TypeError(
            f"y has {latent[0]} x {latent[1]} positions for {height} x {width} pixels, padded to multiples of "
            f"{multiple}; traced are models whose positions are squares of whole pixels"
        )
    return found

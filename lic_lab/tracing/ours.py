"""Traces of our own codecs: one estimate with a recorder on, by the loop that codes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_lab.codecs.codec import Codec
from lic_lab.entropy.model import Coded
from lic_lab.image import to_uint8
from lic_lab.layers.tap import record
from lic_lab.tracing.latents import Latent, latent, synthesis
from lic_lab.tracing.result import Array, Stage, Trace, parts_of
from lic_lab.tracing.taps import Keep, Taps, by_default

STAGES = ("local", "+ reference", "+ hyperprior")


def trace_codec(codec: Codec, found: Latent, reconstruct: bool, keep: Keep | None) -> Trace:
    """The run of `codec` on a latent; see `trace`."""
    h, w = found.geometry.latent
    keep = keep or by_default(h * w)
    maps: dict[str, Array] = {}
    stages: dict[int, dict[str, Tensor]] = {}
    taps = dict(found.taps)
    if any(of.lack(keep) for of in taps.values()):  # what the latent did not keep has to be seen again
        taps = latent(codec, found.picture, keep).taps
    taps["entropy"] = Taps()

    def recorder(name: str, value: Tensor, where: dict[str, Any]) -> None:
        if name in ("mu", "sigma", "symbols"):
            maps[name] = value[0].numpy()
        elif name.startswith("stage."):
            stages.setdefault(where["stage"], {})[name.removeprefix("stage.")] = value.unflatten(2, (h, w))
        else:
            taps["entropy"].take(keep, name, value, where)

    training = codec.training
    codec.eval()
    try:
        with torch.no_grad(), record(recorder):
            start = time.perf_counter()
            coded = codec.entropy(found.y, found.side.hyper)
            seconds = {**found.seconds, "entropy": time.perf_counter() - start}
        order, z = codec.entropy.order, found.side.likelihoods
        run = Trace(
            codec=codec.name,
            quality=codec.quality,
            combination=codec.combination,
            picture=found.picture,
            geometry=found.geometry,
            x=to_uint8(found.picture.x),
            x_hat=None,
            symbols=maps["symbols"],
            y_hat=coded.y_hat[0].numpy(),
            mu=maps["mu"],
            sigma=maps["sigma"],
            bits=-np.log2(coded.likelihoods[0].double().numpy()),
            z_bits=np.zeros((0, 0, 0)) if z is None else -np.log2(z[0].double().numpy()),
            step=order.step_map(h, w).numpy(),
            slices=order.slices,
            order=order.name,
            parts=parts_of(order, h, w),
            seconds=seconds,
            patched=any(of.patched(h, w) for of in codec.entropy.active().values() if hasattr(of, "patched")),
            records=[record for of in taps.values() for record in of.kept(keep)],
            taps={name: during for during, of in taps.items() for name in of.names},
            stages=_stages(codec, stages, coded, maps),
        )
        return _with_picture(codec, found, run, keep) if reconstruct else run
    finally:
        codec.train(training)


def reconstruct(codec: Codec, found: Latent, run: Trace, keep: Keep | None = None) -> Trace:
    """`run` with its picture: the same trace, of which the numbers could be shown before g_s had run."""
    h, w = found.geometry.latent
    return _with_picture(codec, found, run, keep or by_default(h * w))


def _with_picture(codec: Codec, found: Latent, run: Trace, keep: Keep) -> Trace:
    start = time.perf_counter()
    made = synthesis(codec, found, torch.from_numpy(run.y_hat)[None], keep)
    return replace(
        run,
        x_hat=to_uint8(made.x_hat),
        seconds={**run.seconds, "g_s": time.perf_counter() - start},
        records=[*run.records, *made.taps.kept(keep)],
        taps=run.taps | dict.fromkeys(made.taps.names, "g_s"),
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

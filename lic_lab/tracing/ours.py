"""Traces of our own codecs: one estimate with a recorder on, by the loop that codes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.geometry import WHOLE
from lic_lab.entropy.model import SHOWN, Coded
from lic_lab.image import to_uint8
from lic_lab.layers.tap import record
from lic_lab.tracing.guard import guarded
from lic_lab.tracing.latents import Latent, check, check_finite, device_of, latent, synthesis
from lic_lab.tracing.result import FACTORIZED, Array, Stage, Trace, bits_of, parts_of
from lic_lab.tracing.taps import Keep, Taps, array, by_default

STAGES = ("local", "+ reference", "+ hyperprior")


def trace_codec(codec: Codec, found: Latent, reconstruct: bool, keep: Keep | None) -> Trace:
    """The run of `codec` on a latent; see `trace`."""
    codec = check(codec)
    h, w = found.geometry.latent
    keep = keep or by_default(h * w)
    maps: dict[str, Array] = {}
    stages: dict[int, dict[str, Tensor]] = {}
    taps = dict(found.taps)
    if any(of.lack(keep) for of in taps.values()):  # what the latent did not keep has to be seen again
        taps = latent(codec, found.picture, keep).taps
    taps["entropy"] = Taps()

    def recorder(name: str, value: Tensor, where: dict[str, Any]) -> None:
        if name in SHOWN:
            maps[name] = array(value[0])
        elif name.startswith("stage."):
            stages.setdefault(where["stage"], {})[name.removeprefix("stage.")] = value.unflatten(2, (h, w))
        else:
            taps["entropy"].take(keep, name, value, where)

    with guarded(codec, deep=False), record(recorder):
        start = time.perf_counter()
        try:
            coded = codec.entropy(found.y.to(device_of(codec)), found.side.hyper.to(device_of(codec)))
        except (IndexError, RuntimeError):
            check_finite(codec)
            raise
        seconds = {**found.seconds, "entropy": time.perf_counter() - start}
    order, z = codec.entropy.order, found.side.likelihoods
    factorized = "mu" not in maps
    run = Trace(
        codec=codec.name,
        quality=codec.quality,
        combination=codec.combination,
        picture=found.picture,
        geometry=found.geometry,
        x=to_uint8(found.picture.x),
        x_hat=None,
        symbols=maps["symbols"],
        y_hat=array(coded.y_hat[0]),
        mu=maps.get("mu"),
        sigma=maps.get("sigma"),
        bits=bits_of(coded.likelihoods)[0],
        z_bits=np.zeros((0, 0, 0)) if z is None else bits_of(z)[0],
        step=order.step_map(h, w).numpy(),
        slices=order.slices,
        order=order.name,
        parts=parts_of(order, h, w),
        seconds=seconds,
        patched=any(of.patched(h, w) for of in codec.entropy.active().values()),
        records=[record for of in taps.values() for record in of.kept(keep)],
        taps={name: during for during, of in taps.items() for name in of.names},
        stages=_stages(codec, stages, coded, maps),
        coded_mean=maps["coded.mean"],
        coded_deviation=maps["coded.deviation"],
        unknown=FACTORIZED if factorized else "",
        notes=(f"coded at {found.geometry.scale / WHOLE:.3f} of its size",) if found.geometry.scale != WHOLE else (),
    )
    return _with_picture(codec, found, run, keep) if reconstruct else run


def reconstruct(codec: Codec, found: Latent, run: Trace, keep: Keep | None = None) -> Trace:
    """`run` with its picture: the same trace, of which the numbers could be shown before g_s had run."""
    codec = check(codec)
    h, w = found.geometry.latent
    return _with_picture(codec, found, run, keep or by_default(h * w))


def _with_picture(codec: Codec, found: Latent, run: Trace, keep: Keep) -> Trace:
    start = time.perf_counter()
    made = synthesis(codec, found, torch.from_numpy(run.told("y_hat"))[None], keep)
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
    gaussian, symbols = codec.entropy.gaussian, torch.from_numpy(maps["symbols"])[None].to(coded.y_hat.device)
    out = []
    with guarded(codec):
        for _, of in sorted(found.items()):
            mu, sigma = gaussian.moments(**of)
            p = gaussian.bits_likelihood(symbols, symbols, **of)
            out.append((array(mu[0]), array(sigma[0]), p[0]))
    out.append((maps["mu"], maps["sigma"], coded.likelihoods[0]))
    return [Stage(n, mu, sigma, bits_of(p)) for n, (mu, sigma, p) in zip(STAGES, out, strict=True)]

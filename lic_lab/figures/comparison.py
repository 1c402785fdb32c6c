"""Rows of a BD-rate table, and of BD-rate against complexity, from curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from lic_lab.figures.curves import Curve

SIZE = (512, 768)  # pixels, of which multiply-adds are counted: Kodak's


def compare(
    curves: Mapping[str, Sequence[Curve]], anchor: str | Mapping[str, str], costs: bool = True
) -> list[dict[str, Any]]:
    """BD-rate of each curve over the anchor, and what its codec costs.

    Points that need more bits than another for no more quality are left out first (`Curve.rising`).

    Parameters
    ----------
    curves : mapping
        ``"psnr"`` and ``"ms_ssim"``, or one of them, to the curves with that quality.
    anchor : str or mapping
        Name of one of the curves in each metric, or its names by metric.
    costs : bool
        Count multiply-adds and parameters too, of our implementation: of published points' codecs in the published
        dimensions. It takes seconds a codec.

    Returns
    -------
    list of dict
        What `bd_rate_table` and `bd_rate_complexity` take: ``codec``, ``source``, ``bd_rate_percent``, ``low_db`` and
        ``high_db`` (the PSNR it was taken over), ``bd_psnr_db``, ``bd_rate_ms_ssim_percent``,
        ``decoder_kmacs_per_pixel``, ``kmacs_per_pixel``, ``parameters``; None where there is no value; and ``why``,
        which says why there is no BD-rate.

    Raises
    ------
    ValueError
        When no curve has the anchor's name.
    """
    from lic_lab.evaluation.bdrate import bd_psnr, bd_rate

    rows: dict[str, dict[str, Any]] = {}
    for metric, found in curves.items():
        name = anchor if isinstance(anchor, str) else anchor[metric]
        over = next((curve for curve in found if curve.name == name), None)
        if over is None:
            raise ValueError(f"the anchor is {name!r}, which is none of {', '.join(c.name for c in found) or 'none'}")
        for curve in found:
            if curve is over:
                continue
            row = rows.setdefault(curve.name, {"codec": curve.name, "source": curve.source, "why": ""})
            pair = over.rising().points, curve.rising().points
            try:
                if metric == "psnr":
                    delta = bd_rate(*pair)
                    row |= {"bd_rate_percent": delta.value, "low_db": delta.low, "high_db": delta.high}
                    row["bd_psnr_db"] = bd_psnr(*pair).value
                else:
                    row["bd_rate_ms_ssim_percent"] = bd_rate(*pair).value
            except ValueError as error:
                row["why"] = str(error)
            if costs and "parameters" not in row:
                row |= cost(curve)
    return list(rows.values())


def cost(curve: Curve) -> dict[str, Any]:
    """``parameters``, ``kmacs_per_pixel``, ``decoder_kmacs_per_pixel`` of a curve's codec, if it is one of ours.

    They are counted on a codec without weights, which need not be here.
    """
    return {} if curve.coder is None or curve.family == "classical" else dict(_cost(*curve.coder))


@lru_cache(maxsize=64)
def _cost(name: str, configuration: str) -> dict[str, Any]:
    from lic_lab.codecs.registry import create
    from lic_lab.codecs.weights import SERVES, untrained
    from lic_lab.evaluation.coders import parse
    from lic_lab.evaluation.complexity import complexity

    try:
        if configuration:
            codec = untrained(name).swap(**SERVES.get(name, {})).swap(**parse(configuration)[1])
        else:
            codec = create(name, "paper")
    except ValueError:  # somebody's own
        return {}
    parts = complexity(codec, *SIZE)
    return {
        "parameters": sum(part["parameters"] for part in parts),
        "kmacs_per_pixel": sum(part["macs_per_pixel"] for part in parts) / 1e3,
        "decoder_kmacs_per_pixel": sum(p["macs_per_pixel"] for p in parts if p["module"] not in ("g_a", "h_a")) / 1e3,
    }

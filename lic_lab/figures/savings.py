"""What each combination of components saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lic_lab.figures.style import CYCLE, GREY, PAGE, new, styled

_KEYS = ("channel", "local", "global", "bpp", "bits_vs_base_percent")
_GROUPS = ("none", "channel", "local", "channel + local", "with global")


@styled
def ablation(rows: Sequence[Mapping[str, Any]], width: float = PAGE) -> Figure:
    """Bits of each combination against the hyperprior alone (a measured Table 5 of MLIC).

    Parameters
    ----------
    rows : sequence of mapping
        As `lic_lab.evaluation.ablation.ablation` returns them: ``channel``, ``local``, ``global``, ``bpp``,
        ``bits_vs_base_percent``.
    width : float
        Of the figure in inches.

    Raises
    ------
    ValueError
        Without rows, or for rows without those keys.
    """
    if not rows:
        raise ValueError("there are no rows; give what lic_lab.evaluation.ablation.ablation returns")
    for row in rows:
        if missing := [key for key in _KEYS if key not in row]:
            raise ValueError(f"a row lacks {', '.join(missing)}; rows need {', '.join(_KEYS)}")
    values = np.array([float(row["bits_vs_base_percent"]) for row in rows])
    groups = [_group(row) for row in rows]
    figure = new(width, 0.8 + 0.19 * len(rows))
    ax = figure.subplots()
    places = np.arange(len(rows))
    for colour, group in zip(("0.6", *CYCLE), _GROUPS, strict=False):
        here = [i for i, g in enumerate(groups) if g == group]
        if here:
            label = "hyperprior alone" if group == "none" else group
            ax.barh(places[here], values[here], color=colour, label=label, height=0.72)
    for place, row, value in zip(places, rows, values, strict=True):
        text = "the base" if _name(row) == "none" else f"{value:+.2f} %"
        text = f"{text}  ({row['bpp']:.4f} bpp)".replace("-", "\N{MINUS SIGN}")
        side = 1 if value > 0 else -1
        ax.annotate(
            text,
            (value, place),
            (3 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=7,
            color=GREY,
        )
    reach = max(1e-6, float(np.abs(values).max()))
    ax.set_xlim(min(0.0, float(values.min())) - 0.42 * reach, max(0.0, float(values.max())) + 0.06 * reach)
    if values.max() > 0:
        ax.set_xlim(right=float(values.max()) + 0.42 * reach)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set(yticks=places, yticklabels=[_name(row) for row in rows], ylabel="components")
    ax.set_xlabel("bits against the hyperprior alone (%), fewer is better")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _name(row: Mapping[str, Any]) -> str:
    """The components of a row, as in "channel + attention + intra"."""
    parts = ["channel"] if row["channel"] != "none" else []
    parts += [str(row[part]) for part in ("local", "global") if row[part] != "none"]
    if row.get("refinement", "none") != "none":
        parts.append(str(row["refinement"]))
    return " + ".join(parts) or "none"


def _group(row: Mapping[str, Any]) -> str:
    """Which kinds of context a row has on."""
    channel, local = row["channel"] != "none", row["local"] != "none"
    if row["global"] != "none":
        return "with global"
    return {(False, False): "none", (True, False): "channel", (False, True): "local"}.get(
        (channel, local), "channel + local"
    )

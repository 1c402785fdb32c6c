"""The numbers of a run as HTML: rate, its shares, quality, time; and A against B as a table."""

from __future__ import annotations

import math
from html import escape

from lic_lab.figures.style import CYCLE
from lic_lab.tracing import Trace
from lic_lab.widgets.session import Run

PARTS = {"anchor": "anchor", "nonanchor": "non-anchor", "all": "single pass"}
COLOURS = {"z": "#94a3b8", "anchor": "#0369a1", "nonanchor": "#38bdf8", "all": "#0369a1"}
SLICES = CYCLE  # as in the figures


def shares(trace: Trace) -> tuple[list[tuple[str, float, str]], list[tuple[str, float, str]]]:
    """(label, bpp, colour) of z and the parts, and of the slices."""
    bpp = trace.bpp
    parts = [(PARTS.get(name, name), bpp[name], COLOURS.get(name, "#7dd3fc")) for name in trace.parts]
    slices = [(f"slice {i}", bpp[f"slice {i}"], SLICES[i % len(SLICES)]) for i in range(len(trace.slices))]
    return [("z", bpp["z"], COLOURS["z"]), *parts], slices


def change(before: float, after: float) -> float:
    """Change in percent."""
    return 100 * (after - before) / before if before else math.nan


def numbers_html(run: Run, pinned: Run | None) -> str:
    """Total rate, PSNR and time in large figures; below, the shares as bars."""
    trace = run.trace
    parts, slices = shares(trace)
    ready = trace.x_hat is not None
    psnr = (f"{trace.psnr:.2f}" if math.isfinite(trace.psnr) else "lossless") if ready else "…"
    steps = {"g_a": "transform", "hyper": "hyperprior", "entropy": "entropy model", "g_s": "synthesis"}
    skip = ("g_a", "hyper") if run.cached else ()
    spent = ", ".join(
        f"{w} {1000 * trace.seconds[k]:.0f}" for k, w in steps.items() if k in trace.seconds and k not in skip
    )
    versus_rate = versus_psnr = ""
    if pinned is not None:
        versus_rate = f"{change(pinned.trace.bpp['total'], trace.bpp['total']):+.2f} % against A"
        versus_psnr = f"{trace.psnr - pinned.trace.psnr:+.2f} dB against A" if ready else "…"
    total = trace.bpp["total"]
    byte = total * trace.pixels / 8
    figures = [
        _figure("bpp", f"{total:.4f}", "bits per pixel", versus_rate or f"{byte / 1000:.1f} kB, estimated"),
        _figure("psnr", psnr, "dB PSNR", versus_psnr or "of the 8-bit picture"),
        _figure(
            "time", f"{1000 * run.seconds:.0f}", "ms", spent, tip="from the change to these numbers, of which: " + spent
        ),
    ]
    bars = _bar("Shares of the rate by coding pass", parts, total) + _bar("y by slice", slices, trace.bpp["y"])
    return (
        f'<div class="lab-numbers"><div class="lab-figures">{"".join(figures)}</div>'
        f'<div class="lab-bars">{bars}</div></div>'
    )


def comparison_html(a: Run, b: Run) -> str:
    """Table of A, B and the difference."""
    one, two = a.trace, b.trace
    rows = [_words("components", a.label, b.label), _words("picture", one.picture.name, two.picture.name)]
    rows.append(_words("rate point", str(one.quality), str(two.quality)))
    rows.append(_row("total", one.bpp["total"], two.bpp["total"], strong=True))
    names = {"z": "z"} | {name: PARTS.get(name, name) for name in [*one.parts, *two.parts]}
    names |= {name: name for name in [*one.bpp, *two.bpp] if name.startswith("slice")}
    rows += [_row(label, one.bpp.get(name), two.bpp.get(name)) for name, label in names.items()]
    gap = two.psnr - one.psnr
    rows.append(
        f"<tr class='lab-strong'><th scope='row'>PSNR, dB</th><td>{one.psnr:.2f}</td><td>{two.psnr:.2f}</td>"
        f"<td>{gap:+.2f}</td><td></td></tr>"
    )
    return (
        "<table class='lab-table'><caption>Bits per pixel, A against B</caption><thead><tr><th></th>"
        "<th scope='col' class='lab-a'>A</th><th scope='col' class='lab-b'>B</th><th scope='col'>B − A</th>"
        f"<th scope='col'>%</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _figure(name: str, value: str, unit: str, below: str, tip: str = "") -> str:
    title = f' title="{escape(tip)}"' if tip else ""
    return (
        f'<div class="lab-figure" data-number="{name}"{title}><div><b>{value}</b> <span>{unit}</span></div>'
        f"<small>{escape(below)}</small></div>"
    )


def _bar(title: str, shares_: list[tuple[str, float, str]], total: float) -> str:
    whole = total or 1.0
    pieces = "".join(
        f'<i style="flex:{max(value, 1e-9):.9f};background:{colour}" '
        f'title="{label}: {value:.4f} bpp, {100 * value / whole:.1f} %"></i>'
        for label, value, colour in shares_
    )
    keys = "".join(
        f'<span data-share="{label}"><i style="background:{colour}"></i>{label} <b>{value:.4f}</b></span>'
        for label, value, colour in shares_
    )
    return (
        f'<div class="lab-share"><div class="lab-share-title">{title}</div><div class="lab-stack">{pieces}</div>'
        f'<div class="lab-keys">{keys}</div></div>'
    )


def _words(label: str, one: str, two: str) -> str:
    return f"<tr><th scope='row'>{label}</th><td>{escape(one)}</td><td>{escape(two)}</td><td></td><td></td></tr>"


def _row(label: str, one: float | None, two: float | None, strong: bool = False) -> str:
    cells = ["" if value is None else f"{value:.4f}" for value in (one, two)]
    both = one is not None and two is not None
    cells += (
        [f"{two - one:+.4f}", f"{change(one, two):+.2f}"] if one is not None and two is not None and both else ["", ""]
    )
    kind = " class='lab-strong'" if strong else ""
    return f"<tr{kind}><th scope='row'>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

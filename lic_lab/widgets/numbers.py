"""The numbers of a run as HTML: rate, its shares, quality, time; and A against B as a table."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from lic_lab.figures.bits import same_picture, same_symbols, unlike
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


def decibels(psnr: float) -> str:
    """PSNR as a number, or that nothing was lost."""
    return "lossless" if math.isinf(psnr) else f"{psnr:.2f}"


def gap(before: float, after: float) -> str:
    """Difference of two PSNRs, of which one may be that of a lossless picture."""
    return "±0.00" if before == after else f"{after - before:+.2f}".replace("inf", "∞")


def _size(count: float) -> str:
    """A number of bytes, as one says it."""
    return f"{count / 1000:.1f} kB" if count >= 1000 else f"{count:.0f} bytes"


def numbers_html(run: Run, pinned: Run | None) -> str:
    """Total rate, PSNR and time in large figures; below, the shares as bars."""
    trace = run.trace
    parts, slices = shares(trace)
    ready = trace.x_hat is not None
    psnr = decibels(trace.psnr) if ready else "…"
    steps = {"g_a": "transform", "hyper": "hyperprior", "entropy": "entropy model", "g_s": "synthesis"}
    skip = ("g_a", "hyper") if run.cached else ()
    spent = ", ".join(
        f"{w} {1000 * trace.seconds[k]:.0f}" for k, w in steps.items() if k in trace.seconds and k not in skip
    )
    total = trace.bpp["total"]
    versus_rate = versus_psnr = ""
    if pinned is not None:
        a, rate = pinned.trace, pinned.trace.bpp["total"]
        if same_picture(a, trace):
            at = "" if a.quality == trace.quality else f" at rate point {a.quality}"
            versus_rate = f"{change(rate, total):+.2f} % against A{at}"
            versus_psnr = f"{gap(a.psnr, trace.psnr)} dB against A{at}" if ready else "…"
        else:
            versus_rate = f"A is another picture, {rate:.4f} bpp"
            versus_psnr = f"A is another picture, {decibels(a.psnr)} dB"
    byte = total * trace.pixels / 8
    figures = [
        _figure("bpp", f"{total:.4f}", "bits per pixel", versus_rate or f"{_size(byte)}, estimated"),
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
    """Table of A, B and, where they can be compared, the difference; above it, what else than components differs."""
    one, two = a.trace, b.trace
    picture = same_picture(one, two)
    slices = picture and same_symbols(one, two) and one.slices == two.slices
    rows = [_words("components", a.label, b.label), _words("picture", one.picture.name, two.picture.name)]
    rows.append(_words("rate point", str(one.quality), str(two.quality)))
    rows.append(_row("total", one.bpp["total"], two.bpp["total"], picture, strong=True))
    rows.append(_row("z", one.bpp["z"], two.bpp["z"], picture))
    for name in dict.fromkeys([*one.parts, *two.parts]):
        # Other codecs may call other positions by the same name.
        alike = picture and np.array_equal(one.parts.get(name, ()), two.parts.get(name, ()))
        rows.append(_row(PARTS.get(name, name), one.bpp.get(name), two.bpp.get(name), alike))
    for i in range(max(len(one.slices), len(two.slices))):
        rows.append(_row(f"slice {i}", one.bpp.get(f"slice {i}"), two.bpp.get(f"slice {i}"), slices))
    rows.append(
        f"<tr class='lab-strong'><th scope='row'>PSNR, dB</th><td>{decibels(one.psnr)}</td>"
        f"<td>{decibels(two.psnr)}</td><td>{gap(one.psnr, two.psnr) if picture else ''}</td><td></td></tr>"
    )
    return (
        f"{_what_differs(one, two)}<table class='lab-table'><caption>Bits per pixel of A and B</caption><thead><tr>"
        "<th></th><th scope='col' class='lab-a'>A</th><th scope='col' class='lab-b'>B</th><th scope='col'>B − A</th>"
        f"<th scope='col'>%</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _what_differs(one: Trace, two: Trace) -> str:
    """A sentence, when A and B are not two ways to code the same symbols."""
    words = []
    if not same_picture(one, two):
        words.append(f"A and B differ in the {unlike(one, two)}: neither bits nor decibels of one can be set against")
        words[-1] += " the other's, so there is no difference and no map."
    elif found := unlike(one, two):
        words.append(f"A and B differ in the {found}, and so in what is coded: the change of the rate is not what")
        words[-1] += " components are worth. Read it together with the change of PSNR."
    if len({one.slices, two.slices}) > 1:
        kinds = " and ".join(", ".join(map(str, of.slices)) for of in (one, two))
        words.append(f"Their slices have other channels ({kinds}), so slices are not set against each other.")
    return f"<p class='lab-words' role='note'>{escape(' '.join(words))}</p>" if words else ""


def _figure(name: str, value: str, unit: str, below: str, tip: str = "") -> str:
    title = f' title="{escape(tip)}"' if tip else ""
    return (
        f'<div class="lab-figure" data-number="{name}"{title}><div><b>{value}</b> <span>{unit}</span></div>'
        f"<small>{escape(below)}</small></div>"
    )


def _bar(title: str, shares_: list[tuple[str, float, str]], total: float) -> str:
    whole = total or 1.0
    pieces = "".join(
        f'<i style="width:{100 * value / whole:.4f}%;background:{colour}" '
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


def _row(label: str, one: float | None, two: float | None, compared: bool, strong: bool = False) -> str:
    cells = ["" if value is None else f"{value:.4f}" for value in (one, two)]
    versus = ["", ""]
    if compared and one is not None and two is not None:
        versus = [f"{two - one:+.4f}", f"{change(one, two):+.2f}" if one else ""]
    kind = " class='lab-strong'" if strong else ""
    return f"<tr{kind}><th scope='row'>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells + versus)}</tr>"

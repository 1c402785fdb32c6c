"""The BD-rate table of a paper, as LaTeX or Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STYLES = ("latex", "markdown")
_COLUMNS = {  # key of a row: heading, unit, format, and whether the lowest or the highest value is the best
    "bd_rate_percent": ("BD-rate, PSNR", "%", "+.2f", min),
    "low_db": ("from", "dB", ".1f", None),  # the PSNR it was compared over: codecs with few points cover little
    "high_db": ("to", "dB", ".1f", None),
    "bd_rate_ms_ssim_percent": ("BD-rate, MS-SSIM", "%", "+.2f", min),
    "bd_psnr_db": ("BD-PSNR", "dB", "+.2f", max),
    "decoder_kmacs_per_pixel": ("decoder", "kMACs/pixel", ",.1f", None),
    "kmacs_per_pixel": ("both", "kMACs/pixel", ",.1f", None),
    "decode_seconds": ("decoding", "s", ".2f", None),
    "parameters": ("parameters", "M", ".2f", None),
}
_MILLIONS = "parameters"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


def bd_rate_table(rows: Sequence[Mapping[str, Any]], anchor: str, style: str = "latex", dataset: str = "") -> str:
    r"""A row a codec; the best BD-rate is bold, a dagger marks published points, and notes say where they are from.

    LaTeX needs the package booktabs, and inputenc's UTF-8 (LaTeX's default since 2018) for names in other letters.

    Parameters
    ----------
    rows : sequence of mapping
        ``codec`` (its name) and any of ``bd_rate_percent``, ``low_db``, ``high_db``, ``bd_rate_ms_ssim_percent``,
        ``bd_psnr_db``, ``decoder_kmacs_per_pixel``, ``kmacs_per_pixel``, ``decode_seconds``, ``parameters``; None
        where a value is not known; ``source`` of published points.
    anchor : str
        What the rows are set against.
    style : {"latex", "markdown"}
    dataset : str
        The images, for the caption.

    Returns
    -------
    str
        A ``table`` with caption, or a Markdown table with a line of words around it.

    Raises
    ------
    ValueError
        Without rows or any number to show, for a row without a name, or an unknown style.

    Examples
    --------
    >>> print(bd_rate_table([{"codec": "A_1", "bd_rate_percent": -12.345}], "VTM", "markdown"))
    BD-rate over VTM. Negative is better.
    <BLANKLINE>
    | codec | BD-rate, PSNR (%) |
    |---|--:|
    | A\_1 | **−12.35** |
    <BLANKLINE>
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; it must be one of {', '.join(STYLES)}")
    if not rows or not all(row.get("codec") for row in rows):
        raise ValueError(f"there are {len(rows)} rows; give at least one, each with the name of its codec")
    keys = [key for key in _COLUMNS if any(_known(row.get(key)) for row in rows)]
    if not keys:
        raise ValueError(f"the rows have no numbers; they may have {', '.join(_COLUMNS)}")
    return (_latex if style == "latex" else _markdown)(rows, keys, anchor, dataset)


def _markdown(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], anchor: str, dataset: str) -> str:
    heads = ["codec", *(f"{_COLUMNS[key][0]} ({_COLUMNS[key][1]})" for key in keys)]
    lines = [_caption(anchor, dataset, _escape_markdown), "", _line(heads), "|---|" + "--:|" * len(keys)]
    best = _best(rows, keys)
    for i, row in enumerate(rows):
        name = _escape_markdown(str(row["codec"])) + (" †" if row.get("source") else "")
        cells = [_cell(row, key, "\N{MINUS SIGN}", "–") for key in keys]
        lines.append(_line([name, *(f"**{c}**" if best[key] == i else c for key, c in zip(keys, cells, strict=True))]))
    notes = "".join(f"\n† published: {_escape_markdown(source)}\n" for source in _sources(rows))
    return "\n".join(lines) + "\n" + notes


def _latex(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], anchor: str, dataset: str) -> str:
    best = _best(rows, keys)
    heads = " & ".join(["", *(_escape_latex(_COLUMNS[key][0]) for key in keys)]) + r" \\"
    units = " & ".join(["codec", *(_escape_latex(f"({_COLUMNS[key][1]})") for key in keys)]) + r" \\"
    body = []
    for i, row in enumerate(rows):
        name = _escape_latex(str(row["codec"])) + (r"$^\dagger$" if row.get("source") else "")
        cells = [_cell(row, key, "$-$", "--") for key in keys]
        bold = [rf"\textbf{{{c}}}" if best[key] == i else c for key, c in zip(keys, cells, strict=True)]
        body.append(" & ".join([name, *bold]) + r" \\")
    sources = _sources(rows)
    note = r" $^\dagger$published points." if sources else ""
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            *(f"% published: {' '.join(source.split())}" for source in sources),
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_caption(anchor, dataset, _escape_latex)}{note}}}",
            r"  \begin{tabular}{l" + "r" * len(keys) + "}",
            r"    \toprule",
            f"    {heads}",
            f"    {units}",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _caption(anchor: str, dataset: str, escape: Callable[[str], str]) -> str:
    on = f" on {escape(dataset)}" if dataset else ""
    return f"BD-rate over {escape(anchor)}{on}. Negative is better."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(float(value))


def _cell(row: Mapping[str, Any], key: str, minus: str, unknown: str) -> str:
    value = row.get(key)
    if not _known(value):
        return unknown
    assert value is not None
    return format(float(value) / (1e6 if key == _MILLIONS else 1), _COLUMNS[key][2]).replace("-", minus)


def _best(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, int | None]:
    """Row of the best value in each column that has one."""
    found: dict[str, int | None] = {}
    for key in keys:
        pick = _COLUMNS[key][3]
        known = [(float(row[key]), i) for i, row in enumerate(rows) if _known(row.get(key))]
        found[key] = None if pick is None else pick(known)[1]
    return found


def _sources(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name and source of each published row."""
    return [f"{row['codec']}: {row['source']}" for row in rows if row.get("source")]


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _escape_markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|~$" else letter for letter in " ".join(text.split()))

"""Complexity that papers state, beside our counts: `data/published/complexity.csv`, each figure with its source.

A paper's codec stands beside ours of the same name in its size "paper". Papers count in their own ways, so ours is two
FLOPs for each multiply-add that our code computes, and "as published" our count under the paper's conventions where
these are known (`lic_lab.evaluation.reference_complexity`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from typing import Any

from tqdm import tqdm

from lic_lab.codecs import registry
from lic_lab.evaluation import reference_complexity as qian
from lic_lab.evaluation.complexity import complexity
from lic_lab.evaluation.published import folder

FILE = "complexity.csv"
COUNTS = {"GMAC": 1e-9, "GFLOP": 2e-9}  # of a multiply-add
TRANSFORMS = ("g_a", "g_s")  # the rest is the entropy model, as Qian's Table 3 counts


def published(codecs: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """What papers state: ``codec``, ``quantity``, ``unit``, ``height``, ``width``, ``value`` and ``source``.

    Parameters
    ----------
    codecs : iterable of str, optional
        Their names in the table; by default all.

    Returns
    -------
    list of dict
        In the order of the table. Height and width are None where a figure has none, or the paper does not say.

    Raises
    ------
    ValueError
        For a codec of which there is no figure.
    FileNotFoundError
        Without the table.
    """
    path = folder() / FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; restore it with git checkout, or set LIC_LAB_PUBLISHED")
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    names = dict.fromkeys(row["codec"] for row in rows)
    wanted = list(names if codecs is None else codecs)
    for name in wanted:
        if name not in names:
            raise ValueError(f"there is no published complexity of {name!r}; there is of {', '.join(names)}")
    for row in rows:
        row["value"] = float(row["value"])
        for side in ("height", "width"):
            row[side] = int(row[side]) if row[side] else None
    return [row for row in rows if row["codec"] in wanted]


def beside_ours(rows: Iterable[dict[str, Any]], progress: bool = True) -> list[dict[str, Any]]:
    """Each published figure with ours in its unit.

    Parameters
    ----------
    rows : iterable of dict
        As `published` gives them.
    progress : bool
        Show a bar.

    Returns
    -------
    list of dict
        The rows with ``ours`` and ``as_published``, None where we have no such codec, the unit is none that we count
        (seconds), or the paper's conventions are unknown.
    """
    found = [dict(row) for row in rows]
    for row in tqdm(found, desc="counting", disable=None if progress else True, leave=False):
        known = row["codec"] in registry.ENTRIES
        row["ours"] = _ours(row) if known else None
        row["as_published"] = _as_published(row) if row["codec"] == "global-reference" else None
    return found


def _ours(row: dict[str, Any]) -> float | None:
    if row["quantity"] == "parameters":
        return 1e-6 * registry.parameters(row["codec"])
    if row["height"] is None or not (row["unit"] in COUNTS or row["unit"] == "%"):
        return None
    macs = dict(_macs(row["codec"], row["height"], row["width"]))
    entropy_model = sum(n for part, n in macs.items() if part not in TRANSFORMS)
    if row["unit"] == "%":
        return 100 * macs["reference"] / entropy_model
    part = row["quantity"].partition(" of ")[2]
    count = entropy_model if part == "the entropy model" else macs[part] if part else sum(macs.values())
    return COUNTS[row["unit"]] * count


def _as_published(row: dict[str, Any]) -> float | None:
    if "entropy model" in row["quantity"]:
        return qian.entropy_model_as_published(row["height"], row["width"])[row["unit"] == "%"]
    part = row["quantity"].partition(" of ")[2]
    columns = {ours: column for column, (ours, _) in qian.TABLE_2.items()}
    return qian.as_published()[columns[part]] if part in columns else None


@cache
def _macs(name: str, height: int, width: int) -> tuple[tuple[str, int], ...]:
    codec = registry.create(name)
    return tuple((row["module"], row["macs"]) for row in complexity(codec, height, width))

"""The table of published complexity is what the papers state, and our figures beside it are our counts."""

import math

import pytest

from lic_lab.codecs import registry
from lic_lab.evaluation import reference_complexity as qian
from lic_lab.evaluation.complexity import complexity
from lic_lab.evaluation.published_complexity import beside_ours, published


def test_every_figure_has_a_source_and_none_is_there_twice():
    rows = published()
    for row in rows:
        assert row["source"].split(", Table ")[1]
        assert math.isfinite(row["value"]) and row["value"] > 0
        assert (row["height"] is None) == (row["width"] is None)
    keys = [(row["codec"], row["quantity"], row["height"], row["source"]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_qian_s_figures_are_those_of_the_conversion():
    """`reference_complexity` has them too, with how they are counted."""
    of = {(row["quantity"], row["height"], row["width"]): row["value"] for row in published(["global-reference"])}
    for part, value in qian.TABLE_2.values():
        assert of[f"FLOPs of {part}", 512, 768] == value
    for value, percent, size in qian.TABLE_3.values():
        assert of["FLOPs of the entropy model", *size] == value
        assert of["share of reference in the entropy model", *size] == percent
    assert len(of) == len(qian.TABLE_2) + 2 * len(qian.TABLE_3)


def test_ours_is_in_the_published_unit():
    rows = beside_ours(published(["hyperprior"]), progress=False)
    of = {row["quantity"]: row["ours"] for row in rows}
    counts = complexity(registry.create("hyperprior"), 512, 768)
    assert of["MACs"] == pytest.approx(1e-9 * sum(row["macs"] for row in counts))
    assert of["parameters"] == pytest.approx(1e-6 * sum(row["parameters"] for row in counts))
    assert of["encoding time"] is None  # it is measured, not counted
    assert all(row["as_published"] is None for row in rows)


@pytest.mark.slow
def test_the_global_reference_is_counted_as_published():
    rows = [row for row in published(["global-reference"]) if row["height"] == 240]
    flops, share = beside_ours(rows, progress=False)
    assert flops["as_published"] == pytest.approx(flops["value"], rel=0.01)
    assert share["as_published"] == pytest.approx(share["value"], rel=0.01)
    (ours,) = qian.table_3(["240p"])
    assert flops["ours"] == pytest.approx(ours["gflops"])
    assert share["ours"] == pytest.approx(ours["percent"])


def test_what_is_not_there_is_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no published complexity of 'jpeg'; there is of global-reference, "):
        published(["jpeg"])
    monkeypatch.setenv("LIC_LAB_PUBLISHED", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="restore it"):
        published()

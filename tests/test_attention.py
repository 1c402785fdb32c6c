"""Attention maps are read from what a tap says of its queries, keys and visibility, whatever component it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import lively
from skimage import data
from torch import Tensor, nn

import lic_lab as lab
from lic_lab import figures
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.seen import Seen
from lic_lab.layers.attention import attend, mask, masked_softmax
from lic_lab.layers.places import Grid, Places, tap_attention
from lic_lab.tracing.attention import look
from lic_lab.tracing.taps import Record, taps


class RowAttention(Context):
    """A component that nobody knows: each non-anchor attends to the anchors of its row."""

    pattern = "checkerboard"
    kinds = ("second",)

    def __init__(self, order: CodingOrder):
        super().__init__()
        self.order = order

    def width(self, i: int) -> int:
        return self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        rows = seen.anchors(i).permute(0, 2, 3, 1)  # (B, H, W, S)
        B, H, W, S = rows.shape
        anchors = seen.anchor_mask()
        hidden = mask(anchors[:, None, None, :].expand(H, 1, W, W))
        weights = masked_softmax((rows @ rows.mT / S)[:, :, None], hidden)  # (B, H, 1, W, W)
        at = torch.arange(H * W).view(H, W)
        tap_attention("rows", weights, lambda: Places(at.where(~anchors, -1), at, Grid(H, W), hidden=hidden), slice=i)
        return step.take(attend(weights[:, :, 0], rows).permute(0, 3, 1, 2))


def with_rows() -> lab.codecs.codec.Codec:
    codec = lab.create("mean-scale", size="small")
    order = CodingOrder((40, 56), pattern="checkerboard")
    rows = RowAttention(order)
    hyper = [2 * order.M] * 2
    widths = {"first": {"hyper": hyper}, "second": {"hyper": hyper, "local": [rows.width(0), rows.width(1)]}}
    codec.entropy = EntropyModel(order, {"local": {"rows": rows}}, Parameters(order, widths, hidden=(32,)))
    with torch.no_grad():
        codec.g_a[-1].weight *= 100
    return codec.eval()


def test_a_new_component_s_attention_is_in_the_trace_without_a_word_about_it() -> None:
    found = lab.trace(with_rows(), data.astronaut()[:90, :141])
    assert found.attentions == {"rows": [0, 1]} and found.attending == ["rows"]
    h, w = found.bits.shape[1:]
    anchors = found.parts["anchor"]
    for i, (row, column) in ((0, (2, 4)), (1, (5, 1)), (1, (0, 0))):
        seen = found.attention("rows", i, (row, column))
        assert seen.position == (row, column) and seen.weights.shape == (1, h, w)
        expected = np.zeros((h, w), bool)
        expected[row] = anchors[row]
        np.testing.assert_array_equal(seen.visible, expected)
        np.testing.assert_array_equal(np.isnan(seen.weights[0]), ~expected)
        y = np.where(anchors, found.y_hat[found.channels(i)], 0)
        scores = np.exp((y[:, row, column] @ y[:, row]) / len(y))[anchors[row]]
        np.testing.assert_allclose(seen.weights[0, row, anchors[row]], scores / scores.sum(), rtol=1e-4)
    row, column = np.argwhere(anchors)[7]
    asked = found.attention("rows", 0, (int(row), int(column))).position  # anchors ask nothing
    assert not anchors[asked] and abs(asked[0] - row) + abs(asked[1] - column) == 1
    assert figures.attention(found, "rows", 1, (2, 4)).axes[1].get_title().startswith("rows, slice 1")


def test_attention_weights_sum_to_one_where_visible() -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter")
    found = lab.trace(codec, data.astronaut()[:192, :250])
    for component in ("local", "intra", "inter"):
        seen = found.attention(component, 2, (5, 8))
        assert seen.weights.shape[1:] == found.bits.shape[1:]
        np.testing.assert_allclose(np.nansum(seen.weights, axis=(1, 2)), 1, rtol=1e-5)
        assert abs(seen.position[0] - 5) + abs(seen.position[1] - 8) <= 1
        i, j = np.nonzero(seen.visible)
        far = np.maximum(abs(i - seen.position[0]), abs(j - seen.position[1]))
        if component != "inter":
            assert ((i + j) % 2 == 1).all()
        if component == "intra":  # MLIC, Fig. 10: anchors outside the 5 x 5 receptive field
            assert (far > 2).all() and seen.visible.sum() > found.parts["anchor"].sum() - 13
        if component == "local":  # and those inside
            assert (far <= 2).all() and seen.visible.sum() == 12
        if component == "inter":
            assert seen.visible.all()
        with pytest.raises(ValueError, match="rows are 0 to 11, columns 0 to 15"):
            found.attention(component, 2, (500, 8))
    with pytest.raises(ValueError, match="no attention map"):
        found.attention("reference", 2, (5, 8))


def test_patches_stay_in_their_patch() -> None:
    """2 x 70 positions in two patches: a query sees its own, and so does the neighbour of one that asks nothing."""
    codec = lively("shared").swap(channel="conv", local="none", global_="intra+inter")
    picture = np.tile(data.astronaut()[:32], (1, 3, 1))[:, : 16 * 70]
    found = lab.trace(codec, picture, reconstruct=False)
    assert found.patched
    for component in ("intra", "inter"):
        for column in range(70):
            for row in range(2):
                seen = found.attention(component, 1, (row, column))
                columns = np.nonzero(seen.visible)[1]
                assert ((columns < 36) == (column < 36)).all()
                assert (seen.position[1] < 36) == (column < 36)


# -- what a tap may say -----------------------------------------------------------------------------------------------


def tapped(weights: np.ndarray, places: Places) -> Record:
    return Record("x.attention", {"places": places, "slice": 0}, weights)


def test_queries_of_one_symbol_are_averaged_and_keys_of_one_position_add_up() -> None:
    """A window of two chunks of channels over two positions, three of whose four queries ask for position 4."""
    weights = np.random.default_rng(0).uniform(size=(1, 2, 4, 4)).astype(np.float32)
    places = Places(torch.tensor([[4, 4, -1, 4]]), torch.tensor([[1, 5, 5, -1]]), Grid(2, 4))
    seen = look([tapped(weights, places)], (0, 0))
    assert seen.position == (1, 0)
    mean = weights[0][:, [0, 1, 3]].mean(1)
    np.testing.assert_allclose(seen.weights[:, 0, 1], mean[:, 0], rtol=1e-6)
    np.testing.assert_allclose(seen.weights[:, 1, 1], mean[:, 1] + mean[:, 2], rtol=1e-6)
    assert np.argwhere(seen.visible).tolist() == [[0, 1], [1, 1]] and np.isnan(seen.weights[:, ~seen.visible]).all()


def test_the_mask_of_the_softmax_is_the_map_s() -> None:
    """Also where a query sees nothing, which the softmax's mask has to write as seeing everything."""
    visible = torch.tensor([[True, False, True], [False, False, False]])
    places = Places(torch.tensor([0, 2]), torch.tensor([0, 1, 2]), Grid(1, 3), hidden=mask(visible))
    weights = np.full((1, 2, 3), 0.5, np.float32)
    for position, row in ((0, 0), (2, 1)):
        seen = look([tapped(weights, places)], (0, position))
        np.testing.assert_array_equal(seen.visible[0], visible[row])
        np.testing.assert_array_equal(np.isnan(seen.weights[0, 0]), ~visible[row])


def test_a_search_could_have_chosen_whatever_came_before() -> None:
    times = torch.tensor([0, 1, 1, 2, 3, 3])
    places = Places(torch.tensor([[3], [4], [-1]]), torch.tensor([[1], [0], [2]]), Grid(2, 3), times=times)
    seen = look([tapped(np.float32([0.7, 0.4, 0.9]).reshape(3, 1, 1, 1), places)], (1, 1))
    assert seen.visible.flatten().tolist() == [True, True, True, True, False, False]
    assert seen.weights[0].flatten()[:4] == pytest.approx([0.4, 0, 0, 0])
    assert look([tapped(np.ones((3, 1, 1, 1)), places)], (1, 2)).position == (1, 1)  # (1, 2) found nothing


def test_of_equally_near_queries_one_that_looks_at_the_position_is_taken() -> None:
    left, right = (
        Places(torch.tensor([at]), torch.tensor(keys), Grid(1, 5)) for at, keys in ((1, [0, 1]), (3, [2, 3, 4]))
    )
    records = [tapped(np.ones((1, 1, len(places.keys))), places) for places in (left, right)]
    assert look(records, (0, 2)).position == (0, 3)
    assert look(records, (0, 0)).position == (0, 1)
    with pytest.raises(ValueError, match="nothing asks"):
        look([tapped(np.ones((1, 1, 1)), Places(torch.tensor([-1]), torch.tensor([0]), Grid(1, 5)))], (0, 0))
    with pytest.raises(ValueError, match="nothing asks"):
        look([], (0, 0))


@pytest.mark.parametrize("component", ["local", "intra", "inter"])
def test_a_latent_of_one_position_asks_nothing_and_says_so(component: str) -> None:
    codec = lively("shared").swap(channel="conv", local="attention", global_="intra+inter")
    found = lab.trace(codec, np.full((9, 9, 3), 100, np.uint8))
    with pytest.raises(ValueError, match="nothing asks here: .*; trace a larger picture"):
        found.attention(component, 1, (0, 0))


def test_places_cost_nothing_unless_somebody_keeps_the_weights() -> None:
    def places() -> Places:
        pytest.fail("nobody asked")

    weights = torch.ones(1, 1, 2, 2)
    assert tap_attention("x", weights, places) is weights
    with taps(keep=lambda name: False) as found:
        tap_attention("x", weights, places)
    assert found.names == {"x.attention": False} and not found.records


# -- windows of a transform, fine and coarse ---------------------------------------------------------------------------


class CrossWindows(nn.Module):
    """Leaves its input as it is, and taps weights of 4 x 4 windows over it and its half-size map, as CWAM has them.

    Weights fall with the distance in positions of this grid. Windows beyond the edge are filled up, as Swin's are.
    """

    def __init__(self, name: str, side: float):
        super().__init__()
        self.name, self.side = name, side

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        fine = windows(h, w, 4)
        coarse = windows(-(-h // 2), -(-w // 2), 2)
        here, there = Grid(h, w, self.side), Grid(-(-h // 2), -(-w // 2), 2 * self.side)
        for kind, keys, among in (("fine", fine, here), ("coarse", coarse, there)):
            scores = -distance(fine, here, keys, among)[None, :, None]  # (1, windows, 1, Q, K)
            hidden = mask((keys >= 0)[:, None, None, :])
            weights = masked_softmax(scores, hidden).expand(len(x), -1, 2, -1, -1)
            tap_attention(f"{self.name}.{kind}", weights, lambda k=keys, a=among, m=hidden: Places(fine, k, here, a, m))
        return x


def windows(h: int, w: int, size: int) -> Tensor:
    """(windows, size^2) flat positions, -1 beyond the edge."""
    at = nn.functional.pad(torch.arange(h * w).view(h, w), (0, -w % size, 0, -h % size), value=-1)
    return at.unfold(0, size, size).unfold(1, size, size).flatten(2).flatten(0, 1)


def distance(queries: Tensor, here: Grid, keys: Tensor, among: Grid) -> Tensor:
    def middle(at: Tensor, grid: Grid) -> Tensor:
        return (torch.stack((at // grid.columns, at % grid.columns), -1) + 0.5) * grid.side / here.side

    return (middle(queries, here)[:, :, None] - middle(keys, among)[:, None]).norm(dim=-1)


def with_windows() -> lab.codecs.codec.Codec:
    torch.manual_seed(1)
    codec = lab.create("mean-scale", size="small")
    layers = list(codec.g_a)
    codec.g_a = nn.Sequential(*layers[:4], CrossWindows("g_a", 1 / 4), *layers[4:])  # after two of four stages
    codec.hyperprior.h_a = nn.Sequential(CrossWindows("h_a", 1), codec.hyperprior.h_a)
    codec.g_s = nn.Sequential(CrossWindows("g_s", 1), codec.g_s)
    return codec.eval()


def test_windows_of_a_transform_are_drawn_on_their_own_grid_fine_and_coarse() -> None:
    found = lab.trace(with_windows(), data.astronaut()[:333, :500])
    assert found.bits.shape[1:] == (21, 32)
    assert set(found.attentions) == {f"{part}.{kind}" for part in ("g_a", "h_a", "g_s") for kind in ("fine", "coarse")}
    fine = found.attention("g_a.fine", 0, (2.3, 7))  # 2.3 is 2.8 of 21 rows, which is 11.2 of 84
    coarse = found.attention("g_a.coarse", 0, (2.3, 7))
    assert fine.position == coarse.position == (11, 30)
    assert fine.weights.shape == (2, 84, 128) and coarse.weights.shape == (2, 42, 64)
    assert (fine.side, fine.query_side, coarse.side, coarse.query_side) == (0.25, 0.25, 0.5, 0.25)
    assert (fine.centre, fine.under) == ((11, 30), (11, 30)) and (coarse.centre, coarse.under) == (
        (5.25, 14.75),
        (5, 15),
    )
    for seen, rows, columns in ((fine, slice(8, 12), slice(28, 32)), (coarse, slice(4, 6), slice(14, 16))):
        expected = np.zeros_like(seen.visible)
        expected[rows, columns] = True  # one window is seen
        np.testing.assert_array_equal(seen.visible, expected)
        i, j = np.indices(expected.shape)
        far = np.hypot(i - seen.centre[0], j - seen.centre[1]) * seen.side / seen.query_side
        weights = np.exp(-far[expected]) / np.exp(-far[expected]).sum()
        np.testing.assert_allclose(seen.weights[:, expected], np.stack(2 * [weights]), rtol=1e-4)
    at_the_edge = found.attention("h_a.fine", 0, (20, 31))  # rows 20 to 23, of which 21 to 23 do not exist
    assert at_the_edge.visible.sum() == 4 and np.nansum(at_the_edge.weights[0]) == pytest.approx(1)
    left, right = figures.attention(found, "g_a.coarse", 0, (2.3, 7)).axes[:2]
    assert right.images[1].get_extent() == [0, 64 * 8, 42 * 8, 0]
    query = left.patches[0]
    assert (query.get_xy(), query.get_width(), query.get_height()) == ((30 * 4, 11 * 4), 4, 4)


def test_taps_of_the_transforms_are_in_the_trace_whether_the_picture_was_made_or_known() -> None:
    codec, picture = with_windows(), data.astronaut()[:90, :141]
    found = lab.latent(codec, picture)
    first, again = lab.trace(codec, found), lab.trace(codec, found)
    assert len(found.pictures) == 1
    for run in (first, again):
        assert {run.taps[f"{part}.fine.attention"] for part in ("g_a", "g_s")} == {"g_a", "g_s"}
        assert run.taps["h_a.fine.attention"] == "hyper"
        assert [r.name for r in run.records] == [r.name for r in first.records]
        for record_, known in zip(run.records, first.records, strict=True):
            np.testing.assert_array_equal(record_.value, known.value)
    bits = lab.trace(codec, found, reconstruct=False)
    assert bits.attentions.keys() == {"g_a.fine", "g_a.coarse", "h_a.fine", "h_a.coarse"} and bits.x_hat is None


@pytest.mark.parametrize("before", [True, False], ids=["everything was kept", "nothing was kept"])
@pytest.mark.parametrize("part", ["g_a", "h_a", "g_s"])
def test_what_is_kept_follows_keep_whatever_was_kept_before(part: str, before: bool) -> None:
    codec, picture = with_windows(), data.astronaut()[:90, :141]
    found = lab.latent(codec, picture, keep=lambda name: before)
    everything = lab.trace(codec, found, keep=lambda name: before)
    wanted = f"{part}.coarse.attention"
    run = lab.trace(codec, found, keep=lambda name: name == wanted)
    assert [r.name for r in run.records] == [wanted]
    assert run.taps == everything.taps and len(run.attending) == 6  # names are there, kept or not
    whole = lab.trace(codec, picture)
    (known,) = [r for r in whole.records if r.name == wanted]
    np.testing.assert_array_equal(run.records[0].value, known.value)
    np.testing.assert_array_equal(run.x_hat, whole.x_hat)
    assert not lab.trace(codec, found, keep=lambda name: False).records

"""Global reference: the decoded latent most like the surroundings of the one to be coded (Qian et al., ICLR 2021).

For a target position i, its decoded neighbours are compared with those of every position decoded before (Eq. 4):

    r_ij = <q_i / |q_i|, q_j / |q_j|>,    j* = argmax_j r_ij,    S_i = r_ij*,    U_i = mean over channels of p(y_hat_j*)

and the window of the best one goes through a masked convolution; its output is multiplied by S_i and U_i (Fig. 5),
through which no gradient passes [ours]. p is the probability of the decoded symbols without the reference: under
(mu_1, sigma_1), which in Qian et al. knows the local context alone.

In raster order q is the masked K x K window (left and above), and the past is what earlier wavefronts decoded: the
scan's past without a wedge to the upper right, which a wavefront decodes at the same time [ours]. Training and coding
search the same past (the released code trains with a search of all positions).

On a checkerboard the anchors are the past of the non-anchors [ours]. Of a non-anchor's K x K window the anchors are
decoded, of an anchor's window just the others: for the comparison the holes are filled with the mean of their
neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Informed, InformedContext, Prior
from lic_lab.entropy.contexts.local import CHUNK, window
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen
from lic_lab.layers.nearest import Past
from lic_lab.layers.places import Grid, Places, tap_attention
from lic_lab.layers.tap import tap


class RasterReference(InformedContext):
    """The global reference in raster order.

    Parameters
    ----------
    order : CodingOrder
        A wavefront.
    out_channels : int
        Of the masked convolution: M [paper, appendix Table 1].
    kernel : int
        Of the patches and of the convolution: 3 [paper].
    """

    pattern = "wavefront"
    kinds = ("raster",)
    name = "reference"
    cells: Tensor

    def __init__(self, order: CodingOrder, out_channels: int, kernel: int = 3):
        super().__init__()
        self.slope, self.kernel, self.out_channels = order.kernel // 2 + 1, kernel, out_channels
        past = kernel * (kernel // 2) + kernel // 2  # cells above, and left of the centre
        self.register_buffer("cells", torch.arange(past + 1), persistent=False)  # the centre too
        self.linear = nn.Linear(order.M * (past + 1), out_channels)

    def width(self, i: int) -> int:
        return self.out_channels

    def inform(self, seen: Seen, i: int, step: Step, prior: Callable[[], Prior], gaussian: Gaussian) -> Informed | None:
        B, M, H, W = seen.y_hat.shape
        at = torch.arange(H * W, device=seen.y_hat.device) if step.positions is None else step.positions
        fronts = at % W + self.slope * (at // W)  # the wavefront that decodes each position
        memory = seen.memory(self)
        if not memory:
            memory["past"] = Past(seen.y_hat, H * W, M * (len(self.cells) - 1))
            memory["positions"], memory["confidence"] = at[:0], seen.y_hat.new_zeros(B, 0)
        if step.positions is None:  # all at once: their own past is among them, and told apart by time
            order = fronts.argsort(stable=True)
            at, fronts = at[order], fronts[order]
            mu, log_sigma, _ = prior()
            self._learn(seen, memory, gaussian, at, fronts, Prior(mu[:, :, order], log_sigma[:, :, order]))
        elif "step" in memory:  # the step before is decoded by now
            self._learn(seen, memory, gaussian, *memory["step"])
        memory["step"] = (at, fronts, prior())
        if not memory["past"].count:
            return _nothing(seen, self.out_channels, len(at))
        found, features, trusts = [], [], []
        for some, times in zip(at.split(CHUNK), fronts.split(CHUNK), strict=True):
            similarity, best = memory["past"].most_similar(self._patches(seen, some), times)
            confidence = memory["confidence"].gather(1, best)
            position = memory["positions"][best]  # (B, n)
            found.append(torch.stack((position.to(similarity), similarity, confidence), 1))
            relevant = _windows(seen.y_hat, position, self.cells, self.kernel)  # (B, n, M, cells)
            trusts.append((similarity.clamp(0, 1) * confidence)[:, None])
            features.append(self.linear(relevant.flatten(2)).mT * trusts[-1])
        out, trust = torch.cat(features, 2), torch.cat(trusts, 2)  # (B, out, n), (B, 1, n)
        _show(self.name, i, torch.cat(found, 2), trust, at, Grid(H, W), partial(self._fronts, H, W))
        if step.positions is None:
            back = order.argsort()
            out, trust = out[:, :, back], trust[:, :, back]
        return Informed(out, trust)

    def _fronts(self, H: int, W: int) -> Tensor:
        """The wavefront that decodes each position, (H W,)."""
        return (torch.arange(W) + self.slope * torch.arange(H)[:, None]).flatten()

    def _patches(self, seen: Seen, at: Tensor) -> Tensor:
        """The masked patches of Eq. 4: (B, n, M past)."""
        return window(seen.y_hat.detach(), at, self.cells[:-1], self.kernel).flatten(2)

    def _learn(
        self, seen: Seen, memory: dict[Any, Any], gaussian: Gaussian, at: Tensor, fronts: Tensor, prior: Prior
    ) -> None:
        """Add decoded positions to the past."""
        for some, times in zip(at.split(CHUNK), fronts.split(CHUNK), strict=True):
            memory["past"].add(self._patches(seen, some), times)
        memory["positions"] = torch.cat((memory["positions"], at))
        symbols = seen.y_hat.flatten(2).index_select(2, at)
        memory["confidence"] = torch.cat((memory["confidence"], _confidence(gaussian, symbols, prior)), 1)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        self.linear.weight /= scale.repeat_interleave(len(self.cells))


class CheckerboardReference(InformedContext):
    """The global reference on a checkerboard: non-anchors look for an anchor.

    Patches to compare are K x K windows of all slices decoded so far, the current one with its holes filled. The
    convolution reads the found anchor's window of the current slice.

    Parameters
    ----------
    order : CodingOrder
    kernel : int
        3 [paper].
    expand : int
        Features per channel of the slice: 2, as the other contexts of MLIC.
    """

    pattern = "checkerboard"
    kinds = ("second",)
    name = "reference"
    cells: Tensor

    def __init__(self, order: CodingOrder, kernel: int = 3, expand: int = 2):
        super().__init__()
        self.order, self.kernel, self.expand = order, kernel, expand
        self.register_buffer("cells", torch.arange(kernel**2), persistent=False)
        self.linears = nn.ModuleList(nn.Linear(S * kernel**2, expand * S) for S in order.slices)

    def width(self, i: int) -> int:
        return self.expand * self.order.slices[i]

    def inform(self, seen: Seen, i: int, step: Step, prior: Callable[[], Prior], gaussian: Gaussian) -> Informed | None:
        memory = seen.memory(self)
        if step.kind not in self.kinds:
            memory[i] = (step, prior())
            return None
        if i not in memory:  # a latent without anchors
            return _nothing(seen, self.width(i), len(step.positions))  # type: ignore[arg-type]
        first, channels = step.slices[0], seen.order.channels(i)  # slices coded at once share the search
        to, of_anchors = memory[i]
        filled = seen.once_per_slice(self, first, lambda: _filled(seen, step))
        similarity, best = seen.once_per_slice(self.linears, first, lambda: _search(filled, to, step, self.kernel))
        symbols = to.take(seen.slice(i))
        confidence = _confidence(gaussian, symbols, of_anchors).gather(1, best)
        position = to.positions[best]  # (B, n)
        found = torch.stack((position.to(similarity), similarity, confidence), 1)
        relevant = _windows(filled[:, channels], position, self.cells, self.kernel)  # (B, n, S, cells)
        trust = (similarity.clamp(0, 1) * confidence)[:, None]
        assert step.positions is not None
        grid = Grid(*seen.y_hat.shape[2:])
        _show(self.name, i, found, trust, step.positions, grid, lambda: (~seen.anchor_mask()).flatten().int())
        return Informed(self.linears[i](relevant.flatten(2)).mT * trust, trust)

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for linear, own in zip(self.linears, scale.split(self.order.slices), strict=True):
            linear.weight /= own.repeat_interleave(len(self.cells))


def _show(name: str, i: int, found: Tensor, trust: Tensor, at: Tensor, grid: Grid, times: Callable[[], Tensor]) -> None:
    """Tap what the positions `at` (n,) found, position, S and U (B, 3, n), and S U (B, 1, n) as a map of attention."""
    tap(f"{name}.found", found, positions=at, slice=i)

    def places() -> Places:
        there = found[0, 1] > 0
        queries, keys = (torch.where(there, of.long(), -1)[:, None] for of in (at, found[0, 0]))
        return Places(queries, keys, grid, times=times())

    tap_attention(name, trust[:, 0, :, None, None, None], places, slice=i)


def _nothing(seen: Seen, width: int, n: int) -> Informed:
    """Features and trust where there is nothing to refer to."""
    B = len(seen.y_hat)
    return Informed(seen.y_hat.new_zeros(B, width, n), seen.y_hat.new_zeros(B, 1, n))


def _confidence(gaussian: Gaussian, symbols: Tensor, prior: Prior) -> Tensor:
    """U: mean over the channels of the probability of decoded `symbols` (B, C, n): (B, n)."""
    return gaussian.probability(symbols.detach(), prior.mu.detach(), prior.log_sigma.detach()).mean(1)


def _windows(grid: Tensor, at: Tensor, cells: Tensor, kernel: int) -> Tensor:
    """`window` of (B, C, H, W) at positions (B, n) of their own for each image: (B, n, C, c)."""
    return torch.cat([window(of, j, cells, kernel) for of, j in zip(grid.split(1), at, strict=True)])


def _filled(seen: Seen, step: Step) -> Tensor:
    """The slices decoded so far, the holes of the current ones filled with the mean of their neighbours."""
    channels = seen.order.step_channels(step)
    current, anchors = seen.y_hat[:, channels].detach(), seen.anchor_mask()
    current = torch.where(anchors, current, torch.zeros_like(current))
    mean = _cross(current) / _cross(anchors.to(current)[None, None]).clamp(min=1)
    return torch.cat((seen.y_hat[:, : channels.start].detach(), torch.where(anchors, current, mean)), 1)


def _cross(grid: Tensor) -> Tensor:
    """Sum of the four neighbours of each position of (B, C, H, W), zeros outside."""
    padded = F.pad(grid, (1, 1, 1, 1))
    return padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def _search(filled: Tensor, anchors: Step, step: Step, kernel: int) -> tuple[Tensor, Tensor]:
    """Similarity and index of the anchor most like each position of `step`, (B, n) each."""
    known, asked = anchors.positions, step.positions
    assert known is not None and asked is not None
    cells = torch.arange(kernel**2, device=filled.device)
    keys, queries = (window(filled, at, cells, kernel).flatten(2) for at in (known, asked))
    past = Past(filled, keys.shape[1], keys.shape[2])
    past.add(keys, torch.zeros_like(known))
    return past.most_similar(queries, torch.ones_like(asked))

"""Latent residual prediction (LRP): guess the quantisation error from what is decoded (Minnen and Singh 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen


class LatentResidualPrediction(nn.Module):
    """Adds ``0.5 tanh(net(Phi_h, y_hat^{<=i}))`` to the decoded symbols of slice i.

    Parameters
    ----------
    order : CodingOrder
    hyper_channels : int
        Channels of Phi_h.
    hidden : sequence of two int
        Widths of the 3 x 3 convolutions: (224, 128) [released code of MLIC++].
    split : bool
        True: separate networks for anchors and non-anchors, and the anchors are refined before the non-anchors'
        context is computed [released code]. False: one network, applied when the slice is complete
        (Minnen and Singh 2020).
    support : int or None
        Use at most this many of the first slices, as in `ChannelContext`.
    """

    def __init__(
        self,
        order: CodingOrder,
        hyper_channels: int,
        hidden: Sequence[int] = (224, 128),
        split: bool = False,
        support: int | None = None,
    ):
        super().__init__()
        self.order, self.split, self.support = order, split, support
        self.nets = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    nn.Sequential(
                        nn.Conv2d(hyper_channels + sum(order.slices[:i][:support]) + S, hidden[0], 3, padding=1),
                        nn.GELU(),
                        nn.Conv2d(hidden[0], hidden[1], 3, padding=1),
                        nn.GELU(),
                        nn.Conv2d(hidden[1], S, 3, padding=1),
                    )
                    for i, S in enumerate(order.slices)
                )
                for kind in (("first", "second") if split else ("second",))
            }
        )

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor | None:
        """What to add to slice `i` after `step` is decoded: (B, S, H, W), or None for nothing yet."""
        if not step.last and not self.split:
            return None
        if step.part == "wavefront":
            raise ValueError("LRP refines slices or checkerboard halves; it has no meaning in raster order")
        current = seen.anchors(i) if step.part == "anchor" else seen.slice(i)
        before = seen.before(i)[:, : sum(self.order.slices[:i][: self.support])]
        net = self.nets["first" if step.part == "anchor" else "second"][i]
        residual: Tensor = 0.5 * torch.tanh(net(torch.cat((seen.hyper, before, current), 1)))
        if self.split and step.mask is not None:
            residual = residual * step.mask
        return residual

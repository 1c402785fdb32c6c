"""Latent residual prediction (LRP): guess the quantisation error from what is decoded (Minnen and Singh 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
        Channels of Phi_h to read, counted from its end: the means' half [released code of Minnen and Singh 2020, of
        MLIC++], or all of them [ours, in MLIC: Phi_h there is not split into means and scales].
    hidden : sequence of two int
        Widths of the first two convolutions: (224, 128) [released code of MLIC++].
    split : bool
        True: separate networks for anchors and non-anchors, and the anchors are refined before the non-anchors'
        context is computed [released code]. False: one network, applied when the slice is complete
        (Minnen and Singh 2020).
    support : int or None
        Use at most this many of the first slices, as in `ChannelContext`.
    kernels : sequence of three int
        (3, 3, 3) [released code of MLIC++]; (5, 5, 3) [released code of Minnen and Singh 2020].
    activation : callable
        Makes the non-linearity: GELU in MLIC, ReLU in Minnen and Singh 2020.
    """

    def __init__(
        self,
        order: CodingOrder,
        hyper_channels: int,
        hidden: Sequence[int] = (224, 128),
        split: bool = False,
        support: int | None = None,
        kernels: Sequence[int] = (3, 3, 3),
        activation: Callable[[], nn.Module] = nn.GELU,
    ):
        super().__init__()
        self.order, self.hyper_channels, self.split, self.support = order, hyper_channels, split, support
        k0, k1, k2 = kernels
        self.nets = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    nn.Sequential(
                        nn.Conv2d(hyper_channels + sum(order.slices[:i][:support]) + S, hidden[0], k0, padding=k0 // 2),
                        activation(),
                        nn.Conv2d(hidden[0], hidden[1], k1, padding=k1 // 2),
                        activation(),
                        nn.Conv2d(hidden[1], S, k2, padding=k2 // 2),
                    )
                    for i, S in enumerate(order.slices)
                )
                for kind in (("first", "second") if split else ("second",))
            }
        )

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor | None:
        """What to add to slice `i` after `step` is decoded: (B, S, H, W), or None for nothing yet."""
        if step.kind not in ("first", "second"):
            raise ValueError(f"LRP refines slices or checkerboard halves; it has no meaning in {self.order.name} order")
        if not step.part.last and not self.split:
            return None
        current = seen.slice(i) if step.part.last else seen.anchors(i)
        before = seen.before(i)[:, : sum(self.order.slices[:i][: self.support])]
        hyper = seen.hyper[:, -self.hyper_channels :]
        net = self.nets["second" if step.part.last else "first"][i]
        residual: Tensor = 0.5 * torch.tanh(net(torch.cat((hyper, before, current), 1)))
        if self.split and step.mask is not None:
            residual = residual * step.mask
        return residual

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        """Divide the weights that read the latent by its `scale` (M,), and begin with almost nothing to add."""
        for kind in self.nets:
            nets: Any = self.nets[kind]
            for i, net in enumerate(nets):
                own = self.order.channels(i)
                latent = torch.cat((scale[: own.start][: sum(self.order.slices[:i][: self.support])], scale[own]))
                net[0].weight[:, self.hyper_channels :] /= latent[:, None, None]
                net[-1].weight *= 0.01

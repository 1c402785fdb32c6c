"""Channel contexts over the decoded slices: MLIC's g_ch (section 3.3), Minnen and Singh's slice transforms (2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen


class ChannelContext(Context):
    """Phi_ch^i = g_ch(y_hat^{<i}); slice 0 has none.

    Parameters
    ----------
    order : CodingOrder
    hidden : sequence of two int
        Widths of the first two convolutions: (192, 128) [released code of MLIC++].
    expand : int
        Features per channel of the slice: 4 [released code].
    support : int or None
        Use at most this many of the first slices (Minnen and Singh 2020 use 5 of 10); None for all.
    """

    in_turn = True

    def __init__(
        self, order: CodingOrder, hidden: Sequence[int] = (192, 128), expand: int = 4, support: int | None = None
    ):
        super().__init__()
        self.order, self.expand, self.support = order, expand, support
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(self._supported(i), hidden[0], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(hidden[0], hidden[1], 3, padding=1),
                nn.GELU(),
                nn.Conv2d(hidden[1], self.width(i), 3, padding=1),
            )
            for i in range(1, len(order.slices))
        )

    def _supported(self, i: int) -> int:
        return sum(self.order.slices[:i][: self.support])

    def width(self, i: int) -> int:
        return 0 if i == 0 else self.expand * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        net = self.nets[i - 1]
        return step.take(seen.once_per_slice(self, i, lambda: net(seen.before(i)[:, : self._supported(i)])))

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for i, net in enumerate(self.nets, 1):
            net[0].weight /= scale[: self._supported(i), None, None]


class SliceTransforms(Context):
    """Minnen and Singh's channel-conditional transforms: (log sigma, mu) of slice i from Phi_h and y_hat^{<i}.

    Two networks a slice, conv 5x5, 5x5, 3x3 with ReLU; that of sigma reads the scales' half of Phi_h, that of mu the
    means'. Their outputs are the parameters themselves (`parameters.Direct`).

    Parameters
    ----------
    order : CodingOrder
    hyper_channels : int
        Channels of Phi_h, both halves together.
    hidden : sequence of two int
        (224, 128) [released code].
    support : int
        Use at most this many of the first slices: 5 [paper, section 4].
    """

    in_turn = True

    def __init__(self, order: CodingOrder, hyper_channels: int, hidden: Sequence[int] = (224, 128), support: int = 5):
        super().__init__()
        self.order, self.support = order, support

        def networks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(hyper_channels // 2 + self._supported(i), hidden[0], 5, padding=2),
                    nn.ReLU(),
                    nn.Conv2d(hidden[0], hidden[1], 5, padding=2),
                    nn.ReLU(),
                    nn.Conv2d(hidden[1], S, 3, padding=1),
                )
                for i, S in enumerate(order.slices)
            )

        self.scale, self.mean = networks(), networks()

    def _supported(self, i: int) -> int:
        return sum(self.order.slices[:i][: self.support])

    def width(self, i: int) -> int:
        return 2 * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        scales, means = seen.hyper.chunk(2, 1)
        before = seen.before(i)[:, : self._supported(i)]
        log_sigma = self.scale[i](torch.cat((scales, before), 1))
        mu = self.mean[i](torch.cat((means, before), 1))
        return step.take(torch.cat((log_sigma, mu), 1))

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for nets in (self.scale, self.mean):
            for i, net in enumerate(nets):
                latent = self._supported(i)  # what comes after the features of the hyperprior
                net[0].weight[:, net[0].in_channels - latent :] /= scale[:latent, None, None]

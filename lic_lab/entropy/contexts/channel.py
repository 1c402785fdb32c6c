"""Channel contexts over the decoded slices.

MLIC's g_ch (section 3.3), and slice transforms: Minnen and Singh's (2020), convolutions; Ghorbel et al.'s (2023), Swin
blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.order import CodingOrder, Step
from lic_lab.entropy.seen import Seen
from lic_lab.layers.swin import SwinBlock


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


# Makes the network of a slice: (which parameter, "sigma" or "mu"; slice; channels to read; channels to give).
SliceNetwork = Callable[[str, int, int, int], nn.Module]


class SliceTransforms(Context):
    """Minnen and Singh's channel-conditional transforms: (log sigma, mu) of slice i from Phi_h and y_hat^{<i}.

    Two networks a slice; that of sigma reads the scales' half of Phi_h, that of mu the means'. Their outputs are the
    parameters themselves (`parameters.Direct`).

    Parameters
    ----------
    order : CodingOrder
    network : callable
        Makes the networks: `convolutions` (Minnen and Singh 2020) or `swin_blocks` (Ghorbel et al. 2023).
    hyper_channels : int or None
        Channels of Phi_h, both halves together, all of which every slice reads. None: it reads its own channels alone,
        of as many as the latent has in each half [released code of Ghorbel et al. 2023].
    support : int
        Use at most this many of the first slices: 5 [Minnen and Singh 2020, section 4].
    """

    in_turn = True

    def __init__(self, order: CodingOrder, network: SliceNetwork, hyper_channels: int | None = None, support: int = 5):
        super().__init__()
        self.order, self.support, self.own = order, support, hyper_channels is None

        def networks(kind: str) -> nn.ModuleList:
            return nn.ModuleList(
                network(kind, i, (S if hyper_channels is None else hyper_channels // 2) + self._supported(i), S)
                for i, S in enumerate(order.slices)
            )

        self.scale, self.mean = networks("sigma"), networks("mu")

    def _supported(self, i: int) -> int:
        return sum(self.order.slices[:i][: self.support])

    def width(self, i: int) -> int:
        return 2 * self.order.slices[i]

    def forward(self, seen: Seen, i: int, step: Step) -> Tensor:
        scales, means = seen.hyper.chunk(2, 1)
        if self.own:
            scales, means = scales[:, self.order.channels(i)], means[:, self.order.channels(i)]
        before = seen.before(i)[:, : self._supported(i)]
        log_sigma = self.scale[i](torch.cat((scales, before), 1))
        mu = self.mean[i](torch.cat((means, before), 1))
        return step.take(torch.cat((log_sigma, mu), 1))

    @torch.no_grad()
    def start(self, scale: Tensor) -> None:
        for nets in (self.scale, self.mean):
            for i, net in enumerate(nets):
                latent = self._supported(i)  # what comes after the features of the hyperprior
                if isinstance(net, nn.Sequential):  # Swin blocks normalise what they read
                    net[0].weight[:, net[0].in_channels - latent :] /= scale[:latent, None, None]


def convolutions(hidden: Sequence[int] | Callable[[int], Sequence[int]], kernels: Sequence[int]) -> SliceNetwork:
    """Networks of three convolutions with ReLU.

    Parameters
    ----------
    hidden : sequence of two int, or callable
        Widths, or what gives them for a slice.
    kernels : sequence of three int
    """

    def network(kind: str, i: int, channels: int, S: int) -> nn.Module:
        widths = (channels, *(hidden(i) if callable(hidden) else hidden), S)
        a, b, c = (nn.Conv2d(n, m, k, padding=k // 2) for (n, m), k in zip(pairwise(widths), kernels, strict=True))
        return nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)

    return network


class SwinSlice(nn.Module):
    """A plain and a shifted Swin block, and a 3 x 3 convolution as the learnable projection [released code].

    Parameters
    ----------
    channels, S : int
        To read, and to give.
    heads, window : int
    name, slice
        Of its attention, which is tapped.
    """

    def __init__(self, channels: int, S: int, heads: int, window: int, name: str, slice: int):
        super().__init__()
        self.blocks = nn.Sequential(
            SwinBlock(channels, heads, window, 0, name=f"{name}.plain", slice=slice),
            SwinBlock(channels, heads, window, window // 2, name=f"{name}.shifted", slice=slice),
        )
        self.project = nn.Conv2d(channels, S, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, S, h, w)."""
        found = self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = self.project(found.contiguous())
        return out


def swin_blocks(head_dims: Sequence[int], window: int = 4) -> SliceNetwork:
    """Networks of Swin blocks.

    Parameters
    ----------
    head_dims : sequence of int
        Channels of a head, slice by slice; the last for all that follow.
    window : int
        4 [released code].
    """

    def network(kind: str, i: int, channels: int, S: int) -> nn.Module:
        return SwinSlice(channels, S, channels // head_dims[: i + 1][-1], window, kind, i)

    return network

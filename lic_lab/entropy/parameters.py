"""g_ep: features to the mean mu and scale sigma of each symbol, by 1 x 1 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lic_lab.entropy.order import CodingOrder
from lic_lab.layers.pointwise import Pointwise


class Parameters(nn.Module):
    """Per slice and kind of step, a network from the concatenated features to (mu, sigma).

    Parameters
    ----------
    order : CodingOrder
    widths : mapping
        For each kind of step (``"first"``: all, anchors, wavefronts; ``"second"``: non-anchors), the slots it reads
        and their widths per slice: ``{"first": {"hyper": (256, 256), "channel": (0, 128)}}``.
    hidden : sequence of int
        Hidden widths: (320, 256, 128) [released code of MLIC++].
    optional : bool
        Whether slots may be empty: then each has a learned vector that stands for "nothing here", which tells the
        network which combination it serves [ours].
    activation : callable
        Makes the non-linearity between the layers: GELU in MLIC, LeakyReLU in Minnen 2018.
    """

    def __init__(
        self,
        order: CodingOrder,
        widths: Mapping[str, Mapping[str, Sequence[int]]],
        hidden: Sequence[int],
        optional: bool = False,
        activation: Callable[[], nn.Module] = nn.GELU,
    ):
        super().__init__()
        self.optional = optional
        self.slots = {kind: tuple(slots) for kind, slots in widths.items()}
        self.nets = nn.ModuleDict()
        self.absent = nn.ModuleDict()
        for kind, slots in widths.items():
            self.nets[kind] = nn.ModuleList(
                _network(sum(width[i] for width in slots.values()), hidden, 2 * S, activation)
                for i, S in enumerate(order.slices)
            )
            if optional:
                self.absent[kind] = nn.ModuleDict(
                    {
                        slot: nn.ParameterList(0.1 * torch.randn(width[i]) for i in range(len(order.slices)))
                        for slot, width in slots.items()
                        if slot != "hyper"
                    }
                )

    def forward(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """mu and log sigma, each (B, S, n), for slice `i`.

        `features` maps slots to (B, width, n); "hyper" is always among them.
        """
        hyper = features["hyper"]
        B, _, n = hyper.shape
        parts = []
        for slot in self.slots[kind]:
            if slot in features:
                parts.append(features[slot])
            elif kind in self.absent:
                parts.append(self.absent[kind][slot][i][None, :, None].expand(B, -1, n))
        mu, log_sigma = self.nets[kind][i](torch.cat(parts, 1)).chunk(2, 1)
        return mu, log_sigma


class Direct(nn.Module):
    """No network of its own: the features of one slot are the parameters, log sigma's half first, then mu's.

    Parameters
    ----------
    slot : str
        "hyper" where h_s gives the parameters (Balle 2018, Minnen 2018), "channel" where the channel context
        does (Minnen and Singh 2020).
    mean : bool
        False: mu is zero and all features are log sigma (Balle 2018).
    """

    optional = False

    def __init__(self, slot: str = "hyper", mean: bool = True):
        super().__init__()
        self.slot, self.mean = slot, mean

    def forward(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """mu and log sigma, each (B, S, n), of slice `i`; see `Parameters`."""
        found = features[self.slot]
        if not self.mean:
            return torch.zeros_like(found), found
        log_sigma, mu = found.chunk(2, 1)
        return mu, log_sigma


def _network(
    in_channels: int, hidden: Sequence[int], out_channels: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    widths = [in_channels, *hidden, out_channels]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [Pointwise(a, b), activation()]
    return nn.Sequential(*layers[:-1])

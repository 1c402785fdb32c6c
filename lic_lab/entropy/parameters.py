"""g_ep: features to the mean mu and scale sigma of each symbol, by 1 x 1 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lic_lab.entropy.order import CodingOrder
from lic_lab.layers.pointwise import Pointwise
from lic_lab.layers.tap import tap


class Parameters(nn.Module):
    """Per slice and kind of step, a network from the concatenated features to (mu, sigma).

    Parameters
    ----------
    order : CodingOrder
    widths : mapping
        For each kind of step (``"first"``: all positions, anchors; ``"second"``: non-anchors; ``"raster"``), the slots
        it reads and their widths per slice: ``{"first": {"hyper": (256, 256), "channel": (0, 128)}}``. A raster has
        one slice.
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
            slices = (order.M,) if kind == "raster" else order.slices
            self.nets[kind] = nn.ModuleList(
                _network(sum(width[i] for width in slots.values()), hidden, 2 * S, activation)
                for i, S in enumerate(slices)
            )
            if optional:
                self.absent[kind] = nn.ModuleDict(
                    {
                        slot: nn.ParameterList(0.1 * torch.randn(width[i]) for i in range(len(slices)))
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

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """mu and log sigma from the `features` there are so far."""
        return self(kind, i, features)


class Progressive(nn.Module):
    """Three networks in turn, each refining the distribution by one more feature (Qian et al. 2021, section 3, Fig. 5).

        (mu_1, sigma_1) = net_1(local)
        (mu_2, sigma_2) = (mu_1, sigma_1) + net_2(local, reference, mu_1, sigma_1)
        (mu_3, sigma_3) = (mu_2, sigma_2) + net_3(local, reference, hyper, mu_2, sigma_2)          this one is coded

    sigma stands for its logarithm. That features and predictions are handed on is the paper's; that they are added
    is ours. One slice.

    Parameters
    ----------
    widths : mapping
        Channels of the slots "local", "reference" and "hyper".
    M : int
        Channels of the latent.
    hidden : sequence of int
        Hidden widths: (1152, 1152) for M = 384 [paper, appendix Table 1].
    """

    optional = False
    slots: ClassVar[tuple[str, ...]] = ("local", "reference", "hyper")

    def __init__(self, widths: Mapping[str, int], M: int, hidden: Sequence[int]):
        super().__init__()
        inputs = [sum(widths[slot] for slot in self.slots[: k + 1]) + (2 * M if k else 0) for k in range(3)]
        self.nets = nn.ModuleList(_network(n, hidden, 2 * M, nn.LeakyReLU) for n in inputs)

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """mu_1 and log sigma_1, each (B, M, n): what the local context alone says."""
        mu, log_sigma = self.nets[0](features["local"]).chunk(2, 1)
        return mu, log_sigma

    def forward(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """mu_3 and log sigma_3, each (B, M, n); see `Parameters`. Taps the stages as (B, M, n)."""
        predicted = torch.cat(self.prior(kind, i, features), 1)  # (B, 2M, n)
        for k in (1, 2):
            for name, value in zip(("mu", "log_sigma"), predicted.chunk(2, 1), strict=True):
                tap(f"stage.{name}", value, stage=k)
            seen = [features[slot] for slot in self.slots[: k + 1]]
            predicted = predicted + self.nets[k](torch.cat((*seen, predicted), 1))
        mu, log_sigma = predicted.chunk(2, 1)
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

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The same."""
        return self(kind, i, features)


def _network(
    in_channels: int, hidden: Sequence[int], out_channels: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    widths = [in_channels, *hidden, out_channels]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [Pointwise(a, b), activation()]
    return nn.Sequential(*layers[:-1])

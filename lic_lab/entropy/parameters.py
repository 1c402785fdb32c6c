"""g_ep: features to the mean mu and scale sigma of each symbol, by 1 x 1 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lic_lab.entropy.contexts.base import Prior
from lic_lab.entropy.order import CodingOrder
from lic_lab.layers.pointwise import Pointwise
from lic_lab.layers.tap import recording, tap
from lic_lab.layers.weighted_softmax import weighted_softmax

TRUST_MIN = 2.0**-12  # the smallest that exact arithmetic can tell from zero [ours]; the authors' code has 1e-8


class Parameters(nn.Module):
    """Per slice and kind of step, a network from the concatenated features to (mu, sigma).

    Parameters
    ----------
    order : CodingOrder
    widths : mapping
        For each kind of step (`Part.kind`), the slots it reads and their widths per slice:
        ``{"first": {"hyper": (256, 256), "channel": (0, 128)}}``. A raster has one slice.
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

    def forward(
        self,
        kind: str,
        i: int,
        features: Mapping[str, Tensor],
        trust: Tensor | None = None,
        prior: Prior | None = None,
    ) -> tuple[Tensor, Tensor]:
        """mu and log sigma, each (B, S, n), for slice `i`.

        `features` maps slots to (B, width, n); "hyper" is always among them. `trust` (B, 1, n) says how far to trust
        those of an informed context, and `prior` what was predicted without them; here neither is needed.
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

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> Prior:
        """The distribution by the `features` there are without an informed context."""
        return Prior(*self(kind, i, features))

    @torch.no_grad()
    def start(self, kind: str, spread: Tensor) -> None:
        """Start at mu = 0 and sigma = `spread` (M,)."""
        nets: Any = self.nets[kind]
        lasts = [net[-1] for net in nets]
        for last, own in zip(lasts, spread.split([len(last.bias) // 2 for last in lasts]), strict=True):
            last.weight *= 0.1
            last.bias.copy_(torch.cat((torch.zeros_like(own), own.log())))

    @torch.no_grad()
    def fit(self, kind: str, estimate: Callable[[], object], symbols: Tensor) -> None:
        """Start the network of `kind`, for one slice, at the least-squares prediction of `symbols` (B, M, h, w).

        sigma starts at what that leaves. `estimate` runs the entropy model on these symbols.
        """
        last, M, wanted = self.nets[kind][0][-1], symbols.shape[1], _rows(symbols)
        features = _inputs(last, estimate)  # (calls n, d): without an informed context, and with it
        weight, bias, left = least_squares(features, wanted.repeat(len(features) // len(wanted), 1))
        last.weight[:M, :, 0, 0], last.bias[:M] = weight, bias
        last.weight[M:] *= 0.1
        last.bias[M:] = _log_spread(left)


class Progressive(nn.Module):
    """Three networks in turn, each refining the distribution by one more feature (Qian et al. 2021, section 3, Fig. 5).

        (mu_1, sigma_1) = net_1(local)
        (mu_2, sigma_2) = (mu_1, sigma_1) + net_2(local, reference, mu_1, sigma_1)
        (mu_3, sigma_3) = (mu_2, sigma_2) + net_3(local, reference, hyper, mu_2, sigma_2)          this one is coded

    sigma stands for its logarithm, so that a stage multiplies the sigma before it. That features and predictions are
    handed on is the paper's; the logarithm and that they are added are ours. One slice.

    The authors' code has the three as components of a mixture instead. Each network also gives a logit l_k, and

        p(y) = sum_k w_k N(y; mu_k, sigma_k),        w_k proportional to e^l_1, S U e^l_2, e^l_3

    so that the weight of what the reference said is the less, the less it can be trusted. What stages 1 and 2 know is
    then the mixture of the components so far [ours].

    Parameters
    ----------
    mixture : bool
        Whether the three are mixed [released code] or only the third counts [paper].
    widths : mapping
        Channels of the slots "local", "reference" and "hyper".
    M : int
        Channels of the latent.
    hidden : sequence of int
        Hidden widths: (1152, 1152) for M = 384 [paper, appendix Table 1].
    """

    optional = False
    slots: ClassVar[tuple[str, ...]] = ("local", "reference", "hyper")

    def __init__(self, widths: Mapping[str, int], M: int, hidden: Sequence[int], mixture: bool = False):
        super().__init__()
        self.M, self.mixture = M, mixture
        outputs = (3 if mixture else 2) * M
        inputs = [sum(widths[slot] for slot in self.slots[: k + 1]) + (outputs if k else 0) for k in range(3)]
        self.nets = nn.ModuleList(_network(n, hidden, outputs, nn.LeakyReLU) for n in inputs)

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> Prior:
        """mu_1 and log sigma_1, each (B, M, n): what the local context alone says."""
        output = self.nets[0](features["local"])
        mu, log_sigma = output[:, : 2 * self.M].chunk(2, 1)
        return Prior(mu, log_sigma, output)

    def forward(
        self,
        kind: str,
        i: int,
        features: Mapping[str, Tensor],
        trust: Tensor | None = None,
        prior: Prior | None = None,
    ) -> tuple[Tensor, ...]:
        """mu_3 and log sigma_3, each (B, M, n), or the mixture's mu, log sigma and weights, each (B, M, n, 3).

        See `Parameters`. Taps the parameters of the first two stages.
        """
        prior = prior or self.prior(kind, i, features)
        assert trust is not None and prior.output is not None  # the slot "reference" is always filled
        predicted = [prior.output]  # each (B, 2M or 3M, n)
        for k in (1, 2):
            seen = [features[slot] for slot in self.slots[: k + 1]]
            predicted.append(predicted[-1] + self.nets[k](torch.cat((*seen, predicted[-1]), 1)))
        if recording():
            for k in (1, 2):
                found = self._distribution(predicted[:k], trust)
                for name, value in zip(("mu", "log_sigma", "weight"), found, strict=False):
                    tap(f"stage.{name}", value, stage=k)
        return self._distribution(predicted, trust)

    def _distribution(self, predicted: Sequence[Tensor], trust: Tensor) -> tuple[Tensor, ...]:
        """Of what the first networks `predicted`: that of the last, or their mixture, K last."""
        if not self.mixture:
            return predicted[-1].chunk(2, 1)
        mu, log_sigma, logit = torch.stack(list(predicted), -1).chunk(3, 1)  # (B, M, n, K)
        sure = torch.ones_like(trust)
        factor = torch.stack((sure, trust.clamp(min=TRUST_MIN), sure)[: len(predicted)], -1)  # (B, 1, n, K)
        return mu, log_sigma, weighted_softmax(logit, factor)

    @torch.no_grad()
    def fit(self, kind: str, estimate: Callable[[], object], symbols: Tensor) -> None:
        """Start each network at the least-squares prediction of what the one before leaves of `symbols` (B, M, h, w).

        sigma starts at what it leaves itself. `estimate` runs the entropy model on these symbols.
        """
        M, left, log_sigma = self.M, _rows(symbols), torch.zeros(self.M)
        lasts: list[Any] = [net[-1] for net in self.nets]
        for last in lasts:
            last.weight *= 0.1
            last.bias.zero_()
        for last in lasts:
            features = _inputs(last, estimate)[-len(left) :]  # the networks before are fitted by now
            weight, bias, left = least_squares(features, left)
            last.weight[:M, :, 0, 0], last.bias[:M] = weight, bias
            last.bias[M : 2 * M] = _log_spread(left) - log_sigma
            log_sigma = _log_spread(left)
            last.bias[2 * M :] = 1.0  # of a mixture, at first mostly the last


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

    def forward(
        self,
        kind: str,
        i: int,
        features: Mapping[str, Tensor],
        trust: Tensor | None = None,
        prior: Prior | None = None,
    ) -> tuple[Tensor, Tensor]:
        """mu and log sigma, each (B, S, n), of slice `i`; see `Parameters`."""
        found = features[self.slot]
        if not self.mean:
            return torch.zeros_like(found), found
        log_sigma, mu = found.chunk(2, 1)
        return mu, log_sigma

    def prior(self, kind: str, i: int, features: Mapping[str, Tensor]) -> Prior:
        """The same."""
        return Prior(*self(kind, i, features))


def least_squares(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias that predict `target` (n, M) from `features` (n, d), and what they leave of it, float64.

    Adam's equal steps need thousands to grow the weights that channels of large spread want.
    """
    found = torch.cat((features.double(), torch.ones(len(features), 1, dtype=torch.float64)), 1)
    gram = found.T @ found
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram))
    solution = torch.linalg.solve(gram + ridge, found.T @ target)
    return solution[:-1].T.float(), solution[-1].float(), target - found @ solution


def _rows(symbols: Tensor) -> Tensor:
    """(B, M, h, w) to (B h w, M), float64."""
    return symbols.flatten(2).mT.flatten(0, 1).double()


def _log_spread(left: Tensor) -> Tensor:
    """log sigma of what a prediction left of each channel (n, M)."""
    return left.std(0).clamp(min=0.15).log()


def _inputs(layer: nn.Module, estimate: Callable[[], object]) -> Tensor:
    """What `layer` reads while `estimate` runs: (n, d), of all its calls one after another."""
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: found.append(args[0].mT.flatten(0, 1)))
    try:
        estimate()
    finally:
        hook.remove()
    return torch.cat(found)


def _network(
    in_channels: int, hidden: Sequence[int], out_channels: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    widths = [in_channels, *hidden, out_channels]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [Pointwise(a, b), activation()]
    return nn.Sequential(*layers[:-1])

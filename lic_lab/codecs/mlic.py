"""MLIC: Jiang et al., "MLIC: Multi-Reference Entropy Model for Learned Image Compression", ACM MM 2023.

For each slice i of 32 channels, anchors then non-anchors (Fig. 4):

    anchors        p(y_hat_a^i  | Phi_h, Phi_ch^i)                       Eq. 4
    non-anchors    p(y_hat_na^i | Phi_h, Phi_ch^i, Phi_lc^i, Phi_gc^i)   Eq. 5

with Phi_ch from `ChannelContext` (3.3), Phi_lc from `StackedCheckerboardContext` (3.4.1) and Phi_gc from
`IntraSliceContext` (Eq. 9-11). MLIC+ (`mlic_plus`) differs in these contexts and in M, see Table 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.shared import SharedLatent
from lic_lab.entropy.contexts.base import Context
from lic_lab.entropy.contexts.channel import ChannelContext
from lic_lab.entropy.contexts.globally import IntraSliceContext
from lic_lab.entropy.contexts.local import StackedCheckerboardContext
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Parameters
from lic_lab.entropy.refinement import LatentResidualPrediction
from lic_lab.transforms.hyper import HyperAnalysis, HyperSynthesis
from lic_lab.transforms.residual import Analysis, Synthesis

S, K, J = 32, 5, 3  # channels of a slice, kernel [paper, Table 2]; convolutions of the stack [paper, 3.4.1]


class MLIC(Codec):
    """MEM(g_lc,stk, g_ch, g_gc,intra) on Cheng 2020's residual transform.

    The `small` size is the shared latent with these components switched on, the one that ships weights.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y; M a multiple of 32.
    """

    NAME: ClassVar[str] = "mlic"
    SIZES: ClassVar[dict[str, dict[str, int]]] = {"paper": {"N": 192, "M": 192}}  # [paper, Table 2]
    SMALL: ClassVar[dict[str, str]] = {"channel": "conv", "local": "stacked", "global": "intra", "refinement": "lrp"}

    def __init__(self, N: int, M: int):
        if M % S:
            raise ValueError(f"M is {M}; it must be a multiple of {S}, the channels of a slice")
        order = CodingOrder((S,) * (M // S), in_turn=True, pattern="checkerboard", parity="odd")
        contexts = self.contexts(order)
        widths = {
            "hyper": [2 * M] * len(order.slices),
            **{slot: [context.width(i) for i in range(len(order.slices))] for slot, context in contexts.items()},
        }
        g_ep = Parameters(
            order,
            {"first": {slot: widths[slot] for slot in ("hyper", "channel")}, "second": widths},  # Eq. 4, Eq. 5
            hidden=(320, 256, 128),  # [released code of MLIC++]
        )
        # Widths and halves [released code of MLIC++]; all 2M channels of Phi_h, of which the release reads M [ours].
        lrp = LatentResidualPrediction(order, 2 * M, hidden=(224, 128), split=True)
        super().__init__(
            Analysis((N, N, N), M),
            Synthesis((N, N, N), M),
            Hyperprior(HyperAnalysis(M, N, N), HyperSynthesis(N, N, 2 * M), N),
            EntropyModel(
                order,
                {slot: {"mlic": context} for slot, context in contexts.items()},
                g_ep,
                {"lrp": lrp},
                Gaussian("centred"),  # and mixed quantisation in training [paper, 3.2.1]
            ),
            self.NAME,
            self.size_name(N=N, M=M),
        )

    @staticmethod
    def contexts(order: CodingOrder) -> Mapping[str, Context]:
        """The context components of Table 2, by slot."""
        return {
            "channel": ChannelContext(order, hidden=(192, 128), expand=4),  # [released code of MLIC++]
            "local": StackedCheckerboardContext(order, J, K),
            "intra": IntraSliceContext(order, K),
        }

    @classmethod
    def build(cls, size: str) -> Codec:
        if size != "small":
            return super().build(size)
        return SharedLatent().swap(**cls.SMALL).called(cls.NAME)

    @classmethod
    def _shaped(cls, state: Mapping[str, Tensor]) -> Codec:
        return cls.build("small") if "g_a.linear_path.weight" in state else super()._shaped(state)

    @classmethod
    def dimensions(cls, state_dict: dict[str, Tensor]) -> dict[str, int]:
        return {"N": len(state_dict["g_a.network.0.conv1.weight"]), "M": len(state_dict["g_a.network.6.weight"])}

"""ICT: Ghorbel, Hamidouche, Morin, "AICT: An adaptive image compression transformer", ICIP 2023.

SwinT-ChARM (`swint_charm`) with Swin blocks for the convolutions of the slices (section III-C). `ConvCharm` is what the
paper calls Conv-ChARM, the convolutional end of the same comparison (Table IV).
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lic_lab.codecs.swint_charm import SwinTCharm
from lic_lab.entropy.contexts.channel import SliceNetwork, convolutions, swin_blocks
from lic_lab.transforms import conv

HEAD_DIMS = (4, 8, 16, 16, 32)  # of the slices, the last for all others [released code]


class ICT(SwinTCharm):
    """Swin transforms, and channel slices in turn, each by Swin blocks from those before it."""

    NAME: ClassVar[str] = "ict"
    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"slices": 10, "support": 5},  # [paper, Table I]
        "small": {"slices": 3, "support": 3},  # [ours]
    }

    @staticmethod
    def network() -> SliceNetwork:
        return swin_blocks(HEAD_DIMS)


class ConvCharm(SwinTCharm):
    """Convolutional transforms of the same size, with slices as in `charm` but neither refinement nor others' features.

    Table IV's own gives half of its slices no hyperprior features, since its h_s ends with M channels for mu and sigma
    together, and stores kernels as Fourier transforms. Here h_s ends with 2M, and a kernel is a kernel [ours].
    """

    NAME: ClassVar[str] = "conv-charm"
    SIZES: ClassVar[dict[str, dict[str, int]]] = ICT.SIZES

    @staticmethod
    def transforms(M: int, N: int) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        return (
            conv.Analysis(M, M),
            conv.Synthesis(M, M),
            conv.MeanScaleHyperAnalysis(N, M),
            conv.ReferenceHyperSynthesis(N, M),
        )

    @staticmethod
    def network() -> SliceNetwork:
        return convolutions((224, 128), (5, 5, 3))

"""ChARM: Minnen and Singh, "Channel-wise autoregressive entropy models for learned image compression", ICIP 2020.

    (mu^i, sigma^i) = transforms of (Phi_h, y_hat^{<i})         at most 5 support slices
    y_hat^i = round(y^i - mu^i) + mu^i + LRP(Phi_h, y_hat^{<=i})

Ten slices of 32 channels, coded in turn; widths of the slice transforms from the authors' released code
(tensorflow/compression, models/ms2020.py).
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.factorized import Factorized
from lic_lab.entropy.contexts.channel import SliceTransforms, convolutions
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Direct
from lic_lab.entropy.refinement import LatentResidualPrediction
from lic_lab.transforms.conv import Analysis, CharmHyperAnalysis, CharmHyperSynthesis, Synthesis

S = 32  # channels of a slice [paper: 320 in 10 slices]
SUPPORT = 5  # [released code]


class Charm(Codec):
    """Channel slices in turn, each from the hyperprior and the slices before it, with latent residual prediction.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y; M a multiple of 32.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 192, "M": 320},  # [paper]
        "small": {"N": 64, "M": 96},  # [ours]
    }

    def __init__(self, N: int, M: int):
        if M % S:
            raise ValueError(f"M is {M}; it must be a multiple of {S}, the channels of a slice")
        order = CodingOrder((S,) * (M // S), in_turn=True)
        hidden = (N * 7 // 6, N * 2 // 3)  # 224, 128 for N = 192 [released code]
        lrp = LatentResidualPrediction(order, M, hidden, support=SUPPORT, kernels=(5, 5, 3), activation=nn.ReLU)
        super().__init__(
            Analysis(N, M),
            Synthesis(N, M),
            Hyperprior(CharmHyperAnalysis(N, M), CharmHyperSynthesis(N, M), N),
            EntropyModel(
                order,
                {"channel": {"transforms": SliceTransforms(order, convolutions(hidden, (5, 5, 3)), 2 * M, SUPPORT)}},
                Direct("channel"),
                {"lrp": lrp},
                Gaussian("centred"),  # and mixed quantisation in training [paper]
            ),
            "charm",
            self.size_name(N=N, M=M),
        )

    dimensions = Factorized.dimensions

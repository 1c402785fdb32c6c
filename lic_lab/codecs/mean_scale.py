"""Mean-scale hyperprior: the model without context of Minnen, Balle, Toderici, "Joint autoregressive and hierarchical
priors for learned image compression", NeurIPS 2018.

    z = h_a(y),    (mu, sigma) = h_s(z_hat),    p(y_hat | z_hat) = N(mu, sigma^2) * U(-1/2, 1/2)
"""

from __future__ import annotations

from typing import ClassVar

from lic_lab.codecs.codec import Codec
from lic_lab.codecs.factorized import Factorized
from lic_lab.entropy.gaussian import Gaussian
from lic_lab.entropy.hyperprior import Hyperprior
from lic_lab.entropy.model import EntropyModel
from lic_lab.entropy.order import CodingOrder
from lic_lab.entropy.parameters import Direct
from lic_lab.transforms.conv import Analysis, MeanScaleHyperAnalysis, MeanScaleHyperSynthesis, Synthesis


class MeanScale(Codec):
    """All symbols in one step, with mean and scale from the side information.

    Parameters
    ----------
    N, M : int
        Channels of the transforms and of z, and of y.
    """

    SIZES: ClassVar[dict[str, dict[str, int]]] = {
        "paper": {"N": 128, "M": 192},  # CompressAI's mbt2018-mean, qualities 1 to 4; the paper gives only 192 and 320
        "small": {"N": 64, "M": 96},  # [ours]
    }

    def __init__(self, N: int, M: int):
        super().__init__(
            Analysis(N, M),
            Synthesis(N, M),
            Hyperprior(MeanScaleHyperAnalysis(N, M), MeanScaleHyperSynthesis(N, M), N),
            EntropyModel(CodingOrder((M,)), {}, Direct("hyper"), gaussian=Gaussian("centred")),
            "mean-scale",
            self.size_name(N=N, M=M),
        )

    dimensions = Factorized.dimensions
